"""From 60 DICOM files and a spreadsheet to a result, by the commands that the guide prints."""

from __future__ import annotations

import csv
import shlex
from collections import Counter
from pathlib import Path

import pytest
from dicom_files import make_examinations
from doc_commands import COMMANDS, Run
from test_cli import ubench
from test_docs import blocks

PAGE = "docs/add_your_data.md"


def printed() -> list[str]:
    """The commands of the guide's first chapter, in their order."""
    found = [command for one in blocks(PAGE) if one.language == "sh" for command in one.commands]
    return found[: next(n for n, command in enumerate(found) if command.startswith("pip install"))]


def smaller(command: str) -> list[str]:
    """Its words, with fewer models where it measures."""
    how = COMMANDS[command]
    assert isinstance(how, Run)
    words = shlex.split(command)
    return how.words(words) if words[1] in ("run", "predict") else words


def test_from_dicom_files_and_a_spreadsheet_to_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_examinations(tmp_path)
    (tmp_path / "new_dicom").symlink_to("dicom")
    monkeypatch.chdir(tmp_path)
    assert [command.split()[1:3] for command in printed()] == [
        ["data", "split"],
        ["data", "check"],
        ["run", "--model"],
        ["report", "runs/my_scans"],
        ["predict", "runs/my_scans"],
    ]
    told = []
    for command in printed():
        done = ubench(*smaller(command)[1:], UBENCH_CACHE=str(tmp_path / "cache"))
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        told.append([line.rstrip() for line in done.stdout.splitlines()])
    shown = next(one.text for one in blocks(PAGE) if one.language == "text")
    assert told[0] == shown.splitlines()
    assert told[1][-1] == "nothing that would make a result worthless was found"
    rows = list(csv.DictReader(Path("my_scans.csv").read_text().splitlines()))
    assert len(rows) == 60
    assert Counter(row["frame"] for row in rows) == {"": 40, "2": 20}
    assert Counter((row["label"], row["split"]) for row in rows) == {
        (label, split): count
        for label in ("normal", "lesion")
        for split, count in (("train", 18), ("validation", 6), ("test", 6))
    }
    scores = list(csv.DictReader(Path("runs/my_scans/leaderboard.csv").read_text().splitlines()))
    found = {row["model"]: row for row in scores if row["metric"] == "macro_f1"}
    assert found.keys() == {"mae-nano", "pixels", "border"}
    assert all((one["n_test"], one["status"]) == ("12", "ok") for one in found.values())
    assert float(found["pixels"]["mean"]) > float(found["border"]["mean"])
    page = Path("runs/my_scans/leaderboard.md").read_text()
    assert "MONOCHROME1 is inverted" in page
    assert "by the window in the file (2048/4096)" in page
    assert any(line.startswith("| mae-nano ") for line in told[3])  # which encoder?
    assert "PAT 0" not in page  # names of patients stay at home
    predicted = list(csv.DictReader(Path("new.csv").read_text().splitlines()))
    assert len(predicted) == 60
    assert {row["prediction"] for row in predicted} <= {"lesion", "normal"}
    for row in predicted:
        assert float(row["p_lesion"]) + float(row["p_normal"]) == pytest.approx(1, abs=1e-4)
