"""Where two places lie to each other, told from their vectors: an auxiliary loss.

Equations 2 to 4 of arXiv 2507.18424 ("Self-Supervised Ultrasound-Video Segmentation with Feature
Prediction and 3D Localised Loss"), after DRLoc (arXiv 2106.03746): a small network gets the vectors
of two places of a sample and tells the offset between them. There is no public code of the first;
width and ReLU of the head are those of the second.

The predictor knows the places of its mask tokens, so this loss can fall without any of it being in
the features: only a dense probe, with and without, tells whether it helps.

B is the batch, K the places, D the width, P the pairs, A the axes: 3 of a clip (time, row, column),
2 of a still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ultrabench_eval.core.hashing import seed_for
from usjepa.config import LocalisationSettings
from usjepa.masks import Masks, Sampler
from usjepa.masks3d import ClipMasks


class Localised(NamedTuple):
    """What the loss is, and what it would be."""

    loss: Tensor
    constant: Tensor
    """Of a head that always says 0: what any head must beat."""


class Localisation(nn.Module):
    """The head: three linear layers with ReLU between them, on two vectors side by side.

    Args:
        settings: of the loss.
        width: D.
        grid: places along each of the A axes.
    """

    def __init__(self, settings: LocalisationSettings, width: int, grid: Sequence[int]) -> None:
        super().__init__()
        self.settings = settings
        self.grid = tuple(grid)
        sizes = [2 * width, settings.width, settings.width, len(self.grid)]
        layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, tokens: Tensor, places: Tensor, pairs: Tensor) -> Localised:
        """The loss of a batch (eqs. 2 and 3).

        Args:
            tokens: vectors [B, K, D].
            places: where each is, numbers in raster order, int64 [B, K].
            pairs: which of the K are compared, int64 [B, 2, P].
        """
        vectors = tokens.gather(1, pairs.flatten(1)[..., None].expand(-1, -1, tokens.shape[-1]))
        first, second = vectors.float().chunk(2, dim=1)  # [B, P, D]
        told = self.layers(torch.cat([first, second], dim=-1)).float()
        one, other = places.gather(1, pairs.flatten(1)).chunk(2, dim=1)
        true = offsets(one, other, self.grid)
        if not self.settings.signed:
            true = true.abs()
        return Localised(self.distance(told, true), self.distance(torch.zeros_like(true), true))

    def distance(self, told: Tensor, true: Tensor) -> Tensor:
        """Over all pairs, of offsets [..., A]."""
        if self.settings.distance == "absolute":
            return (told - true).abs().mean()
        return (told - true).square().sum(-1).mean()


def offsets(first: Tensor, second: Tensor, grid: Sequence[int]) -> Tensor:
    """The way from the second place to the first, each axis over the grid's, float32 [..., A].

    Args:
        first: numbers in raster order, int64 [...].
        second: likewise.
        grid: places along each of the A axes.
    """
    axes = []
    for length in reversed(tuple(grid)):
        axes.append((first % length - second % length).float() / length)
        first, second = first // length, second // length
    return torch.stack(axes[::-1], dim=-1)


class WithPairs:
    """A sampler that also draws which places are compared.

    They are part of the masks because those are a pure function of (seed, step, part), however a
    run is carried out.

    Args:
        masks: the sampler of places.
        settings: of the loss.
        seed: of the run.
    """

    def __init__(self, masks: Sampler, settings: LocalisationSettings, seed: int) -> None:
        self.masks = masks
        self.settings = settings
        self.seed = seed

    def sample(
        self, batch: int, step: int, part: int = 0, region: Tensor | None = None
    ) -> Masks | ClipMasks:
        """Masks of a batch, with pairs; see `usjepa.masks.Sampler.sample`."""
        drawn = self.masks.sample(batch, step, part, region)
        purpose = f"pairs of places, step {step}, part {part}"
        generator = torch.Generator().manual_seed(seed_for(self.seed, purpose))
        if isinstance(drawn, Masks):
            return self._paired(drawn, generator)
        return ClipMasks(tuple(self._paired(one, generator) for one in drawn.kinds))

    def _paired(self, masks: Masks, generator: torch.Generator) -> Masks:
        """With pairs drawn uniformly, with replacement, among each sample's real places."""
        lists, real = masks.targets.flatten(1), masks.targets_real
        if self.settings.tokens == "context":
            lists, real = masks.context, masks.context_real
        batch, length = lists.shape
        real = torch.ones(batch, length, dtype=torch.bool) if real is None else real.flatten(1)
        draws = torch.rand(batch, 2 * self.settings.pairs, generator=generator, dtype=torch.float64)
        counts = real.sum(1, keepdim=True)
        chosen = (draws * counts).long()  # among the real ones, which are put first
        order = torch.argsort((~real).long(), dim=1, stable=True)
        return replace(masks, pairs=order.gather(1, chosen).reshape(batch, 2, -1))
