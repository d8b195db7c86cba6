"""Imports go one way (DESIGN: the list of who may import whom), and names are instant."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from ultrabench_eval.stats import bootstrap
from ultrabench_eval.task_types import classification

ROOT = Path(__file__).resolve().parents[1]
HEAVIEST = ("torch", "timm", "transformers")
OURS = ("ultrabench_eval", "model_zoo", "tasks", "usjepa")

# Package (or part of one) -> what of ours it may import.
ALLOWED = {
    "ultrabench_eval/core": {"ultrabench_eval.core"},
    "tasks": {"tasks", "ultrabench_eval.core"},
    "model_zoo": {"model_zoo", "ultrabench_eval.core"},
    "usjepa": {"usjepa", "model_zoo", "tasks", "ultrabench_eval.core"},
    "ultrabench_eval/probes": {
        *("ultrabench_eval.core", "ultrabench_eval.protocol", "ultrabench_eval.probes"),
        *("ultrabench_eval.feature_rows", "ultrabench_eval.finetune", "model_zoo.unfrozen"),
    },
    "ultrabench_eval/stats": {
        *("ultrabench_eval.core", "ultrabench_eval.metrics", "ultrabench_eval.stats"),
    },
}


def imported(path: Path) -> set[str]:
    """Modules of ours that a file imports, anywhere in it, with the names taken from them."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] in OURS}


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_only_what_lies_below(part: str) -> None:
    files = sorted((ROOT / part).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            assert any(name == a or name.startswith(a + ".") for a in ALLOWED[part]), (
                f"{path.relative_to(ROOT)} must not import {name}"
            )


def test_nothing_imports_the_command_line_and_only_it_prints() -> None:
    cli = [*sorted((ROOT / "ultrabench_eval" / "cli").glob("*.py"))]
    cli += [ROOT / "usjepa" / "cli.py", ROOT / "usjepa" / "__main__.py"]
    cli += [ROOT / "ultrabench_eval" / "core" / "command.py"]  # the end of every command
    assert all(path.is_file() for path in cli)
    for package in OURS:
        for path in (ROOT / package).rglob("*.py"):
            if path in cli:
                continue
            assert not any("cli" in name.split(".") for name in imported(path)), path
            calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            printing = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
            assert not printing, f"{path.relative_to(ROOT)}:{printing[0].lineno} prints"


def command(*words: str) -> str:
    name = "usjepa" if words[0] == "usjepa" else "ultrabench_eval"
    return (
        f"import sys; sys.argv = {[words[0], *words[1:]]}\n"
        f"from {name}.cli import main\ntry: main()\nexcept SystemExit as end: assert not end.code"
    )


def loaded_by(code: str, names: Sequence[str]) -> str:
    """Which of the modules are loaded in a process that has run some code."""
    code += f"\nimport sys; print([m for m in {names} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import ultrabench_eval",
        "import model_zoo; model_zoo.names()",
        "import tasks; tasks.names()",
        command("ubench", "--help"),
        command("ubench", "run", "--help"),
        command("usjepa", "--help"),
        command("ubench", "models"),
        command("ubench", "models", "usfm"),
    ],
    ids=[
        *("package", "model names", "task names", "ubench --help", "ubench run --help"),
        *("usjepa --help", "ubench models", "ubench models usfm"),
    ],
)
def test_nothing_heavy_is_imported_for(code: str) -> None:
    heavy = ["torch", "timm", "pandas", "sklearn", "scipy", "transformers"]
    assert loaded_by(code, heavy) == "[]"


def test_the_table_of_tasks_needs_no_torch() -> None:
    assert loaded_by(command("ubench", "tasks"), HEAVIEST) == "[]"


@pytest.mark.parametrize(
    ("former", "name", "now"),
    [
        ("tasks.images", "decode", "tasks.samples.images"),
        ("tasks.manifest", "read", "tasks.own_data.manifest"),
        ("tasks.images", "ImageFile", "tasks.samples.images"),
        ("tasks.video", "decode", "tasks.samples.video"),
        ("tasks.video", "sample", "tasks.samples.video"),
    ],
)
def test_what_plugins_and_scripts_import_has_its_former_name(
    former: str, name: str, now: str
) -> None:
    assert getattr(import_module(former), name) is getattr(import_module(now), name)


def test_intervals_of_class_codes_have_their_former_place() -> None:
    labels = np.arange(40) % 2
    found = bootstrap.intervals(labels[None], labels, None, 2)["macro_f1"]
    assert found == classification.intervals_of(labels[None], labels, None, 2)["macro_f1"]
    assert found[1] == 1


@pytest.mark.parametrize("name", ["tasks", "model_zoo"])
def test_a_package_of_the_users_with_our_name_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("MINE = 1\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for code in (command("ubench", "models"), command("usjepa", "configs")):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("assert not end.code", "raise")],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        assert done.returncode == 2
        assert done.stderr.startswith(f"ubench: another package called '{name}' ({tmp_path}")
        assert done.stderr.count("\n") == 1
    code = "import ultrabench_eval; ultrabench_eval.run"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert f"ImportError: another package called '{name}'" in done.stderr
