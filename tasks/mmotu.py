"""MMOTU: ovarian ultrasound (the 2D part, OTU_2d); seven kinds of tumour and the normal ovary."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tasks import release, splits
from tasks.samples.label_masks import BINARY, CodeImage, Codes
from tasks.targets import LabelMask
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

_TUMOUR = dataclasses.replace(
    CARD,
    name="mmotu-seg",
    title="MMOTU tumour",
    target="tumour region",
    classes=("background", "tumour"),
    type="segmentation",
    dataset="mmotu",
    defects=(
        *CARD.defects,
        "Of a normal ovary the mask is the ovary, so that no mask is empty.",
    ),
    paper_counts=None,
)
CARDS = {card.name: card for card in (CARD, _TUMOUR)}

COLOURS = (
    *((64, 0, 0), (0, 64, 0), (0, 0, 64), (64, 0, 64)),
    *((64, 64, 0), (64, 64, 64), (0, 128, 0), (0, 0, 128)),
)
"""Red, green, blue of each class in `annotations/<n>.PNG`; the background is black."""


def read(folder: Path) -> Task:
    """Read MMOTU: val_cls.txt is the test set; validation is 0.2 of train_cls.txt, seed 42.

    Raises:
        UserError: release not found, or a list file is damaged.
    """
    return splits.assemble(CARD, folder, **_drawn(folder)._asdict())


def read_tumour(folder: Path) -> Task:
    """Read MMOTU's masks of tumour or ovary against background, in the splits of `read`.

    Raises:
        UserError: release not found, or a list file is damaged.
    """
    drawn = _drawn(folder)._asdict()
    return splits.assemble_masks(_TUMOUR, folder, _mask, what="mask", **drawn)


def _mask(item: Item) -> LabelMask | None:
    """The mask in the colour of the image's class, so that another class's is refused; without it
    the binary one, which is the same for all images of the release."""
    image = splits.file_of(item)
    kinds: dict[str, Codes] = {
        f"{image.stem}.PNG": {(0, 0, 0): 0, COLOURS[item.label]: 1},
        f"{image.stem}_binary.PNG": BINARY,
    }
    for file, codes in kinds.items():
        path = release.inside(image.parent.parent, f"annotations/{file}")
        if path.is_file():
            return CodeImage(item.image, (path,), codes=codes)
    return None


def _drawn(folder: Path) -> splits.Parts:
    base = release.find(folder, *release.MARKS["mmotu"], source="MMOTU (OTU_2d)")
    train, validation = splits.draw_validation(_items(base, "train_cls.txt"), CARD.rule, folder)
    return splits.Parts(train, validation, _items(base, "val_cls.txt"))


def _items(base: Path, list_name: str) -> list[Item]:
    rows = release.labelled_list(release.inside(base, list_name), None, len(CARD.classes))
    folder = release.Folder(release.inside(base, "images"))
    return [Item(release.image(folder / name, f"images/{name}"), code) for name, code in rows]
