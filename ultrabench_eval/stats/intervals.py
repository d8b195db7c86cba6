"""Intervals of a score over test patients and seeds.

H is the number of seeds, N of images, G of clusters (patients, videos, or images), C of classes.

A score is uncertain because of which patients are in the test set and of which seeds its probes
were trained with. The variance of its mean over seeds is

    sum over classes k of v_k  +  s^2 / H

where s is the standard deviation over seeds, and v_k is G / (G - 1) times the sum of squared
influence values (`influence`) of the patients of class k. The interval is score +- t sqrt(variance)
within [0, 1], with Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2:110): v_k has as
many as it has patients, less one, s^2 has H - 1. So a class of four patients, or three seeds, widen
the interval as far as they should.

A variance that few patients show is too small where all of them happen to be right, or all wrong.
So the upper end counts, in each v_k, three tenths of an imagined patient that is wholly right, and
the lower end of one that is wholly wrong, as the pseudo-observations of Agresti & Coull 1998 (Am.
Stat. 52:119) do for a proportion. A class of which nothing is ever right has a recall of at most
1 - 0.025^(1 / patients) (Clopper & Pearson 1934, Biometrika 26:404), which bounds means over
classes. A class without test images may score anything between 0 and 1, and the interval says so.

s^2 holds a part that v_k holds as well, what depends on patient and seed together, and errs on the
wide side by that. What these choices give in simulations with a known truth, beside other methods,
is in docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from ultrabench_eval import metrics
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.influence import influence

VERSION = 2  # raised when the same predictions get another interval; 1 was a bootstrap
IMAGINED = 0.3
"""Of a patient: how much a class is given that is right, or wrong."""


def intervals(
    predicted: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str] | None,
    classes: int,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Intervals of the mean over seeds, for the metrics that are functions of sums.

    Args:
        predicted: class codes [H, N] of H seeds.
        labels: class codes [N].
        groups: N group names, or None for single images.
        classes: C.
        level: coverage.

    Returns:
        (low, high) in the metric's own unit, for each of `metrics.OF_SUMS`. With one cluster
        nothing is known of how patients differ, and the interval is (0, 1).
    """
    clusters = Clusters.of(groups, len(labels))
    parts = clusters.sums(predicted, labels, classes)
    total = parts.sum(0)
    held = clusters.holding(labels, classes)
    stratum, imagined = _strata(held), _imagined(total.mean(0), held.sum(0))
    found = {}
    for name, metric in metrics.OF_SUMS.items():
        scores = metric(total)
        moves = influence(metric, total, parts).mean(-1)  # [G]
        might = influence(metric, total, imagined[:, :, None]).mean(-1)  # [C, 2]
        above, below = (_half_width(scores, moves, side, stratum, level) for side in might.T)
        low, high = max(0.0, scores.mean() - below), min(1.0, scores.mean() + above)
        if name in metrics.OVER_CLASSES:
            low, high = _of_classes(low, high, total, held.sum(0), level, name)
        found[name] = (float(low), float(high))
    return found


def _half_width(
    scores: np.ndarray, moves: np.ndarray, might: np.ndarray, stratum: np.ndarray, level: float
) -> float:
    """How far one end of the interval is from the score.

    Args:
        scores: [H].
        moves: influence values of the clusters, [G].
        might: the same of each class's imagined cluster, [C].
        stratum: the class whose variance a cluster tells of, [G].
        level: coverage.
    """
    count, seeds = len(moves), len(scores)
    if count == 1:
        return 1.0
    members = np.bincount(stratum, minlength=len(might))
    present = members > 0
    squares = np.bincount(stratum, np.square(moves), minlength=len(might))
    by_class = ((squares + IMAGINED * np.square(might)) * count / (count - 1))[present]
    of_seeds = scores.var(ddof=1) / seeds if seeds > 1 else 0.0
    variance = by_class.sum() + of_seeds
    if variance == 0:
        return 0.0
    spare = np.maximum(members[present] - 1 + IMAGINED, 1)
    spread = (np.square(by_class) / spare).sum() + of_seeds**2 / max(seeds - 1, 1)
    degrees = max(1.0, variance**2 / spread)
    return float(stats.t.ppf((1 + level) / 2, degrees) * np.sqrt(variance))


def _strata(held: np.ndarray) -> np.ndarray:
    """Of each cluster its class, [G]; of one with several, that which the fewest clusters hold."""
    rank = np.argsort(np.argsort(held.sum(0), kind="stable"))
    return np.asarray(np.where(held, rank, held.shape[1]).argmin(1))


def _imagined(total: np.ndarray, holders: np.ndarray) -> np.ndarray:
    """Sums of two clusters of each class, one wholly right and one wholly wrong: [C, 2, 3, C].

    They are as large as the class's clusters are on average; the wrong one is called what the
    model calls images most, or what they are if it knows this class alone.

    Args:
        total: sums of the test set, means over seeds, [3, C].
        holders: how many clusters hold each class, [C].
    """
    classes = len(holders)
    size = total[1] / np.maximum(holders, 1)
    one = np.eye(classes)
    called, true = ((1 - one) * total[k] for k in (2, 1))
    others = np.where(called.sum(1, keepdims=True) > 0, called, true)
    others = others / np.maximum(others.sum(1, keepdims=True), 1e-300)
    right = np.stack([one, one, one], axis=1)
    wrong = np.stack([np.zeros_like(one), one, others], axis=1)
    return np.asarray(size[:, None, None, None] * np.stack([right, wrong], axis=1))


def _of_classes(
    low: float, high: float, total: np.ndarray, holders: np.ndarray, level: float, name: str
) -> tuple[float, float]:
    """Fit the interval of a mean over classes to what is known of single classes.

    Args:
        low: lower end.
        high: upper end.
        total: sums of the test set, [H, 3, C].
        holders: how many clusters hold each class, [C].
        level: coverage.
        name: of the metric.
    """
    classes, absent = len(holders), holders == 0
    # A class that is called but absent counts in the mean, as 0.
    counted = ((total[:, 1] + total[:, 2]) > 0).sum(-1).mean()
    if absent.any():
        low, high = low * counted / classes, (high * counted + absent.sum()) / classes
    never = (total[:, 0] == 0).all(0) & ~absent
    recall = 1 - ((1 - level) / 2) ** (1 / np.maximum(holders, 1))
    at_most = 2 * recall / (1 + recall) if name == "macro_f1" else recall
    return low, min(high, np.where(never, at_most, 1.0).mean())
