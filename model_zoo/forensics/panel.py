"""The images that an encoder is examined with: SYNTHETIC, drawn here, the same in every run.

Leaves: overlapping discs in the colours of photographs, whose statistics are those of natural
images (edges at all scales, mean and spread of ImageNet). Scans: speckle with layers, lesions and
sectors, as ultrasound looks. No image of any data set is among them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import PIL.Image
from scipy import ndimage

SIZES = ((240, 320), (288, 240), (256, 256), (192, 304))
LEAVES, SCANS = 8, 12
_COLOUR = np.array([0.485, 0.456, 0.406])  # ImageNet's mean
_WARM, _GREEN = np.array([1.0, 0, -1]), np.array([-0.5, 1, -0.5])


@lru_cache(1)
def leaves() -> list[np.ndarray]:
    """Photograph-like images, uint8 [H, W, 3]."""
    return [_leaves(np.random.default_rng([1, n]), *SIZES[n % 4]) for n in range(LEAVES)]


@lru_cache(1)
def scans() -> list[np.ndarray]:
    """Ultrasound-like images in grey, uint8 [H, W, 3]."""
    return [_scan(np.random.default_rng([2, n]), *SIZES[n % 4], n % 2 == 0) for n in range(SCANS)]


@lru_cache(1)
def contents() -> list[np.ndarray]:
    """Four scans of one size and one mean grey: they differ in what they show, and in that only."""
    made = []
    for n in range(4):
        scan = _scan(np.random.default_rng([3, n]), 240, 320, False)[..., 0].astype(float)
        grey = (scan * 90 / scan.mean()).clip(0, 255).round()
        _move_mean(grey, 80.0, np.random.default_rng([4, n]))
        made.append(np.repeat(grey.astype(np.uint8)[..., None], 3, 2))
    return made


def brighter(image: np.ndarray) -> list[np.ndarray]:
    """The image darker and brighter."""
    return [(image * share).clip(0, 255).round().astype(np.uint8) for share in (0.6, 1.4)]


def resized(image: np.ndarray) -> list[np.ndarray]:
    """The image smaller and larger."""
    height, width = image.shape[:2]
    sizes = [(width * 3 // 5, height * 3 // 5), (width * 2, height * 2)]
    return [np.asarray(PIL.Image.fromarray(image).resize(size)) for size in sizes]


def _move_mean(grey: np.ndarray, wanted: float, rng: np.random.Generator) -> None:
    """Change values [H, W] in place until their mean is `wanted`, to a hundredth of a level."""
    flat = grey.reshape(-1)
    while abs(missing := round(wanted * flat.size - flat.sum())) > 0:
        step = 1 if missing > 0 else -1
        free = np.flatnonzero((flat + step >= 0) & (flat + step <= 255))
        flat[rng.permutation(free)[: abs(missing)]] += step


def _leaves(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    image = np.empty((height, width, 3))
    image[:] = _colour(rng)
    largest = min(height, width) / 2
    # As many of radius r as r ** -3: natural images look alike at all scales.
    radii = (rng.random(400) * (1 / 9 - 1 / largest**2) + 1 / largest**2) ** -0.5
    for radius in radii:
        middle = rng.random(2) * (height, width)
        stretch, turn = np.exp(0.5 * rng.standard_normal()), rng.random() * np.pi
        reach = int(radius * max(stretch, 1 / stretch)) + 2
        top, left = (max(0, int(one) - reach) for one in middle)
        y, x = np.mgrid[top : int(middle[0]) + reach, left : int(middle[1]) + reach]
        y, x = y[: max(0, height - top), : width - left], x[: max(0, height - top), : width - left]
        down, right = y - middle[0], x - middle[1]
        along = (right * np.cos(turn) + down * np.sin(turn)) / radius
        across = (down * np.cos(turn) - right * np.sin(turn)) / radius
        inside = (along / stretch) ** 2 + (across * stretch) ** 2 < 1
        shade = 1 + 0.08 * rng.standard_normal() * along
        shade = shade + 0.08 * rng.standard_normal() * np.sin(9 * rng.random() * across)
        part = image[top : top + y.shape[0], left : left + y.shape[1]]
        part[inside] = (_colour(rng) * shade[..., None])[inside]
    image += 0.02 * rng.standard_normal((height, width, 1))
    return (image.clip(0, 1) * 255).round().astype(np.uint8)


def _colour(rng: np.random.Generator) -> np.ndarray:
    grey, warm, green = rng.standard_normal(3) * (0.24, 0.09, 0.04)
    return np.asarray(_COLOUR + grey + warm * _WARM + green * _GREEN)


def _scan(rng: np.random.Generator, height: int, width: int, sector: bool) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(float)
    tissue = np.full((height, width), 0.35 + 0.2 * rng.random())
    for _ in range(rng.integers(3, 8)):
        down, right = y - rng.random() * height, x - rng.random() * width
        turn = rng.random() * np.pi
        along = (right * np.cos(turn) + down * np.sin(turn)) / (width * (0.05 + 0.2 * rng.random()))
        across = (down * np.cos(turn) - right * np.sin(turn)) / (
            height * (0.05 + 0.2 * rng.random())
        )
        tissue[along**2 + across**2 < 1] = np.clip(0.4 + 0.3 * rng.standard_normal(), 0.02, 0.95)
    for _ in range(rng.integers(1, 5)):
        wave = np.sin(2 * np.pi * rng.random() * x / width + 6 * rng.random())
        line = height * (rng.random() + 0.1 * wave)
        tissue[abs(y - line) < height * 0.01 * (1 + rng.random())] = 0.9
    tissue = ndimage.gaussian_filter(tissue, 1.5)
    waves = [ndimage.gaussian_filter(rng.standard_normal(x.shape), (0.8, 1.8)) for _ in range(2)]
    speckle = np.hypot(*waves)
    echo = tissue**2.5 * speckle / speckle.mean() * np.exp(-1.2 * rng.random() * y / height)
    grey = np.log1p(60 * echo) / np.log1p(60)
    if sector:
        top, half = -height * (0.1 + 0.3 * rng.random()), 0.4 + 0.4 * rng.random()
        far, turn = np.hypot(x - width / 2, y - top), abs(np.arctan2(x - width / 2, y - top))
        grey *= (turn < half) & (far < height - 0.9 * top) & (far > 0.03 * height - top)
    grey *= 0.7 + 0.5 * rng.random()
    return np.repeat((grey.clip(0, 1) * 255).round().astype(np.uint8)[..., None], 3, 2)
