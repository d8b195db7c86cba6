"""Deliberate mistakes of wrappers, each of which the reference vectors must show."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from model_zoo import dinov3, echocare, pooling, released, sam, samus, vit, windows
from model_zoo.encoder import Encoder

Patch = Callable[[pytest.MonkeyPatch, Encoder], Any]


def attribute(target: Any, name: str, value: Any) -> Patch:
    return lambda patch, encoder: patch.setattr(target, name, value)


def eps(value: float) -> Patch:
    """Every LayerNorm of the network."""

    def apply(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
        for module in encoder.network.modules():
            if isinstance(module, nn.LayerNorm):
                patch.setattr(module, "eps", value)

    return apply


def normalised(mean: tuple[float, ...], std: tuple[float, ...]) -> Patch:
    def apply(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
        assert encoder.input_rule is not None
        wrong = dataclasses.replace(encoder.input_rule, mean=mean, std=std)
        patch.setattr(encoder, "input_rule", wrong)

    return apply


def numbers(name: str, edit: Callable[[Tensor], Tensor] = torch.zeros_like) -> Patch:
    """All parameters of the network whose name ends so are other numbers."""

    def apply(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
        found = [one for key, one in encoder.network.named_parameters() if key.endswith(name)]
        assert found
        for parameter in found:
            patch.setattr(parameter, "data", edit(parameter.data))

    return apply


def without_positions(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    patch.setattr(sam, "_relative", lambda table, grid: torch.zeros(grid, grid, table.shape[1]))


def swapped_positions(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    plain = sam._mix
    patch.setattr(sam, "_mix", lambda q, k, v, rows, columns: plain(q, k, v, columns, rows))


def merged_by_rows(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """TL, TR, BL, BR instead of TL, BL, TR, BR."""

    def forward(self: echocare.Merging, x: Tensor) -> Tensor:
        four = [x[:, down::2, right::2] for down in (0, 1) for right in (0, 1)]
        return self.reduction(self.norm(torch.cat(four, dim=-1)))

    patch.setattr(echocare.Merging, "forward", forward)


def unshifted(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    for module in encoder.network.modules():
        if isinstance(module, echocare.SwinBlock):
            patch.setattr(module, "shift", 0)


def resized_positions(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """SAMUS' position table brought to its grid by interpolation instead of the learnt layer."""
    plain = samus.CNN.forward

    def forward(self: samus.CNN, x: Tensor) -> Tensor:
        if isinstance(self.inc, nn.Identity):
            return nn.functional.interpolate(x, scale_factor=0.5, mode="bilinear")
        return plain(self, x)

    patch.setattr(samus.CNN, "forward", forward)


