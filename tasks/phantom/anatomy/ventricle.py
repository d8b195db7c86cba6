"""A left ventricle that beats: how large it is at each moment, and where its tissue has moved.

The ventricle is an ellipsoid around its long axis, cut off at the mitral valve; its left and right
sides may bulge. Lengths are in mm, volumes in ml. In its own axes v runs along the long axis from
the inside of the apex to the valve, and u away from it, to the right.

What moves is tissue: a wall of muscle keeps its volume. A ventricle that has the part q of its
end-diastolic volume is q ** 0.2 as long and q ** 0.4 as wide, so that every diameter, and the
volume by the method of discs, is exactly that of the outline; the shortening (17 % for an ejection
fraction of 60 %) is of the size that echocardiography finds. A ring of the wall at radius r has the
volume that it had: r'^2 - c'^2 = (r^2 - c^2) / q ** 0.2, c being the cavity's radius there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tasks.phantom.anatomy.common import between, lesion, mottled
from tasks.phantom.anatomy.heart import chamber, chest
from tasks.phantom.scene import MUSCLE, Scene, Tissue
from tasks.phantom.shapes import Blob, Strand

_EMPTY = Tissue(-70.0, 0.15, 1.61, 0.0)
LONG, WIDE = 0.2, 0.4
"""Powers of the volume that length and width go by: together 1, for v * u * u."""
_WIDEST = 0.58  # where the ventricle is widest, as a part of its length from the apex
_FAR = 1.7  # in sizes of the heart, where tissue no longer moves with it


@dataclass(frozen=True)
class Beat:
    """How a heart's volume goes up and down, over whole frames.

    Args:
        frames: of one beat.
        systole: frames from the largest volume (end-diastole) to the smallest (end-systole).
        start: the frame of the beat that the video begins with, 0 at end-diastole.
        fraction: ejection fraction, 0 to 1.
    """

    frames: int
    systole: int
    start: int
    fraction: float

    def filled(self, frame: int) -> float:
        """Volume over that of end-diastole: 1 there, 1 - `fraction` at end-systole."""
        phase, systole = self._phase(frame)
        if systole:
            empty = (1 - math.cos(math.pi * phase)) / 2
        else:  # early filling, rest, and the atrium's part
            empty = 1 - 0.75 * _smooth(phase / 0.45) - 0.25 * _smooth((phase - 0.72) / 0.28)
        return 1 - self.fraction * empty

    def opening(self, frame: int) -> float:
        """Of the mitral valve, from 0 (closed, in systole) to 1."""
        phase, systole = self._phase(frame)
        if systole:
            return 0.0
        early, late = math.sin(math.pi * min(phase / 0.5, 1)), (phase - 0.65) / 0.35
        return max(early, 0.3 * (phase > 0.1), 0.75 * math.sin(math.pi * min(max(late, 0), 1)))

    def diastole(self) -> int:
        """The first frame of the video that is end-diastolic."""
        return -self.start % self.frames

    def end_systole(self) -> int:
        """The first frame of the video that is end-systolic."""
        return (self.systole - self.start) % self.frames

    def _phase(self, frame: int) -> tuple[float, bool]:
        """How far systole or diastole has got, and whether it is systole."""
        place = (frame + self.start) % self.frames
        if place <= self.systole:
            return place / self.systole, True
        return (place - self.systole) / (self.frames - self.systole), False


@dataclass(frozen=True)
class Ventricle:
    """A left ventricle at end-diastole.

    Args:
        x, z: where the inside of its apex is, in mm of the body.
        turn: of its long axis from straight down, in radians.
        length: of its long axis.
        width: the largest radius.
        wall: thickness of its muscle.
        bulges: of the left and the right side, (amplitude, phase).
    """

    x: float
    z: float
    turn: float
    length: float
    width: float
    wall: float
    bulges: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, volume: float, x: float, z: float, turn: float
    ) -> Ventricle:
        """One of `volume` ml; its shape is drawn."""
        slim = between(rng, 0.23, 0.29)  # radius over length
        bulges = tuple((between(rng, -0.07, 0.07), between(rng, 0, 1)) for _ in range(2))
        wall = between(rng, 8.0, 11.5)
        of_one = cls(x, z, turn, 1.0, slim, wall, (bulges[0], bulges[1]))
        length = (volume / of_one.volume()) ** (1 / 3)
        return cls(x, z, turn, length, slim * length, wall, of_one.bulges)

    def radius(self, v: np.ndarray, right: np.ndarray, rim: float = 0.0) -> np.ndarray:
        """Of the cavity at `v`, on the right or the left side, or of the outline `rim` mm outside
        of it; 0 where there is none."""
        depth = _WIDEST * self.length
        part = (v - np.float32(depth)) / np.float32(depth + rim)
        ellipse = np.sqrt(np.maximum(1 - part * part, 0))
        return np.asarray(np.float32(self.width + rim) * ellipse * self._bulge(v, right))

    def volume(self, filled: float = 1.0, discs: int = 400) -> float:
        """By the method of discs, of the outline at a moment, in ml (as `length` is in mm)."""
        v = (np.arange(discs) + 0.5) / discs * self.length
        sides = [self.radius(v, np.full(discs, right)) for right in (False, True)]
        diameters = (sides[0] + sides[1]).astype(np.float64) * filled**WIDE
        thickness = self.length * filled**LONG / discs
        return float(np.pi / 4 * (diameters**2).sum() * thickness) / 1000

    def where(self, x: np.ndarray, z: np.ndarray, filled: float) -> tuple[np.ndarray, np.ndarray]:
        """Whether points are in the cavity, and whether in its wall, at a moment; each as `x`."""
        u, v = self.own(x, z)
        shrunk = np.float32(filled**LONG)
        was, right, far = v / shrunk, u > 0, np.abs(u)
        inner, outer = (self.radius(was, right, rim) for rim in (0.0, self.wall))
        now = inner * np.float32(filled**WIDE)
        rim = np.sqrt(now * now + np.maximum(outer * outer - inner * inner, 0) / shrunk)
        above = was <= self.length  # the valve's plane
        cavity = above & (far < now)
        return cavity, above & (far < rim) & ~cavity

    def placed(self, own: np.ndarray) -> np.ndarray:
        """Points (u, v) as (x, z), [N, 2]."""
        c, s = math.cos(self.turn), math.sin(self.turn)
        u, v = own.T
        return np.stack([self.x + c * u - s * v, self.z + s * u + c * v], axis=1)

    def own(self, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of `placed`: (u, v) of points, each as `x`."""
        c, s = np.float32(math.cos(self.turn)), np.float32(math.sin(self.turn))
        dx, dz = x - np.float32(self.x), z - np.float32(self.z)
        return c * dx + s * dz, c * dz - s * dx

    def inside(self, u: np.ndarray, v: np.ndarray, rim: float = 0.0) -> np.ndarray:
        """Signed distance at end-diastole (approximate) to the outline `rim` mm outside of the
        cavity's, the valve's plane left open; positive inside."""
        reach = self._reach(u, v, rim)
        return np.asarray((1 - reach) * np.float32(self.width + rim))

    def before(self, x: np.ndarray, z: np.ndarray, filled: float) -> tuple[np.ndarray, np.ndarray]:
        """Where tissue that is at (x, z) now was at end-diastole, each as `x`.

        Outside of the heart, tissue moves less and less.
        """
        u, v = self.own(x, z)
        shrunk = np.float32(filled**LONG)
        was = v / shrunk
        inner = self.radius(was, u > 0)
        now = inner * np.float32(filled**WIDE)
        far = np.abs(u)
        ring = np.sqrt(u * u * shrunk + inner * inner * np.float32(1 - filled))
        first = np.where(far > now, ring, far / np.float32(filled**WIDE)) * np.sign(u)
        share = (np.float32(_FAR) - self._reach(first, was, self.wall)) / np.float32(_FAR - 1)
        share = np.clip(share, 0, 1)
        share = share * share * (3 - 2 * share)
        u, v = share * (first - u), share * (was - v)
        c, s = np.float32(math.cos(self.turn)), np.float32(math.sin(self.turn))
        return x + c * u - s * v, z + s * u + c * v

    def _reach(self, u: np.ndarray, v: np.ndarray, rim: float) -> np.ndarray:
        """Distance from the middle, in sizes of the ellipse that is `rim` mm larger."""
        wide = np.float32(self.width + rim) * self._bulge(v, u > 0)
        depth = np.float32(_WIDEST * self.length)
        return np.asarray(np.hypot(u / wide, (v - depth) / (depth + np.float32(rim))))

    def _bulge(self, v: np.ndarray, right: np.ndarray) -> np.ndarray:
        """What the ellipse's radius is multiplied by."""
        (left_size, left_phase), (right_size, right_phase) = self.bulges
        turn = v / np.float32(self.length)
        full = np.float32(2 * np.pi)
        sides = [
            1 + np.float32(size) * np.sin(full * (turn + np.float32(phase)))
            for size, phase in ((left_size, left_phase), (right_size, right_phase))
        ]
        return np.asarray(np.where(right, sides[1], sides[0]))


