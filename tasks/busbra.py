"""BUSBRA: breast ultrasound from Brazil (BUS-BRA); benign or malignant, one image a patient."""

from __future__ import annotations

import csv
from pathlib import Path

from tasks import release, splits
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
        "published": "as the paper counts: one view a patient (the first row of each), stratified "
        "by class, 0.2 for test, then 0.1 for validation, seed 42; which images and which seed the "
        "paper took is not known",
        "all-images": "every view of every patient, in the split of that patient's first row",
    },
)

TABLE = "bus_data.csv"
MEMBERS = (
    "the paper states 1064 images split into 765/86/213 but not which: here the first row of each "
    "patient, stratified by class, 0.2 for test, then 0.1 for validation, seed 42; "
    "its members may differ"
)


def read(folder: Path, how: str = "published") -> Task:
    """Read BUSBRA by one of `CARD.splits`.

    Raises:
        UserError: release not found, or its table is damaged.
    """
    base = release.find(folder, *release.MARKS["busbra"], source="BUS-BRA (bus_data.csv, Images/)")
    rows = _rows(base)
    first: dict[str | None, Item] = {}
    for item in rows:
        first.setdefault(item.group, item)
    drawn = splits.draw(list(first.values()), CARD.rule, folder)
    further = [item for item in rows if first[item.group] is not item]
    if how == "all-images":
        parts = [_every_view(part, rows) for part in drawn]
    else:
        parts = [list(part) for part in drawn]

    notes = [MEMBERS]
    if how != "all-images":
        missing = [item.image.name for item in rows if splits.is_missing(item)]
        notes = [
            *release.missing_note(f"rows of {TABLE}", missing, len(rows)),
            f"{len(further)} of {len(rows)} rows are further views of a patient: not used",
            MEMBERS,
        ]
    return splits.assemble(
        CARD,
        folder,
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        unused=[] if how == "all-images" else further,
        notes=notes,
    )


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
        items.append(Item(file, CARD.classes.index(pathology), group=patient))
    return items
