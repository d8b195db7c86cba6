"""Ovarian masses of MMOTU, in the order of its codes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tasks.phantom.anatomy.common import (
    between,
    chance,
    cyst,
    diffuse_fat,
    lesion,
    mottled,
    streaks,
)
from tasks.phantom.scene import FIBROUS, FLUID, LIVER, MUSCLE, Scene
from tasks.phantom.shapes import Blob, Strand, noise, wavy

KINDS = (
    "chocolate cyst",
    "serous cystadenoma",
    "teratoma",
    "theca cell tumour",
    "simple cyst",
    "normal ovary",
    "mucinous cystadenoma",
    "high-grade serous",
)


class _Site(NamedTuple):
    """Where the mass goes: its border, and the border's level [D, L]."""

    scene: Scene
    rng: np.random.Generator
    blob: Blob
    level: np.ndarray


def ovary(scene: Scene, rng: np.random.Generator, code: int) -> np.ndarray:
    """A pelvis with the mass of class `code`; returns its border in mm, float64 [N, 2]."""
    half, depth = scene.reach
    texture = mottled(scene, rng, (3.0, 9.0), (2.0, 2.5))
    scene.paint(scene.z + 99, lesion(MUSCLE, echo=-3.0, attenuation=0.45), texture=texture)
    at = (between(rng, -0.3, 0.3) * half, between(rng, 0.42, 0.55) * depth)
    size = between(rng, 0.2, 0.33) * depth
    blob = Blob(
        *at,
        size * between(rng, 1.0, 1.3),
        size * between(rng, 0.75, 1.0),
        between(rng, -0.5, 0.5),
        wavy(rng, 0.05, (2, 3)),
    )
    diffuse_fat(scene, rng, scene.z - np.float32(at[1] + 0.6 * size) + 4 * texture)
    streaks(scene, rng, 10, (0.08 * depth, 0.95 * depth), tilt=0.5)
    uterus = Blob(
        -np.sign(at[0]) * between(rng, 0.55, 0.9) * half,
        between(rng, 0.35, 0.6) * depth,
        0.28 * depth,
        0.15 * depth,
        between(rng, -0.5, 0.5),
    )
    scene.paint(uterus.level(scene.x, scene.z), lesion(MUSCLE, echo=-4, attenuation=0.6), edge=1.2)
    scene.paint(4.0 - scene.depth + 0 * scene.x, lesion(MUSCLE, echo=4), edge=2)
    site = _Site(scene, rng, blob, blob.level(scene.x, scene.z))
    return _PAINTERS[code](site).polygon(48)


def _chocolate(site: _Site) -> Blob:
    """Endometrioma: one chamber, even low-level echoes ("ground glass"), thick wall."""
    scene, rng = site.scene, site.rng
    scene.paint(site.level + 1.8, FIBROUS, edge=1.2, opacity=0.6)
    glass = lesion(FLUID, echo=between(rng, -20, -12), attenuation=0.2, impedance=1.56)
    settled = (scene.z - np.float32(site.blob.z)) * np.float32(between(rng, 0.0, 0.15))
    scene.paint(site.level, glass, edge=1.0, texture=settled)
    if chance(rng, 0.3):
        _septum(site, 0.7)
    return site.blob


def _serous(site: _Site) -> Blob:
    """Serous cystadenoma: clear fluid, one or two thin septa, seldom a small papilla."""
    cyst(site.scene, site.blob)
    for _ in range(int(site.rng.integers(1, 3))):
        _septum(site, 0.5)
    if chance(site.rng, 0.4):
        _papilla(site, 0.12)
    return site.blob


def _teratoma(site: _Site) -> Blob:
    """Teratoma: a bright plug with a shadow, and lines and dots of hair in between."""
    scene, rng = site.scene, site.rng
    cyst(scene, site.blob, lesion(FLUID, echo=between(rng, -24, -8), attenuation=0.3))
    angle, size = between(rng, 0, 6.3), between(rng, 0.3, 0.6)
    plug = site.blob.inner(0.45 * float(np.cos(angle)), 0.45 * float(np.sin(angle)), size)
    rough = plug.level(scene.x, scene.z) + 1.2 * noise(rng, scene.x, scene.z, 5, 5)
    fat = lesion(LIVER, echo=between(rng, 4, 9), attenuation=between(rng, 0.8, 2.2))
    scene.paint(np.minimum(rough, site.level), fat, edge=2.5)
    for _ in range(int(rng.integers(6, 16))):
        hair = Strand(
            site.blob.x + float(rng.normal(0, 0.4)) * site.blob.width,
            site.blob.z + float(rng.normal(0, 0.4)) * site.blob.height,
            float(rng.normal(0, 0.3)),
            between(rng, 0.03, 0.2) * site.blob.width,
            0.3,
        )
        scene.paint(np.minimum(hair.level(scene.x, scene.z), site.level), FIBROUS, edge=0.5)
    return site.blob


