"""AUL: annotated ultrasound liver images; normal, benign or malignant mass."""

from __future__ import annotations

import re
from pathlib import Path

from tasks import release, splits
from tasks.images import ImageFile
from tasks.task import Item, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="aul",
    title="AUL",
    organ="liver",
    target="mass malignancy",
    classes=("normal", "benign", "malignant"),
    paper="Xu et al., Briefings in Bioinformatics 2023, doi 10.1093/bib/bbac569",
    source="Zenodo, doi 10.5281/zenodo.7272660 (open)",
    licence="not verified: a mirror says CC BY 4.0, the authors say copyright applies, acknowledge",
    groups="none",
    defects=(
        "Image numbers restart in each class folder, so the class is part of an image's name.",
        "Liver polygons are missing for 3 malignant cases in the copy that was seen (432 of 435).",
        "UltraBench says that 374.jpg lacks a liver polygon and that the outlines of 229 and 306 "
        "are really the liver; it does not say of which class.",
        "UltraBench drew its test set over files in file-system order, so that only its published "
        "list tells the members.",
    ),
    paper_counts=(529, 59, 147),
)

FOLDERS = ("Normal", "Benign", "Malignant")  # the position is the class code
UNPACK = "the AUL release (Normal/, Benign/, Malignant/ with image/<n>.jpg)"


def read(folder: Path) -> Task:
    """Read AUL: UltraBench's published test set, and its rule (0.1, seed 42) for validation.

    Needs UltraBench's split files beside the release (`splits.published`). One image a patient,
    as UltraBench states, so there are no groups.

    Raises:
        UserError: release or split files not found.
    """
    base = release.find(folder, *(f"{name}/image" for name in FOLDERS), source=UNPACK)
    test = _items(base, splits.published(folder, "aul_mass", "test"))
    pool = _items(base, splits.published(folder, "aul_mass", "train_val"))
    train, validation = splits.hold_out(pool, 0.1, seed=42, by="class", folder=folder)

    on_disk = {f"{c}/image/{path.name}" for c in FOLDERS for path in _images(base, c)}
    unnamed = on_disk - {item.image.name for item in (*pool, *test)}
    return splits.assemble(
        CARD,
        folder,
        train=train,
        validation=validation,
        test=test,
        notes=release.unused_note("images are named by no published split: not used", unnamed),
    )


def _images(base: Path, class_name: str) -> list[Path]:
    return release.images_in(base / class_name / "image")


def _items(base: Path, rows: list[dict[str, object]]) -> list[Item]:
    """Items of published rows, which call Benign/image/65.jpg "images/benign_65.jpg"."""
    items = []
    for row in rows:
        match = re.fullmatch(r"images/(normal|benign|malignant)_(\w+)\.jpg", str(row["image"]))
        if match is None or row["label"] != CARD.classes.index(match[1]):
            raise UserError(
                f"published split of AUL names '{row['image']}' with label {row['label']}, which "
                f"is no AUL image; copy {splits.PUBLISHED_FROM} again"
            )
        label = CARD.classes.index(match[1])
        name = f"{FOLDERS[label]}/image/{match[2]}.jpg"
        items.append(Item(ImageFile(base / name, name), label))
    return items
