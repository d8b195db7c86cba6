"""Lung under a chest wall, to be filmed: what lies still, and a pleura that can slide along it.

The lung is a field of its own, on a ring of beams that closes on itself, and all that belongs to it
(the grain of the pleural line, A-lines, B-lines, the haze below) is as likely at one place of the
ring as at any other. A frame shows a part of the ring, from a place that the caller chooses.

D is the number of samples along a beam, L that of beams, R that of the ring's beams, above L.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy import ndimage

from tasks.phantom import simulator
from tasks.phantom.anatomy.common import between, body_wall, chance, lesion, mottled, rib_shadow
from tasks.phantom.scene import LIVER, Scene
from tasks.phantom.simulator import Beam

_RIM = 3  # samples of the lung's field above the middle of the pleural line


@dataclass(frozen=True)
class Chest:
    """A piece of chest wall with the lung behind it.

    Args:
        wall: amplitude of the wall's scatterers, [D, L]; 0 behind the pleura.
        mirrors: echoes of the wall's layers and ribs, which stay, [D, L].
        grain: scatterers of the wall, of unit power, complex [D, L].
        lung: echoes of the lung as amplitudes of a picture without attenuation, complex [D, R];
            rows count from `_RIM` samples above the pleura.
        rows: the lung's row at each place, [D, L]; negative in the wall.
        light: what the lung's echoes are multiplied by, 0 to 1: ribs cast shadows, [D, L].
        spacing: mm from beam to beam at the pleura.
    """

    wall: np.ndarray
    mirrors: np.ndarray
    grain: np.ndarray
    lung: np.ndarray
    rows: np.ndarray
    light: np.ndarray
    spacing: float

    def echo(
        self, muscle: float, pleura: float, keep: float, rng: np.random.Generator
    ) -> np.ndarray:
        """What each place sends back at a moment, complex [D, L].

        Args:
            muscle: beams by which the wall's scatterers have moved to the right, near the pleura.
            pleura: the same of the lung, along its ring.
            keep: correlation (0 to 1) of the lung's scatterers with those of other moments.
            rng: of those that are not kept.
        """
        samples, lines = self.wall.shape
        loose = np.linspace(0, 1, samples, dtype=np.float32)[:, None] ** 0.5
        wall = self.wall * _along(self.grain, muscle * loose) + self.mirrors
        lung = _along(self.lung, pleura)[:, :lines]
        power = np.sqrt(np.mean(np.abs(self.lung) ** 2, axis=1, keepdims=True))
        other = power * simulator.scatterers(rng, lung.shape)
        lung = np.float32(keep) * lung + np.float32(np.sqrt(1 - keep * keep)) * other
        seen = np.take_along_axis(lung, np.maximum(self.rows, 0), axis=0)
        return np.asarray(wall + np.where(self.rows >= 0, seen * self.light, 0))


def chest(scene: Scene, rng: np.random.Generator, beam: Beam, ring: int) -> Chest:
    """Draw a chest.

    Args:
        scene: empty; the wall is painted into it.
        rng: of everything.
        beam: of the probe.
        ring: R.
    """
    _, depth = scene.reach
    samples, lines = scene.echo.shape
    step = depth / (samples - 1)
    pleura_at = between(rng, 0.2, 0.36) * depth
    line = np.float32(pleura_at) + np.float32(between(rng, -0.08, 0.08)) * scene.x
    below = scene.depth - line
    scene.paint(scene.z + 99, lesion(LIVER, echo=-5), texture=mottled(scene, rng, (4, 14), (1, 1)))
    body_wall(scene, rng, pleura_at - 1.5)
    for side in (between(rng, -1.0, -0.55), between(rng, 0.55, 1.0)):
        if chance(rng, 0.4):
            rib_shadow(scene, rng, side, 0.55 * pleura_at)
    mirrors = simulator.echoes(scene, beam, 0)
    wall = (simulator.echoes(scene, beam, 1) - mirrors).real
    above = below < 0
    bone = np.cumsum((scene.attenuation > 5) & above, axis=0)
    return Chest(
        wall=np.where(above, wall, 0),
        mirrors=np.where(above, mirrors, 0),
        grain=simulator.scatterers(rng, (samples, lines)),
        lung=_lung(rng, samples, ring, step, pleura_at, depth),
        rows=np.rint(below / step).astype(int) + _RIM,
        light=np.exp(np.float32(-0.7) * bone) * simulator.before_gain(beam, scene.depth),
        spacing=float(scene.probe.line_spacing(np.array(pleura_at), lines)),
    )


def _lung(
    rng: np.random.Generator, samples: int, ring: int, step: float, pleura_at: float, depth: float
) -> np.ndarray:
    """The lung's field, complex [D, R]."""
    below = ((np.arange(samples) - _RIM) * step).astype(np.float32)[:, None]
    fade = np.exp(-np.maximum(below, 0) / np.float32(between(rng, 0.35, 0.7) * depth))
    fade = fade * (below > 0)
    field = between(rng, 0.3, 0.5) * fade * 10 ** (0.15 * _rough(rng, (samples, ring), (4, 4)))
    strength = between(rng, 0.3, 1.3)
    for number in range(1, 4):  # A-lines
        away = (below - number * pleura_at) / between(rng, 0.5, 1.0)
        uneven = 1 + 0.4 * _rough(rng, (1, ring), (0, 4))
        field = field + strength * 0.6**number * np.exp(-0.5 * away**2) * uneven
    columns = np.arange(ring, dtype=np.float32)
    for _ in range(int(rng.poisson(1.2))):  # B-lines
        away = (columns - between(rng, 0, ring) + ring / 2) % ring - ring / 2
        profile = np.exp(-0.5 * (away / between(rng, 0.8, 2.5)) ** 2)
        field = field * (1 - 0.6 * profile) + between(rng, 0.6, 1.4) * profile * fade**0.3
    bright = between(rng, 4.0, 9.0) * 10 ** (0.2 * _rough(rng, (1, ring), (0, 2.5)))
    field = field + bright * np.exp(-0.5 * (below / between(rng, 0.5, 0.9)) ** 2)
    return np.asarray(field * simulator.scatterers(rng, (samples, ring)), np.complex64)


def _rough(
    rng: np.random.Generator, shape: tuple[int, int], sigmas: tuple[float, float]
) -> np.ndarray:
    """A smooth random field of unit variance that is as likely wherever the ring begins."""
    field = ndimage.gaussian_filter(
        rng.standard_normal(shape, dtype=np.float32), sigmas, mode=("nearest", "wrap")
    )
    return np.asarray(field / field.std())


def _along(field: np.ndarray, beams: float | np.ndarray) -> np.ndarray:
    """A field [D, R] moved to the right by `beams`, one number or [D, 1], by the shift theorem:
    parts of a beam cost it nothing."""
    frequency = scipy.fft.fftfreq(field.shape[1]).astype(np.float32)
    ramp = np.exp(np.complex64(-2j * np.pi) * frequency * np.float32(beams))
    return np.asarray(scipy.fft.ifft(scipy.fft.fft(field, axis=1) * ramp, axis=1))
