"""TN5000: thyroid nodules, benign or malignant."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from tasks import release, splits
from tasks.task import Item, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="tn5000",
    title="TN5000",
    organ="thyroid",
    target="nodule malignancy",
    classes=("benign", "malignant"),
    paper="Zhang et al., Scientific Data 12 (1), 1437, 2025",
    source="figshare, doi 10.6084/m9.figshare.28455641 (TN5000_forReview.zip)",
    licence="not verified: see the figshare record",
    groups="none",
    defects=(
        "No patient ids are known: splits may share patients.",
        "Some copies nest the folder twice (found all the same).",
    ),
    images=5000,
    paper_counts=(3500, 500, 1000),
)

LISTS = "ImageSets/Main"


def read(folder: Path) -> Task:
    """Read TN5000 with the authors' split: ImageSets/Main/{train,val,test}.txt.

    Raises:
        UserError: release not found, or an annotation is missing or damaged.
    """
    base = release.find(folder, *release.MARKS["tn5000"], source="TN5000 (PASCAL VOC folders)")
    mixed: list[str] = []
    return splits.assemble(
        CARD,
        folder,
        train=_items(base, "train", mixed),
        validation=_items(base, "val", mixed),
        test=_items(base, "test", mixed),
        notes=release.unused_note(
            "images have benign and malignant nodules: taken as malignant", mixed
        ),
    )


def _items(base: Path, part: str, mixed: list[str]) -> list[Item]:
    """Items of a list file (one name a line, without suffix)."""
    items = []
    images, annotations = (
        release.Folder(release.inside(base, name)) for name in ("JPEGImages", "Annotations")
    )
    for line in release.read_text(release.inside(base, f"{LISTS}/{part}.txt")).splitlines():
        if not line.strip():
            continue
        number = line.split()[0]
        name = f"JPEGImages/{number}.jpg"
        labels = _nodules(annotations / f"{number}.xml")
        if len(labels) > 1:
            mixed.append(name)
        items.append(Item(release.image(images / f"{number}.jpg", name), max(labels)))
    return items


def _nodules(path: Path) -> set[int]:
    """The classes of the objects of an annotation: "0" benign, "1" malignant."""
    try:
        root = ElementTree.fromstring(release.read_text(path))
    except ElementTree.ParseError as error:
        raise UserError(
            f"{path} is not valid XML ({error}); copy it again from the release"
        ) from error
    names = {(element.text or "").strip() for element in root.iterfind("object/name")}
    if not names or not names <= {"0", "1"}:
        raise UserError(
            f"{path} names its nodules {sorted(names)}, not '0' (benign) or '1' "
            "(malignant); copy it again from the release"
        )
    return {int(name) for name in names}
