"""A task of one's own as a CSV file: columns image, label, split and, if known, group.

    image,label,split,group
    scans/001.png,benign,train,patient-7

- image: path relative to the CSV file (or absolute).
- label: any text but a word for a missing value ("nan", "NA", "#N/A"). If all labels are integers,
  classes are sorted by number, else as text; either way the codes are 0 ... C-1 and the class names
  are the labels as written ("01" stays "01").
- split: train, validation (or val) or test.
- group: patient or video; it must stay within one split. Leave the column out if not known.

Labels or groups that differ only in letter case, blanks, Unicode form or the way a number is
written ("1" and "1.0") are refused: they are neither merged nor taken for two.

Other columns are ignored. The file is CSV with commas in UTF-8, with or without a byte order
mark. The task's name is the file's name without ".csv".
"""

from __future__ import annotations

import csv
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import tasks
from tasks.samples.images import ImageFile
from tasks.task import SPLITS, Item, Split, Task, TaskCard
from ultrabench_eval.core import names
from ultrabench_eval.core.errors import UserError

COLUMNS = ("image", "label", "split")
SYNONYMS = {"val": "validation"}
SHOWN = 5  # bad rows told in full
_REMEDIES = {
    "label": "write another word if it is a class",
    "group": "write the patient or video, or leave the column out if they are not known",
}


def read(path: Path) -> Task:
    """Read a manifest; the module's docstring has its form.

    Raises:
        UserError: one sentence with all bad rows (the first five by line number), or what else
            keeps the file from being a task.
    """
    table = _Table(path)
    for line, row in _rows(path):
        table.add(line, row)
    if table.problems:
        shown = "; ".join(table.problems[:SHOWN])
        more = len(table.problems) - SHOWN
        raise UserError(
            f"{path} has {len(table.problems)} bad row(s): {shown}"
            + (f"; and {more} more" if more > 0 else "")
            + "; fix or remove them"
        )
    table.check_spellings()
    classes = _classes(path, {label for rows in table.splits.values() for _, label, _ in rows})
    for name, rows in table.splits.items():
        if not rows:
            raise UserError(
                f"no row of {path} has split '{name}'; a task needs all of {', '.join(SPLITS)}: "
                f"mark some rows so"
            )
    codes = {label: code for code, label in enumerate(classes)}
    parts = {
        name: Split.of([Item(image, codes[label], group) for image, label, group in rows])
        for name, rows in table.splits.items()
    }
    grouped = parts["train"].groups is not None
    name = tasks.label(str(path))
    card = TaskCard(
        name=name,
        title=name,
        organ="not stated",
        target="not stated",
        classes=classes,
        source=names.printable(path.name),
        groups="column group" if grouped else "none",
    )
    return Task(card, parts["train"], parts["validation"], parts["test"], origin=str(path))


@dataclass
class _Table:
    """Good rows by split, and what is wrong with the others."""

    path: Path
    splits: dict[str, list[tuple[ImageFile, str, str | None]]] = field(
        default_factory=lambda: {name: [] for name in SPLITS}
    )
    problems: list[str] = field(default_factory=list)
    _seen: dict[str, tuple[int, str]] = field(default_factory=dict)  # image -> its line and split
    _labels: dict[str, int] = field(default_factory=dict)  # label -> the first line that has it
    _groups: dict[str, int] = field(default_factory=dict)

    def add(self, line: int, row: dict[str, str] | str) -> None:
        """Take a row, or note what is wrong with it (a row may be its own complaint)."""
        problem = row if isinstance(row, str) else self._take(line, row)
        if problem:
            self.problems.append(f"line {line}: {problem}")

    def _take(self, line: int, row: dict[str, str]) -> str | None:
        empty = [column for column, cell in row.items() if not cell]
        if empty:
            return f"{' and '.join(empty)} empty"
        split = SYNONYMS.get(row["split"], row["split"])
        if split not in SPLITS:
            allowed = ", ".join(SPLITS)
            return f"split '{row['split']}' is none of {allowed} (val stands for validation)"
        for column in ("label", "group"):
            if column in row and (why := names.fault(row[column])):
                return f"{column} {row[column]!r} {why} ({_REMEDIES[column]})"
        # As it stands: where a folder is a link, "lists/../im" is not "im".
        path = self.path.parent / row["image"]
        # Two names for one file are two images until the audit finds them equal.
        known = os.path.normpath(path)
        if known in self._seen:
            first, where = self._seen[known]
            return f"image {row['image']!r} ({split}) stands in line {first} ({where}) already"
        self._seen[known] = line, split
        if problem := _not_a_file(path):
            return f"image file {row['image']!r} {problem}"
        self._labels.setdefault(row["label"], line)
        if "group" in row:
            self._groups.setdefault(row["group"], line)
        image = ImageFile(path, row["image"])
        self.splits[split].append((image, row["label"], row.get("group")))
        return None

    def check_spellings(self) -> None:
        """Refuse labels, and groups, that are one word written in two ways."""
        self._check("label", self._labels, names.key)
        self._check("group", self._groups, names.group_key)

    def _check(self, column: str, lines: dict[str, int], key: Callable[[str], str]) -> None:
        pairs = names.alike(lines, key)
        if pairs:
            one, other = pairs[0]
            more = f", and {len(pairs) - 1} more such pair(s)" if len(pairs) > 1 else ""
            raise UserError(
                f"{column}s {_shown(one)} (line {lines[one]}) and {_shown(other)} "
                f"(line {lines[other]}) of "
                f"{self.path} are the same but for their spelling{more}; write them alike if they "
                f"are one {column}, else change one of them"
            )


