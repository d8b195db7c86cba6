"""Which images are the same picture: search, comparison, grades; and the groups they form.

The thresholds are measured ones: results/audit/README.md has precision and recall for each kind
of change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.images import Image
from ultrabench_eval.audit import search, signatures
from ultrabench_eval.audit.align import Comparer
from ultrabench_eval.audit.search import COMPARISONS, Candidates
from ultrabench_eval.audit.signatures import ORIENTATIONS, Known, Signatures, Store

RADIUS = 14  # bits of 64 by which the hashes of a pair may differ to be looked at
SAME_SCENE = 0.8  # least correlation of a pair that is reported
NEAR_DUPLICATE = 0.9  # least correlation of one that is a copy rather than another frame
GRADES = ("identical", "near duplicate", "same scene")

Advance = Callable[[int, int], None]


class Pair(NamedTuple):
    """Two images that show the same, by their positions."""

    first: int
    second: int
    grade: str
    """One of `GRADES`: equal pixels; a copy, however processed; a copy with much drawn over it or
    another frame of the same scene."""
    distance: int
    """Bits of 64 that differ between the perceptual hashes, in the views that agree best."""
    correlation: float
    """Of the texture, after fitting."""
    flip: str
    """How the second must be flipped to match the first: "", "horizontal" or "vertical"."""


def near_duplicates(
    a: Sequence[Image], b: Sequence[Image] | None = None, store: Store | None = None
) -> list[Pair]:
    """Pairs that show the same, between two sequences of images or within one.

    Args:
        a: images.
        b: other images; None for the pairs within `a`.
        store: where signatures are kept (`signatures.store(cache)`); None to make them anew.

    Returns:
        Pairs by position: `first` in `a`, `second` in `b` (or in `a`, if there is no `b`).

    Raises:
        UserError: an image cannot be read, or the store is damaged.
    """
    images = [*a, *(b or ())]
    if store is None:
        signed = [signatures.signature(image.read()) for image in images]
    else:
        signed = []
        for known in store.look(images):
            if not isinstance(known, Known):
                raise known
            signed.append(known.signature)
    if b is None:
        return find(Signatures.of(signed))
    side = np.repeat([0, 1], [len(a), len(b)])
    return [
        pair._replace(second=pair.second - len(a))
        for pair in find(Signatures.of(signed), together=side)
        if side[pair.first] != side[pair.second]
    ]


def find(
    signed: Signatures,
    *,
    together: np.ndarray | None = None,
    advance: Advance = lambda done, total: None,
) -> list[Pair]:
    """Pairs of N images that show the same, sorted by position; `first` < `second`.

    Images of equal pixels are compared with others once. The verdict on a pair depends on these
    two images alone, whatever their order and company.

    Args:
        signed: signatures of the N images.
        together: int64 [N]: two images of equal number (frames of one video) are expected to be
            alike and are a pair only if their pixels are equal; None to compare all.
        advance: called with the number of distinct images done and in all.
    """
    digests, where = np.unique(np.array(signed.pixels, dtype=str), return_inverse=True)
    members: list[list[int]] = [[] for _ in digests]
    for image, content in enumerate(where.tolist()):
        members[content].append(image)
    distinct = signed.take(np.array([images[0] for images in members], dtype=np.int64))
    numbers = np.arange(len(signed)) if together is None else together

    pairs = [
        Pair(i, j, GRADES[0], 0, 1.0, "")
        for images in members
        for k, i in enumerate(images)
        for j in images[k + 1 :]
    ]
    candidates, correlation = _compare(distinct, _together(numbers, members), advance)
    for i, j, distance, comparison, value in zip(
        *(column.tolist() for column in candidates), correlation.tolist(), strict=True
    ):
        grade = GRADES[1] if value >= NEAR_DUPLICATE else GRADES[2]
        flip = ORIENTATIONS[COMPARISONS[comparison][2]]
        pairs += [
            Pair(min(one, two), max(one, two), grade, distance, round(value, 4), flip)
            for one in members[i]
            for two in members[j]
            if numbers[one] != numbers[two]
        ]
    return sorted(pairs)


def _together(numbers: np.ndarray, members: list[list[int]]) -> np.ndarray:
    """The number of each content; one of its own (below 0) if its images have several."""
    found = [set(numbers[images].tolist()) for images in members]
    return np.array(
        [min(some) if len(some) == 1 else -1 - at for at, some in enumerate(found)], np.int64
    )


def _compare(
    distinct: Signatures, together: np.ndarray, advance: Advance
) -> tuple[Candidates, np.ndarray]:
    """Pairs of images with different pixels, and their correlation."""
    comparer = Comparer(distinct)

    def work(start: int) -> tuple[Candidates, np.ndarray]:
        found = search.block(distinct.hashes, start, RADIUS, together)
        candidates = comparer.sift(found)
        correlation = comparer.correlations(candidates)
        like = correlation >= SAME_SCENE
        return Candidates(*(column[like] for column in candidates)), correlation[like]

    kept = []
    with _threads() as pool:
        for result in pool.map(work, range(0, len(distinct), search.ROWS)):
            kept.append(result)
            advance(min(len(kept) * search.ROWS, len(distinct)), len(distinct))
    return search.joined([c for c, _ in kept]), np.concatenate([[], *(v for _, v in kept)])


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that each do a block, as many as torch has; its own would wait for each other."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool
    finally:
        torch.set_num_threads(count)


def components(pairs: Sequence[Pair], count: int) -> np.ndarray:
    """Groups by content: int64 [N], equal for images that a chain of pairs connects.

    Args:
        pairs: of N images.
        count: N.
    """
    first, second = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)
