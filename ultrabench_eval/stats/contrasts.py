"""How far scores are apart: the same probes on two test sets; two models under two protocols.

H is the number of seeds, G of clusters (patients, videos, or samples).

Two test sets that have no patient in common: seed h is one probe, which scores on both, so the
difference is taken seed by seed,

    d = mean over h of (score_h on the first - score_h on the second),

and what a seed does to both cancels. One test set: two models a and b under two protocols 1 and 2,

    d = (a1 - b1) - (a2 - b2),

is how much further a is ahead of b under the first; what a patient does to all four cancels.

The variance of d is the sum of what patients contribute (as in `intervals`: influence values by
stratum, of one test set those of the four together) and s^2 / H for the seeds, s^2 being the
variance over seeds. What depends on patient and seed together is in both parts, so the interval
errs on the wide side by that, as those of `intervals` do. It is d +- t sqrt(variance) with
Satterthwaite's degrees of freedom over these parts. How often it holds the truth in simulations:
tests/stats/test_contrasts.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ultrabench_eval.metrics import OfSums
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.influence import influence


@dataclass(frozen=True)
class Contrast:
    """A difference and its interval, in the metric's own unit."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Contrast:
        """In another unit; a factor below 0 reverses it."""
        return Contrast(factor * self.value, *sorted((factor * self.low, factor * self.high)))


@dataclass(frozen=True)
class Side:
    """The probes of one model on one test set."""

    scores: np.ndarray
    """Of the seeds, [H]."""
    moves: np.ndarray
    """Influence values of the clusters, means over seeds, [G]."""
    clusters: Clusters

    @classmethod
    def of(cls, statistics: Additive, clusters: Clusters, metric: OfSums) -> Side:
        """That of predictions."""
        parts = statistics.by_cluster(clusters)
        total = parts.sum(0)
        return cls(metric(total), influence(metric, total, parts).mean(-1), clusters)


def between_sets(first: Side, second: Side, level: float = 0.95) -> Contrast:
    """The first minus the second: the same H probes on two test sets without a common patient.

    Returns:
        The interval is all numbers where a test set has one patient only: nothing is then known of
        how patients differ.

    Raises:
        ValueError: the numbers of seeds differ.
    """
    if len(first.scores) != len(second.scores):
        one, other = len(first.scores), len(second.scores)
        raise ValueError(f"{one} seeds on one test set, {other} on the other")
    by_seed = first.scores - second.scores
    patients = [_of_patients(side.moves, side.clusters) for side in (first, second)]
    return _contrast(float(by_seed.mean()), [*patients, *_of_seeds(by_seed)], level)


def interaction(
    first: tuple[Side, Side], second: tuple[Side, Side], level: float = 0.95
) -> Contrast:
    """How much further the one model is ahead of the other under the first protocol.

    Args:
        first: the two models under the first protocol.
        second: the same two under the second, on the same test set.
        level: coverage.
    """
    signed = [(first[0], 1), (first[1], -1), (second[0], -1), (second[1], 1)]
    value = sum(sign * float(side.scores.mean()) for side, sign in signed)
    moves = np.sum([sign * side.moves for side, sign in signed], axis=0)
    seeds = [part for side, _ in signed for part in _of_seeds(side.scores)]
    return _contrast(value, [_of_patients(moves, first[0].clusters), *seeds], level)


_Part = tuple[np.ndarray, np.ndarray]
"""Variances and the degrees of freedom of each."""


def _of_patients(moves: np.ndarray, clusters: Clusters) -> _Part:
    """By stratum; infinite where there is one patient."""
    count, stratum = len(moves), clusters.stratum
    if count == 1:
        return np.array([np.inf]), np.ones(1)
    members = np.bincount(stratum)
    squares = np.bincount(stratum, np.square(moves)) * count / (count - 1)
    return squares[members > 0], np.maximum(members[members > 0] - 1, 1)


def _of_seeds(scores: np.ndarray) -> list[_Part]:
    """Of the mean over seeds; nothing where there is one."""
    count = len(scores)
    if count == 1:
        return []
    return [(np.array([scores.var(ddof=1) / count]), np.array([count - 1]))]


def _contrast(value: float, parts: Sequence[_Part], level: float) -> Contrast:
    each, spare = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
    variance = float(each.sum())
    if variance == 0 or np.isinf(variance):
        return Contrast(value, value - variance, value + variance)
    freedom = max(1.0, variance**2 / float((np.square(each) / spare).sum()))
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * variance**0.5
    return Contrast(value, value - half, value + half)
