"""What is right for each item, and that all files are of the same items and the same truth.

H is the number of seeds, N of items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ultrabench_eval.compare.table import PredictionTable
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key

_SHOWN = 3  # items that a sentence names


@dataclass(frozen=True)
class Right:
    """The items, in the order of their names, and what is right for them."""

    path: Path
    items: tuple[str, ...]
    groups: tuple[str, ...] | None
    labels: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    unit: str = ""

    @classmethod
    def of(cls, sheet: PredictionTable, kind: str, test: bool = False) -> Right:
        """That of a table.

        Args:
            sheet: the table.
            kind: "class", "number" or "mask".
            test: whether only its test rows count, if it tells splits.

        Raises:
            UserError: it does not say what is right, or not the same for all rows of an item.
        """
        rows = [*range(len(sheet.items))]
        if test and "split" in sheet.columns:
            rows = [row for row in rows if sheet.columns["split"][row].lower() == "test"]
            if not rows:
                raise UserError(f"no row of {sheet.path} has the split 'test'; mark the test items")
        told: dict[str, Sequence[object]] = {}
        if "group" in sheet.columns:
            told["group"] = sheet.words("group")
        if kind == "class":
            told["label"] = sheet.words(_needed(sheet, "label"))
        elif kind == "number":
            told["target"] = sheet.numbers(_needed(sheet, "target"), -np.inf, np.inf).tolist()
        place: dict[str, int] = {}
        for row in rows:
            before = place.setdefault(sheet.items[row], row)
            for column, cells in told.items():
                if cells[row] != cells[before]:
                    raise UserError(
                        f"{sheet.path}: item '{sheet.items[row]}' has the {column} "
                        f"{cells[before]!r} in {sheet.places[before]} and {cells[row]!r} in "
                        f"{sheet.places[row]}; correct one of them"
                    )
        items = sorted(place)
        order = [place[item] for item in items]

        def values(name: str) -> tuple[object, ...]:
            return tuple(told[name][row] for row in order) if name in told else ()

        return cls(
            sheet.path,
            tuple(items),
            tuple(map(str, values("group"))) or None,
            tuple(map(str, values("label"))),
            tuple(map(float, map(str, values("target")))),
            sheet.unit,
        )

    def named(self, item: str) -> list[str]:
        """The items that a name may mean: itself, or what ends as it does, folder by folder."""
        for end in _ends(item):
            if end in self.places:
                return [end]
        return self._by_end.get(item, [])

    @cached_property
    def places(self) -> dict[str, int]:
        """Of the items."""
        return {item: place for place, item in enumerate(self.items)}

    @cached_property
    def _by_end(self) -> dict[str, list[str]]:
        return by_key((end, item) for item in self.items for end in _ends(item)[1:])


def _ends(item: str) -> list[str]:
    """ "Benign/image/12.jpg", "image/12.jpg" and "12.jpg"."""
    parts = item.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _needed(sheet: PredictionTable, column: str) -> str:
    if column not in sheet.columns:
        raise UserError(
            f"{sheet.path} lacks the column '{column}', which tells what is right; add it, or give "
            "one table for all models with --truth"
        )
    return column


def joined(sheet: PredictionTable, right: Right) -> np.ndarray:
    """Which row is of which seed and item: int64 [H, N].

    Raises:
        UserError: rows are foreign, ambiguous, missing or doubled.
    """
    meant: dict[str, str] = {}
    for item in dict.fromkeys(sheet.items):
        some = right.named(item)
        if len(some) != 1:
            why = f"may be {' or '.join(map(repr, some[:2]))}" if some else "is not among them"
            raise UserError(
                f"{sheet.path} is not of the {len(right.items)} items of {right.path}: '{item}' "
                f"{why}; {'write its folder too' if some else 'compare models on the same items'}"
            )
        meant[item] = some[0]
    found = []
    for seed, rows in sheet.of_seeds.items():
        words = f" of seed {seed}" if seed else ""
        place: dict[str, int] = {}
        for row in rows:
            item = meant[sheet.items[row]]
            if item in place:
                more = "" if "seed" in sheet.columns else ", or add a column 'seed'"
                raise UserError(
                    f"{sheet.path} has two rows{words} for '{item}' ({sheet.places[place[item]]} "
                    f"and {sheet.places[row]}); leave one{more}"
                )
            place[item] = row
        if missing := [item for item in right.items if item not in place]:
            shown = ", ".join(missing[:_SHOWN]) + (", ..." if len(missing) > _SHOWN else "")
            raise UserError(
                f"{sheet.path} has no row{words} for {len(missing)} of the {len(right.items)} "
                f"items of {right.path} ({shown}); add them, or remove them from every file"
            )
        found.append([place[item] for item in right.items])
    return np.array(found)


def check_same(other: Right, right: Right) -> None:
    """See that a file tells the same truth as the first."""
    if (other.groups is None) != (right.groups is None):
        has, lacks = (right, other) if other.groups is None else (other, right)
        raise UserError(
            f"{has.path} has the column 'group' and {lacks.path} has not; add it, or give one "
            "table for all models with --truth"
        )
    truths = (
        ("group", right.groups, other.groups),
        ("label", right.labels, other.labels),
        ("target", right.values, other.values),
    )
    for what, mine, its in truths:
        for item, one in zip(other.items, its or (), strict=False):
            known = (mine or its or ())[right.places[right.named(item)[0]]]
            if one != known:
                raise UserError(
                    f"{right.path} and {other.path} disagree on the {what} of '{item}' ({known!r} "
                    f"and {one!r}); models are compared on one truth: correct it"
                )


def check_truth(sheet: PredictionTable, right: Right) -> None:
    """See that what a file tells of the truth is that of the table for all models."""
    if "group" in sheet.columns and right.groups is None:
        raise UserError(
            f"{sheet.path} has the column 'group' and {right.path} has not; add it there, so that "
            "items of one patient are resampled together"
        )
    for column, known in (("label", right.labels), ("group", right.groups)):
        for row, cell in enumerate(sheet.columns.get(column, ()) if known else ()):
            true = known[right.places[right.named(sheet.items[row])[0]]] if known else cell
            if cell != true:
                raise UserError(
                    f"{sheet.where(row)}: the {column} is {cell!r}, and {right.path} says "
                    f"{true!r}; correct it, or remove the column"
                )
