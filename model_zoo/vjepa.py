"""V-JEPA (arXiv 2404.08471) and V-JEPA 2 (arXiv 2506.09985): encoders of clips."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.clip_rule import ClipRule
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.video_vit import VideoTransformer

_TRANSFORMERS = {
    "patch_embed.proj": "embeddings.patch_embeddings.proj",
    "attn.proj": "attention.proj",
    "norm": "layernorm",
}


def _transformers(key: str) -> Recipe:
    """Names of the hub's files (`VJEPA2Model`), which split query, key and value."""
    path, _, kind = key.rpartition(".")
    if not path.startswith("blocks."):
        return Recipe((f"encoder.{_TRANSFORMERS[path]}.{kind}",))
    _, block, inner = path.split(".", 2)
    start = f"encoder.layer.{block}"
    if inner == "attn.qkv":
        parts = ("query", "key", "value")
        return Recipe(tuple(f"{start}.attention.{part}.{kind}" for part in parts))
    return Recipe((f"{start}.{_TRANSFORMERS.get(inner, inner)}.{kind}",))


class ClipViTEncoder(ViTEncoder):
    """A transformer on tubelets, whose network takes clips [B, 3, T, S, S]: see `VideoTransformer`.

    Poolings are those of `ViTEncoder` without a class token; the mean is over all time steps.
    """

    takes = "clip"
    clip_rule = ClipRule()
    tubelet = 2
    poolings: ClassVar[tuple[str, ...]] = ("mean", "mean_prenorm", "last4")
    batch_size = 2

    def _forward(self, x: Tensor) -> Tensor:
        return super()._forward(x.transpose(1, 2))

    def _tokens(self, x: Tensor) -> Tensor:
        return super()._tokens(x.transpose(1, 2))


class VJEPA(ClipViTEncoder):
    """V-JEPA's ViT-L/16: features [B, 1024], tokens [B, 8 x 14 x 14, 1024].

    The official file holds the target encoder, which its evaluation takes, and the context encoder:
    `PATH#encoder`.
    """

    input_rule = InputRule(224, interpolation="bilinear")
    entries = ("target_encoder", "")
    prefixes: ClassVar[tuple[str, ...]] = ("module.", "backbone.")
    layouts: ClassVar[tuple[Layout, ...]] = (Layout("official"),)
    card = Card(
        title="V-JEPA ViT-L/16",
        paper="Bardes et al., TMLR 2024, arXiv 2404.08471",
        code_licence="CC BY-NC 4.0",
        weights_licence="CC BY-NC 4.0",
        weights_from="dl.fbaipublicfiles.com/jepa/vitl16/vitl16.pth.tar (target encoder)",
        pretraining="VideoMix2M, two million natural videos",
        parameters=305_490_944,
        dim=1024,
        saw=(),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="facebookresearch/jepa at 51c59d5",
        inferred=(
            "frames spread over the whole video; the authors take every fourth, 16 in a clip, and "
            "average several clips",
            "whole frames squashed to 224 squares; the authors take the centre of 256",
            "mean over all tokens; the authors train an attentive probe",
            "names of the file's tensors, from the code that writes it",
        ),
    )

    def make(self) -> nn.Module:
        """V-JEPA's ViT-L/16."""
        return VideoTransformer(224, width=1024, depth=24, heads=16)


class VJEPAViTB16(VJEPA):
    """V-JEPA's code at ViT-B/16 and 112 pixels: features [B, 768], tokens [B, 8 x 7 x 7, 768].

    For your own training with that code; the authors released nothing of this size.
    """

    input_rule = InputRule(112, interpolation="bilinear")
    batch_size = 8
    card = Card(
        title="V-JEPA ViT-B/16, 112 pixels",
        paper="Bardes et al., TMLR 2024, arXiv 2404.08471",
        code_licence="CC BY-NC 4.0",
        weights_licence="that of your checkpoint",
        weights_from="nowhere: the authors released no ViT-B; train one",
        pretraining="that of your checkpoint",
        parameters=86_537_472,
        dim=768,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="facebookresearch/jepa at 51c59d5",
        inferred=VJEPA.card.inferred[:1],
        note="no released weights: for checkpoints of the official training code, of 16 frames of "
        "112 pixels, the size of EchoNet-Dynamic's videos",
    )

    def make(self) -> nn.Module:
        """V-JEPA's ViT-B/16 for frames of 112 pixels."""
        return VideoTransformer(112)


