"""The field of view of a curved or phased array, or of a linear one with a trapezoid view."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Sector(NamedTuple):
    """Beams that leave one point, the apex.

    In the units and the frame of whoever holds it: x to the right, y downwards (pixels, or mm from
    the middle of a probe's face). Angles are in radians from straight down, positive to the right.

    Args:
        x, y: the apex, which may lie above the image.
        left, right: angles of the two straight sides, the left one negative as a rule.
        face: distance from the apex to the transducer's face, along the middle beam.
        depth: of the longest beam, from the face to the far end.
        flat: the face is straight, as of a linear probe with a trapezoid view, not an arc.
    """

    x: float
    y: float
    left: float
    right: float
    face: float = 0.0
    depth: float = 0.0
    flat: bool = False

    @classmethod
    def of_array(cls, depth: float, radius: float, half_angle: float) -> Sector:
        """That of a curved array around the middle of its face; a few mm make a phased array.

        Args:
            depth: imaged depth in mm, from the probe's face.
            radius: radius of the face in mm.
            half_angle: half the opening angle in radians, below pi / 2.
        """
        return cls(0.0, -radius, -half_angle, half_angle, radius, depth)

    @property
    def outer(self) -> float:
        """Distance from the apex to the far end."""
        return self.face + self.depth

    @property
    def middle(self) -> float:
        """Angle of the middle beam."""
        return (self.left + self.right) / 2

    @property
    def half_angle(self) -> float:
        """Half the opening angle."""
        return (self.right - self.left) / 2

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Bounding box x0, x1, y0, y1 of an upright sector whose face is an arc."""
        side, top = self.outer * math.sin(self.half_angle), self.y + self.face
        lift = self.face * (math.cos(self.half_angle) - 1)
        return self.x - side, self.x + side, top + lift, top + self.depth

    def polar(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance from the apex and angle of points (x, y)."""
        across, down = x - self.x, y - self.y
        return np.hypot(across, down), np.arctan2(across, down)

    def beams(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of `points`: (depth, side) of points (x, y)."""
        radius, angle = self.polar(x, y)
        face: np.ndarray | float = self.face
        if self.flat:
            # cos(angle), kept from 0 for points beside the apex, which are outside anyway.
            face = face / np.maximum((y - self.y) / np.maximum(radius, 1), 0.1)
        return radius - face, (angle - self.middle) / self.half_angle

    def points(self, depth: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where (x, y) a beam passes at `depth` from the face; `side` is -1 (left) to 1 (right)."""
        return self.along(depth, self.middle + side * self.half_angle)

    def along(self, depth: np.ndarray, angle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where (x, y) the beam of an angle passes at `depth` from the face."""
        reach = (self.face / np.cos(angle) if self.flat else self.face) + depth
        return self.x + reach * np.sin(angle), self.y + reach * np.cos(angle)

    def line_spacing(self, depth: np.ndarray, lines: int) -> np.ndarray:
        """Distance between neighbouring ones of `lines` beams, at each depth below an arc."""
        return (self.face + np.asarray(depth)) * ((self.right - self.left) / (lines - 1))
