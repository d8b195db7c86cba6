"""Search for textures that are alike.

The descriptors of two images (`textures.descriptors`) are correlated in each of `COMPARISONS`, by
matrix products; memory is bounded by the tile and the pairs found. Up to `ALL_PAIRS` images every
pair is looked at (`block`), beyond them those near the same directions (`Index`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from tasks.near_duplicates.signatures import ORIENTATIONS, Signatures
from tasks.near_duplicates.textures import (
    BRIGHT,
    FREQUENCIES,
    INNER,
    LEFT,
    RIGHT,
    TRIMMED,
    WHOLE,
)

COMPARISONS = tuple(
    (a, b, orientation)
    for a, b, orientations in (
        (TRIMMED, TRIMMED, 8),
        (WHOLE, WHOLE, 8),
        (INNER, TRIMMED, 1),
        (TRIMMED, INNER, 1),
        (LEFT, TRIMMED, 1),
        (RIGHT, TRIMMED, 1),
        (BRIGHT, BRIGHT, 1),
    )
    for orientation in range(orientations)
)
"""View of the first image, view of the second, orientation of the second."""
_SECOND = [b for _, b, _ in COMPARISONS]

ROWS, _COLUMNS = 512, 1024  # images a block; columns a tile, for the processor's cache
ALL_PAIRS = 100_000  # images up to which every pair is looked at
RECALL = 0.999
"""At least this part of the changed copies that a search of all pairs finds, `Index` finds too: all
but 2 of 8,967 on four data sets, by `benchmarks/audit.py index`."""
_DIRECTIONS, _PROBED = 1024, 48
"""Of `Index`: how many directions there are, and how many an image is compared by. Of 2,248 pairs
of images and changed copies, 16 directions miss 1 in 200, 32 miss 1 in 560, 64 none."""


class Candidates(NamedTuple):
    """M pairs of images with like textures."""

    first: np.ndarray
    """int64 [M]."""
    second: np.ndarray
    """int64 [M]."""
    comparison: np.ndarray
    """uint8 [M]: the one of `COMPARISONS` in which they are most alike."""


Wanted = Callable[[np.ndarray, np.ndarray], np.ndarray]
Block = Callable[[int, float, np.ndarray | None], Candidates]


def not_all_pairs(signed: Signatures) -> list[str]:
    """What to tell of a search of these images, if not every pair is looked at: a sentence or none.

    Args:
        signed: signatures of N images; those of equal pixels are searched as one.
    """
    count = len(set(signed.pixels))
    if count <= ALL_PAIRS:
        return []
    return [
        f"{count:,} images are too many to compare all pairs, so an index was searched: it finds "
        f"at least {100 * RECALL:g} % of the copies that would be found otherwise"
    ]


def search(descriptors: np.ndarray, least: float, together: np.ndarray | None = None) -> Candidates:
    """All pairs i < j whose descriptors correlate enough in some comparison.

    Args:
        descriptors: float32 [N, 6, 64], by view.
        least: correlation.
        together: int64 [N]: pairs of equal number are left out; None for all pairs.
    """
    starts = range(0, len(descriptors), ROWS)
    return joined([block(descriptors, start, least, together) for start in starts])


def block(
    descriptors: np.ndarray, start: int, least: float, together: np.ndarray | None = None
) -> Candidates:
    """The pairs of `search` with i in the `ROWS` images from `start`."""
    rest = descriptors[start:]

    def wanted(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        keep = i < j
        if together is not None:
            keep &= together[start + i] != together[start + j]
        return keep

    found = _near(rest[:ROWS], rest, least, wanted)
    return found._replace(first=start + found.first, second=start + found.second)


def across(a: np.ndarray, b: np.ndarray, least: float, wanted: Wanted) -> Candidates:
    """All `wanted` pairs of an image i of `a` and j of `b` whose descriptors correlate enough.

    Args:
        a: float32 [N, 6, 64], by view.
        b: float32 [M, 6, 64].
        least: correlation.
        wanted: tells of positions i and j [K] which pairs are, bool [K].

    Returns:
        `first` in `a`, `second` in `b`.
    """

    def found(start: int) -> Candidates:
        pairs = _near(a[start : start + ROWS], b, least, lambda i, j: wanted(start + i, j))
        return pairs._replace(first=start + pairs.first)

    return joined([found(start) for start in range(0, len(a), ROWS)])


class Index:
    """N images by the directions in which their descriptors lie: looks at a twentieth of all pairs.

    A pair is looked at if, in some comparison, the direction that is nearest to the second image is
    among the `_PROBED` nearest ones of the first. Directions are drawn once and for all, so this
    depends on the two images alone. Memory: 12 numbers for each one of the descriptors.

    Args:
        descriptors: float32 [N, 6, 64], by view.
    """

    rows = 8192
    """Images a block."""

    def __init__(self, descriptors: np.ndarray) -> None:
        self._descriptors = descriptors
        self._views = [_Cells.of(descriptors[:, view]) for view in range(descriptors.shape[1])]

    def block(self, start: int, least: float, together: np.ndarray | None = None) -> Candidates:
        """As the function `block`, with i in the `rows` images from `start`."""
        count = len(self._descriptors)
        turned = _turned(self._descriptors[start : start + self.rows])
        keys = [np.empty(0, np.int64)]
        for queries, view in zip(turned, _SECOND, strict=True):
            for rows, members, vectors in self._views[view].near(queries, start):
                some = (queries[rows] @ vectors.T >= least - 1e-4).numpy()
                i, j = np.nonzero(some)
                keys.append(rows.numpy()[i] * count + members[j])
        i, j = np.divmod(np.unique(np.concatenate(keys)), count)
        keep = start + i < j
        if together is not None:
            keep &= together[start + i] != together[j]
        i, j = i[keep], j[keep]
        parts = []
        for at in range(0, len(i), ROWS):
            first, second = i[at : at + ROWS], j[at : at + ROWS]
            views = torch.from_numpy(self._descriptors[second]).transpose(0, 1)
            value, which = _most_alike(turned[:, first], views)
            keep = value >= least
            parts.append(Candidates(start + first[keep], second[keep], which[keep]))
        return joined(parts)


class _Cells(NamedTuple):
    """One view of N images, sorted by the direction that is nearest, then by position."""

    members: np.ndarray
    """int64 [N]: their positions."""
    starts: np.ndarray
    """int64 [directions + 1]: where the images of a direction begin."""
    vectors: torch.Tensor
    """[N, 64]: their descriptors."""

    @classmethod
    def of(cls, descriptors: np.ndarray) -> _Cells:
        """Sort N descriptors, float32 [N, 64]."""
        directions = _directions()
        cells = np.concatenate(
            [
                (torch.from_numpy(some) @ directions.T).argmax(1).numpy()
                for some in np.array_split(descriptors, len(descriptors) // Index.rows + 1)
            ]
        )
        members = np.argsort(cells, kind="stable")
        starts = np.searchsorted(cells[members], np.arange(len(directions) + 1))
        return cls(members, starts, torch.from_numpy(descriptors[members]))

    def near(
        self, queries: torch.Tensor, start: int
    ) -> Iterator[tuple[torch.Tensor, np.ndarray, torch.Tensor]]:
        """What is to be compared, a direction at a time, of images from `start` on.

        Args:
            queries: descriptors of the other images, [R, 64].
            start: the least position.

        Yields:
            Rows of `queries`, int64 [K]; positions, int64 [M], and descriptors, [M, 64], of the
            images that each of them is to be compared with.
        """
        probed = (queries @ _directions().T).topk(_PROBED, dim=1, sorted=False).indices
        cells, order = probed.flatten().sort(stable=True)
        bounds = torch.searchsorted(cells, torch.arange(len(self.starts))).tolist()
        for cell, (low, high) in enumerate(pairwise(bounds)):
            begin, end = self.starts[cell : cell + 2].tolist()
            begin += int(np.searchsorted(self.members[begin:end], start))
            if low < high and begin < end:
                rows = order[low:high] // _PROBED
                yield rows, self.members[begin:end], self.vectors[begin:end]


@cache
def _directions() -> torch.Tensor:
    """Drawn evenly, each of length 1, [directions, 64]; NumPy will never change this generator."""
    drawn = np.random.RandomState(0).standard_normal((_DIRECTIONS, FREQUENCIES**2))
    return torch.nn.functional.normalize(torch.from_numpy(drawn), dim=1).float()


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Several lists of pairs as one; there may be none."""
    none = Candidates(*(np.empty(0, kind) for kind in (np.int64, np.int64, np.uint8)))
    return Candidates(*map(np.concatenate, zip(none, *parts, strict=True)))


