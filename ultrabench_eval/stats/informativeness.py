"""Does a task tell good encoders from none? The best model against the best control.

Controls are what should not be able to do the task: an untrained network, thumbnails, image size.
M is the number of models, F of controls, R of resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ultrabench_eval.stats import bootstrap


@dataclass(frozen=True)
class Informativeness:
    """How far the best model is above the best control on one task, in the unit of the scores."""

    model: str
    control: str
    difference: float
    """As measured; too large by about `optimism`."""
    optimism: float
    """What choosing the best of the models adds on average, at least 0."""
    gain: float
    """`difference` - `optimism`."""
    low: float
    """Percentile interval of the pair's difference, moved by `optimism`."""
    high: float

    @property
    def informative(self) -> bool:
        """Whether the interval is above 0."""
        return self.low > 0


def informativeness(
    scores: Mapping[str, float],
    resampled: Mapping[str, np.ndarray],
    controls: Sequence[str],
    level: float = 0.95,
) -> Informativeness:
    """Best model minus best control, corrected for having chosen the best model.

    Both are chosen once, by their measured scores, and the interval is that of the pair's
    difference over paired resamples. To choose again in each resample would not do: the best of M
    noisy scores is too high already, and the best of M that are resampled around them higher
    still. What choosing adds is estimated by Efron's optimism bootstrap (Efron & Tibshirani 1993,
    chapter 17.6): in each resample choose the best model, and see how much better it looks there
    than on the real test set. A model's resamples are first moved to its measured score as their
    mean, so that a bias of the metric itself (macro F1 has one) does not count as optimism. The
    estimate is zero for a model far ahead, and about two thirds of what it should be where all are
    equal: of 20 models and a control that are all equal, the interval is above 0 in 5 % of
    simulations, and uncorrected in 24 %. Nothing is corrected for the choice among controls: it
    lifts the best one, which errs on the careful side.

    Args:
        scores: of models and controls on the test set as it is, by name.
        resampled: [R] for each of the same names, paired (`bootstrap.resample`).
        controls: names of the controls; all others are models.
        level: coverage.

    Raises:
        ValueError: no model, no control, an unknown control, or a NaN.
    """
    unknown = set(controls) - set(scores)
    models = [name for name in scores if name not in set(controls)]
    if unknown or not models or not controls:
        raise ValueError(f"need a model and a control; unknown controls: {sorted(unknown)}")
    if any(np.isnan(scores[name]) or np.isnan(resampled[name]).any() for name in scores):
        raise ValueError("models can't be compared by scores that are NaN")
    model, control = (max(names, key=lambda name: scores[name]) for names in (models, controls))
    optimism = selection_optimism(
        np.array([scores[name] for name in models]), np.stack([resampled[name] for name in models])
    )
    difference = float(scores[model] - scores[control])
    low, high = bootstrap.interval(resampled[model] - resampled[control], level)
    return Informativeness(
        model=model,
        control=control,
        difference=difference,
        optimism=optimism,
        gain=difference - optimism,
        low=float(low) - optimism,
        high=float(high) - optimism,
    )


def selection_optimism(scores: np.ndarray, resampled: np.ndarray) -> float:
    """How much better the best of M looks than it is; scores [M], resampled [M, R] -> at least 0.

    See `informativeness`. 0 for one model.
    """
    moved = resampled - resampled.mean(-1, keepdims=True) + scores[:, None]
    # At least 0 but for rounding.
    return max(0.0, float((moved.max(0) - scores[moved.argmax(0)]).mean()))
