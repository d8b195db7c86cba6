"""Polygons as annotators draw them: points [x, y] in pixels, the centre of the first at [0, 0]."""

from __future__ import annotations

import numpy as np

_EPSILON = 1e-12


def of(listed: object) -> np.ndarray:
    """The points of a polygon from a list of [x, y], float64 [N, 2].

    Raises:
        ValueError: not a list of three or more pairs of finite numbers.
    """
    try:
        points = np.array(listed, np.float64)
    except TypeError as error:
        raise ValueError(str(error)) from error
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError("not a list of three or more [x, y]")
    if not np.isfinite(points).all():
        raise ValueError("not all of its points are finite")
    return points


def within(points: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether points [N, 2] lie in an image of H x W pixels, up to a pixel beside it."""
    height, width = size
    return bool(points.min() >= -1 and (points.max(axis=0) <= (width + 1, height + 1)).all())


def filled(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre is inside a polygon or on its border, bool [H, W].

    The same as `skimage.draw.polygon2mask(size, points[:, ::-1])`, which UltraBench uses: of
    polygons that cross themselves, places are inside by the even-odd rule.

    Args:
        points: [x, y], float [N, 2]; what lies beside the image is cut off.
        size: H and W.
    """
    rows, columns = np.arange(size[0])[:, None], np.arange(size[1])
    right, left, vertex = (np.zeros(size, bool) for _ in range(3))
    # A ray to the right and one to the left of each pixel; they differ on the border alone.
    for (x1, y1), (x0, y0) in zip(np.roll(points, 1, axis=0), points, strict=True):
        start, stop = (int(np.clip(y, 0, size[0])) for y in (min(y0, y1), max(y0, y1) + 1))
        part = slice(start, stop)
        above, below = y0 - rows[part], y1 - rows[part]
        with np.errstate(divide="ignore", invalid="ignore"):  # level edges cross no ray
            offset = ((x0 - columns) * below - (x1 - columns) * above) / (below - above)
        right[part] ^= ((above > 0) != (below > 0)) & (offset > 0)
        left[part] ^= ((above < 0) != (below < 0)) & (offset < 0)
        vertex[part] |= (abs(above) < _EPSILON) & (abs(x0 - columns) < _EPSILON)
    return vertex | right | left