def _theca(site: _Site) -> Blob:
    """Theca cell tumour: solid, dark, sharply bordered, striped shadows behind."""
    scene, rng = site.scene, site.rng
    stripes = noise(rng, scene.x, 0 * scene.z, 3.0, 3.0) + 0.4 * noise(rng, scene.x, scene.z, 9, 2)
    solid = lesion(MUSCLE, echo=between(rng, -11, -6), attenuation=between(rng, 0.9, 1.3))
    scene.paint(site.level + 0.8, FIBROUS, edge=0.8, opacity=0.5)
    scene.paint(site.level, solid, edge=0.8, texture=2.0 * stripes)
    return site.blob


def _simple(site: _Site) -> Blob:
    """Simple cyst: one chamber of clear fluid, thin smooth wall."""
    cyst(site.scene, site.blob)
    return site.blob


def _normal(site: _Site) -> Blob:
    """Normal ovary: small, with several follicles towards its rim."""
    scene, rng = site.scene, site.rng
    small = site.blob.inner(0, 0, between(rng, 0.5, 0.8))
    tissue = lesion(MUSCLE, echo=between(rng, -9, -5), attenuation=0.45)
    scene.paint(small.level(scene.x, scene.z), tissue, edge=1.5)
    turn = between(rng, 0, 6.3)
    count = int(rng.integers(3, 9))
    for k in range(count):
        angle = turn + 6.28 * k / count + between(rng, -0.2, 0.2)
        reach, size = between(rng, 0.4, 0.7), between(rng, 0.1, 0.26)
        follicle = small.inner(reach * float(np.cos(angle)), reach * float(np.sin(angle)), size)
        cyst(scene, follicle, wall=0.3)
    return small


def _mucinous(site: _Site) -> Blob:
    """Mucinous cystadenoma: many chambers, each with mucus of its own brightness."""
    scene, rng = site.scene, site.rng
    cyst(scene, site.blob, lesion(FLUID, echo=-22))
    for _ in range(int(rng.integers(4, 8))):
        u, v = (float(value) for value in rng.uniform(-0.6, 0.6, 2))
        chamber = site.blob.inner(u, v, between(rng, 0.25, 0.5))
        inside = np.minimum(chamber.level(scene.x, scene.z), site.level)
        scene.paint(inside + 0.5, FIBROUS, edge=0.6, opacity=0.7)
        mucus = lesion(FLUID, echo=between(rng, -32, -12), attenuation=0.1)
        scene.paint(inside, mucus, edge=0.6)
    for _ in range(2):
        _septum(site, 0.7)
    return site.blob


def _high_grade(site: _Site) -> Blob:
    """High-grade serous carcinoma: irregular, part fluid and part solid, large papillae."""
    scene, rng = site.scene, site.rng
    ragged = Blob(
        site.blob.x,
        site.blob.z,
        site.blob.width,
        site.blob.height,
        site.blob.tilt,
        wavy(rng, 0.15, (2, 3, 4, 5)),
    )
    level = ragged.level(scene.x, scene.z)
    cyst(scene, ragged, lesion(FLUID, echo=between(rng, -30, -16)), wall=1.2)
    site = site._replace(blob=ragged, level=level)
    for _ in range(int(rng.integers(2, 5))):
        _papilla(site, between(rng, 0.25, 0.5))
    _septum(site, 1.4)
    return ragged


def _septum(site: _Site, thickness: float) -> None:
    """A wall across the whole mass, `thickness` mm in half."""
    rng, blob = site.rng, site.blob
    strand = Strand(
        blob.x + between(rng, -0.4, 0.4) * blob.width,
        blob.z + between(rng, -0.4, 0.4) * blob.height,
        between(rng, -1.4, 1.4),
        2 * blob.width,
        thickness,
        between(rng, -0.5, 0.5) * blob.width,
    )
    level = np.minimum(strand.level(site.scene.x, site.scene.z), site.level)
    site.scene.paint(level, FIBROUS, edge=0.6)


def _papilla(site: _Site, size: float) -> None:
    """Solid tissue that grows inwards from the wall; `size` relative to the mass."""
    scene, rng = site.scene, site.rng
    angle = between(rng, 0, 6.3)
    reach = 1 - 0.7 * size
    seat = site.blob.inner(reach * float(np.cos(angle)), reach * float(np.sin(angle)), size)
    rough = seat.level(scene.x, scene.z) + 1.5 * noise(rng, scene.x, scene.z, 5, 5)
    tissue = lesion(LIVER, echo=between(rng, -6, 1), attenuation=0.55, impedance=1.66)
    texture = mottled(scene, rng, (2.0, 5.0), (1.5, 1.5))
    scene.paint(np.minimum(rough, site.level + 1), tissue, edge=1.2, texture=texture)


_PAINTERS: tuple[Callable[[_Site], Blob], ...] = (
    _chocolate,
    _serous,
    _teratoma,
    _theca,
    _simple,
    _normal,
    _mucinous,
    _high_grade,
)
