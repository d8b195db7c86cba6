"""Spearman's rank correlation, and how much it moves with each sample."""

from __future__ import annotations

import numpy as np


def spearman(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Rank correlation of N pairs, and its influence values (see `influence`).

    Ranks are sums over samples as well: a sample's is the number of smaller values and half of the
    equal ones. So the derivative by a sample's weight has a closed form, and no resample is drawn,
    in which the same sample would tie with itself.

    Args:
        x: [N].
        y: [N].

    Returns:
        The correlation in [-1, 1] and its derivatives by the weights of the samples, float64 [N],
        which sum to 0. NaN if all values of x, or of y, are the same.
    """
    ones = np.ones(len(x))
    r, s = (_below(values, ones) - len(x) / 2 for values in (x, y))  # their means are 0
    both, of_x, of_y = r @ s, r @ r, s @ s
    if not of_x or not of_y:
        return float("nan"), np.full(len(x), np.nan)
    size = np.sqrt(of_x * of_y)
    found = both / size
    # The sum of a sample's product, and of what its weight adds to the ranks of the others.
    d_both = r * s - _below(x, s) - _below(y, r)
    d_x, d_y = (np.square(t) - 2 * _below(v, t) for v, t in ((x, r), (y, s)))
    moves = d_both / size - found / 2 * (d_x / of_x + d_y / of_y)
    return float(np.clip(found, -1, 1)), moves


def _below(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Of each sample the weights of those with smaller values, and half of those with equal."""
    _, place = np.unique(values, return_inverse=True)
    of_value = np.bincount(place, weights)
    return np.asarray((np.cumsum(of_value) - of_value / 2)[place])
