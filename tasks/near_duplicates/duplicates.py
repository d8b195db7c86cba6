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

from tasks.near_duplicates import search, signatures
from tasks.near_duplicates.align import Comparer
from tasks.near_duplicates.search import COMPARISONS, Candidates
from tasks.near_duplicates.signatures import ORIENTATIONS, Signatures, SignatureStore, Signed
from tasks.samples.clips import still
from tasks.samples.images import Image

RADIUS = 14  # bits of 64 by which the hashes of a pair may differ to be looked at
SAME_SCENE = 0.8  # least correlation of a pair that is reported
NEAR_DUPLICATE = 0.9  # least correlation of one that is a copy rather than another frame
GRADES = ("identical", "near duplicate", "same scene")
_ROWS = 64  # images that are compared with a reference at a time

Advance = Callable[[int, int], None]


class DuplicatePair(NamedTuple):
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
    a: Sequence[Image], b: Sequence[Image] | None = None, store: SignatureStore | None = None
) -> list[DuplicatePair]:
    """Pairs that show the same, between two sequences of images or within one.

    Args:
        a: images; of videos, one frame is compared (`clips.still`).
        b: other images; None for the pairs within `a`.
        store: where signatures are kept (`signatures.store(cache)`); None to make them again.

    Returns:
        Pairs by position: `first` in `a`, `second` in `b` (or in `a`, if there is no `b`).

    Raises:
        UserError: an image cannot be read, or the store is damaged.
    """
    images = [*a, *(b or ())]
    if store is None:
        signed = [signatures.signature(still(image).read()) for image in images]
    else:
        signed = []
        for known in store.look(images):
            if not isinstance(known, Signed):
                raise known
            signed.append(known.signature)
    if b is None:
        return find(Signatures.of(signed))
    return Reference(Signatures.of(signed[len(a) :])).find(Signatures.of(signed[: len(a)]))


def find(
    signed: Signatures,
    *,
    together: np.ndarray | None = None,
    advance: Advance = lambda done, total: None,
) -> list[DuplicatePair]:
    """Pairs of N images that show the same, sorted by position; `first` < `second`.

    Images of equal pixels are compared with others once. The verdict on a pair depends on these
    two images alone, whatever their order and company.

    Args:
        signed: signatures of the N images.
        together: int64 [N]: two images of equal number (frames of one video) are expected to be
            alike and are a pair only if their pixels are equal; None to compare all.
        advance: called with the number of distinct images done and in all.
    """
    distinct, members = _contents(signed)
    numbers = np.arange(len(signed)) if together is None else together

    pairs = [
        DuplicatePair(i, j, GRADES[0], 0, 1.0, "")
        for images in members
        for k, i in enumerate(images)
        for j in images[k + 1 :]
    ]
    candidates, correlation = _compare(distinct, _together(numbers, members), advance)
    for i, j, distance, comparison, value in zip(
        *(column.tolist() for column in candidates), correlation.tolist(), strict=True
    ):
        verdict = _verdict(distance, comparison, value)
        pairs += [
            DuplicatePair(min(one, two), max(one, two), *verdict)
            for one in members[i]
            for two in members[j]
            if numbers[one] != numbers[two]
        ]
    return sorted(pairs)


