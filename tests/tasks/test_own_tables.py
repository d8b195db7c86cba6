"""Spreadsheets and manifests as people have them: each is read rightly or refused in a sentence."""

from __future__ import annotations

import datetime
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import openpyxl
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.styles import Font
from pyarrow import parquet

import tasks
from tasks.own_data import manifest, tables
from tasks.own_data.reading import Reading, columns_of
from ultrabench_eval.core.errors import UserError

HEADER = ["image", "label", "split", "group"]
ROWS = [
    ["im/0.pgm", "benign", "train", "7"],
    ["im/1.pgm", "malignant", "train", "12"],
    ["im/2.pgm", "benign", "val", "8"],
    ["im/3.pgm", "malignant", "val", "9"],
    ["im/4.pgm", "benign", "test", "10"],
    ["im/5.pgm", "malignant", "test", "11"],
]
NUMBERED = [[a, str(int(b == "malignant")), c, d] for a, b, c, d in ROWS]
MANY = 40_000

Table = Sequence[Sequence[Any]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the images im/0.pgm ... im/5.pgm."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "im").mkdir()
    for number in range(6):
        pixels = bytes(range(number, number + 12))
        (folder / "im" / f"{number}.pgm").write_bytes(b"P5 4 3 255\n" + pixels)
    return folder


# ---- how tables are written ----------------------------------------------------------------------


def csv(
    table: Table = (HEADER, *ROWS),
    separator: str = ",",
    *,
    before: str = "",
    after: str = "",
    encoding: str = "utf-8",
    end: str = "\n",
    suffix: str = ".csv",
) -> Callable[[Path], Path]:
    def write(stem: Path) -> Path:
        path = stem.with_suffix(suffix)
        lines = [separator.join(map(str, row)) for row in table]
        path.write_bytes((before + end.join(lines) + end + after).encode(encoding))
        return path

    return write


def raw(data: bytes, suffix: str) -> Callable[[Path], Path]:
    def write(stem: Path) -> Path:
        path = stem.with_suffix(suffix)
        path.write_bytes(data)
        return path

    return write


def xlsx(
    table: Table = (HEADER, *ROWS), change: Callable[[Any, Any], None] | None = None
) -> Callable[[Path], Path]:
    """A workbook; `change` is given it and its sheet "Data"."""

    def write(stem: Path) -> Path:
        book = openpyxl.Workbook()
        sheet = book.active
        sheet.title = "Data"
        for row in table:
            sheet.append(list(row))
        if change:
            change(book, sheet)
        book.save(stem.with_suffix(".xlsx"))
        return stem.with_suffix(".xlsx")

    return write


def with_result(stem: Path) -> Path:
    """A workbook whose labels are formulas with saved results, as a spreadsheet writes them."""
    table = [HEADER, *([a, f'=IF(1=1,"{b}","")', c, d] for a, b, c, d in ROWS)]
    path = xlsx(table)(stem)
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    name = "xl/worksheets/sheet1.xml"
    parts[name] = re.sub(
        rb'<c r="(B\d+)"><f>(IF\(1=1,"(\w+)",""\))</f><v ?/></c>',
        rb'<c r="\1" t="str"><f>\2</f><v>\3</v></c>',
        parts[name].replace(b"&quot;", b'"'),
    )
    assert parts[name].count(b't="str"') == 6
    with zipfile.ZipFile(path, "w") as book:
        for part, data in parts.items():
            book.writestr(part, data)
    return path


def many_rows(table: Table, path: Path) -> None:
    """A large workbook, written by hand because openpyxl takes a minute."""
    xlsx()(path.with_suffix(""))
    with zipfile.ZipFile(path) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    cells = (
        f'<c r="{"ABCD"[column]}{row}" t="str"><v>{value}</v></c>'
        for row, values in enumerate(table, start=1)
        for column, value in enumerate(values)
    )
    rows = (f'<row r="{row}">{"".join(islice(cells, 4))}</row>' for row in range(1, len(table) + 1))
    parts["xl/worksheets/sheet1.xml"] = re.sub(
        rb"<sheetData>.*</sheetData>",
        f"<sheetData>{''.join(rows)}</sheetData>".encode(),
        parts["xl/worksheets/sheet1.xml"],
    )
    with zipfile.ZipFile(path, "w") as book:
        for name, data in parts.items():
            book.writestr(name, data)


def pq(**columns: Any) -> Callable[[Path], Path]:
    def write(stem: Path) -> Path:
        plain = {name: [row[at] for row in ROWS] for at, name in enumerate(HEADER)}
        parquet.write_table(pyarrow.table({**plain, **columns}), stem.with_suffix(".parquet"))
        return stem.with_suffix(".parquet")

    return write


def other_sheet(title: str, table: Table, state: str = "visible") -> Callable[[Any, Any], None]:
    def change(book: Any, _: Any) -> None:
        sheet = book.create_sheet(title, 0)
        sheet.sheet_state = state
        for row in table:
            sheet.append(list(row))
        book.active = 1

    return change


def hide_data(book: Any, sheet: Any) -> None:
    other_sheet("Cover", [["Study of the liver"]])(book, sheet)
    sheet.sheet_state = "hidden"


def title_above(_: Any, sheet: Any) -> None:
    sheet.insert_rows(1, 2)
    sheet["A1"] = "Ultrasound study, 2024"
    sheet.merge_cells("A1:D1")


def merged_header(_: Any, sheet: Any) -> None:
    """Groups of columns above their names, as in many exports."""
    sheet.insert_rows(1)
    sheet["A1"], sheet["C1"] = "Imaging", "Study"
    sheet.merge_cells("A1:B1")
    sheet.merge_cells("C1:D1")


def header_in_two_rows(_: Any, sheet: Any) -> None:
    sheet.insert_rows(1)
    sheet["A1"], sheet["A2"] = "image", None
    sheet.merge_cells("A1:A2")


def merged_group(_: Any, sheet: Any) -> None:
    sheet.merge_cells("D2:D3")


def far_cell(_: Any, sheet: Any) -> None:
    sheet.cell(1_048_576, 3).font = Font(bold=True)
    sheet.cell(900_000, 2, "  ")


def filtered(_: Any, sheet: Any) -> None:
    sheet.row_dimensions[3].hidden = True


def with_columns(*more: tuple[str, Callable[[int], Any]], table: Table = ROWS) -> Table:
    """The table with further columns in front of the others."""
    head = [*(name for name, _ in more), *HEADER]
    return [head, *([value(n) for _, value in more] + [*row] for n, row in enumerate(table))]


def changed(row: int, column: int, value: Any) -> Table:
    table = [[*one] for one in (HEADER, *ROWS)]
    table[row][column] = value
    return table


RENAMED = [
    ["File  name", "Age (y), sex", "Final diagnosis", "Part", "Patient ID "],
    *([a, "63,5", b, c, d] for a, b, c, d in ROWS),
]
NAMES = "image=File name,label=Final diagnosis,split=Part,group=Patient ID"
WINDOWS = [HEADER, *([a.replace("/", "\\"), b, c, d] for a, b, c, d in ROWS)]
FORMULAS = [HEADER, *([a, f'=LOWER("{b}")', c, d] for a, b, c, d in ROWS)]


class Case(NamedTuple):
    """A table, the words said of it, and what comes of it."""

    name: str
    write: Callable[[Path], Path]
    said: Mapping[str, Any] = MappingProxyType({})
    note: str = ""
    like: Sequence[Sequence[str]] = ROWS


READ = [
    Case("plain", csv()),
    Case("byte order mark", csv(encoding="utf-8-sig")),
    Case("semicolons", csv(separator=";")),
    Case("tabs", csv(separator="\t", suffix=".tsv")),
    Case("Excel's sep line", csv(separator=";", before="sep=;\r\n", end="\r\n")),
    Case("UTF-16 with tabs", csv(separator="\t", encoding="utf-16")),
    Case("UTF-16 big endian", csv(separator=";", before="\ufeff", encoding="utf-16-be")),
    Case("line ends of old Macs", csv(end="\r")),
    Case(
        "decimal commas",
        csv(with_columns(("depth", lambda n: f"{n},5"), ("Größe", lambda n: "1.234,56")), ";"),
    ),
    Case(
        "quoted remarks over lines",
        csv(with_columns(("remark", lambda n: '"seen twice,\nlesion 7 mm; ""?"""'))),
    ),
    Case("own names with blanks", csv(RENAMED, ";"), {"columns": [NAMES]}),
    Case(
        "own names, capitals, no-break space",
        csv([["file\u00a0NAME", *RENAMED[0][1:]], *RENAMED[1:]], ";"),
        {"columns": ["image=file name", "label=final diagnosis,split=PART,group=Patient ID"]},
    ),
    Case("empty rows between and below", csv(end="\n\n", after=",,,\n,,,\n \n")),
    Case("empty columns at the right", csv([[*row, "", ""] for row in (HEADER, *ROWS)], ";")),
    Case("title lines", csv(before="Study of the liver;;;\n;;;\n", separator=";"), note="line 3"),
    Case("Windows slashes", csv(WINDOWS)),
    Case("columns of no interest twice", csv(with_columns(*[("x", lambda n: n)] * 2))),
    Case("floats as labels", csv([HEADER, *NUMBERED]), like=NUMBERED),
    Case("workbook", xlsx()),
    Case("workbook with a merged title", xlsx(change=title_above), note="row 3"),
    Case("workbook with merged groups of columns", xlsx(change=merged_header), note="row 2"),
    Case(
        "workbook with several sheets",
        xlsx(change=other_sheet("Codes", [["code", "meaning"], [1, "benign"]])),
        note="sheet 'Data' is read, not 'Codes'",
    ),
    Case(
        "workbook with a hidden copy",
        xlsx(change=other_sheet("Old", [HEADER, *ROWS[::-1]], "hidden")),
        note="sheet 'Data' is read, not 'Old'",
    ),
    Case(
        "workbook, sheet by name",
        xlsx(change=other_sheet("Old", [HEADER, *ROWS[::-1]])),
        {"sheet": "Data"},
    ),
    Case(
        "workbook with numbers as floats",
        xlsx([HEADER, *([a, float(b), c, float(d)] for a, b, c, d in NUMBERED)]),
        like=NUMBERED,
    ),
    Case(
        "workbook with dates of no interest",
        xlsx(with_columns(("date", lambda n: datetime.date(2024, 3, n + 1)))),
    ),
    Case("workbook that claims a million rows", xlsx(change=far_cell)),
    Case("workbook with a filter", xlsx(change=filtered), note="1 rows that the sheet hides"),
    Case("workbook with formulas and results", with_result),
    Case(
        "workbook that begins in column C",
        xlsx([["", "", *row] for row in ([], HEADER, *ROWS)], filtered),
    ),
    Case("Parquet", pq(remark=[["a", "list"]] * 6, thumbnail=[b"\x00\x01"] * 6)),
    Case(
        "Parquet of categories and floats",
        pq(
            label=pyarrow.array([float(row[1]) for row in NUMBERED]),
            split=pyarrow.array([row[2] for row in ROWS]).dictionary_encode(),
            group=pyarrow.array([int(row[3]) for row in ROWS]),
        ),
        like=NUMBERED,
    ),
]

REFUSED = [
    Case("Latin-1", csv(changed(1, 1, "gutärtig"), encoding="latin-1"), note="not in UTF-8 .*save"),
    Case("UTF-16 without a mark", csv(encoding="utf-16-le"), note="zero bytes.*save it as CSV"),
    Case(
        "missing label", csv(changed(2, 1, "#N/A")), note=r"line 3: label '#N/A' is what programs"
    ),
    Case("missing label in a workbook", xlsx(changed(2, 1, "#N/A")), note="row 3: label '#N/A'"),
    Case("empty group", xlsx(changed(3, 3, None)), note="row 4: group empty"),
    Case("formulas without results", xlsx(FORMULAS), note="row 2: label holds a formula without"),
    Case("merged patients", xlsx(change=merged_group), note="row 3: group is part of merged cells"),
    Case(
        "header in two merged rows", xlsx(change=header_in_two_rows), note="lacks the column label"
    ),
    Case(
        "words that became dates",
        xlsx(changed(1, 1, datetime.datetime(2024, 4, 3))),
        note="row 2: label '2024-04-03' is a date or time, which spreadsheets make",
    ),
    Case("column twice", csv([["label", *HEADER], *(["x", *r] for r in ROWS)]), note="label twice"),
    Case("two sheets", xlsx(change=other_sheet("Old", [HEADER, *ROWS])), note="2 sheets .*--sheet"),
    Case("only a hidden sheet", xlsx(change=hide_data), note="only the hidden sheet 'Data'"),
    Case("no such sheet", xlsx(), {"sheet": "data"}, "no sheet 'data'; it has 'Data'"),
    Case("a sheet of a CSV file", csv(), {"sheet": "Data"}, "has no sheets; leave out --sheet"),
    Case(
        "other names",
        csv(RENAMED, ";"),
        note="lacks the column image; it has 'File  name', .*--columns image=NAME",
    ),
    Case("a name that is not there", csv(), {"columns": ["label=diagnosis"]}, "lacks .* diagnosis"),
    Case("no split", csv([row[:2] for row in (HEADER, *ROWS)]), note="`ubench data split` draws"),
    Case(
        "another word for a part", csv(changed(1, 2, "Train")), note="split 'Train' is not one of"
    ),
    Case("1 and 1.0", csv(changed(2, 1, "1.0")[:2] + changed(2, 1, "1")[2:3]), note="validation"),
    Case(
        "long numbers, shortened", csv(changed(1, 3, "1.23457E+14")), note="spreadsheet shortened"
    ),
    Case(
        "long numbers, cut", xlsx(changed(1, 3, 1234567890123456789.0)), note="more than 15 digits"
    ),
    Case("full Windows path", csv(changed(1, 0, r"C:\scans\0.pgm")), note="Windows computer.*--im"),
    Case("decimal comma among commas", csv(changed(1, 1, "1,5")), note="line 2: 5 cells where"),
    Case("old Excel", raw(b"\xd0\xcf\x11\xe0" + bytes(600), ".xls"), note="save it as .xlsx"),
    Case("password", raw(b"\xd0\xcf\x11\xe0" + bytes(600), ".xlsx"), note="password"),
    Case("CSV called .xlsx", csv(suffix=".xlsx"), note="damaged or not an Excel workbook"),
    Case("workbook called .csv", raw(b"PK\3\4" + bytes(60), ".csv"), note="rename it to .xlsx"),
    Case("web page", raw(b"<html><table><tr><td>image", ".csv"), note="is a web page"),
    Case("OpenDocument", raw(b"PK\3\4", ".ods"), note="save it as .xlsx or .csv"),
    Case("JSON", raw(b"[]", ".json"), note="save it as .xlsx or .csv"),
    Case("damaged Parquet", raw(b"PAR1" + bytes(40), ".parquet"), note="not a Parquet file"),
    Case("nothing", raw(b"", ".csv"), note="lacks the column image; it has none"),
    Case("empty workbook", xlsx([]), note="lacks the column image; it has none"),
    Case("only a header", xlsx([HEADER]), note="no rows below its header"),
    Case("quotes", csv(changed(1, 1, '"benign')), note=r"line \d: not CSV .*fix the quotes"),
    Case("unclear words", csv(), {"columns": ["image"]}, "write ROLE=NAME once for each"),
    Case("unknown role", csv(), {"columns": ["lable=x"]}, "did you mean 'label'"),
]


def reading_of(said: Mapping[str, Any]) -> Reading:
    words = {**said, **({"columns": columns_of(said["columns"])} if "columns" in said else {})}
    return Reading.of(**words)


def named(cases: list[Case]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def stem(place: Path, name: str) -> Path:
    return place / re.sub(r"\W+", "_", name)


@named(READ)
def test_tables_that_are_read(place: Path, case: Case) -> None:
    path = case.write(stem(place, case.name))
    task = tasks.load(str(path), reading=reading_of(case.said))
    plain = csv([HEADER, *case.like])(place / "expected")
    assert task.fingerprint == tasks.load(str(plain)).fingerprint
    assert case.note in " ".join(task.notes)
    if not case.note and case.name != "workbook that begins in column C":
        assert task.notes == ()


@named(REFUSED)
def test_tables_that_are_refused(place: Path, case: Case) -> None:
    path = case.write(stem(place, case.name))
    with pytest.raises(UserError, match=case.note) as caught:
        tasks.load(str(path), reading=reading_of(case.said))
    told = str(caught.value)
    assert "\n" not in told
    assert len(told) < 700
    assert path.name in told or "--columns" in told


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_forty_thousand_rows(place: Path, suffix: str) -> None:
    table = [[f"im/{n}.pgm", str(n % 3), "train", str(n // 4)] for n in range(MANY)]
    path = place / f"many{suffix}"
    if suffix == ".csv":
        csv([HEADER, *table])(place / "many")
    else:
        many_rows([HEADER, *table], path)
    listing = tables.read(path, lambda cells: "image" in cells)
    assert [cells for _, cells in listing.rows] == table


def test_every_row_of_many_is_a_sample(place: Path, tmp_path: Path) -> None:
    for number in range(2000):
        os.link(place / "im" / "0.pgm", tmp_path / f"{number}.pgm")
    rows = [[f"{n}.pgm", "ab"[n % 2], ("train", "val", "test")[n % 3]] for n in range(2000)]
    own = manifest.listed(csv([HEADER[:3], *rows])(tmp_path / "many"))
    assert [(one.image.name, one.label) for one in own.samples] == [(a, b) for a, b, _ in rows]


def test_a_package_that_is_missing_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix, package, write in ((".xlsx", "openpyxl", xlsx()), (".parquet", "pyarrow", pq())):
        path = write(place / "missing")
        monkeypatch.setitem(__import__("sys").modules, package, None)
        with pytest.raises(UserError, match=rf"missing{suffix} is .*`pip install {package}`"):
            tables.read(path, lambda cells: True)
        monkeypatch.undo()


def test_the_reader_gives_text(place: Path) -> None:
    values = [None, " a ", True, 3, 2.0, 0.1, float("nan"), datetime.time(8, 30)]
    shown = ["", "a", "TRUE", "3", "2", "0.1", "nan", "08:30:00"]
    assert [tables.text_of(value) for value in values] == shown


@given(st.binary(max_size=60) | st.text(";,\t\"'\r\n abeglmpsxiti", max_size=60))
def test_any_text_is_a_table_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        manifest.listed(path)
    assert "\n" not in str(caught.value)
