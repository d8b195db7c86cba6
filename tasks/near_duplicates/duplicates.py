"""Which images are the same picture: search, comparison, grades; and the groups they form.

The thresholds are measured ones: results/audit/README.md has precision and recall for each kind
of change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
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

LIKE = 0.78  # least correlation of two descriptors of a pair that is looked at
SAME_SCENE = 0.925  # least correlation of a pair that is reported
NEAR_DUPLICATE = 0.94  # least correlation of one that is a copy rather than another frame
GRADES = ("identical", "near duplicate", "same scene")
_ROWS = 64  # images that are compared with a reference at a time


Advance = Callable[[int, int], None]
_BACK = {"turned 90": "turned 270", "turned 270": "turned 90"}  # others undo themselves
_Verdict = tuple[str, int, float, str]
_Like = tuple[int, int, _Verdict]


class DuplicatePair(NamedTuple):
    """Two images that show the same, by their positions."""

    first: int
    second: int
    grade: str
    """One of `GRADES`: equal pixels; a copy, however processed; a copy with much drawn over it or
    another frame of the same scene."""
    distance: int
    """Bits of 64 that differ between the perceptual hashes of the images without their borders."""
    correlation: float
    """Of the texture, after fitting."""
    flip: str
    """How the second must be flipped or turned to match the first, one of
    `signatures.ORIENTATIONS`: "", "horizontal", "turned 90" (counterclockwise) ..."""


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
    two images alone, whatever their order and company. Of more than `search.ALL_PAIRS` different
    images not all pairs are looked at: `search.RECALL` says how many are.

    Args:
        signed: signatures of the N images.
        together: int64 [N]: two images of equal number (frames of one video) are expected to be
            alike and are a pair only if their pixels are equal; None to compare all.
        advance: called with the number of distinct images done and in all.
    """
    numbers = np.arange(len(signed)) if together is None else together
    distinct, members = _contents(signed)
    del signed  # some gigabytes, of a million images

    pairs = [
        DuplicatePair(i, j, GRADES[0], 0, 1.0, "")
        for images in members
        for k, i in enumerate(images)
        for j in images[k + 1 :]
    ]
    for i, j, verdict in _compare(distinct, _together(numbers, members), advance):
        pairs += [
            _pair(one, two, verdict) if one < two else _pair(two, one, verdict, turn_back=True)
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
        ours, theirs = self._comparer.descriptors, Comparer.of(others)
        smaller = search.across(theirs.descriptors, ours, LIKE, lambda i, j: after[i] <= j)
        greater = search.across(ours, theirs.descriptors, LIKE, lambda i, j: i < equal[j])
        # Only those of the N images that are in a pair are handed on, with the others behind.
        used = np.unique(np.concatenate([smaller.second, greater.first]))
        comparer = self._comparer.take(used, theirs)
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
        for i, j, verdict in _like(comparer, some):
            pairs += [
                _pair(max(i, j) - len(used), two, verdict, turn_back=i < j)
                for two in self._members[used[min(i, j)]]
            ]
        return pairs


def _pair(first: int, second: int, verdict: _Verdict, turn_back: bool = False) -> DuplicatePair:
    """A pair with its verdict, or with that on the second and the first."""
    grade, distance, value, flip = verdict
    if turn_back and flip in _BACK:
        flip = _BACK[flip]
    return DuplicatePair(first, second, grade, distance, value, flip)


def _contents(signed: Signatures) -> tuple[Signatures, list[list[int]]]:
    """Images of different pixels, in the order of their digests, and the positions of each."""
    digests, where = np.unique(np.array(signed.pixels, dtype=str), return_inverse=True)
    members: list[list[int]] = [[] for _ in digests]
    for image, content in enumerate(where.tolist()):
        members[content].append(image)
    return signed.take(np.array([images[0] for images in members], dtype=np.int64)), members


def _together(numbers: np.ndarray, members: list[list[int]]) -> np.ndarray:
    """The number of each content; one of its own (below 0) if its images have several."""
    found = [set(numbers[images].tolist()) for images in members]
    return np.array(
        [min(some) if len(some) == 1 else -1 - at for at, some in enumerate(found)], np.int64
    )


def _compare(distinct: Signatures, together: np.ndarray, advance: Advance) -> list[_Like]:
    """Pairs of images with different pixels, as `_like` gives them."""
    kept = []
    with _threads() as pool:
        comparer = Comparer.of(distinct)
        block: search.Block = partial(search.block, comparer.descriptors)
        rows = search.ROWS
        if len(distinct) > search.ALL_PAIRS:
            index = search.Index(comparer.descriptors)
            block, rows = index.block, index.rows

        def work(start: int) -> list[_Like]:
            return _like(comparer, block(start, LIKE, together))

        for done, result in enumerate(pool.map(work, range(0, len(distinct), rows)), 1):
            kept += result
            advance(min(done * rows, len(distinct)), len(distinct))
    return kept


def _like(comparer: Comparer, candidates: Candidates) -> list[_Like]:
    """Those of the pairs that show the same: first, second; grade, distance, correlation, flip."""
    correlation = comparer.correlations(candidates)
    like = correlation >= SAME_SCENE
    candidates = Candidates(*(column[like] for column in candidates))
    correlation, distance = correlation[like], comparer.distances(candidates)
    grades = [GRADES[1 if value >= NEAR_DUPLICATE else 2] for value in correlation]
    flips = [ORIENTATIONS[COMPARISONS[which][2]][0] for which in candidates.comparison]
    values = (round(value, 4) for value in correlation.tolist())
    verdicts = zip(grades, distance.tolist(), values, flips, strict=True)
    return list(zip(candidates.first.tolist(), candidates.second.tolist(), verdicts, strict=True))


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