class Reference:
    """N images with which any number of others are compared.

    What is needed of them is made once, and they are not compared with each other.

    Args:
        signed: signatures of the N images.
    """

    def __init__(self, signed: Signatures) -> None:
        self._distinct, self._members = _contents(signed)
        self._digests = np.array(self._distinct.pixels, dtype=str)
        with _threads():
            self._comparer = Comparer.of(self._distinct)

    def find(self, others: Signatures) -> list[DuplicatePair]:
        """Pairs of one of the others (`first`) and one of the N images (`second`), sorted.

        The verdicts are those of the function `find` on all of them together.
        """

        def work(start: int) -> list[DuplicatePair]:
            rows = np.arange(start, min(start + _ROWS, len(others)))
            return [p._replace(first=start + p.first) for p in self._block(others.take(rows))]

        with _threads() as pool:
            return sorted(
                p for found in pool.map(work, range(0, len(others), _ROWS)) for p in found
            )

    def _block(self, others: Signatures) -> list[DuplicatePair]:
        """The pairs of a few others."""
        digests = np.array(others.pixels, dtype=str)
        equal = np.searchsorted(self._digests, digests)
        after = np.searchsorted(self._digests, digests, "right")
        pairs = [
            DuplicatePair(one, two, GRADES[0], 0, 1.0, "")
            for one in np.flatnonzero(equal < after).tolist()
            for two in self._members[equal[one]]
        ]
        # As in the function `find`, the image whose digest is the smaller is the first of a pair.
        ours, theirs = self._distinct.hashes, others.hashes
        smaller = search.across(theirs, ours, RADIUS, lambda i, j: after[i] <= j)
        greater = search.across(ours, theirs, RADIUS, lambda i, j: i < equal[j])
        # Only those of the N images that are in a pair are handed on, with the others behind.
        used = np.unique(np.concatenate([smaller.second, greater.first]))
        comparer = self._comparer.take(used, Comparer.of(others))
        some = search.joined(
            [
                Candidates(
                    len(used) + smaller.first, np.searchsorted(used, smaller.second), *smaller[2:]
                ),
                Candidates(
                    np.searchsorted(used, greater.first), len(used) + greater.second, *greater[2:]
                ),
            ]
        )
        candidates, correlation = _like(comparer, some)
        for i, j, distance, comparison, value in zip(
            *(column.tolist() for column in candidates), correlation.tolist(), strict=True
        ):
            verdict = _verdict(distance, comparison, value)
            pairs += [
                DuplicatePair(max(i, j) - len(used), two, *verdict)
                for two in self._members[used[min(i, j)]]
            ]
        return pairs


def _contents(signed: Signatures) -> tuple[Signatures, list[list[int]]]:
    """Images of different pixels, in the order of their digests, and the positions of each."""
    digests, where = np.unique(np.array(signed.pixels, dtype=str), return_inverse=True)
    members: list[list[int]] = [[] for _ in digests]
    for image, content in enumerate(where.tolist()):
        members[content].append(image)
    return signed.take(np.array([images[0] for images in members], dtype=np.int64)), members


def _verdict(distance: int, comparison: int, value: float) -> tuple[str, int, float, str]:
    """What a pair says of two images of different pixels: grade, distance, correlation, flip."""
    grade = GRADES[1] if value >= NEAR_DUPLICATE else GRADES[2]
    return grade, distance, round(value, 4), ORIENTATIONS[COMPARISONS[comparison][2]]


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

    def work(start: int) -> tuple[Candidates, np.ndarray]:
        return _like(comparer, search.block(distinct.hashes, start, RADIUS, together))

    kept = []
    with _threads() as pool:
        comparer = Comparer.of(distinct)
        for result in pool.map(work, range(0, len(distinct), search.ROWS)):
            kept.append(result)
            advance(min(len(kept) * search.ROWS, len(distinct)), len(distinct))
    return search.joined([c for c, _ in kept]), np.concatenate([[], *(v for _, v in kept)])


def _like(comparer: Comparer, found: Candidates) -> tuple[Candidates, np.ndarray]:
    """Those of the pairs that show the same, and their correlation."""
    candidates = comparer.sift(found)
    correlation = comparer.correlations(candidates)
    like = correlation >= SAME_SCENE
    return Candidates(*(column[like] for column in candidates)), correlation[like]


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


def components(pairs: Sequence[DuplicatePair], count: int) -> np.ndarray:
    """Groups by content: int64 [N], equal for images that a chain of pairs connects.

    Args:
        pairs: of N images.
        count: N.
    """
    first, second = (np.array([pair[k] for pair in pairs], np.int64) for k in (0, 1))
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)
