"""Completion of commands, options and names in the shell."""

from __future__ import annotations

import subprocess
import sys

import pytest
from test_cli import clean

SCRIPT = """
import sys
sys.argv[0] = "ubench"
from ultrabench_eval.cli import main
try:
    main()
finally:
    heavy = ["torch", "timm", "numpy", "pandas", "sklearn", "scipy", "transformers"]
    print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""


def ask(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        capture_output=True,
        text=True,
        env=clean(environment),
    )


def completed(line: str) -> list[str]:
    words = line.split(" ")
    done = ask(_UBENCH_COMPLETE="complete_bash", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    assert done.stderr.strip() == "[]", done.stderr  # so it is as fast as --help
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ubench pl", ["plan"]),
        ("ubench run --fewshot", ["--fewshot-validation"]),
        ("ubench run --model pix", ["pixel-grid", "pixels"]),
        ("ubench run --model pixels,bor", ["pixels,border"]),
        ("ubench plan --model tim", ["timm/"]),
        ("ubench plan --task aul,mm", ["aul,mmotu", "aul,mmotu-seg"]),
        ("ubench tasks busb", ["busbra", "busbra-seg"]),
    ],
)
def test_names_are_completed_without_heavy_imports(line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_the_script_for_a_shell_is_shown() -> None:
    # Without detection of the shell, because under a test there is none.
    environment = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    for shell in ("bash", "zsh", "fish"):
        done = ask("--show-completion", shell, **environment)
        assert done.returncode == 0, done.stderr
        assert "_UBENCH_COMPLETE" in done.stdout
        assert done.stderr.strip() == "[]"
