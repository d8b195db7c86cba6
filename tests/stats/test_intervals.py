"""Intervals of scores: against closed forms, with a known truth, and where little is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import BY_NAME, draws, observe, scattering_seeds, statistics
from scipy import stats

from ultrabench_eval.stats import intervals as module
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.influence import influence
from ultrabench_eval.task_types.classification import confusion
from ultrabench_eval.task_types.classification import intervals_of as intervals


def sums(counts: np.ndarray) -> np.ndarray:
    """[3 C] of a confusion matrix [C, C]."""
    return np.concatenate([counts.diagonal(), counts.sum(1), counts.sum(0)])


def test_sums_are_those_of_the_confusion_matrix() -> None:
    predicted, labels = draws(60)
    clusters = Clusters.of([f"p{i // 4}" for i in range(60)], labels)
    (added,) = statistics([predicted], labels, 3)
    parts = added.by_cluster(clusters)
    columns = added.columns(clusters.member, clusters.count).toarray()
    assert (columns.T.reshape(parts.shape) == parts).all()
    for seed, codes in enumerate(predicted):
        whole = sums(confusion(codes, labels, 3))
        assert (parts.sum(0)[seed] == whole).all()
        assert (added.total()[seed] == whole).all()
        some = clusters.member == 5
        assert (parts[5, seed] == sums(confusion(codes[some], labels[some], 3))).all()


@pytest.mark.parametrize("name", BY_NAME)
def test_influence_is_what_a_little_more_of_a_patient_changes(name: str) -> None:
    predicted, labels = draws(30, seeds=1)
    (added,) = statistics([predicted], labels, 3)
    parts = added.by_cluster(Clusters.of(None, labels))[:, 0]
    metric = BY_NAME[name]
    found = influence(metric, parts.sum(0), parts)
    assert found.sum() == pytest.approx(0, abs=1e-6)  # scores do not depend on the number
    weights = np.ones(30)
    weights[7] += 0.01
    moved = metric(weights @ parts)
    assert (moved - metric(parts.sum(0))) / 0.01 == pytest.approx(found[7], rel=0.05)


def test_accuracy_without_imagined_patients_has_the_interval_of_a_mean(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "IMAGINED", 0.0)
    labels = np.zeros(50, np.int64)  # one class, so that one variance is estimated
    predicted = (np.arange(50) < 20).astype(np.int64)[None]
    low, high = intervals(predicted, labels, None, 2)["accuracy"]
    error = np.sqrt(0.4 * 0.6 / 49)
    half = stats.t.ppf(0.975, 49) * error
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half), abs=1e-6)


def test_seeds_that_scatter_widen_the_interval_by_their_variance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "IMAGINED", 0.0)
    predicted, labels, of_seeds = scattering_seeds()
    of_images = (predicted == labels).mean(0).var(ddof=1) / 400
    variance = of_seeds + of_images
    degrees = variance**2 / (of_seeds**2 / 3 + of_images**2 / 399)
    half = stats.t.ppf(0.975, degrees) * np.sqrt(variance)
    low, high = intervals(predicted, labels, None, 2)["accuracy"]
    assert (high - low) / 2 == pytest.approx(half, rel=1e-4)
    assert of_seeds > of_images  # or the test would not see seeds


def test_the_interval_holds_the_value_and_narrows_with_more_images() -> None:
    widths = []
    for count in (60, 2000):
        predicted, labels = draws(count)
        low, high = intervals(predicted, labels, None, 3)["accuracy"]
        assert low < (predicted == labels).mean() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_near_copies_of_a_patient_widen_the_interval() -> None:
    predicted, labels = draws(40, seeds=1)  # seeds would widen both
    many, truth = np.repeat(predicted, 10, axis=1), np.repeat(labels, 10)
    groups = [f"p{i // 10}" for i in range(400)]
    by_patient = intervals(many, truth, groups, 3)["accuracy"]
    by_image = intervals(many, truth, None, 3)["accuracy"]
    assert np.diff(by_patient) > 2 * np.diff(by_image)


def test_all_right_on_few_patients_is_no_certainty() -> None:
    widths = []
    for count in (6, 60, 600):
        labels = np.arange(count) % 3
        low, high = intervals(labels[None], labels, None, 3)["macro_f1"]
        assert high == 1
        widths.append(1 - low)
    assert widths[0] > 0.3
    assert widths[1] < widths[0] / 3
    assert 0 < widths[2] < 0.03


def test_a_probe_that_always_says_one_class_gains_nothing_by_it() -> None:
    labels = np.repeat([0, 1], [3, 29])
    low, high = intervals(np.ones((5, 32), np.int64), labels, None, 2)["macro_f1"]
    assert 0.4 < low < 0.475 < high
    recall = 1 - 0.025 ** (1 / 3)  # of three patients all wrong
    assert high == pytest.approx((1 + 2 * recall / (1 + recall)) / 2)
    more = np.repeat([0, 1], [30, 290])
    low, high = intervals(np.ones((5, 320), np.int64), more, None, 2)["macro_f1"]
    assert 0.46 < low < 0.475 < high < 0.55


def test_a_class_without_test_images_may_be_anything() -> None:
    predicted, labels = draws(90)
    low, high = intervals(predicted, labels, None, 3)["macro_f1"]
    wider = intervals(predicted, labels, None, 4)["macro_f1"]
    assert wider == pytest.approx((0.75 * low, 0.75 * high + 0.25))
    assert intervals(predicted, labels, None, 4)["accuracy"] == pytest.approx(
        intervals(predicted, labels, None, 3)["accuracy"]
    )


def test_of_one_patient_nothing_is_known() -> None:
    predicted, labels = draws(12)
    found = intervals(predicted, labels, ["p"] * 12, 3)
    assert set(found.values()) == {(0.0, 1.0)}


def test_the_same_call_gives_the_same_interval() -> None:
    predicted, labels = draws()
    assert intervals(predicted, labels, None, 3) == intervals(predicted, labels, None, 3)


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 30), st.integers(2, 4))
@settings(max_examples=60)
def test_an_interval_is_one(seed: int, seeds: int, count: int, classes: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, count)
    predicted = generator.integers(0, classes, (seeds, count))
    groups = [f"p{g}" for g in generator.integers(0, count, count)]
    for name, (low, high) in intervals(predicted, labels, groups, classes).items():
        value = observe([predicted], labels, classes, name)[0]
        assert 0 <= low <= high <= 1
        if len(set(labels.tolist())) == classes:  # an absent class moves both ends
            assert low - 1e-9 <= value <= high + 1e-9


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """60 patients of 4 images, of three classes of unlike size; five seeds that scatter."""
    generator = np.random.default_rng(0)
    held, truths = [], []
    for _ in range(800):
        labels = np.repeat(generator.choice(3, 60, p=[0.6, 0.3, 0.1]), 4)
        hard = np.repeat(generator.normal(size=60), 4) + generator.normal(size=240)
        scatter = 0.3 * generator.normal(size=(5, 1)) + 0.5 * generator.normal(size=(5, 240))
        wrong = (labels + generator.integers(1, 3, (5, 240))) % 3
        predicted = np.where(1 + hard + scatter > 0, labels, wrong)
        held.append(intervals(predicted, labels, [f"p{i // 4}" for i in range(240)], 3))
        truths.append((predicted == labels).mean())
    truth = np.mean(truths)
    coverage = np.mean([low <= truth <= high for low, high in (h["accuracy"] for h in held)])
    assert 0.93 < coverage < 0.975


@pytest.mark.parametrize("same", [False, True])
def test_the_interval_of_a_mean_over_tasks_holds_the_truth(same: bool) -> None:
    """Tasks of five patients each: on images of their own, and all on the same images."""
    noise, patients, tasks = np.random.default_rng(3), 5, 3
    drawn = noise.normal(size=(1500, 1 if same else tasks, patients)) * [[1.0], [2.0], [3.0]]
    means, half = drawn.mean(2), drawn.std(2, ddof=1) / np.sqrt(patients)
    half *= stats.t.ppf(0.975, patients - 1)
    named = ["one"] * tasks if same else ["a", "b", "c"]
    ends = [module.of_mean(m, m - h, m + h, named) for m, h in zip(means, half, strict=True)]
    assert 0.93 < np.mean([low <= 0 <= high for low, high in ends]) < 0.99
    alone = module.of_mean(means[0, :1], means[0, :1] - 1, means[0, :1] + 2, ["a"])
    assert alone == pytest.approx((means[0, 0] - 1, means[0, 0] + 2))
