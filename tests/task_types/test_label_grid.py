"""Masks on the grid of a map and back: areas add up, and pixels are where they belong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.nn import functional

from ultrabench_eval.task_types.label_grid import coarsened, shares, upsampled

sides = st.integers(1, 40)
parts = st.floats(0.05, 1)


@given(sides, sides, sides, sides, parts, parts, st.integers(0, 99))
def test_shares_add_up_to_what_is_shown(h, w, height, width, down, right, seed) -> None:
    mask = np.random.default_rng(seed).integers(0, 3, (height, width), np.uint8)
    found = shares(mask, 3, (h, w), (down, right))
    rows, columns = (np.clip(p * n - np.arange(n), 0, 1) for p, n in ((down, h), (right, w)))
    np.testing.assert_allclose(found.sum(0), np.outer(rows, columns), atol=2e-5)
    assert found.dtype == np.float32
    # All of the area of each class is somewhere.
    area = np.bincount(mask.ravel(), minlength=3) / mask.size
    np.testing.assert_allclose(found.sum((1, 2)), area * down * right * h * w, rtol=1e-3, atol=1e-3)


@given(sides, sides, sides, sides, parts, parts, st.integers(0, 2))
def test_a_constant_mask_has_constant_shares(h, w, height, width, down, right, code) -> None:
    mask = np.full((height, width), code, np.uint8)
    found = shares(mask, 3, (h, w), (down, right))
    assert found.sum() == pytest.approx(found[code].sum())
    back = upsampled(np.where(found.sum(0) > 0, 1.0, -1e6), (height, width), (down, right))
    np.testing.assert_allclose(back, 1, atol=1e-5)  # padding is never looked at


def test_shares_are_means_where_places_hold_whole_pixels() -> None:
    mask = np.random.default_rng(0).integers(0, 2, (24, 40), np.uint8)
    mask[3:6, 2:9] = 255
    found = shares(mask, 2, (4, 5), (1, 1))
    for code in range(2):
        of_code = torch.from_numpy((mask == code).astype(np.float32))[None]
        wanted = functional.avg_pool2d(of_code, (6, 8))[0]
        np.testing.assert_allclose(found[code], wanted, atol=1e-6)
    assert found.sum(0).min() < 1  # ignored
    # The image in the top three quarters and left half of an input.
    padded = shares(mask, 2, (4, 10), (0.75, 0.5))
    np.testing.assert_allclose(padded[:, :3, :5], shares(mask, 2, (3, 5), (1, 1)), atol=1e-6)
    assert not padded[:, 3:].any()
    assert not padded[:, :, 5:].any()


@given(sides, sides, sides, sides)
def test_upsampling_is_torchs(h, w, height, width) -> None:
    logits = np.random.default_rng(0).normal(size=(2, 3, h, w)).astype(np.float32)
    wanted = functional.interpolate(
        torch.from_numpy(logits), (height, width), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(upsampled(logits, (height, width), (1, 1)), wanted, atol=2e-5)


def test_upsampling_inverts_the_padding() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 12, 16)).astype(np.float32)
    whole = functional.interpolate(
        torch.from_numpy(logits)[None], (120, 160), mode="bilinear", align_corners=False
    )[0].numpy()
    found = upsampled(logits, (90, 80), (0.75, 0.5))  # pixels as large as those of the whole
    np.testing.assert_allclose(found[:, :-5, :-5], whole[:, :85, :75], atol=1e-5)
    # Beyond the centre of the last place that shows the image it goes on as it is there.
    np.testing.assert_allclose(found[:, -5:, 5], np.repeat(whole[:, 85:86, 5], 5, 1), atol=0.4)
    spoiled = logits.copy()
    spoiled[:, 9:], spoiled[:, :, 8:] = 1e6, 1e6
    np.testing.assert_array_equal(upsampled(spoiled, (90, 80), (0.75, 0.5)), found)


def test_coarsening_is_a_mean_of_what_is_shown() -> None:
    logits = np.random.default_rng(0).normal(size=(2, 28, 56)).astype(np.float32)
    wanted = functional.avg_pool2d(torch.from_numpy(logits), (2, 4)).numpy()
    np.testing.assert_allclose(coarsened(logits, 14, (1, 1)), wanted, atol=1e-6)
    np.testing.assert_array_equal(coarsened(wanted, 14, (0.3, 1))[:, :5], wanted[:, :5])
    spoiled = logits.copy()
    spoiled[:, 15:] = 1e6  # 14.5 places are shown: half of the last of them
    found = coarsened(spoiled, 14, (14.5 / 28, 1))
    np.testing.assert_allclose(found[:, :7], wanted[:, :7], atol=1e-6)
    np.testing.assert_allclose(
        found[:, 7], functional.avg_pool2d(torch.from_numpy(logits[:, 14:15]), (1, 4))[:, 0],
        atol=1e-6,
    )  # fmt: skip
    assert not found[:, 8:].any()
    uneven = coarsened(np.ones((1, 31, 17)), 14, (0.61, 0.83))
    assert uneven[:, :9, :12] == pytest.approx(1)


@given(st.integers(1, 12), st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
@example(5, 5, 1, 0)  # 0.4 + 0.2 is more than 0.6
def test_an_image_in_the_middle_of_a_square(grid, height, width, seed) -> None:
    """Its extent has four numbers; the same mask with ignored bars fills a square."""
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    extent = (height / side, width / side, top / side, left / side)
    mask = np.random.default_rng(seed).integers(0, 3, (height, width), np.uint8)
    whole = np.full((side, side), 255, np.uint8)
    whole[top : top + height, left : left + width] = mask
    found = shares(mask, 3, (grid, grid), extent)
    np.testing.assert_allclose(found, shares(whole, 3, (grid, grid), (1, 1)), atol=1e-5)
    shown = found.sum(0)
    back = upsampled(np.where(shown > 1e-5, 1.0, -1e6), (height, width), extent)
    np.testing.assert_allclose(back, 1, atol=1e-4)  # bars are never looked at
    np.testing.assert_allclose(coarsened(shown * 0 + 1, grid, extent), shown > 1e-5, atol=1e-5)
    # Values that grow evenly are read at the place where a pixel lies in the square.
    rows, columns = np.indices((grid, grid))
    ramp = upsampled(rows + 100.0 * columns, (height, width), extent)
    all_of_it = upsampled(rows + 100.0 * columns, (side, side), (1, 1))
    inner = all_of_it[top : top + height, left : left + width]
    place = side / grid
    y, x = (np.arange(n) for n in (height, width))
    clear = np.outer((y > place) & (y < height - place), (x > place) & (x < width - place))
    np.testing.assert_allclose(ramp[clear], inner[clear], atol=1e-2)
