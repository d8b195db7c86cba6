"""The image encoder of Segment Anything, ViT-B (arXiv 2304.02643), and what its kin share.

B is the batch, G the side of the token grid, D the width.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from model_zoo import windows
from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout, Recipe
from model_zoo.released import ReleasedEncoder
from model_zoo.transforms import InputRule
from model_zoo.vit import EPS, initialise

WIDTH, DEPTH, HEADS, WINDOW, NECK = 768, 12, 12, 14, 256
GLOBAL_BLOCKS = (2, 5, 8, 11)
MEAN = (123.675 / 255, 116.28 / 255, 103.53 / 255)
STD = (58.395 / 255, 57.12 / 255, 57.375 / 255)


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, D, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, H, W] -> [B, D, H, W]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Attention over a map [B, G, G, D], with learnt relative positions along rows and columns.

    Both are inner products with the unscaled query, added to the logits (decomposed relative
    positions, arXiv 2112.01526, section 4.1).
    """

    def __init__(self, grid: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.rel_pos_h = nn.Parameter(torch.zeros(2 * grid - 1, WIDTH // HEADS))
        self.rel_pos_w = nn.Parameter(torch.zeros(2 * grid - 1, WIDTH // HEADS))

    def forward(self, x: Tensor) -> Tensor:
        """[B, G, G, D] -> [B, G, G, D]."""
        batch, height, width, channels = x.shape
        qkv = self.qkv(x).reshape(batch, height * width, 3, HEADS, channels // HEADS)
        rows, columns = _relative(self.rel_pos_h, height), _relative(self.rel_pos_w, width)
        # A head at a time: the logits of all heads of one global block would take 0.8 GB an image.
        heads = [
            _mix(q, k, v, rows, columns) for q, k, v in (head.unbind(2) for head in qkv.unbind(3))
        ]
        joined: Tensor = self.proj(torch.stack(heads, dim=2).view(x.shape))
        return joined


def _mix(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Attention of one head, [B, G * G, C], with positions from `_relative`."""
    grid = q.view(len(q), len(rows), len(columns), -1)
    by_row = torch.einsum("bijc,ikc->bijk", grid, rows)
    by_column = torch.einsum("bijc,jkc->bijk", grid, columns)
    bias = (by_row[..., :, None] + by_column[..., None, :]).flatten(3).flatten(1, 2)
    return scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _relative(table: Tensor, grid: int) -> Tensor:
    """Rows of `table` [2 * grid - 1, D] by the distance query - key: [grid, grid, D]."""
    place = torch.arange(grid, device=table.device)
    return table[place[:, None] - place + grid - 1]


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them, under SAM's names."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(WIDTH, 4 * WIDTH)
        self.lin2 = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        projected: Tensor = self.lin2(gelu(self.lin1(x)))
        return projected


class Block(nn.Module):
    """One pre-norm block on a map of side `grid`; attention inside windows unless it is global."""

    def __init__(self, grid: int, is_global: bool) -> None:
        super().__init__()
        self.is_global = is_global
        self.norm1 = nn.LayerNorm(WIDTH, eps=EPS)
        self.attn = Attention(grid if is_global else WINDOW)
        self.norm2 = nn.LayerNorm(WIDTH, eps=EPS)
        self.mlp = MLP()

    def attend(self, x: Tensor) -> Tensor:
        """Attention on a normed map [B, G, G, D]; windows are filled up with zeros."""
        if self.is_global:
            attended: Tensor = self.attn(x)
            return attended
        return windows.join(self.attn(windows.cut(x, WINDOW)), *x.shape[1:3])

    def forward(self, x: Tensor) -> Tensor:
        """[B, G, G, D] -> [B, G, G, D]."""
        x = x + self.attend(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


class PatchEmbed(nn.Module):
    """Cut the image into patches of 16 and project each."""

    def __init__(self, stride: int = 16) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, WIDTH, kernel_size=16, stride=stride)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, G, G, D]."""
        patches: Tensor = self.proj(images).permute(0, 2, 3, 1)
        return patches


def make_neck() -> nn.Sequential:
    """[B, D, G, G] -> [B, 256, G, G]: what the mask decoder reads."""
    return nn.Sequential(
        nn.Conv2d(WIDTH, NECK, 1, bias=False),
        LayerNorm2d(NECK, eps=EPS),
        nn.Conv2d(NECK, NECK, 3, padding=1, bias=False),
        LayerNorm2d(NECK, eps=EPS),
    )


class SAMNetwork(nn.Module):
    """SAM's ViT-B on images [B, 3, 1024, 1024]."""

    grid = 64

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid, self.grid, WIDTH))
        self.patch_embed = PatchEmbed()
        self.blocks = nn.ModuleList(Block(self.grid, i in GLOBAL_BLOCKS) for i in range(DEPTH))
        self.neck = make_neck()
        self.apply(initialise)

    def preneck(self, images: Tensor) -> Tensor:
        """The map after the last block, [B, 64, 64, 768]."""
        x: Tensor = self.patch_embed(images) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x


class SAMEncoder(ReleasedEncoder):
    """What SAM, UltraSam and SAMUS share: the map before the neck, or after it.

    The network has `preneck(x)`, [B, G, G, 768], and `neck`. Poolings: means over places of either
    map, [B, 768] and [B, 256]; tokens and maps are those of the map that is pooled.
    """

    poolings: ClassVar[tuple[str, ...]] = ("preneck", "neck")
    trunk = "preneck"

    def _map(self, x: Tensor) -> Tensor:
        """The map that is pooled, [B, G, G, D]."""
        tokens: Tensor = self.network.preneck(x)  # type: ignore[operator]
        if self.pooling == "neck":
            tokens = self.network.neck(tokens.permute(0, 3, 1, 2))  # type: ignore[operator]
            tokens = tokens.permute(0, 2, 3, 1)
        return tokens

    def _forward(self, x: Tensor) -> Tensor:
        return self._map(x).mean(dim=(1, 2))

    def _tokens(self, x: Tensor) -> Tensor:
        return self._map(x).flatten(1, 2)


def image_encoder(key: str) -> Recipe:
    """Where SAM's files hold the image encoder."""
    return Recipe((f"image_encoder.{key}",))


class SAM(SAMEncoder):
    """SAM ViT-B at 1024 pixels: features [B, 768], tokens [B, 4096, 768].

    The image keeps its aspect and is padded at the right and the bottom with the mean colour.
    The mean is taken over the places that hold some of the image, so that its shape does not
    dilute the feature; tokens are all 4096.
    """

    input_rule = InputRule(1024, MEAN, STD, interpolation="bilinear", fit="pad")
    patch_size = 16
    batch_size = 2  # 4096 tokens an image
    layouts = (
        Layout("official", image_encoder, leftovers=("prompt_encoder.*", "mask_decoder.*")),
        Layout("image encoder only", marker="blocks.0.attn.rel_pos_h"),
    )
    card = Card(
        title="SAM ViT-B",
        paper="Kirillov et al., ICCV 2023, arXiv 2304.02643",
        code_licence="Apache-2.0",
        weights_licence="Apache-2.0",
        weights_from="dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
        pretraining="SA-1B, natural images (image encoder started from MAE on ImageNet-1k)",
        parameters=89_670_912,
        dim=768,
        saw=(),
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="facebookresearch/segment-anything at dca509f",
        inferred=("pooling before the neck, over the places that hold the image",),
    )

    def make(self) -> nn.Module:
        """SAM's ViT-B."""
        return SAMNetwork()

    def _forward(self, x: Tensor) -> Tensor:
        # The padding is exactly zero after the normalisation, and no 8-bit value is.
        side = self.patch_size or 1
        held = nn.functional.max_pool2d((x != 0).any(1, keepdim=True).float(), side)
        weight = held.amax(3, keepdim=True) * held.amax(2, keepdim=True)  # rows x columns
        tokens = self._map(x).flatten(1, 2)
        weight = weight.flatten(1)[:, :, None].to(tokens.dtype)
        return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1)
