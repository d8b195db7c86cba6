"""What the guard of a refactoring notices (`benchmarks/same_bytes.py`), and what it ignores."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import same_bytes

CELL = "run/cells/pixels/aul/knn.json"
FILES = {
    CELL: '{"scores": {"macro_f1": [0.25, 0.5]}, "seconds": {"probes": 1.5}, "sha256": "12"}',
    "run/cells/pixels/aul/knn.safetensors": "\xff weights",
    "run/cells/pixels/aul/linear.error.json": '{"reason": "too few", "traceback": "in line 7"}',
    "run/cells/ledger.jsonl": '{"place": "a", "sha256": "1"}\n{"place": "b", "sha256": "2"}\n',
    "run/.report.json": '{"made_of": "3", "findings": ["all tie"]}',
    "run/leaderboard.csv": "model,mean\npixels,25.0\n",
    "run/leaderboard.html": "<style>b {}</style><td data-value='25'>25.0 <b>±</b></td>",
    "terminal.txt": "images encoded: 12\nmean 25.0\n",
}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders with the same content."""
    for file, text in FILES.items():
        path = tmp_path / "old" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1" if file.endswith("safetensors") else "utf-8"))
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    return tmp_path / "old", tmp_path / "new"


def differences(sides: tuple[Path, Path]) -> list[same_bytes.Difference]:
    return list(filter(None, same_bytes.compare(*sides)))


def change(folder: Path, file: str, old: bytes, new: bytes) -> None:
    data = (folder / file).read_bytes()
    assert old in data
    (folder / file).write_bytes(data.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new", "place"),
    [
        (CELL, b"0.25", b"0.250", "line 1"),
        (CELL, b"0.5", b"0.6", "line 2"),
        ("run/cells/pixels/aul/knn.safetensors", b"weights", b"weighty", "line 1"),
        ("run/cells/pixels/aul/linear.error.json", b"few", b"many", "line 1"),
        ("run/cells/ledger.jsonl", b'"b"', b'"c"', "line 2"),
        ("run/.report.json", b"tie", b"lie", "line 1"),
        ("run/leaderboard.csv", b"25.0", b"25.1", "line 2"),
        ("run/leaderboard.csv", b"25.0\n", b"25.0", "line 3"),
        ("run/leaderboard.html", b"25.0", b"25.1", "line 2"),
        ("run/leaderboard.html", b"'25'", b"'26'", "line 1"),
        ("terminal.txt", b"25.0", b"25.1", "line 1"),
    ],
)
def test_a_changed_byte_is_found(
    sides: tuple[Path, Path], file: str, old: bytes, new: bytes, place: str
) -> None:
    change(sides[1], file, old, new)
    (found,) = differences(sides)
    assert (found.file, found.place) == (file, place)
    assert found.old != found.new


def test_only_what_the_lists_name_is_passed_over(sides: tuple[Path, Path]) -> None:
    for file, old, new in [
        (CELL, b"1.5", b"1.6"),
        (CELL, b'"12"', b'"13"'),
        ("run/cells/pixels/aul/linear.error.json", b"line 7", b"line 8"),
        ("run/cells/ledger.jsonl", b'"1"', b'"5"'),
        ("run/.report.json", b'"3"', b'"4"'),
        ("run/leaderboard.html", b"b {}", b"i {}"),
        ("terminal.txt", b"encoded: 12", b"encoded: 0"),
    ]:
        change(sides[1], file, old, new)
    (sides[1] / "run/cells/ledger.jsonl.lock").touch()
    assert differences(sides) == []
    assert len(list(same_bytes.compare(*sides))) == len(FILES)


def test_a_file_on_one_side_only_is_found(sides: tuple[Path, Path]) -> None:
    (sides[0] / "run/leaderboard.csv").unlink()
    (sides[1] / CELL).unlink()
    assert differences(sides) == [
        (CELL, "exists", "True", "False"),
        ("run/leaderboard.csv", "exists", "False", "True"),
    ]


def test_a_result_that_is_measured_again_is_found(sides: tuple[Path, Path]) -> None:
    shutil.copytree(sides[0] / "run", sides[0] / "partial")
    assert list(same_bytes.kept(sides[0] / "partial", sides[0] / "run")) == [None]
    text = (sides[0] / CELL).read_text()
    (sides[0] / CELL).write_text(text)
    (found,) = same_bytes.kept(sides[0] / "partial", sides[0] / "run")
    assert found is not None
    assert found.new == "measured again"
