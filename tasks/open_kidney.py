"""Open Kidney: the kidney in long and cross sections; the outline of its capsule."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tasks import release, splits
from tasks.samples.label_masks import CodeImage
from tasks.task import Item, Rule, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="open-kidney",
    title="Open Kidney",
    organ="kidney",
    target="kidney capsule",
    classes=("background", "kidney"),
    type="segmentation",
    paper="Singla et al., ASMUS 2023, doi 10.1007/978-3-031-44521-7_15",
    source="https://rsingla.ca/kidneyUS (images after registration)",
    licence="CC BY-NC-SA, not verified",
    groups="none",
    defects=(
        "The table lists 20 images under two names: the first one is used, as by UltraBench.",
        "Two sonographers drew outlines; these are sonographer 1's.",
        "47 of the 534 masks are empty: no capsule could be drawn.",
        "Some kidneys are transplants.",
    ),
    images=534,
    ultrabench_counts=(369, 42, 103),
    rule=Rule("class", seed=42, validation=0.1, test=0.2),
    splits={
        "published": "UltraBench's published test set; validation by its rule (stratified by view)",
        "rule": "UltraBench's rule over the images in order of the table, stratified by view: the "
        "published members, if the table is whole",
    },
)

TABLE, MASKS = release.MARKS["open-kidney"]


def read(folder: Path, how: str = "published") -> Task:
    """Read Open Kidney by one of `CARD.splits`; "published" needs UltraBench's split files.

    One image per patient, as UltraBench states, so there are no groups.

    Raises:
        UserError: release or split files not found, or the table is damaged.
    """
    base = release.find(folder, TABLE, MASKS, source=f"Open Kidney ({TABLE}, {MASKS}, images/)")
    images = release.Folder(release.inside(base, "images"))
    masks = release.Folder(release.inside(base, MASKS))
    views = _views(release.inside(base, TABLE))
    codes = {view: code for code, view in enumerate(sorted(set(views.values())))}
    # Drawn by view: the target is its code until the masks are there.
    items = {
        name: Item(release.image(images / name, f"images/{name}"), codes[view])
        for name, view in views.items()
    }
    if how == "rule":
        train, validation, test = splits.draw(list(items.values()), CARD.rule, folder)
    else:
        pool, test = (_published(folder, part, items) for part in ("train_val", "test"))
        train, validation = splits.draw_validation(pool, CARD.rule, folder)

    def mask(item: Item) -> CodeImage | None:
        path = masks / Path(item.image.name).name
        return CodeImage(item.image, (path,)) if path.is_file() else None

    named = {item.image.name for item in (*train, *validation, *test)}
    unnamed = [item for item in items.values() if item.image.name not in named]
    return splits.assemble_masks(
        CARD,
        folder,
        mask,
        what="capsule mask",
        train=train,
        validation=validation,
        test=test,
        unused=unnamed,
        notes=release.unused_note(
            "images are named by no published split: not used",
            [item.image.name for item in unnamed],
        ),
    )


def _views(table: Path) -> dict[str, str]:
    """The view of each image in order of the table, which has a row for each region.

    Of images with the same `file_id` (the second part of the name) the first counts.
    """
    views: dict[str, str] = {}
    seen = set()
    reader = csv.DictReader(release.read_text(table).splitlines())
    for row in reader:
        name = row.get("filename") or ""
        try:
            file_id = name.split("_")[1]
            view = json.loads(row["file_attributes"])["View"]
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{table}, line {reader.line_num}: filename (<n>_<file id>_...) or the View in "
                "file_attributes is not there; copy the file again from the release"
            ) from error
        if file_id not in seen:
            seen.add(file_id)
            views[name] = str(view)
    return views


def _published(folder: Path, part: str, items: dict[str, Item]) -> list[Item]:
    """Items of a published list, which calls them as the table does."""
    names = [
        str(row["image"]).removeprefix("images/")
        for row in splits.published(folder, "open_kidney", part, columns=("image",))
    ]
    foreign = [name for name in names if name not in items]
    if foreign:
        raise UserError(
            f"published split of Open Kidney names {len(foreign)} image(s) that {TABLE} in "
            f"{folder} does not (first: {foreign[0]}); copy the table again from the release"
        )
    return [items[name] for name in names]
