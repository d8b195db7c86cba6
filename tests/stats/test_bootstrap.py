"""Cluster bootstrap against a plain loop, and what it must not do."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from ultrabench_eval.core import hashing
from ultrabench_eval.stats import bootstrap


def draws(count: int = 120, seeds: int = 3, right: float = 0.7, seed: int = 0):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    wrong = (labels + generator.integers(1, 3, (seeds, count))) % 3
    return np.where(generator.random((seeds, count)) < right, labels, wrong), labels


def test_intervals_equal_a_loop_over_resampled_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "RESAMPLES", 400)  # the loop is slow
    predicted, labels = draws(60)
    groups = [f"p{i // 4}" for i in range(60)]
    names = sorted(set(groups))
    members = [np.flatnonzero(np.array(groups) == name) for name in names]
    generator = np.random.default_rng(hashing.seed_for(0, "bootstrap/test groups"))
    values = []
    for _ in range(bootstrap.RESAMPLES // 200):
        for times in generator.multinomial(len(names), np.full(len(names), 1 / len(names)), 200):
            rows = np.concatenate([np.tile(members[g], n) for g, n in enumerate(times)])
            values.append(
                np.mean([f1_score(labels[rows], p[rows], average="macro") for p in predicted])
            )
    low, high = bootstrap.intervals(predicted, labels, groups, 3)["macro_f1"]
    assert (low, high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


def test_the_interval_holds_the_value_and_narrows_with_more_images() -> None:
    widths = []
    for count in (60, 2000):
        predicted, labels = draws(count)
        low, high = bootstrap.intervals(predicted, labels, None, 3)["accuracy"]
        assert low < (predicted == labels).mean() < high
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_near_copies_of_a_patient_widen_the_interval() -> None:
    predicted, labels = draws(40)
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
