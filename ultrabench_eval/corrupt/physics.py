"""What a scanner or a patient does to an image, in physical units; only inside the region.

A grey value v stands for an echo of 60 v / 255 - 60 dB: the usual display range, of which a file
no longer tells. All take (image, mask, level, rng) as `Corruption.apply` says. A change is worked
out on the luma and added to all three channels, so that coloured marks stay coloured. What is
written over the tissue can't be told from echoes and is changed with them.

What happens to an echo on its way (`attenuation`, `shadow`, `speckle_looks`) happens before the
receiver's noise is added. That noise is the level of black: only what stands out of it changes, and
black stays black.

H, W are an image's height and width.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from tasks.scan import coordinates
from ultrabench_eval.corrupt.pixels import grey

RANGE = 60.0  # dB between black and white
GREY_PER_DB = 255 / RANGE
NOISE = 10 ** (-RANGE / 10)  # power of what is shown black; that of white is 1
POWER = (10 ** ((np.arange(256) / GREY_PER_DB - RANGE) / 10) - NOISE).astype(np.float32)
"""Power above the noise of each grey value."""

SLIDERS = 8  # of a console's time-gain compensation
LATEST, WIDEST = 0.5, 0.2  # depth a shadow starts at; half its width, in lateral units
# Speckle grains, full width at half maximum of the point spread: about two wavelengths of 400 in
# depth, and a beam as wide as 1.5 % of the field.
GRAIN = (0.006, 0.015)


def attenuation(
    image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Echoes lose `level` dB at the far end, there and back, and less above, linearly in depth.

    The levels 6, 12, 18: tissue that attenuates 0.1, 0.2, 0.3 dB/cm/MHz more than the scanner makes
    up for, at 3 MHz and 10 cm. A fatty liver's excess is in this range.
    """
    return _weakened(image, mask, level * coordinates.of(mask).depth)


def dynamic_range(
    image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Show `level` dB below white instead of 60: darker is black, and the rest is spread.

    The levels 54, 48, 42 are settings that consoles offer. They black out about 0.2, 0.4, 0.6 of
    the regions of AUL; at 30 dB only the brightest reflectors would be left.
    """
    black = 255 - level * GREY_PER_DB
    table = (np.arange(256) - black) * (RANGE / level)
    return _moved(image, mask, (np.maximum(table, 0) - np.arange(256))[grey(image)])


def gain(image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Eight sliders over depth are set wrong, each at random; `level` is their rms error in dB.

    The rms is exact for every image, only the curve differs; it includes an error of the overall
    gain. Black stays black here too, as if what a console rejects were gone for good: lifted, it
    would be a flat haze with the mask's outline, which no console shows. The levels 3, 6, 9 are a
    part of the sliders' usual reach of 10 to 20 dB.
    """
    sliders = rng.standard_normal(SLIDERS)
    sliders *= level / np.sqrt(np.mean(sliders**2))
    decibels = np.interp(coordinates.of(mask).depth, np.linspace(0, 1, SLIDERS), sliders)
    return _weakened(image, mask, -decibels)


def lateral_resolution(
    image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Widen the beam: power is averaged across depth with a Gaussian of `level` % of the field.

    The width is the full one at half maximum, and adds in squares to what the image has. Power, so
    a bright point smears over its dark neighbours and a cyst fills from its sides. The levels
    1.5, 3, 6: a good beam has 1 to 3 % (0.5 mm of 38 mm, 2 of 70 degrees); 6 is far out of focus.
    """
    before = grey(image)
    power = coordinates.of(mask).blur(POWER[before], mask, along=0, across=level / 100)
    return _moved(image, mask, _shown(power) - before)


def shadow(
    image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """One to three shadows along the beams, from a random depth downwards, of `level` dB.

    The levels 10, 20, 30: behind an edge or a calcification, a stone, and gas or bone. The
    reflector itself is not drawn, for that would add a finding.
    """
    scan = coordinates.of(mask)
    covered = np.zeros(mask.shape, np.float32)
    for _ in range(rng.integers(1, 4)):
        centre, half = rng.uniform(-0.8, 0.8), rng.uniform(0.4 * WIDEST, WIDEST)
        start = rng.uniform(0.1, LATEST)
        across = np.square(np.square((scan.lateral - np.float32(centre)) / np.float32(half)))
        along = np.clip((scan.depth - np.float32(start)) / np.float32(0.03), 0, 1)
        np.maximum(covered, along * np.exp(-across), out=covered)
    return _weakened(image, mask, level * covered)


def speckle_looks(
    image: np.ndarray, mask: np.ndarray, level: float, rng: np.random.Generator
) -> np.ndarray:
    """Multiply the power by gamma noise of mean 1 and sd 1 / sqrt(`level`), the number of looks.

    That is the speckle of so many independent frames, averaged; it comes on top of the image's own.
    The levels 4, 2, 1: from usual compounding to none. A correlated Gaussian field is mapped to the
    gamma distribution (a copula), so that its values are exact and its grains follow the beams:
    short in depth, wider across, and in a sector ever wider with depth.
    """
    field = coordinates.of(mask).noise(rng, *GRAIN)
    # Looked up, to the nearest of 200 steps to one sd: as fine as grey values, and fast.
    gaussian = np.arange(-1000, 1001) / 200
    gamma = special.gammaincinv(level, special.ndtr(gaussian)) / level
    step = np.clip(field * 200 + 1000.5, 0, 2000).astype(np.int32)
    return _multiplied(image, mask, gamma.astype(np.float32)[step])


def _weakened(image: np.ndarray, mask: np.ndarray, decibels: np.ndarray) -> np.ndarray:
    """The image with its echoes weakened by `decibels` [H, W], which may be negative."""
    factor = np.exp(decibels.astype(np.float32) * np.float32(-np.log(10) / 10))
    return _multiplied(image, mask, factor)


def _multiplied(image: np.ndarray, mask: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The image with the power of its echoes times `factor`, float32 [H, W]."""
    before = grey(image)
    return _moved(image, mask, _shown(POWER[before] * factor) - before)


def _shown(power: np.ndarray) -> np.ndarray:
    """Grey values, float32 of the same shape, of powers above the noise."""
    return 255 + np.float32(10 * GREY_PER_DB) * np.log10(power + np.float32(NOISE))


def _moved(image: np.ndarray, mask: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The image with `change` [H, W], in grey values, added to all channels inside the region."""
    steps = np.rint(np.where(mask, change, 0)).astype(np.int16)
    total = image + steps[..., None]
    return np.clip(total, 0, 255, out=total).astype(np.uint8)
