"""EchoNet-Dynamic: `FileList.csv`, `VolumeTracings.csv`, `Videos/<id>.avi` of 112 x 112 pixels."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image

from tasks.phantom import clip
from tasks.phantom.anatomy import heart
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Motion, Study, grey
from tasks.phantom.plan import PhantomPlan, Size, write, write_lines

COUNTS = {"TRAIN": 8, "VAL": 3, "TEST": 5}
FRAMES, BEAT, SIDE, RATE = 8, 6, 112, 50
"""Frames of a video and of a beat, pixels a side, frames a second."""
CHORDS = 20
_STYLE = Style(
    depth=(130, 170), frequency=(2.0, 3.2), radius=(4, 8), half_angle=(36, 40), height=(112, 130)
)


class _Cineed(NamedTuple):
    """A row of FileList.csv and the rows of its two traced frames."""

    listed: str
    traced: list[str]


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item a video."""
    base = folder / "EchoNet-Dynamic"
    cines = [split for split, count in COUNTS.items() for _ in range(max(3, size.count(count)))]
    items = [
        partial(_write_cine, base, seed, f"0X{number:016X}", split)
        for number, split in enumerate(cines, start=1)
    ]

    def finish(rows: list[_Cineed]) -> None:
        header = "FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"
        write_lines(base / "FileList.csv", [header, *(row.listed for row in rows)])
        traced = [line for row in rows for line in row.traced]
        write_lines(base / "VolumeTracings.csv", ["FileName,X1,Y1,X2,Y2,Frame", *traced])

    return PhantomPlan(items, finish)


def _write_cine(base: Path, seed: int, name: str, split: str) -> _Cineed:
    rng = generator(seed, f"echonet/{name}/beat")
    deepest, start = float(rng.uniform(0.08, 0.28)), int(rng.integers(BEAT))
    study = Study(seed, f"echonet/{name}", _STYLE)
    scanner = study.machine()
    frames, borders = [], []
    for number in range(FRAMES):
        phase = 2 * np.pi * (number + start) / BEAT
        now = deepest * (1 - np.cos(phase)) / 2
        picture = study.take(
            partial(heart.apical, right_heart=True, squeeze=now), Motion(number, keep=0.9), scanner
        )
        image = PIL.Image.fromarray(grey(picture.image))
        scale = np.array([SIDE / image.width, SIDE / image.height])
        small = np.asarray(image.resize((SIDE, SIDE), PIL.Image.Resampling.BILINEAR))
        frames.append(np.repeat(small[..., None], 3, axis=2))
        borders.append(picture.pixels(picture.finding.cavity) * scale)
    write(base / f"Videos/{name}.avi", clip.encode(frames, ".avi", RATE, "mjpeg"))
    systole = (BEAT // 2 - start) % BEAT
    diastole = -start % BEAT
    fraction = 100 * (1 - (1 - deepest) ** 3)
    traced = [
        f"{name}.avi,{','.join(f'{x:.4f}' for x in line)},{frame}"
        for frame in (systole, diastole)
        for line in _chords(borders[frame])
    ]
    volumes = f"{100 - fraction:.4f},100"
    listed = f"{name},{fraction:.4f},{volumes},{SIDE},{SIDE},{RATE},{FRAMES},{split}"
    return _Cineed(listed, traced)


def _chords(border: np.ndarray) -> list[tuple[float, ...]]:
    """The long axis and the chords across it of a border [x, y], as X1, Y1, X2, Y2."""
    middle = border.mean(axis=0)
    far = border - middle
    axis = np.linalg.svd(far, full_matrices=False)[2][0]
    normal = np.array([-axis[1], axis[0]])
    along, across = far @ axis, far @ normal
    lines = [np.concatenate([middle + along.min() * axis, middle + along.max() * axis])]
    for place in np.linspace(along.min(), along.max(), CHORDS + 2)[1:-1]:
        sides = []
        for side in (-1, 1):
            half = across * side > 0
            order = np.argsort(along[half])
            width = np.interp(place, along[half][order], across[half][order])
            sides.append(middle + place * axis + width * normal)
        lines.append(np.concatenate(sides))
    return [tuple(map(float, line)) for line in lines]
