"""One table of a row per item: its columns as text or numbers, and where each row is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.own_data import tables
from tasks.own_data.tables import OddCell
from ultrabench_eval.core import names
from ultrabench_eval.core.errors import UserError, not_found

IDS = ("id", "image", "path", "file")
"""Columns that name the item; the first that is there."""
AREAS = ("intersection", "predicted_area", "true_area")
_ROLES = ("seed", "group", "label", "target", "split", "prediction", "number")


@dataclass(frozen=True)
class PredictionTable:
    """The rows of a file."""

    path: Path
    items: tuple[str, ...]
    """What each row is of."""
    columns: Mapping[str, Sequence[str]]
    """By the names of this module; others as the file calls them."""
    places: Sequence[str]
    """Where each row is: "line 7"."""
    unit: str = ""
    """Of `target`."""

    @classmethod
    def read(cls, path: Path) -> PredictionTable:
        """The table in a file.

        Raises:
            UserError: the file is missing, or has no column of items.
        """
        if not path.is_file():
            raise not_found("predictions", path, "give a table (.csv, .xlsx or .parquet)")
        if path.suffix.lower() not in tables.SUFFIXES:
            raise UserError(
                f"{path} is of a kind that is not read; give one of {', '.join(tables.SUFFIXES)}"
            )
        listing = tables.read(path, lambda cells: bool(_ids(cells)))
        if not _ids(listing.columns):
            raise UserError(
                f"{path} does not say which item each row is of; add a column 'id' or 'image' (it "
                f"has {', '.join(map(repr, listing.columns[:6])) or 'no column'})"
            )
        rows, places = [], []
        for where, cells in listing.rows:
            if len(cells) != len(listing.columns):
                raise UserError(
                    f"{path}, {where}: {len(cells)} cells under {len(listing.columns)} columns; "
                    "correct that row"
                )
            rows.append(cells)
            places.append(where)
        if not rows:
            raise UserError(f"{path} has no row; write a row per item")
        columns, unit = _columns(path, listing.columns, list(zip(*rows, strict=True)))
        (of_items,) = _ids(listing.columns)[:1]
        items = [cell.replace("\\", "/") for cell in columns.pop(of_items)]
        found = cls(path, tuple(items), columns, places, unit)
        found.complete(of_items, items)
        return found

    def where(self, row: int) -> str:
        """A row, for sentences."""
        return f"{self.path}, {self.places[row]}"

    def complete(self, column: str, cells: Sequence[str]) -> None:
        """See that no cell of a column is empty, or something that no cell should be.

        Raises:
            UserError: one is.
        """
        for row, cell in enumerate(cells):
            if isinstance(cell, OddCell):
                raise UserError(f"{self.where(row)}: '{cell}' in column '{column}' {cell.why}")
            if wrong := names.fault(cell):
                raise UserError(
                    f"{self.where(row)}: {cell!r} in column '{column}' {wrong}; fill it in"
                )

    def words(self, column: str) -> Sequence[str]:
        """The cells of a column, none of them empty."""
        cells = self.columns[column]
        self.complete(column, cells)
        return cells

    def numbers(self, column: str, low: float, high: float, empty: bool = False) -> np.ndarray:
        """A column of numbers in a range: float64 [rows]; NaN where it is empty.

        Args:
            column: its name.
            low: smallest number.
            high: largest number.
            empty: whether a cell may be.

        Raises:
            UserError: a cell is not a number, or out of the range.
        """
        found = np.empty(len(self.items))
        for row, cell in enumerate(self.columns[column]):
            try:
                found[row] = float("nan" if empty and not cell else cell)
            except ValueError:
                raise UserError(
                    f"{self.where(row)}: {cell!r} in column '{column}' is not a number; correct it"
                ) from None
            known = bool(cell) or not empty
            if (known and not low <= found[row] <= high) or math.isinf(found[row]):
                limits = "finite" if math.isinf(high) else f"between {low:g} and {high:g}"
                raise UserError(
                    f"{self.where(row)}: {cell} in column '{column}' must be {limits}; correct it"
                )
        return found

    @property
    def of_seeds(self) -> dict[str, list[int]]:
        """Rows by seed, in the order of the seeds."""
        cells = self.columns.get("seed", [""] * len(self.items))
        if "seed" in self.columns:
            self.complete("seed", cells)
        whole = all(re.fullmatch(r"\d+", cell) for cell in cells)
        order = sorted({*cells}, key=int) if whole else sorted({*cells})
        return {seed: [row for row, one in enumerate(cells) if one == seed] for seed in order}


def _ids(columns: Iterable[str]) -> list[str]:
    lower = [name.lower() for name in columns]
    return [name for name in IDS if name in lower]


def _columns(
    path: Path, header: Sequence[str], cells: Sequence[Sequence[str]]
) -> tuple[dict[str, Sequence[str]], str]:
    """Columns by name, and the unit of `target`."""
    found: dict[str, Sequence[str]] = {}
    unit = ""
    for name, column in zip(header, cells, strict=True):
        known = name
        if match := re.fullmatch(r"(target)\s*[(\[]([^()\[\]]+)[)\]]", name, re.IGNORECASE):
            known, unit = match[1].lower(), match[2].strip()
        elif name.lower() in (*IDS, *_ROLES, *AREAS, "dice", "iou"):
            known = name.lower()
        if known and known in found:
            raise UserError(f"{path} has the column '{known}' twice; rename one of them")
        found[known] = column
    return found, unit