class VJEPA2(VJEPA):
    """V-JEPA 2's ViT-L/16: features [B, 1024], tokens [B, 8 x 16 x 16, 1024].

    The official file holds the target encoder, which its evaluation takes, and the context encoder,
    which `torch.hub` takes: `PATH#encoder`. The hub's conversion holds one encoder.
    """

    input_rule = InputRule(256, interpolation="bilinear")
    layouts: ClassVar[tuple[Layout, ...]] = (
        # Released files may hold a table that the network has not, as the authors remark; V-JEPA's
        # ViT-L is recognised by its own, of 8 x 14 x 14 places.
        Layout(
            "official",
            leftovers=("pos_embed",),
            foreign_shapes={"pos_embed": (1, 1568, 1024)},
        ),
        Layout(
            "transformers",
            _transformers,
            marker="encoder.layernorm.weight",
            leftovers=("predictor.*", "pooler.*", "classifier.*"),
        ),
    )
    prefixes: ClassVar[tuple[str, ...]] = ("module.", "backbone.", "vjepa2.")
    card = Card(
        title="V-JEPA 2 ViT-L/16",
        paper="Assran et al., 2025, arXiv 2506.09985",
        code_licence="MIT, in parts Apache-2.0",
        weights_licence="MIT",
        weights_from="dl.fbaipublicfiles.com/vjepa2/vitl.pt (target encoder), or "
        "huggingface.co/facebook/vjepa2-vitl-fpc64-256",
        hub=HubFile(
            "facebook/vjepa2-vitl-fpc64-256",
            "model.safetensors",
            "one encoder, and which of the two is not stated; the official file holds both, and "
            "the evaluation takes the target encoder",
        ),
        pretraining="VideoMix22M, 22 million natural videos and images",
        parameters=303_885_312,
        dim=1024,
        saw=(),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="facebookresearch/vjepa2 at c2963a4; transformers 5.24 gives the same",
        inferred=(
            "16 frames spread over the whole video; the authors take 16 to 64, four a second",
            "whole frames squashed to 256 squares; the authors take the centre of 292",
            "mean over all tokens; the authors train an attentive probe",
            "names of the official file's tensors, from the code that writes it",
        ),
    )

    def make(self) -> nn.Module:
        """V-JEPA 2's ViT-L/16."""
        return VideoTransformer(256, width=1024, depth=24, heads=16, rotary=True)


class EchoJEPA(VJEPA2):
    """EchoJEPA's ViT-L/16, V-JEPA 2 trained on echocardiograms: features [B, 1024].

    By V-JEPA 2's network and layouts, which its code builds on; no file of it could be had.
    """

    input_rule = InputRule(224, interpolation="bilinear")
    clip_rule = ClipRule(spacing="rate", rate=24)
    layouts = (Layout("official"),)
    card = Card(
        title="EchoJEPA ViT-L/16",
        paper="arXiv 2602.02603 (2026)",
        code_licence="Apache-2.0",
        weights_from="a Google Drive folder that the README of github.com/alif-munim/EchoJEPA "
        "names (vitl-kinetics-pt220-an55.pt)",
        pretraining="echocardiograms; began from V-JEPA 2",
        parameters=303_885_312,
        dim=1024,
        status="unverified",
        inferred=(
            "that the file has V-JEPA 2's layout and holds a target_encoder",
            "224 pixels, the size of the first of its two networks",
            "the first 16 frames, 24 a second",
            "mean over all tokens; the authors train an attentive probe",
        ),
        note="V-JEPA 2's network and layout, inferred from the code: nobody has seen the file. The "
        "network itself is verified as `vjepa2-vitl`",
    )

    def make(self) -> nn.Module:
        """V-JEPA 2's ViT-L/16 for frames of 224 pixels."""
        return VideoTransformer(224, width=1024, depth=24, heads=16, rotary=True)
