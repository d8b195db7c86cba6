"""How a mask lies on the places of a feature map, and what a map says of a mask's pixels.

A map of h x w places lies over an encoder's whole input; the image fills the `extent` of it
(`Encoder.extent`), parts of its height and width, and the rest is padding. H and W are the sides
of the mask in pixels, C the number of classes. Rows and columns are apart in all of this, so each
step is a product with one small matrix for the rows and one for the columns.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

Extent = tuple[float, ...]
"""Height and width of the image in the input, each in (0, 1]; then, unless it is at the top left,
how far down and to the right it begins."""
Size = tuple[int, int]
"""Rows and columns."""


def shares(mask: np.ndarray, classes: int, grid: Size, extent: Extent) -> np.ndarray:
    """Which part of the area of each place is of each class, float32 [C, h, w] in [0, 1].

    The sum over the classes is the part that shows the image and isn't ignored. Exact: a pixel that
    lies in several places counts in each with the part of it that does.

    Args:
        mask: uint8 [H, W], codes below C; any other code is ignored.
        classes: C.
        grid: h and w.
        extent: of the image in the input.
    """
    (rows, columns), (height, width) = grid, mask.shape
    down = _areas(rows, height, *_along(extent, 0))
    right = _areas(columns, width, *_along(extent, 1))
    each = mask == np.arange(classes, dtype=np.uint8)[:, None, None]
    return np.asarray(down @ each.astype(np.float32) @ right.T)


def upsampled(values: np.ndarray, size: Size, extent: Extent) -> np.ndarray:
    """The values of a map at the centres of a mask's pixels: [..., h, w] -> float32 [..., H, W].

    Bilinear between the centres of the places, as torch's `interpolate` with align_corners=False
    would do for the whole input; the padding is then cut off. Only places that show some of the
    image count, as no head learns anything of the others.

    Args:
        values: logits, or anything else, of each place.
        size: H and W.
        extent: of the image in the input.
    """
    rows, columns = values.shape[-2:]
    down = _weights(rows, size[0], *_along(extent, 0))
    right = _weights(columns, size[1], *_along(extent, 1))
    return np.asarray(down @ values.astype(np.float32) @ right.T)


def coarsened(values: np.ndarray, side: int, extent: Extent) -> np.ndarray:
    """Means over the places of a map of at most `side` x `side`: float32 [..., h', w'].

    A side that is not longer stays as it is. Each place counts with the area of it that shows the
    image; places that show none of it are 0.

    Args:
        values: [..., h, w].
        side: the longest that a side may be, in places.
        extent: of the image in the input.
    """
    rows, columns = values.shape[-2:]
    down = _means(rows, min(side, rows), *_along(extent, 0))
    right = _means(columns, min(side, columns), *_along(extent, 1))
    return np.asarray(down @ values.astype(np.float32) @ right.T)


def _along(extent: Extent, axis: int) -> tuple[float, float]:
    """The part of an axis that shows the image, and where it begins."""
    return extent[axis], extent[2 + axis] if len(extent) > 2 else 0.0


@lru_cache(maxsize=64)
def _areas(places: int, pixels: int, part: float, start: float) -> np.ndarray:
    """How much of each place each pixel covers, in parts of the place: float32 [places, pixels]."""
    edges = np.arange(pixels + 1) * (part * places / pixels) + start * places  # in places
    return _overlap(np.arange(places + 1.0), edges)


@lru_cache(maxsize=64)
def _weights(places: int, pixels: int, part: float, start: float) -> np.ndarray:
    """What each place weighs at the centre of each pixel: float32 [pixels, places]."""
    first, last = int(start * places + 1e-6), _last(places, start + part)
    centres = (np.arange(pixels) + 0.5) * (part * places / pixels) + start * places - 0.5
    at = np.clip(centres, first, last)[:, None]
    found = np.clip(1 - np.abs(at - np.arange(places)), 0, 1)
    return _fixed(found)


@lru_cache(maxsize=64)
def _means(places: int, coarse: int, part: float, start: float) -> np.ndarray:
    """What each place weighs in the mean over a coarser one: float32 [coarse, places]."""
    shown = np.clip((start + part) * places - np.arange(places), 0, 1)
    shown -= np.clip(start * places - np.arange(places), 0, 1)
    shown[shown < 1e-6] = 0  # by rounding, of a place that the image only touches
    edges = np.arange(places + 1) * (coarse / places)
    found = _overlap(np.arange(coarse + 1.0), edges).astype(np.float64) * shown
    total = found.sum(1, keepdims=True)
    return _fixed(np.divide(found, total, out=np.zeros_like(found), where=total > 0))


def _last(places: int, part: float) -> int:
    """The last place that shows some of the image; 1e-6 of a place is rounding."""
    return max(0, int(np.ceil(part * places - 1e-6)) - 1)


def _overlap(edges: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Lengths that the intervals between `edges` share with those between `others`."""
    low = np.maximum(edges[:-1, None], others[:-1])
    high = np.minimum(edges[1:, None], others[1:])
    return _fixed(np.clip(high - low, 0, None))


def _fixed(found: np.ndarray) -> np.ndarray:
    """float32, and not to be written to: callers share it."""
    found = found.astype(np.float32)
    found.setflags(write=False)
    return found
