"""Videos that this project simulates: a left ventricle that beats, a pleura that slides or not.

SYNTHETIC, with every answer known because it was put in. `tasks.phantom.cines` makes them, when
they are asked for; a data root may hold them too (`ubench data phantom`), larger or of another
seed.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Collection
from pathlib import Path

from tasks import release, splits
from tasks.samples.clip_files import CineClip
from tasks.samples.label_masks import ArrayFileMask
from tasks.task import SPLITS, Item, Task, TaskCard
from ultrabench_eval.core.errors import UserError

_SIMULATED = {
    "samples": "clip",
    "paper": "none: simulated by this project (tasks/phantom/cines)",
    "source": "SYNTHETIC, made on this machine when asked for; `ubench data phantom` writes more",
    "licence": "Apache-2.0, as this project",
    "licence_kind": "open",
    "groups": "patient",
    "splits": {"published": "as simulated: column split of cines.csv"},
}
CARD = TaskCard(
    name="phantom-lv",
    title="Phantom LV",
    organ="heart",
    target="left ventricle and its wall",
    classes=("background", "cavity", "wall"),
    type="segmentation",
    defects=(
        "SYNTHETIC: simulated hearts, no patient's data. Scores tell what a model can do with "
        "motion and masks that are known exactly, and nothing about patients.",
        "Of each video the first end-diastolic and end-systolic frame are asked for; the files "
        "hold masks of all frames.",
    ),
    **_SIMULATED,  # type: ignore[arg-type]
)
CARDS = {
    "phantom-lv": CARD,
    "phantom-lv-ef": dataclasses.replace(
        CARD,
        name="phantom-lv-ef",
        title="Phantom LV EF",
        target="ejection fraction",
        classes=(),
        type="regression",
        dataset="phantom-lv",
        unit="%",
        defects=CARD.defects[:1],
    ),
    "phantom-sliding": TaskCard(
        name="phantom-sliding",
        title="Phantom sliding",
        organ="lung",
        target="lung sliding",
        classes=("absent", "sliding"),
        defects=(
            "SYNTHETIC: simulated lungs, no patient's data.",
            "By construction each frame alone has the same distribution in both classes, so a "
            "model that does not compare frames is at chance.",
        ),
        **_SIMULATED,  # type: ignore[arg-type]
    ),
}
TABLE, VIDEOS, MASKS = "cines.csv", "videos", "masks"
_AGAIN = "delete the folder and write it with `ubench data phantom`"


def read(folder: Path) -> Task:
    """Read the left ventricle and its wall: two samples a video, end-diastole and end-systole.

    Raises:
        UserError: not found, or the table is damaged.
    """
    base, rows = _rows(folder, ("end_diastole", "end_systole"))
    masks = release.Folder(release.inside(base, MASKS))
    parts: dict[str, list[Item]] = {name: [] for name in SPLITS}
    for line, (row, clip) in rows.items():
        for phase, column in (("ED", "end_diastole"), ("ES", "end_systole")):
            if not row[column].isdecimal():
                raise _damaged(base, line, f"{column} is '{row[column]}', not a frame")
            at = int(row[column])
            shown = dataclasses.replace(clip, name=f"{clip.name}#{at + 1}", at=at)
            mask = ArrayFileMask(
                shown,
                (masks / f"{row['file'].removesuffix('.avi')}.nii.gz",),
                codes={0: 0, 1: 1, 2: 2},
                index=at,
            )
            known = (("phase", phase),)
            parts[row["split"]].append(Item(shown, mask, row["patient"], subgroups=known))
    return _task(CARD, folder, parts)


def read_ejection_fraction(folder: Path) -> Task:
    """Read the ejection fraction in percent, one sample a video.

    Raises:
        UserError: not found, or the table is damaged.
    """
    base, rows = _rows(folder, ("ef_percent",))
    parts: dict[str, list[Item]] = {name: [] for name in SPLITS}
    for line, (row, clip) in rows.items():
        try:
            fraction = float(row["ef_percent"])
        except ValueError:
            fraction = math.nan
        if not 0 <= fraction <= 100:
            raise _damaged(base, line, f"ef_percent is '{row['ef_percent']}', not a percentage")
        parts[row["split"]].append(Item(clip, fraction, row["patient"]))
    return _task(CARDS["phantom-lv-ef"], folder, parts)


def read_sliding(folder: Path) -> Task:
    """Read whether the pleura slides, one sample a video.

    Raises:
        UserError: not found, or the table is damaged.
    """
    base, rows = _rows(folder, ("sliding",))
    codes = {"no": 0, "yes": 1}
    parts: dict[str, list[Item]] = {name: [] for name in SPLITS}
    for line, (row, clip) in rows.items():
        if row["sliding"] not in codes:
            raise _damaged(base, line, f"sliding is '{row['sliding']}', not yes or no")
        parts[row["split"]].append(Item(clip, codes[row["sliding"]], row["patient"]))
    return _task(CARDS["phantom-sliding"], folder, parts)


def _rows(
    folder: Path, columns: Collection[str]
) -> tuple[Path, dict[int, tuple[dict[str, str], CineClip]]]:
    """Where the table is, and its rows with their videos by number of the line."""
    base = next(release.candidates(folder, (TABLE, VIDEOS)), None)
    if base is None:
        raise UserError(f"{folder} holds no simulated videos ({TABLE}, {VIDEOS}/); {_AGAIN}")
    path = release.inside(base, TABLE)
    reader = csv.DictReader(release.read_text(path).splitlines())
    wanted = ("file", "split", "patient", *columns)
    lacking = [name for name in wanted if name not in (reader.fieldnames or ())]
    if lacking:
        raise UserError(f"{path} lacks the column {lacking[0]}; {_AGAIN}")
    videos = release.Folder(release.inside(base, VIDEOS))
    rows = {}
    for row in reader:
        kept = {name: (row[name] or "").strip() for name in wanted}
        if kept["split"] not in SPLITS or not kept["patient"] or not kept["file"].endswith(".avi"):
            why = f"it is not a video (.avi) of a patient in a split ({', '.join(SPLITS)})"
            raise _damaged(base, reader.line_num, why)
        clip = CineClip(videos / kept["file"], f"{VIDEOS}/{kept['file']}")
        rows[reader.line_num] = kept, clip
    return base, rows


def _task(card: TaskCard, folder: Path, parts: dict[str, list[Item]]) -> Task:
    train, validation, test = (parts[name] for name in SPLITS)
    return splits.assemble(card, folder, train=train, validation=validation, test=test)


def _damaged(base: Path, line: int, why: str) -> UserError:
    return UserError(f"{release.inside(base, TABLE)}, line {line}: {why}; {_AGAIN}")
