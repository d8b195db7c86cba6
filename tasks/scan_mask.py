"""The ultrasound region of an image: without border, text, bars, logos and thumbnails.

An image shows a sector, a rectangle, or, cropped, nothing but ultrasound. Around it the screen has
one flat level, while text and bars are small. What stands out from that level gives edge points;
straight sides and arcs are found among them by voting (a Hough transform), so that a shadow that
hides part of an edge, or text that touches it, does not bend it. Everything happens on a copy of at
most 256 pixels, and the shape found is drawn at full size.

H, W are the image's size, h, w that of the copy, N the number of edge points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw
from scipy import ndimage

from tasks.images import decode
from tasks.task import Image
from ultrabench_eval.core.errors import UserError

WORKING_SIZE = 256
STEP = 5.0  # grey levels by which ultrasound stands out from the screen
HALF_ANGLES = np.deg2rad(np.arange(8.0, 90.0))
SKEW = 600.0  # points that a radian of asymmetry costs a sector
OUTSIDE = 0.7  # what a point beyond a boundary costs, against 1 for a point on it


class Region(NamedTuple):
    """Where the ultrasound is.

    Args:
        mask: bool [H, W], never empty.
        kind: "sector" (curved or phased array, trapezoid), "linear" (rectangle), "full" (the whole
            image), or "unknown" (a constant image; the mask is all True).
    """

    mask: np.ndarray
    kind: str


def estimate(image: np.ndarray) -> np.ndarray:
    """The ultrasound region of an image, bool [H, W]; all True where nothing tells it apart.

    Args:
        image: uint8 [H, W, 3] or [H, W].
    """
    return find(image).mask


def find(image: np.ndarray) -> Region:
    """`estimate`, with the kind of region; a pure function of the pixels."""
    grey = _grey(image)
    everything = np.ones(grey.shape, bool)
    copy = _reduced(grey)
    level = _screen_level(copy)
    if level is None:
        return Region(everything, "full" if np.ptp(copy) > STEP else "unknown")
    foreground = _foreground(grey, level)
    if not foreground.any():
        return Region(everything, "unknown")
    shape = _fit(_edges(copy, level, foreground), foreground)
    mask = shape.draw(copy.shape, grey.shape)
    if not mask.any():
        return Region(everything, "unknown")
    if shape.sector is not None:
        return Region(mask, "sector")
    return Region(everything, "full") if mask.mean() > 0.95 else Region(mask, "linear")


def of_frames(frames: Sequence[np.ndarray]) -> np.ndarray:
    """One region for the frames of a clip, bool [H, W]; of one frame, its `estimate`.

    It is that of the mean frame, in which passing shadows are lit. What is bright but never changes
    (text, bars) is taken away first, unless it lies at moving tissue, as the skin does.

    Args:
        frames: uint8 [H, W, 3] or [H, W], all of one size; at most 16 of them are looked at.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, 16).round().astype(int))
    greys = np.stack([_grey(frames[i]) for i in chosen])
    mean = greys.mean(axis=0).astype(np.uint8)
    changes = _reduced((np.ptp(greys, axis=0) > 2 * STEP).astype(np.uint8) * np.uint8(255))
    still = ndimage.uniform_filter(changes, 2 * _window(changes) + 1) < 0.05 * 255
    level = _screen_level(_reduced(mean))
    if level is not None and still.mean() < 0.8:  # else a frozen clip
        still = np.asarray(PIL.Image.fromarray(still).resize(mean.shape[::-1]))
        mean = np.where(still & (mean > level + 40), np.uint8(level), mean)
    return find(mean).mask


# From pixels to edge points


def _grey(image: np.ndarray) -> np.ndarray:
    """Luma, uint8 [H, W]."""
    return np.asarray(PIL.Image.fromarray(np.ascontiguousarray(image)).convert("L"))


def _reduced(grey: np.ndarray) -> np.ndarray:
    """Means over the cells of a copy of at most WORKING_SIZE pixels, float32 [h, w]."""
    scale = min(1.0, WORKING_SIZE / max(grey.shape))
    width, height = (max(1, round(side * scale)) for side in grey.shape[::-1])
    picture = PIL.Image.fromarray(grey)
    return np.asarray(picture.resize((width, height), PIL.Image.Resampling.BOX), np.float32)


def _window(grey: np.ndarray) -> int:
    """Odd width of the filter that is wider than strokes and bars."""
    return 2 * round(max(grey.shape) / 64) + 1


