"""The three corruptions of the US-JEPA paper, appendix E.2, and how we read them.

All take (image, mask, level, rng) as `Corruption.apply` says. What the paper leaves open:

- The resolution they act at. Its models see 224 x 224 pixels, so lengths are pixels of an image
  whose short side is 224: at that size the printed formulas hold literally, and at any other a
  model that resizes to 224 sees about the same.
- The border: reflected without repeating the outermost pixel, as OpenCV and torchvision do.
- The sd of smoothing kernels of 3, 5, 7: OpenCV's rule, from their size.

H, W are an image's height and width, h, w those of the same image with a short side of 224.
"""

from __future__ import annotations

import math

import numpy as np
import PIL.Image
from scipy import ndimage

from ultrabench_eval.corrupt.pixels import grey, to_uint8

SHORT_SIDE = 224


def blur(image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian blur of the whole image; `level` is the sd in pixels of h x w.

    To each side the kernel has 2 sd taps, rounded down: it is cut off at two sd, and sums to one.
    """
    scale = min(image.shape[:2]) / SHORT_SIDE
    blurred = ndimage.gaussian_filter(
        image.astype(np.float32),
        level * scale,
        radius=round(math.floor(2 * level) * scale),
        mode="mirror",
        axes=(0, 1),
    )
    return to_uint8(blurred)


def contrast(
    image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Shrink grey values towards the region's median grey value, to a share of `level`.

    Only inside the region. The formula has the whole image in it, but it would lift a black screen
    to the tissue's grey, and a black screen has no boundaries that could fade.
    """
    median = np.float32(np.median(grey(image)[mask]))
    shrunk = median + np.float32(level) * (image.astype(np.float32) - median)
    return to_uint8(np.where(mask[..., None], shrunk, image))


def speckle(
    image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Multiply the image by 1 + smoothed noise; `level` is the noise's sd before smoothing.

    The kernel has 2 e + 1 pixels of h x w where `level` is 0.35 e: 3, 5, 7. As printed, nothing
    makes up for what smoothing takes of the sd: of 0.35, 0.70, 1.05 it leaves 0.135, 0.186, 0.216.
    Between the points of h x w the field is interpolated.
    """
    size = 2 * round(level / 0.35) + 1
    height, width = image.shape[:2]
    field = noise_field(_at_short_side(height, width), level, size, rng)
    if field.shape != (height, width):
        stretched = PIL.Image.fromarray(field).resize(
            (width, height), PIL.Image.Resampling.BILINEAR
        )
        field = np.asarray(stretched)
    return to_uint8(image * (1 + field)[..., None])


def noise_field(
    shape: tuple[int, int], sd: float, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Smoothed white noise, float32 [h, w].

    Args:
        shape: h, w.
        sd: of the noise before smoothing.
        size: odd width of the kernel in pixels; see `kernel_sd`.
    """
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32(sd)
    return ndimage.gaussian_filter(noise, kernel_sd(size), radius=size // 2, mode="mirror")


def kernel_sd(size: int) -> float:
    """The sd in pixels that goes with a Gaussian kernel of `size` pixels; OpenCV's rule."""
    return 0.3 * ((size - 1) * 0.5 - 1) + 0.8


def _at_short_side(height: int, width: int) -> tuple[int, int]:
    scale = SHORT_SIDE / min(height, width)
    return round(height * scale), round(width * scale)
