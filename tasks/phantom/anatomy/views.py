"""The nine views of BUTTERFLY, in the order of its codes: heart, vessels, bladder and others."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tasks.phantom.anatomy import breast, liver, lung
from tasks.phantom.anatomy.common import (
    between,
    body_wall,
    chance,
    diffuse_fat,
    lesion,
    mottled,
    streaks,
    vessel,
)
from tasks.phantom.anatomy.heart import axes, chamber, chest, valve
from tasks.phantom.scene import FLUID, LIVER, MUSCLE, Scene
from tasks.phantom.shapes import Blob, Strand

VIEWS = (
    "carotid",
    "2ch",
    "lungs",
    "ivc",
    "4ch",
    "bladder",
    "thyroid",
    "plax",
    "morisons_pouch",
)
SUPERFICIAL = {"carotid", "thyroid"}  # set to a small depth by whoever scans


def view(scene: Scene, rng: np.random.Generator, name: str) -> None:
    """Paint the view `name` of `VIEWS`."""
    _PAINTERS[name](scene, rng)


def _two_chambers(scene: Scene, rng: np.random.Generator) -> None:
    """Apical two-chamber view: left ventricle over left atrium, mitral valve between."""
    half, depth = scene.reach
    chest(scene, rng)
    turn = between(rng, -0.25, 0.25)
    centre = (between(rng, -0.15, 0.15) * half, between(rng, 0.36, 0.44) * depth)
    scale = between(rng, 0.8, 1.1) * depth
    heart = axes(centre, turn, scale)
    chamber(scene, rng, heart(0, 0, 0.14, 0.24), 0.045 * scale)
    chamber(scene, rng, heart(0.0, 0.33, 0.13, 0.10), 0.02 * scale)
    valve(scene, rng, heart(0, 0.225, 0.1, 0.02), turn)


def _four_chambers(scene: Scene, rng: np.random.Generator) -> None:
    """Apical four-chamber view: two ventricles over two atria, septum down the middle."""
    half, depth = scene.reach
    chest(scene, rng)
    turn = between(rng, -0.25, 0.25)
    centre = (between(rng, -0.12, 0.12) * half, between(rng, 0.36, 0.44) * depth)
    scale = between(rng, 0.8, 1.1) * depth
    heart = axes(centre, turn, scale)
    for side, width in ((1, 0.11), (-1, 0.085)):
        chamber(scene, rng, heart(side * 0.135, 0, width, 0.2), 0.035 * scale)
        chamber(scene, rng, heart(side * 0.125, 0.3, width, 0.085), 0.018 * scale)
    for side in (1, -1):
        valve(scene, rng, heart(side * 0.13, 0.2, 0.08, 0.02), turn)


def _long_axis(scene: Scene, rng: np.random.Generator) -> None:
    """Parasternal long axis: right ventricle on top, left one lying, aorta and left atrium."""
    half, depth = scene.reach
    chest(scene, rng)
    turn = between(rng, -0.2, 0.25)
    centre = (between(rng, -0.15, 0.1) * half, between(rng, 0.46, 0.54) * depth)
    scale = between(rng, 0.85, 1.1) * depth
    heart = axes(centre, turn, scale)
    chamber(scene, rng, heart(0.05, -0.24, 0.2, 0.05), 0.02 * scale)
    chamber(scene, rng, heart(-0.1, 0, 0.22, 0.11), 0.05 * scale)
    chamber(scene, rng, heart(0.24, -0.08, 0.13, 0.055), 0.015 * scale)
    chamber(scene, rng, heart(0.22, 0.13, 0.12, 0.095), 0.015 * scale)
    valve(scene, rng, heart(0.1, 0.06, 0.02, 0.07), turn)
    valve(scene, rng, heart(0.12, -0.08, 0.02, 0.03), turn)


def _vena_cava(scene: Scene, rng: np.random.Generator) -> None:
    """The inferior vena cava as a lying tube under the liver, a hepatic vein joining it."""
    half, depth = scene.reach
    texture = mottled(scene, rng, (4.0, 15.0), (0.8, 1.2))
    scene.paint(scene.z + 99, LIVER, texture=texture)
    at = (between(rng, -0.15, 0.15) * half, between(rng, 0.45, 0.58) * depth)
    angle, radius = between(rng, -0.3, 0.3), between(rng, 0.035, 0.075) * depth
    cava = Strand(*at, angle, 0.7 * depth, radius, between(rng, -0.05, 0.05) * depth)
    above = cava.level(scene.x, scene.z - np.float32(radius + 0.02 * depth))
    diffuse_fat(scene, rng, np.maximum(above, scene.z - np.float32(at[1] + 2.2 * radius)))
    vessel(scene, cava, wall=0.006 * depth)
    branch = Strand(
        at[0] + between(rng, -0.2, 0.2) * half,
        at[1] - 0.14 * depth,
        angle + between(rng, 0.5, 1.0) * (1 if chance(rng, 0.5) else -1),
        0.17 * depth,
        0.5 * radius,
    )
    vessel(scene, branch)
    body_wall(scene, rng, between(rng, 0.07, 0.12) * depth)


def _bladder(scene: Scene, rng: np.random.Generator) -> None:
    """A full bladder: a large rounded box of urine, bright tissue behind it."""
    half, depth = scene.reach
    texture = mottled(scene, rng, (3.0, 10.0), (2.0, 2.5))
    scene.paint(scene.z + 99, lesion(MUSCLE, echo=-2, attenuation=0.5), texture=texture)
    streaks(scene, rng, 8, (0.6 * depth, depth))
    at = (between(rng, -0.2, 0.2) * half, between(rng, 0.36, 0.46) * depth)
    size = between(rng, 0.17, 0.27) * depth
    corners = ((4, between(rng, 0.02, 0.09), 3.14), (2, between(rng, 0.0, 0.1), 0.0))
    bladder = Blob(
        *at, size * between(rng, 1.0, 1.5), size * 0.8, between(rng, -0.15, 0.15), corners
    )
    level = bladder.level(scene.x, scene.z)
    scene.paint(level + np.float32(0.02 * depth), lesion(MUSCLE, echo=0), edge=1.0)
    scene.paint(level, FLUID, edge=0.8)
    body_wall(scene, rng, between(rng, 0.08, 0.14) * depth)


def _lungs(scene: Scene, rng: np.random.Generator) -> None:
    lung.lung(scene, rng, "regular" if chance(rng, 0.7) else "covid")


_PAINTERS: dict[str, Callable[[Scene, np.random.Generator], None]] = {
    "carotid": breast.carotid,
    "2ch": _two_chambers,
    "lungs": _lungs,
    "ivc": _vena_cava,
    "4ch": _four_chambers,
    "bladder": _bladder,
    "thyroid": breast.thyroid_view,
    "plax": _long_axis,
    "morisons_pouch": liver.morison,
}
