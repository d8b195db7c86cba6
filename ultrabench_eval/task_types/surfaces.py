"""Distances between the outlines of two masks.

H and W are the sides of a mask in pixels, P the number of pixels of an outline.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from scipy.spatial import KDTree

Spacing = tuple[float, float]
"""Between the rows and between the columns, in any unit; distances are in that unit."""

TOLERANCE = 0.0075
"""Of the image's diagonal: how far apart outlines still agree, as Csurka et al. 2013 (BMVC, "What
is a good evaluation measure for semantic segmentation?") and MATLAB's `bfscore` have it."""


class Outline:
    """The outline of a mask that isn't empty.

    Its pixels are those of the mask that have a neighbour outside of it, above, below, to the left
    or to the right. What is beyond the edge of the image is outside, as in medpy.

    Args:
        mask: bool [H, W].
        spacing: of its pixels.
    """

    def __init__(self, mask: np.ndarray, spacing: Spacing) -> None:
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        top, left = rows[0], columns[0]
        part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
        outside = np.ones((part.shape[0] + 2, part.shape[1] + 2), bool)
        np.logical_not(part, out=outside[1:-1, 1:-1])
        border = outside[:-2, 1:-1] | outside[2:, 1:-1]
        border |= outside[1:-1, :-2]
        border |= outside[1:-1, 2:]
        border &= part
        places = np.stack(np.divmod(np.flatnonzero(border), part.shape[1]), axis=1)
        self.points = (places + np.array([top, left])) * np.array(spacing)
        """float64 [P, 2], in the unit of the spacing."""

    @cached_property
    def _tree(self) -> KDTree:
        return KDTree(self.points)

    def to(self, other: Outline) -> np.ndarray:
        """How far each pixel is from the nearest one of another outline, float64 [P]."""
        return np.asarray(other._tree.query(self.points)[0])


def compared(called: Outline, truth: Outline, tolerance: float) -> tuple[float, float, float]:
    """Boundary F, HD95 and ASSD of two outlines.

    Boundary F is the harmonic mean of the parts of either outline that are nearer than `tolerance`
    to the other (Csurka et al. 2013). HD95 is the 95th percentile, and ASSD the mean, of the
    distances from either outline to the other, all in one list: medpy's definitions. (MONAI's HD95
    is the larger one of two percentiles.)

    Args:
        called: of what is predicted.
        truth: of what is right.
        tolerance: in the unit of their spacing.
    """
    there, back = called.to(truth), truth.to(called)
    precision, recall = (there < tolerance).mean(), (back < tolerance).mean()
    both = np.concatenate([there, back])
    f = 2 * precision * recall / max(precision + recall, 1e-12)
    return float(f), _percentile(both, 0.95), float(both.mean())


def _percentile(values: np.ndarray, part: float) -> float:
    """That of `np.percentile`, to the bit, in a fifth of the time."""
    place = (len(values) - 1) * part
    below = int(place)
    above = min(below + 1, len(values) - 1)
    ordered = np.partition(values, (below, above))
    low, high, share = ordered[below], ordered[above], place - below
    gap = high - low
    return float(low + gap * share if share < 0.5 else high - gap * (1 - share))