def _shown(word: str) -> str:
    """A word with escapes for what cannot be told apart by eye, of a length that can be read."""
    text = ascii(word)
    return text if len(text) <= 80 else f"{text[:60]}...{text[-15:]}"


def _not_a_file(path: Path) -> str | None:
    """Why a path is not a file that can be read, or not one file; None if it is."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "not found (paths start at the CSV file's folder)"
    except (OSError, ValueError) as error:  # no rights, too long, a circle of links, a zero byte
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    if not stat.S_ISREG(mode):
        return "is not a file but a folder or device"
    # Behind a link, ".." is the folder above the link's target; text editors take it otherwise.
    shorter = os.path.normpath(path)
    if ".." in path.parts and os.path.isfile(shorter) and not os.path.samefile(path, shorter):
        return (
            f"may be {os.path.realpath(path)} or {shorter}, because a folder before '..' is a link "
            "(write the path without '..')"
        )
    return None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Line number and cells of each row, stripped; a row of the wrong length is a complaint."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            columns = [cell.strip().lower() for cell in next(reader, [])]
            wanted = _wanted(path, columns)
            line = reader.line_num + 1
            for cells in reader:
                if len(cells) == len(columns):
                    row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
                    yield line, {column: row[column] for column in wanted}
                elif cells:  # an empty line is none
                    yield line, f"{len(cells)} cells where the header has {len(columns)}"
                line = reader.line_num + 1  # a quoted cell may span lines
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8 ({error.reason}); save it as CSV UTF-8") from error
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: not CSV ({error}); fix the quotes of that line"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot read manifest {path} ({error.strerror or error}); give the path of a CSV file "
            f"with the columns {','.join(COLUMNS)}[,group]"
        ) from error


def _wanted(path: Path, columns: list[str]) -> list[str]:
    """The columns to read."""
    absent = [column for column in COLUMNS if column not in columns]
    twice = [column for column in (*COLUMNS, "group") if columns.count(column) > 1]
    if absent or twice:
        fault = f"lacks the column {absent[0]}" if absent else f"has the column {twice[0]} twice"
        raise UserError(
            f"{path} {fault}; its first line must name {','.join(COLUMNS)}[,group], each once, "
            "with commas between"
        )
    return [*COLUMNS, "group"] if "group" in columns else [*COLUMNS]


def _classes(path: Path, labels: set[str]) -> tuple[str, ...]:
    """Class names in order of their codes."""
    if not labels:
        raise UserError(f"{path} has no rows below its header; add one for each image")
    if len(labels) == 1:
        raise UserError(f"all rows of {path} have label '{min(labels)}'; add a second class")
    if not all(re.fullmatch(r"[+-]?[0-9]+", label) for label in labels):
        return tuple(sorted(labels))
    # Decimal, because Python limits the digits of integers that it reads.
    return tuple(sorted(labels, key=Decimal))
