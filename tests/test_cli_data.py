"""`ubench data ...` and `ubench tasks`, as typed; in this process, for their time."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import make_manifest
from dicom_files import make_examinations
from typer.testing import CliRunner, Result

import tasks as task_zoo
from tasks.obtain import download
from ultrabench_eval import cli
from ultrabench_eval.core.errors import UserError


def ubench(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.app, [str(word) for word in words])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root with a small GBCU whose images come from a manifest's."""
    make_manifest(tmp_path / "images.csv", count=60)
    folder = tmp_path / "root" / "gbcu"
    (folder / "imgs").mkdir(parents=True)
    lines = [f"im{n}.jpg,{n % 3}\n" for n in range(60)]
    for n in range(60):
        shutil.copy(tmp_path / f"images_images/{n}.png", folder / f"imgs/im{n}.jpg")
    (folder / "train.txt").write_text("".join(lines[:45]))
    (folder / "test.txt").write_text("".join(lines[45:]))
    return tmp_path / "root"


def test_prepare_then_check_then_a_changed_file(root: Path) -> None:
    done = ubench("data", "prepare", "gbcu", "--data", root)
    assert done.exit_code == 0, done.output
    assert "no problems" in done.output
    assert "paper, Table 4    1019   114         122" in done.output
    assert str(root / "prepared/gbcu/splits.csv") in done.output
    assert ubench("data", "check", "gbcu", "--data", root).exit_code == 0
    shutil.copy(root / "gbcu/imgs/im3.jpg", root / "gbcu/imgs/im6.jpg")
    (root / "gbcu/imgs/im7.jpg").write_bytes(b"x")
    done = ubench("data", "check", "gbcu", "--data", root)
    assert done.exit_code == 1
    assert re.search(r"problem: imgs/im6\.jpg is not the image of .*splits\.csv", done.output)
    assert re.search(r"problem: cannot read image .*im7\.jpg", done.output)


def test_check_of_a_manifest_needs_no_data_root(tmp_path: Path) -> None:
    done = ubench("data", "check", make_manifest(tmp_path / "mine.csv"))
    assert "no problems" in done.output
    assert "problem: class 'dark' has 2 patients in test; with fewer than 5" in done.output
    assert done.exit_code == 1


def test_split_writes_a_manifest_and_never_over_a_file(tmp_path: Path) -> None:
    make_examinations(tmp_path, 30)
    table, out = tmp_path / "list.xlsx", tmp_path / "list_split.csv"
    said = [
        "--columns",
        "image=File,label=Diagnosis,group=Patient ID",
        "--images",
        tmp_path / "dicom",
    ]
    done = ubench("data", "split", table, *said)
    assert isinstance(done.exception, UserError)
    assert "10 image(s) of" in str(done.exception)
    assert "hold several frames; say which with --frames" in str(done.exception)
    assert not out.exists()
    done = ubench("data", "split", table, *said, "--frames", "all", "--window", "range")
    assert done.exit_code == 0, done.output
    assert re.search(r"lesion +13 of 9 +5 of 3 +7 of 3", done.output)
    assert "warning: class 'lesion' has 3 patients in validation, fewer than 5" in done.output
    assert f"next: ubench data check {out} --window range" in done.output
    written = out.read_bytes()
    done = ubench("data", "split", table, *said, "--frames", "all")
    assert "is there already; give another --out, or say --overwrite" in str(done.exception)
    assert out.read_bytes() == written
    done = ubench("data", "split", table, *said, "--frames", "1", "--overwrite", "--seed", "1")
    assert done.exit_code == 0, done.output
    assert out.read_bytes() != written
    done = ubench("data", "split", out, "--out", out, "--overwrite")
    assert "is the file that is read" in str(done.exception)
    done = ubench("data", "split", out, "--out", tmp_path / "more.csv")
    assert "has the column split already, so nothing is drawn" in str(done.exception)
    done = ubench(
        *("data", "split", table, "--columns", "image=File,label=Diagnosis", *said[2:]),
        *("--frames", "1", "--out", tmp_path / "more.csv"),
    )
    assert "not known which images of" in str(done.exception)
    assert "--columns group=NAME" in str(done.exception)
    assert ubench("tasks", out).exit_code == 0
    assert not (tmp_path / "more.csv").exists()


def test_words_for_own_data_need_own_data(root: Path) -> None:
    for words in (["data", "check", "gbcu", "--data", root], ["tasks", "gbcu"], ["tasks"]):
        done = ubench(*words, "--frames", "first")
        assert "are for tables and folders of your own" in str(done.exception)


