"""Depth and lateral position against sectors and rectangles of which they are known."""

from __future__ import annotations

import numpy as np
import pytest
from drawn import rectangle, sector
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.scan import coordinates
from tasks.scan.coordinates import Box
from tasks.scan.sector import Sector


@st.composite
def sectors(draw: st.DrawFn) -> dict[str, float]:
    return {
        "row": draw(st.floats(-80, 20)),
        "column": draw(st.floats(120, 200)),
        "half": draw(st.floats(0.25, 0.75)),
        "inner": draw(st.floats(25, 60)),
        "length": draw(st.floats(120, 160)),
    }


@given(sectors())
@settings(max_examples=60)
def test_the_apex_of_a_sector_is_found(drawn: dict[str, float]) -> None:
    apex = drawn["row"], drawn["column"]
    outer = drawn["inner"] + drawn["length"]
    mask = sector((240, 320), apex, drawn["half"], drawn["inner"], outer)
    scan = coordinates.of(mask)
    assert isinstance(scan.shape, Sector)
    # The flatter the angle, the worse a pixel's step at the side pins down where sides meet.
    assert scan.shape.y == pytest.approx(apex[0], abs=1.5 / np.tan(drawn["half"]) + 1)
    assert scan.shape.x == pytest.approx(apex[1], abs=1.5)
    assert scan.shape.right == pytest.approx(drawn["half"], abs=0.03)
    rows, columns = np.indices(mask.shape)
    radius = np.hypot(rows - apex[0], columns - apex[1])
    angle = np.arctan2(columns - apex[1], rows - apex[0])
    near, far = radius[mask].min(), radius[mask].max()  # the frame may cut off either
    depth = np.clip((radius - near) / (far - near), 0, 1)
    assert np.abs(scan.depth - depth)[mask].mean() < 0.03
    assert np.abs(scan.lateral - angle / drawn["half"])[mask].mean() < 0.04


def test_short_sides_are_told_from_a_long_far_end() -> None:
    mask = sector((224, 460), (-10, 230), half=1.25, inner=25, outer=225)
    scan = coordinates.of(mask[:150])
    assert isinstance(scan.shape, Sector)
    assert scan.shape.y == pytest.approx(-10, abs=2)
    assert scan.shape.right == pytest.approx(1.25, abs=0.03)


def test_a_phased_array_starts_at_its_apex() -> None:
    scan = coordinates.of(sector((224, 300), (5, 150), half=0.75, inner=0, outer=210))
    assert isinstance(scan.shape, Sector)
    assert scan.shape.y == pytest.approx(5, abs=2)
    assert scan.depth[5:8, 150].max() < 0.03
    assert scan.depth[214, 150] > 0.98


def test_a_trapezoid_has_a_flat_face() -> None:
    mask = sector((224, 300), (-150, 150), half=0.4, inner=170, outer=360, flat=True)
    scan = coordinates.of(mask)
    assert isinstance(scan.shape, Sector)
    assert scan.shape.flat
    assert scan.depth[20][mask[20]].max() < 0.02
    arc = coordinates.of(sector((224, 300), (-150, 150), half=0.4, inner=190, outer=360))
    assert isinstance(arc.shape, Sector)
    assert not arc.shape.flat


def test_a_cropped_sector_keeps_its_beams() -> None:
    whole = sector((224, 320), (-30, 160), half=0.7, inner=50, outer=250)
    scan = coordinates.of(whole[:200, 40:280])
    assert isinstance(scan.shape, Sector)
    assert scan.shape.y == pytest.approx(-30, abs=3)
    assert scan.shape.x == pytest.approx(120, abs=2)
    # The face cut off by the frame: arcs all the same.
    headless = coordinates.of(whole[40:])
    assert isinstance(headless.shape, Sector)
    assert not headless.shape.flat
    assert headless.shape.y == pytest.approx(-70, abs=3)


def test_a_sector_without_its_sides_is_known_by_its_far_end() -> None:
    whole = sector((224, 460), (-10, 230), half=1.3, inner=25, outer=225)
    scan = coordinates.of(whole[:, 130:330])
    assert isinstance(scan.shape, Sector)
    assert scan.shape.y == pytest.approx(-10, abs=2)
    assert scan.shape.x == pytest.approx(100, abs=2)
    assert scan.shape.face == pytest.approx(25, abs=2)
    # A far end that is flat, or outside the frame, tells nothing.
    assert coordinates.of(whole[30:150, 130:330]).kind == "linear"
    flat = np.ones((224, 200), bool)
    flat[200:] = False
    assert coordinates.of(flat).kind == "linear"
    rows, columns = np.indices((320, 200))
    arch = (np.hypot(rows - 100, columns - 100) > 97) & (rows < 100)
    assert coordinates.of(arch).kind == "linear"


