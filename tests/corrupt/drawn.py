"""Sectors and rectangles of which everything is known, and textured images: SYNTHETIC."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def sector(
    shape: tuple[int, int],
    apex: tuple[float, float],
    half: float = 0.6,
    inner: float = 40.0,
    outer: float = 200.0,
    flat: bool = False,
) -> np.ndarray:
    """A sector's mask, bool [H, W]; `apex` is (row, column), angles in radians.

    With `flat`, the near end is a straight line `inner` pixels below the apex.
    """
    rows, columns = np.indices(shape)
    down, right = rows - apex[0], columns - apex[1]
    radius, angle = np.hypot(down, right), np.arctan2(right, down)
    near = down if flat else radius
    return (np.abs(angle) <= half) & (near >= inner) & (radius <= outer)


def rectangle(shape: tuple[int, int], margin: int) -> np.ndarray:
    """A rectangle's mask, bool [H, W], `margin` pixels inside the frame."""
    mask = np.zeros(shape, bool)
    mask[margin : shape[0] - margin, margin : shape[1] - margin] = True
    return mask


def texture(shape: tuple[int, int], seed: int = 0, mean: float = 110) -> np.ndarray:
    """A grey image with grains of several sizes, uint8 [H, W, 3]."""
    generator = np.random.default_rng(seed)
    grains = sum(
        ndimage.gaussian_filter(generator.standard_normal(shape), sd) * sd * 40 for sd in (1, 3, 8)
    )
    grey = np.clip(mean + np.asarray(grains), 20, 235).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def flat(shape: tuple[int, int], level: int) -> np.ndarray:
    """A constant grey image, uint8 [H, W, 3]."""
    return np.full((*shape, 3), level, np.uint8)
