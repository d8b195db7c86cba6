"""A kidney alone, in a long, cross or other section (Open Kidney)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tasks.phantom.anatomy import liver
from tasks.phantom.anatomy.common import between, body_wall, diffuse_fat, mottled
from tasks.phantom.scene import LIVER, Scene

LENGTHS = {"Longitudinal": 1.0, "Transverse": 0.55, "Other": 0.8}


class Kidney(NamedTuple):
    """Borders in mm, float64 [N, 2] each."""

    capsule: np.ndarray
    sinus: np.ndarray


def kidney(scene: Scene, rng: np.random.Generator, view: str) -> Kidney:
    """A kidney in one of `LENGTHS`, mostly below a part of the liver."""
    half, depth = scene.reach
    diffuse_fat(scene, rng, scene.z + 99)
    grain = mottled(scene, rng, (4.0, 16.0), (0.8, 1.0))
    scene.paint(between(rng, 0.25, 0.45) * depth - scene.z, LIVER, edge=2.0, texture=grain)
    at = (between(rng, -0.2, 0.2) * half, between(rng, 0.48, 0.6) * depth)
    capsule, sinus = liver.kidney(scene, rng, at, size=1.4, length=LENGTHS[view])
    body_wall(scene, rng, between(rng, 0.08, 0.14) * depth)
    return Kidney(capsule.polygon(64), sinus.polygon(48))
