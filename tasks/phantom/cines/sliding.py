"""phantom-sliding: does the pleura slide? By construction no single frame shows it.

Each patient has a video of either side. In one the lung slides to and fro with the breath, in the
other it lies still, as it does over a collapsed one. Both have all the rest: the probe shakes, the
gain flickers, muscle in front of the pleura moves, the heart's beat reaches the lung, and its
scatterers change a little from frame to frame, each drawn alike for both sides. Scanner, settings,
number of frames and frames a second are those of the patient, so that they are the very same ones
for both classes.

Why one frame is not enough: the class has a part in one number only, the place of the ring of lung
(`anatomy.sliding`) that a frame begins at, which is start + own motion + sliding. The start is
drawn evenly over the ring, so that the place is even over the ring for every frame of both classes,
whatever is added; and nothing else in a frame depends on the class. So each frame, taken alone, has
the same distribution in both. Two frames have not: their places differ by what has slid.

A row of `cines.csv` is a video: file, split, patient, sliding ("yes" or "no"), and settings.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tasks.phantom.anatomy import sliding
from tasks.phantom.cines.recording import TABLE, frame, scanner_of, write_cine, write_table
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Study
from tasks.phantom.plan import PhantomPlan, Size
from tasks.phantom.scene import Scene

PATIENTS = {"train": (50, 100), "validation": (6, 20), "test": (15, 50)}
"""In the small suite, and at most: enough for a linear probe to learn from few steps."""
SIDES = ("left", "right")
_STYLES = (
    Style(depth=(40, 60), frequency=(5, 8), half_width=(17, 24), height=(84, 108), gain=(-4, 3)),
    Style(
        depth=(60, 90),
        frequency=(3, 5),
        radius=(40, 60),
        half_angle=(24, 32),
        height=(84, 108),
        gain=(-4, 3),
    ),
)


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item a video, two a patient."""
    splits = [
        name
        for name, (count, most) in PATIENTS.items()
        for _ in range(min(max(2, size.count(count)), most))
    ]
    items = [
        partial(_write_cine, folder, size, seed, f"lung-{number:04}", side, split)
        for number, split in enumerate(splits, start=1)
        for side in SIDES
    ]
    return PhantomPlan(items, lambda rows: write_table(folder / TABLE, rows))


def _write_cine(
    folder: Path, size: Size, seed: int, patient: str, side: str, split: str
) -> dict[str, object]:
    common = generator(seed, f"phantom-sliding/{patient}/settings")
    style = _STYLES[int(common.integers(len(_STYLES)))]
    count, rate = int(common.integers(16, 21)), int(common.integers(5, 9))
    slides = side == SIDES[int(common.integers(2))]
    scanner = scanner_of(Study(seed, f"phantom-sliding/{patient}", style, size.pixels))
    canvas = scanner.canvas

    name = f"{patient}-{side}"
    study = f"phantom-sliding/{name}"
    scene = Scene(canvas.probe, scanner.samples, scanner.lines)
    ring = scanner.lines + 32
    chest = sliding.chest(scene, generator(seed, f"{study}/anatomy"), scanner.beam, ring)
    moves = _Moves(generator(seed, f"{study}/motion"), count, rate)
    breath = _breath(generator(seed, f"{study}/breath"), count, rate)
    start = float(generator(seed, f"{study}/start").uniform(0, ring))
    frames = []
    for number in range(count):
        other = moves.shake[number] / chest.spacing
        pleura = start + other + moves.pulse[number] / chest.spacing
        if slides:
            pleura += breath[number] / chest.spacing
        noise = generator(seed, f"{study}/noise/{number}")
        echo = chest.echo(other + moves.muscle[number] / chest.spacing, pleura, moves.keep, noise)
        frames.append(frame(echo, scanner, noise, moves.gain[number]))
    write_cine(folder / f"videos/{name}.avi", frames, rate)
    return {
        "file": f"{name}.avi",
        "split": split,
        "patient": patient,
        "sliding": "yes" if slides else "no",
        "frames": count,
        "frames_per_second": rate,
        "depth_mm": f"{canvas.probe.depth:.1f}",
        "gain_db": f"{scanner.gain:.2f}",
    }


class _Moves:
    """What moves or flickers without regard to the class, a number for each of T frames.

    Attributes:
        shake: of the probe, mm along the skin.
        muscle: of the wall near the pleura, mm.
        pulse: of the lung with the heartbeat, mm.
        gain: dB.
        keep: correlation of the lung's scatterers between frames, one number.
    """

    def __init__(self, rng: np.random.Generator, count: int, rate: int) -> None:
        time = np.arange(count) / rate

        def swing(size: tuple[float, float], hertz: tuple[float, float]) -> np.ndarray:
            strength, often = rng.uniform(*size), rng.uniform(*hertz)
            wave: np.ndarray = strength * np.sin(2 * np.pi * (often * time + rng.uniform()))
            return wave

        jitter = rng.uniform(0.01, 0.06) * rng.standard_normal(count)
        self.shake = swing((0.0, 0.6), (0.2, 0.5)) + jitter
        self.muscle = swing((0.5, 5.0), (0.15, 0.5))
        self.pulse = swing((0.0, 0.25), (0.9, 1.6))
        self.gain = rng.uniform(0.0, 0.3) * rng.standard_normal(count)
        self.keep = float(rng.uniform(0.995, 0.9995))


def _breath(rng: np.random.Generator, count: int, rate: int) -> np.ndarray:
    """Where a lung that slides has got to, mm, for each frame."""
    size, often = rng.uniform(8, 14), rng.uniform(0.25, 0.45)
    turn = often * np.arange(count) / rate + rng.uniform()
    return np.asarray(size * np.sin(2 * np.pi * turn))
