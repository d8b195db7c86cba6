"""Where in the scan a pixel is: depth and beam, from the mask of the ultrasound region alone.

A sector's beams leave one point, the apex, in which the two straight sides of its mask meet; where
the frame cuts the sides off, it is the centre of the arc at the far end. A region with neither (a
rectangle, a full frame) is taken for a linear scan, whose beams run straight down.

Pixels throughout: rows downwards, columns to the right, centres at whole numbers; angles in radians
from straight down, positive to the right. H, W are the mask's size, D, B the depths and beams of a
grid, N the number of border points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage

from tasks.scan.sector import Sector

OPENING = np.deg2rad(8)  # sides that open less are parallel: nothing tells where they meet
TRIED = 32  # border points through pairs of which a side is sought
FRAME = 0.02  # of the height: what begins above that row may have been cut off there
NEAR = 0.9  # of the way to the sides: up to there the upper border is the transducer's face
FWHM = 2 * np.sqrt(2 * np.log(2))  # full width at half maximum of a Gaussian, in sd


class Box(NamedTuple):
    """Parallel beams: the first and last row and column of the region."""

    top: float
    bottom: float
    left: float
    right: float


@dataclass(frozen=True, eq=False)
class Scan:
    """Scan coordinates of every pixel.

    Args:
        shape: the sector or the box that the mask shows.
        depth: float32 [H, W] in [0, 1]: 0 at the transducer's face, 1 at the far end.
        lateral: float32 [H, W] in [-1, 1]: the left and the right border of the field; in a sector
            it goes with the angle.
    """

    shape: Sector | Box
    depth: np.ndarray
    lateral: np.ndarray

    @property
    def kind(self) -> Literal["sector", "linear"]:
        """What the beams are like."""
        return "sector" if isinstance(self.shape, Sector) else "linear"

    def from_beams(self, grid: np.ndarray) -> np.ndarray:
        """Values given by depth and beam, float32 [D, B], at every pixel: float32 [H, W]."""
        depths, beams = grid.shape
        where = [self.depth * (depths - 1), (self.lateral + 1) * ((beams - 1) / 2)]
        return _interpolated(grid, where)

    def blur(self, image: np.ndarray, mask: np.ndarray, along: float, across: float) -> np.ndarray:
        """Gaussian mean over pixels of the region, along and across the beams: float32 [H, W].

        A sector goes over a grid of beams and back, and is interpolated twice on that way.

        Args:
            image: float32 [H, W]; what lies outside of `mask` has no weight.
            mask: bool [H, W].
            along: full width at half maximum as a share of the depth.
            across: the same as a share of the field's width.
        """
        weight = mask.astype(np.float32)
        shape = self.shape
        if isinstance(shape, Box):
            sd = np.array([along * (shape.bottom - shape.top), across * (shape.right - shape.left)])
            return _weighted_mean(image * weight, weight, sd / FWHM)
        depths = round(shape.depth) + 1
        beams = round((shape.right - shape.left) * (shape.face + shape.depth / 2)) + 1
        blurred = _weighted_mean(
            _to_beams(image * weight, shape, depths, beams),
            _to_beams(weight, shape, depths, beams),
            np.array([along * (depths - 1), across * (beams - 1)]) / FWHM,
        )
        return self.from_beams(blurred)

    def noise(self, rng: np.random.Generator, along: float, across: float) -> np.ndarray:
        """Gaussian noise of mean 0 and sd 1 whose grains follow the beams: float32 [H, W].

        Args:
            rng: gives the same field to every scan of the same widths, stretched.
            along: full width at half maximum, as a share of the depth, of the Gaussian that the
                noise is smoothed with.
            across: the same as a share of the field's width.
        """
        # One cell of the grid is one sd.
        depths, beams = (round(FWHM / width) + 1 for width in (along, across))
        white = rng.standard_normal((depths, beams), dtype=np.float32)
        smooth = ndimage.gaussian_filter(white, 1, mode="wrap", truncate=3)
        # Per axis: smoothing leaves a variance of 1 / (2 sqrt(pi)), and a point between two whose
        # correlation is c = exp(-1 / 4) has on average 1 - (1 - c) / 3 of theirs.
        variance = (1 - (1 - np.exp(-1 / 4)) / 3) / (2 * np.sqrt(np.pi))
        return self.from_beams(smooth / np.float32(variance))  # two axes, and the root of it


def of(mask: np.ndarray) -> Scan:
    """Scan coordinates from the region, bool [H, W] with at least one pixel."""
    rows, columns = (np.arange(side, dtype=np.float32) for side in mask.shape)
    sector = _sector(mask)
    if sector is None:
        box = _box(mask)
        depth = (rows - box.top) / max(box.bottom - box.top, 1)
        lateral = 2 * (columns - box.left) / max(box.right - box.left, 1) - 1
        shape = mask.shape
        return Scan(
            box,
            np.broadcast_to(np.clip(depth, 0, 1, dtype=np.float32)[:, None], shape),
            np.broadcast_to(np.clip(lateral, -1, 1, dtype=np.float32)[None], shape),
        )
    depth, lateral = sector.beams(columns, rows[:, None])
    return Scan(sector, np.clip(depth / sector.depth, 0, 1), np.clip(lateral, -1, 1))


def _box(mask: np.ndarray) -> Box:
    """The rows and columns that the mask fills to more than a twentieth of the fullest."""
    limits = []
    for axis in (1, 0):
        filled = mask.sum(axis=axis)
        line = np.flatnonzero(filled > filled.max() / 20)
        limits += [float(line[0]), float(line[-1])]
    return Box(*limits)


def _sector(mask: np.ndarray) -> Sector | None:
    """The sector that the mask shows; None if it shows no apex."""
    fan = _fan(mask)
    if fan is None:
        return None
    columns, top, bottom = _ends(mask.T)
    radius, angle = fan.polar(columns, top)
    # Elsewhere the upper border is the sides, or the frame cuts the face off.
    at_face = (np.abs(angle - fan.middle) < NEAR * fan.half_angle) & (top > FRAME * len(mask))
    face, flat = float(radius.min()), False
    if at_face.sum() >= 3:
        arc, line = radius[at_face], top[at_face] - fan.y
        flat = 2 * _deviation(line) + 1 < _deviation(arc)  # by more than rounding to pixels
        face = float(np.median(line if flat else arc))
    radius, angle = fan.polar(columns, bottom)
    reach = radius - face / np.maximum(np.cos(angle), 0.1) if flat else radius - face
    depth = float(np.quantile(reach, 0.95))  # not the maximum: specks may hang on the border
    return fan._replace(face=face, depth=depth, flat=flat) if depth >= 1 else None


def _fan(mask: np.ndarray) -> Sector | None:
    """Apex and sides of the sector that the mask shows; None if it shows no apex."""
    width = mask.shape[1]
    rows, first, last = _ends(mask)
    left = _side(rows, first, first > 0)
    # Mirrored, so that both sides are left ones.
    right = _side(rows, width - 1 - last, last < width - 1)
    if left is None or right is None:
        return _fan_of_far_end(mask)
    left_angle, right_angle = np.arctan(left[1]), -np.arctan(right[1])
    if right_angle - left_angle < OPENING:
        return None
    y = (width - 1 - right[0] - left[0]) / (left[1] + right[1])
    return Sector(left[0] + left[1] * y, y, float(left_angle), float(right_angle))


def _fan_of_far_end(mask: np.ndarray) -> Sector | None:
    """The same from a far end that is an arc around the apex; None if it is flat, or cut off."""
    height, width = mask.shape
    columns, _, bottom = _ends(mask.T)
    seen = bottom < height - 1
    x, y = columns[seen].astype(np.float64), bottom[seen].astype(np.float64)
    if len(x) < max(8, width / 3):
        return None
    # A circle is linear in its centre and one more unknown; the second time without outliers.
    kept = np.ones(len(x), bool)
    for _ in range(2):
        unknowns = np.stack([2 * x, 2 * y, np.ones_like(x)], axis=1)
        (column, row, rest), *_ = np.linalg.lstsq(unknowns[kept], (x**2 + y**2)[kept])
        radius = np.sqrt(max(rest + column**2 + row**2, 0))
        off = np.abs(np.hypot(x - column, y - row) - radius)
        kept = off <= max(1.5, 0.01 * height, 2 * float(np.median(off)))
    agree = (off < max(1.5, 0.01 * height)).mean()
    hangs = np.median(y) > row + radius / 2  # else the arc is that of an arch
    if agree < 0.7 or not hangs or radius > 3 * height or row > height / 3:
        return None
    rows, first, last = _ends(mask)
    below = rows > row + radius / 10
    down = rows[below] - row
    left = np.arctan2(first[below] - column, down).min()
    right = np.arctan2(last[below] - column, down).max()
    return Sector(float(column), float(row), float(left), float(right))


def _ends(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that the mask has pixels in, and the first and last column of each."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    return rows, first, mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)


def _side(rows: np.ndarray, border: np.ndarray, seen: np.ndarray) -> tuple[float, float] | None:
    """The straight left side as (column at row 0, columns per row); None if there is none.

    The line that most border points agree with, of those through pairs of them, fitted to these.

    Args:
        rows: of the N border points, growing.
        border: their columns.
        seen: bool [N]; False where the image's frame, not the region, ends the mask.
    """
    # A sector's side ends where the mask is widest: below that comes the far end.
    tolerance = max(1.5, 0.01 * len(rows))
    widest = np.flatnonzero(border <= border.min() + 1)[-1]
    chosen = np.flatnonzero(seen[: widest + 1])
    if len(chosen) < max(8, 0.1 * len(rows)):
        return None
    x, y = border[chosen].astype(np.float64), rows[chosen].astype(np.float64)
    tried = np.unique(np.linspace(0, len(chosen) - 1, TRIED).astype(int))
    one, other = (tried[index] for index in np.triu_indices(len(tried), 1))
    slopes = (x[other] - x[one]) / (y[other] - y[one])
    offsets = x[one] - slopes * y[one]
    agree = np.abs(offsets[:, None] + slopes[:, None] * y - x) < tolerance
    best = agree[agree.sum(axis=1).argmax()]
    if best.sum() < max(8, len(chosen) / 2):
        return None
    slope, offset = np.polyfit(y[best], x[best], 1)
    return float(offset), float(slope)


def _deviation(values: np.ndarray) -> float:
    return float(np.median(np.abs(values - np.median(values))))


def _to_beams(image: np.ndarray, sector: Sector, depths: int, beams: int) -> np.ndarray:
    """Values at every pixel, float32 [H, W], by depth and beam of a sector: float32 [D, B]."""
    depth = np.linspace(0, 1, depths, dtype=np.float32)[:, None]
    angle = np.linspace(sector.left, sector.right, beams, dtype=np.float32)
    columns, rows = sector.along(depth * sector.depth, angle)
    return _interpolated(image, [rows, columns])


def _interpolated(values: np.ndarray, where: list[np.ndarray]) -> np.ndarray:
    result: np.ndarray = ndimage.map_coordinates(
        values, where, order=1, mode="nearest", output=np.float32
    )
    return result


def _weighted_mean(weighted: np.ndarray, weight: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Gaussian mean; 0 where no weight is near. `weighted` is already times `weight`."""
    total, share = (
        ndimage.gaussian_filter(part, sd, mode="constant", truncate=3)
        for part in (weighted, weight)
    )
    return np.divide(total, share, out=np.zeros_like(total), where=share > 1e-3)
