"""Coloured marks go, tissue stays; the stretch is numpy's percentiles to the byte."""

from __future__ import annotations

import io
import time

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from model_zoo.transforms import _stretched
from usjepa.frames.preprocess import coloured, grey, has_contrast, stretch

TINT = np.array([0.8, 1.0, 1.1])  # bluish


def tissue(tint: np.ndarray | None = None) -> np.ndarray:
    """A smooth texture of 30 to 200, uint8 RGB [160, 200, 3], grey unless tinted."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(160, 200)), 3)
    texture = np.interp(noise, (noise.min(), noise.max()), (30, 200))[..., None]
    return (texture * (np.ones(3) if tint is None else tint)).astype(np.uint8)


def marked(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image with a yellow cross and a blue bar, and where they are, bool [H, W]."""
    marks = np.zeros(image.shape[:2], bool)
    marks[60:73, 66] = marks[66, 60:73] = marks[120:126, 30:80] = True
    image = image.copy()
    image[marks] = (230, 220, 60)
    image[120:126, 30:80] = (60, 60, 230)
    return image, marks


def as_jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(PIL.Image.open(file))


def luma(image: np.ndarray) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(image).convert("L"))


@pytest.mark.parametrize("tint", [None, TINT], ids=["grey", "tinted"])
@pytest.mark.parametrize("quality", [None, 70])
def test_marks_are_painted_over_and_nothing_else(
    tint: np.ndarray | None, quality: int | None
) -> None:
    plain = tissue(tint)
    image, marks = marked(plain)
    if quality is not None:
        plain, image = as_jpeg(plain, quality), as_jpeg(image, quality)
    assert not coloured(plain).any()
    assert coloured(image)[marks].mean() > 0.9
    far = ~ndimage.binary_dilation(marks, iterations=20)  # JPEG's colours are in blocks of 16
    assert not coloured(image)[far].any()
    result = grey(image, 0.05)
    np.testing.assert_array_equal(result[far], luma(image)[far])
    cross = marks[:100]  # much brighter than the tissue, as the bar is not
    wrong, before = (
        np.abs(one[:100][cross].astype(int) - luma(plain)[:100][cross]).mean()
        for one in (result, luma(image))
    )
    assert wrong < before / 6


def test_much_colour_is_only_made_grey() -> None:
    image, _ = marked(tissue())
    image[10:60, 20:80] = (200, 40, 30)
    assert coloured(image).mean() > 0.05
    np.testing.assert_array_equal(grey(image, 0.05), luma(image))
    image, _ = marked(tissue())
    np.testing.assert_array_equal(grey(image, 0.0), luma(image))


def test_specks_are_no_marks() -> None:
    image = tissue()
    image[20:22, 30:32] = (230, 220, 60)
    assert not coloured(image).any()


def test_odd_images() -> None:
    for shape in ((1, 1, 3), (2, 300, 3), (300, 1, 3)):
        image = np.broadcast_to(np.uint8(90), shape)  # read-only, and not contiguous
        np.testing.assert_array_equal(grey(image, 0.05), 90)


images = st.tuples(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 255), st.integers(0, 255), st.integers(0)
).map(
    lambda drawn: np.random.default_rng(drawn[4]).integers(
        min(drawn[2:4]), max(drawn[2:4]) + 1, drawn[:2], dtype=np.uint8
    )
)
percentiles = st.tuples(st.floats(0, 100), st.floats(0, 100)).map(
    lambda pair: (min(pair), max(pair))
)


@settings(max_examples=200)
@given(images, percentiles)
def test_stretch_is_that_of_the_models(image: np.ndarray, pair: tuple[float, float]) -> None:
    np.testing.assert_array_equal(stretch(image, pair), _stretched(image, *pair))
    image = np.stack([image, image // 2, image // 3], axis=-1)
    np.testing.assert_array_equal(stretch(image, pair), _stretched(image, *pair))


@settings(max_examples=100)
@given(images, st.integers(0, 10**6))
def test_only_the_region_counts(image: np.ndarray, seed: int) -> None:
    region = np.random.default_rng(seed).random(image.shape) < 0.6
    region.flat[0] = True
    outside = np.where(region, image, 255 - image)
    result = stretch(image, (2, 98), region)
    np.testing.assert_array_equal(result[region], stretch(outside, (2, 98), region)[region])
    np.testing.assert_array_equal(result[region], _stretched(image[region], 2, 98))


def test_without_contrast_all_is_black() -> None:
    image = np.full((20, 30), 77, np.uint8)
    image[0, 0] = 200  # clipped
    assert not stretch(image, (2, 98)).any()
    assert not has_contrast(image)
    half = np.zeros(image.shape, bool)
    half[10:] = True
    image[:10] = np.arange(30)
    assert has_contrast(image)
    assert not has_contrast(image, half)


def test_an_empty_region_is_all() -> None:
    image = tissue()[..., 0]
    empty = np.zeros(image.shape, bool)
    np.testing.assert_array_equal(stretch(image, (2, 98), empty), stretch(image, (2, 98)))


def test_stretch_is_quick() -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 341), dtype=np.uint8)
    region = np.ones(image.shape, bool)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        stretch(image, (2, 98), region)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5e-3
