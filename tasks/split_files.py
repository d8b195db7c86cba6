"""Split files: a table of every image of a task, with the split it belongs to.

    image,label,split,group,sha256
    Benign/image/12.jpg,benign,train,,3f2a...

- image: the name within the task, as `Image.name` has it.
- label: the class name.
- split: train, validation (or val), test or unused.
- group: patient or video; empty where it is not known.
- sha256: of the image's content (`Image.digest`); leave the column out if it is not known.

`tasks.check` makes one of a task; `apply` splits a task by one, which may be edited or be anyone's
own.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tasks.release import missing_note
from tasks.task import SPLITS, Item, Split, Task
from ultrabench_eval.core import files, names
from ultrabench_eval.core.errors import UserError

UNUSED = "unused"
COLUMNS = ("image", "label", "split", "group", "sha256")
REQUIRED = ("image", "split")
_SYNONYMS = {"val": "validation"}


class SplitRow(NamedTuple):
    """A line of a split file."""

    image: str
    label: str
    split: str
    group: str
    sha256: str


def rows(task: Task) -> Iterator[tuple[SplitRow, Item]]:
    """Every item of a task, used or not, with its row but for the hash, which takes a reading."""
    for name, split in [*task.splits.items(), (UNUSED, None)]:
        for item in task.unused if split is None else split.items:
            row = SplitRow(item.image.name, task.told(item), name, item.group or "", "")
            yield row, item


def write(table: Iterable[SplitRow], path: Path) -> None:
    """Write a split file, whole or not at all."""
    files.write_text(path, files.csv_text([COLUMNS, *table]))


def apply(task: Task, path: Path) -> Task:
    """The same images in the splits of a file.

    Images that the file does not name are not used. A group in the file replaces the task's own. A
    task of cross-validation keeps its folds, without the samples that are not used, if the file has
    none for training.

    Raises:
        UserError: no such table, an image that the task does not have, another label or content
            than the file says, or splits that do not make a `Task`.
    """
    named = read(path)
    known = {item.image.name: item for split in task.splits.values() for item in split.items}
    known |= {item.image.name: item for item in task.unused}
    absent = [name for name in named if name in task.missing]
    foreign = [name for name in named if name not in known and name not in task.missing]
    if foreign:
        raise UserError(
            f"{path} names {len(foreign)} image(s) that task '{task.name}' in {task.origin} does "
            f"not have (first: {foreign[0]}); `ubench data splits {task.name}` writes a file with "
            "the right names"
        )
    _check_groups(named, known, path)
    parts: dict[str, list[Item]] = {name: [] for name in (*SPLITS, UNUSED)}
    for name, row in named.items():
        if name in known:
            parts[row.split].append(_checked(task, known[name], row, path))
    unnamed = [item for name, item in known.items() if name not in named]
    notes = (
        f"split by {path.name}",
        *missing_note(f"images of {path.name}", absent, len(named)),
        *([f"{len(unnamed)} images are not named in {path.name}: not used"] * bool(unnamed)),
    )
    unused = (*parts[UNUSED], *unnamed)
    if task.folds and not parts["train"] and not parts["validation"]:
        kept = {item.image.name: item for item in parts["test"]}
        folds = [_with_only(kept, fold) for fold in task.folds]
        made = Task.of_folds(task.card, folds, notes=notes, unused=unused, origin=str(path))
        return dataclasses.replace(made, missing=task.missing, synthetic=task.synthetic)
    return dataclasses.replace(
        task,
        card=dataclasses.replace(task.card, folds=0),
        folds=(),
        train=Split.of(parts["train"]),
        validation=Split.of(parts["validation"]),
        test=Split.of(parts["test"]),
        unused=unused,
        origin=str(path),
        notes=notes,
    )


def _with_only(kept: Mapping[str, Item], fold: Task) -> Task:
    """A fold with those of its samples that are kept, as they are there."""
    train, validation, test = (
        Split.of([kept[image.name] for image in split.images if image.name in kept])
        for split in fold.splits.values()
    )
    return dataclasses.replace(fold, train=train, validation=validation, test=test)


def _check_groups(named: dict[str, SplitRow], known: dict[str, Item], path: Path) -> None:
    """Refuse groups of the file's own that are one word in two spellings; a release may have such.

    Raises:
        UserError: there are some.
    """
    groups = {name: row.group for name, row in named.items() if row.group and name in known}
    own = {group for name, group in groups.items() if group != known[name].group}
    for one, other in names.alike(groups.values(), names.group_key):
        if one in own or other in own:
            raise UserError(
                f"groups {one!a} and {other!a} of {path} are the same but for their spelling; "
                "write them alike if they are one group, else change one of them"
            )


def _checked(task: Task, item: Item, row: SplitRow, path: Path) -> Item:
    """The item of a row, with the row's group; or what contradicts the row."""
    label = task.told(item)
    if row.label and row.label != label:
        raise UserError(
            f"{path} says that {item.image.name} is '{row.label}', but its release says "
            f"'{label}'; correct the file"
        )
    if row.sha256 and row.sha256 != item.image.digest():
        raise UserError(
            f"{item.image.name} of task '{task.name}' is not the image that {path} was made for "
            "(its SHA-256 differs); copy it again from the release, or leave out the column sha256"
        )
    return item._replace(group=row.group) if row.group else item


def read(path: Path) -> dict[str, SplitRow]:
    """Rows of a split file by image name; what a row does not say is "".

    Raises:
        UserError: no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = reader.fieldnames or ()
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"cannot read split file {path} ({error}); give a CSV file in UTF-8 with the columns "
            f"{','.join(COLUMNS)}"
        ) from error
    lacking = [name for name in REQUIRED if name not in columns]
    if lacking:
        fault = f"lacks the column {lacking[0]}" if columns else "is empty"
        raise UserError(
            f"{path} {fault}; its first line must name {','.join(REQUIRED)} and may"
            f" name {', '.join(name for name in COLUMNS if name not in REQUIRED)}"
        )
    named: dict[str, SplitRow] = {}
    for line, cells in lines:
        row = SplitRow(*((cells.get(column) or "").strip() for column in COLUMNS))
        row = row._replace(split=_SYNONYMS.get(row.split, row.split))
        if row.split not in (*SPLITS, UNUSED):
            raise UserError(
                f"{path}, line {line}: split '{row.split}' is not one of "
                f"{', '.join((*SPLITS, UNUSED))}; correct the line"
            )
        if row.group and (why := names.fault(row.group)):
            raise UserError(
                f"{path}, line {line}: group {row.group!r} {why}; write the patient or video, or "
                "leave the cell empty if it is not known"
            )
        if row.image in named:
            raise UserError(
                f"{path}, line {line}: image '{row.image}' is named a second time; keep one line"
            )
        named[row.image] = row
    return named
