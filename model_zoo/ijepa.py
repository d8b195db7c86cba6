"""I-JEPA's released ViT-H/14 (arXiv 2301.08243), and its code at ViT-B/16."""

from __future__ import annotations

from torch import nn

from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer

_TRANSFORMERS = {
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "norm": "layernorm",
}


def _transformers(key: str) -> Recipe:
    """Names of the hub's files (`facebook/ijepa_vith14_1k`), which split query, key and value."""
    *path, kind = key.split(".")
    if path[:1] != ["blocks"]:
        stem = ".".join(path) or kind
        return Recipe((_TRANSFORMERS[stem] + (f".{kind}" if path else ""),))
    start, inner = f"encoder.layer.{path[1]}", ".".join(path[2:])
    if inner == "attn.qkv":
        parts = ("query", "key", "value")
        return Recipe(tuple(f"{start}.attention.attention.{part}.{kind}" for part in parts))
    return Recipe((f"{start}.{_TRANSFORMERS[inner]}.{kind}",))


class IJEPA(ViTEncoder):
    """ViT-H/14 without class token: features [B, 1280], tokens [B, 256, 1280].

    The official file (10 GB with its optimiser; memory-mapped) holds the target encoder, which
    the paper evaluates, and the context encoder: `PATH#encoder`. The hub's conversion holds the
    context encoder only.
    """

    input_rule = InputRule(224, interpolation="bilinear")
    patch_size = 14
    poolings = ("mean", "mean_prenorm", "last4")
    entries = ("target_encoder", "")
    layouts = (
        Layout("official"),
        Layout("transformers", _transformers, marker="embeddings.position_embeddings"),
    )
    prefixes = ("module.", "ijepa.")
    card = Card(
        title="I-JEPA ViT-H/14",
        paper="Assran et al., CVPR 2023, arXiv 2301.08243",
        code_licence="CC BY-NC 4.0",
        weights_licence="CC BY-NC 4.0",
        weights_from="dl.fbaipublicfiles.com/ijepa/IN1K-vit.h.14-300e.pth.tar (target encoder), or "
        "huggingface.co/facebook/ijepa_vith14_1k (context encoder, another network)",
        pretraining="ImageNet-1k or -22k, by the file",
        hub=HubFile(
            "facebook/ijepa_vith14_1k",
            "model.safetensors",
            "the context encoder; the paper evaluates the target encoder, which only the "
            "official file holds",
        ),
        parameters=630_762_240,
        dim=1280,
        saw=(),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="facebookresearch/ijepa at 52c1ae9",
        inferred=("bilinear resampling",),
        note="the hub's image processor states mean and std 0.5, which is wrong for these "
        "weights: ImageNet's are used",
    )

    def make(self) -> nn.Module:
        """I-JEPA's ViT-H/14."""
        return VisionTransformer(224, 14, 1280, 32, 16)


class IJEPAViTB16(IJEPA):
    """The official code at ViT-B/16: features [B, 768], tokens [B, 196, 768].

    For your own training with that code; the authors released nothing of this size.
    """

    patch_size = 16
    card = Card(
        title="I-JEPA ViT-B/16",
        paper="Assran et al., CVPR 2023, arXiv 2301.08243",
        code_licence="CC BY-NC 4.0",
        weights_licence="that of your checkpoint",
        weights_from="nowhere: the authors released no ViT-B; train one",
        pretraining="that of your checkpoint",
        parameters=85_797_120,
        dim=768,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="facebookresearch/ijepa at 52c1ae9",
        note="no released weights: for checkpoints of the official training code",
    )

    def make(self) -> nn.Module:
        """I-JEPA's ViT-B/16."""
        return VisionTransformer()
