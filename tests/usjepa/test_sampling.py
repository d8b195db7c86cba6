"""Frames are drawn by eq. 6: sets by their capped size, frames uniformly within a set."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ultrabench_eval.core.errors import UserError
from usjepa.frames.sampling import CappedSampler


def test_frequencies_follow_the_capped_sizes() -> None:
    # One set above the cap of 50,000 and one below, as eq. 6 has it.
    large, small = np.arange(80_000), np.arange(80_000, 100_000)
    sampler = CappedSampler([large, small], 50_000, 1000, seed=0)
    assert sampler.epoch_frames == 70_000
    assert sampler.steps_per_epoch == 70
    np.testing.assert_allclose(sampler.probabilities, [5 / 7, 2 / 7])
    drawn = np.concatenate([sampler.numbers(step) for step in range(400)])
    share = (drawn < 80_000).mean()
    deviation = np.sqrt(5 / 7 * 2 / 7 / len(drawn))
    assert abs(share - 5 / 7) < 4 * deviation
    # Within the large set every tenth of the frames is as frequent as another.
    tenths = np.bincount(drawn[drawn < 80_000] // 8000, minlength=10)
    expected = tenths.sum() / 10
    assert ((tenths - expected) ** 2 / expected).sum() < 27.9  # chi-square, 9 degrees, p 0.001


@given(
    sizes=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    cap=st.integers(1, 40),
    seed=st.integers(0, 5),
    step=st.integers(0, 10**6),
)
def test_every_draw_is_a_frame_and_a_function_of_seed_and_step(
    sizes: list[int], cap: int, seed: int, step: int
) -> None:
    bounds = np.cumsum([0, *sizes])
    sets = [np.arange(*pair) for pair in itertools.pairwise(bounds)]
    counted = sum(min(size, cap) for size in sizes)
    if counted < 4:
        with pytest.raises(UserError, match="do not fill one batch of 4"):
            CappedSampler(sets, cap, 4, seed)
        return
    sampler = CappedSampler(sets, cap, 4, seed)
    assert sampler.steps_per_epoch == counted // 4
    drawn = sampler.numbers(step)
    assert drawn.shape == (4,)
    assert drawn.dtype == np.int64
    assert ((drawn >= 0) & (drawn < bounds[-1])).all()
    assert np.array_equal(drawn, CappedSampler(sets, cap, 4, seed).numbers(step))


def test_steps_and_seeds_differ() -> None:
    sets = [np.arange(1000)]
    first = CappedSampler(sets, 50_000, 100, seed=0)
    assert not np.array_equal(first.numbers(0), first.numbers(1))
    assert not np.array_equal(first.numbers(0), CappedSampler(sets, 50_000, 100, 1).numbers(0))
