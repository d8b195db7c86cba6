"""ConvNeXt (arXiv 2201.03545), with the parameter names of timm.

B is the batch, D the width of a stage, h and w the sides of a map. The norm of the head follows the
mean over the last map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from model_zoo.vit import initialise

EPS = 1e-6


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of a map [B, D, h, w]."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, D, h, w]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        projected: Tensor = self.fc2(gelu(self.fc1(x)))
        return projected


class Block(nn.Module):
    """Depthwise 7 x 7, norm and MLP, scaled by a learnt vector and added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=EPS)
        self.mlp = MLP(width)
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, D, h, w]."""
        y = self.mlp(self.norm(self.conv_dw(x).permute(0, 2, 3, 1))) * self.gamma
        added: Tensor = x + y.permute(0, 3, 1, 2)
        return added


class ConvNeXtStage(nn.Module):
    """Blocks, after a step to half the sides unless `before` is 0."""

    def __init__(self, before: int, width: int, depth: int) -> None:
        super().__init__()
        self.downsample = nn.Sequential()
        if before:
            self.downsample.append(LayerNorm2d(before, eps=EPS))
            self.downsample.append(nn.Conv2d(before, width, 2, stride=2))
        self.blocks = nn.ModuleList(Block(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, 2 D, h / 2, w / 2]."""
        x = self.downsample(x)
        for block in self.blocks:
            x = block(x)
        return x


class ConvNeXt(nn.Module):
    """A ConvNeXt of four stages that gives its maps.

    Args:
        width: of the first stage; each further one has twice that.
        depths: blocks of each stage.
        projected: width of a projection behind the norm of the head, without bias; 0 for none.
    """

    def __init__(self, width: int, depths: tuple[int, ...], projected: int = 0) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(len(depths))]
        self.stem = nn.Sequential(nn.Conv2d(3, width, 4, stride=4), LayerNorm2d(width, eps=EPS))
        self.stages = nn.ModuleList(
            ConvNeXtStage(before, after, depth)
            for before, after, depth in zip([0, *widths], widths, depths, strict=False)
        )
        self.norm = nn.LayerNorm(widths[-1], eps=EPS)
        self.projection = nn.Linear(widths[-1], projected, bias=False) if projected else None
        self.apply(initialise)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Maps after each stage, [B, D, h, w], of images [B, 3, S, S]; no norm follows."""
        x: Tensor = self.stem(images)
        found = []
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found
