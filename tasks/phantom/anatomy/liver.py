"""Liver: focal lesions (AUL) and steatosis against the kidney (FATTY LIVER, Morison's pouch)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tasks.phantom.anatomy.common import (
    between,
    body_wall,
    chance,
    cyst,
    diffuse_fat,
    halo,
    lesion,
    mottled,
    rib_shadow,
    vessel,
)
from tasks.phantom.scene import FLUID, GAS, KIDNEY, LIVER, Scene
from tasks.phantom.shapes import Blob, Strand, noise, wavy


@dataclass(frozen=True)
class LiverFinding:
    """Borders in mm, float64 [N, 2] each; `mass` is None in a liver without one."""

    liver: np.ndarray
    mass: np.ndarray | None


def focal(scene: Scene, rng: np.random.Generator, kind: str) -> LiverFinding:
    """A liver that is "normal", or has a "benign" or "malignant" mass.

    Benign is a haemangioma (bright, even, sharp) or a cyst (no echo, enhancement behind); some
    are as dark as the liver. Malignant is irregular, uneven and often has a dark rim.
    """
    border = _liver(scene, rng)
    half, depth = scene.reach
    radius = between(rng, 0.09, 0.2) * depth
    squash = between(rng, 0.75, 1.1)
    at = (between(rng, -0.35, 0.35) * half, between(rng, 0.34, 0.62) * depth)
    # Everything is drawn for every class, so that a class shifts no other draw.
    tilt, bright = between(rng, -0.6, 0.6), between(rng, 3.0, 8.0)
    mass = Blob(*at, radius, radius * squash, tilt, wavy(rng, 0.05, (2, 3)))
    ragged = Blob(*at, radius, radius * squash, tilt, wavy(rng, 0.16, (2, 3, 4, 5, 7)))
    patches = mottled(scene, rng, (radius / 3, radius / 1.5), (3.5, 3.0))
    shade, is_cyst, rim = between(rng, -8.0, 4.0), chance(rng, 0.35), chance(rng, 0.7)
    if kind == "normal":
        return LiverFinding(border.polygon(), None)
    if kind == "benign":
        if is_cyst:
            cyst(scene, mass)
        else:
            level = mass.level(scene.x, scene.z)
            tissue = lesion(LIVER, echo=bright, attenuation=0.45, impedance=1.67)
            scene.paint(level, tissue, edge=0.8, texture=0.25 * patches)
        return LiverFinding(border.polygon(), mass.polygon())
    level = ragged.level(scene.x, scene.z)
    if rim:
        halo(scene, level, width=0.16 * radius, change=-6.0)
    tissue = lesion(LIVER, echo=shade, attenuation=0.6, impedance=1.66)
    scene.paint(level, tissue, edge=2.5, texture=patches)
    if is_cyst:  # necrosis
        core = ragged.inner(0.1, 0.0, 0.35)
        scene.paint(core.level(scene.x, scene.z), lesion(FLUID, echo=-16), edge=3)
    return LiverFinding(border.polygon(), ragged.polygon())


def steatosis(scene: Scene, rng: np.random.Generator, fat: float) -> None:
    """A liver beside the right kidney with `fat` percent of fatty cells.

    Fat makes the liver brighter than the kidney, drains the sound on its way down, and drowns
    the walls of vessels and the diaphragm. Kidney and wall don't change with it.
    """
    grade = float(np.clip(fat / 60, 0, 1)) ** 0.45 if fat >= 5 else 0.003 * fat
    brightness = 10.0 * grade + float(rng.normal(0, 0.8))
    _liver(
        scene,
        rng,
        echo=brightness,
        attenuation=0.5 + 0.19 * grade + float(rng.normal(0, 0.012)),
        clarity=1 - 0.75 * grade,
    )
    half, depth = scene.reach
    kidney(scene, rng, (between(rng, 0.1, 0.4) * half, between(rng, 0.5, 0.66) * depth))


def morison(scene: Scene, rng: np.random.Generator) -> None:
    """Liver over kidney with the pouch between them, sometimes holding free fluid."""
    _liver(scene, rng)
    half, depth = scene.reach
    at = (between(rng, -0.15, 0.3) * half, between(rng, 0.5, 0.62) * depth)
    kidney(scene, rng, at, fluid=chance(rng, 0.4), size=1.25)


def _liver(
    scene: Scene,
    rng: np.random.Generator,
    echo: float = 0.0,
    attenuation: float = 0.5,
    clarity: float = 1.0,
) -> Blob:
    """Body wall, parenchyma, vessels and diaphragm; returns the liver's border."""
    half, depth = scene.reach
    wall = between(rng, 0.07, 0.15) * depth
    size = (between(rng, 0.85, 1.15) * half, between(rng, 0.40, 0.48) * depth)
    lean = between(rng, -0.25, 0.25)
    border = Blob(0.1 * half * lean, wall + size[1], *size, lean, wavy(rng, 0.05, (2, 3)))
    level = border.level(scene.x, scene.z)
    diffuse_fat(scene, rng, -level)
    grain = mottled(scene, rng, (4.0, 20.0), (0.8, 0.8))
    scene.paint(level, lesion(LIVER, echo=echo, attenuation=attenuation), edge=1.2, texture=grain)
    # Lung beyond the diaphragm: a bright arc, and a mirror of nothing much behind it.
    dome = replace(border, width=1.08 * border.width, height=1.08 * border.height)
    side = -1.0 if chance(rng, 0.5) else 1.0
    beyond = np.minimum(-dome.level(scene.x, scene.z), side * scene.x - np.float32(0.05 * half))
    beyond = np.minimum(beyond, scene.z - np.float32(0.5 * depth))
    scene.paint(beyond, lesion(GAS, attenuation=1.6, impedance=1.2 - 0.3 * clarity), edge=1.2)
    for _ in range(int(rng.integers(2, 6))):
        strand = Strand(
            x=between(rng, -0.55, 0.55) * half,
            z=between(rng, 0.25, 0.7) * depth,
            angle=between(rng, -1.2, 1.2),
            length=between(rng, 0.06, 0.22) * depth,
            thickness=between(rng, 0.008, 0.022) * depth,
            bend=between(rng, -0.04, 0.04) * depth,
            taper=between(rng, 0.2, 0.9),
        )
        is_portal = chance(rng, 0.5)
        if clarity > between(rng, 0.0, 0.9):
            vessel(scene, strand, wall=0.008 * depth * clarity if is_portal else 0.0)
    body_wall(scene, rng, wall)
    if chance(rng, 0.25):
        rib_shadow(scene, rng, between(rng, 0.75, 1.1) * (1 if chance(rng, 0.5) else -1), wall)
    return border


