"""Shapes in the scan plane, as signed distances in mm that are positive inside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

_TILE = 96  # cells of a noise tile; more than any field of view spans at the scales in use
_CELLS = 3  # cells a correlation length


@dataclass(frozen=True)
class Blob:
    """An ellipse whose border may be wavy or spiky.

    Args:
        x, z: centre in mm.
        width, height: semi-axes in mm.
        tilt: rotation in radians.
        waves: (order, relative amplitude, phase) of each harmonic of the radius.
        spikes: (angle, relative height, angular width) of each spicule.
    """

    x: float
    z: float
    width: float
    height: float
    tilt: float = 0.0
    waves: tuple[tuple[int, float, float], ...] = ()
    spikes: tuple[tuple[float, float, float], ...] = ()

    def radius(self, angle: np.ndarray) -> np.ndarray:
        """Radius relative to the ellipse's, in direction `angle` (radians)."""
        radius = np.ones_like(angle)
        for order, amplitude, phase in self.waves:
            radius += amplitude * np.cos(order * angle + phase)
        for direction, height, width in self.spikes:
            away = np.abs((angle - direction + np.pi) % (2 * np.pi) - np.pi)
            radius += height * np.exp(-away / width)
        return radius

    def level(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Signed distance to the border in mm (approximate off the border), as `x`."""
        u, v = self._own(x, z)
        reach = np.hypot(u, v)
        radius = self.radius(np.arctan2(v, u)) if self.waves or self.spikes else 1.0
        level: np.ndarray = (radius - reach) * np.float32(min(self.width, self.height))
        return level.astype(np.float32)

    def polygon(self, count: int = 32) -> np.ndarray:
        """Points (x, z) of the border in mm, float64 [N, 2]."""
        angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
        radius = self.radius(angle)
        u, v = radius * np.cos(angle) * self.width, radius * np.sin(angle) * self.height
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        return np.stack([self.x + c * u - s * v, self.z + s * u + c * v], axis=1)

    def inner(self, u: float, v: float, size: float, **changes: float) -> Blob:
        """A plain ellipse at (u, v) in this one's own axes (unit circle), `size` times as large."""
        c, s = np.cos(self.tilt), np.sin(self.tilt)
        du, dv = u * self.width, v * self.height
        inner = Blob(
            self.x + c * du - s * dv,
            self.z + s * du + c * dv,
            self.width * size,
            self.height * size,
            self.tilt,
        )
        return replace(inner, **changes)  # type: ignore[arg-type]

    def _own(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, s = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
        dx, dz = x - np.float32(self.x), z - np.float32(self.z)
        return (c * dx + s * dz) / np.float32(self.width), (c * dz - s * dx) / np.float32(
            self.height
        )


def wavy(rng: np.random.Generator, amplitude: float, orders: Sequence[int]) -> tuple:  # type: ignore[type-arg]
    """Random harmonics for `Blob.waves`: `amplitude` falls with the order."""
    return tuple(
        (int(k), float(amplitude * rng.uniform(0.4, 1) * orders[0] / k), float(rng.uniform(0, 6.3)))
        for k in orders
    )


@dataclass(frozen=True)
class Strand:
    """A curved band of given thickness: vessel, ligament, septum, needle-like echo.

    Args:
        x, z: middle in mm.
        angle: direction in radians, 0 is to the right.
        length: half its length in mm.
        thickness: half its thickness in mm.
        bend: sag at the ends in mm.
        taper: 0 keeps the thickness, 1 ends in a point.
    """

    x: float
    z: float
    angle: float
    length: float
    thickness: float
    bend: float = 0.0
    taper: float = 0.0

    def level(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Signed distance to the border in mm (approximate), as `x`."""
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        dx, dz = x - np.float32(self.x), z - np.float32(self.z)
        along = (c * dx + s * dz) / np.float32(self.length)
        across = np.abs(c * dz - s * dx - np.float32(self.bend) * along * along)
        half = np.float32(self.thickness) * (1 - np.float32(self.taper) * (along + 1) / 2)
        ends = (1 - np.abs(along)) * np.float32(self.length)
        return np.minimum(half - across, ends)


def noise(
    rng: np.random.Generator, x: np.ndarray, z: np.ndarray, width: float, height: float
) -> np.ndarray:
    """A smooth random field of unit variance, fixed to the tissue and not to the probe.

    Args:
        rng: generator; the field depends on it and on nothing else.
        x, z: positions in mm [D, L].
        width, height: correlation length along x and z in mm.

    Returns:
        float32 [D, L].
    """
    tile = rng.standard_normal((_TILE, _TILE), dtype=np.float32)
    tile = ndimage.gaussian_filter(tile, _CELLS / 2, mode="wrap")
    tile /= tile.std()
    place = (z * np.float32(_CELLS / height), x * np.float32(_CELLS / width))
    return ndimage.map_coordinates(tile, place, output=np.float32, order=1, mode="grid-wrap")
