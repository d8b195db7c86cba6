"""Which places of a clip a student sees and which it predicts: masks in space and time.

`MultiBlock3D` follows V-JEPA's sampler (facebookresearch/jepa 51c59d5, `src/masks/multiblock3d.py`;
V-JEPA 2's is the same): for each kind of mask (short range, long range) the union of some blocks is
predicted, and the rest of the clip is seen. `Tubes` hides squares of the frame at random, each for
the whole clip, as V-JEPA's `random_tube` and VideoMAE do.

As in `usjepa.masks`, draws come from (seed, step, what for), clip after clip; the numbers that they
give are torch's, in the official order. T, H, W is the grid, N = T H W its places in the order
time, row, column; B is the batch, C and K are the lengths of context and target lists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model_zoo.video_vit import Grid
from ultrabench_eval.core.hashing import seed_for
from usjepa.config import Config, MaskKind
from usjepa.masks import Fallbacks, Masks, Sampler, seed_of

_REDRAWS = 20  # of a clip's blocks, while nothing is left to see or, with a region, to predict


@dataclass(frozen=True)
class ClipMasks:
    """Masks of a batch, one for each kind; targets have one block, int64 [B, 1, K]."""

    kinds: tuple[Masks, ...]

    @property
    def fallbacks(self) -> Fallbacks:
        """Of all kinds together."""
        return Fallbacks(*map(sum, zip(*(one.fallbacks for one in self.kinds), strict=True)))

    def to(self, device: torch.device | str) -> ClipMasks:
        """The same on another device."""
        return ClipMasks(tuple(one.to(device) for one in self.kinds))


def build(config: Config, purpose: str = "training") -> Sampler:
    """The sampler of a run on clips; for another purpose than training, with other draws."""
    assert config.video is not None
    video, grid, seed = config.video, config.grid, seed_of(config, purpose)
    if not config.predicts or video.masks == "tubes":
        # Rounded as VideoMAE does.
        return Tubes(int(grid[1] * grid[2] * config.decoder.mask_share), grid, seed)
    return MultiBlock3D(video.kinds, grid, seed, video.truncate == "columns")


class MultiBlock3D:
    """Multi-block masks of clips.

    Args:
        kinds: settings of each.
        grid: T, H and W.
        seed: of the run. For validation take another, and always the same steps.
        columns: how lists are cut to the shortest of the batch: False as in the official code, by
            keeping the first places, hence early times; True by leaving out whole columns of time.
    """

    def __init__(
        self, kinds: Sequence[MaskKind], grid: Grid, seed: int, columns: bool = False
    ) -> None:
        self.kinds = tuple(kinds)
        self.grid = grid
        self.seed = seed
        self.columns = columns

    def block_size(self, kind: MaskKind, step: int) -> Grid:
        """Time steps, height and width of the blocks of a kind in a batch."""
        # The official sampler has no seed, and the same generator for every kind.
        generator = torch.Generator().manual_seed(step)
        time, space, aspect = (torch.rand(1, generator=generator).item() for _ in range(3))
        times, rows, columns = self.grid
        area = int(rows * columns * _between(kind.spatial_scale, space))
        ratio = _between(kind.aspect_ratio, aspect)
        return (
            max(1, int(times * _between(kind.temporal_scale, time))),
            max(1, min(round(math.sqrt(area * ratio)), rows)),
            max(1, min(round(math.sqrt(area / ratio)), columns)),
        )

    def sample(
        self, batch: int, step: int, part: int = 0, region: Tensor | None = None
    ) -> ClipMasks:
        """Masks of a batch; see `usjepa.masks.Sampler.sample`.

        A region, bool [B, H, W], holds for all times: what is outside is neither seen nor asked
        for, unless nothing is left of a clip.
        """
        inside = None if region is None else region.cpu().numpy().astype(bool)
        drawn = []
        for number, kind in enumerate(self.kinds):
            purpose = f"places in clips, kind {number}, step {step}, part {part}"
            generator = torch.Generator().manual_seed(seed_for(self.seed, purpose))
            hidden = self.hidden(kind, batch, step, generator, inside)
            drawn.append(self._lists(hidden, inside, generator))
        return ClipMasks(tuple(drawn))

    def hidden(
        self,
        kind: MaskKind,
        batch: int,
        step: int,
        generator: torch.Generator,
        inside: np.ndarray | None = None,
    ) -> np.ndarray:
        """The union of each clip's blocks and of times that are never seen, bool [B, T, H, W].

        Args:
            kind: of mask.
            batch: B.
            step: number of the batch, from 0.
            generator: of the places; the official sampler draws from torch's own.
            inside: the region, bool [B, H, W]; blocks that leave nothing of it to see, or have
                nothing of it, are drawn again, up to a bound.
        """
        size = self.block_size(kind, step)
        never = slice(max(1, int(self.grid[0] * kind.max_temporal_keep)), None)
        masks = np.zeros((batch, *self.grid), bool)
        for clip, mask in enumerate(masks):
            region = np.ones(self.grid[1:], bool) if inside is None else inside[clip]
            for _ in range(_REDRAWS):
                mask[:] = False
                mask[never] = True
                for _ in range(kind.blocks):
                    mask[self._block(size, generator)] = True
                if (region & ~mask).any() and (region & mask).any():
                    break
            else:
                if mask.all():  # blocks as large as the grid leave nothing to see
                    mask[: never.start, 0, 0] = False
        return masks

    def _block(self, size: Grid, generator: torch.Generator) -> tuple[slice, ...]:
        """Where a block lies: any place, the last included."""
        times, height, width = size
        top, left, start = (
            int(torch.randint(0, limit - extent + 1, (1,), generator=generator))
            for limit, extent in (
                (self.grid[1], height),
                (self.grid[2], width),
                (self.grid[0], times),
            )
        )
        return slice(start, start + times), slice(top, top + height), slice(left, left + width)

    def _lists(
        self, hidden: np.ndarray, inside: np.ndarray | None, generator: torch.Generator
    ) -> Masks:
        """Context and target lists of clips, cut to the shortest of the batch."""
        seen, outside = ~hidden, {"outside_targets": 0, "outside_contexts": 0}
        if inside is not None:
            hidden, outside["outside_targets"] = _within(hidden, inside)
            seen, outside["outside_contexts"] = _within(seen, inside)
        ranks = None
        if self.columns:
            places = math.prod(self.grid[1:])
            draws = torch.rand(len(hidden), places, generator=generator, dtype=torch.float64)
            ranks = np.broadcast_to(
                draws.numpy().reshape(len(hidden), 1, *self.grid[1:]), hidden.shape
            )
        return Masks(
            _truncated(seen, ranks),
            _truncated(hidden, ranks)[:, None],
            fallbacks=Fallbacks(**outside),
        )


class Tubes:
    """Squares of the frame, drawn without pattern, that are hidden at all times of a clip.

    Regions make no difference.

    Args:
        hidden: squares that are hidden.
        grid: T, H and W.
        seed: of the run.
    """

    def __init__(self, hidden: int, grid: Grid, seed: int) -> None:
        self.count = hidden
        self.grid = grid
        self.seed = seed

    def sample(
        self, batch: int, step: int, part: int = 0, region: Tensor | None = None
    ) -> ClipMasks:
        """Masks of a batch, of one kind; see `usjepa.masks.Sampler.sample`."""
        times, squares = self.grid[0], math.prod(self.grid[1:])
        generator = torch.Generator().manual_seed(
            seed_for(self.seed, f"tubes, step {step}, part {part}")
        )
        draws = torch.rand(batch, squares, generator=generator, dtype=torch.float64)
        order = np.argsort(draws.numpy(), axis=1, kind="stable")
        hidden, seen = (np.sort(one, axis=1) for one in np.split(order, [self.count], axis=1))
        starts = squares * np.arange(times)[:, None]
        lists = [(starts + one[:, None]).reshape(batch, -1) for one in (seen, hidden)]
        context, targets = map(torch.from_numpy, lists)
        return ClipMasks((Masks(context, targets[:, None]),))


def _within(masks: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, int]:
    """Masks [B, T, H, W] cut to regions [B, H, W]; whole where nothing is left, and how many."""
    cut = masks & inside[:, None]
    lost = ~cut.any(axis=(1, 2, 3))
    cut[lost] = masks[lost]
    return cut, int(lost.sum())


def _truncated(masks: np.ndarray, ranks: np.ndarray | None) -> Tensor:
    """Numbers of the True places, int64 [B, L], L being the smallest count of the batch.

    Args:
        masks: bool [B, T, H, W], each with at least one True.
        ranks: where not None, places of high rank are left out, [B, T, H, W]; else the last ones.
    """
    length = int(masks.sum(axis=(1, 2, 3)).min())
    lists = []
    for row, mask in enumerate(masks):
        (places,) = mask.ravel().nonzero()
        if ranks is not None:
            order = np.argsort(ranks[row].ravel()[places], kind="stable")[:length]
            places = places[np.sort(order)]
        lists.append(places[:length])
    return torch.from_numpy(np.stack(lists))


def _between(bounds: tuple[float, float], draw: float) -> float:
    return bounds[0] + draw * (bounds[1] - bounds[0])
