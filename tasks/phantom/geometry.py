"""Probe geometry and scan conversion: from beams (depth, line) to the pixels of a screen.

Millimetres throughout: x to the right, z downwards, (0, 0) at the middle of the probe's face.
D is the number of samples along a beam, L the number of beams.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

from tasks.scan.sector import Sector


@dataclass(frozen=True)
class Linear:
    """A linear array: parallel beams straight down.

    Args:
        depth: imaged depth in mm.
        half_width: half the aperture in mm.
    """

    depth: float
    half_width: float

    def points(self, depth: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where (x, z) a beam passes at `depth` mm; `side` runs from -1 (left) to 1 (right)."""
        return side * self.half_width, depth + 0 * side

    def beams(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of `points`: (depth, side) of points (x, z)."""
        return z + 0 * x, x / self.half_width + 0 * z

    def line_spacing(self, depth: np.ndarray, lines: int) -> np.ndarray:
        """Distance in mm between neighbouring ones of `lines` beams, at each depth."""
        return np.full(np.shape(depth), 2 * self.half_width / (lines - 1))

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Bounding box x0, x1, z0, z1 in mm."""
        return -self.half_width, self.half_width, 0.0, self.depth


Probe = Linear | Sector


def grid(probe: Probe, samples: int, lines: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (x, z) of the beam grid, float32 [D, L] each; depth from 0 to the probe's."""
    depth = np.linspace(0, probe.depth, samples)[:, None]
    side = np.linspace(-1, 1, lines)[None, :]
    x, z = np.broadcast_arrays(*probe.points(depth, side))
    return x.astype(np.float32), z.astype(np.float32)


@dataclass(frozen=True)
class Canvas:
    """A screen that shows a probe's field of view.

    Args:
        probe: the probe.
        height, width: size of the screen in pixels.
        pixel: mm a pixel.
        left, top: pixel position (may be fractional) of the point (0, 0) mm.
    """

    probe: Probe
    height: int
    width: int
    pixel: float
    left: float
    top: float

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Points (x, z) in mm, [N, 2], to pixel positions (column, row), float64 [N, 2]."""
        return np.asarray(points, float) / self.pixel + (self.left, self.top)

    def convert(self, beams: np.ndarray, background: float = 0.0) -> np.ndarray:
        """Scan conversion by bilinear interpolation.

        Args:
            beams: values [D, L] on the beam grid.
            background: value outside the field of view.

        Returns:
            float32 [H, W].
        """
        rows, columns, inside = _lookup(self, *beams.shape)
        screen = np.full((self.height, self.width), background, np.float32)
        screen[inside] = ndimage.map_coordinates(
            beams, (rows, columns), output=np.float32, order=1, mode="nearest"
        )
        return screen

    def outline(self, count: int = 12) -> np.ndarray:
        """The border of the field of view as pixel positions (column, row), float64 [4 N, 2]."""
        run = np.linspace(0, 1, count, endpoint=False)
        side = np.concatenate([2 * run - 1, np.ones(count), 1 - 2 * run, -np.ones(count)])
        depth = np.concatenate([0 * run, run, 0 * run + 1, 1 - run]) * self.probe.depth
        return self.to_pixels(np.stack(self.probe.points(depth, side), axis=1))


@lru_cache(maxsize=8)  # the frames of a video share one canvas
def _lookup(canvas: Canvas, samples: int, lines: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Beam-grid coordinates of the pixels inside the field of view, and which those are."""
    x = (np.arange(canvas.width) - canvas.left)[None, :] * canvas.pixel
    z = (np.arange(canvas.height) - canvas.top)[:, None] * canvas.pixel
    depth, side = canvas.probe.beams(x, z)
    inside = (depth >= 0) & (depth <= canvas.probe.depth) & (np.abs(side) <= 1)
    rows = depth[inside] / canvas.probe.depth * (samples - 1)
    columns = (side[inside] + 1) / 2 * (lines - 1)
    return rows.astype(np.float32), columns.astype(np.float32), inside
