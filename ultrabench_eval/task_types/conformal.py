"""Conformal prediction: how wide an interval around a prediction must be to hold the truth.

Split conformal prediction (Papadopoulos et al. 2002; Lei et al. 2018, J. Am. Stat. Assoc. 113:1094)
takes a quantile of the errors on samples that the probe was not trained on. It needs samples that
are exchangeable. Images of one patient are not exchangeable with those of others, but patients are
with patients (Dunn, Wasserman & Ramdas 2022, J. Am. Stat. Assoc., arXiv 1809.07441). So each
patient has the same weight, shared among the patient's images, and the new patient counts with an
infinite error (Lee, Barber & Willett, arXiv 2306.06342). Nothing is drawn at random, every image is
used, and with one image per patient this is split conformal prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVEL = 0.90
"""How often an interval is to hold the truth."""


def half_width(
    errors: np.ndarray, groups: Sequence[str] | None = None, level: float = LEVEL
) -> float:
    """The smallest w for which prediction +- w holds the truth with a probability of `level`.

    That is a guarantee for an image of a new patient, whatever the model and the distribution, if
    patients of validation and test are exchangeable. It is an average over validation sets: that of
    one set may be some points lower or higher.

    Args:
        errors: of validation images, [V], of any sign.
        groups: V names of patients or videos; None if each image is of another.
        level: in (0, 1).

    Returns:
        One of the absolute errors; NaN if there are too few patients: 90 % needs nine.
    """
    names = np.arange(len(errors)) if groups is None else np.asarray(groups)
    _, member, sizes = np.unique(names, return_inverse=True, return_counts=True)
    size = np.abs(errors)
    order = np.argsort(size, kind="stable")
    patients = np.cumsum(1 / sizes[member][order])
    enough = patients >= level * (len(sizes) + 1) - 1e-9  # for rounding of the sum
    return float(size[order][enough.argmax()]) if enough.any() else float("nan")
