"""Tables on a terminal: however narrow it is, no name and no number is cut."""

from __future__ import annotations

import contextlib
import io
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_cells import cell, control, guesses, put, put_test
from rich.console import Console
from test_cli import ROOT, clean, ubench
from typer.testing import CliRunner

import model_zoo
import tasks as task_zoo
from ultrabench_eval import cli, display
from ultrabench_eval.cells import Cells, Failure
from ultrabench_eval.report import write
from ultrabench_eval.report.results import degenerate, kept
from ultrabench_eval.report.results.degenerate import Finding

LONG = "timm/vit_small_patch16_224.augreg_in21k_ft_in1k"


def printed(renderable: object, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(renderable)
    return out.getvalue()


def boards(entries: list[object], width: int, letters: dict[object, str] | None = None) -> str:
    shown = display.leaderboard(entries, letters or {}, (), width)  # type: ignore[arg-type]
    return "\n".join(printed(one, width) for one in shown)


@pytest.mark.parametrize("width", [80, 120])
def test_a_leaderboard_of_the_papers_tasks_fits(width: int) -> None:
    models = (LONG, "usrc-jepa-nano", "efficientnet-lite0")
    entries = [
        cell(m, t, 0.5 + n / 10, 0.6) for n, m in enumerate(models) for t in task_zoo.OF_THE_PAPER
    ]
    entries += [control("random-vit-tiny", t, 0.2, 0.3) for t in task_zoo.OF_THE_PAPER]
    text = boards(entries, width)
    assert max(map(len, text.splitlines())) <= width
    for name in (*models, "random-vit-tiny"):
        assert name in text
    for task in task_zoo.OF_THE_PAPER:
        assert re.search(rf"(^| ){task}( |$)", text, re.M)
    assert text.count("10.0 to 90.0") == len(entries)  # an interval under each score
    assert text.count("55.0 ± 7.1") == len(task_zoo.OF_THE_PAPER)
    assert "8 tasks" in text
    assert "…" not in text


def test_a_name_that_is_wider_than_the_terminal_is_broken_and_not_cut() -> None:
    name = "hf/" + "x" * 100
    text = boards([cell(name, "aul", 0.5)], 80)
    assert text.count("x") == 100
    assert "50.0" in text


def test_letters_and_bold_are_those_of_the_pages(tmp_path: Path) -> None:
    labels = np.arange(120) % 2
    cells = Cells(tmp_path)
    put_test(cells, "aul", labels)
    for model, accuracy in (("best", 1.0), ("worse", 0.5), ("worst", 0.45)):
        put(cells, model, "aul", guesses(labels, accuracy, 3), labels)
    write.write(cells)
    told = kept.told(tmp_path)
    out = io.StringIO()
    for one in display.leaderboard(cells.gather(), told.letters, (), 80):
        Console(file=out, width=80, force_terminal=True, color_system="standard").print(one)
    page = (tmp_path / "leaderboard.md").read_text()
    best = re.search(r"\*\*(.+?)\*\*", page)
    assert best
    assert f"\x1b[1m{best[1]}" in out.getvalue()
    for row in re.findall(r"^\| (?:best|worse|worst) .*", page, re.M):
        assert row.split("|")[2].strip(" *") in out.getvalue()
    assert told.reading.startswith("Letters: ")


def test_columns_without_data_are_named_below() -> None:
    at = cell("m", "gbcu", 0.5).coordinates
    entries = [cell("m", "aul", 0.5), Failure(coordinates=at, reason="not found", absent=True)]
    text = boards(entries, 80)
    assert "no data, so no mean over all tasks: gbcu" in text
    assert "mean of" not in text


# ---- lists --------------------------------------------------------------------------------------


def test_a_list_that_does_not_fit_becomes_paragraphs() -> None:
    header = ("name", "title", "terms")
    rows = [("a-long-name-of-a-model-that-is-not-cut", "word " * 12, "other " * 12)]
    assert printed(display.listing(header, rows, 120), 120).splitlines()[0].split() == [*header]
    text = printed(display.listing(header, rows, 60), 60)
    assert text.splitlines()[0] == rows[0][0]
    assert text.count("word") == 12
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize("command", ["models", "tasks", "data list"])
@pytest.mark.parametrize("width", [80, 120])
def test_every_name_is_whole(command: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "console", lambda err=False: Console(stderr=err, width=width))
    text = ubench(*command.split()).stdout
    for name in model_zoo.names() if command == "models" else task_zoo.RELEASED:
        assert re.search(rf"^{re.escape(name)}\s", text, re.M), name
    assert max(map(len, text.splitlines())) <= width


def test_on_a_terminal_of_80_columns() -> None:
    process, terminal = pty.fork()
    if process == 0:
        code = "from ultrabench_eval.cli import main; main()"
        environment = clean({"COLUMNS": "80", "PYTHONPATH": str(ROOT), "TERM": "xterm"})
        os.execve(sys.executable, [sys.executable, "-c", code, "tasks"], environment)
    text = ""
    with contextlib.suppress(OSError):  # how a pseudo-terminal ends
        while chunk := os.read(terminal, 65536):
            text += chunk.decode()
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()
    assert max(map(len, lines)) <= 80
    for name in task_zoo.BUILT_IN:
        assert name in lines


# ---- warnings, help -----------------------------------------------------------------------------


def test_a_warning_about_several_tasks_is_one_line() -> None:
    found = [
        Finding("aul", "task 'aul': a", ("m",), brief="same"),
        Finding("gbcu", "task 'gbcu': b", ("m", "n"), brief="same"),
        Finding("aul", "task 'aul': alone", brief="other"),
        Finding("aul", "task 'aul': without a kind"),
    ]
    assert degenerate.grouped(found) == [
        "same: aul (m), gbcu (m, n)",
        "task 'aul': alone",
        "task 'aul': without a kind",
    ]


def test_help_has_groups_and_the_order_of_use() -> None:
    text = CliRunner().invoke(cli.app, ["--help"]).output
    order = re.findall(r"^│ (\w+) {2,}\S", text, re.M)
    assert order[:6] == ["demo", "doctor", "tasks", "data", "models", "verify"]
    assert order.index("plan") < order.index("run") < order.index("report")
    text = CliRunner().invoke(cli.app, ["run", "--help"]).output
    groups = re.findall(r"^╭─ (.+?) ─", text, re.M)
    assert groups[1:] == [
        *("What is measured", "Where things are", "Your own data", "How models run"),
        *("How it is measured", "Several processes and machines"),
    ]


def test_the_version_is_told() -> None:
    done = CliRunner().invoke(cli.app, ["--version"])
    assert (done.exit_code, done.output) == (0, "ubench 0.1.0\n")


def test_a_reader_that_has_seen_enough_is_no_fault_of_a_plugin() -> None:
    code = "from ultrabench_eval.cli import main; main()"
    done = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' -c '{code}' models | head -c 1"],
        capture_output=True,
        text=True,
        env=clean({"PYTHONPATH": str(ROOT)}),
    )
    assert done.stderr == ""
