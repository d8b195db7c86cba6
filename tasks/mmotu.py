"""MMOTU: ovarian ultrasound (the 2D part, OTU_2d); seven kinds of tumour and the normal ovary."""

from __future__ import annotations

from pathlib import Path

from tasks import release, splits
from tasks.task import Item, Rule, Task, TaskCard

CARD = TaskCard(
    name="mmotu",
    title="MMOTU",
    organ="ovary",
    target="tumour type",
    classes=(
        "chocolate cyst",
        "serous cystadenoma",
        "teratoma",
        "theca cell tumour",
        "simple cyst",
        "normal ovary",
        "mucinous cystadenoma",
        "high-grade serous",
    ),
    paper="Zhao et al., 2023, arXiv 2207.06799",
    source="Google Drive link in https://github.com/cv516Buaa/MMOTU_DS2Net",
    licence="not stated",
    short_side=266,
    groups="none",
    defects=(
        "No patient ids: training and validation may share patients.",
        "Colour Doppler, text and measurement overlays are burnt into some frames.",
        "The largest class is over six times the smallest.",
        "The file called val is the test set.",
        "By `ubench audit`, 58 of the 469 test images show the same as a training or validation "
        "image (often with and without calipers), four of them under another label.",
    ),
    images=1469,
    paper_counts=(800, 200, 469),
    ultrabench_counts=(800, 200, 469),
    rule=Rule("class", seed=42, validation=0.2),
)


def read(folder: Path) -> Task:
    """Read MMOTU: val_cls.txt is the test set; validation is 0.2 of train_cls.txt, seed 42.

    Raises:
        UserError: release not found, or a list file is damaged.
    """
    base = release.find(folder, *release.MARKS["mmotu"], source="MMOTU (OTU_2d)")
    pool = _items(base, "train_cls.txt")
    train, validation = splits.draw_validation(pool, CARD.rule, folder)
    return splits.assemble(
        CARD, folder, train=train, validation=validation, test=_items(base, "val_cls.txt")
    )


def _items(base: Path, list_name: str) -> list[Item]:
    rows = release.labelled_list(release.inside(base, list_name), None, len(CARD.classes))
    folder = release.Folder(release.inside(base, "images"))
    return [Item(release.image(folder / name, f"images/{name}"), code) for name, code in rows]
