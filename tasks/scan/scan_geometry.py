"""The sector or rectangle that edge points are on, found by voting (a Hough transform).

Every straight side and arc is scored by the points on it less those beyond it, so that a shadow
that hides part of an edge, or text that touches one, does not bend it.

Pixels throughout: x to the right, y downwards, pixel centres at halves; angles from straight down.
N is the number of edge points, A of directions, B of places along them, T of trials.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tasks.scan.sector import Sector

HALF_ANGLES = np.deg2rad(np.arange(8.0, 90.0))
STRONG, TRIALS = 4, 48  # sides, and mirror images of them, that are looked at closely
# In points on the border:
BEYOND = 0.7  # cost of a point that a shape leaves outside
GAP = 0.25  # cost of a pixel between a sector's side and the outermost point
EMPTY = 0.1  # cost of a pixel of the far arc, at its ends, with nothing near above it
SKEW = 1000.0  # cost of a radian by which a sector's half-angles differ


class Edges(NamedTuple):
    """Border pixels of the foreground.

    Args:
        points: (x, y) of their centres, float64 [N, 2].
        facing: unit vectors (x, y) from the foreground outwards, [N, 2].
        votes: [N]; near 0 at a fading shadow, 1 at a sharp edge, 0 where the image ends: there
            the region may go on.
        costs: [N], what a point costs that lies outside a shape.
    """

    points: np.ndarray
    facing: np.ndarray
    votes: np.ndarray
    costs: np.ndarray


class Shape(NamedTuple):
    """A rectangle, or what it leaves of a sector, in pixels of the copy.

    Args:
        limits: x to the left and right, y to the top and bottom.
        sector: None for a rectangle.
    """

    limits: tuple[float, float, float, float]
    sector: Sector | None = None

    def agreement(self, edges: Edges) -> float:
        """Votes of the points on the border less costs of those outside."""
        x, y = edges.points.T
        left, right, top, bottom = self.limits
        inside = [x - left, right - x, y - top, bottom - y]
        if self.sector is not None:
            sector = self.sector
            x, y = x - sector.x, y - sector.y
            radius = np.hypot(x, y)
            inside += [radius - sector.face, sector.outer - radius]
            inside += [-_outward(x, y, -sector.left, -1), -_outward(x, y, sector.right, 1)]
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
            apex, a, b, face = self.sector.x, -self.sector.left, self.sector.right, self.sector.face
            down = y - self.sector.y
            half = np.sqrt(np.maximum((self.sector.outer + 0.5) ** 2 - down**2, 0))
            first = np.maximum(first, apex - np.minimum(half, (0.5 + down * np.sin(a)) / np.cos(a)))
            last = np.minimum(last, apex + np.minimum(half, (0.5 + down * np.sin(b)) / np.cos(b)))
            gap = np.sqrt(np.maximum((face - 0.5) ** 2 - down**2, 0)) * (face > 0.5)
        first[(y < top) | (y > bottom)] = np.inf
        mask = (x >= first) & (x <= last)
        if self.sector is not None:
            rows = gap[:, 0] > 0
            mask[rows] &= np.abs(x - self.sector.x) >= gap[rows]
        return mask


def _outward(
    x: np.ndarray | float, y: np.ndarray | float, angle: np.ndarray | float, side: int
) -> np.ndarray:
    """How far a point is outside the left (-1) or right (1) side through (0, 0) of a sector."""
    return np.asarray(side * x * np.cos(angle) - y * np.sin(angle))


def _ballot(
    outward: np.ndarray, turned: np.ndarray, edges: Edges, among: np.ndarray | None = None
) -> np.ndarray:
    """Score boundaries by the points on them that face outwards, and the points beyond them.

    Args:
        outward: distance of the N points along A axes, [N, A], 0 or more.
        turned: cosine between what a point faces and the axis, [N, A].
        among: bool [N, A], points that count; all unless told.

    Returns:
        [A, B]: entry b is for the boundary at distance b; points farther out are outside.
    """
    axes = outward.shape[1]
    bins = int(outward.max()) + 3
    cell = np.rint(outward).astype(np.int64) + bins * np.arange(axes)

    def counted(who: np.ndarray | None, weight: np.ndarray) -> np.ndarray:
        weight = np.broadcast_to(weight[:, None], cell.shape)
        cells, weights = (cell, weight) if who is None else (cell[who], weight[who])
        total = np.bincount(cells.ravel(), weights.ravel(), axes * bins)
        return total.reshape(axes, bins).astype(float)

    faces = turned > 0.5
    on = counted(faces if among is None else faces & among, edges.votes)
    score = ndimage.correlate1d(on, [0.5, 1, 1, 1, 0.5], axis=1, mode="constant")
    score[:, :-2] -= counted(among, edges.costs)[:, ::-1].cumsum(axis=1)[:, ::-1][:, 2:]
    return score


def fit(edges: Edges, foreground: np.ndarray) -> Shape:
    """The rectangle or sector that the edge points of `foreground` (bool [h, w]) are on."""
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
    rectangle = Shape(limits(0.5, left, right, top, bottom))
    needed = 0.1 * max(float(edges.votes.sum()), height + width)
    sector = _sector(edges, height, width, 0.4 * needed)
    if sector is None:
        return rectangle
    shape = Shape((0, width, 0, height), sector)
    for i, place in enumerate(limits(0.15, 0, width, 0, height)):
        if place == shape.limits[i]:
            continue
        left, right, top, bottom = (place if i == j else v for j, v in enumerate(shape.limits))
        cut = Shape((left, right, top, bottom), sector)
        if cut.agreement(edges) > shape.agreement(edges) + 0.3 * needed:
            shape = cut
    return shape if shape.agreement(edges) > rectangle.agreement(edges) + needed else rectangle


def _straight_sides(edges: Edges, height: int, width: int) -> list[tuple[float, float]]:
    """The best upright or level edge to the left, right, top and bottom: place and score."""
    found = []
    for axis, size in ((0, width), (1, height)):
        for sign in (-1, 1):
            start = size if sign < 0 else 0
            outward = start + sign * edges.points[:, axis : axis + 1]
            score = _ballot(outward, sign * edges.facing[:, axis : axis + 1], edges)[0]
            score[: int(outward.min() + outward.max()) // 2] = -np.inf
            best = int(score.argmax())
            # 0.5 farther out than the centres of the last pixels.
            found.append((abs(start - best - 0.5), float(score[best])))
    return found


def _sector(edges: Edges, height: int, width: int, needed: float) -> Sector | None:
    """The sector with most points on its sides and arcs, of those that `_trials` proposes.

    None if its sides and near arc score less than `needed`: the far arc alone may be any layer.
    """
    if edges.votes.sum() < needed:
        return None
    x, y = edges.points[:, :1], edges.points[:, 1:]
    facing_x, facing_y = edges.facing[:, :1], edges.facing[:, 1:]
    reach = float(np.hypot(height, width))
    ballots = [
        _ballot(
            reach + _outward(x, y, HALF_ANGLES, side),
            _outward(facing_x, facing_y, HALF_ANGLES, side),
            edges,
        )
        for side in (-1, 1)
    ]
    trials = _trials(ballots, edges, reach, width)
    score = _score_sides(ballots, trials, reach)
    # The pairs of strong sides, the best of the mirror images, and the circle's.
    mirrored = np.argsort(-score[STRONG**2 : -1], kind="stable")[:TRIALS] + STRONG**2
    likely = np.concatenate([np.arange(STRONG**2), mirrored, [-1]])
    (left, right, apex_x, apex_y), score = trials[:, likely], score[likely]
    left, right = HALF_ANGLES[left.astype(int)], HALF_ANGLES[right.astype(int)]

    x, y = x - apex_x, y - apex_y
    radius = np.hypot(x, y)
    between = (_outward(x, y, left, -1) < -1.5) & (_outward(x, y, right, 1) < -1.5)
    away = (x * facing_x + y * facing_y) / np.maximum(radius, 1)
    far_arcs = _ballot(radius, away, edges, between)
    outer, longest = far_arcs.argmax(axis=1), radius.max()
    near_arcs = _ballot(longest - radius, -away, edges, between)
    # The probe's face is nearer to the apex than the far field is.
    inner = longest - np.arange(near_arcs.shape[1])
    near_arcs[inner > 0.7 * outer[:, None]] = -np.inf
    # Sectors are upright; a shadow along a beam, which is as straight as a side, is not.
    askew = np.maximum(np.abs(left - right) - np.deg2rad(2), 0)
    angle = np.where(radius > outer / 2, np.arctan2(x, y), 0)
    empty = np.maximum(left + angle.min(axis=0), 0) + np.maximum(right - angle.max(axis=0), 0)
    score = score + near_arcs.max(axis=1) - SKEW * askew
    score[score < needed] = -np.inf
    score = score + far_arcs.max(axis=1) - EMPTY * outer * empty
    k = int(score.argmax())
    face = float(inner[near_arcs[k].argmax()])
    apex_x, apex_y, left, right = (float(value[k]) for value in (apex_x, apex_y, left, right))
    sector = Sector(apex_x, apex_y, -left, right, face, float(outer[k]) - face)
    return sector if score[k] > 0 else None


def _score_sides(ballots: list[np.ndarray], trials: np.ndarray, reach: float) -> np.ndarray:
    """Scores of both sides of trials [4, T]: [T]."""
    total = np.zeros(trials.shape[1])
    for ballot, angle, side in zip(ballots, trials[:2].astype(int), (-1, 1), strict=True):
        outward = reach + _outward(trials[2], trials[3], HALF_ANGLES[angle], side)
        outermost = ballot.shape[1] - 1 - (ballot[:, ::-1] != 0).argmax(axis=1)
        total += ballot[angle, _place(ballot, outward)]
        total -= GAP * np.maximum(outward - outermost[angle], 0)
    return total


def _trials(ballots: list[np.ndarray], edges: Edges, reach: float, width: int) -> np.ndarray:
    """Sectors worth trying: left and right (positions in HALF_ANGLES), apex x and y; [4, T].

    They are pairs of strong sides; strong sides with mirror images of themselves, since the other
    one may be in the dark; and last the centre of the circle along the lower border, since both
    may be cut off.
    """
    strong = [_strong_sides(ballot) for ballot in ballots]
    found = []
    for i, p in strong[0]:
        for j, q in strong[1]:
            # Where _outward is p - reach for the left side and q - reach for the right one.
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
        place = _place(ballot, reach + _outward(x, y, HALF_ANGLES, side))
        best.append(ballot[np.arange(len(place)), place].argmax())
    found.append(np.array([[best[0]], [best[1]], [x], [y]]))
    # Rounded, so that the last bit of another processor's sine makes no other mask.
    return np.concatenate(found, axis=1).round(3)


def _place(ballot: np.ndarray, outward: np.ndarray) -> np.ndarray:
    """Entries of a ballot [A, B] for distances, whatever they are."""
    return np.asarray(np.clip(np.rint(outward), 0, ballot.shape[1] - 1), int)


def _strong_sides(ballot: np.ndarray) -> list[tuple[int, int]]:
    """The best STRONG sides, no two of nearly the same angle: positions of angle and place."""
    heights, found = ballot.max(axis=1), []
    for _ in range(STRONG):
        angle = int(heights.argmax())
        found.append((angle, int(ballot[angle].argmax())))
        heights[max(0, angle - 2) : angle + 3] = -np.inf
    return found


def _circle(edges: Edges) -> tuple[float, float]:
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
        normal = system.T @ system + np.diag([1e-6, 1e-6, 0])  # points on a line: far, not never
        a, b, c = np.linalg.solve(normal, system.T @ (x**2 + y**2))
        error = np.abs(np.hypot(x - a, y - b) - np.sqrt(max(c + a**2 + b**2, 0)))
        close = error <= max(2.0, float(np.sort(error)[int(0.8 * len(error))]))
        x, y = x[close], y[close]
    return a + middle[0], b + middle[1]
