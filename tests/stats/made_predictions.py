"""Predictions that several tests of statistics are made on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ultrabench_eval.metrics import Metric, OfSums
from ultrabench_eval.stats import bootstrap
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.permutation import Contest
from ultrabench_eval.task_types import classification

BY_NAME: dict[str, OfSums] = {m.name: m.of for m in classification.METRICS if m.of is not None}
MACRO_F1: Metric = classification.MACRO_F1


def draws(
    count: int = 120, seeds: int = 3, right: float = 0.7, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Class codes [seeds, count] of three classes, right in about a part, and labels [count]."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    wrong = (labels + generator.integers(1, 3, (seeds, count))) % 3
    return np.where(generator.random((seeds, count)) < right, labels, wrong), labels


def scattering_seeds() -> tuple[np.ndarray, np.ndarray, float]:
    """Class codes [4, 400], labels [400] of one class, and the variance of accuracy by seeds.

    Each seed is right on the same images or not at all there: no part of both together.
    """
    labels = np.zeros(400, np.int64)
    predicted = np.ones((4, 400), np.int64)
    for seed, right in enumerate((100, 140, 180, 220)):
        predicted[seed, :right] = 0
    return predicted, labels, float((predicted == labels).mean(1).var(ddof=1) / 4)


# ---- statistics of class codes ------------------------------------------------------------------


def statistics(predicted: Sequence[np.ndarray], labels: np.ndarray, classes: int) -> list[Additive]:
    return [classification.statistics(codes, labels, classes) for codes in predicted]


def resample(
    predicted: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str] | None,
    classes: int,
    name: str = "macro_f1",
    **options: Any,
) -> np.ndarray:
    clusters = Clusters.of(groups, labels, classes)
    added = statistics(predicted, labels, classes)
    return bootstrap.resample(added, clusters, {name: BY_NAME[name]}, **options)[name]


def observe(
    predicted: Sequence[np.ndarray], labels: np.ndarray, classes: int, name: str = "macro_f1"
) -> np.ndarray:
    return bootstrap.observe(statistics(predicted, labels, classes), BY_NAME[name])


def contest(
    predicted: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str] | None,
    classes: int = 3,
    purpose: str = "task",
) -> Contest:
    clusters = Clusters.of(groups, labels, classes)
    return Contest.of(
        statistics(predicted, labels, classes), clusters, BY_NAME["macro_f1"], purpose
    )
