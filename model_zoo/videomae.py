"""VideoMAE (arXiv 2203.12602): encoders of a masked autoencoder on clips, as on the hub."""

from __future__ import annotations

import re
from typing import ClassVar

import torch
from torch import Tensor, nn

from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout, Recipe, without_key_bias
from model_zoo.transforms import InputRule
from model_zoo.video_vit import VideoTransformer
from model_zoo.vjepa import ClipViTEncoder

_NAMES = {
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "norm": "layernorm",
}

_DECODER = ("mask_token", "decoder.*", "encoder_to_decoder.*")


def _hub(key: str) -> Recipe:
    """Names of the hub's files, as transformers 4 wrote them: biases of queries and of values.

    Keys have none, and the table of positions is computed.
    """
    path, _, kind = key.rpartition(".")
    if not path:
        return Recipe(())
    if not path.startswith("blocks."):
        return Recipe((f"{_NAMES[path]}.{kind}",))
    _, block, inner = path.split(".", 2)
    start = f"encoder.layer.{block}"
    if inner != "attn.qkv":
        return Recipe((f"{start}.{_NAMES[inner]}.{kind}",))
    start += ".attention.attention"
    if kind == "bias":
        return Recipe((f"{start}.q_bias", f"{start}.v_bias"), without_key_bias)
    return Recipe(tuple(f"{start}.{part}.weight" for part in ("query", "key", "value")))


def _newer(key: str) -> Recipe:
    """Names as transformers 5 writes them."""
    recipe = _hub(key)
    names = {"q_bias": "query.bias", "v_bias": "value.bias"}
    keys = (re.sub(r"[qv]_bias$", lambda found: names[found[0]], one) for one in recipe.keys)
    return Recipe(tuple(keys), recipe.join)


def flat_table(places: int, width: int) -> Tensor:
    """Fixed positions of tokens counted from first to last, float32 [places, width].

    As `get_sinusoid_encoding_table` of the authors: sines and cosines take turns.
    """
    place = torch.arange(places, dtype=torch.float64)[:, None]
    channel = torch.arange(width, dtype=torch.float64)
    angle = place / 10000 ** (2 * (channel // 2) / width)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


class VideoMAE(ClipViTEncoder):
    """VideoMAE's ViT-B/16: features [B, 768], tokens [B, 8 x 14 x 14, 768].

    Of the pretraining, whose file also holds a decoder, which is left out. A fine-tuned file, which
    has no final norm, does not fit.
    """

    input_rule = InputRule(224, interpolation="bilinear")
    entries = ("",)
    layouts = (
        Layout("transformers 4", _hub, leftovers=_DECODER),
        Layout(
            "transformers 5",
            _newer,
            marker="encoder.layer.0.attention.attention.query.bias",
            leftovers=_DECODER,
        ),
    )
    prefixes: ClassVar[tuple[str, ...]] = ("module.", "videomae.")
    width, depth, attention_heads = 768, 12, 12
    card = Card(
        title="VideoMAE ViT-B/16",
        paper="Tong et al., NeurIPS 2022, arXiv 2203.12602",
        code_licence="CC BY-NC 4.0",
        weights_licence="CC BY-NC 4.0",
        weights_from="huggingface.co/MCG-NJU/videomae-base",
        hub=HubFile("MCG-NJU/videomae-base", "model.safetensors"),
        pretraining="Kinetics-400, natural videos",
        parameters=87_440_640,
        dim=768,
        saw=(),
        status="verified by an equivalent implementation",
        verified_with="transformers 5.24.0, in float32 on a CPU",
        inferred=(
            "frames spread over the whole video",
            "whole frames squashed to 224 squares",
            "mean over all tokens after the final norm",
        ),
        note="LayerNorm epsilon is 1e-6 as in the authors' code; transformers has 1e-12. Some "
        "releases of transformers 5 leave out the biases of the hub's files without a word; this "
        "reads them",
    )

    def make(self) -> nn.Module:
        """A ViT with VideoMAE's table."""
        network = VideoTransformer(
            224, width=self.width, depth=self.depth, heads=self.attention_heads
        )
        if network.pos_embed is not None:
            places, width = network.pos_embed.shape[1:]
            network.pos_embed.data = flat_table(places, width)[None].to(network.pos_embed.device)
        return network


class VideoMAELarge(VideoMAE):
    """VideoMAE's ViT-L/16: features [B, 1024], tokens [B, 8 x 14 x 14, 1024]."""

    width, depth, attention_heads = 1024, 24, 16
    card = Card(
        title="VideoMAE ViT-L/16",
        paper="Tong et al., NeurIPS 2022, arXiv 2203.12602",
        code_licence="CC BY-NC 4.0",
        weights_licence="CC BY-NC 4.0",
        weights_from="huggingface.co/MCG-NJU/videomae-large",
        hub=HubFile("MCG-NJU/videomae-large", "model.safetensors"),
        pretraining="Kinetics-400, natural videos",
        parameters=305_490_944,
        dim=1024,
        saw=(),
        status="verified by an equivalent implementation",
        verified_with="transformers 5.24.0, in float32 on a CPU",
        inferred=VideoMAE.card.inferred,
        note=f"{VideoMAE.card.note}. Its numbers were compared once with transformers', by random "
        "weights, and are not kept: `ubench verify` has those of `videomae`, the same code",
    )
