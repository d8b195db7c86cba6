"""HC18: the fetal head in a standard plane; its outline, and its circumference in millimetres."""

from __future__ import annotations

import csv
import dataclasses
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tasks import release, splits
from tasks.samples.images import ImageFile
from tasks.samples.label_masks import FilledEllipse, size_of
from tasks.task import SPLITS, Item, Rule, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="hc18",
    title="HC18",
    organ="fetal head",
    target="fetal head",
    classes=("background", "fetal head"),
    type="segmentation",
    paper="van den Heuvel et al., PLOS ONE 2018, doi 10.1371/journal.pone.0200412",
    source="Zenodo, doi 10.5281/zenodo.1327317 (open)",
    licence="not verified: CC BY 4.0 by Zenodo's record",
    short_side=540,
    groups="fetus",
    defects=(
        "The challenge's test set has no outlines; test images here are a part of its training "
        "set, so scores are not those of its leaderboard.",
        "The pixel size alone tells much of the circumference (a correlation of 0.8).",
    ),
    images=999,
    rule=Rule("group", seed=42, validation=0.1, test=0.2),
    splits={
        "rule": "ours, because none is published: by fetus, 0.2 for test, then 0.1 for validation, "
        "seed 42, over the fetuses 0 to 805 whether they are there or not"
    },
)
CARDS = {
    "hc18": CARD,
    "hc18-hc": dataclasses.replace(
        CARD,
        name="hc18-hc",
        title="HC18 circumference",
        target="head circumference",
        classes=(),
        type="regression",
        dataset="hc18",
        unit="mm",
    ),
}

_, TABLE = release.MARKS["hc18"]
COLUMNS = ("filename", "pixel size(mm)", "head circumference (mm)")
FETUSES = 806  # of the release: 000 to 805


class _Measured(NamedTuple):
    """A line of the table."""

    image: ImageFile
    fetus: str
    pixel: float
    """mm."""
    circumference: float
    """mm."""


def read(folder: Path) -> Task:
    """Read HC18: masks are filled ellipses, with the pixel size of the table.

    Raises:
        UserError: release not found, or its table is damaged.
    """
    rows = {row.image.name: row for row in _rows(folder)}
    drawn = _drawn(folder, [Item(row.image, 0, row.fetus) for row in rows.values()])

    def outline(item: Item) -> FilledEllipse | None:
        row = rows[item.image.name]
        path = row.image.path.with_name(f"{row.image.path.stem}_Annotation.png")
        path = release.inside(path.parent, path.name)
        return FilledEllipse(row.image, (path,), (row.pixel, row.pixel)) if path.is_file() else None

    return splits.assemble_masks(CARD, folder, outline, what="outline", **drawn._asdict())


def read_circumference(folder: Path) -> Task:
    """Read the head circumferences of HC18, in mm.

    An image does not show its scale, so `Item.factor` is the image's width in mm: a probe learns
    the circumference in parts of it.

    Raises:
        UserError: release not found, its table is damaged, or an image is.
    """
    items = []
    for row in _rows(folder):
        width = size_of(row.image)[1] * row.pixel if row.image.path.is_file() else 1.0
        items.append(Item(row.image, row.circumference, row.fetus, factor=width))
    return splits.assemble(CARDS["hc18-hc"], folder, **_drawn(folder, items)._asdict())


def _drawn(folder: Path, items: Sequence[Item]) -> splits.Parts:
    """Items in their splits, by fetus."""
    fetuses = {f"{number:03}" for number in range(FETUSES)} | {str(item.group) for item in items}
    side = splits.sides(fetuses, CARD.rule, folder)
    train, validation, test = (
        [item for item in items if side[item.group] == name] for name in SPLITS
    )
    notes = ["the split is ours, by fetus: none is published of the images with outlines"]
    if len(items) < (CARD.images or 0):
        notes.append(f"{TABLE} lists {len(items)} of the {CARD.images} images of the release")
    return splits.Parts(train, validation, test, notes=tuple(notes))


def _rows(folder: Path) -> list[_Measured]:
    """Rows of the table in file order."""
    # The record has the table beside the archive of the images, so that they may lie apart.
    images, table = (
        release.inside(release.find(folder, mark, source=f"HC18 (training_set/, {TABLE})"), mark)
        for mark in release.MARKS["hc18"]
    )
    files = release.Folder(images)
    rows = []
    reader = csv.DictReader(release.read_text(table).splitlines())
    for row in reader:
        file, *numbers = (row.get(column) or "" for column in COLUMNS)
        match = re.fullmatch(r"(\d+)_\d?HC\.png", file)
        try:
            pixel, circumference = map(float, numbers)
        except ValueError:
            pixel = circumference = math.nan
        if match is None or not (0 < pixel < math.inf and 0 < circumference < math.inf):
            raise UserError(
                f"{table}, line {reader.line_num}: it lacks {', '.join(COLUMNS)} (NNN_HC.png "
                "and two positive numbers); copy the file again from the release"
            )
        image = release.image(files / file, f"training_set/{file}")
        rows.append(_Measured(image, match[1], pixel, circumference))
    return rows
