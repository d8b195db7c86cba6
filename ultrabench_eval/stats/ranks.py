"""Models over several tasks: ranks, what they can tell apart, and how sure the first place is.

M is the number of models, T of tasks, R of resamples. Scores: more is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ultrabench_eval.stats import bootstrap


@dataclass(frozen=True)
class Friedman:
    """Do the models differ at all? By their ranks on T tasks."""

    chi_square: float
    p: float
    """Of `chi_square` with M - 1 degrees of freedom; too large where M and T are small."""
    f: float
    """Iman & Davenport's F with M - 1 and (M - 1) (T - 1) degrees of freedom."""
    p_f: float


@dataclass(frozen=True)
class First:
    """How sure the first place is, and the ranks, over R resamples."""

    on_task: np.ndarray
    """[M, T]: the share of resamples in which a model has the best score; columns sum to 1."""
    by_mean_rank: np.ndarray
    """[M]: the same for the lowest mean rank over tasks; sums to 1."""
    by_mean_score: np.ndarray
    """[M]: the same for the highest mean score over tasks; sums to 1."""
    rank_low: np.ndarray
    """[M]: percentile interval of the mean rank over tasks."""
    rank_high: np.ndarray


@dataclass(frozen=True)
class RankAgreement:
    """Kendall's tau-b of two rankings of the same models, with a percentile interval."""

    tau: float
    low: float
    high: float


def ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks of the models on each task; [M, T, ...] -> same shape, 1 is best, ties averaged.

    Raises:
        ValueError: a score is NaN: a mean rank over different tasks would compare nothing.
    """
    if np.isnan(scores).any():
        raise ValueError("ranks need a score of every model on every task; one is NaN")
    return np.asarray(stats.rankdata(-scores, axis=0))


def average_ranks(scores: np.ndarray) -> np.ndarray:
    """Mean rank over tasks; scores [M, T, ...] -> [M, ...] in [1, M]."""
    return np.asarray(ranks(scores).mean(axis=1))


def friedman(scores: np.ndarray) -> Friedman:
    """Friedman's test and Iman & Davenport's less conservative form of it.

    Demsar 2006 (JMLR 7:1), section 3.2.2; ties are corrected for.

    Args:
        scores: [M, T].

    Raises:
        ValueError: fewer than 3 models or 2 tasks, a NaN, or models that tie on every task.
    """
    models, tasks = scores.shape
    if models < 3 or tasks < 2:
        raise ValueError(f"Friedman's test needs 3 models and 2 tasks, not {models} and {tasks}")
    if (ranks(scores) == (models + 1) / 2).all():
        raise ValueError("all models tie on all tasks; there are no ranks to test")
    found = stats.friedmanchisquare(*scores)
    chi_square = float(found.statistic)
    rest = tasks * (models - 1) - chi_square
    # The same ranks on every task leave nothing to compare with; rounding may leave a trace.
    f = (tasks - 1) * chi_square / rest if rest > 1e-9 else np.inf
    p_f = stats.f.sf(f, models - 1, (models - 1) * (tasks - 1))
    return Friedman(chi_square, float(found.pvalue), float(f), float(p_f))


def critical_difference(models: int, tasks: int, level: float = 0.95) -> float:
    """Nemenyi's: mean ranks further apart than this differ at the 1 - level of all pairs together.

    q sqrt(M (M + 1) / (6 T)), q the studentised range's quantile over sqrt 2 (Demsar 2006,
    equation in section 3.2.2).
    """
    q = stats.studentized_range.ppf(level, models, np.inf) / np.sqrt(2)
    # By the standard error of the difference of two mean ranks, if all models are equal.
    return float(q * np.sqrt(models * (models + 1) / (6 * tasks)))


def first_share(resampled: np.ndarray, level: float = 0.95) -> First:
    """How often each model comes first; ties share the place.

    Args:
        resampled: [M, T, R]: for each task the paired resamples of `bootstrap.resample`, drawn
            with the task's name as `purpose`, so that tasks are independent.
        level: coverage of the rank intervals.

    Raises:
        ValueError: a score is NaN.
    """
    mean_rank = average_ranks(resampled)
    low, high = bootstrap.interval(mean_rank, level)
    return First(
        on_task=_share_of_best(resampled),
        by_mean_rank=_share_of_best(-mean_rank),
        by_mean_score=_share_of_best(resampled.mean(axis=1)),
        rank_low=low,
        rank_high=high,
    )


def agreement(
    scores_a: np.ndarray,
    scores_b: np.ndarray,
    resampled_a: np.ndarray,
    resampled_b: np.ndarray,
    level: float = 0.95,
) -> RankAgreement:
    """Do two rankings of the same models agree? Kendall's tau-b, 1 the same, -1 the reverse.

    A resample adds noise to scores that have some already, which disturbs rankings: resampled tau
    lies below the measured one where models are close, and so does the interval. It tells how far
    tau can be trusted, and does not test "tau is 1".

    Args:
        scores_a: [M].
        scores_b: [M].
        resampled_a: [M, R].
        resampled_b: [M, R]; paired with a's if both come from the same test images.
        level: coverage of the interval.

    Returns:
        Tau is NaN if all models tie in one of the rankings; such resamples are left out of the
        interval.
    """
    resampled = kendall(resampled_a, resampled_b)
    tail = (1 - level) / 2
    defined = resampled[~np.isnan(resampled)]
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    tau = kendall(scores_a[:, None], scores_b[:, None])[0]
    return RankAgreement(float(tau), float(low), float(high))


def kendall(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Tau-b of each column (Kendall 1945, Biometrika 33:239); [M, R] twice -> [R].

    What `scipy.stats.kendalltau` gives, for all resamples at once. NaN if a column is one tie.
    """
    first, second = np.triu_indices(len(a), k=1)
    order_a, order_b = np.sign(a[first] - a[second]), np.sign(b[first] - b[second])
    untied = np.sqrt(np.abs(order_a).sum(0) * np.abs(order_b).sum(0))
    agree = (order_a * order_b).sum(0)
    return np.asarray(np.divide(agree, untied, out=np.full(untied.shape, np.nan), where=untied > 0))


def _share_of_best(scores: np.ndarray) -> np.ndarray:
    """[M, ..., R] -> [M, ...]: the mean over R of 1 / (number of first models) for each of them."""
    best = scores == scores.max(axis=0)
    return np.asarray((best / best.sum(axis=0)).mean(axis=-1))
