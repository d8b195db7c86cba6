"""USrc: the valid patches of an image (section 4.2), under the crop and flips that it was given.

The region mask goes through the same view as the image, by nearest neighbours, and is then tiled:
a patch is valid if at least one of its pixels lies in the region (P_valid).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class View(NamedTuple):
    """A crop of an image in whole pixels, resized to a square, then perhaps flipped."""

    top: int
    left: int
    height: int
    width: int
    flip_horizontal: bool = False
    """Left and right change places."""
    flip_vertical: bool = False


def whole(mask: np.ndarray) -> View:
    """The view of everything, as validation and encoding have it."""
    return View(0, 0, *mask.shape)


def valid_patches(mask: np.ndarray, view: View, image_size: int, patch_size: int) -> np.ndarray:
    """Patches of the viewed image with at least one pixel in the region, bool [G, G].

    Args:
        mask: the region in the original image, bool [H, W] or any numbers (not 0 is inside).
        view: what the image's pixels went through.
        image_size: side of the viewed image, in pixels; a multiple of `patch_size`.
        patch_size: side of a patch in pixels; G = image_size / patch_size.

    Raises:
        ValueError: the view does not lie in the mask, or the sizes do not fit.
    """
    if image_size % patch_size:
        raise ValueError(f"image size {image_size} is not a multiple of patch size {patch_size}")
    grid = image_size // patch_size
    rows = _sources(view.top, view.height, mask.shape[0], image_size, view.flip_vertical)
    columns = _sources(view.left, view.width, mask.shape[1], image_size, view.flip_horizontal)
    seen = mask[rows[:, None], columns] != 0  # [S, S]
    valid: np.ndarray = seen.reshape(grid, patch_size, grid, patch_size).any(axis=(1, 3))
    return valid


def _sources(start: int, length: int, limit: int, size: int, flip: bool) -> np.ndarray:
    """For each of `size` pixels, the one of the original that its centre falls into, [S]."""
    if start < 0 or length < 1 or start + length > limit:
        raise ValueError(
            f"the view takes pixels {start} to {start + length} of a mask that has {limit}"
        )
    # Whole numbers throughout, so that no rounding can differ between machines.
    places = start + (2 * np.arange(size) + 1) * length // (2 * size)
    return places[::-1] if flip else places
