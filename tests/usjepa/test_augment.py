"""What happens to a frame on its way to the student, and to its region with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import config

from usjepa import augment
from usjepa.frames import preprocess
from usjepa.frames.store import Frame

STILL = {
    "flip_horizontal": 0,
    "flip_vertical": 0,
    "blur_probability": 0,
    "speckle_probability": 0,
    "contrast_probability": 0,
}


def ramp(height: int = 60, width: int = 80) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return (rows + 2 * columns).astype(np.uint8)


def seen(frame: Frame, seed: int = 0, conditioned: bool = False, **augments: Any) -> augment.Seen:
    data = {"augment": {**STILL, **augments}, "crop_scale": augments.pop("crop", (0.6, 1.0))}
    run = config(data=data, region_conditioning=conditioned)
    return augment.training(frame, run, np.random.default_rng(seed))


def test_a_draw_is_a_function_of_the_generator() -> None:
    frame = Frame(ramp(), None)
    every = {
        "blur_probability": 1,
        "speckle_probability": 1,
        "contrast_probability": 1,
        "flip_vertical": 0.5,
    }
    one, again, other = (seen(frame, seed, **every).pixels for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert one.shape == (32, 32)
    assert one.dtype == np.uint8


@pytest.mark.parametrize(("name", "axis"), [("flip_horizontal", 1), ("flip_vertical", 0)])
def test_flips_turn_pixels_and_region_alike(name: str, axis: int) -> None:
    region = np.zeros((60, 80), bool)
    region[:20, :30] = True
    frame = Frame(ramp(), region)
    plain, flipped = (seen(frame, 3, True, **{name: chance}) for chance in (0, 1))
    assert np.array_equal(flipped.pixels, np.flip(plain.pixels, axis))
    assert plain.valid is not None
    assert flipped.valid is not None
    assert np.array_equal(flipped.valid, np.flip(plain.valid, axis))
    assert plain.valid.any()
    assert not plain.valid.all()


@settings(max_examples=60)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    seed=st.integers(0, 10**6),
)
def test_crops_lie_in_the_frame_and_keep_to_scale_and_aspect(
    height: int, width: int, seed: int
) -> None:
    run = config(data={"crop_scale": (0.3, 0.8)})
    draws = np.random.default_rng(seed).random(22)
    view = augment._crop(height, width, run, draws)
    assert 0 <= view.top <= view.top + view.height <= height
    assert 0 <= view.left <= view.left + view.width <= width
    assert min(view.height, view.width) >= 1
    if min(height, width) >= 40 and max(height, width) <= 1.5 * min(height, width):
        assert 0.27 < view.height * view.width / (height * width) < 0.83
        assert 0.70 < view.width / view.height < 1.40


def test_crop_areas_are_spread_over_their_range() -> None:
    run = config(data={"crop_scale": (0.2, 1.0)})
    generator = np.random.default_rng(0)
    areas = []
    for _ in range(500):
        view = augment._crop(100, 100, run, generator.random(22))
        areas.append(view.height * view.width / 10_000)
    assert min(areas) < 0.25
    assert max(areas) > 0.9
    assert 0.5 < np.mean(areas) < 0.62  # the largest do not fit at every aspect


def test_the_stretch_is_of_the_region_only_with_region_conditioning() -> None:
    pixels = np.full((40, 40), 250, np.uint8)
    pixels[10:30, 10:30] = np.arange(20)[None] + 60
    region = np.zeros((40, 40), bool)
    region[10:30, 10:30] = True
    inside = augment.plain(Frame(pixels, region), config(region_conditioning=True))
    whole = augment.plain(Frame(pixels, region), config())
    assert whole.valid is None
    assert inside.valid is not None
    centre = (slice(12, 20), slice(12, 20))
    assert np.ptp(inside.pixels[centre].astype(int)) > 80
    assert np.ptp(whole.pixels[centre].astype(int)) < 20


def test_a_frame_without_region_is_valid_everywhere() -> None:
    found = augment.plain(Frame(ramp(), None), config(region_conditioning=True))
    assert found.valid is not None
    assert found.valid.all()


def test_a_plain_view_is_the_whole_frame() -> None:
    frame = Frame(ramp(32, 32), None)
    assert np.array_equal(
        augment.plain(frame, config()).pixels, preprocess.stretch(frame.pixels, (2, 98), None)
    )


def test_strengths_are_kept() -> None:
    flat = np.full((64, 64), 100, np.uint8)
    flat[:2] = 0
    flat[-2:] = 200
    frame = Frame(flat, None)
    plain = seen(frame, 5).pixels.astype(float)
    noisy = seen(frame, 5, speckle_probability=1, speckle_sigma=(0.2, 0.2)).pixels / plain.clip(1)
    assert np.std(noisy[8:-8]) == pytest.approx(0.2, abs=0.02)
    half = seen(frame, 5, contrast_probability=1, contrast_factor=(0.5, 0.5)).pixels
    middle = np.median(plain)
    np.testing.assert_allclose(half, middle + 0.5 * (plain - middle), atol=1)
    soft = seen(frame, 5, blur_probability=1, blur_sigma=(1, 1)).pixels.astype(float)
    assert np.abs(np.diff(soft, axis=0)).max() < np.abs(np.diff(plain, axis=0)).max()


def test_colours_stay_where_frames_have_them() -> None:
    frame = Frame(np.stack([ramp(), ramp() // 2, ramp() // 3], -1), None)
    found = seen(frame, 1, blur_probability=1, speckle_probability=1, contrast_probability=1)
    assert found.pixels.shape == (32, 32, 3)
