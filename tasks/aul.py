"""AUL: annotated ultrasound liver images; normal, benign or malignant mass."""

from __future__ import annotations

import re
from pathlib import Path

from tasks import release, splits
from tasks.scan.scan_mask import OutlineMask
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
        "image, though there should be one image a patient.",
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

LIVER_AS_OUTLINE = ("229", "306")  # whose outlines are the liver, UltraBench says, in any class
FOLDERS = ("Normal", "Benign", "Malignant")  # the position is the class code
UNPACK = "the AUL release (Normal/, Benign/, Malignant/ with image/<n>.jpg)"


def read(folder: Path, how: str = "published") -> Task:
    """Read AUL by one of `CARD.splits`; "published" needs UltraBench's split files.

    One image a patient, as UltraBench states, so there are no groups.

    Raises:
        UserError: release or split files not found.
    """
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
    return splits.assemble(
        CARD,
        folder,
        train=train,
        validation=validation,
        test=test,
        unused=unnamed,
        notes=release.unused_note(
            "images are named by no published split: not used",
            [item.image.name for item in unnamed],
        ),
    )


def _item(images: release.Folder, label: int, file: str) -> Item:
    """The item of <n>.jpg; its name is that of the release, whatever the case of the file."""
    image = release.image(images / file, f"{FOLDERS[label]}/image/{file.lower()}")
    number = Path(file).stem
    outline = release.inside(images.path.parent, f"segmentation/outline/{number}.json")
    drawn = number not in LIVER_AS_OUTLINE and outline.is_file()
    return Item(image, label, scan_mask=OutlineMask(outline, image) if drawn else None)


def _published(folders: list[release.Folder], rows: list[dict[str, object]]) -> list[Item]:
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
        items.append(_item(folders[label], label, f"{match[2]}.jpg"))
    return items
