"""The split rules of UltraBench, and its published split files.

The rules are those of UltraBench 1.0.1 (github.com/adamtupper/ultrabench): scikit-learn's
generators with fixed seeds, run over items in an order that does not depend on the machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from tasks.images import ImageFile
from tasks.release import missing_note
from tasks.task import Item, Split, Task, TaskCard
from ultrabench_eval.core.errors import UserError

PUBLISHED = "ultrabench_splits"  # ROOT/ultrabench_splits: data/splits of UltraBench's repository
PUBLISHED_FROM = (
    "`data/splits` of https://github.com/adamtupper/ultrabench at commit "
    "a795300b787afe6404f4eb5f547301d46891c921"
)


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (rest, held out) of a class-stratified draw of `fraction` of the items.

    The held-out part has ceil(fraction * N) items. Positions come in the shuffled order of
    scikit-learn, which a second draw from `rest` depends on.
    """
    rest, held_out = train_test_split(
        np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels
    )
    return rest, held_out


def grouped(groups: Sequence[Any], fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (rest, held out) of a draw of `fraction` of the groups, whole; in input order."""
    splitter = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    rest, held_out = next(splitter.split(np.zeros(len(groups)), groups=np.asarray(groups)))
    return rest, held_out


def hold_out(
    items: Sequence[Item],
    fraction: float,
    seed: int,
    by: Literal["class", "group"],
    folder: Path,
) -> tuple[list[Item], list[Item]]:
    """Items (rest, held out): `stratified` by label, or `grouped`; `folder` is for messages.

    Raises:
        UserError: too few items of a class, or too few groups.
    """
    try:
        if by == "class":
            labels = np.array([item.label for item in items], dtype=np.int64)
            rest, held_out = stratified(labels, fraction, seed)
        else:
            rest, held_out = grouped(_sortable([item.group for item in items]), fraction, seed)
    except ValueError as error:
        rarest = min(Counter(item.label for item in items).values(), default=0)
        groups = len({item.group for item in items})
        have = f"the rarest class has {rarest}" if by == "class" else f"they are of {groups} groups"
        raise UserError(
            f"cannot hold out {fraction:.0%} of the {len(items)} images in {folder} by {by}: "
            f"{have}; unpack the whole release there"
        ) from error
    return [items[i] for i in rest], [items[i] for i in held_out]


def assemble(
    card: TaskCard,
    folder: Path,
    *,
    train: Sequence[Item],
    validation: Sequence[Item],
    test: Sequence[Item],
    notes: Sequence[str] = (),
) -> Task:
    """The task of three lists of items.

    Items whose image file is missing are left out here, after the splits are drawn, so that a
    missing file never moves another one; they are counted in the task's notes.

    Raises:
        UserError: an image is listed twice, or the rest is no `Task`.
    """
    every = Counter(item.image.name for item in (*train, *validation, *test))
    twice = [name for name, times in every.items() if times > 1]
    if twice:
        raise UserError(
            f"{len(twice)} image(s) of {folder} are listed more than once (first: {twice[0]}); "
            "copy the lists again from the release"
        )
    missing: list[str] = []
    task = Task(
        card,
        train=Split.of(_present(train, missing)),
        validation=Split.of(_present(validation, missing)),
        test=Split.of(_present(test, missing)),
        origin=str(folder),
    )
    ours = tuple(len(split) for split in task.splits.values())
    return dataclasses.replace(
        task,
        notes=(
            *missing_note("images of the splits", missing, len(every)),
            *_counts_note(ours, card.paper_counts),
            *notes,
        ),
    )


def _present(items: Sequence[Item], missing: list[str]) -> list[Item]:
    """Items whose file is there; names of the others go to `missing`."""
    present = []
    for item in items:
        if isinstance(item.image, ImageFile) and not item.image.path.is_file():
            missing.append(item.image.name)
        else:
            present.append(item)
    return present


def _counts_note(ours: tuple[int, ...], paper: tuple[int, ...] | None) -> tuple[str, ...]:
    if paper is None or ours == paper:
        return ()
    counts = ["/".join(map(str, triple)) for triple in (ours, paper)]
    return (f"train/validation/test have {counts[0]} images here, {counts[1]} in the paper",)


def _sortable(groups: list[str | None]) -> list[Any]:
    """Group ids as integers if all of them are.

    The draw depends on the order of ids, and UltraBench's patients are integers: 2 before 10.
    """
    if all(group is not None and group.isdecimal() for group in groups):
        return [int(group) for group in groups if group is not None]
    return list(groups)


def published(folder: Path, task: str, part: str) -> list[dict[str, Any]]:
    """Rows of UltraBench's split file `<task>/<part>.json`, each with "image" and "label".

    It is looked for in `ultrabench_splits/` beside or in the task's folder.

    Args:
        folder: the task's data folder, ROOT/<name>.
        task: UltraBench's own name of the task, e.g. "aul_mass".
        part: "train_val" or "test".

    Raises:
        UserError: there is no such file, or it is no JSON list of such rows.
    """
    places = [base / PUBLISHED / task / f"{part}.json" for base in (folder.parent, folder)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"published split of {folder.name} not found: {places[0]}; copy {PUBLISHED_FROM} "
            f"to {places[0].parent.parent}"
        )
    try:
        rows = json.loads(path.read_bytes())
        if not isinstance(rows, list) or not all({"image", "label"} <= row.keys() for row in rows):
            raise ValueError("no list of rows with image and label")
    except (ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged ({error}); copy it again from {PUBLISHED_FROM}"
        ) from error
    return rows
