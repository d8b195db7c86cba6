"""BUTTERFLY: nine organs and views from a hand-held probe, 31 people."""

from __future__ import annotations

from pathlib import Path

from tasks import release, splits
from tasks.task import Item, Rule, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="butterfly",
    title="BUTTERFLY",
    organ="multi-organ",
    target="organ and view",
    classes=(
        "carotid",
        "2ch",
        "lungs",
        "ivc",
        "4ch",
        "bladder",
        "thyroid",
        "plax",
        "morisons_pouch",
    ),
    paper="Butterfly Network, 2018, https://github.com/ButterflyNetwork/MITGrandHack2018",
    source="https://github.com/ButterflyNetwork/MITGrandHack2018, release v.0.0.1: "
    "butterfly_dataset_{training1,training2,test}.tar.gz",
    licence="README: solely for the MIT GrandHack 2018, no other purpose, "
    "no re-publication without written permission",
    licence_kind="restricted",
    groups="patient",
    defects=(
        "Archive members may carry macOS `._` files (not verified); they are ignored.",
        "A mini set of the same images exists; it is not read here.",
    ),
    images=41076,
    patients=31,
    paper_counts=(28053, 6272, 6751),
    ultrabench_counts=(28053, 6272, 6751),
    rule=Rule("group", seed=42, validation=0.2),
)

UNPACK = (
    "butterfly_dataset_training1, butterfly_dataset_training2 and butterfly_dataset_test "
    "(each <subset>/<patient>/<class>/<n>.png)"
)


def read(folder: Path) -> Task:
    """Read BUTTERFLY: given test set; validation is 0.2 of the training patients, seed 42.

    Raises:
        UserError: no such images at or below the folder.
    """
    pool: list[Item] = []
    test: list[Item] = []
    other: list[str] = []
    for path in release.walk(folder, ".png"):
        # In small letters and from the subset on, however the archives were unpacked.
        below = path.relative_to(folder).as_posix()
        *above, patient, class_name, file = ["", "", *below.lower().split("/")]
        subset = next((p for p in reversed(above) if "training" in p or "test" in p), None)
        foreign = class_name not in CARD.classes or not patient.isdecimal()
        mini = any("mini_dataset" in part for part in above)
        if subset is None or mini or foreign:
            other.append(below)
            continue
        name = f"{subset}/{patient}/{class_name}/{file}"
        item = Item(release.image(path, name), CARD.classes.index(class_name), str(int(patient)))
        (pool if "training" in subset else test).append(item)
    for items in (pool, test):
        items.sort(key=lambda item: item.image.name)
    if not pool or not test:
        raise UserError(
            f"{folder} has {len(pool)} training and {len(test)} test images; "
            f"{release.how_to_unpack(folder, UNPACK)}"
        )
    train, validation = splits.draw_validation(pool, CARD.rule, folder)
    return splits.assemble(
        CARD,
        folder,
        train=train,
        validation=validation,
        test=test,
        notes=release.unused_note(
            "png files lie outside <training or test>/<patient>/<class>/: not used", other
        ),
    )
