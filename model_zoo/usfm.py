"""USFM: a BEiT-style ViT-B/16 with one relative position table for all blocks (2401.00153)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout, Recipe, without_key_bias
from model_zoo.released import ViTEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import Block, PatchEmbed, initialise

_DEPTH = 12


class RelativePositionViT(nn.Module):
    """ViT-B/16 at 224 pixels: class token, layer scale, no absolute positions.

    `bias_table` [27 * 27 + 3, heads] holds a logit for each offset between two patches; its last
    three rows are class to patch, patch to class and class to class.
    """

    grid, width, heads, prefix = 14, 768, 12, 1
    offsets: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.width))
        self.patch_embed = PatchEmbed(16, self.width)
        self.bias_table = nn.Parameter(torch.zeros((2 * self.grid - 1) ** 2 + 3, self.heads))
        self.blocks = nn.ModuleList(
            Block(self.width, self.heads, layer_scale=True) for _ in range(_DEPTH)
        )
        self.norm = nn.LayerNorm(self.width, eps=1e-6)
        self.register_buffer("offsets", offset_index(self.grid), persistent=False)
        self.apply(initialise)

    def unnormed(self, images: Tensor, each: Callable[[Tensor], object] | None = None) -> Tensor:
        """Tokens [B, 1 + 196, 768] before the final norm, class token first.

        `each` is handed the tokens after each block, the last one's included.
        """
        x: Tensor = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        bias = self.bias_table[self.offsets].permute(2, 0, 1)  # [heads, N, N]
        for block in self.blocks:
            x = block(x, bias=bias)
            if each is not None:
                each(x)
        return x


def offset_index(grid: int) -> Tensor:
    """Row of the bias table for each query and key, int64 [1 + grid^2, 1 + grid^2]."""
    row, column = torch.meshgrid(torch.arange(grid), torch.arange(grid), indexing="ij")
    place = torch.stack([row.flatten(), column.flatten()])
    down, right = place[:, :, None] - place[:, None, :] + grid - 1  # query minus key
    side = 2 * grid - 1
    index = torch.empty(grid**2 + 1, grid**2 + 1, dtype=torch.int64)
    index[1:, 1:] = down * side + right
    index[0, :], index[:, 0], index[0, 0] = side**2, side**2 + 1, side**2 + 2
    return index


def _recipe(key: str) -> Recipe:
    if key == "bias_table":
        return Recipe(("rel_pos_bias.relative_position_bias_table",))
    if key.endswith("attn.qkv.bias"):
        start = key.removesuffix("qkv.bias")
        return Recipe((f"{start}q_bias", f"{start}v_bias"), without_key_bias)
    return Recipe((key,))


class USFM(ViTEncoder):
    """Features [B, 768], tokens [B, 196, 768] of the pretraining file `USFM_latest.pth`.

    Only 224 pixels: at other sizes the authors' code interpolates its table wrongly.
    """

    input_rule = InputRule(224)
    layouts = (
        Layout(recipe=_recipe, leftovers=("mask_token", "rel_pos_bias.relative_position_index")),
    )
    card = Card(
        title="USFM",
        paper="Jiao et al., Medical Image Analysis 96 (2024) 103202, arXiv 2401.00153",
        code_licence="CC BY-NC 4.0 by the README; the licence file it names is not there",
        weights_licence="not stated separately; treat as CC BY-NC 4.0 (non-commercial)",
        licence_kind="non-commercial",
        weights_from="Google Drive file 1KRwXZgYterH895Z8EpXpR1L1eSMMJo4q, USFM_latest.pth "
        "(linked in the README of github.com/openmedlab/USFM)",
        pretraining="3M-US: more than 2 million images of twelve organs; data sets not stated here",
        parameters=85_674_576,
        dim=768,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="openmedlab/USFM at 960a1e1",
        inferred=("pooling",),
        note="chosen: mean of patch tokens after the released norm (the authors fine-tune on the "
        "mean before it: mean_prenorm)",
    )

    def make(self) -> nn.Module:
        """BEiT's ViT-B/16 with a shared relative position table."""
        return RelativePositionViT()
