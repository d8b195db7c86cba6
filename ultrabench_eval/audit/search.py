"""Exact search for perceptual hashes that are alike: every pair is looked at, none by an index.

Two images are compared as whole frames, as trimmed ones, and trimmed against inner (see
`signatures`), each with the second one as it is, mirrored and upside down: twelve comparisons of
64 bits. XOR and population count do one in a few nanoseconds (`benchmarks/audit.py` holds it
against ±1 vectors through BLAS), and memory is bounded by the tile and the pairs found.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from ultrabench_eval.audit.signatures import ORIENTATIONS

WHOLE, TRIMMED, INNER = range(3)
COMPARISONS = tuple(
    (a, b, orientation)
    for a, b in ((WHOLE, WHOLE), (TRIMMED, TRIMMED), (TRIMMED, INNER), (INNER, TRIMMED))
    for orientation in range(len(ORIENTATIONS))
)
"""View of the first image, view of the second, orientation of the second."""

ROWS, _COLUMNS, _THREADS = 512, 256, 2  # images a block; columns a tile, for the processor's cache


class Candidates(NamedTuple):
    """M pairs of images with like hashes."""

    first: np.ndarray
    """int64 [M]."""
    second: np.ndarray
    """int64 [M], each greater than `first`."""
    distance: np.ndarray
    """uint8 [M]: bits that differ, the least over the comparisons."""
    comparison: np.ndarray
    """uint8 [M]: the first of `COMPARISONS` that has this distance."""


def search(
    hashes: np.ndarray,
    radius: int,
    side: np.ndarray | None = None,
) -> Iterator[Candidates]:
    """All pairs i < j whose hashes differ in at most `radius` bits, block by block of i.

    Args:
        hashes: uint64 [N, 3, 3], by view and orientation.
        radius: 0 ... 64.
        side: bool [N]: only pairs of which at least one image is on this side; None for all.
    """
    by_view = np.ascontiguousarray(np.moveaxis(hashes, 0, -1))  # [3, 3, N]
    blocks = range(0, len(hashes), ROWS)
    with ThreadPoolExecutor(_THREADS) as pool:  # NumPy frees the interpreter in its loops
        yield from pool.map(lambda start: _block(by_view, start, radius, side), blocks)


def _block(hashes: np.ndarray, start: int, radius: int, side: np.ndarray | None) -> Candidates:
    parts = []
    rows = hashes[:, :, start : start + ROWS]
    for left in range(start, hashes.shape[-1], _COLUMNS):
        columns = hashes[:, :, left : left + _COLUMNS]
        least = _distances(rows, columns, 0)
        for comparison in range(1, len(COMPARISONS)):
            np.minimum(least, _distances(rows, columns, comparison), out=least)
        i, j = np.nonzero(least <= radius)
        keep = i + start < j + left
        if side is not None:
            keep &= side[i + start] | side[j + left]
        i, j = i[keep], j[keep]
        distance = least[i, j]
        which = _which(rows[:, :, i], columns[:, :, j], distance)
        parts.append((i + start, j + left, distance, which))
    return Candidates(*map(np.concatenate, zip(*parts, strict=True)))


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
