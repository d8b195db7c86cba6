"""BUSBRA: breast ultrasound from Brazil (BUS-BRA); benign or malignant, one image a patient."""

from __future__ import annotations

import csv
from pathlib import Path

from tasks import release, splits
from tasks.images import ImageFile
from tasks.task import Item, Task, TaskCard
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
    groups="patient",
    defects=(
        "Text, calipers and depth marks are burnt into the images.",
        "5-fold-cv.csv holds literal NaN (it is not read here).",
        "The suffix of a name is not the side of the body: -s means the only view of a patient.",
    ),
    paper_counts=(765, 86, 213),
)

TABLE = "bus_data.csv"
MEMBERS = (
    "the paper states 1064 images split into 765/86/213 but not which: here the first row of each "
    "patient, stratified by class, 0.2 for test, then 0.1 for validation, seed 42; "
    "its members may differ"
)


def read(folder: Path) -> Task:
    """Read BUSBRA: the first row of each patient, stratified 0.2 then 0.1 with seed 42.

    Raises:
        UserError: release not found, or its table is damaged.
    """
    base = release.find(folder, TABLE, "Images", source="BUS-BRA (bus_data.csv, Images/)")
    rows = _rows(base)
    first: dict[str | None, Item] = {}
    for item in rows:
        first.setdefault(item.group, item)
    used = list(first.values())
    pool, test = splits.hold_out(used, 0.2, seed=42, by="class", folder=folder)
    train, validation = splits.hold_out(pool, 0.1, seed=42, by="class", folder=folder)

    there = {f"Images/{path.name}" for path in release.images_in(base / "Images")}
    missing = [item.image.name for item in rows if item.image.name not in there]
    return splits.assemble(
        CARD,
        folder,
        train=train,
        validation=validation,
        test=test,
        notes=(
            *release.missing_note(f"rows of {TABLE}", missing, len(rows)),
            f"{len(rows) - len(used)} of {len(rows)} rows are further views of a patient: not used",
            MEMBERS,
        ),
    )


def _rows(base: Path) -> list[Item]:
    """All rows of the table in file order, the group being the patient."""
    items = []
    reader = csv.DictReader(release.read_text(base / TABLE).splitlines())
    for row in reader:
        image, patient, pathology = (row.get(key) for key in ("ID", "Case", "Pathology"))
        if not image or not patient or pathology not in CARD.classes:
            raise UserError(
                f"{base / TABLE}, line {reader.line_num}: ID, Case or Pathology (benign or "
                "malignant) is not there; copy the file again from the release"
            )
        name = f"Images/{image}.png"
        items.append(
            Item(ImageFile(base / name, name), CARD.classes.index(pathology), group=patient)
        )
    return items
