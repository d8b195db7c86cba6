"""Imports go one way (DESIGN: the list of who may import whom), and names are instant."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("ultrabench_eval", "model_zoo", "tasks", "usjepa")

# Package (or part of one) -> what of ours it may import.
ALLOWED = {
    "ultrabench_eval/core": {"ultrabench_eval.core"},
    "tasks": {"tasks", "ultrabench_eval.core"},
    "model_zoo": {"model_zoo", "ultrabench_eval.core"},
    "usjepa": {"usjepa", "model_zoo", "tasks", "ultrabench_eval.core"},
    "ultrabench_eval/probes": {
        *("ultrabench_eval.core", "ultrabench_eval.protocol", "ultrabench_eval.probes"),
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


@pytest.mark.parametrize(
    "code",
    [
        "import ultrabench_eval",
        "import model_zoo; model_zoo.names()",
        "import tasks; tasks.names()",
        "import sys; sys.argv = ['ubench', '--help']\n"
        "from ultrabench_eval.cli import main\ntry: main()\nexcept SystemExit: pass",
        "import sys; sys.argv = ['usjepa', '--help']\n"
        "from usjepa.cli import main\ntry: main()\nexcept SystemExit: pass",
    ],
    ids=["package", "model names", "task names", "ubench --help", "usjepa --help"],
)
def test_nothing_heavy_is_imported_for(code: str) -> None:
    heavy = ["torch", "timm", "pandas", "sklearn", "scipy", "transformers"]
    code += f"\nimport sys; print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize(
    ("former", "name", "now"),
    [
        ("tasks.images", "decode", "tasks.samples.images"),
        ("tasks.images", "ImageFile", "tasks.samples.images"),
        ("tasks.video", "decode", "tasks.samples.video"),
        ("tasks.video", "sample", "tasks.samples.video"),
        ("ultrabench_eval.stats.bootstrap", "intervals", "ultrabench_eval.stats.intervals"),
    ],
)
def test_what_plugins_and_scripts_import_has_its_former_name(
    former: str, name: str, now: str
) -> None:
    assert getattr(import_module(former), name) is getattr(import_module(now), name)
