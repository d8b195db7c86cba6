"""BUSBRA: breast ultrasound from Brazil (BUS-BRA); benign or malignant, one image per patient."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

from tasks import release, splits
from tasks.samples.label_masks import CodeImage
from tasks.targets import LabelMask
from tasks.task import Item, Rule, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="busbra",
    title="BUSBRA",
    organ="breast",
    target="tumour malignancy",
    classes=("benign", "malignant"),
    paper="Gomez-Flores et al., Medical Physics 2024",
    source="Zenodo, doi 10.5281/zenodo.7730709 (authors' README; "
    "10.5281/zenodo.8231412 is not verified)",
    licence="LICENSE.txt of the release: MIT-like, any paper using it must cite the article",
    licence_kind="open",
    short_side=240,
    groups="patient",
    defects=(
        "Text, calipers and depth marks are burnt into the images.",
        "5-fold-cv.csv holds literal NaN (it is not read here).",
        "The suffix of a name is not the side of the body: -s means the only view of a patient.",
    ),
    images=1875,
    patients=1064,
    paper_counts=(765, 86, 213),
    rule=Rule("class", seed=42, validation=0.1, test=0.2),
    splits={
        "published": "as the paper counts: one view per patient (the first of each), stratified "
        "by class, 0.2 for test, then 0.1 for validation, seed 42; which images and which seed the "
        "paper took is not known",
        "all-images": "every view of every patient, in the split of that patient's first row",
    },
)

_TUMOUR = dataclasses.replace(
    CARD,
    name="busbra-seg",
    title="BUSBRA tumour",
    target="tumour region",
    classes=("background", "tumour"),
    type="segmentation",
    dataset="busbra",
    paper_counts=None,
    splits={
        "rule": "ours, because none of the masks is published: that of task busbra, one view per "
        "patient",
        "all-images": CARD.splits["all-images"],
    },
)
CARDS = {card.name: card for card in (CARD, _TUMOUR)}

TABLE = "bus_data.csv"
MEMBERS = (
    "the paper states 1064 images split into 765/86/213 but not which: here the first row of each "
    "patient, stratified by class, 0.2 for test, then 0.1 for validation, seed 42; "
    "its members may differ"
)
OURS = (
    "no split is published: here the first row of each patient, stratified by tumour class, 0.2 "
    "for test, then 0.1 for validation, seed 42, as in task busbra"
)


def read(folder: Path, how: str = "published") -> Task:
    """Read BUSBRA by one of `CARD.splits`.

    Raises:
        UserError: release not found, or its table is damaged.
    """
    return splits.assemble(CARD, folder, **_drawn(folder, how, MEMBERS)._asdict())


def read_tumour(folder: Path, how: str = "published") -> Task:
    """Read BUSBRA's masks of the tumour, in the splits of `read`.

    Raises:
        UserError: release not found, or its table is damaged.
    """
    drawn = _drawn(folder, how, OURS)._asdict()
    return splits.assemble_masks(_TUMOUR, folder, _mask, what="mask", **drawn)


def _mask(item: Item) -> LabelMask | None:
    """Masks/mask_0001-l.png of Images/bus_0001-l.png."""
    image = splits.file_of(item)
    name = image.stem.lower().replace("bus_", "mask_", 1)
    path = release.inside(image.parent.parent, f"Masks/{name}.png")
    return CodeImage(item.image, (path,)) if path.is_file() else None


def _drawn(folder: Path, how: str, members: str) -> splits.Parts:
    base = release.find(folder, *release.MARKS["busbra"], source="BUS-BRA (bus_data.csv, Images/)")
    rows = _rows(base)
    first: dict[str | None, Item] = {}
    for item in rows:
        first.setdefault(item.group, item)
    parts = splits.draw(list(first.values()), CARD.rule, folder)
    if how == "all-images":
        train, validation, test = (_every_view(part, rows) for part in parts)
        return splits.Parts(train, validation, test, [], [members])
    further = [item for item in rows if first[item.group] is not item]
    missing = [item.image.name for item in rows if splits.is_missing(item)]
    notes = [
        *release.missing_note(f"rows of {TABLE}", missing, len(rows)),
        f"{len(further)} of {len(rows)} rows are further views of a patient: not used",
        members,
    ]
    return splits.Parts(*parts, further, notes)


def _every_view(chosen: list[Item], rows: list[Item]) -> list[Item]:
    """All rows of the patients of `chosen`, in the order of the table."""
    patients = {item.group for item in chosen}
    return [item for item in rows if item.group in patients]


def _rows(base: Path) -> list[Item]:
    """All rows of the table in file order, the group being the patient."""
    items = []
    table = release.inside(base, TABLE)
    images = release.Folder(release.inside(base, "Images"))
    reader = csv.DictReader(release.read_text(table).splitlines())
    for row in reader:
        image, patient, pathology = (row.get(key) for key in ("ID", "Case", "Pathology"))
        if not image or not patient or pathology not in CARD.classes:
            raise UserError(
                f"{table}, line {reader.line_num}: ID, Case or Pathology (benign or "
                "malignant) is not there; copy the file again from the release"
            )
        file = release.image(images / f"{image}.png", f"Images/{image}.png")
        device, category = ((row.get(key) or "").strip() for key in ("Device", "BIRADS"))
        # "GE Logiq 7 @10-14MHz"; of a device the frequencies are always the same.
        known = (("device", device.partition(" @")[0]), ("BI-RADS", category))
        code = CARD.classes.index(pathology)
        items.append(Item(file, code, patient, subgroups=tuple(one for one in known if one[1])))
    return items
