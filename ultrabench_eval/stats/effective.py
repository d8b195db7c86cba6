"""How many independent images a test set is worth.

N is the number of images, M of models. Images of one patient (frames of one video) are
right or wrong together, so N of them are worth less than N images of N patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ultrabench_eval.stats.clusters import Clusters


@dataclass(frozen=True)
class Effective:
    """The size of a test set in three ways."""

    images: int
    clusters: int
    """Patients or videos, or images where the release names no groups."""
    design_effect: float
    """Variance of accuracy by clusters over its variance by images, as measured; NaN where no model
    tells (all images equally often right) and where there is a single cluster."""
    size: float
    """N / `design_effect`, in [1, N]; NaN where that is NaN."""


def effective_size(good: np.ndarray, clusters: Clusters) -> Effective:
    """Effective sample size of one task's test set for a set of models (Kish 1965, chapter 5.4).

    The metric is the mean of how good each answer is (accuracy, for classes), whose variances are
    known in closed form. With e_i that of an image minus its mean over images, and G clusters g:

        by clusters   G / (G - 1)  sum over g of (sum over i in g of e_i)^2  /  N^2
        by images     N / (N - 1)  sum over i of e_i^2  /  N^2

    The first is the linearised variance of a ratio, correct / images, whose denominator varies
    with the drawn clusters (Cochran 1977, Sampling Techniques, section 9A). These are the cluster
    and the image bootstrap's variances, but for their factors (G - 1) / G and (N - 1) / N. The
    design effect is the ratio of their sums over models: a mean of the models' ratios would let
    the nearly perfect ones, of whom a few images tell, shake it.

    A ratio below 1 says that errors within a patient balance each other out. That can be true
    (each patient has an easy and a hard view) but with few clusters is mostly chance, and no
    reader should be told of more images than there are: the size stops at N, while `design_effect`
    stays as measured.

    Args:
        good: of each model, means over seeds, [M, N]; e.g. how often the class is right.
        clusters: patients; with single images the design effect is 1.
    """
    images, count = good.shape[1], clusters.count
    right = good[np.ptp(good, axis=-1) > 0]  # in the others only rounding would vary
    if not len(right) or count == 1:
        return Effective(images, count, np.nan, np.nan)
    errors = right - right.mean(-1, keepdims=True)
    by_image = np.square(errors).sum()
    totals = np.stack([np.bincount(clusters.member, e, minlength=count) for e in errors])
    by_cluster = np.square(totals).sum()
    effect = float(by_cluster * count / (count - 1) / (by_image * images / (images - 1)))
    size = images / max(effect, 1.0)
    return Effective(images, count, effect, max(1.0, size))
