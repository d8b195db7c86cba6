"""Between uint8 pixels and what corruptions compute with."""

from __future__ import annotations

import numpy as np
import PIL.Image


def grey(image: np.ndarray) -> np.ndarray:
    """Luma, uint8 [H, W], of uint8 RGB [H, W, 3]; of a grey image exactly its values."""
    return np.asarray(PIL.Image.fromarray(np.ascontiguousarray(image)).convert("L"))


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Rounded to the nearest level and cut to [0, 255]; uint8 of the same shape."""
    levels: np.ndarray = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return levels
