"""Regression: a number with a unit per sample.

H is the number of seeds, N of samples, K of statistics per sample.

Probes predict in trained units: the target divided by what the image does not show (`Item.factor`;
the circumference of a head is learned in widths of the image). Everything here, what is stored
included, is in the unit of the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from tasks.task import Split
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.metrics import OF_TASK, Metric
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.intervals import of_influence
from ultrabench_eval.stats.rank_correlation import spearman
from ultrabench_eval.task_types import conformal
from ultrabench_eval.task_types.task_type import (
    FoldPredictions,
    Scored,
    TaskType,
    Validation,
)
from ultrabench_eval.test_set import TestSet

AGREEMENT = 1.96
"""Standard deviations of the errors between the bias and each limit of agreement."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """What is right for N samples, and what predictions are multiplied by to be compared with it.

    Args:
        values: in the unit of the task, float64 [N].
        factors: of that unit per trained unit, float64 [N].
        groups: N names of patients or videos, or None.
    """

    values: np.ndarray
    factors: np.ndarray
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: np.ndarray) -> Numbers:
        groups = None if self.groups is None else self.groups[rows]
        return Numbers(self.values[rows], self.factors[rows], groups)


# ---- from sums ----------------------------------------------------------------------------------


class _Sum(IntEnum):
    """Place of each statistic of a sample with prediction p, target y and error e = p - y.

    Targets are counted from a number m near their mean: R2 is the same, and its difference of large
    sums is not lost to rounding. What was not calibrated on validation is 0.
    """

    COUNT = 0
    """1."""
    ERROR = 1
    """e."""
    ABSOLUTE = 2
    """|e|."""
    SQUARE = 3
    """e^2."""
    TARGET = 4
    """y - m."""
    TARGET_SQUARE = 5
    """(y - m)^2."""
    CALIBRATED = 6
    """Whether there is a conformal interval."""
    INSIDE = 7
    """Whether y is inside it."""
    CONSTANT = 8
    """|c - y|, where c is the mean target of the validation samples."""


def _mae(sums: np.ndarray) -> np.ndarray:
    """Mean absolute error."""
    return _ratio(sums[..., _Sum.ABSOLUTE], sums[..., _Sum.COUNT])


def _rmse(sums: np.ndarray) -> np.ndarray:
    """Root mean square error."""
    return np.asarray(np.sqrt(_ratio(sums[..., _Sum.SQUARE], sums[..., _Sum.COUNT])))


def _bias(sums: np.ndarray) -> np.ndarray:
    """Mean of prediction minus target."""
    return _ratio(sums[..., _Sum.ERROR], sums[..., _Sum.COUNT])


def _r2(sums: np.ndarray) -> np.ndarray:
    """1 less the squared errors over those of the mean target; NaN where targets are all equal."""
    count, total = sums[..., _Sum.COUNT], sums[..., _Sum.TARGET]
    spread = sums[..., _Sum.TARGET_SQUARE] - _ratio(np.square(total), count)
    return 1 - _ratio(sums[..., _Sum.SQUARE], spread)


def _deviation(sums: np.ndarray) -> np.ndarray:
    """Standard deviation of the errors, with N - 1; NaN of a single one."""
    count, total = sums[..., _Sum.COUNT], sums[..., _Sum.ERROR]
    squares = np.maximum(sums[..., _Sum.SQUARE] - _ratio(np.square(total), count), 0)
    return np.asarray(np.sqrt(_ratio(squares, count - 1)))


def _lower_limit(sums: np.ndarray) -> np.ndarray:
    """Lower limit of agreement (Bland & Altman 1986, Lancet 327:307)."""
    return _bias(sums) - AGREEMENT * _deviation(sums)


def _upper_limit(sums: np.ndarray) -> np.ndarray:
    """Upper limit of agreement."""
    return _bias(sums) + AGREEMENT * _deviation(sums)


def _coverage(sums: np.ndarray) -> np.ndarray:
    """Part of the targets that are inside the conformal interval."""
    return _ratio(sums[..., _Sum.INSIDE], sums[..., _Sum.CALIBRATED])


def _mae_of_mean(sums: np.ndarray) -> np.ndarray:
    """Mean absolute error of the mean target of validation, given for every sample."""
    total = sums[..., _Sum.CONSTANT]
    return _ratio(total, np.where(total > 0, sums[..., _Sum.COUNT], 0))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


def _metric(name: str, title: str, of: Any = None, **facts: Any) -> Metric:
    """One in the unit of the task where nothing else is said."""
    known = {"unit": OF_TASK, "within": (0.0, np.inf), "places": 2, "higher_is_better": False}
    return Metric(name, title, of=of, task_type="regression", **{**known, **facts})


# Models are compared by the first. Of bias, limits and coverage neither end is the better one.
_SIGNED: dict[str, Any] = {"within": (-np.inf, np.inf)}
MAE = _metric("mae", "MAE", _mae)
BIAS = _metric("bias", "bias", _bias, **_SIGNED)
LOWER_LIMIT = _metric("lower_limit", "lower limit of agreement", _lower_limit, **_SIGNED)
UPPER_LIMIT = _metric("upper_limit", "upper limit of agreement", _upper_limit, **_SIGNED)
SPEARMAN = _metric("spearman", "Spearman", unit="", within=(-1.0, 1.0), higher_is_better=True)
WIDTH = _metric("interval_width", "width of the 90 % prediction interval")
METRICS = (
    MAE,
    _metric("rmse", "RMSE", _rmse),
    BIAS,
    LOWER_LIMIT,
    UPPER_LIMIT,
    _metric("r2", "R2", _r2, unit="", within=(-np.inf, 1.0), higher_is_better=True),
    SPEARMAN,
    # With a conformal interval, calibrated on validation.
    _metric(
        "coverage", "coverage of the 90 % prediction interval", _coverage,
        unit="%", within=(0.0, 1.0), places=1, higher_is_better=True,
    ),
    WIDTH,
    # What the model is worth beside no model.
    _metric("mae_of_mean", "MAE of the mean target", _mae_of_mean),
)  # fmt: skip
"""All that `score` can give, in the order of tables."""


# ---- the task type ------------------------------------------------------------------------------


class Regression(TaskType):
    """A number per sample."""

    name = "regression"
    predicts = "numbers"
    main = MAE
    metrics = METRICS
    details = (
        *(("rmse", "RMSE"), ("bias", "bias"), ("r2", "R2"), ("mae_of_mean", "MAE of mean")),
        ("coverage", "coverage of 90 %"),
    )

    def truth(self, split: Split, extents: np.ndarray | None = None) -> Numbers:
        """Targets, factors and groups."""
        values = np.asarray(split.targets, np.float64)
        factors = np.ones(len(values)) if split.factors is None else split.factors
        return Numbers(values, factors, None if split.groups is None else np.array(split.groups))

    def taught(self, truth: Numbers, shape: tuple[int, ...]) -> np.ndarray:
        """Targets in trained units, float64 [N]."""
        return np.asarray(truth.values / truth.factors)

    def remarks(self, test: TestSet) -> tuple[str, ...]:
        """What predictions are multiplied by, if images do not show it."""
        factors = getattr(test.truth, "factors", np.ones(1))
        if np.ptp(factors) == 0:
            return ()
        return (
            "Probes predict the target divided by a factor of the image that its pixels do not "
            "show, such as its width in mm. All models, controls too, get that factor, so the "
            "control that sees nothing scores what the factor alone is worth.",
        )

    def score(
        self, predicted: np.ndarray, test: TestSet, validation: Validation | None = None
    ) -> Scored:
        """Scores of numbers [H, N] in trained units; conformal intervals are of each seed."""
        stored = {"predictions": predicted * test.targets.factors}
        if validation is not None:
            errors = [p * truth.factors - truth.values for p, truth in validation]
            stored |= {
                "half_width": np.array(
                    [
                        conformal.half_width(error, truth.groups)
                        for error, (_, truth) in zip(errors, validation, strict=True)
                    ]
                ),
                "constant": np.array([truth.values.mean() for _, truth in validation]),
            }
        return Scored(self.again(stored, test), stored)

    def joined(
        self, parts: Sequence[Scored], folds: Sequence[FoldPredictions], test: TestSet
    ) -> Scored:
        """See `TaskType.joined`. What is of a seed in a fold is kept for each of its samples."""
        each = [
            {
                name: np.broadcast_to(one.reshape(len(one), -1), part.stored["predictions"].shape)
                for name, one in part.stored.items()
            }
            for part in parts
        ]
        stored = {name: np.concatenate([one[name] for one in each], axis=1) for name in each[0]}
        return Scored(self.again(stored, test), stored)

    def again(self, stored: Mapping[str, np.ndarray], test: TestSet) -> dict[str, np.ndarray]:
        """All scores; NaN without the validation samples that calibrate them."""
        answers, y = self.answers(stored), _values(test)
        sums = self.statistics(answers, test).total()
        found = {one.name: one.of(sums) for one in METRICS if one.of is not None}
        found[SPEARMAN.name] = np.array([spearman(p, y)[0] for p in answers[..., 0]])
        width = 2 * answers[..., 1]  # of folds, each has its own
        found[WIDTH.name] = np.where(np.ptp(width, axis=1) == 0, width[:, 0], width.mean(1))
        return {metric.name: found[metric.name] for metric in METRICS}

    def answers(self, stored: Mapping[str, np.ndarray]) -> np.ndarray:
        """Float64 [H, N, 3] in the unit of the task: prediction, half the width of the conformal
        interval of its seed (and fold), and the mean target of the validation samples; NaN where
        unknown."""
        found = np.full((*stored["predictions"].shape, 3), np.nan)
        for place, name in enumerate(("predictions", "half_width", "constant")):
            if name in stored:
                found[..., place] = stored[name].reshape(len(found), -1)
        return found

    def compact(self, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All of it: a number per sample is little."""
        return dict(stored)

    def only(self, stored: Mapping[str, np.ndarray], keep: np.ndarray) -> dict[str, np.ndarray]:
        """What is of samples; the rest is of seeds, and stays."""
        return {name: one[:, keep] if one.ndim == 2 else one for name, one in stored.items()}

    def statistics(self, answers: np.ndarray, test: TestSet) -> Additive:
        """Those of `_Sum`, K = 9."""
        y = _values(test)
        middle = float(np.median(y))
        predicted, half_width, constant = np.moveaxis(answers, -1, 0)
        error = predicted - y
        calibrated = ~np.isnan(half_width)
        parts = {
            _Sum.COUNT: np.ones_like(error),
            _Sum.ERROR: error,
            _Sum.ABSOLUTE: np.abs(error),
            _Sum.SQUARE: np.square(error),
            _Sum.TARGET: np.broadcast_to(y - middle, error.shape),
            _Sum.TARGET_SQUARE: np.broadcast_to(np.square(y - middle), error.shape),
            _Sum.CALIBRATED: calibrated,
            _Sum.INSIDE: np.abs(error) <= np.where(calibrated, half_width, -1),
            _Sum.CONSTANT: np.nan_to_num(np.abs(constant - y)),
        }
        return Additive.dense(np.stack([parts[place] for place in _Sum], axis=-1))

    def good(self, answers: np.ndarray, test: TestSet) -> np.ndarray:
        """The absolute error with a minus."""
        return np.asarray(-np.abs(answers[..., 0] - _values(test)))

    def intervals(self, answers: np.ndarray, test: TestSet) -> dict[str, tuple[float, float]]:
        """Of the metrics that are functions of sums, and Spearman's; see `stats.intervals`.

        The width of the prediction interval has none: validation samples decide on it.

        Raises:
            UserError: the test samples are of a single patient.
        """
        clusters, y = self.clusters(test), _values(test)
        if clusters.count == 1:
            raise UserError(
                f"all test images of task '{test.task}' are of one patient or video, which tells "
                "nothing of the error on others; add test images of more"
            )
        found = super().intervals(answers, test)
        by_seed = [spearman(p, y) for p in answers[..., 0]]
        moves = np.mean([one for _, one in by_seed], axis=0)
        found[SPEARMAN.name] = of_influence(
            np.array([score for score, _ in by_seed]),
            np.bincount(clusters.member, moves, minlength=clusters.count),
            clusters,
            SPEARMAN.within,
        )
        sums = self.statistics(answers, test).total()
        unknown = {one.name for one in self.of_sums if one.of and np.isnan(one.of(sums)).any()}
        if np.isnan(moves).any():
            unknown.add(SPEARMAN.name)
        return {name: ends for name, ends in found.items() if name not in unknown}


def _values(test: TestSet) -> np.ndarray:
    """Targets of test samples, whose factors are not kept on disk: float64 [N]."""
    targets = test.targets
    return targets.values if isinstance(targets, Numbers) else np.asarray(targets)


TYPE = Regression()
