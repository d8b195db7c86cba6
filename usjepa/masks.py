"""Which patches a student sees and which it predicts: multi-block masks, with and without regions.

`MultiBlock` follows I-JEPA's sampler (facebookresearch/ijepa, `src/masks/multiblock.py`, commit
52c1ae9): T target blocks and one context block per image, block sizes shared by the batch, all
target places taken out of the context. With regions (USrc, section 4.2, eqs. 3 and 4) blocks are
cut to valid patches, M = B and P_valid, and drawn again until |M| >= tau. `RandomPatches` hides a
share of all patches, for MAE.

Every draw comes from (seed, step, what for), and row i of a table of draws belongs to image i, so
masks are a pure function of (seed, step, part, place in the batch): they need no state and do not
change with the number of workers. Only cutting lists to the shortest of the batch looks at the
batch companions.

Draws are torch's, by a `torch.Generator`; what follows is done in numpy, because torch shares out
such small work over threads, which takes forty times as long where the cores have other work.

B is the batch, T the number of target blocks, A the draws of each block, H, W the grid and N = H W
its patches in raster order, C and K the longest lists of context and target patches.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from ultrabench_eval.core.hashing import seed_for
from usjepa.config import Blocks, Config

Size = tuple[int, int]  # height and width of a block, in patches


class Fallbacks(NamedTuple):
    """How often the rules could not be kept within the allowed draws."""

    small_targets: int = 0
    """Target blocks with fewer patches than asked for: the largest of those drawn."""
    outside_targets: int = 0
    """Target blocks that none of the draws brought into the region: taken without it."""
    small_contexts: int = 0
    outside_contexts: int = 0
    """Contexts with no region left beside the targets: taken without it."""
    overlapping_contexts: int = 0
    """Contexts from which not all target places could be taken out."""


_NONE = Fallbacks()


@dataclass(frozen=True)
class Masks:
    """Patch numbers of a batch, sorted in each list."""

    context: Tensor
    """What the student sees, int64 [B, C]."""
    targets: Tensor
    """What is predicted, int64 [B, T, K]."""
    context_real: Tensor | None = None
    """False where `context` is only padding, bool [B, C]; None if nothing is."""
    targets_real: Tensor | None = None
    """False where `targets` is only padding, bool [B, T, K]; None if nothing is."""
    fallbacks: Fallbacks = _NONE
    pairs: Tensor | None = None
    """Which places `usjepa.localisation` compares, int64 [B, 2, P]; None without it."""

    @property
    def kinds(self) -> tuple[Masks, ...]:
        """Itself, the one kind that there is of stills."""
        return (self,)

    def to(self, device: torch.device | str) -> Masks:
        """The same on another device."""

        def moved(lists: Tensor | None) -> Tensor | None:
            return None if lists is None else lists.to(device, non_blocking=True)

        return replace(
            self,
            context=self.context.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
            context_real=moved(self.context_real),
            targets_real=moved(self.targets_real),
            pairs=moved(self.pairs),
        )


class DrawnMasks(Protocol):
    """Masks of a batch: `Masks` of stills, or `usjepa.masks3d.ClipMasks`."""

    @property
    def kinds(self) -> tuple[Masks, ...]:
        """Each is seen and predicted by itself; losses are averaged."""

    @property
    def fallbacks(self) -> Fallbacks:
        """Of all kinds together."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""


class Sampler(Protocol):
    """What a training loop asks for masks."""

    def sample(
        self, batch: int, step: int, part: int = 0, region: Tensor | None = None
    ) -> DrawnMasks:
        """Masks of a batch.

        Args:
            batch: B.
            step: number of the batch, from 0; the official sampler's counter.
            part: which part of the step's batch (of processes, or of accumulated gradients); sizes
                of blocks are the same for all.
            region: valid patches, bool [B, H, W]; None for no region conditioning.
        """
        ...


def build(config: Config, purpose: str = "training") -> Sampler:
    """The sampler of a run on stills; for another purpose than training, with other draws."""
    grid = (config.model.grid, config.model.grid)
    seed = seed_of(config, purpose)
    if config.objective == "mae":
        return RandomPatches(config.decoder.mask_share, grid, seed)
    return MultiBlock(config.masks, grid, seed)


