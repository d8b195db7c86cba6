"""Stanford thyroid: cine clips of thyroid nodules; those that were taken with a convex probe."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tasks import release, splits
from tasks.samples import hdf5
from tasks.samples.hdf5 import Hdf5Frame
from tasks.samples.label_masks import Hdf5Mask
from tasks.task import SPLITS, Item, Rule, Task, TaskCard

CARD = TaskCard(
    name="stanford-thyroid",
    title="Stanford thyroid",
    organ="thyroid",
    target="thyroid nodule",
    classes=("background", "nodule"),
    type="segmentation",
    paper="Yamashita et al., Radiology: AI 2022, doi 10.1148/ryai.210174",
    source="Stanford AIMI, Thyroid Ultrasound Cine-clip (agreement)",
    licence="Stanford's research use agreement, not verified",
    groups="patient",
    defects=(
        "Frames of a clip are near copies, so splitting by image would leak.",
        "UltraBench takes 105 of the patients, by a fixed list: those of a convex probe.",
    ),
    rule=Rule("group", seed=42, validation=0.1, test=0.2),
    splits={
        "published": "UltraBench's patients: its rule over its list of 105, of whom some may not "
        "be there"
    },
)

FILE, _ = release.MARKS["stanford-thyroid"]
PATIENTS = (
    *(3, 4, 6, 7, 8, 10, 14, 18, 20, 23, 24, 27, 28, 34, 35, 36, 37, 40, 41, 42, 45, 49, 53, 55),
    *(57, 60, 61, 62, 63, 65, 67, 68, 72, 74, 75, 76, 78, 79, 80, 81, 82, 83, 87, 90, 103, 104),
    *(106, 108, 109, 110, 111, 114, 117, 121, 122, 123, 124, 125, 128, 129, 130, 134, 137, 138),
    *(140, 143, 145, 146, 149, 152, 154, 155, 157, 159, 160, 161, 162, 169, 170, 172, 174, 175),
    *(176, 177, 178, 180, 181, 182, 183, 184, 185, 186, 189, 191, 192, 194, 195, 196, 197, 198),
    *(199, 202, 206, 210, 211),
)
"""The list of UltraBench 1.0.1."""


def read(folder: Path) -> Task:
    """Read Stanford thyroid by UltraBench's patients; images are named as UltraBench names them.

    Raises:
        UserError: release not found, or its file is damaged.
    """
    base = release.find(folder, *release.MARKS["stanford-thyroid"], source=f"{FILE}, metadata.csv")
    path = release.inside(base, FILE)
    # UltraBench draws over text, of which "103" stands before "3"; numbers alone would be sorted
    # as such.
    names = {str(number): f"patient {number}" for number in PATIENTS}
    side = splits.sides(names.values(), CARD.rule, folder)
    parts: dict[str, list[Item]] = {name: [] for name in SPLITS}
    frames: Counter[str] = Counter()
    ids = hdf5.column(path, "annot_id").tolist()
    for index, annotation in enumerate(ids):
        patient = names.get(str(annotation).removesuffix("_"))
        if patient is None:
            continue
        frames[patient] += 1
        image = Hdf5Frame(path, f"{annotation}{index}", "image", index)
        mask = Hdf5Frame(path, f"{annotation}{index} (mask)", "mask", index)
        parts[side[patient]].append(Item(image, Hdf5Mask(image, mask, {0: 0, 255: 1}), patient))
    missing = [patient for patient in names.values() if not frames[patient]]
    return splits.assemble(
        CARD,
        folder,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        missing=missing,
        notes=(
            f"{frames.total()} of {len(ids)} frames: those of {len(frames)} patients of a convex "
            "probe, as in UltraBench",
            *release.missing_note("patients of UltraBench's list", missing, len(names), "frames"),
        ),
    )
