"""The phantom suite as pictures: physics of the simulator, anatomy of the classes."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import find_peaks
from scipy.spatial import ConvexHull
from scipy.stats import ks_2samp

from tasks.phantom import clip, furniture, simulator
from tasks.phantom.anatomy import breast, liver, lung, ovary
from tasks.phantom.geometry import Canvas, Linear, grid
from tasks.phantom.machine import Style, draw, generator
from tasks.phantom.picture import Motion, Study
from tasks.phantom.releases import aul
from tasks.phantom.scene import FLUID, LIVER, STONE, Scene, Tissue
from tasks.phantom.shapes import Blob, noise
from tasks.phantom.simulator import Beam
from tasks.scan.sector import Sector

PROBE = Linear(depth=80, half_width=40)
QUIET = Beam(frequency=4, focus=40, spread=30, noise=-200, side_lobes=0)


def scan(scene: Scene, beam: Beam = QUIET, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return simulator.received(scene, beam, simulator.scatterers(rng, scene.echo.shape), rng)


def decibels(envelope: np.ndarray) -> np.ndarray:
    """Power of each depth in dB."""
    return 10 * np.log10(np.mean(envelope.astype(float) ** 2, axis=-1))


# Physics


def test_fully_developed_speckle_is_rayleigh_distributed() -> None:
    envelope = scan(Scene(PROBE, 600, 256))[100:-100]
    assert envelope.mean() / envelope.std() == pytest.approx(1.913, abs=0.05)
    assert np.mean(envelope**2) == pytest.approx(1, abs=0.1)
    # The share above the root mean square is 1/e for a Rayleigh amplitude.
    assert np.mean(envelope > 1) == pytest.approx(np.exp(-1), abs=0.02)


@pytest.mark.parametrize("attenuation", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("frequency", [2.0, 5.0])
def test_attenuation_is_two_way_and_proportional_to_frequency(
    attenuation: float, frequency: float
) -> None:
    scene = Scene(PROBE, 400, 256, background=Tissue(0, attenuation))
    level = decibels(scan(scene, Beam(frequency, noise=-300, tgc=0)))
    slope = np.polyfit(scene.depth[:, 0] / 10, level, 1)[0]  # dB a cm
    assert slope == pytest.approx(-2 * frequency * attenuation, rel=0.05)


def test_gain_makes_up_for_the_attenuation_it_assumes() -> None:
    scene = Scene(PROBE, 400, 256, background=Tissue(0, 0.7))
    level = decibels(scan(scene, Beam(4, noise=-300, tgc=0.7)))
    assert abs(np.polyfit(scene.depth[:, 0] / 10, level, 1)[0]) < 0.15


def test_fluid_enhances_and_stone_shadows() -> None:
    scene = Scene(PROBE, 400, 256)
    for x, tissue in ((-20.0, FLUID), (20.0, STONE)):
        scene.paint(Blob(x, 35, 10, 10).level(scene.x, scene.z), tissue)
    envelope = scan(scene)
    behind = (scene.z > 55) & (scene.z < 75)

    def level(x: float) -> float:
        return float(10 * np.log10(np.mean(envelope[behind & (np.abs(scene.x - x) < 3)] ** 2)))

    spared = 2 * QUIET.frequency * 2 * (LIVER.attenuation - FLUID.attenuation)  # 2 cm of fluid
    assert level(-20) - level(0) == pytest.approx(spared, abs=2.5)
    assert level(20) - level(0) < -40
    inside = np.hypot(scene.x + 20, scene.z - 35) < 6
    assert np.mean(envelope[inside] ** 2) < 0.01


def test_electronic_noise_grows_with_the_gain() -> None:
    scene = Scene(PROBE, 400, 128, background=Tissue(-300))
    level = decibels(scan(scene, Beam(4, noise=-60, tgc=0.5)))
    slope, start = np.polyfit(scene.depth[:, 0] / 10, level, 1)
    assert slope == pytest.approx(4, rel=0.05)
    assert start == pytest.approx(-60, abs=0.5)


def test_pulse_and_beam_have_the_widths_they_claim() -> None:
    scene = Scene(PROBE, 800, 513, background=Tissue(0, 0))
    beam = Beam(4, focus=40, spread=20, noise=-300, side_lobes=0, tgc=0)
    depths = (100, 400, 700)
    points = np.zeros((800, 513), np.complex64)
    for row in depths:
        points[row, 256] = 1
    power = simulator.received(scene, beam, points, np.random.default_rng(0)).astype(float)
    step, spacing = 80 / 799, 80 / 512
    for row in depths:
        near = slice(row - 60, row + 61)
        z, x = power[near, 256], power[row]
        axial = np.sqrt(np.average((np.arange(-60, 61) * step) ** 2, weights=z))
        lateral = np.sqrt(np.average((np.arange(-256, 257) * spacing) ** 2, weights=x))
        assert axial == pytest.approx(beam.axial_sigma(), rel=0.05)
        assert lateral == pytest.approx(float(beam.lateral_sigma(row * step)), rel=0.05)
    assert beam.lateral_sigma(np.float64(40)) < 0.5 * beam.lateral_sigma(np.float64(80))


def test_borders_reflect_if_they_stand_square_to_the_beam() -> None:
    def brightness(tilt: float) -> float:
        scene = Scene(PROBE, 400, 256, background=Tissue(-60, 0.0))
        slope = np.float32(np.tan(tilt))
        border = (scene.z - 40 - slope * scene.x) * np.float32(np.cos(tilt))
        scene.paint(border, Tissue(-60, 0.0, impedance=1.9))
        return float(scan(scene, Beam(4, noise=-300, tgc=0, side_lobes=0))[150:250].max())

    square, slanted, steep = (brightness(tilt) for tilt in (0.0, 0.5, 1.1))
    assert square > 1.5 * slanted > 3 * steep
    plain = scan(Scene(PROBE, 400, 256, background=Tissue(-60, 0.0)), QUIET)
    assert square > 100 * plain[150:250].max()


def test_speckle_of_neighbouring_frames_is_correlated_as_asked() -> None:
    def frame(number: int) -> np.ndarray:
        return simulator.scatterers(np.random.default_rng(5), (300, 300), 0.8, number)

    first, second = frame(0), frame(1)
    correlation = np.vdot(first, second) / np.sqrt(np.vdot(first, first) * np.vdot(second, second))
    assert abs(correlation) == pytest.approx(0.64, abs=0.02)  # 0.8 of each is the common part
    assert np.mean(np.abs(first) ** 2) == pytest.approx(1, abs=0.02)


def test_log_compression_spans_the_dynamic_range() -> None:
    amplitude = 10 ** (np.array([-100, -36.1, -30, 0, 23.9, 60]) / 20)
    grey = simulator.log_compress(amplitude, dynamic_range=60)
    np.testing.assert_allclose(grey, [0, 0, 0.1, 0.6, 0.99833, 1], atol=1e-3)
    brighter = simulator.log_compress(amplitude, dynamic_range=60, gain=6)
    assert np.all(brighter >= grey)
    assert brighter[3] == pytest.approx(0.7)


# Geometry

probes = st.one_of(
    st.builds(Linear, st.floats(20, 200), st.floats(10, 40)),
    st.builds(Sector.of_array, st.floats(20, 200), st.floats(1, 60), st.floats(0.2, 1.3)),
)


@given(probes, st.floats(0, 1), st.floats(-1, 1))
def test_beams_and_points_are_inverse(probe: Linear | Sector, share: float, side: float) -> None:
    depth = share * probe.depth
    x, z = probe.points(np.array(depth), np.array(side))
    back = probe.beams(x, z)
    np.testing.assert_allclose(back, (depth, side), atol=1e-9 * 200)
    x0, x1, z0, z1 = probe.extent
    assert x0 - 1e-9 <= x <= x1 + 1e-9
    assert z0 - 1e-9 <= z <= z1 + 1e-9


@given(probes)
def test_line_spacing_is_the_distance_of_neighbours(probe: Linear | Sector) -> None:
    x, z = grid(probe, 5, 200)
    gap = np.hypot(np.diff(x[-1])[100], np.diff(z[-1])[100])
    assert probe.line_spacing(np.array(probe.depth), 200) == pytest.approx(gap, rel=1e-2)


@pytest.mark.parametrize(
    "probe", [PROBE, Sector.of_array(100, 40, 0.6), Sector.of_array(120, 3, 0.7)]
)
def test_scan_conversion_puts_echoes_where_they_arose(probe: Linear | Sector) -> None:
    canvas = Canvas(probe, 330, 460, pixel=0.4, left=230.0, top=30.0)
    beams = np.zeros((200, 101), np.float32)
    beams[120, 30] = 1
    screen = canvas.convert(beams)
    row, column = np.unravel_index(screen.argmax(), screen.shape)
    x, z = grid(probe, 200, 101)
    expected = canvas.to_pixels(np.array([[x[120, 30], z[120, 30]]]))[0]
    np.testing.assert_allclose((column, row), expected, atol=1.5)


def test_outside_of_the_field_of_view_is_background() -> None:
    probe = Sector.of_array(100, 40, 0.6)
    canvas = Canvas(probe, 300, 500, pixel=0.4, left=250.0, top=30.0)
    screen = canvas.convert(np.ones((50, 40), np.float32), background=-1)
    area = np.mean(screen == 1) * 300 * 500 * 0.4**2
    assert area == pytest.approx(0.6 * (140**2 - 40**2), rel=0.02)
    assert set(np.unique(screen)) == {-1, 1}
    outline = canvas.outline()
    middle = outline.mean(axis=0)
    for factor, expected in ((0.97, 1), (1.03, -1)):
        x, y = np.rint(middle + factor * (outline - middle)).astype(int).T
        assert np.mean(screen[np.clip(y, 0, 299), x] == expected) > 0.9


# Shapes


@given(st.floats(2, 20), st.floats(2, 20), st.floats(-3, 3))
def test_polygon_lies_on_the_border(width: float, height: float, tilt: float) -> None:
    blob = Blob(3, 50, width, height, tilt, ((3, 0.1, 0.5),), ((1.0, 0.3, 0.1),))
    points = blob.polygon(40)
    level = blob.level(points[:, 0], points[:, 1])
    np.testing.assert_allclose(level, 0, atol=1e-3)
    assert blob.level(np.array([3.0]), np.array([50.0]))[0] > 0


def test_noise_is_fixed_to_the_tissue() -> None:
    x, z = grid(PROBE, 200, 150)
    field = noise(np.random.default_rng(1), x, z, 5, 5)
    moved = noise(np.random.default_rng(1), x + 2, z, 5, 5)
    assert field.std() == pytest.approx(1, abs=0.25)
    columns = round(2 / (80 / 149))
    assert np.corrcoef(field[:, columns:].ravel(), moved[:, :-columns].ravel())[0, 1] > 0.98


# Anatomy: what must tell the classes


def test_fat_brightens_the_liver_and_drains_the_sound() -> None:
    probe = Sector.of_array(150, 55, 0.55)

    def measured(fat: float) -> tuple[float, float]:
        echo, drop = [], []
        for number in range(12):
            scene = Scene(probe, 200, 96)
            liver.steatosis(scene, np.random.default_rng(number), fat)
            near = (scene.z > 30) & (scene.z < 60) & (np.abs(scene.x) < 20)
            echo.append(float(np.median(scene.echo[near])))
            drop.append(float(np.median(scene.attenuation[near])))
        return float(np.mean(echo)), float(np.mean(drop))

    lean, mild, heavy = measured(0), measured(10), measured(60)
    assert lean[0] + 2 < mild[0] < heavy[0] - 2
    assert lean[1] + 0.03 < mild[1] < heavy[1]


def test_malignant_breast_masses_are_taller_and_less_convex() -> None:
    def measured(malignant: bool) -> tuple[float, float]:
        aspects, solidities = [], []
        for number in range(30):
            scene = Scene(Linear(40, 18), 60, 50)
            border = breast.breast(scene, np.random.default_rng(number), malignant)
            x, z = border.T
            area = 0.5 * abs(np.dot(x, np.roll(z, 1)) - np.dot(z, np.roll(x, 1)))
            aspects.append(np.log(np.ptp(z) / np.ptp(x)))
            solidities.append(area / ConvexHull(border).volume)
        return float(np.mean(aspects)), float(np.mean(solidities))

    benign, malignant = measured(False), measured(True)
    assert benign[0] < -0.15 < malignant[0]
    assert benign[1] > 0.97 > malignant[1] + 0.05


def test_a_lines_lie_across_the_beam_and_b_lines_along_it() -> None:
    def across_over_along(kind: str) -> float:
        ratios = []
        for number in range(10):
            scene = Scene(Sector.of_array(110, 50, 0.55), 220, 110)
            lung.lung(scene, np.random.default_rng(number), kind)
            ghost = scene.ghost[70:]
            ratios.append(float(ghost.mean(axis=0).std() / ghost.mean(axis=1).std()))
        return float(np.median(ratios))

    assert across_over_along("covid") > 2 * across_over_along("regular")


def test_a_lines_repeat_the_pleura() -> None:
    scene = Scene(Sector.of_array(120, 50, 0.5), 480, 96)
    lung.lung(scene, np.random.default_rng(4), "regular")
    profile = scene.ghost[:, 48]  # one beam, since the pleura may lean
    peaks, _ = find_peaks(profile, prominence=0.1)
    gaps = np.diff(scene.depth[peaks, 0])
    assert len(peaks) >= 2
    np.testing.assert_allclose(gaps, gaps[0], rtol=0.1)


def test_lung_slides_under_a_still_chest_wall() -> None:
    study = Study(0, "slide", Style(depth=(100, 100), frequency=(4, 4), gain=(0, 0)))

    def frame(phase: float, number: int) -> np.ndarray:
        def build(scene: Scene, rng: np.random.Generator) -> None:
            lung.lung(scene, rng, "covid", phase)

        return study.take(build, Motion(number)).image[..., 0].astype(float)

    rest, same, slid = frame(0.0, 0), frame(0.0, 1), frame(1.5, 1)
    rows = len(rest)
    lung_rows = slice(rows // 2, None)
    assert np.abs(rest - same)[lung_rows].mean() < 0.5 * np.abs(rest - slid)[lung_rows].mean()


def test_ovarian_classes_differ_in_echo_within_the_mass() -> None:
    def inside(code: int) -> tuple[float, float]:
        means, spreads = [], []
        for number in range(6):
            scene = Scene(Sector.of_array(100, 15, 0.9), 160, 120)
            border = ovary.ovary(scene, np.random.default_rng(number), code)
            middle = border.mean(axis=0)
            near = (
                np.hypot(scene.x - middle[0], scene.z - middle[1]) < 0.6 * np.ptp(border[:, 1]) / 2
            )
            means.append(scene.echo[near].mean())
            spreads.append(scene.echo[near].std())
        return float(np.mean(means)), float(np.mean(spreads))

    found = {name: inside(code) for code, name in enumerate(ovary.KINDS)}
    assert found["simple cyst"][0] < -38
    assert found["simple cyst"][1] < 3
    assert -25 < found["chocolate cyst"][0] < -8
    assert found["theca cell tumour"][0] > -14
    assert found["teratoma"][1] > 5
    assert found["mucinous cystadenoma"][1] > found["serous cystadenoma"][1] / 2


# Confounders: nothing but anatomy may tell the class


def test_furniture_does_not_depend_on_the_anatomy() -> None:
    # Without letters, whose edges blend with what lies below.
    clutter = {"bar": 1.0, "ticks": 1.0, "box": 1.0}
    full = Study(0, "one", Style(depth=(100, 150), frequency=(3, 5), clutter=clutter))
    bare = Study(0, "one", Style(depth=(100, 150), frequency=(3, 5)))
    burnt, mask = [], False
    for kind in ("normal", "benign", "malignant"):

        def build(scene: Scene, rng: np.random.Generator, kind: str = kind) -> object:
            return liver.focal(scene, rng, kind)

        burnt.append(full.take(build).image)
        mask = mask | (burnt[-1] != bare.take(build).image)
    assert np.sum(mask) > 1000
    for image in burnt[1:]:
        np.testing.assert_array_equal(image[mask], burnt[0][mask])
    assert np.any(burnt[0] != burnt[1])


def test_furniture_is_drawn_as_often_as_asked() -> None:
    black = np.zeros((240, 300, 3), np.uint8)
    for kind in furniture.KINDS:
        shown = [
            furniture.burn_in(black, generator(n, kind), ["LIVER"], {kind: 0.5}, 2.0).any()
            for n in range(100)
        ]
        assert 30 < sum(shown) < 70, kind
    assert not furniture.burn_in(black, generator(0, "none"), ["LIVER"], {}, 2.0).any()
    assert not black.any()  # the input is left as it was


def test_scanners_of_the_classes_are_drawn_alike() -> None:
    def drawn(kind: str) -> np.ndarray:
        machines = [Study(0, f"aul/{kind}/{n}", aul.STYLE).machine() for n in range(400)]
        return np.array([(m.gain, m.dynamic_range, m.canvas.height, m.beam.tgc) for m in machines])

    for a, b in zip(drawn("benign").T, drawn("malignant").T, strict=True):
        assert ks_2samp(a, b).pvalue > 1e-3


def test_a_scanner_is_the_same_at_another_scale_but_for_its_pixels() -> None:
    small, large = (draw(np.random.default_rng(2), aul.STYLE, scale) for scale in (1.0, 2.0))
    assert large.canvas.height == pytest.approx(2 * small.canvas.height, abs=1)
    assert (large.beam, large.gain) == (small.beam, small.gain)


# Files


@pytest.mark.parametrize("suffix", [".mp4", ".MP4", ".avi", ".mov", ".mpeg", ".gif"])
def test_clips_are_reproducible_and_readable(suffix: str, tmp_path: Path) -> None:
    rng = generator(0, "clip")
    frames = [rng.integers(0, 256, (61, 83, 3), dtype=np.uint8) // 8 + 20 * k for k in range(6)]
    rate = clip.TELEVISION if suffix == ".mpeg" else 10
    content = clip.encode(frames, suffix, rate)
    assert content == clip.encode(frames, suffix, rate)
    path = tmp_path / f"clip{suffix}"
    path.write_bytes(content)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate or 0) == pytest.approx(rate)
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(shown) == 6
    assert shown[0].shape == (60, 82, 3)
    np.testing.assert_allclose([s.mean() for s in shown], [f.mean() for f in frames], atol=6)