def _near(rows: np.ndarray, columns: np.ndarray, least: float, wanted: Wanted) -> Candidates:
    """The `wanted` pairs of [R, 6, 64] and [C, 6, 64] that correlate enough."""
    parts = []
    turned = _turned(rows)
    for left in range(0, len(columns), _COLUMNS):
        some = torch.from_numpy(columns[left : left + _COLUMNS]).transpose(0, 1).contiguous()
        best = turned[0] @ some[TRIMMED].T
        one = torch.empty_like(best)
        for row, view in zip(turned[1:], _SECOND[1:], strict=True):
            torch.maximum(best, torch.mm(row, some[view].T, out=one), out=best)
        # Less is asked here, so that the last digit of a product of many decides nothing.
        i, j = np.nonzero((best >= least - 1e-4).numpy())
        keep = wanted(i, left + j)
        i, j = i[keep], j[keep]
        value, which = _most_alike(turned[:, i], some[:, j])
        keep = value >= least
        parts.append(Candidates(i[keep], left + j[keep], which[keep]))
    return joined(parts)


def _turned(rows: np.ndarray) -> torch.Tensor:
    """Descriptors [R, 6, 64] of first images for each of `COMPARISONS`, [C, R, 64]."""
    return torch.stack([_oriented(rows[:, a], o) for a, _, o in COMPARISONS])


def _most_alike(turned: torch.Tensor, second: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Of M pairs the highest correlation, and the comparison that it is of: [M] each.

    Args:
        turned: of the first images, [C, M, 64].
        second: descriptors of the second ones by view, [6, M, 64].
    """
    each = (turned * second[_SECOND]).sum(2)
    value, which = (one.numpy() for one in each.max(0))
    return value, which.astype(np.uint8)


def _oriented(first: np.ndarray, orientation: int) -> torch.Tensor:
    """Descriptors [R, 64] of first images as they match a second one that is not turned back.

    A flipped texture has the opposite sign in the odd frequencies, a transposed one its axes
    swapped; the product with the second's is the same as if that were turned.
    """
    transposed, down, across = ORIENTATIONS[orientation][1:]
    images = torch.from_numpy(first).reshape(-1, FREQUENCIES, FREQUENCIES)
    signs = (-1.0) ** torch.arange(FREQUENCIES)
    if down:
        images = images * signs[:, None]
    if across:
        images = images * signs
    if transposed:
        images = images.transpose(1, 2)
    return images.flatten(1)