def paint(scene: Scene, rng: np.random.Generator, heart: Ventricle) -> np.ndarray:
    """Paint an apical view at end-diastole: both ventricles and the left atrium.

    The left chambers are painted empty, because blood does not move with tissue.

    Returns:
        How much of each place is the blood of the left chambers, 0 to 1, float32 [D, L].
    """
    chest(scene, rng)
    turn, long, wide = heart.turn, heart.length, heart.width
    texture = mottled(scene, rng, (2.5, 7.0), (1.5, 2.0))

    def beside(u: float, v: float, width: float, height: float) -> Blob:
        ((x, z),) = heart.placed(np.array([[u, v]]))
        return Blob(float(x), float(z), width, height, turn)

    away = wide + heart.wall
    chamber(scene, rng, beside(-away - 0.5 * wide, 0.6 * long, 0.55 * wide, 0.42 * long), 4)
    atrium = beside(0, long + 0.62 * wide, between(rng, 0.8, 1.0) * wide, 0.62 * wide)
    around = Blob(atrium.x, atrium.z, atrium.width + 3, atrium.height + 3, turn)
    u, v = heart.own(scene.x, scene.z)
    base = np.float32(long) - v  # above the valve's plane
    outer = np.minimum(heart.inside(u, v, heart.wall), base + 1)
    inner = np.minimum(heart.inside(u, v), base + 1)
    for level in (around.level(scene.x, scene.z), outer):
        scene.paint(level, lesion(MUSCLE, echo=2), edge=2.0, texture=texture)
    blood = np.maximum(atrium.level(scene.x, scene.z), inner)
    scene.paint(blood, _EMPTY, edge=1.6)
    return np.asarray(np.clip(blood / np.float32(1.6) + np.float32(0.5), 0, 1))


def leaflets(heart: Ventricle, filled: float, opening: float) -> tuple[Strand, Strand]:
    """The mitral valve's two leaflets: closed across its plane, or turned into the ventricle."""
    ring = np.array([heart.length])
    found = []
    for side in (-1, 1):
        wide = float(heart.radius(ring, np.array([side > 0]))[0]) * filled**WIDE
        angle = 0.2 + 1.05 * opening  # from the plane towards the apex
        half = 0.48 * wide
        u = side * (wide - half * math.cos(angle))
        v = heart.length * filled**LONG - half * math.sin(angle)
        ((x, z),) = heart.placed(np.array([[u, v]]))
        found.append(
            Strand(float(x), float(z), heart.turn + side * angle, half, 0.7, bend=-0.12 * half)
        )
    return found[0], found[1]


def _smooth(part: float) -> float:
    part = min(max(part, 0.0), 1.0)
    return part * part * (3 - 2 * part)
