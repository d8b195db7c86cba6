"""Breast masses (BUSBRA, BUSI) and thyroid nodules (TN5000, DDTI), seen with linear arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.phantom.anatomy.common import (
    between,
    chance,
    halo,
    lesion,
    mottled,
    streaks,
)
from tasks.phantom.scene import (
    BONE,
    BRIGHT_FAT,
    FAT,
    FIBROUS,
    FLUID,
    GLAND,
    MUSCLE,
    SKIN,
    STONE,
    Scene,
)
from tasks.phantom.shapes import Blob, noise, wavy


def breast(scene: Scene, rng: np.random.Generator, malignant: bool) -> np.ndarray:
    """A breast with one mass; returns the mass's border in mm, float64 [N, 2].

    Benign masses lie wider than tall, smooth and even, with a fine capsule; malignant ones tend
    to stand taller, are spiculated and uneven, with an echogenic halo and often a shadow
    (the descriptors of the ACR BI-RADS lexicon). The two overlap in size, depth and darkness.
    """
    return masses(scene, rng, [malignant])[0]


def masses(scene: Scene, rng: np.random.Generator, malignant: Sequence[bool]) -> list[np.ndarray]:
    """A breast with a mass of `breast` for each of `malignant`, or none; returns their borders."""
    _breast_tissue(scene, rng)
    return [_mass(scene, rng, one) for one in malignant]


def _mass(scene: Scene, rng: np.random.Generator, malignant: bool) -> np.ndarray:
    half, depth = scene.reach
    area = between(rng, 0.09, 0.19) * depth
    at = (between(rng, -0.35, 0.35) * half, between(rng, 0.3, 0.52) * depth)
    dark = between(rng, -17.0, -9.0)
    aspect = float(np.exp(rng.normal(-0.12 if malignant else -0.36, 0.2)))
    width, height = area / np.sqrt(aspect), area * np.sqrt(aspect)
    mild, strong = wavy(rng, 0.09, (2, 3, 4)), wavy(rng, 0.10, (2, 3, 5, 7))
    spikes = tuple(
        (between(rng, 0, 6.3), between(rng, 0.1, 0.5), between(rng, 0.05, 0.16))
        for _ in range(int(rng.integers(3, 11)))
    )
    halo_change = between(rng, 0.5, 4.5)
    shadow, tilt = between(rng, 0, 1), between(rng, -0.25, 0.25)
    texture = mottled(scene, rng, (area / 4, area / 2), (2.0, 2.0))
    specks = rng.normal(0, 0.35, (int(rng.integers(3, 9)), 2))
    if malignant:
        mass = Blob(*at, width, height, tilt, strong, spikes)
        level = mass.level(scene.x, scene.z)
        halo(scene, level, width=0.35 * area, change=halo_change)
        loss = 1.7 if shadow < 0.5 else 0.6
        tissue = lesion(FAT, echo=dark, attenuation=loss, impedance=1.6)
        scene.paint(level, tissue, edge=0.9, texture=1.3 * texture)
        for u, v in specks if shadow > 0.65 else ():
            _speck(scene, mass.inner(float(u), float(v), 0.1, width=0.3, height=0.2))
    else:
        mass = Blob(*at, width, height, tilt, mild)
        level = mass.level(scene.x, scene.z)
        scene.paint(level + np.float32(0.3), FIBROUS, edge=0.5, opacity=0.6)
        loss = 1.4 if shadow < 0.2 else 0.35
        tissue = lesion(FAT, echo=dark, attenuation=loss, impedance=1.58)
        scene.paint(level, tissue, edge=0.4, texture=0.5 * texture)
    return mass.polygon(64)


def thyroid(scene: Scene, rng: np.random.Generator, malignant: bool) -> np.ndarray:
    """A thyroid lobe with one nodule; returns the nodule's border in mm, float64 [N, 2].

    Benign nodules are about as bright as the gland, even or spongiform, with a thin dark halo;
    malignant ones are darker, stand taller than wide, are ill-defined and hold
    microcalcifications (the descriptors of ACR TI-RADS).
    """
    half, depth = scene.reach
    _neck(scene, rng)
    area = between(rng, 0.12, 0.18) * depth
    at = (between(rng, -0.3, 0.3) * half, between(rng, 0.38, 0.5) * depth)
    aspect = float(np.exp(rng.normal(0.06 if malignant else -0.14, 0.15)))
    width, height = area / np.sqrt(aspect), area * np.sqrt(aspect)
    smooth, ragged = wavy(rng, 0.04, (2, 3)), wavy(rng, 0.12, (2, 3, 5, 6))
    tilt = between(rng, -0.25, 0.25)
    texture = mottled(scene, rng, (area / 4, area / 2), (1.8, 1.5))
    dark, bright = between(rng, -8.0, 1.0), between(rng, -7.0, 2.0)
    specks = np.clip(rng.normal(0, 0.35, (int(rng.integers(5, 12)), 2)), -0.8, 0.8)
    holes = rng.uniform(-0.6, 0.6, (int(rng.integers(4, 10)), 2))
    is_variant, loss = chance(rng, 0.6), between(rng, 0.38, 0.6)
    if malignant:
        nodule = Blob(*at, width, height, tilt, ragged)
        tissue = lesion(GLAND, echo=dark, attenuation=loss + 0.06, impedance=1.63)
        scene.paint(nodule.level(scene.x, scene.z), tissue, edge=1.2, texture=1.4 * texture)
        for u, v in specks:
            _speck(scene, nodule.inner(float(u), float(v), 0.1, width=0.25, height=0.18))
    else:
        nodule = Blob(*at, width, height, tilt, smooth)
        level = nodule.level(scene.x, scene.z)
        halo(scene, level, width=0.09 * area + 0.4, change=-8.0)
        tissue = lesion(GLAND, echo=bright, attenuation=loss, impedance=1.62)
        scene.paint(level, tissue, edge=0.6, texture=0.6 * texture)
        if chance(rng, 0.25):  # inspissated colloid mimics a calcification
            _speck(scene, nodule.inner(0.2, -0.1, 0.1, width=0.3, height=0.2))
        for u, v in holes if is_variant else ():  # spongiform
            hole = nodule.inner(float(u), float(v), between(rng, 0.07, 0.15))
            scene.paint(hole.level(scene.x, scene.z), FLUID, edge=0.5)
    return nodule.polygon(48)


def carotid(scene: Scene, rng: np.random.Generator) -> None:
    """The neck with the common carotid artery, round or along, and often the jugular vein."""
    half, depth = scene.reach
    _neck_muscles(scene, rng)
    at = (between(rng, -0.4, 0.4) * half, between(rng, 0.4, 0.6) * depth)
    radius = between(rng, 0.08, 0.12) * depth
    is_along = chance(rng, 0.4)
    artery = Blob(*at, half * 2.5 if is_along else radius, radius, between(rng, -0.12, 0.12))
    _tube(scene, artery, wall=0.022 * depth)
    vein = Blob(
        at[0] + between(rng, 1.2, 2.2) * radius * (1 if chance(rng, 0.5) else -1),
        at[1] - between(rng, 0.6, 1.2) * radius,
        radius * between(rng, 1.0, 1.6),
        radius * between(rng, 0.4, 0.9),
        between(rng, -0.3, 0.3),
    )
    if not is_along and chance(rng, 0.75):
        _tube(scene, vein, wall=0.006 * depth)


def thyroid_view(scene: Scene, rng: np.random.Generator) -> None:
    """A cross-section of the neck: lobe, trachea with its shadow, carotid at the other side."""
    _neck(scene, rng)


def _speck(scene: Scene, blob: Blob) -> None:
    """A microcalcification: bright, too small for a shadow."""
    tissue = lesion(STONE, echo=10.0, attenuation=1.0, impedance=2.2)
    scene.paint(blob.level(scene.x, scene.z), tissue, edge=0.3, opacity=0.8)


def _tube(scene: Scene, blob: Blob, wall: float) -> None:
    level = blob.level(scene.x, scene.z)
    scene.paint(level + np.float32(wall), lesion(FIBROUS, echo=5.0), edge=0.5)
    scene.paint(level + np.float32(0.5 * wall), lesion(MUSCLE, echo=-12.0), edge=0.4)
    scene.paint(level, lesion(FLUID, impedance=1.6, attenuation=0.2), edge=0.4)


def _breast_tissue(scene: Scene, rng: np.random.Generator) -> None:
    """Skin, fat lobules between ligaments, gland, pectoral muscle, sometimes ribs."""
    _, depth = scene.reach
    wave = noise(rng, scene.x, 0 * scene.z, 14, 14)
    z = scene.z + np.float32(0.02 * depth) * wave
    gland, chest = between(rng, 0.16, 0.34) * depth, between(rng, 0.66, 0.85) * depth
    coarse = mottled(scene, rng, (2.0, 6.0), (2.5, 2.5))
    lines = noise(rng, scene.x, scene.z, 7, 0.9)
    scene.paint(scene.z + 9, lesion(FAT, echo=-4), texture=1.5 * lines + coarse)
    scene.paint(z - np.float32(gland), GLAND, edge=1.5, texture=coarse + 2 * lines)
    for _ in range(int(rng.integers(3, 8))):
        half, _ = scene.reach
        lobule = Blob(
            between(rng, -half, half),
            between(rng, 0.08, 0.75) * depth,
            between(rng, 0.1, 0.26) * depth,
            between(rng, 0.04, 0.09) * depth,
            float(rng.normal(0, 0.2)),
            wavy(rng, 0.08, (2, 3)),
        )
        level = lobule.level(scene.x, scene.z)
        scene.paint(level + np.float32(0.4), FIBROUS, edge=0.6, opacity=0.5)
        scene.paint(level, lesion(FAT, echo=between(rng, -9, -4)), edge=0.6, texture=lines)
    scene.paint(z - np.float32(chest), MUSCLE, edge=0.6, texture=3.0 * lines)
    streaks(scene, rng, int(rng.integers(8, 16)), (0.08 * depth, 0.7 * depth), tilt=0.3)
    streaks(scene, rng, 4, (chest, depth), tilt=0.05)
    if chance(rng, 0.3):
        half, _ = scene.reach
        for side in (between(rng, -1, -0.2), between(rng, 0.2, 1)):
            rib = Blob(side * half, chest + 0.12 * depth, 0.16 * depth, 0.05 * depth)
            scene.paint(rib.level(scene.x, scene.z), BONE, edge=0.8)
    scene.paint(1.6 + 0.1 * wave - scene.z, SKIN, edge=0.5)


def _neck(scene: Scene, rng: np.random.Generator) -> None:
    half, depth = scene.reach
    _neck_muscles(scene, rng)
    side = 1.0 if chance(rng, 0.5) else -1.0
    lobe = Blob(
        between(rng, -0.1, 0.1) * half,
        between(rng, 0.42, 0.48) * depth,
        between(rng, 0.62, 0.85) * half,
        between(rng, 0.19, 0.25) * depth,
        side * between(rng, -0.1, 0.15),
        wavy(rng, 0.05, (2, 3, 4)),
    )
    level = lobe.level(scene.x, scene.z)
    scene.paint(level + np.float32(0.4), FIBROUS, edge=0.7, opacity=0.7)
    texture = mottled(scene, rng, (2.0, 7.0), (0.9, 1.0))
    scene.paint(level, lesion(GLAND, attenuation=0.45, impedance=1.64), edge=0.7, texture=texture)
    trachea = Blob(side * between(rng, 0.85, 1.05) * half, 0.5 * depth, 0.25 * half, 0.15 * depth)
    level = trachea.level(scene.x, scene.z)
    scene.paint(level + np.float32(1.2), lesion(MUSCLE, echo=-14), edge=0.6)
    scene.paint(level, lesion(BONE, impedance=0.7, echo=-20, attenuation=4.0), edge=0.6)
    radius = between(rng, 0.07, 0.1) * depth
    artery = Blob(-side * between(rng, 0.75, 0.95) * half, 0.5 * depth, radius, radius)
    _tube(scene, artery, wall=0.02 * depth)


def _neck_muscles(scene: Scene, rng: np.random.Generator) -> None:
    _, depth = scene.reach
    wave = noise(rng, scene.x, 0 * scene.z, 16, 16)
    z = scene.z + np.float32(0.015 * depth) * wave
    fibres = noise(rng, scene.x, scene.z, 8, 0.8)
    scene.paint(scene.z + 9, MUSCLE, texture=2.5 * fibres)
    scene.paint(0.09 * depth - z, lesion(FAT, echo=-3), texture=2 * fibres)
    deep = 0.72 * depth - z
    coarse = mottled(scene, rng, (1.5, 6.0), (2.0, 2.0))
    scene.paint(-deep, lesion(BRIGHT_FAT, echo=-2), edge=1.0, texture=coarse + 2 * fibres)
    streaks(scene, rng, 7, (0.06 * depth, 0.25 * depth), tilt=0.1)
    streaks(scene, rng, 6, (0.68 * depth, depth), tilt=0.15)
    scene.paint(1.4 - scene.z, SKIN, edge=0.5)
