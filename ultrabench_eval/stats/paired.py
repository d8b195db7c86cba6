"""Which models of one task differ? Paired differences, p-values, and letters for the ties.

M is the number of models, R of resamples.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ultrabench_eval.stats import bootstrap


@dataclass(frozen=True)
class Pairs:
    """Every model (row) against every other (column); units are those of the scores."""

    difference: np.ndarray
    """Row's score minus column's, [M, M]."""
    low: np.ndarray
    """Percentile interval of the difference, [M, M]; not corrected for the number of pairs."""
    high: np.ndarray
    p: np.ndarray
    """Two-sided, [M, M], symmetric; 1 on the diagonal."""
    p_holm: np.ndarray
    """`p` corrected over the M (M - 1) / 2 pairs."""
    letters: tuple[str, ...]
    """Two models share a letter if and only if `p_holm` does not tell them apart; the best model
    has an "a"."""


def compare(scores: np.ndarray, resampled: np.ndarray, level: float = 0.95) -> Pairs:
    """All pairs of one task's models.

    Args:
        scores: [M], on the test set as it is.
        resampled: [M, R], paired: column r is the same draw of the test set for all models
            (`bootstrap.resample`).
        level: coverage of the intervals; pairs with `p_holm` < 1 - level are told apart.

    Raises:
        ValueError: a score is NaN.
    """
    if np.isnan(scores).any() or np.isnan(resampled).any():
        raise ValueError("models can't be compared by scores that are NaN")
    models = len(scores)
    shape = (models, models)
    low, high, p = np.zeros(shape), np.zeros(shape), np.ones(shape)
    for a in range(models):  # a row at a time: [M, R] at once, not [M, M, R]
        differences = resampled[a] - resampled
        low[a], high[a] = bootstrap.interval(differences, level)
        p[a] = p_value(differences)
    upper = np.triu_indices(models, k=1)
    p_holm = np.ones(shape)
    p_holm[upper] = holm(p[upper])
    p_holm = np.minimum(p_holm, p_holm.T)
    return Pairs(
        difference=scores[:, None] - scores,
        low=low,
        high=high,
        p=p,
        p_holm=p_holm,
        letters=letters(p_holm < 1 - level, order=np.argsort(-scores, kind="stable")),
    )


def p_value(differences: np.ndarray) -> np.ndarray:
    """Two-sided bootstrap p-value of "the difference is 0"; [..., R] -> [...] in (0, 1].

    p = 2 min(#{d <= 0} + 1, #{d >= 0} + 1) / (R + 1), at most 1, of the differences as they were
    resampled, not moved to 0 first. This is the level at which the percentile interval begins to
    hold 0 (Efron & Tibshirani 1993, chapter 15.4), so a table's intervals and p-values can't
    contradict each other. The centred version (Hall & Wilson 1991, Biometrics 47:757) agrees
    where the distribution is symmetric, as differences of two models nearly are, and in our
    simulations of equal models the two did not differ in size. The ones are the sample itself, as
    in permutation tests (Davison & Hinkley 1997, chapter 4.2): p is never 0, and no smaller than
    R can show. Models with equal predictions have only ties, and p = 1.
    """
    below = (differences <= 0).sum(-1) + 1
    above = (differences >= 0).sum(-1) + 1
    return np.asarray(np.minimum(1, 2 * np.minimum(below, above) / (differences.shape[-1] + 1)))


def holm(p: np.ndarray) -> np.ndarray:
    """P-values [K] corrected for K tests (Holm 1979, Scand. J. Stat. 6:65), [K].

    Below a level in no true null hypothesis but with that probability, whatever the dependence.
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    steps = p[order] * np.arange(len(p), 0, -1)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected


def letters(different: np.ndarray, order: Sequence[int] | np.ndarray) -> tuple[str, ...]:
    """Compact letter display: two models share a letter if and only if they are not different.

    Insert and absorb (Piepho 2004, J. Comput. Graph. Stat. 13:456): at first all models share one
    letter; each pair that differs splits every letter that both have into one without the first
    and one without the second; a letter whose models all have another one together is dropped.

    Args:
        different: bool [M, M], symmetric; the diagonal is ignored.
        order: models from best to worst; "a" goes to the best.

    Returns:
        For each model its letters, in alphabetical order. After z come A ... Z, then (53), ...
    """
    groups = {frozenset(range(len(different)))}
    for pair in combinations(range(len(different)), 2):
        if different[pair]:
            split = {group for group in groups if group.issuperset(pair)}
            parts = {group - {model} for group in split for model in pair}
            groups = groups - split
            # Only a new group can lie in another one; the old ones did not lie in each other.
            both = groups | parts
            groups |= {part for part in parts if not any(part < other for other in both)}
    place = {int(model): rank for rank, model in enumerate(order)}
    ordered = sorted(groups, key=lambda group: sorted(place[model] for model in group))
    return tuple(
        "".join(_letter(n) for n, group in enumerate(ordered) if model in group)
        for model in range(len(different))
    )


def _letter(number: int) -> str:
    known = string.ascii_letters
    return known[number] if number < len(known) else f"({number + 1})"