def _screen_level(grey: np.ndarray) -> int | None:
    """The level of the screen around the region: that of the most dark, flat places, if any."""
    inner = grey[1:-1, 1:-1]
    beside = grey[:-2, 1:-1], grey[2:, 1:-1], grey[1:-1, :-2], grey[1:-1, 2:]
    flat = np.all([np.abs(inner - other) < STEP / 2 for other in beside], axis=0)
    levels = np.rint(inner[flat & (inner < 64)]).astype(int)
    return int(np.bincount(levels).argmax()) if len(levels) > 0.004 * grey.size else None


def _foreground(grey: np.ndarray, level: int) -> np.ndarray:
    """Large connected areas that stand out from the screen, bool [h, w], without strokes."""
    # Counted before reducing: cells of small text are grey all over, but half of its pixels aren't.
    darker, brighter = level - STEP, level + STEP
    stands_out = _reduced(((grey <= darker) | (grey >= brighter)).view(np.uint8) * np.uint8(255))
    dense = ndimage.uniform_filter(stands_out, _window(stands_out), mode="nearest") > 127
    labels, _ = ndimage.label(dense)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    large = areas > 0.05 * max(areas.max(), 1)
    return ndimage.binary_fill_holes(large[labels])


class _Edges(NamedTuple):
    """Border pixels of the foreground.

    Args:
        points: (x, y) of their centres, float64 [N, 2].
        votes: [N]; near 0 at a fading shadow, 1 at a sharp edge, 0 where the image ends: there
            the region may go on.
        costs: [N], what a point costs that lies outside a shape.
    """

    points: np.ndarray
    votes: np.ndarray
    costs: np.ndarray


def _edges(grey: np.ndarray, level: int, foreground: np.ndarray) -> _Edges:
    outside = np.pad(~foreground, 1, constant_values=True)
    beside = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    rows, columns = np.nonzero(foreground & beside)
    height, width = foreground.shape
    at_end = (rows % (height - 1) == 0) | (columns % (width - 1) == 0)
    mean = ndimage.uniform_filter(grey, _window(grey), mode="nearest") - level
    sharpness = mean[rows, columns] / max(float(np.median(mean[foreground])), 1.0)
    votes = np.where(at_end, 0, np.clip((sharpness - 0.1) / 0.25, 0.05, 1))
    points = np.stack([columns, rows], axis=1) + 0.5
    return _Edges(points, votes, OUTSIDE * np.where(at_end, 1, votes))


# From edge points to a shape


class _Sector(NamedTuple):
    """Apex (x, y), half-angles in radians to both sides of straight down, and radii."""

    x: float
    y: float
    left: float
    right: float
    inner: float
    outer: float


