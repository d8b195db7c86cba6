"""EchoCare: a Swin transformer trained on 4.5 M ultrasound images (arXiv 2509.11752).

The authors publish no model code: their README builds MONAI's 2-D `SwinTransformer` with
`use_v2=True`. Against a stock Swin: patches of 2, a residual convolution before each stage, a
merging after the last stage too, and a norm without learnt numbers on what is given out.
B is the batch, H and W the sides of a map, C its width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    gelu,
    instance_norm,
    layer_norm,
    leaky_relu,
    scaled_dot_product_attention,
)

from model_zoo import windows
from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout
from model_zoo.released import ReleasedEncoder
from model_zoo.side_by_side import side_by_side
from model_zoo.transforms import InputRule
from model_zoo.vit import initialise

_WIDTH, _WINDOW = 128, 8
_DEPTHS, _HEADS = (2, 2, 18, 2), (4, 8, 16, 32)
_EPS = 1e-5
_APART = -100.0  # added to the logits of places that a shift brought together


def relative_position_index() -> Tensor:
    """Row of the bias table for each pair of places in a window, int64 [64, 64]."""
    place = torch.cartesian_prod(torch.arange(_WINDOW), torch.arange(_WINDOW))
    apart = place[:, None] - place[None] + _WINDOW - 1
    return apart[..., 0] * (2 * _WINDOW - 1) + apart[..., 1]


class WindowAttention(nn.Module):
    """Attention within windows of 8 x 8, with a learnt bias for each distance."""

    index: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * _WINDOW - 1) ** 2, heads))
        self.register_buffer("index", relative_position_index(), persistent=False)

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        """[B * windows, 64, C] -> the same; `apart` [windows, 64, 64] is added to the logits."""
        count, length, width = x.shape
        qkv = self.qkv(x).view(count, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.index].permute(2, 0, 1)[None]
        if apart is not None:
            bias = (bias + apart[:, None]).repeat(count // len(apart), 1, 1, 1)
        mixed = scaled_dot_product_attention(q, k, v, attn_mask=bias)
        joined: Tensor = self.proj(mixed.transpose(1, 2).reshape(x.shape))
        return joined


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them, under MONAI's names."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        projected: Tensor = self.linear2(gelu(self.linear1(x)))
        return projected


class SwinBlock(nn.Module):
    """One pre-norm block on a map [B, H, W, C]; its windows are shifted by `shift`."""

    def __init__(self, width: int, heads: int, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = WindowAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        x = x + self._attend(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x

    def _attend(self, x: Tensor) -> Tensor:
        _, height, width, channels = x.shape
        x = windows.filled_up(x, _WINDOW)  # before the shift, as in MONAI
        rows, columns = x.shape[1:3]
        apart = None
        if self.shift:
            apart = shifted_apart(rows, columns, self.shift).to(x)
            x = x.roll((-self.shift, -self.shift), (1, 2))
        cut = windows.cut(x, _WINDOW)
        attended = self.attn(cut.flatten(1, 2), apart).view(-1, _WINDOW, _WINDOW, channels)
        x = windows.join(attended, rows, columns)
        if self.shift:
            x = x.roll((self.shift, self.shift), (1, 2))
        return x[:, :height, :width]


def shifted_apart(height: int, width: int, shift: int) -> Tensor:
    """What keeps places apart that a shift brought into one window, float32 [windows, 64, 64]."""

    def region(length: int) -> Tensor:
        place = torch.arange(length)
        return (place >= length - _WINDOW).long() + (place >= length - shift).long()

    regions = 3 * region(height)[:, None] + region(width)
    labels = windows.cut(regions[None, :, :, None], _WINDOW).flatten(1)
    return _APART * (labels[:, :, None] != labels[:, None]).float()


class Merging(nn.Module):
    """Four neighbours become one place of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width, eps=_EPS)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H / 2, W / 2, 2 C]."""
        x = windows.filled_up(x, 2)
        # Top left, bottom left, top right, bottom right.
        four = [x[:, down::2, right::2] for right in (0, 1) for down in (0, 1)]
        merged: Tensor = self.reduction(self.norm(torch.cat(four, dim=-1)))
        return merged


class Stage(nn.Module):
    """Blocks of which every other is shifted, then `Merging`."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            SwinBlock(width, heads, shift=i % 2 * (_WINDOW // 2)) for i in range(depth)
        )
        self.downsample = Merging(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H / 2, W / 2, 2 C]."""
        for block in self.blocks:
            x = block(x)
        merged: Tensor = self.downsample(x)
        return merged


class _Convolution(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)


class _Layer(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = _Convolution(width), _Convolution(width)


class Residual(nn.Module):
    """Two convolutions with instance norms and a skip, on a map [B, C, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = _Layer(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        y = leaky_relu(instance_norm(self.layer.conv1.conv(x), eps=_EPS))
        return leaky_relu(instance_norm(self.layer.conv2.conv(y), eps=_EPS) + x)


class _Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, _WIDTH, kernel_size=2, stride=2)


class SwinNetwork(nn.Module):
    """EchoCare's encoder; names as in MONAI (`layers1`, `layers1c`, ...)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = _Patches()
        for level, (depth, heads) in enumerate(zip(_DEPTHS, _HEADS, strict=True)):
            width = _WIDTH * 2**level
            self.add_module(f"layers{level + 1}", nn.ModuleList([Stage(width, depth, heads)]))
            self.add_module(f"layers{level + 1}c", nn.ModuleList([Residual(width)]))
        self.apply(initialise)

    def levels(self, images: Tensor) -> list[Tensor]:
        """The five maps before their norm, [B, H / 2^i, W / 2^i, 128 * 2^(i - 1)], i = 1 ... 5."""
        x: Tensor = self.patch_embed.proj(images)
        maps = [x.permute(0, 2, 3, 1)]
        for level in range(1, len(_DEPTHS) + 1):
            stage, residual = self.get_submodule(f"layers{level}.0"), f"layers{level}c.0"
            x = self.get_submodule(residual)(maps[-1].permute(0, 3, 1, 2))
            maps.append(stage(x.permute(0, 2, 3, 1)))
        return maps


def normed(x: Tensor) -> Tensor:
    """The norm over channels of each map that is given out; it has no learnt numbers."""
    return layer_norm(x, x.shape[-1:], eps=_EPS)


class EchoCare(ReleasedEncoder):
    """EchoCare at 256 pixels: features [B, 2048], tokens [B, 64, 2048] of the last level.

    Maps [B, 3072, 16, 16]: the last two levels, after their norms.

    A linear probe on 2048 features has 2.7 times the numbers of one on 768.
    """

    input_rule = InputRule(256, (0.0,) * 3, (1.0,) * 3, interpolation="bilinear")
    patch_size = 32
    batch_size = 8  # 16384 tokens an image in the first stage
    poolings: ClassVar[tuple[str, ...]] = ("mean", "mean_prenorm")
    trunk = "levels"
    layouts = (
        Layout(
            "official",
            leftovers=("mask_token",),
            constants={
                f"layers{stage}.0.blocks.{i}.attn.relative_position_index": (
                    relative_position_index()
                )
                for stage, depth in enumerate(_DEPTHS, 1)
                for i in range(depth)
            },
        ),
    )
    card = Card(
        title="EchoCare",
        paper="Zhang et al., arXiv 2509.11752 (2025)",
        weights_from="echocare_encoder.pth, by the SharePoint link in the README of "
        "github.com/CAIR-HKISI/EchoCare",
        pretraining="EchoCareData, 4.5 M images of 23 countries; public sets among them",
        parameters=120_221_688,
        dim=2048,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="MONAI 1.6.1's SwinTransformer as the authors' README builds it",
        inferred=("256 squares in [0, 1] without mean and std", "bilinear", "pooling"),
    )

    def make(self) -> nn.Module:
        """MONAI's 2-D Swin transformer with residual blocks."""
        return SwinNetwork()

    def _last(self, x: Tensor) -> Tensor:
        last: Tensor = self.network.levels(x)[-1]  # type: ignore[operator]
        return last.flatten(1, 2)

    def _forward(self, x: Tensor) -> Tensor:
        last = self._last(x)
        return (last if self.pooling == "mean_prenorm" else normed(last)).mean(1)

    def _tokens(self, x: Tensor) -> Tensor:
        return normed(self._last(x))

    def _maps(self, x: Tensor) -> list[Tensor]:
        levels = [normed(one).permute(0, 3, 1, 2) for one in self.network.levels(x)]  # type: ignore[operator]
        return [side_by_side(levels, x.shape[-2])]
