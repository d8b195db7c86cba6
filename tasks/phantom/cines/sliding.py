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
from tasks.phantom.machine import Machine, Style, generator
from tasks.phantom.picture import Study
from tasks.phantom.plan import PhantomPlan, Size
from tasks.phantom.scene import Scene

PATIENTS = {"train": (50, 100), "validation": (6, 20), "test": (15, 50)}
"""In the small suite, and at most: enough for a linear probe to learn from few steps."""
SIDES = ("left", "right")
STYLES = (
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
    style = STYLES[int(common.integers(len(STYLES)))]
    count, rate = int(common.integers(16, 21)), int(common.integers(5, 9))
    slides = side == SIDES[int(common.integers(2))]
    scanner = scanner_of(Study(seed, f"phantom-sliding/{patient}", style, size.pixels))
    name = f"{patient}-{side}"
    sweep = Sweep(seed, name, scanner, count, rate)
    frames = sweep.frames(sweep.start, slides)
    write_cine(folder / f"videos/{name}.avi", frames, rate)
    return {
        "file": f"{name}.avi",
        "split": split,
        "patient": patient,
        "sliding": "yes" if slides else "no",
        "frames": count,
        "frames_per_second": rate,
        "depth_mm": f"{scanner.canvas.probe.depth:.1f}",
        "gain_db": f"{scanner.gain:.2f}",
    }


class Sweep:
    """A video of one side of a patient, but for the class.

    Attributes:
        start: the beam of the ring that the first frame would begin at without any motion.
        ring: beams of the ring.
        breath: beams by which a lung that slides has moved, for each frame.
    """

    def __init__(self, seed: int, name: str, scanner: Machine, count: int, rate: int) -> None:
        def drawn(purpose: str) -> np.random.Generator:
            return generator(seed, f"phantom-sliding/{name}/{purpose}")

        self._drawn, self._scanner, self._count = drawn, scanner, count
        self.ring = scanner.lines + 32
        scene = Scene(scanner.canvas.probe, scanner.samples, scanner.lines)
        self._chest = sliding.chest(scene, drawn("anatomy"), scanner.beam, self.ring)
        self._moves = _Moves(drawn("motion"), count, rate)
        self.breath = _breath(drawn("breath"), count, rate) / self._chest.spacing
        self.start = float(drawn("start").uniform(0, self.ring))

    def frames(self, start: float, slides: bool) -> list[np.ndarray]:
        """The frames, uint8 [H, W] each."""
        frames, moves, spacing = [], self._moves, self._chest.spacing
        for number in range(self._count):
            shake, muscle, pulse = (
                way[number] / spacing for way in (moves.shake, moves.muscle, moves.pulse)
            )
            pleura = start + shake + pulse + (self.breath[number] if slides else 0)
            noise = self._drawn(f"noise/{number}")
            echo = self._chest.echo(shake + muscle, pleura, moves.keep, noise)
            frames.append(frame(echo, self._scanner, noise, moves.gain[number]))
        return frames


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
