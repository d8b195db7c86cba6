"""The physical corruptions against what their units say. v dB stands for 60 v / 255 - 60."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import flat, rectangle, sector, texture

from tasks.scan import coordinates
from ultrabench_eval import corrupt
from ultrabench_eval.corrupt import CORRUPTIONS, physics

SHAPE = 224, 300
MASKS = {"sector": sector(SHAPE, (-20, 150)), "rectangle": rectangle(SHAPE, 12)}


@pytest.fixture(params=MASKS)
def mask(request: pytest.FixtureRequest) -> np.ndarray:
    return MASKS[request.param]


def decibels(image: np.ndarray) -> np.ndarray:
    """Level of each pixel in dB, [H, W]."""
    return image[..., 0] * (60 / 255) - 60


def apply(
    image: np.ndarray, name: str, severity: int, mask: np.ndarray, seed: int = 0
) -> np.ndarray:
    return corrupt.corrupt(image, name, severity, mask=mask, seed=seed)


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_attenuation_is_so_many_decibels_over_the_depth(mask: np.ndarray, severity: int) -> None:
    image = flat(SHAPE, 240)
    lost = decibels(image) - decibels(apply(image, "attenuation", severity, mask))
    depth = coordinates.of(mask).depth
    slope, offset = np.polyfit(depth[mask], lost[mask], 1)
    assert slope == pytest.approx(CORRUPTIONS["attenuation"].level(severity), rel=0.02)
    assert offset == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("name", ["attenuation", "shadow", "speckle_looks", "gain"])
def test_black_stays_black(name: str, mask: np.ndarray) -> None:
    assert (apply(flat(SHAPE, 0), name, 3, mask) == 0).all()


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_dynamic_range_cuts_the_dark_end_and_spreads_the_rest(severity: int) -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (4, 256, 3))
    result = apply(ramp, "dynamic_range", severity, np.ones((4, 256), bool))
    shown = CORRUPTIONS["dynamic_range"].level(severity)
    above = decibels(ramp) + shown
    assert (result[above <= 0] == 0).all()
    expected = np.clip(255 * above / shown, 0, 255)
    assert np.abs(result[..., 0] - expected).max() < 0.501
    assert result[0, 255, 0] == 255


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_gain_is_a_smooth_curve_over_depth_of_the_stated_size(
    mask: np.ndarray, severity: int
) -> None:
    level = CORRUPTIONS["gain"].level(severity)
    image = flat(SHAPE, 128)
    depth = coordinates.of(mask).depth
    curves = []
    for seed in range(12):
        change = decibels(apply(image, "gain", severity, mask, seed)) - decibels(image)
        assert np.ptp(change[mask & (np.abs(depth - 0.5) < 0.005)]) < 0.3 * level
        curves.append(change[mask])
        at_sliders = [np.median(change[mask & (np.abs(depth - k / 7) < 0.01)]) for k in range(8)]
        assert np.sqrt(np.mean(np.square(at_sliders))) == pytest.approx(level, rel=0.15)
    assert abs(np.mean(curves)) < level / 2


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_shadows_begin_somewhere_and_go_down_to_the_end(mask: np.ndarray, severity: int) -> None:
    level = CORRUPTIONS["shadow"].level(severity)
    image = flat(SHAPE, 240)
    scan = coordinates.of(mask)
    shares = []
    for seed in range(10):
        lost = decibels(image) - decibels(apply(image, "shadow", severity, mask, seed))
        assert lost[mask & (scan.depth < 0.09)].max() == 0
        assert lost[mask].max() == pytest.approx(level, rel=0.05)
        deep = mask & (scan.depth > 0.6)
        order = np.argsort(scan.lateral[deep])
        # Below all beginnings, depth makes no difference: neighbours across are alike.
        assert np.abs(np.diff(lost[deep][order])).mean() < 0.05 * level
        shares.append((lost[deep] > level / 2).mean())
    assert min(shares) > 0.05
    assert max(shares) < 0.7


@pytest.mark.parametrize(("severity", "looks"), [(1, 4), (2, 2), (3, 1)])
def test_speckle_has_the_contrast_of_so_many_looks(
    mask: np.ndarray, severity: int, looks: int
) -> None:
    results = [apply(flat(SHAPE, 140), "speckle_looks", severity, mask, s) for s in range(6)]
    power = np.concatenate([physics.POWER[result[..., 0][mask]] for result in results])
    snr = power.mean() / power.std()
    assert snr == pytest.approx(np.sqrt(looks), rel=0.06)
    assert power.mean() == pytest.approx(physics.POWER[140], rel=0.06)


def test_speckle_grains_are_wider_than_deep_and_widen_in_a_sector() -> None:
    def width(values: np.ndarray, axis: int) -> float:
        """Steps over which the correlation falls to one half."""
        values = values - values.mean()
        moved = [(values * np.roll(values, k, axis)).mean() / values.var() for k in range(9)]
        return float(np.interp(-0.5, -np.array(moved), np.arange(9)))

    mask = sector((600, 800), (-60, 400), inner=120, outer=640)
    scan = coordinates.of(mask)
    fields = [scan.noise(np.random.default_rng(seed), 0.012, 0.02) for seed in range(6)]
    values = np.stack(fields)[:, mask]
    assert values.std() == pytest.approx(1, rel=0.03)
    assert values.mean() == pytest.approx(0, abs=0.04)
    field = fields[0]
    near, far = field[100:180, 370:430], field[460:540, 300:500]
    assert width(near, 0) == pytest.approx(width(far, 0), rel=0.25)
    assert width(far, 1) > 1.8 * width(near, 1)
    assert width(far, 1) > 1.5 * width(far, 0)


@pytest.mark.parametrize("severity", [1, 2, 3])
def test_a_point_is_smeared_across_to_the_stated_width(severity: int) -> None:
    mask = np.ones((201, 401), bool)
    image = flat((201, 401), 0)
    image[100, 200] = 255
    result = apply(image, "lateral_resolution", severity, mask)
    power = physics.POWER[result[..., 0]]
    assert (power[:100] == 0).all()
    assert (power[101:] == 0).all()
    row = power[100]
    expected = CORRUPTIONS["lateral_resolution"].level(severity) / 100 * 400
    assert (row > row.max() / 2).sum() == pytest.approx(expected, abs=1.5)
    assert row.sum() == pytest.approx(1, rel=0.05)


def test_in_a_sector_the_smear_follows_the_arc() -> None:
    mask = sector((300, 400), (-30, 200), half=0.7, inner=60, outer=300)
    image = flat((300, 400), 0)
    image[168:171, 309:312] = 255  # 0.5 radians to the right
    smeared = physics.POWER[apply(image, "lateral_resolution", 3, mask)[..., 0]] > 0.02
    rows, columns = np.nonzero(smeared)
    angle = np.arctan2(columns - 200, rows + 30)
    assert np.ptp(angle) > 0.08
    assert np.ptp(np.hypot(columns - 200, rows + 30)) < 8


def test_a_uniform_region_is_not_changed_by_a_wider_beam(mask: np.ndarray) -> None:
    image = np.where(mask[..., None], np.uint8(120), np.uint8(0)).repeat(3, axis=2)
    result = apply(image, "lateral_resolution", 3, mask)
    inner = mask & np.roll(mask, 2, 0) & np.roll(mask, -2, 0)
    # No darkening towards the sides, beyond which there is nothing to average with.
    assert np.abs(result[inner].astype(int) - 120).max() <= 2
    assert np.abs(result[mask].astype(int) - 120).mean() < 0.3


def test_a_cyst_fills_from_its_sides() -> None:
    image = texture(SHAPE)
    image[90:130, 140:160] = 0
    result = apply(image, "lateral_resolution", 2, MASKS["rectangle"])
    assert result[95:125, 141].mean() > 40
    assert result[100:120, 140:160].mean() > 20
