"""GBCU: gallbladder ultrasound; normal, benign or malignant."""

from __future__ import annotations

from pathlib import Path

from tasks import release, splits
from tasks.task import Item, Rule, Task, TaskCard

CARD = TaskCard(
    name="gbcu",
    title="GBCU",
    organ="gallbladder",
    target="lesion malignancy",
    classes=("normal", "benign", "malignant"),
    paper="Basu et al., 2022",
    source="https://gbc-iitd.github.io/data/gbcu "
    "(an agreement signed by a permanent staff member is needed)",
    licence="not redistributable; see the agreement",
    licence_kind="restricted",
    short_side=564,
    groups="none",
    defects=(
        "No patient ids: training and validation may share patients; the test set is of other "
        "patients.",
    ),
    images=1255,
    patients=218,
    paper_counts=(1019, 114, 122),
    ultrabench_counts=(1019, 114, 122),
    rule=Rule("class", seed=42, validation=0.1),
)


def read(folder: Path) -> Task:
    """Read GBCU: test.txt is the test set; validation is 0.1 of train.txt, stratified, seed 42.

    Raises:
        UserError: release not found, or a list file is damaged.
    """
    base = release.find(folder, *release.MARKS["gbcu"], source="GBCU-Shared")
    pool = _items(base, "train.txt")
    train, validation = splits.draw_validation(pool, CARD.rule, folder)
    return splits.assemble(
        CARD, folder, train=train, validation=validation, test=_items(base, "test.txt")
    )


def _items(base: Path, list_name: str) -> list[Item]:
    rows = release.labelled_list(release.inside(base, list_name), ",", len(CARD.classes))
    folder = release.Folder(release.inside(base, "imgs"))
    return [Item(release.image(folder / name, f"imgs/{name}"), code) for name, code in rows]
