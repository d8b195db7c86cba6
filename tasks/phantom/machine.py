"""Scanners: probe, settings and screen, drawn without any knowledge of what is scanned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tasks.phantom.geometry import Canvas, Linear, Probe
from tasks.phantom.simulator import Beam
from tasks.scan.sector import Sector
from ultrabench_eval.core import hashing

Range = tuple[float, float]


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The generator of one use of the suite's seed; see `hashing.seed_for`."""
    return np.random.default_rng(hashing.seed_for(seed, f"phantom/{purpose}"))


@dataclass(frozen=True)
class Style:
    """The scanners of one task's clinics: ranges that are drawn from uniformly.

    Args:
        depth: mm.
        frequency: MHz.
        half_width: mm, for a linear array; None for a sector.
        radius: mm, for a sector.
        half_angle: degrees, for a sector.
        height: of the screen in pixels.
        margin: black border around the field of view, as a share of the height.
        zoom: above 1 the sides of the field of view are cut off.
        dynamic_range: dB.
        gain: dB.
        smoothing: sigma in beam-grid cells of the scanner's own speckle filter.
        tints: colours of full white as RGB in [0, 1], one of which is drawn.
        words: phrases that burnt-in text is picked from.
        clutter: probability of each of `furniture.KINDS`; None for a clean screen.
    """

    depth: Range
    frequency: Range
    half_width: Range | None = None
    radius: Range = (50.0, 60.0)
    half_angle: Range = (28.0, 38.0)
    height: Range = (220.0, 320.0)
    margin: Range = (0.0, 0.06)
    zoom: Range = (1.0, 1.0)
    dynamic_range: Range = (50.0, 66.0)
    gain: Range = (-6.0, 5.0)
    smoothing: Range = (0.3, 1.1)
    tints: tuple[tuple[float, float, float], ...] = ((1.0, 1.0, 1.0),)
    words: tuple[str, ...] = ()
    clutter: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Machine:
    """One scanner with its settings.

    Args:
        canvas: probe and screen.
        beam: pulse and beam.
        samples, lines: size of the beam grid.
        dynamic_range, gain: in dB.
        gamma: exponent of the grey map.
        smoothing: sigma in beam-grid cells of the scanner's own speckle filter.
        tint: colour of full white, RGB in [0, 1].
        sliders: dB that the operator's gain sliders add from the top to the bottom, evenly spaced.
    """

    canvas: Canvas
    beam: Beam
    samples: int
    lines: int
    dynamic_range: float
    gain: float
    gamma: float
    smoothing: float
    tint: tuple[float, float, float]
    sliders: tuple[float, ...]


def draw(rng: np.random.Generator, style: Style, scale: float = 1.0) -> Machine:
    """Draw a scanner of `style`; `scale` multiplies the pixels."""

    def within(limits: Range) -> float:
        return float(rng.uniform(*limits))

    depth = within(style.depth)
    probe: Probe
    if style.half_width is not None:
        probe = Linear(depth, within(style.half_width))
    else:
        probe = Sector.of_array(depth, within(style.radius), math.radians(within(style.half_angle)))
    canvas = _canvas(
        probe,
        height=within(style.height) * scale,
        margin=within(style.margin),
        zoom=within(style.zoom),
    )
    frequency = within(style.frequency)
    focus = depth * within((0.35, 0.6))
    beam = Beam(
        frequency=frequency,
        bandwidth=within((0.55, 0.85)),
        f_number=within((2.4, 3.8)),
        focus=focus,
        spread=focus * within((0.5, 0.9)),
        side_lobes=within((0.008, 0.03)),
        noise=-0.1 * frequency * depth + within((-26.0, -14.0)),
        tgc=0.5 + within((-0.03, 0.03)),
    )
    visible = depth / canvas.pixel  # pixels from the face to the bottom
    return Machine(
        canvas=canvas,
        beam=beam,
        samples=int(np.clip(visible * 0.9, 160, 640)),
        lines=int(np.clip(canvas.width * 0.42, 96, 256)),
        dynamic_range=within(style.dynamic_range),
        gain=within(style.gain),
        gamma=within((0.9, 1.35)),
        smoothing=within(style.smoothing),
        tint=style.tints[int(rng.integers(len(style.tints)))],
        sliders=tuple(float(v) for v in rng.normal(0, 1.8, 6)),
    )


def _canvas(probe: Probe, height: float, margin: float, zoom: float) -> Canvas:
    x0, x1, z0, z1 = probe.extent
    border = margin * height
    pixel = (z1 - z0) / (height - 2 * border)
    half = (x1 - x0) / 2 / pixel / zoom + border
    return Canvas(
        probe=probe,
        height=round(height),
        width=round(2 * half),
        pixel=pixel,
        left=half,
        top=border - z0 / pixel,
    )
