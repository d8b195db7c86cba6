"""AUL: annotated ultrasound liver images; normal, benign or malignant mass, and their outlines."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

from tasks import release, splits
from tasks.samples import polygons
from tasks.samples.label_masks import EmptyMask, PolygonMask
from tasks.scan.scan_mask import OutlineMask
from tasks.targets import LabelMask
from tasks.task import Item, Rule, Task, TaskCard
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
    short_side=341,
    groups="none",
    defects=(
        "Image numbers restart in each class folder, so the class is part of an image's name.",
        "Liver polygons are missing for 3 malignant cases in the copy that was seen (432 of 435).",
        "UltraBench says that 374.jpg lacks a liver polygon and that the outlines of 229 and 306 "
        "are really the liver; it does not say of which class.",
        "By `ubench audit`, 4 of the 147 test images show the same as a training or validation "
        "image, though there should be one image per patient.",
        "UltraBench drew its test set over files in file-system order, so that only its published "
        "list tells the members.",
    ),
    images=735,
    patients=735,
    paper_counts=(529, 59, 147),
    ultrabench_counts=(529, 59, 147),
    rule=Rule("class", seed=42, validation=0.1, test=0.2),
    splits={
        "published": "UltraBench's published test set; validation by its rule",
        "rule": "UltraBench's rule over the images in order of class and name: other members than "
        "the published ones, but no file of UltraBench is needed",
    },
)

_LIVER = dataclasses.replace(
    CARD,
    name="aul-liver",
    title="AUL liver",
    target="liver region",
    classes=("background", "liver"),
    type="segmentation",
    dataset="aul",
    paper_counts=None,
    ultrabench_counts=(528, 59, 147),
)
_MASS = dataclasses.replace(
    _LIVER,
    name="aul-mass",
    title="AUL mass",
    target="mass region",
    classes=("background", "mass"),
    defects=(
        *CARD.defects,
        "Images of the normal class show no mass: their masks are empty, as in UltraBench.",
    ),
    ultrabench_counts=(529, 59, 147),
)
CARDS = {card.name: card for card in (CARD, _LIVER, _MASS)}

LIVER_AS_OUTLINE = ("229", "306")  # whose outlines are the liver, UltraBench says, in any class
FOLDERS = ("Normal", "Benign", "Malignant")  # the position is the class code
UNPACK = "the AUL release (Normal/, Benign/, Malignant/ with image/<n>.jpg)"


def read(folder: Path, how: str = "published") -> Task:
    """Read AUL by one of `CARD.splits`; "published" needs UltraBench's split files.

    One image per patient, as UltraBench states, so there are no groups.

    Raises:
        UserError: release or split files not found.
    """
    return splits.assemble(CARD, folder, **_drawn(folder, how)._asdict())


def read_liver(folder: Path, how: str = "published") -> Task:
    """Read AUL's liver polygons, in the splits of `read`; images without one are left out.

    Raises:
        UserError: release or split files not found, or a polygon is damaged.
    """
    return _read_masks(_LIVER, folder, how, _liver)


def read_mass(folder: Path, how: str = "published") -> Task:
    """Read AUL's mass polygons, in the splits of `read`; of normal images the mask is empty.

    Raises:
        UserError: release or split files not found, or a polygon is damaged.
    """
    return _read_masks(_MASS, folder, how, _mass)


def _read_masks(
    card: TaskCard, folder: Path, how: str, mask_of: Callable[[Item], LabelMask | None]
) -> Task:
    drawn = _drawn(folder, how)._asdict()
    return splits.assemble_masks(card, folder, mask_of, what=f"{card.classes[1]} polygon", **drawn)


def _drawn(folder: Path, how: str) -> splits.Parts:
    base = release.find(folder, *release.MARKS["aul"], source=UNPACK)
    folders = [release.Folder(release.inside(base, f"{name}/image")) for name in FOLDERS]
    there = [
        _item(images, label, path.name)
        for label, images in enumerate(folders)
        for path in release.images_in(images.path)
        if path.stem.isdecimal()
    ]
    there.sort(key=lambda item: (item.label, item.image.name))
    if how == "rule":
        train, validation, test = splits.draw(there, CARD.rule, folder)
    else:
        test = _published(folders, splits.published(folder, "aul_mass", "test"))
        pool = _published(folders, splits.published(folder, "aul_mass", "train_val"))
        train, validation = splits.draw_validation(pool, CARD.rule, folder)
    named = {item.image.name for item in (*train, *validation, *test)}
    unnamed = [item for item in there if item.image.name not in named]
    notes = release.unused_note(
        "images are named by no published split: not used",
        [item.image.name for item in unnamed],
    )
    return splits.Parts(train, validation, test, unnamed, notes)


def _item(images: release.Folder, label: int, file: str) -> Item:
    """The item of <n>.jpg; its name is that of the release, whatever the case of the file."""
    image = release.image(images / file, f"{FOLDERS[label]}/image/{file.lower()}")
    number = Path(file).stem
    outline = release.inside(images.path.parent, f"segmentation/outline/{number}.json")
    drawn = number not in LIVER_AS_OUTLINE and outline.is_file()
    return Item(image, label, scan_mask=OutlineMask(outline, image) if drawn else None)


def _liver(item: Item) -> LabelMask | None:
    as_outline = splits.file_of(item).stem in LIVER_AS_OUTLINE
    return _polygon(item, "outline" if as_outline else "liver")


def _mass(item: Item) -> LabelMask | None:
    return EmptyMask(item.image) if item.label == 0 else _polygon(item, "mass")


def _polygon(item: Item, kind: str) -> PolygonMask | None:
    """What <Class>/segmentation/<kind>/<n>.json holds, a list of [x, y]; None without it."""
    image = splits.file_of(item)
    path = release.inside(image.parent.parent, f"segmentation/{kind}/{image.stem}.json")
    if not path.is_file():
        return None
    try:
        points = polygons.of(json.loads(release.read_text(path)))
    except ValueError as error:
        raise UserError(
            f"cannot read mask {path} ({error}); copy it again from the release"
        ) from error
    return PolygonMask(item.image, (points,), path)


def _published(folders: list[release.Folder], rows: list[dict[str, object]]) -> list[Item]:
    """Items of published rows, which call Benign/image/65.jpg "images/benign_65.jpg"."""
    items = []
    for row in rows:
        match = re.fullmatch(r"images/(normal|benign|malignant)_(\w+)\.jpg", str(row["image"]))
        if match is None or row["label"] != CARD.classes.index(match[1]):
            raise UserError(
                f"published split of AUL names '{row['image']}' with label {row['label']}, which "
                f"is not an AUL image; copy {splits.PUBLISHED_FROM} again"
            )
        label = CARD.classes.index(match[1])
        items.append(_item(folders[label], label, f"{match[2]}.jpg"))
    return items
