"""Which models differ? Paired differences, p-values, and letters for the ties.

M is the number of models, P of pairs, R of draws.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import numpy as np
from scipy import stats

from ultrabench_eval.stats.permutation import Contest, Equal

MANY = 60
"""Of more models than this, only some pairs are compared (see `compare`)."""
_PAIRS = 200  # that are drawn at once, to bound the memory
_FEW = 20  # draws; an estimate from fewer is left to the tail of Student's t


@dataclass(frozen=True)
class Pairs:
    """Every model (row) against every other (column); units are those of the scores."""

    difference: np.ndarray
    """Row's score minus column's, [M, M]."""
    low: np.ndarray
    """Interval of the difference (of its linear part), [M, M]; not corrected for the number of
    pairs. NaN where a pair was not compared, as in all that follow."""
    high: np.ndarray
    p: np.ndarray
    """Two-sided, [M, M], symmetric; 1 on the diagonal."""
    p_holm: np.ndarray
    """`p` corrected over the pairs of its family (see `compare`)."""
    letters: tuple[str, ...]
    """Two models share a letter if and only if they are not significantly different by `p_holm`;
    the best model has an "a". If not all pairs were asked for: "r" for the reference, or "a" for
    the best model, and for all that are not significantly different from it; others have none."""

    @property
    def compared(self) -> np.ndarray:
        """Which pairs were, bool [M, M]."""
        return np.asarray(~np.isnan(self.p))

    def row(self, a: int, b: int) -> dict[str, float]:
        """What is known of one pair, by the names of these fields."""
        names = ("difference", "low", "high", "p", "p_holm")
        return {name: float(getattr(self, name)[a, b]) for name in names}


def compare(
    tasks: Sequence[Contest],
    *,
    controls: Sequence[bool] | None = None,
    reference: int | None = None,
    unit: float = 1,
    level: float = 0.95,
) -> Pairs:
    """Pairs of models, by their score on a task, or by the mean of several.

    p-values are corrected together, by Holm's method, over the pairs that answer one question:
    encoders with each other; encoders with controls; controls with each other. So controls, which
    are there to be beaten, cost the comparison of encoders no power.

    Of more than `MANY` models, only the pairs with the best model and of neighbours in the order of
    scores are compared. As the scores chose them, they are corrected as if all pairs were.

    Args:
        tasks: each with the same models in the same order, and the same metric. They are drawn
            apart from each other.
        controls: which models are; none by default.
        reference: place of the model to compare all others with, and nothing else. None: all pairs.
        unit: what differences and intervals are multiplied by.
        level: coverage of the intervals; pairs with `p_holm` < 1 - level are
            significantly different.

    Raises:
        ValueError: a score is NaN.
    """
    every = np.array([task.scores for task in tasks])  # [T, M]
    if np.isnan(every).any():
        raise ValueError("models can't be compared by scores that are NaN")
    scores = every.mean(0)
    order = np.argsort(-scores if tasks[0].higher_is_better else scores, kind="stable")
    shape = (len(scores), len(scores))
    first, second = _chosen(order, reference)
    low, high, p, p_holm = (np.full(shape, np.nan) for _ in range(4))
    for start in range(0, len(first), _PAIRS):
        a, b = first[start : start + _PAIRS], second[start : start + _PAIRS]
        equal = _mean([task.equal(a, b) for task in tasks])
        width, p[a, b] = _test(equal, level)
        low[a, b], high[a, b] = equal.difference - width, equal.difference + width
    control = np.zeros(len(scores), int) if controls is None else np.asarray(controls, int)
    for family in range(3):  # by the number of controls in a pair
        some = control[first] + control[second] == family
        a, b = first[some], second[some]
        tests = len(a) if reference is not None else _pairs_of(control, family)
        p_holm[a, b] = holm(p[a, b], tests)
    for mine, turned in ((low, -high), (high, -low), (p, p), (p_holm, p_holm)):
        mine[second, first] = turned[first, second]
        np.fill_diagonal(mine, 0 if mine is low or mine is high else 1)
    if reference is None and not np.isnan(p).any():
        shown = letters(p_holm < 1 - level, order)
    else:
        one, letter = (order[0], "a") if reference is None else (reference, "r")
        shown = tuple(letter if p_holm[one, m] >= 1 - level else "" for m in range(len(scores)))
    return Pairs(
        difference=unit * (scores[:, None] - scores),
        low=unit * low,
        high=unit * high,
        p=p,
        p_holm=p_holm,
        letters=shown,
    )


def none(scores: np.ndarray) -> Pairs:
    """Models with scores [M] of which no two were compared."""
    unknown = np.full((len(scores), len(scores)), np.nan)
    sure, level = unknown.copy(), unknown.copy()
    np.fill_diagonal(sure, 1)
    np.fill_diagonal(level, 0)
    difference = scores[:, None] - scores
    return Pairs(difference, level, level, sure, sure, ("",) * len(scores))


def _chosen(order: np.ndarray, reference: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs to compare of models from best to worst: two lists of places, the first the smaller."""
    models = len(order)
    if reference is None and models <= MANY:
        first, second = np.triu_indices(models, k=1)
        return first, second
    found = set()
    if reference is None:
        found |= {(order[0], other) for other in order[1:]}
        found |= set(pairwise(order))
    else:
        found |= {(reference, other) for other in range(models) if other != reference}
    pairs = np.array(sorted((min(pair), max(pair)) for pair in found), int).reshape(-1, 2)
    pairs = np.unique(pairs, axis=0)
    return pairs[:, 0], pairs[:, 1]


