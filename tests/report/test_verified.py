"""What a results folder holds is believed only as far as it can be verified."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cells import failure, put, results

from ultrabench_eval.cells import Cell, Cells, Coordinates, Failure
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.merge import merge
from ultrabench_eval.report import regenerate, write

PLACE = "cells/good/aul/linear-paper-1-100-none-0.json"


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    made = Cells(tmp_path / "out")
    results(made, tasks=("aul", "mmotu"))
    write.write(made)
    return made


def pages(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.glob("*.*") if p.suffix in (".md", ".csv", ".tex")}


def edit(path: Path, change: Callable[[dict[str, Any]], None], seal: bool = False) -> None:
    content = json.loads(path.read_bytes())
    change(content)
    path.write_text(json.dumps(hashing.seal(content) if seal else content))


def set_score(content: dict[str, Any]) -> None:
    content["scores"]["macro_f1"][0] = 0.99


def widen(content: dict[str, Any]) -> None:
    content["intervals"]["macro_f1"][1] = 1.0


CHANGES = {
    "score": set_score,
    "interval": widen,
    "another metric": lambda c: c["scores"]["auroc"].__setitem__(0, 0.001),
    "seeds": lambda c: c["identity"].update(seeds=9),
    "a field less": lambda c: c.pop("classes"),
    "a field more": lambda c: c.update(more=1),
    "nan": lambda c: c["scores"]["macro_f1"].__setitem__(0, float("nan")),
    "a list": lambda c: c.update(scores=[]),
    "coordinates": lambda c: c["coordinates"].update(task="mmotu"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_cell_is_refused_and_shown_as_an_error(cells: Cells, change: str) -> None:
    path = cells.out / PLACE
    edit(path, CHANGES[change])
    with pytest.raises(
        UserError, match=r"good/aul/.*json is damaged .*; run the same `ubench run`"
    ):
        regenerate.read(cells)
    write.write(cells)  # what `run` does at its end: good cells survive
    page = (cells.out / "leaderboard.md").read_text()
    assert "error" in page
    assert str(path) in page
    assert "99.0" not in page


@pytest.mark.parametrize("content", [b"", b"null", b"[]", b"{", b"[" * 100_000, b"\xff\xfe", b"{}"])
def test_a_cell_that_is_no_cell_is_told(cells: Cells, content: bytes) -> None:
    (cells.out / PLACE).write_bytes(content)
    with pytest.raises(UserError, match="is damaged"):
        regenerate.read(cells)


def test_a_folder_with_the_name_of_a_cell_is_told(cells: Cells) -> None:
    (cells.out / PLACE).unlink()
    (cells.out / PLACE).mkdir()
    with pytest.raises(UserError, match="is damaged"):
        regenerate.read(cells)


def test_two_cells_that_were_swapped_are_told(cells: Cells) -> None:
    one, other = cells.out / PLACE, cells.out / PLACE.replace("good", "fair")
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    with pytest.raises(UserError, match=r"holds another result, (fair|good)/aul"):
        regenerate.read(cells)
    failed = [e for e in cells.gather() if isinstance(e, Failure)]
    assert {e.coordinates.model for e in failed} == {"good", "fair"}


def test_predictions_of_another_model_are_refused(cells: Cells) -> None:
    one, other = (
        (cells.out / PLACE.replace("good", name)).with_suffix(".safetensors")
        for name in ("good", "fair")
    )
    assert one.read_bytes() != other.read_bytes()
    shutil.copy(other, one)  # whole, and of the right shape
    with pytest.raises(UserError, match=r"good/aul/.*safetensors is damaged \(its digest"):
        regenerate.read(cells)


def copy_cell(source: Cells, target: Cells, place: str = PLACE) -> None:
    for suffix in (".json", ".safetensors"):
        path = (target.out / place).with_suffix(suffix)
        shutil.copy((source.out / place).with_suffix(suffix), path)


def test_a_whole_cell_of_another_run_is_marked(tmp_path: Path, cells: Cells) -> None:
    other = Cells(tmp_path / "other")
    put(other, "good", "aul", np.tile(np.arange(60) % 2, (3, 1)), np.arange(60) % 2)
    copy_cell(other, cells)
    write.write(cells)
    page = (cells.out / "leaderboard.md").read_text()
    assert "100.0 ± 0.0 [not verified]" in page
    assert "**100.0" not in page
    assert "1 result is not verified (not the one that was written here last)" in page
    assert "good on aul (linear probe, protocol paper-1)" in page
    assert "not verified" in (cells.out / "leaderboard.tex").read_text()
    assert "Not verified" in (cells.out / "leaderboard.html").read_text()
    assert "ok (not verified)" in (cells.out / "leaderboard.csv").read_text()


def test_an_older_cell_that_is_put_back_is_marked(tmp_path: Path, cells: Cells) -> None:
    older = Cells(tmp_path / "older")
    shutil.copytree(cells.out, older.out)
    put(cells, "good", "aul", np.tile(np.arange(60) % 2, (3, 1)), np.arange(60) % 2)
    copy_cell(older, cells)
    (entry,) = [e for e in cells.gather() if isinstance(e, Cell) and e.doubt]
    assert entry.coordinates.model == "good"


def test_a_cell_behind_an_error_that_was_removed_is_marked(cells: Cells) -> None:
    path = cells.out / PLACE
    at = json.loads(path.read_bytes())["coordinates"]
    cells.fail(failure("good", "aul").model_copy(update={"coordinates": Coordinates(**at)}))
    path.with_suffix(".error.json").unlink()
    (entry,) = [e for e in cells.gather() if isinstance(e, Cell) and e.doubt]
    assert entry.coordinates.model == "good"


def test_a_cell_that_is_gone_is_told(cells: Cells) -> None:
    for suffix in (".json", ".safetensors"):
        (cells.out / PLACE).with_suffix(suffix).unlink()
    write.write(cells)
    page = (cells.out / "leaderboard.md").read_text()
    assert "1 result is missing from cells/" in page
    assert "good/aul/linear-paper-1-100-none-0.json" in page


def test_what_a_run_writes_while_pages_are_made_is_not_missing(cells: Cells) -> None:
    entries = cells.gather()
    put(cells, "late", "aul", np.tile(np.arange(60) % 2, (3, 1)), np.arange(60) % 2)
    cells.fail(failure("later", "aul"))
    assert cells.gone(entries) == []


def test_a_cell_that_is_gone_is_told_of_a_merged_folder(tmp_path: Path, cells: Cells) -> None:
    for suffix in (".json", ".safetensors"):
        (cells.out / PLACE).with_suffix(suffix).unlink()
    merge(tmp_path / "merged", [cells.out])
    page = (tmp_path / "merged" / "leaderboard.md").read_text()
    assert "1 result is missing from cells/" in page
    assert "good/aul/linear-paper-1-100-none-0.json" in page


def test_what_another_folder_has_is_not_missing_of_a_merged_one(
    tmp_path: Path, cells: Cells
) -> None:
    shutil.copytree(cells.out, tmp_path / "whole")
    for suffix in (".json", ".safetensors"):
        (cells.out / PLACE).with_suffix(suffix).unlink()
    merge(tmp_path / "merged", [cells.out, tmp_path / "whole"])
    assert "missing" not in (tmp_path / "merged" / "leaderboard.md").read_text()


def test_an_interval_of_an_earlier_method_is_told(cells: Cells) -> None:
    def of_before(content: dict[str, Any]) -> None:
        del content["identity"]["intervals"]

    path = cells.out / PLACE
    edit(path, of_before, seal=True)
    at = json.loads(path.read_bytes())
    cells._note(Coordinates(**at["coordinates"]), at["sha256"])  # as if written by that version
    doubted = [e for e in cells.gather() if isinstance(e, Cell) and e.doubt]
    assert [e.doubt for e in doubted] == ["its interval was made by an earlier method"]


def as_before(out: Path) -> None:
    """A folder as the version before wrote it: no digests, no ledger."""
    for path in out.glob("*/**/*.json"):
        edit(path, lambda content: content.pop("sha256"))
    (out / "cells" / "ledger.jsonl").unlink()


def test_a_folder_of_the_version_before_is_shown_and_marked(cells: Cells) -> None:
    scores = [line.split("|")[2].strip(" *abc") for line in _rows(cells.out)]
    as_before(cells.out)
    regenerate.regenerate(cells, cells.out)
    marked = [line.split("|")[2].strip(" *abc") for line in _rows(cells.out)]
    assert marked == [f"{score} [not verified]" for score in scores]
    page = (cells.out / "leaderboard.md").read_text()
    assert "6 results are not verified (written by an earlier version" in page


def _rows(out: Path) -> list[str]:
    lines = (out / "leaderboard.md").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("## Macro F1"))
    return [line for line in lines[start : start + 8] if "±" in line and "|" in line][:3]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(groups=None),
        lambda c: c["names"].reverse(),
        lambda c: c["labels"].__setitem__(0, 1 - c["labels"][0]),
        lambda c: c["labels"].__setitem__(0, None),
        lambda c: c.update(labels=[]),
        lambda c: c["classes"].reverse(),
    ],
)
def test_changed_test_images_are_refused(
    cells: Cells, change: Callable[[dict[str, Any]], None]
) -> None:
    edit(cells.out / "tasks" / "tmmotu.json", change)
    with pytest.raises(UserError, match=r"tmmotu.json is damaged .*run the same `ubench run`"):
        regenerate.read(cells)
    (cells.out / ".report.json").unlink()
    write.write(cells)
    assert "tmmotu.json is damaged" in (cells.out / "statistics.md").read_text()


def test_test_images_of_another_task_are_refused(cells: Cells) -> None:
    shutil.copy(cells.out / "tasks" / "taul.json", cells.out / "tasks" / "tmmotu.json")
    with pytest.raises(UserError, match=r"tmmotu\.json holds the test images of another task"):
        regenerate.read(cells)


def test_what_is_doubted_stays_doubted_when_it_is_merged(tmp_path: Path, cells: Cells) -> None:
    as_before(cells.out)
    merge(tmp_path / "merged", [cells.out])
    entries = Cells(tmp_path / "merged").gather()
    assert len(entries) == 6
    assert all(isinstance(e, Cell) and e.doubt for e in entries)


def test_a_ledger_that_was_cut_off_goes_on(cells: Cells) -> None:
    ledger = cells.out / "cells" / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-20])
    put(cells, "new", "aul", np.tile(np.arange(60) % 2, (3, 1)), np.arange(60) % 2)
    doubted = [e.coordinates.model for e in cells.gather() if isinstance(e, Cell) and e.doubt]
    assert doubted == ["pixels"]  # the last one of before


def test_only_files_of_ours_are_removed_and_none_behind_a_link(
    tmp_path: Path, cells: Cells
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "keep.txt").write_text("mine")
    (cells.out / "mine.txt").write_text("mine")
    (cells.out / "pairs.csv").write_text("edited by hand")
    known = json.loads((cells.out / ".report.json").read_bytes())
    for name in ("mine.txt", "figures/keep.txt", "../elsewhere/keep.txt"):
        known["files"][name] = hashing.digest_bytes(b"mine")
    known["made_of"] = "something else"
    (cells.out / ".report.json").write_text(json.dumps(known))
    write.write(cells)
    assert (cells.out / "mine.txt").read_text() == "mine"
    assert (elsewhere / "keep.txt").read_text() == "mine"
    shutil.rmtree(cells.out / "figures", ignore_errors=True)
    (cells.out / "figures").symlink_to(elsewhere)
    (cells.out / ".report.json").unlink()
    with pytest.raises(UserError, match="figures is a link"):
        write.write(cells)
    assert [p.name for p in elsewhere.iterdir()] == ["keep.txt"]


@pytest.mark.usefixtures("every_format")
def test_names_are_neither_markup_nor_formulas(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    hostile = ("=cmd|' /C calc'!A0", "<script>alert(1)</script>", "[x](javascript:alert(1))",
               "![p](http://x/y.png)")  # fmt: skip
    results(cells, models=hostile, tasks=("aul",))
    write.write(cells)
    page = (tmp_path / "leaderboard.md").read_text()
    assert "<script" not in page
    assert "](javascript" not in page
    assert "](http" not in page
    for name in ("leaderboard.csv", "ranks.csv", "pairs.csv"):
        for line in (tmp_path / name).read_text().splitlines():
            assert not any(cell.startswith(("=", '"=')) for cell in line.split(","))


def test_what_was_written_after_it_was_read_is_on_the_pages(cells: Cells) -> None:
    """`ubench report` reads, waits for its turn to write, and must not write what was."""
    entries = regenerate.read(cells)
    assert cells.as_gathered()
    Cells(cells.out).fail(failure("new", "aul", "broken since"))
    assert not cells.as_gathered()
    regenerate.regenerate(cells, cells.out, entries=entries)
    assert "broken since" in (cells.out / "leaderboard.md").read_text()
