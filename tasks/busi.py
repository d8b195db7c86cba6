"""BUSI: breast ultrasound from Egypt with masks of the lesions; normal, benign or malignant."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from tasks import release, splits
from tasks.samples.label_masks import CodeImage
from tasks.targets import LabelMask
from tasks.task import Item, Rule, Task, TaskCard

FOLDERS = {"normal": 133, "benign": 437, "malignant": 210}
"""Images of each class, by which the draw is stratified; of normal images the masks are empty."""
CARD = TaskCard(
    name="busi",
    title="BUSI",
    organ="breast",
    target="normal breast, benign or malignant lesion",
    classes=tuple(FOLDERS),
    paper="Al-Dhabyani et al., Data in Brief 2020, doi 10.1016/j.dib.2019.104863",
    source="https://scholar.cu.edu.eg/?q=afahmy/pages/dataset (Dataset_BUSI_with_GT)",
    licence="not stated in the release; the paper asks for a citation",
    short_side=233,
    groups="none",
    defects=(
        "No patient ids: the 780 images are of 600 patients, so images of one patient may be in "
        "training and test.",
        "Duplicates: by `ubench audit` over two thirds of the release (519 images), 30 of the 110 "
        "test images show the same as a training or validation image.",
        "Text, calipers and arrows are burnt into many images.",
    ),
    images=780,
    patients=600,
    rule=Rule("class", seed=42, validation=0.125, test=0.2),
    splits={
        "rule": "ours, because none is published: stratified by class, 20 % for test and 10 % for "
        "validation, seed 42",
    },
)
_LESIONS = dataclasses.replace(
    CARD,
    name="busi-seg",
    title="BUSI lesions",
    target="lesion region",
    classes=("background", "lesion"),
    type="segmentation",
    dataset="busi",
    defects=(
        *CARD.defects,
        "Several lesions of one image have a mask file each, and are united here.",
    ),
)
CARDS = {card.name: card for card in (CARD, _LESIONS)}

OURS = (
    "no split is published: ours is stratified by class, 20 % for test and 10 % for validation, "
    "seed 42; the release has no patient ids and holds many duplicates, so that training images "
    "show some of the test images (`ubench audit` lists them)"
)


def read(folder: Path) -> Task:
    """Read BUSI's classes.

    Raises:
        UserError: release not found, or too few images of a class.
    """
    return splits.assemble(CARD, folder, **_drawn(_base(folder), folder)._asdict())


def read_lesions(folder: Path) -> Task:
    """Read BUSI's masks of lesions, in the splits of `read`.

    Raises:
        UserError: release not found, or too few images of a class.
    """
    base = _base(folder)
    masks = [_masks(place.path) for place in _places(base)]

    def mask_of(item: Item) -> LabelMask | None:
        paths = masks[item.label].get(splits.file_of(item).stem.casefold())
        return CodeImage(item.image, tuple(paths)) if paths else None

    drawn = _drawn(base, folder)._asdict()
    return splits.assemble_masks(_LESIONS, folder, mask_of, what="mask", **drawn)


def _base(folder: Path) -> Path:
    return release.find(folder, *FOLDERS, source="Dataset_BUSI_with_GT (benign/, malignant/ ...)")


def _places(base: Path) -> list[release.Folder]:
    return [release.Folder(release.inside(base, name)) for name in FOLDERS]


def _drawn(base: Path, folder: Path) -> splits.Parts:
    places = _places(base)
    there = {(label, number) for label, place in enumerate(places) for number in _numbers(place)}
    whole = {(label, n) for label, most in enumerate(FOLDERS.values()) for n in range(1, most + 1)}
    # Over all names of the release, so that an image that is missing moves no other one.
    most = len(there & whole) >= len(whole) / 2
    items = []
    for label, number in sorted(whole if most else there):
        name = list(FOLDERS)[label]
        file = f"{name} ({number}).png"
        items.append(Item(release.image(places[label] / file, f"{name}/{file}"), label))
    few = f"{len(there)} images here of {len(whole)} in the release: the draw is over those"
    parts = splits.draw(items, CARD.rule, folder)
    return splits.Parts(*parts, notes=[OURS, *([] if most else [few])])


def _numbers(place: release.Folder) -> Iterator[int]:
    """Those of the images of a class: 4 of "benign (4).png"."""
    for path in release.images_in(place.path):
        match = re.fullmatch(r"[a-z]+ \((\d+)\)", path.stem, re.IGNORECASE)
        if match is not None:
            yield int(match[1])


def _masks(place: Path) -> dict[str, list[Path]]:
    """The mask files of each image of a class: "benign (4)_mask.png", "benign (4)_mask_1.png"."""
    found: dict[str, list[Path]] = {}
    for path in sorted(place.iterdir()):
        match = re.fullmatch(r"(.+)_mask(_\d+)?", path.stem, re.IGNORECASE)
        if match is not None and not path.name.startswith("."):
            found.setdefault(match[1].casefold(), []).append(path)
    return found