def _pairs_of(control: np.ndarray, family: int) -> int:
    """How many pairs of all models have `family` controls."""
    controls = int(control.sum())
    encoders = len(control) - controls
    return (comb(encoders, 2), encoders * controls, comb(controls, 2))[family]


def _mean(tasks: Sequence[Equal]) -> Equal:
    """Draws of the mean over tasks."""
    if len(tasks) == 1:
        return tasks[0]
    variance = np.sum([one.variance for one in tasks], axis=0)
    spread = np.sum([np.square(one.variance) / one.degrees for one in tasks], axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        degrees = np.where(spread > 0, np.square(variance) / spread, np.inf)
    return Equal(
        np.sum([one.difference for one in tasks], axis=0) / len(tasks),
        np.sum([one.draws for one in tasks], axis=0) / len(tasks),
        variance / len(tasks) ** 2,
        degrees,
    )


def _test(equal: Equal, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Half widths of intervals and p-values, [P] each.

    p = (1 + the number of draws that are as far from 0) / (R + 1): the difference itself is one of
    the draws (Davison & Hinkley 1997, chapter 4.2). The interval holds 0 if and only if p is at
    least 1 - level. Where hardly a draw is as far from 0, p is the tail of Student's t with the
    draws' variance, if that is smaller: R draws cannot show how small it is, and hundreds of
    corrected pairs ask for that. Such a tail is not lighter than that of swaps.
    """
    draws, size = np.abs(equal.draws), np.abs(equal.difference)
    as_far = (draws >= size).sum(0)
    p = (1 + as_far) / (len(draws) + 1)
    width = _quantile(draws, _allowed(len(draws), level))
    some = (as_far < _FEW) & (equal.variance > 0)
    far = size[some] / np.sqrt(equal.variance[some])
    tail = 2 * stats.t.sf(far, equal.degrees[some])
    p[some] = np.minimum(p[some], np.maximum(tail, 1e-300))
    return width, p


def critical(equal: Equal, level: float) -> np.ndarray:
    """How large a difference must be for a p-value of at most 1 - level, [P]; see `_test`.

    Where hardly a draw may be as large, Student's t tells it, if that is smaller.
    """
    draws = np.abs(equal.draws)
    allowed = _allowed(len(draws), level)
    tail = stats.t.ppf((1 + level) / 2, equal.degrees) * np.sqrt(equal.variance)
    if allowed < 1:
        return np.asarray(tail)
    width = _quantile(draws, allowed)
    return np.minimum(width, tail) if allowed < _FEW else width


def _allowed(draws: int, level: float) -> int:
    """How many of the draws may be as far from 0 as a difference whose p is 1 - level."""
    return int(np.ceil((1 - level) * (draws + 1) - 1))


def _quantile(draws: np.ndarray, allowed: int) -> np.ndarray:
    """The smallest of the `allowed` largest, of sizes [R, P]: [P]."""
    return np.asarray(np.partition(draws, len(draws) - allowed, axis=0)[len(draws) - allowed])


def holm(p: np.ndarray, tests: int | None = None) -> np.ndarray:
    """P-values [K] corrected for K tests (Holm 1979, Scand. J. Stat. 6:65), [K].

    Below a level in no true null hypothesis but with that probability, whatever the dependence.

    Args:
        p: the p-values.
        tests: how many there are with those that were not made and would not be smaller; K.
    """
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    tests = len(p) if tests is None else tests
    steps = p[order] * np.arange(tests, tests - len(p), -1)
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
