"""Lung (POCUS, and one view of BUTTERFLY): A-lines, consolidation, B-lines."""

from __future__ import annotations

import numpy as np

from tasks.phantom.anatomy.common import between, body_wall, chance, lesion, mottled, rib_shadow
from tasks.phantom.scene import FLUID, GAS, LIVER, Scene
from tasks.phantom.shapes import Blob, noise, wavy


def lung(scene: Scene, rng: np.random.Generator, kind: str, phase: float = 0.0) -> None:
    """A lung at one phase of breathing.

    Args:
        scene: to paint.
        rng: the same for all frames of a video.
        kind: "regular" (smooth pleura, its echoes repeated at multiples of its depth: A-lines),
            "pneumonia" (consolidated lung like liver tissue, ragged deep border, air
            bronchograms, sometimes fluid) or "covid" (broken, thickened pleura, B-lines that run
            to the bottom and wipe out the A-lines).
        phase: of the breath, in radians; the lung slides along the wall with it.
    """
    _, depth = scene.reach
    pleura_at = between(rng, 0.12, 0.24) * depth
    slide = np.float32(between(rng, 3.0, 7.0) * np.sin(phase))
    lean, roughness = between(rng, -0.08, 0.08), between(rng, 0.1, 0.35)
    x = scene.x - slide  # what belongs to the lung moves with it
    line = np.float32(pleura_at) + np.float32(lean) * scene.x
    if kind == "covid":
        line = line + 0.8 * noise(rng, x, 0 * x, 7, 7)
    below = scene.depth - line
    scene.sliding = np.where(below > 0, slide, np.float32(0))
    haze = mottled(scene, rng, (4.0, 14.0), (1.5, 1.5))
    scene.paint(scene.z + 99, lesion(LIVER, echo=-4), texture=haze)
    if kind == "pneumonia":
        _consolidation(scene, rng, x, below, pleura_at)
    else:
        scene.paint(below, lesion(GAS, impedance=0.9), edge=1.0)
    _artefacts(scene, rng, kind, x, below, roughness)
    body_wall(scene, rng, pleura_at - 1.2)
    sides = (between(rng, -1.05, -0.55), between(rng, 0.55, 1.05))
    for side in sides if chance(rng, 0.8) else sides[:1]:
        rib_shadow(scene, rng, side, 0.62 * pleura_at)
    # Reverberation needs the beam to reach the pleura at all.
    bone = np.cumsum((scene.attenuation > 5) & (below <= 0), axis=0).astype(np.float32)
    scene.ghost *= np.exp(np.float32(-0.7) * bone)


def _artefacts(
    scene: Scene,
    rng: np.random.Generator,
    kind: str,
    x: np.ndarray,
    below: np.ndarray,
    roughness: float,
) -> None:
    """A-lines and B-lines, and the haze that fills gas: echoes of no tissue at their place."""
    _, depth = scene.reach
    start = scene.depth - below  # depth of the pleura on each beam
    fade = np.exp(-np.maximum(below, 0) / np.float32(between(rng, 0.22, 0.5) * depth))
    haze = np.float32(between(rng, 0.12, 0.4)) * fade
    patches = 10 ** (np.float32(0.12) * noise(rng, x, scene.z, 7, 14))
    strength = between(rng, 0.8, 2.0) * (1.0 if kind == "regular" else 0.25)
    if kind == "pneumonia":
        strength = 0.0
        haze *= np.float32(0.3)
    width = np.float32(between(rng, 0.7, 1.3))
    for number in range(2, 6):
        away = (scene.depth - number * start) / width
        uneven = 1 + np.float32(roughness) * noise(rng, x, 0 * x, 12, 12)
        haze += np.float32(strength * 0.6 ** (number - 2)) * uneven * np.exp(-0.5 * away**2)
    count = int(rng.integers(3, 7))
    rays = rng.uniform(-0.9, 0.9, count)
    widths = rng.uniform(0.02, 0.09, count)
    if kind == "regular":
        rays = rays[: int(rng.integers(0, 2))]  # a single B-line is not a disease
    elif kind == "pneumonia":
        rays = rays[: int(rng.integers(0, 3))]
    _, side = scene.probe.beams(x, scene.z)
    for ray, spread in zip(rays, widths, strict=False):
        profile = np.exp(-0.5 * ((side - ray) / spread) ** 2)
        comet = np.float32(between(rng, 0.6, 1.5)) * profile * fade**0.3
        haze = haze * (1 - 0.6 * profile) + comet  # B-lines wipe out A-lines
    scene.ghost += np.where(below > 1, haze * patches, 0).astype(np.float32)


def _consolidation(
    scene: Scene,
    rng: np.random.Generator,
    x: np.ndarray,
    below: np.ndarray,
    pleura_at: float,
) -> None:
    """Airless lung under the pleura, with bright bronchi and a shredded deep border."""
    half, depth = scene.reach
    scene.paint(below, lesion(GAS, impedance=1.0), edge=1.2)
    height = between(rng, 0.14, 0.24) * depth
    patch = Blob(
        between(rng, -0.3, 0.3) * half,
        pleura_at + between(rng, 0.4, 0.85) * height,
        between(rng, 0.4, 0.8) * half,
        height,
        between(rng, -0.2, 0.2),
        wavy(rng, 0.1, (2, 3, 5)),
    )
    shred = 2.5 * noise(rng, x, scene.z, 6, 6)
    level = np.minimum(patch.level(x, scene.z) + shred, below)
    texture = mottled(scene, rng, (3.0, 9.0), (2.0, 1.5))
    tissue = lesion(LIVER, echo=between(rng, -7, 0), attenuation=0.45)
    if chance(rng, 0.4):  # effusion between wall and lung
        gap = np.minimum(below, np.float32(0.05 * depth) - below)
        scene.paint(np.minimum(gap, patch.level(x, scene.z) + 6), FLUID, edge=1.0)
    scene.paint(level, tissue, edge=1.5, texture=texture)
    for _ in range(int(rng.integers(4, 14))):
        u, v = (float(value) for value in rng.uniform(-0.7, 0.7, 2))
        bronchus = patch.inner(
            u, v, 0.1, width=between(rng, 0.8, 4.0), height=between(rng, 0.5, 1.2)
        )
        air = np.minimum(bronchus.level(x, scene.z), level)
        scene.paint(air, lesion(GAS, echo=8, attenuation=1.6, impedance=1.1), edge=0.7)
