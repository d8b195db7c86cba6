"""The cells of tables as people keep them: CSV, Excel workbooks, Parquet. Nothing is guessed.

Every reader gives text. What a cell cannot be taken for as it stands (a date, a formula without a
result, a part of merged cells) comes as `OddCell`, which says why.
"""

from __future__ import annotations

import csv
import datetime
import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ultrabench_eval.core import names
from ultrabench_eval.core.errors import UserError, not_installed

WORKBOOKS = (".xlsx", ".xlsm")
PARQUET = (".parquet", ".pq")
TEXTS = (".csv", ".tsv", ".tab")
SUFFIXES = (*TEXTS, *WORKBOOKS, *PARQUET)
OTHERS = (".xls", ".xlsb", ".ods", ".numbers", ".json", ".jsonl", ".sav", ".dta", ".rds")
"""Suffixes of tables that are not read, so that it can be told."""

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
LOOKED_AT = 20  # rows in which the header is looked for
_EXACT = 10**15  # whole numbers from here on lose digits in a spreadsheet

_UTF16 = (b"\xff\xfe", b"\xfe\xff")
Fits = Callable[[Sequence[str]], bool]


class OddCell(str):
    """The text of a cell that cannot be taken as it is."""

    why: str

    @classmethod
    def of(cls, text: str, why: str) -> OddCell:
        """Args: what stands there; why it cannot be taken, the rest of a sentence."""
        cell = cls(text)
        cell.why = why
        return cell


class Listing(NamedTuple):
    """A table."""

    columns: tuple[str, ...]
    rows: Iterable[tuple[str, list[str]]]
    """Where each row is ("line 7") and its cells as stripped text."""
    notes: tuple[str, ...] = ()
    """What was decided on the way."""


def read(path: Path, fits: Fits, sheet: str | None = None) -> Listing:
    """The table in a file: its header is the first row that `fits`, else the first row of all.

    Args:
        path: a file of one of `SUFFIXES`.
        fits: whether cells of a row name all columns that are needed.
        sheet: of a workbook.

    Raises:
        UserError: no such file, no table of its kind, or a workbook with several that fit.
    """
    suffix = path.suffix.lower()
    if suffix in OTHERS:
        raise UserError(f"{path} is of a kind that is not read; save it as .xlsx or .csv")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"cannot read manifest {path} ({error.strerror or error}); give the path of a table "
            "(.csv, .xlsx or .parquet) of your images"
        ) from error
    if wrong := _wrong_kind(data, suffix):
        raise UserError(f"{path} {wrong}")
    if sheet is not None and suffix not in WORKBOOKS:
        raise UserError(f"{path} has no sheets; leave out --sheet")
    if suffix in WORKBOOKS:
        return _workbook(path, data, fits, sheet)
    return _parquet(path, data) if suffix in PARQUET else _text(path, data, fits)


def _wrong_kind(data: bytes, suffix: str) -> str | None:
    """What a file is, if it is not what its suffix says, and what to do."""
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        return "is an old Excel file (.xls) or one with a password; save it as .xlsx without one"
    if data.startswith(b"PK\3\4") and suffix not in WORKBOOKS:
        return "is an Excel workbook or another archive; if it is a workbook, rename it to .xlsx"
    if data.startswith(b"PAR1") and suffix not in PARQUET:
        return "is a Parquet file; rename it to .parquet"
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<table")):
        return "is a web page or XML, not a table; open it in a spreadsheet and save it as .xlsx"
    if suffix in TEXTS and b"\0" in data[:2] and not data.startswith(_UTF16):
        return "is not text in UTF-8 (it holds zero bytes); save it as CSV UTF-8"
    return None


# ---- text ----------------------------------------------------------------------------------------


def _text(path: Path, data: bytes, fits: Fits) -> Listing:
    text = _decoded(path, data)
    said = re.match(r"sep=(.)\r?\n", text)  # Excel's own line
    before = 1 if said else 0
    text = text[said.end() :] if said else text
    for separator in [said[1]] if said else SEPARATORS:
        try:
            at = _header(_records(path, text, separator, before), fits)
        except UserError:  # which is the wrong separator's, or told below
            continue
        if at is not None:
            return _listing(_records(path, text, separator, before), at)
    likely = said[1] if said else max(SEPARATORS, key=text.partition("\n")[0].count)
    return _listing(_records(path, text, likely, before), 0)


