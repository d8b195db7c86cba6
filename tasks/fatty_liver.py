"""FATTY LIVER: liver ultrasound, steatosis or its degree; 55 patients, ten frames of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks import matlab, release, splits
from tasks.samples.images import ImageArray
from tasks.task import Item, Rule, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="fatty_liver",
    title="FATTY LIVER",
    organ="liver",
    target="fatty liver disease",
    classes=("normal", "fatty"),
    paper="Byra et al., IJCARS 2018",
    source="Zenodo, doi 10.5281/zenodo.1009146",
    licence="not verified: see the Zenodo record",
    groups="patient",
    defects=(
        "Ten consecutive frames of a patient are near copies, so splitting by image would leak.",
        "Only five validation and eleven test patients: the uncertainty is that of patients.",
    ),
    images=550,
    patients=55,
    paper_counts=(390, 50, 110),
    ultrabench_counts=(390, 50, 110),
    rule=Rule("group", seed=0, validation=0.1, test=0.2),
)
CARDS = {
    "fatty_liver": CARD,
    "fatty_liver-fat": dataclasses.replace(
        CARD,
        name="fatty_liver-fat",
        title="FATTY LIVER fat",
        target="fatty hepatocytes, by biopsy",
        classes=(),
        type="regression",
        dataset="fatty_liver",
        unit="%",
        paper_counts=None,
        ultrabench_counts=None,
    ),
}

(FILE,) = release.MARKS["fatty_liver"]


class _Record(NamedTuple):
    """What the file tells of a patient."""

    patient: str
    label: int
    """1 where 5 % or more of the hepatocytes are fatty."""
    fat: float
    """Percent of the hepatocytes that are."""
    images: list[ImageArray]


def read(folder: Path) -> Task:
    """Read FATTY LIVER: splits are drawn by patient, 0.2 then 0.1, seed 0.

    The label is the release's own: 1 where 5 % or more of the hepatocytes are fatty. All images
    are held in memory (152 MB).

    Raises:
        UserError: file not found, damaged, or of another content.
    """
    records = _records(folder)
    return _task(folder, CARD, [Item(i, r.label, r.patient) for r in records for i in r.images])


def read_fat(folder: Path) -> Task:
    """Read the percentage of fatty hepatocytes of FATTY LIVER, in the splits of `read`.

    Raises:
        UserError: see `read`.
    """
    items = [
        Item(i, record.fat, record.patient) for record in _records(folder) for i in record.images
    ]
    return _task(folder, CARDS["fatty_liver-fat"], items)


def _task(folder: Path, card: TaskCard, items: list[Item]) -> Task:
    train, validation, test = splits.draw(items, card.rule, folder)
    return splits.assemble(card, folder, train=train, validation=validation, test=test)


def _records(folder: Path) -> Iterator[_Record]:
    path = release.inside(release.find(folder, FILE, source=f"{FILE} of the Zenodo record"), FILE)
    seen = set()
    # By position, as UltraBench reads them: id, class, fat percentage, images [10, 434, 636].
    for number, record in enumerate(matlab.read_struct_array(path, "data", fields=4)):
        patient, label, fat, frames = record[:4]
        where = f"{path}, record {number + 1}"
        code, group = _integer(label, where, "class"), str(_integer(patient, where, "id"))
        if code not in (0, 1):
            raise _foreign(where, f"class {code}")
        if group in seen:
            raise _foreign(where, f"patient {group} a second time")
        seen.add(group)
        images = enumerate(_frames(frames, where))
        named = [ImageArray(pixels, f"{group}_{i}") for i, pixels in images]
        yield _Record(group, code, _percent(fat, where), named)


def _integer(value: np.ndarray, where: str, what: str) -> int:
    if np.size(value) != 1 or float(np.ravel(value)[0]) % 1:
        raise _foreign(where, f"{what} {value} is not an integer")
    return int(np.ravel(value)[0])


def _percent(value: np.ndarray, where: str) -> float:
    if np.size(value) != 1 or not 0 <= float(np.ravel(value)[0]) <= 100:
        raise _foreign(where, f"fat {value} instead of a percentage")
    return float(np.ravel(value)[0])


def _frames(frames: np.ndarray, where: str) -> np.ndarray:
    """Frames [F, H, W] as uint8, without loss."""
    if frames.ndim != 3:
        raise _foreign(where, f"images of shape {frames.shape}")
    exact = frames.astype(np.uint8)
    if not np.array_equal(exact, frames):
        raise _foreign(where, f"images of type {frames.dtype} that are not integers from 0 to 255")
    return np.ascontiguousarray(exact)


def _foreign(where: str, what: str) -> UserError:
    return UserError(f"{where} is not as released ({what}); copy the file again from Zenodo")
