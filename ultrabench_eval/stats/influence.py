"""How much a score moves with each patient: the infinitesimal jackknife.

Jaeckel 1972 (Bell Laboratories Memorandum 72-1215-11); Efron 1982, The Jackknife, the Bootstrap and
Other Resampling Plans, chapter 6. A score is a function of sums over patients; its influence values
are its derivatives by the patients' weights. Nothing is drawn, so no class can be missing from a
draw.
"""

from __future__ import annotations

import numpy as np

from ultrabench_eval.metrics import OfSums

_STEP = 1e-4  # of a weight; central differences are right to about 1e-8 of the score


def influence(metric: OfSums, total: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Derivatives of a score by the weight of each part, at weight 1 of all of them.

    Args:
        metric: sums [..., K] -> scores [...].
        total: the sums of all parts, [..., K].
        parts: what each adds, [..., K]; more axes in front of those of `total`.

    Returns:
        [...], the shape of `parts` without its last axis.
    """
    above, below = metric(total + _STEP * parts), metric(total - _STEP * parts)
    return np.asarray((above - below) / (2 * _STEP))


def gradient(metric: OfSums, total: np.ndarray) -> np.ndarray:
    """Derivatives of a score by each of the sums that it is made of, as `influence` finds them.

    The influence of a part is the sum of its products with these: for many parts of the same sums
    that is the faster way.

    Args:
        metric: sums [..., K] -> scores [...].
        total: sums, [..., K].

    Returns:
        [..., K]. 0 where a sum is 0, because then it is 0 in each part as well.
    """
    found = np.zeros(total.shape)
    width = total.shape[-1]
    for place in range(width):
        step = np.zeros(width)
        step[place] = _STEP
        found[..., place] = (metric(total + step) - metric(total - step)) / (2 * _STEP)
    return np.where(total == 0, 0.0, found)
