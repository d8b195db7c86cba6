"""Gallbladder (GBCU): normal, stones, cancer."""

from __future__ import annotations

import numpy as np

from tasks.phantom.anatomy.common import (
    between,
    body_wall,
    chance,
    diffuse_fat,
    lesion,
    mottled,
    vessel,
)
from tasks.phantom.scene import FIBROUS, FLUID, GAS, LIVER, STONE, Scene
from tasks.phantom.shapes import Blob, Strand, noise, wavy


def gallbladder(scene: Scene, rng: np.random.Generator, kind: str) -> np.ndarray:
    """A gallbladder under the liver; returns its border in mm, float64 [N, 2].

    "normal" has a thin wall and no echoes within. "benign" holds stones that cast shadows, or
    sludge, and may have an evenly thickened wall. "malignant" has a mass that grows from the
    wall, an uneven wall, and may grow into the liver.
    """
    half, depth = scene.reach
    wall = between(rng, 0.07, 0.13) * depth
    scene.paint(scene.z + 99, LIVER, texture=mottled(scene, rng, (4.0, 20.0), (0.8, 0.8)))
    long, short = between(rng, 0.2, 0.32) * depth, between(rng, 0.09, 0.14) * depth
    at = (between(rng, -0.25, 0.25) * half, between(rng, 0.4, 0.56) * depth)
    sac = Blob(*at, long, short, between(rng, -0.7, 0.7), ((1, 0.12, 0.0), (2, 0.06, 0.4)))
    _surroundings(scene, rng, at[1] + short)
    level = sac.level(scene.x, scene.z)
    thick = between(rng, 0.008, 0.014) * depth
    uneven = noise(rng, scene.x, scene.z, 0.07 * depth, 0.07 * depth)
    oedema = thick * (between(rng, 1.5, 3.0) if kind == "benign" and chance(rng, 0.35) else 1.0)
    if kind == "malignant":
        oedema = thick * between(rng, 1.6, 3.2)
        level = level + np.float32(0.7 * oedema) * uneven
    scene.paint(level + np.float32(oedema), lesion(LIVER, echo=2.5, impedance=1.68), edge=1.0)
    scene.paint(level + np.float32(0.5 * oedema), lesion(LIVER, echo=-6.0), edge=1.0, opacity=0.7)
    scene.paint(level, lesion(FLUID, impedance=1.54), edge=0.7)
    if kind == "benign":
        _stones(scene, rng, sac)
    elif kind == "malignant":
        _tumour(scene, rng, sac)
    elif chance(rng, 0.3):  # a fold of the neck, which is not a stone
        fold = sac.inner(0.8, 0.0, 0.1)
        strand = Strand(fold.x, fold.z, sac.tilt + 1.2, 0.6 * short, 0.7)
        scene.paint(np.minimum(strand.level(scene.x, scene.z), level), FIBROUS, edge=0.6)
    body_wall(scene, rng, wall)
    return sac.polygon(48)


def _surroundings(scene: Scene, rng: np.random.Generator, below: float) -> None:
    """Vessels, and fat and gut with its dirty shadow beneath the gallbladder."""
    half, depth = scene.reach
    wave = noise(rng, scene.x, 0 * scene.z, 25, 25)
    gut = scene.z - np.float32(below + 0.02 * depth) - np.float32(0.04 * depth) * wave
    diffuse_fat(scene, rng, gut)
    for _ in range(int(rng.integers(1, 4))):
        loop = Blob(
            between(rng, -1, 1) * half,
            below + between(rng, 0.08, 0.2) * depth,
            between(rng, 0.08, 0.16) * depth,
            0.05 * depth,
            waves=wavy(rng, 0.1, (2, 3)),
        )
        air = lesion(GAS, attenuation=between(rng, 0.8, 2.5), impedance=1.1)
        scene.paint(loop.level(scene.x, scene.z), air, edge=1.5)
    for _ in range(int(rng.integers(1, 4))):
        strand = Strand(
            x=between(rng, -0.7, 0.7) * half,
            z=between(rng, 0.2, 0.4) * depth,
            angle=between(rng, -1, 1),
            length=between(rng, 0.05, 0.15) * depth,
            thickness=between(rng, 0.006, 0.014) * depth,
            taper=0.5,
        )
        vessel(scene, strand, wall=0.006 * depth if chance(rng, 0.5) else 0.0)


def _stones(scene: Scene, rng: np.random.Generator, sac: Blob) -> None:
    """Stones or sludge at the bottom of the sac; gravity pulls them down."""
    _, depth = scene.reach
    if chance(rng, 0.25):
        bottom = scene.z - np.float32(sac.z + between(rng, 0.0, 0.4) * sac.height)
        inside = np.minimum(sac.level(scene.x, scene.z), bottom)
        scene.paint(inside, lesion(LIVER, echo=-5.0, attenuation=0.4, impedance=1.56), edge=1.5)
        if chance(rng, 0.5):
            return
    for _ in range(int(rng.integers(1, 5))):
        size = between(rng, 0.012, 0.035) * depth
        u = between(rng, -0.7, 0.7)
        reach = np.sqrt(1 - u * u) - size / sac.height
        # +v of the sac's own axes points down, since it is tilted by less than a right angle.
        stone = sac.inner(u, float(max(reach, 0.0)) * 0.9, 0.1, width=size, height=0.85 * size)
        scene.paint(stone.level(scene.x, scene.z), STONE, edge=0.6)


def _tumour(scene: Scene, rng: np.random.Generator, sac: Blob) -> None:
    """A mass on the wall that fills part of the sac and may cross into the liver."""
    angle = between(rng, 0, 6.3)
    size = between(rng, 0.45, 0.95) * sac.height
    seat = sac.inner(0.7 * float(np.cos(angle)), 0.7 * float(np.sin(angle)), 0.5)
    stretch = between(rng, 1.0, 1.8)
    mass = Blob(
        seat.x, seat.z, size * stretch, size, between(rng, -1.5, 1.5), wavy(rng, 0.16, (2, 3, 4, 6))
    )
    level = mass.level(scene.x, scene.z)
    if chance(rng, 0.6):
        level = np.minimum(level, sac.level(scene.x, scene.z) + np.float32(2))
    texture = mottled(scene, rng, (size / 3, size / 1.5), (2.0, 2.0))
    tissue = lesion(LIVER, echo=between(rng, -6, 1), attenuation=0.6, impedance=1.63)
    scene.paint(level, tissue, edge=2.0, texture=texture)
    if chance(rng, 0.25):  # cancer often comes with a stone
        stone = sac.inner(between(rng, -0.5, 0.5), 0.6, 0.1, width=3.5, height=3.0)
        scene.paint(stone.level(scene.x, scene.z), STONE, edge=0.6)
