"""The interval of a difference between two test sets: where it is known, and how often it holds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.unpaired import difference
from ultrabench_eval.task_types import classification


def mean_of(values: np.ndarray) -> tuple[Additive, Clusters]:
    """Statistics (1, value) of numbers [H, N], each a patient's."""
    both = np.stack([np.ones_like(values), values], axis=-1)
    return Additive.dense(both), Clusters.of(None, np.zeros(values.shape[1], np.int64))


def mean(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 1] / sums[..., 0])


def test_of_means_and_one_seed_it_is_welch() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(3, 1, (1, 40)), generator.normal(2, 2, (1, 25))
    found = difference(mean_of(a), mean_of(b), mean)
    welch = stats.ttest_ind(a[0], b[0], equal_var=False).confidence_interval()
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high), rel=1e-6)


def test_what_all_seeds_share_cancels() -> None:
    generator = np.random.default_rng(1)
    shift = generator.normal(0, 5, (5, 1))  # a bad seed is bad on both sets
    a, b = generator.normal(3, 1, (1, 40)), generator.normal(3, 1, (1, 40))
    alone = difference(mean_of(a), mean_of(b), mean)
    found = difference(mean_of(a + shift), mean_of(b + shift), mean)
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=1e-6)
    apart = difference(mean_of(a + shift), mean_of(b + shift[::-1]), mean)
    assert apart.high - apart.low > 3 * (found.high - found.low)


def test_one_patient_shows_nothing_and_seeds_must_agree() -> None:
    one, many = mean_of(np.ones((2, 1))), mean_of(np.arange(8.0).reshape(2, 4))
    found = difference(one, many, mean)
    assert (found.low, found.high) == (-np.inf, np.inf)
    with pytest.raises(ValueError, match="1 seeds on one test set, 2 on the other"):
        difference(mean_of(np.ones((1, 5))), many, mean)


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    """Macro F1 of five simulated probes, which share what a seed does to them."""
    generator = np.random.default_rng(2)

    def drawn(size: int, right: float, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = (generator.random(size) < 0.35).astype(np.int64)
        logits = right + generator.normal(0, 1, size) + seeds[:, None]
        hit = generator.random(logits.shape) < 1 / (1 + np.exp(-logits))
        return labels, np.where(hit, labels, 1 - labels)

    def of(labels: np.ndarray, codes: np.ndarray) -> tuple[Additive, Clusters]:
        return classification.statistics(codes, labels, 2), Clusters.of(None, labels, 2)

    metric = classification.MACRO_F1.of
    assert metric is not None
    seeds = generator.normal(0, 0.3, 40)
    large = (of(*drawn(20_000, right, seeds))[0].total() for right in (1.4, 0.7))
    truth = float(np.subtract(*(metric(one).mean() for one in large)))
    held = []
    for _ in range(200):
        seeds = generator.normal(0, 0.3, 5)
        found = difference(of(*drawn(120, 1.4, seeds)), of(*drawn(70, 0.7, seeds)), metric)
        held.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(held) <= 1  # it errs on the wide side, see `intervals`
