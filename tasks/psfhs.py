"""PSFHS: the pubic symphysis and the fetal head, seen from the perineum during labour."""

from __future__ import annotations

import re
from pathlib import Path

from tasks import release, splits
from tasks.samples.label_masks import ArrayFileMask, Codes
from tasks.samples.volumes import VolumeFrame
from tasks.task import Item, Rule, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="psfhs",
    title="PSFHS",
    organ="fetal head",
    target="pubic symphysis and fetal head",
    classes=("background", "pubic symphysis", "fetal head"),
    type="segmentation",
    paper="Chen et al., Scientific Data 2024, doi 10.1038/s41597-024-03266-4",
    source="Zenodo, doi 10.5281/zenodo.10969427 (open)",
    licence="not verified: CC BY 4.0 by Zenodo's record",
    short_side=256,
    groups="none",
    defects=(
        "1358 images of 1124 patients without patient ids: a patient may be in two splits.",
        "The headers state a pixel of 1 x 1 mm, which is a placeholder: no spacing is known.",
    ),
    images=1358,
    patients=1124,
    ultrabench_counts=(977, 109, 272),
    rule=Rule("image", seed=42, validation=0.1, test=0.2),
    splits={
        "published": "UltraBench's published test set; validation by its rule",
        "rule": "UltraBench's rule over the images in order of name: the published members, if all "
        "images are there, and no file of UltraBench is needed",
    },
)

CODES: Codes = {code: code for code in range(len(CARD.classes))}
LEAKAGE = (
    "no patient ids: 1358 images of 1124 patients, so test images may show patients of the training"
)


def read(folder: Path, how: str = "published") -> Task:
    """Read PSFHS by one of `CARD.splits`; "published" needs UltraBench's split files.

    Raises:
        UserError: release or split files not found.
    """
    base = release.find(folder, *release.MARKS["psfhs"], source="PSFHS (image_mha/, label_mha/)")
    images, masks = (release.Folder(release.inside(base, mark)) for mark in release.MARKS["psfhs"])
    there = {
        path.stem: _item(images, path.stem) for path in release.files_in(images.path, (".mha",))
    }
    if how == "rule":
        train, validation, test = splits.draw(list(there.values()), CARD.rule, folder)
    else:
        numbers = [_published(folder, part) for part in ("train_val", "test")]
        pool, test = ([_item(images, number) for number in part] for part in numbers)
        train, validation = splits.draw_validation(pool, CARD.rule, folder)
    named = {item.image.name for item in (*train, *validation, *test)}
    unnamed = [item for item in there.values() if item.image.name not in named]
    return splits.assemble_masks(
        CARD,
        folder,
        lambda item: _mask(masks, item),
        what="mask",
        train=train,
        validation=validation,
        test=test,
        unused=unnamed,
        notes=(
            LEAKAGE,
            *release.unused_note(
                "images are named by no published split: not used",
                [item.image.name for item in unnamed],
            ),
        ),
    )


def _item(images: release.Folder, number: str) -> Item:
    """The item of NNNNN.mha, still without its mask: the first of three equal planes."""
    return Item(VolumeFrame(images / f"{number}.mha", f"image_mha/{number}.mha", 0), 0)


def _mask(masks: release.Folder, item: Item) -> ArrayFileMask | None:
    path = masks / splits.file_of(item).name
    return ArrayFileMask(item.image, (path,), codes=CODES) if path.is_file() else None


def _published(folder: Path, part: str) -> list[str]:
    """The numbers of a published list, which calls image_mha/03744.mha "images/03744.png"."""
    numbers = []
    for row in splits.published(folder, "psfhs", part, columns=("image",)):
        match = re.fullmatch(r"images/(\d+)\.png", str(row["image"]))
        if match is None:
            raise UserError(
                f"published split of PSFHS names '{row['image']}', not an image of PSFHS; copy "
                f"{splits.PUBLISHED_FROM} again"
            )
        numbers.append(match[1])
    return numbers
