"""The heart: what all its views are painted of, and the apical ones with their borders (CAMUS)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tasks.phantom.anatomy.common import between, body_wall, lesion, mottled, streaks
from tasks.phantom.scene import BLOOD, FIBROUS, MUSCLE, Scene
from tasks.phantom.shapes import Blob, Strand, noise, wavy


class Apex(NamedTuple):
    """Borders in mm, float64 [N, 2] each."""

    cavity: np.ndarray
    """Of the left ventricle."""
    muscle: np.ndarray
    """The outside of its wall."""
    atrium: np.ndarray
    """The left one."""


def apical(scene: Scene, rng: np.random.Generator, right_heart: bool, squeeze: float) -> Apex:
    """An apical view: the left ventricle over the left atrium.

    Args:
        scene: to be painted.
        rng: the same for every frame of a beat.
        right_heart: whether the right chambers are beside it (4CH) or not (2CH).
        squeeze: part by which the ventricle's axes are shorter than at end-diastole.
    """
    half, depth = scene.reach
    chest(scene, rng)
    turn = between(rng, -0.2, 0.2)
    shift = 0.2 * half if right_heart else 0.0
    centre = (shift + between(rng, -0.1, 0.1) * half, between(rng, 0.38, 0.44) * depth)
    scale = between(rng, 0.85, 1.05) * depth
    heart = axes(centre, turn, scale)
    if right_heart:
        chamber(scene, rng, heart(-0.27, 0.02, 0.085, 0.19), 0.03 * scale)
        chamber(scene, rng, heart(-0.25, 0.31, 0.08, 0.085), 0.018 * scale)
    wide, long = between(rng, 0.1, 0.125), between(rng, 0.19, 0.22)
    wall = between(rng, 0.04, 0.055) * scale
    waves = wavy(rng, 0.04, (2, 3))
    # The valve's ring stays where it is; muscle keeps its area, and so it thickens.
    shrunk = 1 - squeeze
    middle = long * squeeze
    cavity = heart(0, middle, wide * shrunk, long * shrunk)
    cavity = Blob(cavity.x, cavity.z, cavity.width, cavity.height, cavity.tilt, waves)
    thick = wall / shrunk
    outer = Blob(
        *(cavity.x, cavity.z, cavity.width + thick, cavity.height + thick, cavity.tilt, waves)
    )
    filled = 1 + 0.6 * squeeze  # the atrium fills while the ventricle empties
    atrium = heart(0.0, long + 0.115, 0.1 * filled, 0.085 * filled)
    texture = mottled(scene, rng, (2.5, 7.0), (1.5, 2.0))
    around = Blob(
        *(atrium.x, atrium.z, atrium.width + 0.4 * wall, atrium.height + 0.4 * wall, atrium.tilt)
    )
    for blob in (around, outer):
        level = blob.level(scene.x, scene.z)
        scene.paint(level, lesion(MUSCLE, echo=1), edge=2.0, texture=texture)
    for blob in (atrium, cavity):
        scene.paint(blob.level(scene.x, scene.z), BLOOD, edge=1.2)
    valve(scene, rng, heart(0, long + 0.01, 0.09, 0.02), turn)
    return Apex(cavity.polygon(64), outer.polygon(64), atrium.polygon(48))


def chest(scene: Scene, rng: np.random.Generator) -> None:
    """Everything around the heart: wall, lung haze at the sides, pericardium."""
    _, depth = scene.reach
    texture = mottled(scene, rng, (3.0, 12.0), (2.0, 3.0))
    scene.paint(scene.z + 99, lesion(MUSCLE, echo=-9, attenuation=0.5), texture=texture)
    streaks(scene, rng, 6, (0.5 * depth, depth), thickness=0.8)
    body_wall(scene, rng, between(rng, 0.06, 0.11) * depth)


def axes(
    centre: tuple[float, float], turn: float, scale: float
) -> Callable[[float, float, float, float], Blob]:
    """Ellipses in the heart's own axes, in units of `scale` mm."""
    c, s = float(np.cos(turn)), float(np.sin(turn))

    def place(u: float, v: float, width: float, height: float) -> Blob:
        x, z = centre[0] + scale * (c * u - s * v), centre[1] + scale * (s * u + c * v)
        return Blob(x, z, scale * width, scale * height, turn)

    return place


def chamber(scene: Scene, rng: np.random.Generator, blob: Blob, wall: float) -> None:
    """A chamber full of blood in muscle of `wall` mm; its size varies with the heartbeat."""
    beat = between(rng, 0.85, 1.1)
    blob = Blob(blob.x, blob.z, blob.width * beat, blob.height * beat, blob.tilt)
    blob = Blob(blob.x, blob.z, blob.width, blob.height, blob.tilt, wavy(rng, 0.05, (2, 3, 4)))
    level = blob.level(scene.x, scene.z)
    rough = 0.2 * np.float32(wall) * noise(rng, scene.x, scene.z, 2 * wall, 2 * wall)
    texture = mottled(scene, rng, (2.5, 7.0), (1.5, 2.0))
    scene.paint(level + np.float32(wall), lesion(MUSCLE, echo=1), edge=2.0, texture=texture)
    scene.paint(level + rough, BLOOD, edge=1.2)


def valve(scene: Scene, rng: np.random.Generator, blob: Blob, turn: float) -> None:
    """Two leaflets across `blob`."""
    lying = blob.width > blob.height
    long = max(blob.width, blob.height)
    opening = between(rng, -0.5, 0.5)
    for side in (-1, 1):
        shift = side * 0.5 * long
        x = blob.x + (shift if lying else 0)
        z = blob.z + (0 if lying else shift)
        angle = turn + (0.0 if lying else np.pi / 2) + side * opening
        leaflet = Strand(x, z, angle, 0.5 * long, 0.9, between(rng, -0.1, 0.1) * long)
        scene.paint(leaflet.level(scene.x, scene.z), lesion(FIBROUS, echo=7), edge=0.8)
