"""The search is exact: it finds what a plain loop finds, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenes import scene

from tasks.near_duplicates import search
from tasks.near_duplicates.signatures import signature


def plain(hashes: np.ndarray, radius: int, together: np.ndarray | None) -> list[tuple[int, ...]]:
    numbers = hashes.tolist()
    found = []
    for i in range(len(numbers)):
        for j in range(i + 1, len(numbers)):
            if together is not None and together[i] == together[j]:
                continue
            distances = [
                (numbers[i][a][0] ^ numbers[j][b][o]).bit_count() for a, b, o in search.COMPARISONS
            ]
            if min(distances) <= radius:
                found.append((i, j, min(distances), distances.index(min(distances))))
    return found


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 40),
    radius=st.integers(0, 64),
    grouped=st.booleans(),
    rows=st.integers(1, 50),
    columns=st.integers(1, 50),
)
def test_search_equals_a_double_loop(
    seed: int, count: int, radius: int, grouped: bool, rows: int, columns: int
) -> None:
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 2**64, (count, 3, 3), dtype=np.uint64)
    for copy in range(1, count, 3):  # some that are near, in one view or the other
        a, b, orientation = search.COMPARISONS[generator.integers(len(search.COMPARISONS))]
        flips = np.uint64(int(generator.integers(0, 2**10)))
        hashes[copy, b, orientation] = hashes[copy - 1, a, 0] ^ flips
    together = generator.integers(0, 4, count) if grouped else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "ROWS", rows)
        patch.setattr(search, "_COLUMNS", columns)
        found = search.search(hashes, radius, together)
    got = sorted(zip(*(column.tolist() for column in found), strict=True))
    assert got == plain(hashes, radius, together)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 20), m=st.integers(0, 20))
def test_search_across_equals_a_double_loop(seed: int, n: int, m: int) -> None:
    generator = np.random.default_rng(seed)
    hashes = generator.integers(0, 2**64, (n + m, 3, 3), dtype=np.uint64)
    asked = generator.random((n, m)) < 0.7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "ROWS", 7)
        patch.setattr(search, "_COLUMNS", 6)
        found = search.across(hashes[:n], hashes[n:], 26, lambda i, j: asked[i, j])
    got = sorted(zip(*(column.tolist() for column in found), strict=True))
    everything = plain(hashes, 26, np.repeat([0, 1], [n, m]))
    assert got == [(i, j - n, *rest) for i, j, *rest in everything if asked[i, j - n]]


def test_kinds_of_numbers() -> None:
    none = search.search(np.empty((0, 3, 3), np.uint64), 14)
    some = search.search(np.zeros((2, 3, 3), np.uint64), 0)
    for found in (none, some):
        assert [column.dtype for column in found] == [np.int64, np.int64, np.uint8, np.uint8]
    assert len(some.first) == 1


def test_a_cropped_copy_is_met_in_the_inner_view() -> None:
    image = scene(0)[60:130, 60:140]  # no border to go by
    copy = np.ascontiguousarray(image[4:-4, 4:-4])
    for pair, comparison in (
        ((image, copy), (search.INNER, search.TRIMMED)),
        ((copy, image), (search.TRIMMED, search.INNER)),
    ):
        hashes = np.stack([signature(one).hashes for one in pair])
        apart = np.bitwise_count(hashes[0, search.TRIMMED, 0] ^ hashes[1, search.TRIMMED, 0])
        found = search.search(hashes, 6)
        assert found.distance.tolist() < [int(apart)]
        assert [search.COMPARISONS[c] for c in found.comparison] == [(*comparison, 0)]
