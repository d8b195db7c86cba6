"""How often edges point which way: a descriptor without weights, as an installable model."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

import model_zoo

BINS = 18


class GradientHistogram(model_zoo.Encoder):
    """Shares of gradient magnitude by direction in a 4 x 4 grid of cells: [B, 288]."""

    input_rule = model_zoo.InputRule(size=128, mean=(0, 0, 0), std=(1, 1, 1))
    poolings = ("flatten",)
    card = model_zoo.Card(title="Gradient histogram", note="example plugin, no learning")

    def build(self, weights: Path | str | None) -> nn.Module:
        return nn.Identity()

    def _forward(self, x: Tensor) -> Tensor:
        grey = x.mean(dim=1)  # [B, 128, 128]
        down, right = torch.gradient(grey, dim=(1, 2))
        angle = torch.atan2(down, right)  # -pi ... pi
        index = ((angle / torch.pi + 1) / 2 * BINS).long().clamp(0, BINS - 1)
        bins = nn.functional.one_hot(index, BINS) * torch.hypot(down, right)[..., None]
        cells = nn.functional.adaptive_avg_pool2d(bins.permute(0, 3, 1, 2), 4).flatten(1)
        return nn.functional.normalize(cells, p=1)
