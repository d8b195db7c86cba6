"""Exact search for textures that are alike: every pair is looked at, none by an index.

The descriptors of two images (`textures.descriptors`) are correlated in each of `COMPARISONS`, by
matrix products; memory is bounded by the tile and the pairs found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from tasks.near_duplicates.signatures import ORIENTATIONS
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

ROWS, _COLUMNS = 512, 1024  # images a block; columns a tile, for the processor's cache


class Candidates(NamedTuple):
    """M pairs of images with like textures."""

    first: np.ndarray
    """int64 [M]."""
    second: np.ndarray
    """int64 [M]."""
    comparison: np.ndarray
    """uint8 [M]: the one of `COMPARISONS` in which they are most alike."""


Wanted = Callable[[np.ndarray, np.ndarray], np.ndarray]


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


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Several lists of pairs as one; there may be none."""
    none = Candidates(*(np.empty(0, kind) for kind in (np.int64, np.int64, np.uint8)))
    return Candidates(*map(np.concatenate, zip(none, *parts, strict=True)))


def _near(rows: np.ndarray, columns: np.ndarray, least: float, wanted: Wanted) -> Candidates:
    """The `wanted` pairs of [R, 6, 64] and [C, 6, 64] that correlate enough."""
    parts = []
    turned = torch.stack([_oriented(rows[:, a], o) for a, _, o in COMPARISONS])
    views = [b for _, b, _ in COMPARISONS]
    for left in range(0, len(columns), _COLUMNS):
        some = torch.from_numpy(columns[left : left + _COLUMNS]).transpose(0, 1).contiguous()
        best = turned[0] @ some[TRIMMED].T
        one = torch.empty_like(best)
        for row, view in zip(turned[1:], views[1:], strict=True):
            torch.maximum(best, torch.mm(row, some[view].T, out=one), out=best)
        # Less is asked here, so that the last digit of a product of many decides nothing.
        i, j = np.nonzero((best >= least - 1e-4).numpy())
        keep = wanted(i, left + j)
        i, j = i[keep], j[keep]
        each = (turned[:, i] * some[:, j][views]).sum(2)
        value, which = (one.numpy() for one in each.max(0))
        keep = value >= least
        parts.append(Candidates(i[keep], left + j[keep], which[keep].astype(np.uint8)))
    return joined(parts)


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
