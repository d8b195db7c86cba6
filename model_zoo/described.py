"""What `describe` tells of the built-in models, without importing their modules and torch.

`python -m model_zoo.described` writes it down in described.json. It is believed as long as the
sources of this package are those that it was written from; else the modules are asked.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from ultrabench_eval.core import hashing

_HERE = Path(__file__).resolve().parent
FILE = _HERE / "described.json"


def sources() -> str:
    """SHA-256 of the package's modules."""
    modules = sorted(_HERE.rglob("*.py"))
    return hashing.digest(
        {
            path.relative_to(_HERE).as_posix(): hashing.digest_bytes(path.read_bytes())
            for path in modules
        }
    )


@cache
def written() -> dict[str, dict[str, Any]]:
    """Descriptions by name; empty if they may be out of date."""
    try:
        content = json.loads(FILE.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    fresh = content["sources"] == sources()
    found: dict[str, dict[str, Any]] = content["models"] if fresh else {}
    return found


def write() -> None:
    """Ask every built-in model, and write down what it says."""
    import model_zoo
    from model_zoo import cards

    models = {
        name: cards.describe(name, model_zoo.registry.get(name))
        for name in model_zoo.names()
        if name.removesuffix("<name>") in model_zoo.BUILT_IN
    }
    content = {"sources": sources(), "models": models}
    FILE.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    write()
