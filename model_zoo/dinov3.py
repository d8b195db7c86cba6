"""DINOv3 ViT-B/16, LVD-1689M (arXiv 2508.10104): registers, rotary positions, layer scale."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.layouts import Layout, Recipe, without_key_bias
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import Block, PatchEmbed, initialise

_DEPTH, _WIDTH, _HEADS = 12, 768, 12
_EPS = 1e-5  # unlike the other ViTs here
_PERIODS = 100.0 ** (2 * torch.arange(16) / 32)


class RotaryViT(nn.Module):
    """ViT-B/16 whose only position embedding is the rotation of queries and keys.

    Prefix tokens: the class token, then four registers, which are not rotated.
    """

    prefix = 5

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, _WIDTH))
        self.registers = nn.Parameter(torch.zeros(1, 4, _WIDTH))
        self.patch_embed = PatchEmbed(16, _WIDTH)
        self.blocks = nn.ModuleList(
            Block(_WIDTH, _HEADS, eps=_EPS, layer_scale=True) for _ in range(_DEPTH)
        )
        self.norm = nn.LayerNorm(_WIDTH, eps=_EPS)
        self.apply(initialise)

    def unnormed(self, images: Tensor, each: Callable[[Tensor], object] | None = None) -> Tensor:
        """Tokens [B, 5 + N, 768] before the final norm: class, registers, patches.

        `each` is handed the tokens after each block, the last one's included.
        """
        x: Tensor = self.patch_embed(images)
        rotation = Rotation(images.shape[-2] // 16, images.shape[-1] // 16, self.prefix, x.device)
        start = torch.cat([self.cls_token, self.registers], dim=1).expand(len(x), -1, -1)
        x = torch.cat([start, x], dim=1)
        for block in self.blocks:
            x = block(x, rotate=rotation)
            if each is not None:
                each(x)
        return x


class Rotation:
    """Axial rotary positions of a height x width raster behind `prefix` tokens.

    Each axis runs from -1 to 1 over the pixels; a patch stands at its centre. Half of the pairs
    of channels turn with the row, half with the column; pairs are a channel and the one half a
    head further. In float32 whatever the tokens are in.
    """

    def __init__(self, height: int, width: int, prefix: int, device: torch.device) -> None:
        rows = (torch.arange(height) + 0.5) / height * 2 - 1
        columns = (torch.arange(width) + 0.5) / width * 2 - 1
        place = torch.cartesian_prod(rows, columns)  # [N, 2]
        angle = (2 * math.pi * place[:, :, None] / _PERIODS).flatten(1).repeat(1, 2)
        self.prefix = prefix
        self.cosine, self.sine = angle.cos().to(device), angle.sin().to(device)

    def __call__(self, x: Tensor) -> Tensor:
        """Queries or keys [B, heads, P + N, 64], turned."""
        patches = x[:, :, self.prefix :].float()
        first, second = patches.chunk(2, dim=-1)
        turned = patches * self.cosine + torch.cat([-second, first], dim=-1) * self.sine
        return torch.cat([x[:, :, : self.prefix], turned.to(x.dtype)], dim=2)


def _official(key: str) -> Recipe:
    if key.endswith("attn.qkv.bias"):
        return Recipe((key,), without_key_bias)  # the file's key bias is masked out
    key = key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")
    return Recipe(("storage_tokens" if key == "registers" else key,))


_TRANSFORMERS = {
    "attn.proj": "attention.o_proj",
    "gamma_1": "layer_scale1.lambda1",
    "gamma_2": "layer_scale2.lambda1",
    "mlp.fc1": "mlp.up_proj",
    "mlp.fc2": "mlp.down_proj",
}


def _transformers(key: str) -> Recipe:
    if key in ("cls_token", "registers"):
        return Recipe((f"embeddings.{key.replace('registers', 'register_tokens')}",))
    if key.startswith("patch_embed.proj"):
        return Recipe((key.replace("patch_embed.proj", "embeddings.patch_embeddings"),))
    if not key.startswith("blocks."):
        return Recipe((key,))
    _, number, inner = key.split(".", 2)
    start = f"layer.{number}."
    if inner == "attn.qkv.weight":
        return Recipe(tuple(f"{start}attention.{part}_proj.weight" for part in "qkv"))
    if inner == "attn.qkv.bias":
        return Recipe(
            tuple(f"{start}attention.{part}_proj.bias" for part in "qv"), without_key_bias
        )
    for ours, theirs in _TRANSFORMERS.items():
        if inner.startswith(ours):
            inner = inner.replace(ours, theirs)
    return Recipe((start + inner,))


def _timm(key: str) -> Recipe:
    """timm's names of models called `..._qkvb`."""
    if key.endswith("attn.qkv.bias"):
        start = key.removesuffix("qkv.bias")
        return Recipe((f"{start}q_bias", f"{start}v_bias"), without_key_bias)
    return Recipe(("reg_token" if key == "registers" else key,))


def _timm_without_biases(key: str) -> Recipe:
    """timm's plain names leave out the biases of queries and values, which it says are zero."""
    return Recipe(()) if key.endswith("attn.qkv.bias") else _timm(key)


def _mask() -> Tensor:
    mask = torch.ones(3 * _WIDTH)
    mask[_WIDTH : 2 * _WIDTH] = 0
    return mask


class DINOv3(ViTEncoder):
    """Features [B, 768], by default the class token, tokens [B, 196, 768] without registers.

    Reads the official file, the hub's (transformers) and timm's.
    """

    input_rule = InputRule(224, interpolation="bilinear", resizer="torchvision")
    version = "2"
    poolings = ("cls", "mean", "cls+mean", "mean_prenorm", "last4")
    prefixes = ("module.", "model.")
    layouts = (
        Layout(
            "official",
            _official,
            leftovers=("mask_token",),
            constants={"rope_embed.periods": _PERIODS}
            | {f"blocks.{i}.attn.qkv.bias_mask": _mask() for i in range(_DEPTH)},
        ),
        Layout(
            "transformers",
            _transformers,
            marker="embeddings.register_tokens",
            leftovers=("embeddings.mask_token",),
        ),
        Layout("timm with biases", _timm, marker="blocks.0.attn.q_bias"),
        Layout("timm without biases", _timm_without_biases, marker="reg_token"),
    )
    card = Card(
        title="DINOv3 ViT-B/16",
        paper="Simeoni et al., arXiv 2508.10104 (2025)",
        code_licence="DINOv3 License (2025-08-19)",
        weights_licence="DINOv3 License (2025-08-19): gated, acknowledgement due, some uses barred",
        licence_kind="restricted",
        weights_from="ai.meta.com/resources/models-and-libraries/dinov3-downloads "
        "(dinov3_vitb16_pretrain_lvd1689m-73cec8be.pth), "
        "huggingface.co/facebook/dinov3-vitb16-pretrain-lvd1689m, or "
        "huggingface.co/timm/vit_base_patch16_dinov3.lvd1689m",
        pretraining="LVD-1689M, natural images",
        hub=HubFile("facebook/dinov3-vitb16-pretrain-lvd1689m", "model.safetensors", "gated"),
        parameters=85_668_864,
        dim=768,
        saw=(),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="facebookresearch/dinov3 at 6876159",
        inferred=("that the US-JEPA paper's DINOv3 is this size and this token",),
        note="224 pixels, as the US-JEPA paper states for all models (README of DINOv3: 256)",
    )

    def make(self) -> nn.Module:
        """DINOv3's ViT-B/16."""
        return RotaryViT()