def test_splits_are_shown_written_and_used_again(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "gbcu_splits.csv"
    done = ubench("data", "splits", "gbcu", "--data", root, "--out", file)
    assert done.exit_code == 0, done.output
    assert "gbcu@rule: the same as published" in done.output
    assert "UltraBench 1.0.1" in done.output
    rows = list(csv.DictReader(file.open()))
    assert len(rows) == 60
    assert all(len(row["sha256"]) == 64 for row in rows)
    one = task_zoo.load("gbcu", root)
    assert task_zoo.load(f"gbcu@{file}", root).fingerprint == one.fingerprint
    assert one.fingerprint in done.output


def test_pocus_says_why_its_counts_are_others(tmp_path: Path, capsys: Any) -> None:
    from tasks.pocus import CARD
    from ultrabench_eval.cli import show

    task = task_zoo.load(str(make_manifest(tmp_path / "mine.csv")))
    show.splits(_with_card(task, CARD), {}, [])
    assert "1468/177/454" in capsys.readouterr().out


def _with_card(task: Any, card: Any) -> Any:
    import dataclasses

    return dataclasses.replace(task, card=dataclasses.replace(card, classes=task.classes))


def test_list(root: Path) -> None:
    done = ubench("data", "list", "--data", root)
    assert done.exit_code == 0
    line = next(line for line in done.output.splitlines() if line.startswith("gbcu"))
    assert "there" in line
    assert "not redistributable; see the agreement" in line


def test_a_licence_is_told_alike_wherever_it_is_told() -> None:
    listed = json.loads(ubench("data", "list", "--json").output)
    cards = json.loads(ubench("tasks", "--json").output)
    terms = {one["name"]: one["licence"] for one in listed if one["name"] != "ultrabench_splits"}
    assert terms == {one["name"]: one["licence"] for one in cards if one["name"] in terms}
    assert terms.keys() == set(task_zoo.RELEASED)
    assert "no data root" in ubench("data", "list").output


def test_export_and_masks(root: Path, tmp_path: Path) -> None:
    done = ubench("data", "export", "gbcu", "--data", root, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out/gbcu/test.json").is_file()
    done = ubench("data", "masks", "gbcu", "--data", root, "--out", tmp_path / "m.png")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


def test_download_tells_the_steps_and_asks_for_consent(tmp_path: Path) -> None:
    for name, wanted in {
        "gbcu": "permanent member",
        "pocus": "--accept-license",
        "butterfly": "GrandHack",
        "nothing": "no source of 'nothing' is known; there are aul",
    }.items():
        done = ubench("data", "download", name, "--data", tmp_path)
        assert isinstance(done.exception, UserError)  # which main() turns into exit code 2
        assert wanted in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_download_says_what_is_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import prepare

    asked: list[tuple[object, Path, bool]] = []

    def fetch(source: object, folder: Path, *, accept: bool, progress: Any) -> list[Path]:
        asked.append((source, folder, accept))
        return []

    monkeypatch.setattr(prepare, "fetch", fetch)
    done = ubench("data", "download", "aul,ultrabench_splits", "--data", tmp_path)
    assert done.exit_code == 0, done.output
    assert [folder.name for _, folder, _ in asked] == ["aul", "ultrabench_splits"]
    assert asked[0][0] in download.SOURCES["aul"]
    assert done.output.count("next: ubench data prepare aul") == 1
    done = ubench("data", "download", "hc18-hc,psfhs", "--data", tmp_path)
    assert [folder.name for _, folder, _ in asked[2:]] == ["hc18", "psfhs"]
    assert "next: ubench data prepare hc18-hc " in done.output


def test_without_a_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UBENCH_DATA", raising=False)
    for command in ("prepare", "check", "splits", "download"):
        done = ubench("data", command, "aul")
        assert isinstance(done.exception, UserError)
        assert "--data ROOT" in str(done.exception)


def test_tasks_say_what_is_predicted_and_where_to_get_them() -> None:
    listed = ubench("tasks").output
    for wanted in ("8 classes", "mask, 3 regions", "mask, 1 region ", "number (mm)"):
        assert wanted in listed
    shown = ubench("tasks", "busi-seg").output
    assert "Put it into DATA/busi." in shown
    assert "classes" not in ubench("tasks", "hc18-hc").output
    for name in task_zoo.RELEASED:
        told = json.loads(ubench("tasks", name, "--json").output)["download"]
        assert told[-1].startswith("Terms of http"), name
    refused = str(ubench("data", "download", "camus-ef", "--data", "x").exception)
    assert "Put it into x/camus" in refused


def test_tasks_as_data_for_programs() -> None:
    listed = json.loads(ubench("tasks", "--json").output)
    assert [one["name"] for one in listed] == sorted(task_zoo.BUILT_IN)
    pocus = json.loads(ubench("tasks", "pocus", "--json").output)
    assert pocus["paper_counts"] == [1444, 177, 443]
    assert pocus["rule"] == {"by": "group", "seed": 42, "validation": 0.1, "test": 0.2}
    assert set(pocus["splits"]) == {"published", "rule"}
    shown = ubench("tasks", "pocus").output
    for wanted in ("Born et al.", "per file", "one patient can be on both sides", "video"):
        assert wanted in shown
    assert isinstance(ubench("tasks", "pokus").exception, UserError)
    assert isinstance(ubench("tasks", "pocus@nothing").exception, UserError)


def test_run_with_other_splits(root: Path, tmp_path: Path) -> None:
    """`TASK@HOW` and --splits reach the tables under their own names."""
    file = tmp_path / "mine.csv"
    ubench("data", "splits", "gbcu", "--data", root, "--out", file)
    common = ("--model", "image-stats", "--data", root, "--seeds", "1", "--cache", tmp_path / "c")
    common = (*common, "--partial")
    done = ubench("run", *common, "--task", f"gbcu,gbcu@{file}", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader((tmp_path / "out/leaderboard.csv").open()))
    scores = {row["task"]: row["mean"] for row in rows if row["metric"] == "macro_f1"}
    assert set(scores) == {"gbcu", "gbcu@mine"}
    assert scores["gbcu"] == scores["gbcu@mine"]
    done = ubench("run", *common, "--task", "gbcu", "--splits", "rule", "--out", tmp_path / "b")
    assert done.exit_code == 0, done.output
    assert "gbcu@rule" in (tmp_path / "b/leaderboard.csv").read_text()
    assert "images encoded: 0" in done.output
    done = ubench("run", *common, "--task", "gbcu@nothing", "--out", tmp_path / "d")
    assert isinstance(done.exception, UserError)
    assert "it has published, rule" in str(done.exception)
    assert not (tmp_path / "d").exists()
