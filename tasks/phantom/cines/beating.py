"""phantom-lv: left ventricles that beat, with cavity and wall in every frame and their volumes.

A row of `cines.csv` is a video: file, split, patient, the first end-diastolic and end-systolic
frame (from 0), both volumes in ml, the ejection fraction in percent, and settings of the scanner.
`videos/<name>.avi` is grey and lossless; `masks/<name>.nii.gz` has the codes of `CODES` for all
frames. What the scanner is set to is drawn without a look at the heart.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from scipy import ndimage

from tasks.phantom import simulator
from tasks.phantom.anatomy import ventricle
from tasks.phantom.anatomy.ventricle import Beat, Ventricle
from tasks.phantom.array_files import nifti
from tasks.phantom.cines.recording import TABLE, frame, scanner_of, write_cine, write_table
from tasks.phantom.geometry import Canvas
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Study
from tasks.phantom.plan import PhantomPlan, Size, write
from tasks.phantom.scene import Scene

COUNTS = {"train": 20, "validation": 6, "test": 10}
CODES = {"cavity": 1, "wall": 2}
STYLE = Style(
    depth=(150, 195), frequency=(2.0, 3.2), radius=(4, 8), half_angle=(36, 42), height=(100, 128)
)
_BLOOD = -27.0  # dB of the blood's scatterers, which are others in every frame
_VALVE = 4.0  # amplitude of the leaflets, which are mirrors


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item a video, each of a patient of its own."""
    splits = [name for name, count in COUNTS.items() for _ in range(max(2, size.count(count)))]
    items = [
        partial(_write_cine, folder, size, seed, f"lv-{number:04}", split)
        for number, split in enumerate(splits, start=1)
    ]
    return PhantomPlan(items, lambda rows: write_table(folder / TABLE, rows))


def _write_cine(folder: Path, size: Size, seed: int, name: str, split: str) -> dict[str, object]:
    heart, fraction, full = heart_of(seed, name)
    beat, count, rate = times_of(seed, name, fraction)
    study = Study(seed, f"phantom-lv/{name}", STYLE, size.pixels)
    scanner = scanner_of(study)
    frames, masks = recorded(study, heart, beat, count)
    write_cine(folder / f"videos/{name}.avi", frames, rate)
    # The first axis of such a file is the columns'.
    stored = np.stack(masks).transpose(2, 1, 0)
    write(folder / f"masks/{name}.nii.gz", nifti(stored, scanner.canvas.pixel, effort=4))
    return {
        "file": f"{name}.avi",
        "split": split,
        "patient": name,
        "end_diastole": beat.diastole(),
        "end_systole": beat.end_systole(),
        "edv_ml": f"{full:.3f}",
        "esv_ml": f"{full * (1 - fraction):.3f}",
        "ef_percent": f"{100 * fraction:.3f}",
        "frames": count,
        "frames_per_second": rate,
        "depth_mm": f"{scanner.canvas.probe.depth:.1f}",
        "gain_db": f"{scanner.gain:.2f}",
    }


def heart_of(seed: int, name: str) -> tuple[Ventricle, float, float]:
    """The heart of a video, its ejection fraction (0 to 1), and its largest volume in ml."""
    rng = generator(seed, f"phantom-lv/{name}/heart")
    fraction, full = float(rng.uniform(0.2, 0.75)), float(rng.uniform(60, 160))
    x, z, turn = (float(rng.uniform(*ends)) for ends in ((-4, 4), (20, 28), (-0.16, 0.16)))
    return Ventricle.draw(rng, full, x, z, turn), fraction, full


def times_of(seed: int, name: str, fraction: float) -> tuple[Beat, int, int]:
    """The beat of a video, its frames, and frames a second. All but `fraction` are drawn here."""
    rng = generator(seed, f"phantom-lv/{name}/time")
    of_beat, pulse = int(rng.integers(12, 19)), float(rng.uniform(50, 100))
    systole = round(of_beat * float(rng.uniform(0.36, 0.44)))
    beat = Beat(of_beat, systole, int(rng.integers(of_beat)), fraction)
    return beat, int(rng.integers(max(16, of_beat + 1), 25)), round(of_beat * pulse / 60)


def drift_of(study: Study, frame: int) -> np.ndarray:
    """Where the whole heart has moved to with the breath, (x, z) in mm."""
    start = generator(study.seed, f"{study.name}/drift").uniform(0, 2 * np.pi, 2)
    return np.asarray(1.2 * np.sin(start + 0.12 * frame))


def recorded(
    study: Study, heart: Ventricle, beat: Beat, count: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames and their masks, uint8 [H, W] each.

    The scene is painted once, at end-diastole. Each frame looks up where its tissue was then, so
    that tissue carries its speckle. Blood, whose scatterers are new each time, is added to it.
    """
    scanner = scanner_of(study)
    canvas, beam = scanner.canvas, scanner.beam
    scene = Scene(canvas.probe, scanner.samples, scanner.lines)
    blood = ventricle.paint(scene, generator(study.seed, f"{study.name}/anatomy"), heart)
    speckle = generator(study.seed, f"{study.name}/speckle")
    still = simulator.echoes(scene, beam, simulator.scatterers(speckle, scene.x.shape))
    weak = simulator.before_gain(beam, scene.depth)
    blood = blood * np.float32(10 ** (_BLOOD / 20)) * weak
    reached = canvas.convert(np.ones((2, 2), np.float32)) > 0
    frames, masks = [], []
    for number in range(count):
        away = drift_of(study, number)
        x, z = scene.x - np.float32(away[0]), scene.z - np.float32(away[1])
        filled = beat.filled(number)
        depth, side = canvas.probe.beams(*heart.before(x, z, filled))
        places = (
            depth * np.float32((scanner.samples - 1) / canvas.probe.depth),
            (side + 1) * np.float32((scanner.lines - 1) / 2),
        )
        echo, filling = (
            ndimage.map_coordinates(values, places, order=1, mode="nearest")
            for values in (still, blood)
        )
        flow = generator(study.seed, f"{study.name}/blood/{number}")
        echo = echo + filling * simulator.scatterers(flow, echo.shape)
        for leaflet in ventricle.leaflets(heart, filled, beat.opening(number)):
            share = np.clip(leaflet.level(x, z) / np.float32(0.9) + 0.5, 0, 1)
            echo = echo + share * np.float32(_VALVE) * weak
        noise = generator(study.seed, f"{study.name}/noise/{number}")
        frames.append(frame(echo, scanner, noise))
        codes = np.where(reached, _codes(canvas, heart, filled, away), np.uint8(0))
        masks.append(codes[: len(frames[0]), : frames[0].shape[1]])
    return frames, masks


def _codes(canvas: Canvas, heart: Ventricle, filled: float, away: np.ndarray) -> np.ndarray:
    """Codes of cavity and wall at the middle of each pixel, uint8 [H, W]."""
    x = ((np.arange(canvas.width) - canvas.left) * canvas.pixel - away[0]).astype(np.float32)
    z = ((np.arange(canvas.height) - canvas.top) * canvas.pixel - away[1]).astype(np.float32)
    across, down = np.meshgrid(x, z)
    cavity, wall = heart.where(across, down, filled)
    return np.asarray(CODES["cavity"] * cavity + CODES["wall"] * wall, np.uint8)
