"""From an empty folder with a Lightning checkpoint and data to a table with one's own row.

Every command is one that a page or a command has printed; only the tasks and seeds are fewer.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from conftest import forget_plugins
from latex import check_latex, compiled
from test_cli import ubench
from test_docs import ROOT, commands

PAGE = "docs/from_a_checkpoint.md"
QUICK = ["--task", "tn5000", "--seeds", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, phantom_root: Path) -> Iterator[Path]:
    """A folder with `last.ckpt` and DATA, and nothing else; commands are run in it."""
    made, before = tmp_path_factory.mktemp("journey"), Path.cwd()
    (made / "DATA").symlink_to(phantom_root)
    torch.manual_seed(0)
    network = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=64, depth=2, num_heads=1
    )
    trained = {
        **{f"model.{key}": value for key, value in network.state_dict().items()},
        "criterion.weight": torch.ones(3),
    }
    content = {
        **{"epoch": 9, "global_step": 900, "pytorch-lightning_version": "2.5.5"},
        **{"state_dict": trained, "optimizer_states": [], "lr_schedulers": [], "loops": {}},
        "hyper_parameters": {"arguments": argparse.Namespace(rate=0.1), "root": Path("data")},
    }
    torch.save(content, made / "last.ckpt")
    os.chdir(made)
    yield made
    os.chdir(before)
    forget_plugins()


def do(command: str, *more: str) -> str:
    """Run a command as printed, with options that replace its own; what it prints."""
    words = shlex.split(command)
    assert words[0] == "ubench"
    done = ubench(*words[1:], *more, UBENCH_CACHE=str(Path.cwd() / "cache"))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def measured(folder: Path) -> Path:
    """The results folder, after the commands of the page."""
    look, run = commands(PAGE)[:2]
    printed = do(look)
    assert "last.ckpt: a checkpoint written by Lightning" in printed
    assert "left out: head (2 tensors), criterion (1 tensor)" in printed
    (command,) = re.findall(r"^# (ubench run .*)$", printed, re.M)
    assert command == run  # the page shows what the command prints
    do(command, *QUICK)
    return folder / "runs" / "mine"


def test_a_checkpoint_becomes_a_row(measured: Path) -> None:
    table = pd.read_csv(measured / "leaderboard.csv")
    row = table[(table["model"] == "mine") & (table["metric"] == "macro_f1")]
    assert row["status"].tolist() == ["ok (synthetic)"]
    assert row["n_seeds"].tolist() == [2]
    page = (measured / "leaderboard.md").read_text()
    assert "not used of its weights file: head (2 tensors), criterion (1 tensor)" in page


NAMES = """
mine: "Mine (ours)"
efficientnet-lite0: EfficientNet-Lite0
tn5000: TN5000
"""


@pytest.fixture(scope="module")
def reported(measured: Path) -> Path:
    """The same folder, after the commands of the page on one's own row."""
    _, run, report = commands("docs/your_row_in_a_table.md")
    do(run, *QUICK, "--fractions", "10,100")
    Path("names.yaml").write_text(NAMES)
    assert NAMES.strip() in (ROOT / "docs" / "your_row_in_a_table.md").read_text()
    do(report)
    return measured


def test_the_table_has_the_paper_s_rows_and_mine(reported: Path) -> None:
    text = (reported / "table.tex").read_text()
    check_latex(text)
    if shutil.which("pdflatex"):
        compiled(reported, text, (reported / "fewshot.tex").read_text())
    above, below = text.split("USrc-JEPA &")
    assert "URFM &" in above
    assert r"Mine (ours) [1] &" in below  # simulated images cannot be compared with the paper's
    assert "[1] SYNTHETIC" in above
    assert r"\label{tab:us-jepa}" in above
    check_latex((reported / "fewshot.tex").read_text())
    assert "Mine (ours) & 10" in (reported / "fewshot.tex").read_text()


def test_a_sentence_tells_the_significance(reported: Path) -> None:
    page = (reported / "table.md").read_text()
    (sentence,) = re.findall(r"^- On TN5000 .*$", page, re.M)
    assert "Mine (ours) was " in sentence
    assert "than EfficientNet-Lite0 (difference " in sentence
    assert "95 % CI" in sentence
    assert "Holm-corrected over 1 pair of encoders" in sentence


def test_the_figure_has_names_and_no_digits_of_settings(reported: Path) -> None:
    figure = (reported / "figures" / "fewshot.svg").read_text()
    width = re.search(r'width="([\d.]+)pt"', figure)
    assert width is not None
    assert float(width[1]) == pytest.approx(3.4 * 72, abs=1)
    words = re.findall(r"<!-- (.*?) -->", figure)  # the text behind the drawn letters
    assert "TN5000 (SYNTHETIC)" in words
    assert any("Mine (ours)" in word for word in words)
    assert not any("071a60c7" in word for word in words)
