"""The README keeps its promises."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from conftest import make_manifest
from test_cli import ubench, ubench_process

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.S | re.M)
    found = [text for name, text in blocks if name == language and containing in text]
    assert found, containing
    return str(found[0])


def test_the_plugin_shown_is_the_example_and_has_at_most_15_lines() -> None:
    shown = block("python", "model_zoo.register")
    assert shown == (ROOT / "examples" / "plugin" / "their_model.py").read_text()
    assert len([line for line in shown.splitlines() if line.strip()]) <= 15


def test_the_command_of_the_plugin_works_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_manifest(tmp_path / "their.csv")
    Path("their_model.py").write_text(block("python", "model_zoo.register"))
    line = block("", "--task their.csv").splitlines()[0]
    done = ubench_process(*shlex.split(line)[1:], UBENCH_CACHE="cache")
    assert done.returncode == 0, done.stderr
    assert "theirs" in Path("runs/latest/leaderboard.md").read_text()


def test_every_option_and_command_of_the_readme_exists() -> None:
    helps = {
        name: ubench(*name.split(), "--help").stdout
        for name in ("run", "models", "tasks", "data phantom", "demo")
    }
    text = README.replace("\\\n", " ")
    used = re.findall(r"ubench (run|models|tasks|data phantom|demo)\b([^`\n]*)", text)
    assert len(used) >= 6
    for command, rest in used:
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in helps[command], f"ubench {command} has no {option}"


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