def kidney(
    scene: Scene,
    rng: np.random.Generator,
    at: tuple[float, float],
    fluid: bool = False,
    size: float = 1.0,
    length: float = 1.0,
) -> tuple[Blob, Blob]:
    """Paint a kidney at (x, z) mm; returns the borders of its capsule and of its sinus.

    Args:
        scene: to be painted.
        rng: generator.
        at: its centre in mm.
        fluid: whether free fluid lies above it.
        size: of all of it.
        length: of its long axis alone; below 1 it is seen in cross section.
    """
    _, depth = scene.reach
    long, short = between(rng, 0.24, 0.3) * depth * size, between(rng, 0.10, 0.13) * depth * size
    capsule = Blob(*at, long * length, short, between(rng, -0.3, 0.5), wavy(rng, 0.03, (2, 3)))
    level = capsule.level(scene.x, scene.z)
    if fluid:
        pouch = np.minimum(level + np.float32(0.035 * depth), at[1] - scene.z)
        scene.paint(pouch, FLUID, edge=0.8)
    diffuse = mottled(scene, rng, (2.5, 6.0), (2.0, 2.0))
    scene.paint(level + np.float32(0.012 * depth), lesion(LIVER, echo=7, impedance=1.5), edge=1.5)
    scene.paint(level, KIDNEY, edge=0.8, texture=0.4 * diffuse)
    sinus = capsule.inner(0.0, 0.0, 0.5, height=short * 0.38)
    ragged = sinus.level(scene.x, scene.z) + 1.5 * noise(rng, scene.x, scene.z, 4, 4)
    scene.paint(ragged, lesion(LIVER, echo=8, impedance=1.5), edge=2.5, texture=diffuse)
    for angle in np.arange(0, 2 * np.pi, np.pi / 4) + between(rng, 0, 0.7):  # pyramids
        pyramid = capsule.inner(0.72 * float(np.cos(angle)), 0.72 * float(np.sin(angle)), 0.12)
        scene.paint(pyramid.level(scene.x, scene.z), lesion(KIDNEY, echo=-9), edge=2, opacity=0.7)
    return capsule, sinus
