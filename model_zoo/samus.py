"""SAMUS: SAM with a CNN branch and adapters for ultrasound (arXiv 2309.06824)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, scaled_dot_product_attention

from model_zoo import sam
from model_zoo.cards import Card
from model_zoo.checkpoints.layouts import Layout
from model_zoo.transforms import InputRule
from model_zoo.vit import EPS, initialise

_SCALE = 0.5  # of the MLP adapters, and of the CNN branch where the streams join


class Adapter(nn.Module):
    """A bottleneck of a quarter of the width."""

    def __init__(self) -> None:
        super().__init__()
        self.D_fc1 = nn.Linear(sam.WIDTH, sam.WIDTH // 4)
        self.D_fc2 = nn.Linear(sam.WIDTH // 4, sam.WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[..., 768] -> [..., 768], without a skip."""
        projected: Tensor = self.D_fc2(gelu(self.D_fc1(x)))
        return projected


class CrossAttention(nn.Module):
    """Tokens ask the CNN's map; both [B, G, G, 768]."""

    def __init__(self) -> None:
        super().__init__()
        self.q = nn.Linear(sam.WIDTH, sam.WIDTH)
        self.k = nn.Linear(sam.WIDTH, sam.WIDTH)
        self.v = nn.Linear(sam.WIDTH, sam.WIDTH)
        self.proj = nn.Linear(sam.WIDTH, sam.WIDTH)

    def forward(self, x: Tensor, asked: Tensor) -> Tensor:
        """[B, G, G, 768] -> [B, G, G, 768]."""
        q, k, v = (
            part.flatten(1, 2).unflatten(-1, (sam.HEADS, -1)).transpose(1, 2)
            for part in (self.q(x), self.k(asked), self.v(asked))
        )
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2)
        joined: Tensor = self.proj(mixed.reshape(x.shape))
        return joined


def _convolution(given: int, made: int) -> list[nn.Module]:
    return [
        nn.Conv2d(given, made, 3, padding=1, bias=False),
        sam.LayerNorm2d(made, eps=EPS),
        nn.GELU(),
    ]


class Convolution(nn.Module):
    """3 x 3 convolution, LayerNorm, GELU on [B, C, H, W]."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*_convolution(given, made))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H, W]."""
        made: Tensor = self.conv(x)
        return made


class Down(nn.Module):
    """Halve a map by its maxima, then `Convolution`."""

    def __init__(self, given: int, made: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), *_convolution(given, made))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / 2, W / 2]."""
        made: Tensor = self.maxpool_conv(x)
        return made


class CNN(nn.Module):
    """The CNN branch, or with `given` alone the layer that halves the table of positions."""

    def __init__(self, widths: tuple[int, ...], first: int | None = None) -> None:
        super().__init__()
        if first is not None:
            self.inc: nn.Module = Convolution(first, widths[0])
        else:
            self.inc = nn.Identity()
        self.downs = nn.ModuleList(Down(given, made) for given, made in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / 2^n, W / 2^n]."""
        x = self.inc(x)
        for down in self.downs:
            x = down(x)
        return x


class GlobalBlock(sam.Block):
    """A block of SAM's with global attention, where the two streams meet."""

    def __init__(self, grid: int) -> None:
        super().__init__(grid, is_global=True)
        self.Space_Adapter = CrossAttention()
        self.refine_Adapter = Convolution(sam.WIDTH, sam.WIDTH)
        self.MLP_Adapter = Adapter()

    def meet(self, x: Tensor, cnn: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and CNN map, both [B, G, G, 768], after this block."""
        normed = self.norm1(x)
        normed = normed + self.Space_Adapter(normed, cnn)  # the map before it is refined
        cnn = self.refine_Adapter(cnn.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        x = x + self.attend(normed)
        normed = self.norm2(x)
        return x + self.mlp(normed) + _SCALE * self.MLP_Adapter(normed), cnn


class SAMUSNetwork(nn.Module):
    """SAMUS' image encoder on images [B, 3, 256, 256]."""

    grid = 32

    def __init__(self) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 64, 64, sam.WIDTH))  # at SAM's size
        self.cnn_embed = CNN((64, 128, 256, sam.WIDTH), first=3)
        self.patch_embed = sam.PatchEmbed(stride=8)
        self.input_Adapter = Adapter()
        self.post_pos_embed = CNN((sam.WIDTH, sam.WIDTH))
        self.blocks = nn.ModuleList(
            GlobalBlock(self.grid)
            if i in sam.GLOBAL_BLOCKS
            else sam.Block(self.grid, is_global=False)
            for i in range(sam.DEPTH)
        )
        self.neck = sam.make_neck()
        self.apply(initialise)

    def preneck(self, images: Tensor) -> Tensor:
        """What the neck reads: the last block's map and half of the CNN's, [B, 32, 32, 768]."""
        cnn: Tensor = self.cnn_embed(images).permute(0, 2, 3, 1)
        # 264 pixels at patch 16 and stride 8 give the CNN's grid of 32.
        enlarged = interpolate(images, (264, 264), mode="bilinear", align_corners=False)
        x: Tensor = self.patch_embed(enlarged)
        x = x + self.input_Adapter(x)
        x = x + self.post_pos_embed(self.pos_embed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        for block in self.blocks:
            if isinstance(block, GlobalBlock):
                x, cnn = block.meet(x, cnn)
            else:
                x = block(x)
        return x + _SCALE * cnn


class SAMUS(sam.SAMEncoder):
    """SAMUS at 256 pixels: features [B, 768], tokens [B, 1024, 768].

    The input is grey in [0, 1], squashed to the square, and not normalised: SAM's mean and std
    would change everything.
    """

    input_rule = InputRule(256, (0.0,) * 3, (1.0,) * 3, interpolation="bilinear", grey=True)
    patch_size = 8
    batch_size = 8
    layouts = (
        Layout("official", sam.image_encoder, leftovers=("prompt_encoder.*", "mask_decoder.*")),
        Layout("image encoder only", marker="input_Adapter.D_fc1.weight"),
    )
    card = Card(
        title="SAMUS",
        paper="Lin et al., MICCAI 2024, arXiv 2309.06824",
        code_licence="MIT (Xian Lin 2023), files derived from SAM Apache-2.0",
        weights_licence="not stated",
        weights_from="Google Drive file 1nQjMAvbPeolNpCxQyU_HTiOiB5704pkH (linked in the README "
        "of github.com/xianlin7/SAMUS)",
        pretraining="US30K, seven public ultrasound segmentation sets; started from SAM",
        parameters=129_259_008,
        dim=768,
        status="verified by the authors' code",
        verified="authors' code",
        verified_with="xianlin7/SAMUS at 030ed07",
        inferred=("pooling before the neck",),
    )

    def make(self) -> nn.Module:
        """SAMUS' image encoder."""
        return SAMUSNetwork()
