"""EchoNet-Dynamic: the apical four-chamber view of the heart in 10,030 videos; ejection fraction
and the left ventricle at end-systole and end-diastole.

No video of it was at hand: layout, tracings and splits are as its authors' loader reads them
(github.com/echonet/dynamic, commit e01d029).
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks import release, splits
from tasks.samples.clip_files import CineClip
from tasks.samples.label_masks import PolygonMask
from tasks.task import SPLITS, Item, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="echonet-dynamic",
    title="EchoNet-Dynamic",
    organ="heart",
    target="left ventricle",
    classes=("background", "left ventricle"),
    type="segmentation",
    samples="clip",
    paper="Ouyang et al., Nature 2020, doi 10.1038/s41586-020-2145-8",
    source="https://echonet.github.io/dynamic/ (Research Use Agreement)",
    licence="Stanford University Dataset Research Use Agreement, not verified: non-commercial "
    "research, not to be passed on",
    licence_kind="restricted",
    short_side=112,
    groups="video",
    defects=(
        "Two frames of each video are traced; videos with fewer are not used here, as by its "
        "authors.",
        "Videos are 112 x 112 pixels with the sector cut out, and were compressed as JPEG.",
        "No patient ids: every video is taken for a patient of its own.",
    ),
    images=10030,
    splits={"published": "column Split of FileList.csv: 7465, 1288 and 1277 videos"},
)
CARDS = {
    "echonet-dynamic": CARD,
    "echonet-dynamic-ef": dataclasses.replace(
        CARD,
        name="echonet-dynamic-ef",
        title="EchoNet-Dynamic EF",
        target="ejection fraction",
        classes=(),
        type="regression",
        dataset="echonet-dynamic",
        unit="%",
        defects=CARD.defects[1:],
    ),
}
LIST, TRACINGS, VIDEOS = release.MARKS["echonet-dynamic"]
_SPLITS = dict(zip(("TRAIN", "VAL", "TEST"), SPLITS, strict=True))
_AGAIN = "copy the file again from the release"


class _Cine(NamedTuple):
    """A row of FileList.csv."""

    clip: CineClip
    fraction: float
    """Ejection fraction in percent."""
    split: str


class _Trace(NamedTuple):
    """What is drawn on a frame."""

    frame: int
    """From 0."""
    points: np.ndarray
    """Of the ventricle's border, [x, y] in whole pixels, float64 [N, 2]."""

    @property
    def area(self) -> float:
        """Inside the border, in pixels."""
        x, y = self.points.T
        return abs(float(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1)))) / 2


def read(folder: Path) -> Task:
    """Read the left ventricle of EchoNet-Dynamic: two samples a video, for the traced frames.

    Masks are as the authors draw them; the larger of the two is end-diastole (ED), whichever is
    listed first.

    Raises:
        UserError: release not found, or its tables are damaged.
    """
    base = _found(folder)
    cines = _cines(base)
    traced = _traced(base, cines)
    parts: dict[str, list[Item]] = {name: [] for name in SPLITS}
    untraced = []
    for name, cine in cines.items():
        traces = sorted(traced.get(name, ()), key=lambda one: one.area)
        if len(traces) < 2:
            untraced.append(name)
            continue
        for trace, phase in ((traces[-1], "ED"), (traces[0], "ES")):
            clip = dataclasses.replace(
                cine.clip, name=f"{cine.clip.name}#{trace.frame + 1}", at=trace.frame
            )
            mask = PolygonMask(clip, [trace.points], base / TRACINGS)
            parts[cine.split].append(Item(clip, mask, name, subgroups=(("phase", phase),)))
    note = release.unused_note("videos have fewer than two traced frames: not used", untraced)
    train, validation, test = (parts[name] for name in SPLITS)
    return splits.assemble(CARD, folder, train=train, validation=validation, test=test, notes=note)


def read_ejection_fraction(folder: Path) -> Task:
    """Read the ejection fraction of EchoNet-Dynamic in percent, one sample a video.

    Raises:
        UserError: release not found, or its table is damaged.
    """
    parts: dict[str, list[Item]] = {name: [] for name in SPLITS}
    for name, cine in _cines(_found(folder)).items():
        parts[cine.split].append(Item(cine.clip, cine.fraction, name))
    card, (train, validation, test) = CARDS["echonet-dynamic-ef"], (parts[n] for n in SPLITS)
    return splits.assemble(card, folder, train=train, validation=validation, test=test)


def _found(folder: Path) -> Path:
    return release.find(
        folder, LIST, TRACINGS, VIDEOS, source=f"EchoNet-Dynamic ({LIST}, {TRACINGS}, {VIDEOS}/)"
    )


def _cines(base: Path) -> dict[str, _Cine]:
    """Videos by their names without a suffix, in file order."""
    path = release.inside(base, LIST)
    files = release.Folder(release.inside(base, VIDEOS))
    cines: dict[str, _Cine] = {}
    for line, row in _rows(path, ("FileName", "EF", "Split")):
        name = row["FileName"].removesuffix(".avi")
        fraction = _number(row["EF"])
        if not name or name in cines or row["Split"] not in _SPLITS or not 0 <= fraction <= 100:
            raise UserError(
                f"{path}, line {line}: it is not a new video with EF (a percentage) and Split "
                f"({', '.join(_SPLITS)}); {_AGAIN}"
            )
        clip = CineClip(files / f"{name}.avi", f"{VIDEOS}/{name}.avi")
        cines[name] = _Cine(clip, fraction, _SPLITS[row["Split"]])
    return cines


def _traced(base: Path, cines: dict[str, _Cine]) -> dict[str, list[_Trace]]:
    """The traced frames of each video.

    A frame's first row is the long axis, the others are chords across it. The border goes down
    their first ends and back up their second ones, rounded to whole pixels.
    """
    path = release.inside(base, TRACINGS)
    chords: dict[str, dict[int, list[list[float]]]] = {}
    for line, row in _rows(path, ("FileName", "X1", "Y1", "X2", "Y2", "Frame")):
        name, frame = row["FileName"].removesuffix(".avi"), _number(row["Frame"])
        ends = [_number(row[column]) for column in ("X1", "Y1", "X2", "Y2")]
        if name not in cines or frame < 0 or frame % 1 or not all(map(math.isfinite, ends)):
            raise UserError(
                f"{path}, line {line}: it is not a chord (X1, Y1, X2, Y2) on a Frame of a video "
                f"that {LIST} lists; {_AGAIN}"
            )
        chords.setdefault(name, {}).setdefault(int(frame), []).append(ends)
    return {
        name: [_Trace(frame, _border(rows)) for frame, rows in frames.items() if len(rows) > 2]
        for name, frames in chords.items()
    }


def _border(rows: Sequence[Sequence[float]]) -> np.ndarray:
    ends = np.array(rows[1:], np.float64)
    border: np.ndarray = np.rint(np.concatenate([ends[:, :2], ends[::-1, 2:]]))
    return border


def _rows(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and cells of a table.

    Raises:
        UserError: it lacks a column.
    """
    reader = csv.DictReader(release.read_text(path).splitlines())
    lacking = [name for name in columns if name not in (reader.fieldnames or ())]
    if lacking:
        raise UserError(f"{path} lacks the column {lacking[0]}; {_AGAIN}")
    return [
        (reader.line_num, {name: (row[name] or "").strip() for name in columns}) for row in reader
    ]


def _number(text: str) -> float:
    """A number, or one that is not finite for other text."""
    try:
        return float(text)
    except ValueError:
        return math.nan
