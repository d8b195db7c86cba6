"""Ellipses as annotators draw them: around a fetal head, to measure its circumference."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Ellipse(NamedTuple):
    """An ellipse in pixels; the centre of the first pixel is at (0, 0)."""

    x: float
    y: float
    width: float
    """Half of the axis that lies along x before it is turned."""
    height: float
    degrees: float
    """By which it is turned, from x to y."""

    @property
    def perimeter(self) -> float:
        """Ramanujan's second approximation: to 1e-7 of it, if no axis is twice the other."""
        h = ((self.width - self.height) / (self.width + self.height)) ** 2
        return float(np.pi * (self.width + self.height) * (1 + 3 * h / (10 + np.sqrt(4 - 3 * h))))

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """From the centre in parts of the way to the border: below 1 inside. As `x` and `y`."""
        cosine, sine = np.cos(np.radians(self.degrees)), np.sin(np.radians(self.degrees))
        right, down = x - self.x, y - self.y
        along = (cosine * right + sine * down) / self.width
        across = (cosine * down - sine * right) / self.height
        return np.asarray(np.hypot(along, across))

    def filled(self, size: tuple[int, int]) -> np.ndarray:
        """The pixels whose centres are inside, bool [H, W]; what lies beside `size` is cut off."""
        y, x = np.ogrid[: size[0], : size[1]]
        return np.asarray(self.distance(x, y) <= 1)


def through(drawn: np.ndarray) -> Ellipse | None:
    """The ellipse along the middle of a line, of which a part may be missing (at a border).

    Args:
        drawn: bool [H, W], True on the line.

    Returns:
        None if the line has another shape: a pixel of it is off by more than a tenth.
    """
    import cv2  # here, because names are listed without it

    points = np.argwhere(drawn)[:, ::-1].astype(np.float32)
    if len(points) < 5:
        return None
    (x, y), (width, height), degrees = cv2.fitEllipseDirect(points)
    found = Ellipse(x, y, width / 2, height / 2, degrees)
    if not np.isfinite(found).all() or min(found.width, found.height) <= 0:
        return None
    off = np.abs(found.distance(*points.T.astype(np.float64)) - 1).max()
    return found if off < 0.1 else None
