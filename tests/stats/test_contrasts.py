"""Intervals of differences between sets, and of differences: how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.contrasts import Side, between_sets, interaction
from ultrabench_eval.task_types import classification


def mean_of(values: np.ndarray) -> Side:
    """The mean of numbers [H, N], each a patient's."""
    both = np.stack([np.ones_like(values), values], axis=-1)
    clusters = Clusters.of(None, np.zeros(values.shape[1], np.int64))
    return Side.of(Additive.dense(both), clusters, mean)


def mean(sums: np.ndarray) -> np.ndarray:
    return np.asarray(sums[..., 1] / sums[..., 0])


def test_of_means_and_one_seed_it_is_welch() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.normal(3, 1, (1, 40)), generator.normal(2, 2, (1, 25))
    found = between_sets(mean_of(a), mean_of(b))
    welch = stats.ttest_ind(a[0], b[0], equal_var=False).confidence_interval()
    assert found.value == pytest.approx(a.mean() - b.mean())
    assert (found.low, found.high) == pytest.approx((welch.low, welch.high), rel=1e-6)


def test_what_all_seeds_share_cancels() -> None:
    generator = np.random.default_rng(1)
    shift = generator.normal(0, 5, (5, 1))  # a bad seed is bad on both sets
    a, b = generator.normal(3, 1, (1, 40)), generator.normal(3, 1, (1, 40))
    alone = between_sets(mean_of(a), mean_of(b))
    found = between_sets(mean_of(a + shift), mean_of(b + shift))
    assert found.high - found.low == pytest.approx(alone.high - alone.low, rel=1e-6)
    apart = between_sets(mean_of(a + shift), mean_of(b + shift[::-1]))
    assert apart.high - apart.low > 3 * (found.high - found.low)


def test_one_patient_shows_nothing_and_seeds_must_agree() -> None:
    one, many = mean_of(np.ones((2, 1))), mean_of(np.arange(8.0).reshape(2, 4))
    found = between_sets(one, many)
    assert (found.low, found.high) == (-np.inf, np.inf)
    with pytest.raises(ValueError, match="1 seeds on one test set, 2 on the other"):
        between_sets(mean_of(np.ones((1, 5))), many)


def test_it_holds_the_truth_as_often_as_it_says() -> None:
    """Macro F1 of five simulated probes, which share what a seed does to them."""
    generator = np.random.default_rng(2)

    def drawn(size: int, right: float, seeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels = (generator.random(size) < 0.35).astype(np.int64)
        logits = right + generator.normal(0, 1, size) + seeds[:, None]
        hit = generator.random(logits.shape) < 1 / (1 + np.exp(-logits))
        return labels, np.where(hit, labels, 1 - labels)

    def of(labels: np.ndarray, codes: np.ndarray) -> Side:
        clusters = Clusters.of(None, labels, 2)
        return Side.of(classification.statistics(codes, labels, 2), clusters, metric)

    metric = classification.MACRO_F1.of
    assert metric is not None
    seeds = generator.normal(0, 0.3, 40)
    large = [of(*drawn(20_000, right, seeds)).scores.mean() for right in (1.4, 0.7)]
    truth = large[0] - large[1]
    held = []
    for _ in range(150):
        seeds = generator.normal(0, 0.3, 5)
        found = between_sets(of(*drawn(120, 1.4, seeds)), of(*drawn(70, 0.7, seeds)))
        held.append(found.low <= truth <= found.high)
    assert 0.94 <= np.mean(held) <= 0.99  # on the wide side, see the module


def test_of_differences_what_patients_and_models_share_cancels() -> None:
    generator = np.random.default_rng(3)
    patients = generator.normal(0, 5, 60)  # a hard patient is hard for everyone

    def side(mean_: float) -> Side:
        return mean_of((mean_ + patients + generator.normal(0, 1, 60))[None])

    a1, b1, a2, b2 = side(5), side(3), side(4), side(4)
    found = interaction((a1, b1), (a2, b2))
    assert found.low < 2 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * 2 / 60**0.5, rel=0.3)
    values = [one.scores.mean() for one in (a1, b1, a2, b2)]
    assert found.value == pytest.approx(values[0] - values[1] - values[2] + values[3])
    turned = interaction((b1, a1), (b2, a2))
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_the_interval_of_differences_holds_the_truth_as_often_as_it_says() -> None:
    """Means of 50 patients and of 4 seeds that scatter, which is not the same under protocols."""
    generator = np.random.default_rng(4)
    held = []
    for _ in range(300):
        patients = generator.normal(0, 2, 50)
        a1, b1, a2, b2 = (
            mean_of(
                value
                + patients
                + generator.normal(0, 0.3, (4, 1))
                + generator.normal(0, 1, 50)
                + generator.normal(0, 1, (4, 50))
            )
            for value in (1.0, 0.0, 0.5, 0.0)
        )
        found = interaction((a1, b1), (a2, b2))
        held.append(found.low <= 0.5 <= found.high)
    assert 0.92 <= np.mean(held) <= 0.99
