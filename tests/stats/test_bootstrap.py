"""Bootstrap over clusters and seeds against a plain loop, and what it must not do."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from ultrabench_eval import metrics
from ultrabench_eval.core import hashing
from ultrabench_eval.stats import bootstrap


def draws(count: int = 120, seeds: int = 3, right: float = 0.7, seed: int = 0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    wrong = (labels + generator.integers(1, 3, (seeds, count))) % 3
    return np.where(generator.random((seeds, count)) < right, labels, wrong), labels


def loop(predicted, labels, groups, resamples: int, purpose: str, model: int) -> list[float]:
    """Macro F1 by scikit-learn, image lists put together patient by patient."""
    names = sorted(set(groups))
    members = [np.flatnonzero(np.array(groups) == name) for name in names]
    of_groups = np.random.default_rng(hashing.seed_for(0, f"bootstrap/test groups/{purpose}"))
    of_seeds = np.random.default_rng(
        hashing.seed_for(0, f"bootstrap/seeds/{purpose}/model {model}")
    )
    heads = len(predicted)
    values = []
    for _ in range(resamples):
        rows = np.concatenate([members[g] for g in of_groups.integers(0, len(names), len(names))])
        times = of_seeds.multinomial(heads - 1, np.full(heads, 1 / heads))
        drawn = [p for p, n in zip(predicted, times, strict=True) for _ in range(n)]
        assert len(drawn) == heads - 1
        values.append(np.mean([f1_score(labels[rows], p[rows], average="macro") for p in drawn]))
    return values


def test_intervals_equal_a_loop_over_resampled_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 300)  # the loop is slow
    predicted, labels = draws(60)
    groups = [f"p{i // 4}" for i in range(60)]
    values = loop(predicted, labels, groups, 300, "", 0)
    low, high = bootstrap.intervals(predicted, labels, groups, 3)["macro_f1"]
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_models_share_the_patients_of_a_resample_but_not_the_seeds() -> None:
    first, labels = draws(60)
    second, _ = draws(60, seeds=2, seed=1)
    groups = [f"p{i // 4}" for i in range(60)]
    resampled = bootstrap.resample(
        [first, second, first], labels, groups, 3, purpose="aul", resamples=50
    )[metrics.MAIN]
    assert resampled.shape == (3, 50)
    for model, predicted in enumerate((first, second, first)):
        expected = loop(predicted, labels, groups, 50, "aul", model)
        assert resampled[model] == pytest.approx(expected)
    assert not np.allclose(resampled[0], resampled[2])
    one = bootstrap.resample([first[:1], first[:1]], labels, groups, 3, resamples=50)[metrics.MAIN]
    assert (one[0] == one[1]).all()


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, labels = draws(60)
    whole = bootstrap.resample([predicted], labels, None, 3, resamples=100)[metrics.MAIN]
    monkeypatch.setattr(bootstrap, "_BLOCK_BYTES", 7 * 8 * 60)  # 7 resamples at a time, and fewer
    assert (
        bootstrap.resample([predicted], labels, None, 3, resamples=100)[metrics.MAIN] == whole
    ).all()


def test_tasks_have_draws_of_their_own() -> None:
    predicted, labels = draws(60, seeds=1)
    aul, busbra = (
        bootstrap.resample([predicted], labels, None, 3, purpose=task, resamples=200)[metrics.MAIN]
        for task in ("aul", "busbra")
    )
    assert abs(np.corrcoef(aul, busbra)[0, 1]) < 0.3


def test_observed_scores_are_the_means_over_seeds() -> None:
    (first, labels), (second, _) = draws(60), draws(60, seeds=2, seed=1)
    observed = bootstrap.observe([first, second], labels, 3)
    expected = [
        np.mean([f1_score(labels, p, average="macro") for p in model]) for model in (first, second)
    ]
    assert observed == pytest.approx(expected)
    assert bootstrap.observe([first], labels, 3, "accuracy") == pytest.approx(
        (first == labels).mean()
    )


def test_the_interval_holds_the_value_and_narrows_with_more_images() -> None:
    widths = []
    for count in (60, 2000):
        predicted, labels = draws(count)
        low, high = bootstrap.intervals(predicted, labels, None, 3)["accuracy"]
        assert low < (predicted == labels).mean() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_the_variance_of_accuracy_is_that_of_images_and_of_seeds() -> None:
    # Each seed is right on the same images or not at all there: no part of both together.
    labels = np.zeros(400, np.int64)
    predicted = np.ones((4, 400), np.int64)
    for seed, right in enumerate((100, 140, 180, 220)):
        predicted[seed, :right] = 0
    accuracy = (predicted == labels).mean(1)
    of_seeds = accuracy.var(ddof=1) / 4
    of_images = (predicted == labels).mean(0).var() / 400
    resampled = bootstrap.resample([predicted], labels, None, 2, names=["accuracy"])["accuracy"][0]
    assert resampled.var() == pytest.approx(of_seeds + of_images, rel=0.1)
    assert resampled.mean() == pytest.approx(accuracy.mean(), abs=0.003)
    assert of_seeds > of_images  # or the test would not see seeds


def test_near_copies_of_a_patient_widen_the_interval() -> None:
    predicted, labels = draws(40, seeds=1)  # seeds would widen both
    many, truth = np.repeat(predicted, 10, axis=1), np.repeat(labels, 10)
    groups = [f"p{i // 10}" for i in range(400)]
    by_patient = bootstrap.intervals(many, truth, groups, 3)["accuracy"]
    by_image = bootstrap.intervals(many, truth, None, 3)["accuracy"]
    assert np.diff(by_patient) > 2 * np.diff(by_image)


def test_perfect_predictions_have_no_spread() -> None:
    labels = np.arange(30) % 3
    assert bootstrap.intervals(labels[None], labels, None, 3)["macro_f1"] == (1, 1)


def test_the_same_call_gives_the_same_interval() -> None:
    predicted, labels = draws()
    assert bootstrap.intervals(predicted, labels, None, 3) == bootstrap.intervals(
        predicted, labels, None, 3
    )
