"""Effective sample size: known designs, and the bootstrap it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import resample

from ultrabench_eval.stats import effective
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.effective import Effective


def effective_size(predicted, labels: np.ndarray, groups: list[str] | None) -> Effective:
    good = np.stack([(codes == labels).mean(0) for codes in predicted])
    return effective.effective_size(good, Clusters.of(groups, labels))


def draws(sizes: list[int], seeds: int = 2, models: int = 3, seed: int = 0):
    """Models that are right or wrong more by patient than by image."""
    generator = np.random.default_rng(seed)
    patient = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.zeros(len(patient), np.int64)
    ease = generator.normal(0.7, 1, (models, 1, len(sizes)))[..., patient]
    noise = generator.normal(0, 0.7, (models, seeds, len(patient)))
    return list((ease + noise < 0).astype(np.int64)), labels, [f"p{g}" for g in patient]


def test_copies_of_an_image_count_once() -> None:
    predicted, labels, _ = draws([1] * 200)
    copies = [np.repeat(p, 10, axis=1) for p in predicted]
    groups = [f"p{i // 10}" for i in range(2000)]
    found = effective_size(copies, np.repeat(labels, 10), groups)
    assert (found.images, found.clusters) == (2000, 200)
    assert found.size == pytest.approx(200, rel=0.01)


def test_without_groups_every_image_counts() -> None:
    predicted, labels, _ = draws([1] * 50)
    found = effective_size(predicted, labels, None)
    assert (found.images, found.clusters) == (50, 50)
    assert (found.design_effect, found.size) == pytest.approx((1, 50))


def test_groups_that_mean_nothing_hardly_count() -> None:
    predicted, labels, _ = draws([1] * 3000)
    found = effective_size(predicted, labels, [f"p{i % 1000}" for i in range(3000)])
    assert found.design_effect == pytest.approx(1, abs=0.08)


def test_the_design_effect_is_the_ratio_of_the_bootstraps_variances() -> None:
    sizes = [1, 2, 3, 5, 9] * 30
    predicted, labels, groups = draws(sizes, seeds=1, models=1)
    by_cluster, by_image = (
        resample(predicted, labels, g, 2, "accuracy").var() for g in (groups, None)
    )
    found = effective_size(predicted, labels, groups)
    assert found.design_effect == pytest.approx(by_cluster / by_image, rel=0.06)
    assert found.design_effect > 2


def test_models_are_pooled_by_their_variances() -> None:
    predicted, labels, groups = draws([4] * 20)
    right = [(p == labels).mean(0) for p in predicted]
    by_cluster = by_image = 0.0
    for r in right:
        e = r - r.mean()
        by_image += sum(v**2 for v in e) * 80 / 79
        by_cluster += sum(e[4 * g : 4 * g + 4].sum() ** 2 for g in range(20)) * 20 / 19
    found = effective_size(predicted, labels, groups)
    assert found.design_effect == pytest.approx(by_cluster / by_image)
    assert found.size == pytest.approx(80 * by_image / by_cluster)


def test_errors_that_balance_out_do_not_make_images() -> None:
    predicted = [np.tile([0, 1], 30)[None]]  # one right and one wrong image of each patient
    found = effective_size(predicted, np.zeros(60, np.int64), [f"p{i // 2}" for i in range(60)])
    assert found.design_effect == pytest.approx(0)
    assert found.size == 60


@pytest.mark.parametrize("codes", [[[0] * 7], [[1] * 7], [[0] * 7, [0] * 7, [1] * 7]])
def test_models_without_variance_tell_nothing(codes: list[list[int]]) -> None:
    found = effective_size([np.array(codes)], np.zeros(7, np.int64), list("aabbccc"))
    assert np.isnan(found.size)
    assert np.isnan(found.design_effect)


def test_one_cluster_tells_nothing() -> None:
    found = effective_size([np.array([[0, 1, 1]])], np.zeros(3, np.int64), list("aaa"))
    assert np.isnan(found.size)
    assert found.clusters == 1


@given(st.lists(st.integers(1, 6), min_size=2, max_size=12), st.integers(0, 1000))
def test_the_size_is_between_one_and_all_images(sizes: list[int], seed: int) -> None:
    predicted, labels, groups = draws(sizes, seed=seed)
    found = effective_size(predicted, labels, groups)
    assert np.isnan(found.size) or 1 <= found.size <= found.images
