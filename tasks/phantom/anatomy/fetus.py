"""The fetal head: in a standard plane (HC18), and behind the pubic symphysis in labour (PSFHS)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.phantom.anatomy.common import (
    between,
    body_wall,
    chance,
    diffuse_fat,
    lesion,
    mottled,
    streaks,
)
from tasks.phantom.scene import BONE, FIBROUS, FLUID, KIDNEY, LIVER, MUSCLE, Scene
from tasks.phantom.shapes import Blob, Strand


class Pelvis(NamedTuple):
    """Borders in mm, float64 [N, 2] each."""

    symphysis: np.ndarray
    head: np.ndarray


def head(scene: Scene, rng: np.random.Generator) -> Blob:
    """A head in amniotic fluid, cut at the level of the thalami; returns its outer border."""
    half, depth = scene.reach
    texture = mottled(scene, rng, (4.0, 12.0), (1.5, 2.0))
    scene.paint(scene.z + 99, lesion(LIVER, echo=-1, attenuation=0.3), texture=texture)
    streaks(scene, rng, 6, (0.6 * depth, depth))
    across = between(rng, 0.26, 0.36) * depth
    skull = Blob(
        between(rng, -0.12, 0.12) * half,
        between(rng, 0.48, 0.56) * depth,
        across * between(rng, 1.0, 1.1),
        across * between(rng, 0.74, 0.86),
        between(rng, -0.35, 0.35),
    )
    pool = Blob(skull.x, skull.z, 1.25 * skull.width, 1.2 * skull.height, skull.tilt)
    scene.paint(pool.level(scene.x, scene.z), FLUID, edge=2.0)
    _head(scene, rng, skull, bone=0.035 * across)
    body_wall(scene, rng, between(rng, 0.06, 0.1) * depth)
    return skull


def labour(scene: Scene, rng: np.random.Generator) -> Pelvis:
    """The view from the perineum: the symphysis above and to the left of a large head."""
    half, depth = scene.reach
    diffuse_fat(scene, rng, scene.z + 99)
    texture = mottled(scene, rng, (3.0, 9.0), (2.0, 2.0))
    scene.paint(scene.z + 99, lesion(MUSCLE, echo=-2), opacity=0.7, texture=texture)
    streaks(scene, rng, 8, (0.15 * depth, 0.6 * depth))
    across = between(rng, 0.26, 0.31) * depth
    skull = Blob(
        between(rng, 0.02, 0.25) * half,
        between(rng, 0.58, 0.66) * depth,
        across * between(rng, 1.05, 1.2),
        across,
        between(rng, 0.2, 0.7),
    )
    _head(scene, rng, skull, bone=0.04 * across)
    symphysis = Blob(
        between(rng, -0.42, -0.32) * half,
        between(rng, 0.2, 0.26) * depth,
        between(rng, 0.09, 0.12) * depth,
        between(rng, 0.035, 0.05) * depth,
        between(rng, 0.3, 0.8),
    )
    level = symphysis.level(scene.x, scene.z)
    scene.paint(level + np.float32(1.2), FIBROUS, edge=0.8)
    scene.paint(level, lesion(KIDNEY, echo=-6, attenuation=1.2), edge=0.8)
    body_wall(scene, rng, between(rng, 0.04, 0.07) * depth)
    return Pelvis(symphysis.polygon(48), skull.polygon(96))


def _head(scene: Scene, rng: np.random.Generator, skull: Blob, bone: float) -> None:
    """Skull of `bone` mm, brain, and its midline or ventricles."""
    level = skull.level(scene.x, scene.z)
    # Thin bone of a fetus lets sound through.
    scene.paint(level, lesion(BONE, echo=6, attenuation=0.9, impedance=2.6), edge=0.8)
    texture = mottled(scene, rng, (2.5, 8.0), (1.5, 1.5))
    brain = lesion(LIVER, echo=-9, attenuation=0.35, impedance=1.58)
    scene.paint(level - np.float32(bone), brain, edge=0.8, texture=texture)
    midline = Strand(skull.x, skull.z, skull.tilt, 0.75 * skull.width, 0.5)
    scene.paint(midline.level(scene.x, scene.z), lesion(FIBROUS, echo=4), edge=0.6)
    for side in (-1, 1):
        if chance(rng, 0.8):
            ventricle = skull.inner(between(rng, 0.2, 0.4), side * 0.3, 0.16)
            scene.paint(ventricle.level(scene.x, scene.z), FLUID, edge=1.0, opacity=0.8)