def test_a_torn_border_does_not_bend_the_sides() -> None:
    mask = sector((224, 300), (-20, 150))
    torn = mask.copy()
    torn[70:100, 60:100] = False  # a shadow's bite
    torn[120:140, 210:240] = True  # lettering at the side
    one, other = coordinates.of(mask).shape, coordinates.of(torn).shape
    assert isinstance(one, Sector)
    assert isinstance(other, Sector)
    assert np.allclose(one[:4], other[:4], atol=0.03 * 224)
    assert np.allclose(one[2:4], other[2:4], atol=0.03)


@pytest.mark.parametrize("margin", [0, 1, 13])
def test_a_rectangle_is_linear(margin: int) -> None:
    scan = coordinates.of(rectangle((90, 120), margin))
    assert scan.shape == Box(margin, 89 - margin, margin, 119 - margin)
    assert scan.kind == "linear"
    assert scan.depth[margin].max() == 0
    assert scan.depth[89 - margin].min() == 1
    assert (scan.lateral[:, margin] == -1).all()
    assert (scan.lateral[:, 119 - margin] == 1).all()
    assert scan.lateral[:, 60].max() == pytest.approx(0, abs=0.02)


def test_specks_do_not_stretch_a_rectangle() -> None:
    mask = rectangle((90, 120), 20)
    mask[3, 5:7] = True
    assert coordinates.of(mask).shape == Box(20, 69, 20, 99)


@given(st.data())
@settings(max_examples=150)
def test_coordinates_of_any_mask_are_finite_and_in_range(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    seed, share = data.draw(st.integers(0, 999)), data.draw(st.floats(0, 1))
    mask = np.random.default_rng(seed).random(shape) < share
    mask[seed % shape[0], seed % shape[1]] = True
    scan = coordinates.of(mask)
    for values, low in ((scan.depth, 0), (scan.lateral, -1)):
        assert values.dtype == np.float32
        assert values.shape == shape
        assert values.min() >= low
        assert values.max() <= 1


@given(st.floats(0, 1), st.floats(-1, 1), st.floats(-0.1, 0.1), st.booleans())
def test_points_of_beams_lie_on_these_beams(
    share: float, side: float, tilt: float, flat: bool
) -> None:
    shape = Sector(150, -20, tilt - 0.6, tilt + 0.6, face=50, depth=170, flat=flat)
    x, y = shape.points(np.array(share * shape.depth), np.array(side))
    if flat and share == 0:
        assert y == pytest.approx(30)  # the face is level
    assert np.allclose(shape.beams(x, y), (share * shape.depth, side))


def test_values_by_beam_land_on_their_beams() -> None:
    mask = sector((224, 300), (-20, 150))
    scan = coordinates.of(mask)
    grid = np.linspace(0, 1, 50, dtype=np.float32)[:, None] + np.linspace(0, 5, 40)
    image = scan.from_beams(grid.astype(np.float32))
    expected = scan.depth + 5 * (scan.lateral + 1) / 2
    assert np.abs(image - expected)[mask].max() < 1e-3


def test_blur_along_and_across_keep_to_their_axis() -> None:
    mask = sector((224, 300), (-20, 150))
    scan = coordinates.of(mask)
    depth, lateral = scan.depth, scan.lateral
    inner = mask & (np.abs(lateral) < 0.7) & (np.abs(depth - 0.5) < 0.3)
    stripes = np.sin(depth * 40).astype(np.float32)
    assert np.abs(scan.blur(stripes, mask, 0, 0.1) - stripes)[inner].max() < 0.15
    assert np.abs(scan.blur(stripes, mask, 0.2, 0))[inner].max() < 0.15
    beams = np.sin(lateral * 20).astype(np.float32)
    assert np.abs(scan.blur(beams, mask, 0.1, 0) - beams)[inner].max() < 0.15
    assert np.abs(scan.blur(beams, mask, 0, 0.2))[inner].max() < 0.15
