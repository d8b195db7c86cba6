"""The paper's three corruptions against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn import flat, rectangle, texture
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torchvision.transforms.v2.functional import gaussian_blur

from ultrabench_eval import corrupt
from ultrabench_eval.corrupt import paper


def apply(image: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    return corrupt.corrupt(image, name, severity, mask=None, seed=seed)


# ---- blur -----------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_blur_is_the_printed_formula_at_a_short_side_of_224(severity: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 300, 3), dtype=np.uint8)
    size = 2 * int(2 * severity) + 1
    tensor = torch.from_numpy(image).permute(2, 0, 1).double()
    expected = gaussian_blur(tensor, [size, size], [float(severity)] * 2).permute(1, 2, 0).numpy()
    assert np.abs(apply(image, "blur", severity) - expected).max() < 0.501


@given(st.integers(0, 255), st.integers(1, 3), st.tuples(*[st.integers(1, 60)] * 2))
@settings(max_examples=30)
def test_blur_leaves_constant_images(level: int, severity: int, shape: tuple[int, int]) -> None:
    image = flat(shape, level)
    assert np.array_equal(apply(image, "blur", severity), image)


def test_blur_at_twice_the_size_looks_the_same_at_224() -> None:
    small = texture((224, 300))
    large = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
    blurred = apply(large, "blur", 2).astype(float)
    reduced = blurred.reshape(224, 2, 300, 2, 3).mean(axis=(1, 3))
    assert np.abs(reduced - apply(small, "blur", 2)).mean() < 1


# ---- contrast -------------------------------------------------------------------------------


@pytest.mark.parametrize(("severity", "kept"), [(1, 0.7), (2, 0.5), (3, 0.3)])
def test_contrast_is_the_formula_inside_and_nothing_outside(severity: int, kept: float) -> None:
    image = np.random.default_rng(1).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    image[:9] = 255  # would move the median if it counted
    mask = rectangle((50, 70), 9)
    mask[10:14, 20:30] = False
    luma = image @ [0.299, 0.587, 0.114]
    median = np.median(np.rint(luma[mask]))
    result = corrupt.corrupt(image, "contrast", severity, mask=mask, seed=0)
    expected = median + kept * (image[mask] - median)
    # Half a level of rounding, and Pillow's luma may round to a neighbour.
    assert np.abs(result[mask] - expected).max() < 0.501 + 1
    assert np.array_equal(result[~mask], image[~mask])


def test_contrast_goes_to_the_median_and_not_to_the_mean() -> None:
    image = flat((10, 10), 40)
    image[:3] = 240  # mean 100
    result = apply(image, "contrast", 2)
    assert (result[3:] == 40).all()
    assert (result[:3] == 140).all()


# ---- speckle --------------------------------------------------------------------------------


def fields(severity: int, count: int = 8) -> np.ndarray:
    """Noise fields [count, 224, 300] of one severity."""
    size = 2 * severity + 1
    generators = [np.random.default_rng(seed) for seed in range(count)]
    return np.stack(
        [paper.noise_field((224, 300), 0.35 * severity, size, rng) for rng in generators]
    )


@pytest.mark.parametrize(("severity", "left"), [(1, 0.135), (2, 0.186), (3, 0.216)])
def test_speckle_field_has_the_sd_that_its_kernel_leaves(severity: int, left: float) -> None:
    # The kernel by hand: its response to a single point.
    point = np.zeros((15, 15), np.float32)
    point[7, 7] = 1
    sd = {1: 0.8, 2: 1.1, 3: 1.4}[severity]  # OpenCV's rule for 3, 5, 7
    kernel = ndimage.gaussian_filter(point, sd, radius=severity)
    assert (kernel > 0).sum() == (2 * severity + 1) ** 2
    theory = 0.35 * severity * np.sqrt((kernel.astype(float) ** 2).sum())
    assert theory == pytest.approx(left, abs=0.0006)
    field = fields(severity)
    assert field.std() == pytest.approx(theory, rel=0.02)
    assert abs(field.mean()) < 0.003


def test_speckle_grains_grow_with_severity() -> None:
    def correlation(field: np.ndarray, lag: int) -> float:
        return float((field[..., lag:] * field[..., :-lag]).mean() / field.var())

    for lag in (1, 2, 3):
        one, two, three = (correlation(fields(severity), lag) for severity in (1, 2, 3))
        assert one < two < three


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_speckle_multiplies_the_image_by_the_field(severity: int) -> None:
    image = texture((224, 260))
    corruption = corrupt.CORRUPTIONS["speckle"]
    level = corruption.level(severity)
    mask = np.ones((224, 260), bool)
    result = corruption.apply(image, mask, level, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    field = paper.noise_field((224, 260), 0.35 * severity, 2 * severity + 1, rng)
    expected = np.clip(image * (1 + field.astype(float))[..., None], 0, 255)
    assert np.abs(result - expected).max() < 0.501
    assert (apply(flat((30, 30), 0), "speckle", severity) == 0).all()


def test_speckle_is_cut_at_white_and_one_field_for_all_channels() -> None:
    image = flat((224, 224), 250)
    image[..., 2] = 125
    result = apply(image, "speckle", 3)
    assert (result[..., 0] == 255).mean() > 0.3  # and none has wrapped around to black
    assert np.abs(result[..., 2].astype(int) * 2 - result[..., 0])[result[..., 0] < 255].max() <= 2


@pytest.mark.parametrize("factor", [2, 3])
def test_speckle_seen_at_224_does_not_depend_on_the_resolution(factor: int) -> None:
    small = apply(flat((224, 280), 120), "speckle", 2).astype(float)
    large = apply(flat((224 * factor, 280 * factor), 120), "speckle", 2).astype(float)
    reduced = large.reshape(224, factor, 280, factor, 3).mean(axis=(1, 3))
    assert np.corrcoef(small.ravel(), reduced.ravel())[0, 1] > 0.98
    assert reduced.std() == pytest.approx(small.std(), rel=0.15)
