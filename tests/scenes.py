"""Small fans full of texture, made for tests: SYNTHETIC, and no two alike."""

from __future__ import annotations

import numpy as np
import PIL.Image
import scipy.ndimage


def scene(seed: int, size: tuple[int, int] = (150, 200)) -> np.ndarray:
    """A sector in a black frame, uint8 RGB [H, W, 3]; the sector is the same for all seeds."""
    h, w = size
    generator = np.random.default_rng(seed)
    texture = 100 + sum(
        scipy.ndimage.gaussian_filter(generator.normal(size=size), sigma) * sigma * 40
        for sigma in (1.2, 3, 8)
    )
    y, x = np.mgrid[:h, :w]
    radius = np.hypot(y + 0.1 * h, x - w / 2)
    angle = np.abs(np.arctan2(x - w / 2, y + 0.1 * h))
    fan = (angle < 0.7) & (radius > 0.2 * h) & (radius < 1.02 * h)
    grey = np.where(fan, np.clip(texture, 12, 255), 0).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def save(seed: int, path: object) -> None:
    PIL.Image.fromarray(scene(seed)).save(path)  # type: ignore[arg-type]
