"""Exact search for perceptual hashes that are alike: every pair is looked at, none by an index.

Two images are compared as whole frames, as trimmed ones, and trimmed against inner (see
`signatures`), each with the second one as it is, mirrored and upside down: twelve comparisons of
64 bits. XOR and population count do one in a few nanoseconds (`benchmarks/audit.py` holds it
against ±1 vectors through BLAS), and memory is bounded by the tile and the pairs found.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from tasks.near_duplicates.signatures import ORIENTATIONS

WHOLE, TRIMMED, INNER = range(3)
COMPARISONS = tuple(
    (a, b, orientation)
    for a, b in ((WHOLE, WHOLE), (TRIMMED, TRIMMED), (TRIMMED, INNER), (INNER, TRIMMED))
    for orientation in range(len(ORIENTATIONS))
)
"""View of the first image, view of the second, orientation of the second."""

ROWS, _COLUMNS = 512, 256  # images a block; columns a tile, for the processor's cache


class Candidates(NamedTuple):
    """M pairs of images with like hashes."""

    first: np.ndarray
    """int64 [M]."""
    second: np.ndarray
    """int64 [M]."""
    distance: np.ndarray
    """uint8 [M]: bits that differ, the least over the comparisons."""
    comparison: np.ndarray
    """uint8 [M]: the first of `COMPARISONS` that has this distance."""


Wanted = Callable[[np.ndarray, np.ndarray], np.ndarray]


def search(hashes: np.ndarray, radius: int, together: np.ndarray | None = None) -> Candidates:
    """All pairs i < j whose hashes differ in at most `radius` bits.

    Args:
        hashes: uint64 [N, 3, 3], by view and orientation.
        radius: 0 ... 64.
        together: int64 [N]: pairs of equal number are left out; None for all pairs.
    """
    blocks = [block(hashes, start, radius, together) for start in range(0, len(hashes), ROWS)]
    return joined(blocks)


def block(
    hashes: np.ndarray, start: int, radius: int, together: np.ndarray | None = None
) -> Candidates:
    """The pairs of `search` with i in the `ROWS` images from `start`."""
    rest = _by_view(hashes[start:])

    def wanted(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        keep = i < j
        if together is not None:
            keep &= together[start + i] != together[start + j]
        return keep

    found = _near(rest[:, :, :ROWS], rest, radius, wanted)
    return found._replace(first=start + found.first, second=start + found.second)


def across(a: np.ndarray, b: np.ndarray, radius: int, wanted: Wanted) -> Candidates:
    """All `wanted` pairs of an image i of `a` and j of `b` that differ in at most `radius` bits.

    Args:
        a: uint64 [N, 3, 3], by view and orientation.
        b: uint64 [M, 3, 3].
        radius: 0 ... 64.
        wanted: tells of positions i and j [K] which pairs are, bool [K].

    Returns:
        `first` in `a`, `second` in `b`.
    """
    columns = _by_view(b)

    def found(start: int) -> Candidates:
        rows = _by_view(a[start : start + ROWS])
        pairs = _near(rows, columns, radius, lambda i, j: wanted(start + i, j))
        return pairs._replace(first=start + pairs.first)

    return joined([found(start) for start in range(0, len(a), ROWS)])


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Several lists of pairs as one; there may be none."""
    none = Candidates(*(np.empty(0, kind) for kind in (np.int64, np.int64, np.uint8, np.uint8)))
    return Candidates(*map(np.concatenate, zip(none, *parts, strict=True)))


def _by_view(hashes: np.ndarray) -> np.ndarray:
    """[N, 3, 3] as [3, 3, N]."""
    return np.ascontiguousarray(np.moveaxis(hashes, 0, -1))


def _near(rows: np.ndarray, columns: np.ndarray, radius: int, wanted: Wanted) -> Candidates:
    """The `wanted` pairs of [3, 3, R] and [3, 3, C] that differ in at most `radius` bits."""
    parts = []
    for left in range(0, columns.shape[-1], _COLUMNS):
        some = columns[:, :, left : left + _COLUMNS]
        least = _distances(rows, some, 0)
        for comparison in range(1, len(COMPARISONS)):
            np.minimum(least, _distances(rows, some, comparison), out=least)
        i, j = np.nonzero(least <= radius)
        keep = wanted(i, left + j)
        i, j = i[keep], j[keep]
        distance = least[i, j]
        which = _which(rows[:, :, i], some[:, :, j], distance)
        parts.append(Candidates(i, left + j, distance, which))
    return joined(parts)


def _distances(rows: np.ndarray, columns: np.ndarray, comparison: int) -> np.ndarray:
    """Bits that differ, uint8 [R, C]."""
    a, b, orientation = COMPARISONS[comparison]
    return np.asarray(np.bitwise_count(rows[a, 0][:, None] ^ columns[b, orientation]))


def _which(a: np.ndarray, b: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The first comparison that has the given distance, uint8 [M]."""
    which = np.zeros(len(distance), np.uint8)
    for comparison in reversed(range(len(COMPARISONS))):
        view_a, view_b, orientation = COMPARISONS[comparison]
        bits = np.bitwise_count(a[view_a, 0] ^ b[view_b, orientation])
        which[bits == distance] = comparison
    return which
