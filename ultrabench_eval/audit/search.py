"""Exact search for perceptual hashes that are alike: every pair is looked at, none by an index.

Two images are compared as whole frames, as trimmed ones, and trimmed against inner (see
`signatures`), each with the second one as it is, mirrored and upside down: twelve comparisons of
64 bits. XOR and population count do one in a few nanoseconds (`benchmarks/audit.py` holds it
against ±1 vectors through BLAS), and memory is bounded by the tile and the pairs found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

ROWS, _COLUMNS, _THREADS = 512, 4096, 2  # images a block; columns a tile, for the processor's cache


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
    advance: Callable[[int], None] = lambda rows: None,
) -> Iterator[Candidates]:
    """All pairs i < j whose hashes differ in at most `radius` bits, block by block of i.

    Args:
        hashes: uint64 [N, 3, 3], by view and orientation.
        radius: 0 ... 64.
        side: bool [N]: only pairs of which at least one image is on this side; None for all.
        advance: called with the number of rows done.
    """
    blocks = range(0, len(hashes), ROWS)
    with ThreadPoolExecutor(_THREADS) as pool:  # NumPy frees the interpreter in its loops
        for start, found in zip(
            blocks, pool.map(lambda start: _block(hashes, start, radius, side), blocks), strict=True
        ):
            advance(min(start + ROWS, len(hashes)))
            yield found


def _block(hashes: np.ndarray, start: int, radius: int, side: np.ndarray | None) -> Candidates:
    parts = []
    rows = hashes[start : start + ROWS]
    for left in range(start, len(hashes), _COLUMNS):
        columns = hashes[left : left + _COLUMNS]
        least = _distances(rows, columns, 0)
        for comparison in range(1, len(COMPARISONS)):
            np.minimum(least, _distances(rows, columns, comparison), out=least)
        i, j = np.nonzero(least <= radius)
        keep = i + start < j + left
        if side is not None:
            keep &= side[i + start] | side[j + left]
        i, j = i[keep], j[keep]
        parts.append((i + start, j + left, least[i, j], _which(rows[i], columns[j], least[i, j])))
    return Candidates(*map(np.concatenate, zip(*parts, strict=True)))


def _distances(rows: np.ndarray, columns: np.ndarray, comparison: int) -> np.ndarray:
    """Bits that differ, uint8 [R, C]."""
    a, b, orientation = COMPARISONS[comparison]
    return np.bitwise_count(rows[:, None, a, 0] ^ columns[None, :, b, orientation])


def _which(a: np.ndarray, b: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The comparison that has the given distance, uint8 [M]."""
    which = np.zeros(len(a), np.uint8)
    for comparison in reversed(range(len(COMPARISONS))):
        view_a, view_b, orientation = COMPARISONS[comparison]
        bits = np.bitwise_count(a[:, view_a, 0] ^ b[:, view_b, orientation])
        which[bits == distance] = comparison
    return which