def seed_of(config: Config, purpose: str) -> int:
    """Of the draws of masks: the run's in training, others elsewhere."""
    return config.seed if purpose == "training" else seed_for(config.seed, f"masks, {purpose}")


class MultiBlock:
    """Multi-block masks on a grid.

    Args:
        blocks: settings.
        grid: H and W.
        seed: of the run. For validation take another, and always the same steps.
    """

    def __init__(self, blocks: Blocks, grid: Size, seed: int) -> None:
        self.blocks = blocks
        self.grid = grid
        self.seed = seed

    def block_sizes(self, step: int) -> tuple[Size, Size]:
        """Size of the target blocks and of the context block in a batch."""
        # The official sampler has no seed: its private generator is seeded with the counter.
        edges = self.blocks.cover_edges
        source = seed_for(self.seed, f"block sizes, step {step}") if edges else step
        generator = torch.Generator().manual_seed(source)
        target, context = (torch.rand(1, generator=generator).item() for _ in range(2))
        return (
            self._size(target, self.blocks.target_scale, self.blocks.aspect_ratio),
            self._size(context, self.blocks.context_scale, (1.0, 1.0)),
        )

    def sample(self, batch: int, step: int, part: int = 0, region: Tensor | None = None) -> Masks:
        """Masks of a batch; see `Sampler.sample`."""
        rows, columns = self.grid
        if region is not None and region.shape != (batch, rows, columns):
            raise ValueError(
                f"region is {tuple(region.shape)}, but masks are for {(batch, rows, columns)}"
            )
        target_size, context_size = self.block_sizes(step)
        count = self.blocks.target_count
        target_corners = self._corners(
            f"target places, step {step}, part {part}", (batch, count), target_size
        )
        # Draws for each number of targets that the context may end up avoiding.
        context_corners = self._corners(
            f"context places, step {step}, part {part}", (batch, count + 1), context_size
        )
        if region is None:
            valid = np.ones((batch, rows, columns), bool)
            least = self.blocks.min_keep + 1  # the official sampler asks for more than `min_keep`
            targets, found = self._targets(target_corners, target_size, valid, least)
            context, more = self._context(context_corners, context_size, targets, least)
        else:
            valid = region.cpu().numpy().astype(bool)
            least = max(self.blocks.min_keep, 1)  # eq. 3: at least tau
            targets, found = self._targets(target_corners, target_size, valid, least)
            context, more = self._context_in_region(
                context_corners, context_size, targets, valid, least
            )
        limit = self.blocks.context_limit
        if limit is not None:
            context = _thinned(context, limit, self._ranks(batch, step, part))
        context_list, context_real = _lists(context, self.blocks.context == "pad")
        target_list, target_real = _lists(targets, self.blocks.targets == "pad")
        return Masks(
            context_list, target_list, context_real, target_real, Fallbacks(**found, **more)
        )

    def _size(self, u: float, scale: tuple[float, float], aspect: tuple[float, float]) -> Size:
        """Size of a block from one uniform `u`, which sets area and aspect both."""
        rows, columns = self.grid
        patches = int(rows * columns * (scale[0] + u * (scale[1] - scale[0])))
        ratio = aspect[0] + u * (aspect[1] - aspect[0])
        less = 0 if self.blocks.cover_edges else 1  # official: never as large as the grid
        height = min(round(math.sqrt(patches * ratio)), rows - less)
        width = min(round(math.sqrt(patches / ratio)), columns - less)
        return max(height, 1), max(width, 1)

    def _corners(self, purpose: str, shape: tuple[int, int], size: Size) -> np.ndarray:
        """Top left corners of all draws, int64 [2, *shape, A]: rows, then columns."""
        more = 1 if self.blocks.cover_edges else 0  # official: the last place is left out
        generator = torch.Generator().manual_seed(seed_for(self.seed, purpose))
        batch, count = shape
        # One image after the other, so that a longer batch begins like a shorter one.
        draws = torch.rand(
            batch, 2, count, self.blocks.redraws, generator=generator, dtype=torch.float64
        ).numpy()
        places = [max(self.grid[axis] - size[axis] + more, 1) for axis in (0, 1)]
        corners = (draws * np.array(places)[:, None, None]).astype(np.int64)
        return np.moveaxis(corners, 1, 0)

    def _ranks(self, batch: int, step: int, part: int) -> np.ndarray:
        """A random number for each patch of each image, [B, H, W]."""
        purpose = f"context patches, step {step}, part {part}"
        generator = torch.Generator().manual_seed(seed_for(self.seed, purpose))
        return torch.rand(batch, *self.grid, generator=generator, dtype=torch.float64).numpy()

    def _targets(
        self, corners: np.ndarray, size: Size, valid: np.ndarray, least: int
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Target blocks, bool [B, T, H, W], and counts of fallbacks by name."""
        draw, enough, some = _first(_counts(valid, corners, size), least)
        cut = valid[:, None] | ~some[:, :, None, None]
        targets = _drawn(corners, draw, size, self.grid) & cut
        return targets, {
            "small_targets": int((some & ~enough).sum()),
            "outside_targets": int((~some).sum()),
        }

    def _context(
        self, corners: np.ndarray, size: Size, targets: np.ndarray, least: int
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Context blocks without targets, bool [B, H, W]: the official rule.

        An image whose draws all fail gives up taking out its last target, then the one before.
        """
        count = targets.shape[1]
        context = np.zeros_like(targets[:, 0])
        pending = np.arange(len(context))
        overlapping = 0
        for dropped in range(count + 1):
            allowed = ~np.any(targets[pending, : count - dropped], axis=1)
            if self.blocks.allow_overlap:
                allowed = np.ones_like(allowed)
            context[pending], enough, _ = self._one_context(
                corners[:, pending, dropped], size, allowed, least
            )
            pending = pending[~enough]
            if dropped == 0:
                overlapping = len(pending)
            if not len(pending):
                break
        return context, {"small_contexts": len(pending), "overlapping_contexts": overlapping}

    def _context_in_region(
        self, corners: np.ndarray, size: Size, targets: np.ndarray, valid: np.ndarray, least: int
    ) -> tuple[np.ndarray, dict[str, int]]:
        """Context blocks without targets and invalid patches, bool [B, H, W] (eq. 4).

        Where no draw leaves any patch, the block outside the targets; if those hold it whole,
        the block.
        """
        taken = np.any(targets, axis=1)
        if self.blocks.allow_overlap:
            taken = np.zeros_like(taken)
        context, enough, some = self._one_context(corners[:, :, 0], size, valid & ~taken, least)
        fallbacks = {"small_contexts": int((some & ~enough).sum())}
        outside = np.flatnonzero(~some)
        context[outside], _, some = self._one_context(
            corners[:, outside, 0], size, ~taken[outside], least
        )
        overlapping = outside[~some]
        context[overlapping], _, _ = self._one_context(
            corners[:, overlapping, 0], size, np.ones_like(taken[overlapping]), least
        )
        return context, fallbacks | {
            "outside_contexts": len(outside),
            "overlapping_contexts": len(overlapping),
        }

    def _one_context(
        self, corners: np.ndarray, size: Size, allowed: np.ndarray, least: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The drawn block cut to allowed patches, bool [B, H, W]; corners are [2, B, A].

        Also whether it keeps `least` of them, and whether any at all, bool [B].
        """
        corners = corners[:, :, None]
        draw, enough, some = _first(_counts(allowed, corners, size), least)
        block = _drawn(corners, draw, size, self.grid)[:, 0] & allowed
        return block, enough[:, 0], some[:, 0]


class RandomPatches:
    """MAE's masks: a share of the patches, drawn without pattern, is the one target block.

    Regions make no difference.

    Args:
        share: of the patches that are hidden.
        grid: H and W.
        seed: of the run.
    """

    def __init__(self, share: float, grid: Size, seed: int) -> None:
        self.patches = grid[0] * grid[1]
        self.visible = int(self.patches * (1 - share))
        self.seed = seed

    def sample(self, batch: int, step: int, part: int = 0, region: Tensor | None = None) -> Masks:
        """Masks of a batch; see `Sampler.sample`."""
        generator = torch.Generator().manual_seed(
            seed_for(self.seed, f"random patches, step {step}, part {part}")
        )
        draws = torch.rand(batch, self.patches, generator=generator, dtype=torch.float64)
        order = np.argsort(draws.numpy(), axis=1, kind="stable")
        visible, hidden = np.split(order, [self.visible], axis=1)
        return Masks(
            torch.from_numpy(np.sort(visible, axis=1)),
            torch.from_numpy(np.sort(hidden, axis=1)[:, None]),
        )


def _counts(allowed: np.ndarray, corners: np.ndarray, size: Size) -> np.ndarray:
    """Allowed patches in each drawn block: bool [B, H, W], int64 [2, B, T, A] -> int64 [B, T, A].

    By a table of sums over everything above and to the left, whatever the block's size.
    """
    batch, rows, columns = allowed.shape
    sums = np.zeros((batch, rows + 1, columns + 1), np.int64)
    sums[:, 1:, 1:] = allowed.cumsum(1).cumsum(2)
    flat, width = sums.reshape(-1), columns + 1
    top, left = corners
    start = np.arange(batch)[:, None, None] * (rows + 1) * width + top * width + left
    down, right = size[0] * width, size[1]
    inside: np.ndarray = (
        flat[start + down + right] - flat[start + down] - flat[start + right] + flat[start]
    )
    return inside


def _first(counts: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which draw to take: the first with `least` patches, else the first of those with most.

    Args:
        counts: [B, T, A].
        least: patches that are wanted.

    Returns:
        The draw's number, int64 [B, T]; whether it has `least`; whether it has any, bool [B, T].
    """
    enough = counts >= least
    # Any draw with enough beats all without; `argmax` gives the first of equals.
    draw = np.where(enough, np.iinfo(np.int64).max, counts).argmax(-1)
    return draw, np.any(enough, axis=-1), np.any(counts > 0, axis=-1)


def _drawn(corners: np.ndarray, draw: np.ndarray, size: Size, grid: Size) -> np.ndarray:
    """The chosen blocks, bool [B, T, H, W], from corners [2, B, T, A] and draws [B, T]."""
    starts = np.take_along_axis(corners, draw[None, ..., None], axis=-1)  # [2, B, T, 1]
    rows, columns = (
        (np.arange(places) >= start) & (np.arange(places) < start + extent)
        for start, extent, places in zip(starts, size, grid, strict=True)
    )
    blocks: np.ndarray = rows[..., None] & columns[..., None, :]
    return blocks


def _thinned(mask: np.ndarray, limit: int, ranks: np.ndarray) -> np.ndarray:
    """The `limit` patches of lowest rank of each image, or all where there are fewer, [B, H, W]."""
    flat = np.where(mask, ranks, np.inf).reshape(len(mask), -1)
    if limit >= flat.shape[1]:
        return mask
    bound = np.partition(flat, limit, axis=1)[:, limit].reshape(-1, 1, 1)
    thinned: np.ndarray = mask & (ranks < bound)
    return thinned


def _lists(mask: np.ndarray, pad: bool) -> tuple[Tensor, Tensor | None]:
    """Numbers of the True patches: bool [*, H, W] -> int64 [*, L], bool [*, L] or None.

    Args:
        mask: with at least one True in each grid.
        pad: shorter lists are filled up with their first number, marked False; else longer lists
            lose their last numbers, as the official collator has it.
    """
    shape = mask.shape[:-2]
    flat = mask.reshape(-1, mask.shape[-2] * mask.shape[-1])
    lengths = flat.sum(1)
    length = int(lengths.max() if pad else lengths.min())
    row, place = flat.nonzero()
    # `nonzero` goes row by row, so a number's rank in its row is its rank minus the row's start.
    rank = np.arange(len(row)) - (lengths.cumsum() - lengths)[row]
    kept = rank < length
    lists = flat.argmax(1)[:, None].repeat(length, axis=1)
    lists[row[kept], rank[kept]] = place[kept]
    index = torch.from_numpy(lists.reshape(*shape, length))
    real = np.arange(length) < lengths[:, None]
    return index, None if real.all() else torch.from_numpy(real.reshape(*shape, length))
