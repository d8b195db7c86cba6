"""Intervals of a score over test patients and seeds.

H is the number of seeds, G of clusters (patients, videos, or samples), S of strata (classes, where
a task has any), K of statistics.

A score is uncertain because of which patients are in the test set and of which seeds its probes
were trained with. The variance of its mean over seeds is

    sum over classes k of v_k  +  s^2 / H

where s is the standard deviation over seeds, and v_k is G / (G - 1) times the sum of squared
influence values (`influence`) of the patients of class k. The interval is score +- t sqrt(variance)
within the metric's range, with Satterthwaite's degrees of freedom (1946, Biometrics Bulletin
2:110): v_k has as many as it has patients, less one, s^2 has H - 1. So a class of four patients, or
three seeds, widen the interval as far as they should. Without classes there is one v.

A variance that few patients show is too small where all of them happen to be right, or all wrong.
So the upper end counts, in each v_k, three tenths of an imagined patient that is wholly right, and
the lower end of one that is wholly wrong, as the pseudo-observations of Agresti & Coull 1998 (Am.
Stat. 52:119) do for a proportion.

s^2 holds a part that v_k holds as well, what depends on patient and seed together, and errs on the
wide side by that. What these choices give in simulations with a known truth, beside other methods,
is in docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from ultrabench_eval.metrics import Metric
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.influence import influence

VERSION = 2  # raised when the same predictions get another interval; 1 was a bootstrap
IMAGINED = 0.3
"""Of a patient: how much a class is given that is right, or wrong."""


def intervals(
    statistics: Additive,
    clusters: Clusters,
    metrics: Sequence[Metric],
    imagined: np.ndarray | None = None,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Intervals of the mean over seeds, for metrics that are functions of sums.

    Args:
        statistics: of the predictions.
        clusters: what is drawn as one.
        metrics: those to give an interval.
        imagined: statistics of two patients of each stratum, one wholly right and one wholly wrong,
            [S, 2, K]; None: without any.
        level: coverage.

    Returns:
        (low, high) in the metric's own unit, for each. With one cluster nothing is known of how
        patients differ, and the interval is all of the metric's range.
    """
    parts = statistics.by_cluster(clusters)
    total = parts.sum(0)
    stratum = clusters.stratum
    found = {}
    for metric in metrics:
        if metric.of is None:
            continue
        scores = metric.of(total)
        moves = influence(metric.of, total, parts).mean(-1)  # [G]
        might = np.zeros((clusters.held.shape[1], 2))
        if imagined is not None:
            might = influence(metric.of, total, imagined[:, :, None]).mean(-1)  # [S, 2]
        weight = 0.0 if imagined is None else IMAGINED
        above, below = (_half_width(scores, moves, m, weight, stratum, level) for m in might.T)
        low, high = scores.mean() - below, scores.mean() + above
        least, most = metric.within
        found[metric.name] = (float(max(least, low)), float(min(most, high)))
    return found


def of_influence(
    scores: np.ndarray,
    moves: np.ndarray,
    clusters: Clusters,
    within: tuple[float, float],
    level: float = 0.95,
) -> tuple[float, float]:
    """The interval of a metric that sums do not suffice for.

    Args:
        scores: of the seeds, [H].
        moves: influence values of the clusters, means over seeds, [G].
        clusters: what is drawn as one.
        within: the metric's range.
        level: coverage.
    """
    none = np.zeros(clusters.held.shape[1])
    half = _half_width(scores, moves, none, 0.0, clusters.stratum, level)
    mean = scores.mean()
    return float(max(within[0], mean - half)), float(min(within[1], mean + half))


def of_mean(
    scores: np.ndarray, low: np.ndarray, high: np.ndarray, sources: Sequence[str]
) -> tuple[float, float]:
    """The interval of a mean of scores, from their own intervals.

    Distances from score to end are added in squares, as for independent estimates (Zou & Donner
    2008, Stat. Med. 27:1693). Scores on the same images are not independent: of one source they
    are added as they are, which errs on the wide side.

    Args:
        scores: of T tasks, [T].
        low, high: ends of their intervals, [T].
        sources: what images a score is of, T names.
    """
    same = np.array([[a == b for b in dict.fromkeys(sources)] for a in sources])  # [T, sources]
    below, above = (
        np.sqrt(np.square((end[:, None] * same).sum(0)).sum()) / len(scores)
        for end in (scores - low, high - scores)
    )
    return float(scores.mean() - below), float(scores.mean() + above)


def _half_width(
    scores: np.ndarray,
    moves: np.ndarray,
    might: np.ndarray,
    weight: float,
    stratum: np.ndarray,
    level: float,
) -> float:
    """How far one end of the interval is from the score.

    Args:
        scores: [H].
        moves: influence values of the clusters, [G].
        might: the same of each stratum's imagined cluster, [S].
        weight: what part of a cluster that is.
        stratum: whose variance a cluster tells of, [G].
        level: coverage.
    """
    count, seeds = len(moves), len(scores)
    if count == 1:
        return np.inf
    members = np.bincount(stratum, minlength=len(might))
    present = members > 0
    squares = np.bincount(stratum, np.square(moves), minlength=len(might))
    by_stratum = ((squares + weight * np.square(might)) * count / (count - 1))[present]
    of_seeds = scores.var(ddof=1) / seeds if seeds > 1 else 0.0
    variance = by_stratum.sum() + of_seeds
    if variance == 0:
        return 0.0
    spare = np.maximum(members[present] - 1 + weight, 1)
    spread = (np.square(by_stratum) / spare).sum() + of_seeds**2 / max(seeds - 1, 1)
    degrees = max(1.0, variance**2 / spread)
    return float(stats.t.ppf((1 + level) / 2, degrees) * np.sqrt(variance))
