"""The search is exact: it finds what a plain loop finds, and nothing else. The index misses few."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import scene

from tasks.near_duplicates import search
from tasks.near_duplicates.align import Comparer
from tasks.near_duplicates.signatures import ORIENTATIONS, Signatures, signature

LEAST = 0.4


def oriented(descriptor: np.ndarray, orientation: int) -> np.ndarray:
    """A second image's descriptor [64], turned as that orientation says."""
    _, transposed, down, across = ORIENTATIONS[orientation]
    image = descriptor.reshape(8, 8)
    image = image.T if transposed else image
    signs = (-1.0) ** np.arange(8)
    return (image * (signs[:, None] if down else 1) * (signs if across else 1)).reshape(-1)


def random(seed: int, count: int) -> np.ndarray:
    """Descriptors of which every third is like the one before it, in one view or the other."""
    generator = np.random.default_rng(seed)
    found = generator.normal(size=(count, 6, 64)).astype(np.float32)
    for copy in range(1, count, 3):
        a, b, orientation = search.COMPARISONS[generator.integers(len(search.COMPARISONS))]
        found[copy - 1, a] = oriented(found[copy, b], orientation)
        found[copy - 1, a] += generator.normal(size=64) * generator.uniform(0, 3)
    return found / np.linalg.norm(found, axis=2, keepdims=True)


def plain(descriptors: np.ndarray, together: np.ndarray | None) -> list[tuple[int, ...]]:
    found = []
    for i in range(len(descriptors)):
        for j in range(i + 1, len(descriptors)):
            if together is not None and together[i] == together[j]:
                continue
            values = [
                descriptors[i, a] @ oriented(descriptors[j, b], o) for a, b, o in search.COMPARISONS
            ]
            if max(values) >= LEAST:
                found.append((i, j, int(np.argmax(values))))
    return found


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 40),
    grouped=st.booleans(),
    rows=st.integers(1, 50),
    columns=st.integers(1, 50),
)
def test_search_equals_a_double_loop(
    seed: int, count: int, grouped: bool, rows: int, columns: int
) -> None:
    descriptors = random(seed, count)
    together = np.random.default_rng(seed).integers(0, 4, count) if grouped else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "ROWS", rows)
        patch.setattr(search, "_COLUMNS", columns)
        found = search.search(descriptors, LEAST, together)
    got = sorted(zip(*(column.tolist() for column in found), strict=True))
    assert got == plain(descriptors, together)


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 20), m=st.integers(0, 20))
def test_search_across_equals_a_double_loop(seed: int, n: int, m: int) -> None:
    descriptors = random(seed, n + m)
    asked = np.random.default_rng(seed).random((n, m)) < 0.7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "ROWS", 7)
        patch.setattr(search, "_COLUMNS", 6)
        found = search.across(descriptors[:n], descriptors[n:], LEAST, lambda i, j: asked[i, j])
    got = sorted(zip(*(column.tolist() for column in found), strict=True))
    everything = plain(descriptors, np.repeat([0, 1], [n, m]))
    assert got == [(i, j - n, which) for i, j, which in everything if asked[i, j - n]]


def by_index(descriptors: np.ndarray, together: np.ndarray | None) -> set[tuple[int, ...]]:
    index = search.Index(descriptors)
    starts = range(0, len(descriptors), index.rows)
    found = search.joined([index.block(start, LEAST, together) for start in starts])
    listed = list(zip(*(column.tolist() for column in found), strict=True))
    assert len(set(listed)) == len(listed)
    return set(listed)


@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), count=st.integers(0, 40), rows=st.integers(5, 50))
def test_the_index_finds_no_pair_that_is_none(seed: int, count: int, rows: int) -> None:
    descriptors = random(seed, count)
    together = np.random.default_rng(seed).integers(0, 4, count)
    expected = set(plain(descriptors, together))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search.Index, "rows", rows)
        assert by_index(descriptors, together) <= expected
        patch.setattr(search, "_PROBED", 1024)
        assert by_index(descriptors, together) == expected


def test_the_index_finds_nearly_all_that_are_much_alike() -> None:
    descriptors = random(3, 3000)
    exact = search.search(descriptors, 0.78)
    index = search.Index(descriptors)
    found = index.block(0, 0.78)
    assert len(exact.first) > 200
    assert len(found.first) >= 0.97 * len(exact.first)


def test_kinds_of_numbers() -> None:
    none = search.search(np.empty((0, 6, 64), np.float32), LEAST)
    some = search.search(np.full((2, 6, 64), 1 / 8, np.float32), LEAST)
    for found in (none, some):
        assert [column.dtype for column in found] == [np.int64, np.int64, np.uint8]
    assert len(some.first) == 1


@pytest.mark.parametrize("orientation", range(len(ORIENTATIONS)))
def test_a_turned_copy_is_met_in_its_orientation(orientation: int) -> None:
    image = scene(0)
    _, transposed, down, across = ORIENTATIONS[orientation]
    copy = image[:: -1 if down else 1, :: -1 if across else 1]
    copy = copy.transpose(1, 0, 2) if transposed else copy
    signed = Signatures.of([signature(np.ascontiguousarray(one)) for one in (image, copy)])
    found = search.search(Comparer.of(signed).descriptors, 0.98)
    assert [search.COMPARISONS[which][2] for which in found.comparison] == [orientation]


def test_a_cropped_copy_is_met_in_the_inner_view() -> None:
    image = scene(0)[60:130, 60:140]  # no border to go by
    copy = np.ascontiguousarray(image[4:-4, 4:-4])
    for pair, comparison in (
        ((image, copy), (search.INNER, search.TRIMMED)),
        ((copy, image), (search.TRIMMED, search.INNER)),
    ):
        signed = Signatures.of([signature(one) for one in pair])
        found = search.search(Comparer.of(signed).descriptors, 0.8)
        assert [search.COMPARISONS[c] for c in found.comparison] == [(*comparison, 0)]
