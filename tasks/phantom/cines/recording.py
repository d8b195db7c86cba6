"""What the cines have in common: scanners with few samples, frames, files and their table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks.phantom import clip, picture, simulator
from tasks.phantom.machine import Machine
from tasks.phantom.picture import Study
from tasks.phantom.plan import write
from ultrabench_eval.core import files

TABLE = "cines.csv"


def scanner_of(study: Study) -> Machine:
    """The scanner of a study, with as many samples and beams as its small screen shows."""
    machine = study.machine()
    samples = round(machine.canvas.probe.depth / machine.canvas.pixel)
    lines = round(0.7 * machine.canvas.width)
    return replace(machine, samples=max(samples, 40), lines=max(lines, 32))


def frame(
    echo: np.ndarray,
    scanner: Machine,
    rng: np.random.Generator,
    gain: float = 0.0,
) -> np.ndarray:
    """A frame of the screen, uint8 [H, W]; both sides are even, as the video's file wants it.

    Args:
        echo: what each place sends back, complex [D, L]; see `simulator.echoes`.
        scanner: with D samples and L beams.
        rng: of the electronic noise.
        gain: dB that are added to the scanner's own.
    """
    envelope = simulator.detected(echo, scanner.canvas.probe, scanner.beam, rng)
    grey = picture.shown(envelope, scanner, gain)
    height, width = (side // 2 * 2 for side in grey.shape)
    return np.asarray(np.rint(255 * grey[:height, :width]), np.uint8)


def write_cine(path: Path, frames: Sequence[np.ndarray], rate: int) -> None:
    """Write grey frames, uint8 [H, W], so that nothing is lost of them."""
    write(path, clip.encode([one[..., None] for one in frames], ".avi", rate, "ffv1"))


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows that have the same columns."""
    columns = list(rows[0])
    write(path, files.csv_text([columns, *([row[name] for name in columns] for row in rows)]))