class _Shape(NamedTuple):
    """A rectangle, or what it leaves of a sector, in pixels of the copy.

    Args:
        limits: x to the left and right, y to the top and bottom.
        sector: None for a rectangle.
    """

    limits: tuple[float, float, float, float]
    sector: _Sector | None = None

    def agreement(self, edges: _Edges) -> float:
        """Votes of the points on the border less costs of those outside."""
        x, y = edges.points.T
        left, right, top, bottom = self.limits
        inside = [x - left, right - x, y - top, bottom - y]
        if self.sector is not None:
            x, y = x - self.sector.x, y - self.sector.y
            radius = np.hypot(x, y)
            inside += [radius - self.sector.inner, self.sector.outer - radius]
            inside += [-_outward(x, y, self.sector.left, -1), -_outward(x, y, self.sector.right, 1)]
        margin = np.min(inside, axis=0)
        return float(edges.votes[np.abs(margin) <= 2].sum() - edges.costs[margin < -2].sum())

    def draw(self, copy: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """The mask at `size` (height, width) from pixels of a copy of size `copy`."""
        x = (np.arange(size[1], dtype=np.float32) + 0.5) * (copy[1] / size[1])
        y = (np.arange(size[0], dtype=np.float32) + 0.5)[:, None] * (copy[0] / size[0])
        left, right, top, bottom = self.limits
        first, last = np.full_like(y, left), np.full_like(y, right)
        gap = np.zeros_like(y)
        if self.sector is not None:
            # The border runs through the centres of the last pixels, hence half a pixel more.
            apex, _, a, b, inner, outer = self.sector
            down = y - self.sector.y
            half = np.sqrt(np.maximum((outer + 0.5) ** 2 - down**2, 0))
            first = np.maximum(first, apex - np.minimum(half, (0.5 + down * np.sin(a)) / np.cos(a)))
            last = np.minimum(last, apex + np.minimum(half, (0.5 + down * np.sin(b)) / np.cos(b)))
            gap = np.sqrt(np.maximum((inner - 0.5) ** 2 - down**2, 0)) * (inner > 0.5)
        first[(y < top) | (y > bottom)] = np.inf
        mask = (x >= first) & (x <= last)
        for row in np.flatnonzero(gap):
            mask[row] &= np.abs(x - self.sector.x) >= gap[row]
        return mask


def _outward(x: np.ndarray, y: np.ndarray, angle: np.ndarray | float, side: int) -> np.ndarray:
    """How far a point is outside the left (-1) or right (1) side through (0, 0) of a sector."""
    return side * x * np.cos(angle) - y * np.sin(angle)


def _ballot(outward: np.ndarray, edges: _Edges, voters: np.ndarray | None = None) -> np.ndarray:
    """Score boundaries by the points on them and beyond them.

    Args:
        outward: distance of the N points along A axes, [N, A], 0 or more.
        voters: bool [N, A], points that count; all unless told.

    Returns:
        [A, B]: entry b is for the boundary at distance b; points farther out are outside.
    """
    axes = outward.shape[1]
    bins = int(outward.max()) + 3
    cell = np.rint(outward).astype(np.int64) + bins * np.arange(axes)
    votes, costs = (np.broadcast_to(v[:, None], cell.shape) for v in (edges.votes, edges.costs))
    if voters is not None:
        cell, votes, costs = cell[voters], votes[voters], costs[voters]
    on, out = (
        np.bincount(cell.ravel(), v.ravel(), axes * bins).reshape(axes, bins).astype(float)
        for v in (votes, costs)
    )
    score = ndimage.correlate1d(on, [0.5, 1, 1, 1, 0.5], axis=1, mode="constant")
    score[:, :-2] -= out[:, ::-1].cumsum(axis=1)[:, ::-1][:, 2:]
    return score


def _fit(edges: _Edges, foreground: np.ndarray) -> _Shape:
    """The rectangle or sector that the edge points are on."""
    height, width = foreground.shape
    rows, columns = (np.flatnonzero(foreground.any(axis=axis)) for axis in (1, 0))
    sides = _straight_sides(edges, height, width)
    lengths = (len(rows), len(rows), len(columns), len(columns))

    def limits(share: float, *otherwise: float) -> tuple[float, float, float, float]:
        left, right, top, bottom = (
            place if score > share * length else other
            for (place, score), length, other in zip(sides, lengths, otherwise, strict=True)
        )
        return left, right, top, bottom

    left, right, top, bottom = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    if left < 2 and right > width - 2:
        bottom = height  # a cropped picture; what is dark at its bottom is the far field
    rectangle = _Shape(limits(0.5, left, right, top, bottom))
    votes = float(edges.votes.sum())
    needed = 0.1 * max(votes, height + width)
    sector = _sector(edges, height, width) if votes > needed else None
    if sector is None:
        return rectangle
    cut = _Shape(limits(0.15, 0, width, 0, height), sector)
    return cut if cut.agreement(edges) - rectangle.agreement(edges) > needed else rectangle


def _straight_sides(edges: _Edges, height: int, width: int) -> list[tuple[float, float]]:
    """The best upright or level edge to the left, right, top and bottom: place and score."""
    x, y = edges.points.T
    found = []
    for outward, start, sign in (
        (width - x, width, -1),
        (x, 0, 1),
        (height - y, height, -1),
        (y, 0, 1),
    ):
        score = _ballot(outward[:, None], edges)[0]
        score[: int(outward.min() + outward.max()) // 2] = -np.inf
        best = int(score.argmax())
        # 0.5 farther out than the centres of the last pixels.
        found.append((start + sign * (best + 0.5), float(score[best])))
    return found


def _sector(edges: _Edges, height: int, width: int) -> _Sector | None:
    """The sector with most points on its sides and arcs, of those that `_trials` proposes."""
    x, y = edges.points[:, :1], edges.points[:, 1:]
    reach = float(np.hypot(height, width))
    ballots = [_ballot(reach + _outward(x, y, HALF_ANGLES, side), edges) for side in (-1, 1)]
    trials = _trials(ballots, edges, reach, width)
    score = _score_sides(ballots, trials, reach)
    likely = score > 0.3 * score.max()
    likely[-1] = True  # the circle's
    (left, right, apex_x, apex_y), score = trials[:, likely], score[likely]
    left, right = HALF_ANGLES[left.astype(int)], HALF_ANGLES[right.astype(int)]

    x, y = x - apex_x, y - apex_y
    radius = np.hypot(x, y)
    between = (_outward(x, y, left, -1) < -1.5) & (_outward(x, y, right, 1) < -1.5)
    far_arcs = _ballot(radius, edges, between)
    outer, longest = far_arcs.argmax(axis=1), radius.max()
    near_arcs = _ballot(longest - radius, edges, between)
    # The probe's face is nearer to the apex than the far field is.
    inner = longest - np.arange(near_arcs.shape[1])
    near_arcs[inner > 0.7 * outer[:, None]] = -np.inf
    # Sectors are upright; a shadow along a beam, which is as straight as a side, is not.
    askew = np.maximum(np.abs(left - right) - np.deg2rad(2), 0)
    score = score + far_arcs.max(axis=1) + near_arcs.max(axis=1) - SKEW * askew
    k = int(score.argmax())
    chosen = (apex_x, apex_y, left, right, inner[near_arcs.argmax(axis=1)], outer)
    return _Sector(*(float(value[k]) for value in chosen)) if score[k] > 0 else None


def _score_sides(ballots: list[np.ndarray], trials: np.ndarray, reach: float) -> np.ndarray:
    """Scores of both sides of trials [4, T]: [T]."""
    total = np.zeros(trials.shape[1])
    for ballot, angle, side in zip(ballots, trials[:2].astype(int), (-1, 1), strict=True):
        place = np.rint(reach + _outward(*trials[2:], HALF_ANGLES[angle], side)).astype(int)
        total += ballot[angle, np.clip(place, 0, ballot.shape[1] - 1)]
    return total


def _trials(ballots: list[np.ndarray], edges: _Edges, reach: float, width: int) -> np.ndarray:
    """Sectors worth trying: left and right (positions in HALF_ANGLES), apex x and y; [4, T].

    They are pairs of strong sides; strong sides with mirror images of themselves, since the other
    one may be in the dark; and last the centre of the circle along the lower border, since both
    may be cut off.
    """
    strong = [_strong_sides(ballot) for ballot in ballots]
    found = []
    for i, p in strong[0]:
        for j, q in strong[1]:
            # Where -x cos(a) - y sin(a) = p and x cos(b) - y sin(b) = q.
            a, b = HALF_ANGLES[i], HALF_ANGLES[j]
            x = ((q - reach) * np.sin(a) - (p - reach) * np.sin(b)) / np.sin(a + b)
            y = ((reach - p) * np.cos(b) + (reach - q) * np.cos(a)) / np.sin(a + b)
            found.append(np.array([[i], [j], [x], [y]]))
    x = np.arange(0.0, width, 3)
    for side, lines in zip((-1, 1), strong, strict=True):
        for i, p in lines[:2]:
            y = (side * x * np.cos(HALF_ANGLES[i]) + reach - p) / np.sin(HALF_ANGLES[i])
            found.append(np.stack([0 * x + i, 0 * x + i, x, y]))
    x, y = _circle(edges)
    best = []
    for ballot, side in zip(ballots, (-1, 1), strict=True):
        place = np.rint(reach + _outward(x, y, HALF_ANGLES, side)).astype(int)
        place = np.clip(place, 0, ballot.shape[1] - 1)
        best.append(ballot[np.arange(len(place)), place].argmax())
    found.append(np.array([[best[0]], [best[1]], [x], [y]]))
    return np.concatenate(found, axis=1)


def _strong_sides(ballot: np.ndarray) -> list[tuple[int, int]]:
    """The four best sides, no two of nearly the same angle: positions of angle and place."""
    heights, found = ballot.max(axis=1), []
    for _ in range(4):
        angle = int(heights.argmax())
        found.append((angle, int(ballot[angle].argmax())))
        heights[max(0, angle - 2) : angle + 3] = -np.inf
    return found


def _circle(edges: _Edges) -> tuple[float, float]:
    """Centre of the circle along the lower border: least squares, without what strays from it."""
    x, y = edges.points.T
    lowest = np.zeros(int(x.max()) + 1)
    np.maximum.at(lowest, x.astype(int), y)
    lower = (y == lowest[x.astype(int)]) & (edges.votes > 0)
    middle = x.mean(), y.mean()
    x, y = x[lower] - middle[0], y[lower] - middle[1]
    a = b = 0.0
    for _ in range(4):
        if len(x) < 10:
            break
        # x^2 + y^2 = 2 a x + 2 b y + c for points on a circle around (a, b).
        system = np.stack([2 * x, 2 * y, np.ones_like(x)], axis=1)
        a, b, c = np.linalg.lstsq(system, x**2 + y**2, rcond=None)[0]
        error = np.abs(np.hypot(x - a, y - b) - np.sqrt(max(c + a**2 + b**2, 0)))
        close = error <= max(2.0, float(np.quantile(error, 0.8)))
        x, y = x[close], y[close]
    return a + middle[0], b + middle[1]
