"""What several organs share: body wall, vessels, lesions of general kinds, fat and muscle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tasks.phantom.scene import (
    BLOOD,
    BONE,
    BRIGHT_FAT,
    FAT,
    FIBROUS,
    FLUID,
    MUSCLE,
    SKIN,
    Scene,
    Tissue,
)
from tasks.phantom.shapes import Blob, Strand, noise


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A uniform draw."""
    return float(rng.uniform(low, high))


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with the given probability."""
    return bool(rng.random() < probability)


def body_wall(scene: Scene, rng: np.random.Generator, thickness: float) -> None:
    """Skin, fat and muscle of `thickness` mm with their fasciae, pressed flat by the probe."""
    depth = scene.depth + noise(rng, scene.x, 0 * scene.z, 30, 30) * (0.06 * thickness)
    fat = thickness * between(rng, 0.35, 0.6)
    grain = noise(rng, scene.x, scene.z, 9, 1.2)
    scene.paint(thickness - depth, MUSCLE, texture=3 * grain)
    scene.paint(fat - depth, FAT, texture=2.5 * grain)
    for at in (fat, thickness, *rng.uniform(0.1, 1.0, 2) * thickness):
        scene.paint(0.35 - np.abs(depth - np.float32(at)), FIBROUS, edge=0.4)
    scene.paint(1.8 - scene.depth + 0 * scene.x, SKIN)


def vessel(scene: Scene, strand: Strand, wall: float = 0.0) -> None:
    """A blood vessel; `wall` mm of bright wall, as portal veins have and hepatic veins lack."""
    level = strand.level(scene.x, scene.z)
    if wall:
        scene.paint(level + np.float32(wall), FIBROUS, edge=0.8, opacity=0.6)
    scene.paint(level, BLOOD, edge=0.6)


def rib_shadow(scene: Scene, rng: np.random.Generator, side: float, depth: float) -> None:
    """A rib at `side` (-1 to 1 of the field of view) whose front stands at `depth` mm."""
    x, z = scene.probe.points(np.array(depth), np.array(side))
    rib = Blob(float(x), float(z) + 3, between(rng, 5, 8), 3.5, between(rng, -0.2, 0.2))
    scene.paint(rib.level(scene.x, scene.z), BONE, edge=0.6)


def cyst(scene: Scene, blob: Blob, content: Tissue = FLUID, wall: float = 0.5) -> np.ndarray:
    """A fluid-filled blob with a thin wall. Returns its level [D, L]."""
    level = blob.level(scene.x, scene.z)
    scene.paint(level + np.float32(wall), FIBROUS, edge=0.7, opacity=0.5)
    scene.paint(level, content, edge=0.5)
    return level


def mottled(
    scene: Scene,
    rng: np.random.Generator,
    sizes: tuple[float, float],
    strengths: tuple[float, float],
) -> np.ndarray:
    """Structure in dB [D, L] on two scales: correlation lengths in mm and strengths in dB."""
    return sum(
        (
            np.float32(strength) * noise(rng, scene.x, scene.z, 1.3 * size, size)
            for size, strength in zip(sizes, strengths, strict=True)
        ),
        start=np.zeros_like(scene.x),
    )


def streaks(
    scene: Scene,
    rng: np.random.Generator,
    count: int,
    depths: tuple[float, float],
    tissue: Tissue = FIBROUS,
    tilt: float = 0.35,
    thickness: float = 0.3,
) -> None:
    """Thin bright bands, more or less across the beam: fasciae, ligaments, strands."""
    half, _ = scene.reach
    for _ in range(count):
        strand = Strand(
            x=between(rng, -half, half),
            z=between(rng, *depths),
            angle=float(rng.normal(0, tilt)),
            length=between(rng, 0.2, 0.7) * half,
            thickness=thickness * between(rng, 0.6, 1.5),
            bend=float(rng.normal(0, 0.06)) * half,
        )
        scene.paint(
            strand.level(scene.x, scene.z), tissue, edge=0.5, opacity=between(rng, 0.3, 0.9)
        )


def diffuse_fat(scene: Scene, rng: np.random.Generator, level: np.ndarray) -> None:
    """Bright, streaky retroperitoneal or pelvic fat where `level` is positive."""
    texture = mottled(scene, rng, (2.5, 9.0), (3.5, 3.0))
    scene.paint(level, BRIGHT_FAT, edge=2.0, texture=texture)


def halo(scene: Scene, level: np.ndarray, width: float, change: float) -> None:
    """A rim of `width` mm around a lesion whose backscatter differs by `change` dB."""
    rim = np.clip((level + np.float32(width)) / np.float32(0.4 * width), 0, 1)
    scene.roughen(np.float32(change) * rim)


def lesion(tissue: Tissue, **changes: float) -> Tissue:
    """`tissue` with some properties changed."""
    return replace(tissue, **changes)
