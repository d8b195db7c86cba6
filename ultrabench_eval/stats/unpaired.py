"""How far two scores of the same probes are apart on two test sets that have no patient in common.

H is the number of seeds. Seed h is one probe, which scores on both sets, so the difference is taken
seed by seed:

    d = mean over h of (score_h on the first - score_h on the second)

Its variance is the sum of what the patients of either set contribute (as in `intervals`: influence
values by stratum), and s^2 / H, where s is the standard deviation over seeds of the differences: a
part of the scatter over seeds that both scores share cancels. The interval is d +- t sqrt(variance)
with Satterthwaite's degrees of freedom over all these parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ultrabench_eval.metrics import OfSums
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.influence import influence


@dataclass(frozen=True)
class Apart:
    """The difference of two scores."""

    difference: float
    """The first minus the second, in the metric's own unit."""
    low: float
    high: float


def difference(
    first: tuple[Additive, Clusters],
    second: tuple[Additive, Clusters],
    metric: OfSums,
    level: float = 0.95,
) -> Apart:
    """The difference of the mean scores and its interval.

    Args:
        first: statistics [H, N, K] and what is drawn as one, of one test set.
        second: the same of the other one: the same H probes, other patients.
        metric: a function of sums.
        level: coverage.

    Returns:
        The interval is all numbers where a test set has one patient only: nothing is then known of
        how patients differ.

    Raises:
        ValueError: the numbers of seeds differ.
    """
    scores, variances, degrees = [], [], []
    for statistics, clusters in (first, second):
        parts = statistics.by_cluster(clusters)
        total = parts.sum(0)
        scores.append(metric(total))
        moves = influence(metric, total, parts).mean(-1)  # [G]
        stratum = clusters.stratum
        count, members = len(moves), np.bincount(stratum)
        if count == 1:
            variances.append(np.array([np.inf]))
            degrees.append(np.ones(1))
            continue
        squares = np.bincount(stratum, np.square(moves))
        present = members > 0
        variances.append((squares * count / (count - 1))[present])
        degrees.append(np.maximum(members[present] - 1, 1))
    if len(scores[0]) != len(scores[1]):
        raise ValueError(f"{len(scores[0])} seeds on one test set, {len(scores[1])} on the other")
    by_seed = scores[0] - scores[1]
    if len(by_seed) > 1:
        variances.append(np.array([by_seed.var(ddof=1) / len(by_seed)]))
        degrees.append(np.array([len(by_seed) - 1]))
    each, spare = np.concatenate(variances), np.concatenate(degrees)
    variance, mean = float(each.sum()), float(by_seed.mean())
    if variance == 0 or np.isinf(variance):
        return Apart(mean, mean - variance, mean + variance)
    freedom = max(1.0, variance**2 / float((np.square(each) / spare).sum()))
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * np.sqrt(variance)
    return Apart(mean, mean - half, mean + half)
