"""`ubench run --model usrc-jepa --task all`, as people type it: what weights and data it takes."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import typer
from conftest import make_manifest
from test_cli import ubench

import model_zoo
import tasks as task_zoo
import ultrabench_eval
from tasks.release import SYNTHETIC_MARKER
from ultrabench_eval import loading
from ultrabench_eval.loading import NoData
from ultrabench_eval.plan import forecast


@pytest.fixture
def data(tmp_path: Path, phantom_root: Path) -> Path:
    """A data root with two of the eight tasks, and with the published lists of all."""
    root = tmp_path / "DATA"
    root.mkdir()
    for name in ("aul", "fatty_liver"):
        (root / name).symlink_to(phantom_root / name)
    shutil.copytree(phantom_root / "ultrabench_splits", root / "ultrabench_splits")
    (root / "ultrabench_splits" / "butterfly").mkdir()  # of the original lists too
    return root


def words(tmp_path: Path, *more: str) -> list[str]:
    out, cache = str(tmp_path / "out"), str(tmp_path / "cache")
    return ["run", "--seeds", "2", "--out", out, "--cache", cache, "--device", "cpu", *more]


# ---- models -------------------------------------------------------------------------------------


def test_models_made_here_stand_in_for_those_without_public_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    names, (told,) = loading.with_stand_ins(["usrc-jepa", "pixels", "us-jepa/mean"], {})
    assert names == ["usrc-jepa-nano", "pixels", "us-jepa-nano/mean"]
    assert "not public" in told
    assert "usrc-jepa-nano and us-jepa-nano/mean" in told
    assert "--weights usrc-jepa=PATH" in told
    both = ["usrc-jepa-nano", "usrc-jepa"]
    assert loading.with_stand_ins(both, {})[0] == ["usrc-jepa-nano"]
    for own in ("usrc-jepa", "all"):
        assert loading.with_stand_ins(["usrc-jepa"], {own: "x.pth"}) == (["usrc-jepa"], [])
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path))
    for name in ("usrc-jepa.pth", "usrc-jepa_2.pth"):  # the second time they are too many
        (tmp_path / name).write_bytes(b"")
        assert loading.with_stand_ins(["usrc-jepa"], {}) == (["usrc-jepa"], [])
    monkeypatch.setattr(model_zoo, "STAND_INS", {"urfm": "urfm-nano"})  # which is not there
    assert loading.with_stand_ins(["urfm"], {}) == (["urfm"], [])


def test_the_main_command_measures_them_under_their_own_name(tmp_path: Path, data: Path) -> None:
    done = ubench(
        *words(tmp_path, "--model", "usrc-jepa", "--task", "fatty_liver"), "--data", str(data)
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: the US-JEPA paper's ViT-B weights are not public, so ")
    for name in ("leaderboard.md", "leaderboard.csv", "leaderboard.tex"):
        text = (tmp_path / "out" / name).read_text()
        assert "usrc-jepa-nano" in text
        assert not re.search(r"usrc-jepa(?!-nano)", text)


# ---- tasks --------------------------------------------------------------------------------------


def test_all_is_every_task_whose_data_are_there(tmp_path: Path, data: Path) -> None:
    run = words(tmp_path, "--model", "pixels,image-stats", "--probe", "ridge", "--data", str(data))
    done = ubench(*run, "--task", "all")
    assert done.returncode == 0, done.stderr
    absent = ("busbra", "butterfly", "gbcu", "mmotu", "pocus", "tn5000")
    for name in absent:
        way = f"ubench data download {name} --data {data}"
        assert f"note: no data of {name}, which is left out: {way}" in done.stderr
    assert "error" not in done.stderr
    assert f"no data, so no mean over all tasks: {', '.join(absent)}" in done.stdout
    assert "mean of" not in done.stdout
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| pixels")]
    texts = [text.strip() for text in rows[0]]
    assert texts.count("no data") == len(absent)
    assert texts[-1] == ""  # the mean, of eight tasks
    assert str(tmp_path) not in page
    frame = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    status = frame[frame.task == "gbcu"].status.unique()
    assert list(status) == [
        "no data: not found in the data folder; get them: ubench data download gbcu --data DATA"
    ]
    again = ubench(*run, "--task", "all")
    assert (again.returncode, "images encoded: 0" in again.stdout) == (0, True)
    assert (tmp_path / "out" / "leaderboard.md").read_text() == page


def test_an_earlier_result_is_not_hidden_when_its_data_are_gone(tmp_path: Path, data: Path) -> None:
    run = words(tmp_path, "--model", "pixels", "--probe", "ridge", "--data", str(data))
    ubench(*run, "--task", "all")
    before = (tmp_path / "out" / "leaderboard.csv").read_text()
    (data / "fatty_liver").unlink()
    assert ubench(*run, "--task", "all").returncode == 0
    assert (tmp_path / "out" / "leaderboard.csv").read_text() == before


def test_a_task_that_is_named_must_be_there(tmp_path: Path, data: Path) -> None:
    run = words(tmp_path, "--model", "pixels", "--data", str(data))
    for named in ("gbcu", "all,gbcu", "all,gbcuu"):
        done = ubench(*run, "--task", named)
        assert done.returncode == 2
        assert "gbcu" in done.stderr
        assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_read_are_not_passed_over(tmp_path: Path, data: Path) -> None:
    (data / "gbcu").mkdir()
    (data / "gbcu" / "train.txt").write_text("im1.jpg,0\n")
    done = ubench(*words(tmp_path, "--model", "pixels", "--data", str(data), "--task", "all"))
    assert done.returncode == 2
    assert "gbcu" in done.stderr
    (data / "gbcu" / "train.txt").rename(data / "gbcu" / "GBCU.zip")  # not unpacked: not there
    planned = forecast("pixels", data=data, cache=tmp_path / "cache", timing=False)
    commands = {one.name: one.command for one in planned.missing}
    assert commands["gbcu"] == f"ubench data prepare gbcu --data {data}"


def test_data_beside_you_are_found(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.rename(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    done = ubench(*words(tmp_path, "--model", "pixels", "--task", "aul", "--probe", "ridge"))
    assert done.returncode == 0, done.stderr
    assert f"data are taken from {tmp_path / 'data'}" in done.stderr


def test_published_lists_are_no_data_of_a_task(data: Path) -> None:
    """They once made a root that holds them a root of BUTTERFLY."""
    assert task_zoo.names_at(data) == ["aul", "fatty_liver"]


def test_less_than_half_of_a_release_is_measured_on_request_only(
    tmp_path: Path, data: Path, phantom_root: Path
) -> None:
    (data / "aul").unlink()
    shutil.copytree(phantom_root / "aul", data / "aul")
    (data / "aul" / SYNTHETIC_MARKER).unlink()  # as if it were a copy of the release
    run = words(tmp_path, "--model", "pixels", "--task", "aul", "--probe", "ridge")
    done = ubench(*run, "--data", str(data))
    assert done.returncode == 2
    assert "of the 735 images of task 'aul', less than half; get the others, or" in done.stderr
    assert not (tmp_path / "out").exists()
    assert ubench(*run, "--data", str(data), "--partial").returncode == 0


# ---- without data -------------------------------------------------------------------------------


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "holidays").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("UBENCH_DATA", raising=False)


@pytest.mark.usefixtures("nowhere")
def test_nothing_synthetic_is_taken_without_a_yes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(question: str, **how: object) -> bool:
        asked.append(question)
        return False

    done = ubench(*words(tmp_path, "--model", "my model"))  # a wrong name is reported first
    assert "unknown model" in done.stderr
    run = words(tmp_path, "--model", "usrc-jepa", "--task", "all")
    done = ubench(*run)
    assert done.returncode == 2
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith("ubench: no data are found")
    assert second.endswith(f"ubench {' '.join(run)} --data phantom")
    monkeypatch.setattr(typer, "confirm", answer)
    monkeypatch.setattr(sys, "stdin", _Terminal())
    assert ubench(*run).returncode == 2  # standard error is still no terminal
    assert not asked
    assert not (tmp_path / "out").exists()
    with pytest.raises(NoData):
        ultrabench_eval.run("pixels", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


class _Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("nowhere")
@pytest.mark.parametrize("yes", [True, False])
def test_at_a_terminal_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, yes: bool) -> None:
    from ultrabench_eval import cli

    measured: list[object] = []
    monkeypatch.setattr(typer, "confirm", lambda question, **how: yes)
    monkeypatch.setattr(cli, "_is_watched", lambda: True)
    real = cli._run

    def run(request: object, as_json: bool) -> int:
        measured.append(request.data)  # type: ignore[attr-defined]
        return real(request, as_json) if len(measured) == 1 else 0  # type: ignore[arg-type]

    monkeypatch.setattr(cli, "_run", run)
    done = ubench(*words(tmp_path, "--model", "pixels", "--task", "all"))
    assert measured == ([None, "phantom"] if yes else [None])
    assert done.returncode == (0 if yes else 2)


def test_a_root_that_is_named_and_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "hollow" / "aul").mkdir(parents=True)
    for folder, said in (
        ("nowhere", "data folder not found"),
        ("none", "no task is in"),
        ("hollow", "no images are in them"),
    ):
        root = str(tmp_path / folder)
        done = ubench(*words(tmp_path, "--model", "pixels", "--data", root))
        assert done.returncode == 2
        assert said in done.stderr
        assert root in done.stderr


def test_a_manifest_beside_all_needs_no_other_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = make_manifest(tmp_path / "mine.csv")
    frame = ultrabench_eval.run(
        "pixels",
        ["all", manifest],
        seeds=1,
        probe="ridge",
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    assert set(frame[frame.status == "ok"].task) == {"mine"}
    assert frame.status.str.startswith("no data").sum() == len(task_zoo.OF_THE_PAPER)