def without_input_adapter(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    patch.setattr(encoder.network.input_Adapter, "forward", torch.zeros_like)


def unbiased(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """USFM without its positions."""
    plain = vit.Block.forward
    patch.setattr(vit.Block, "forward", lambda self, x, bias=None, rotate=None: plain(self, x))


def unscaled(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """USFM without its layer scale."""

    def forward(self: vit.Block, x: Tensor, bias: Any = None, rotate: Any = None) -> Tensor:
        x = x + self.attn(self.norm1(x), bias, rotate)
        return x + self.mlp(self.norm2(x))

    patch.setattr(vit.Block, "forward", forward)


def with_registers(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    patch.setattr(dinov3.DINOv3, "_prefix", 1)


def scaled_positions(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """Relative positions of the scaled query."""
    plain = sam._mix
    patch.setattr(sam, "_mix", lambda q, k, v, rows, columns: plain(q, k, v, rows / 8, columns / 8))


def padded_before_norm(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """Windows filled up with what a norm makes of zeros, its bias."""

    def attend(self: sam.Block, x: Tensor) -> Tensor:
        if self.is_global:
            return self.attn(x)
        cut = windows.cut(x, sam.WINDOW)
        filled = (cut == 0).all(-1, keepdim=True)
        cut = torch.where(filled, self.norm1.bias, cut)
        return windows.join(self.attn(cut), *x.shape[1:3])

    patch.setattr(sam.Block, "attend", attend)


def refined_first(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """SAMUS' cross attention asks the CNN's map after it is refined in that block."""

    def meet(self: samus.GlobalBlock, x: Tensor, cnn: Tensor) -> tuple[Tensor, Tensor]:
        cnn = self.refine_Adapter(cnn.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        normed = self.norm1(x)
        x = x + self.attend(normed + self.Space_Adapter(normed, cnn))
        normed = self.norm2(x)
        return x + self.mlp(normed) + 0.5 * self.MLP_Adapter(normed), cnn

    patch.setattr(samus.GlobalBlock, "meet", meet)


def recomputed(table: Tensor) -> Tensor:
    """The sine-cosine table in the place of the stored one."""
    prefix = table.shape[1] % 2
    fresh = vit.sine_cosine_table(math.isqrt(table.shape[1]), table.shape[2])
    return torch.cat([torch.zeros(prefix, table.shape[2]), fresh])[None]


def transposed(table: Tensor) -> Tensor:
    """USFM's table with its two axes swapped."""
    inner = table[:-3].view(27, 27, -1).transpose(0, 1).reshape(729, -1)
    return torch.cat([inner, table[-3:]])


def without_class_rows(table: Tensor) -> Tensor:
    return torch.cat([table[:-3], torch.zeros_like(table[-3:])])


def not_on_the_class_token(table: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(table[:, :1]), table[:, 1:]], dim=1)


def unseparated(patch: pytest.MonkeyPatch, encoder: Encoder) -> None:
    """Places that a shift brought into one window see each other."""
    patch.setattr(echocare, "shifted_apart", lambda h, w, shift: torch.zeros(h * w // 64, 64, 64))


CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NONE = (0.0,) * 3, (1.0,) * 3
HALF = (0.5,) * 3, (0.5,) * 3

# As the READMEs of the reference vectors list them, and some more. A wrong eps, or mean and std, is
# tried with one network or two: all take them from one place.
MISTAKES: dict[str, tuple[str, Patch]] = {
    "usf-mae: eps": ("usf-mae", eps(1e-5)),
    "usf-mae: no mean and std": ("usf-mae", normalised(*NONE)),
    "usf-mae: positions zero": (
        "usf-mae", numbers("pos_embed", torch.zeros_like),
    ),
    "usf-mae: class token without position": (
        "usf-mae", numbers("pos_embed", not_on_the_class_token),
    ),
    "usf-mae: positions recomputed": (
        "usf-mae", numbers("pos_embed", recomputed),
    ),
    "usf-mae: no biases": ("usf-mae", numbers("qkv.bias")),
    "usf-mae: no final norm": (
        "usf-mae", attribute(released.ViTEncoder, "_normed", lambda self, tokens: tokens),
    ),
    "usf-mae: class token in the mean": (
        "usf-mae",
        lambda patch, encoder: patch.setitem(pooling.POOLINGS, "mean", lambda x, prefix: x.mean(1)),
    ),
    "urfm: CLIP's mean and std": ("urfm", normalised(*CLIP)),
    "usfm: no positions": ("usfm", unbiased),
    "usfm: table transposed": ("usfm", numbers("bias_table", transposed)),
    "usfm: table without the class token's rows": (
        "usfm", numbers("bias_table", without_class_rows),
    ),
    "usfm: no layer scale": ("usfm", unscaled),
    "usfm: no biases": ("usfm", numbers("qkv.bias")),
    "dinov3: registers pooled": ("dinov3", with_registers),
    "dinov3: no biases": ("dinov3", numbers("qkv.bias")),
    "dinov3: no rotation": ("dinov3", attribute(dinov3.Rotation, "__call__", lambda self, x: x)),
    "dinov3: periods 5 % too long": (
        "dinov3", attribute(dinov3, "_PERIODS", dinov3._PERIODS * 1.05),
    ),
    "ijepa-vitb16: mean and std of the hub": ("ijepa-vitb16", normalised(*HALF)),
    "ijepa-vitb16: positions recomputed": (
        "ijepa-vitb16", numbers("pos_embed", recomputed),
    ),
    "samus: adapter scale": ("samus", attribute(samus, "_SCALE", 1.0)),
    "samus: input adapter": ("samus", without_input_adapter),
    "samus: positions resized": ("samus", resized_positions),
    "samus: CNN refined first": ("samus", refined_first),
    # SAM and UltraSam are made of the same blocks, at 16 times the cost.
    "samus: no relative positions": ("samus", without_positions),
    "samus: rows and columns": ("samus", swapped_positions),
    "samus: positions of the scaled query": ("samus", scaled_positions),
    "samus: windows filled up before the norm": ("samus", padded_before_norm),
    "echocare: no relative positions": ("echocare", numbers("bias_table")),
    "echocare: merging": ("echocare", merged_by_rows),
    "echocare: no shift": ("echocare", unshifted),
    "echocare: shifted windows not kept apart": ("echocare", unseparated),
    "echocare: residual blocks": (
        "echocare", attribute(echocare.Residual, "forward", lambda self, x: x),
    ),
    "echocare: last norm": ("echocare", attribute(echocare, "normed", lambda x: x)),
}  # fmt: skip
