"""Are `tasks` and `model_zoo` ours? Their names are plain words that anyone may have taken."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def problem() -> str | None:
    """In a sentence, which package of ours another one hides; None if none does."""
    for name in ("tasks", "model_zoo"):
        found = sys.modules.get(name) or find_spec(name)
        spec = getattr(found, "__spec__", found)
        origin = getattr(spec, "origin", None)
        if origin is None or Path(origin).resolve() != _ROOT / name / "__init__.py":
            there = origin or "a folder without __init__.py"
            return (
                f"another package called '{name}' ({there}) hides the one of ultrabench-eval; "
                "rename it, or take its folder out of PYTHONPATH"
            )
    return None


def check() -> None:
    """End a command with that sentence and exit code 2."""
    if found := problem():
        sys.stderr.write(f"ubench: {found}\n")
        raise SystemExit(2)