def _decoded(path: Path, data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 if a mark at its start says so."""
    encoding = "utf-16" if data.startswith(_UTF16) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8 ({error.reason}); save it as CSV UTF-8") from error


def _records(path: Path, text: str, separator: str, before: int) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each row that is not empty.

    Args:
        path: of the file, for errors.
        text: from line `before` + 1 on.
        separator: of cells.
        before: lines that are left out.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = before + 1
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                yield line, cells
            line = before + reader.line_num + 1  # a quoted cell may span lines
    except csv.Error as error:
        raise UserError(
            f"{path}, line {before + reader.line_num}: not CSV ({error}); fix the quotes of that "
            "line"
        ) from error


def _header(records: Iterator[tuple[int, list[str]]], fits: Fits) -> int | None:
    """Which row, of those that are not empty, names the columns; None if none does."""
    for at, (_, cells) in enumerate(records):
        if at == LOOKED_AT:
            break
        if fits(cells):
            return at
    return None


def _listing(records: Iterator[tuple[int, list[str]]], at: int) -> Listing:
    line, columns = 1, list[str]()
    for _ in range(at + 1):
        line, columns = next(records, (1, []))
    rows = ((f"line {number}", cells) for number, cells in records)
    return Listing(tuple(columns), rows, _above(at, f"line {line}"))


def _above(at: int, where: str) -> tuple[str, ...]:
    return (f"the columns are named in {where}; rows above it are ignored",) if at else ()


# ---- workbooks -----------------------------------------------------------------------------------


def _workbook(path: Path, data: bytes, fits: Fits, wanted: str | None) -> Listing:
    openpyxl = _openpyxl(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions that nobody reads
            book = openpyxl.load_workbook(io.BytesIO(data), data_only=True)
    except Exception as error:  # a damaged archive or any of the XML in it
        raise UserError(
            f"{path} is damaged or not an Excel workbook ({type(error).__name__}); save it again "
            "as .xlsx"
        ) from error
    sheets = {sheet.title: _Sheet.of(sheet) for sheet in book.worksheets}
    title, notes = _meant(path, sheets, fits, wanted)
    rows = sheets[title].rows
    if not rows:
        return Listing((), ())
    at = _header(sheets[title].texts(), fits) or 0
    (head, named), below = rows[at], rows[at + 1 :]
    hidden = {number for number, row in book[title].row_dimensions.items() if row.hidden}
    if unseen := sum(number in hidden for number, _ in below):
        notes = (*notes, f"{unseen} rows that the sheet hides are read like the others")
    formulas = _formulas(openpyxl, data, title)
    listed = (
        (f"row {number}", [_cell(cell, formulas) for cell in cells]) for number, cells in below
    )
    columns = tuple(text_of(cell.value) if cell else "" for cell in named)
    return Listing(columns, listed, (*notes, *_above(at, f"row {head}")))


class _Sheet(NamedTuple):
    rows: list[tuple[int, list[Any]]]
    """Number and cells (None where there is none) of each row with a value."""
    shown: bool

    @classmethod
    def of(cls, sheet: Any) -> _Sheet:
        rows: dict[int, dict[int, Any]] = {}
        # Only cells that the file has: a sheet with one in row 1,048,576 may claim to be as long.
        for (row, column), cell in sheet._cells.items():
            rows.setdefault(row, {})[column] = cell
        filled = {
            number: cells
            for number, cells in sorted(rows.items())
            if any(text_of(cell.value) for cell in cells.values())
        }
        width = max((max(cells) for cells in filled.values()), default=0)
        return cls(
            [
                (number, [cells.get(column) for column in range(1, width + 1)])
                for number, cells in filled.items()
            ],
            sheet.sheet_state == "visible",
        )

    def texts(self) -> Iterator[tuple[int, list[str]]]:
        """Number and texts of the rows."""
        for number, cells in self.rows:
            yield number, [text_of(cell.value) if cell else "" for cell in cells]


def _meant(
    path: Path, sheets: dict[str, _Sheet], fits: Fits, wanted: str | None
) -> tuple[str, tuple[str, ...]]:
    """The title of the sheet that is meant, and notes."""
    titles = ", ".join(map(repr, sheets))
    if wanted is not None:
        if wanted not in sheets:
            raise UserError(f"{path} has no sheet '{wanted}'; it has {titles}")
        return wanted, ()
    filled = {title: sheet for title, sheet in sheets.items() if sheet.rows}
    fitting = [t for t, sheet in filled.items() if _header(sheet.texts(), fits) is not None]
    visible = [title for title in fitting if filled[title].shown]
    if len(visible) > 1:
        raise UserError(
            f"{path} has {len(visible)} sheets with the columns "
            f"({', '.join(map(repr, visible))}); say which with --sheet NAME"
        )
    if visible:
        others = ", ".join(repr(title) for title in filled if title not in visible)
        return visible[0], (f"sheet '{visible[0]}' is read, not {others}",) if others else ()
    if fitting:
        raise UserError(
            f"only the hidden sheet '{fitting[0]}' of {path} has the columns; if it is meant, say "
            f"--sheet '{fitting[0]}'"
        )
    shown = [title for title, sheet in filled.items() if sheet.shown]
    if len(shown) > 1:
        raise UserError(
            f"none of the sheets of {path} ({titles}) has the columns that are needed; name them "
            "with --columns, and the sheet with --sheet"
        )
    return (shown or [*filled] or [*sheets])[0], ()


def _formulas(openpyxl: Any, data: bytes, title: str) -> frozenset[str]:
    """Places of the formulas in a sheet; those without a value were never worked out."""
    with zipfile.ZipFile(io.BytesIO(data)) as book:
        sheets = [name for name in book.namelist() if name.startswith("xl/worksheets/")]
        if not any(re.search(rb"<f[ >/]", book.read(name)) for name in sheets):
            return frozenset()
    cells = openpyxl.load_workbook(io.BytesIO(data))[title]._cells.values()
    return frozenset(cell.coordinate for cell in cells if cell.data_type == "f")


def _cell(cell: Any, formulas: frozenset[str]) -> str:
    from openpyxl.cell.cell import MergedCell

    if cell is None:
        return ""
    if isinstance(cell, MergedCell):
        return OddCell.of("", "is part of merged cells: unmerge them and fill in every row")
    if cell.value is None and cell.coordinate in formulas:
        return OddCell.of(
            "", "holds a formula without a saved result: open the file in a spreadsheet and save it"
        )
    return text_of(cell.value)


def _openpyxl(path: Path) -> Any:
    try:
        import openpyxl
    except ImportError as error:
        raise not_installed(path, "an Excel workbook", "openpyxl") from error
    return openpyxl


# ---- Parquet -------------------------------------------------------------------------------------


def _parquet(path: Path, data: bytes) -> Listing:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise not_installed(path, "a Parquet file", "pyarrow") from error
    try:
        schema = parquet.read_schema(pyarrow.BufferReader(data))
        flat = [field.name for field in schema if _is_flat(field.type)]
        table = parquet.read_table(pyarrow.BufferReader(data), columns=flat)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is damaged or not a Parquet file ({' '.join(str(error).split())}); write it "
            "again"
        ) from error
    columns = [column.to_pylist() for column in table.columns]
    rows = (
        (f"row {number}", [text_of(value) for value in values])
        for number, values in enumerate(zip(*columns, strict=True), start=1)
    )
    return Listing(tuple(name.strip() for name in table.column_names), rows)


def _is_flat(kind: Any) -> bool:
    """Whether values of an Arrow type are words, numbers or dates: no lists, no bytes of images."""
    from pyarrow import types

    return not (types.is_nested(kind) or types.is_binary(kind) or types.is_large_binary(kind))


# ---- values --------------------------------------------------------------------------------------


def text_of(value: Any) -> str:
    """A value as a spreadsheet shows it, where a whole number has no decimals (1.0 is "1")."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        whole = isinstance(value, int) or value.is_integer()
        text = str(int(value)) if whole else repr(value)
        if isinstance(value, float) and whole and abs(value) >= _EXACT:
            return OddCell.of(text, TOO_LONG)
        return text
    if isinstance(value, datetime.date | datetime.time | datetime.timedelta):
        return OddCell.of(
            str(value).removesuffix(" 00:00:00"),
            "is a date or time, which spreadsheets make of words such as 3-4: make the column text",
        )
    return OddCell.of(str(value)[:40], f"is of type {type(value).__name__}: make the column text")


TOO_LONG = (
    "is a number of more than 15 digits, of which spreadsheets lose the last: write the column as "
    "text"
)
_SHORTENED = re.compile(r"\d[.,]\d+e\+\d{2}", re.IGNORECASE)


def is_shortened(text: str) -> bool:
    """Whether a text looks like a long number that a spreadsheet wrote as 1.23E+14."""
    return _SHORTENED.fullmatch(text) is not None


def place_of(column: str, columns: Sequence[str], exact: bool) -> list[int]:
    """Where a column is among others: by its name in any letter case and blanks.

    Args:
        column: its name.
        columns: all of them.
        exact: take the one that is spelt just so, if there is one, and no other.
    """
    same = [at for at, name in enumerate(columns) if name == column] if exact else []
    key = names.key(column)
    return same or [at for at, name in enumerate(columns) if name and names.key(name) == key]
