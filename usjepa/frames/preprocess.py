"""What is done to a frame before it is trained on (section 4.3).

Grey, with coloured marks painted over (`grey`, once, when the frame is indexed); then the 2nd and
98th percentiles to the full range, perhaps of the ultrasound region only (`stretch`, at each read).
"""

from __future__ import annotations

import cv2
import numpy as np
import PIL.Image

# Its threads would fight with those of torch, and the pictures are small.
cv2.setNumThreads(0)

VERSION = "1"
"""Raised whenever `grey` would give other pixels for some image."""

COLOURED = 12  # chroma (Cb or Cr) apart from the image's tint; JPEG's noise stays below
SPECK = 5  # connected coloured pixels that make a mark, at least; fewer are noise
FAINT = 7  # chroma of what belongs to a mark if it is this near to one
NEAR = 4  # pixels
EDGE = 2  # pixels around a mark that are painted over with it: its blur
TINTED = 0.05  # share of the image that tells the tint of its grey level, at least
PAPER = (2.0, 98.0)  # percentiles of the paper
RADIUS = 3  # pixels around a hole that it is filled from


def grey(image: np.ndarray, inpaint_below: float) -> np.ndarray:
    """Luma (ITU-R 601) of an image, uint8 [H, W], without its coloured marks.

    Args:
        image: uint8 RGB [H, W, 3].
        inpaint_below: marks are painted over (by Telea's method) if their share of the image is
            below this; colour Doppler and tinted images have more, and are only made grey.
    """
    luma = np.asarray(PIL.Image.fromarray(np.ascontiguousarray(image)).convert("L"))
    marks = coloured(image)
    if not 0 < marks.mean() < inpaint_below:
        return luma
    hole = cv2.dilate(marks.view(np.uint8), _disc(EDGE))
    return np.asarray(cv2.inpaint(luma, hole, RADIUS, cv2.INPAINT_TELEA))


def coloured(image: np.ndarray) -> np.ndarray:
    """Pixels of coloured marks, bool [H, W]: those whose colour is not the tint of the image.

    Many machines tint all they show, tissue too, by a colour for each grey level.

    Args:
        image: uint8 RGB [H, W, 3].
    """
    luma, *chroma = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
    apart = cv2.max(*(cv2.absdiff(one, cv2.LUT(luma, _tint(luma, one))) for one in chroma))
    strong = apart > COLOURED
    if not strong.any():
        return np.asarray(strong)
    _, labels, about, _ = cv2.connectedComponentsWithStats(strong.view(np.uint8), connectivity=8)
    large = about[:, cv2.CC_STAT_AREA] >= SPECK
    large[0] = False  # what is not coloured
    near = cv2.dilate(large[labels].view(np.uint8), _disc(NEAR))
    return np.asarray((apart > FAINT) & (near != 0))


def _tint(luma: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """The median of a chroma channel at each grey level, uint8 [256].

    From eight ranges of levels; those with few pixels, which may all be marks, follow the others.
    """
    counts = cv2.calcHist([luma, chroma], [0, 1], None, [8, 256], [0, 256, 0, 256])
    ends = counts.cumsum(axis=1)
    known = np.flatnonzero(ends[:, -1] >= TINTED * luma.size)
    medians = (ends < ends[:, -1:] / 2).sum(axis=1)
    levels = np.interp(np.arange(256), 32 * known + 15.5, medians[known])
    return np.asarray(levels.round().astype(np.uint8))


def _disc(radius: int) -> np.ndarray:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def reduced(pixels: np.ndarray, region: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A frame and its region with the shorter side at most `size`; nothing is enlarged.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
        region: bool [H, W].
        size: in pixels.
    """
    height, width = region.shape
    scale = size / min(height, width)
    if scale >= 1:
        return pixels, region
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    smaller = PIL.Image.fromarray(pixels).resize(shape, PIL.Image.Resampling.BICUBIC)
    mask = PIL.Image.fromarray(region).resize(shape, PIL.Image.Resampling.NEAREST)
    return np.asarray(smaller), np.asarray(mask)


def stretch(
    image: np.ndarray, percentiles: tuple[float, float], region: np.ndarray | None = None
) -> np.ndarray:
    """Map two percentiles of an image's values to 0 and 255, uint8 of the image's shape.

    Values outside are clipped; an image without contrast becomes all zeros. Pixels outside the
    region are mapped too, but don't count.

    Args:
        image: uint8 [H, W] or [H, W, 3].
        percentiles: of [0, 100], the lower first; numpy's linear interpolation.
        region: bool [H, W]; None: all pixels count, as do they if no pixel is True.
    """
    counts = _histogram(image, region)
    if not counts.any():
        counts = _histogram(image, None)
    bottom, top = (_percentile(counts, percent) for percent in percentiles)
    if top <= bottom:
        return np.zeros_like(image)
    scaled = (np.arange(256) - bottom) * (255 / (top - bottom))
    return np.asarray(cv2.LUT(image, scaled.round().clip(0, 255).astype(np.uint8)))


def has_contrast(image: np.ndarray, region: np.ndarray | None = None) -> bool:
    """Whether something is left of an image by `stretch`, of the region and of all of it."""
    return bool(stretch(image, PAPER, region).any() and stretch(image, PAPER).any())


def _histogram(image: np.ndarray, region: np.ndarray | None) -> np.ndarray:
    """How often each value occurs, int64 [256]."""
    mask = None if region is None else np.ascontiguousarray(region, np.uint8)
    channels = 1 if image.ndim == 2 else image.shape[2]
    counts = [cv2.calcHist([image], [i], mask, [256], [0, 256]) for i in range(channels)]
    return np.asarray(np.sum(counts, axis=0).ravel().astype(np.int64))


def _percentile(counts: np.ndarray, percent: float) -> float:
    """What `np.percentile` gives for values that occur so often, int64 [256], to the last bit."""
    ends = counts.cumsum()
    place = (int(ends[-1]) - 1) * (percent / 100)
    below = int(place)
    share = place - below
    low, high = np.searchsorted(ends, [below, min(below + 1, int(ends[-1]) - 1)], side="right")
    gap = float(high - low)
    # Numpy starts from the nearer end.
    return float(low + gap * share if share < 0.5 else high - gap * (1 - share))
