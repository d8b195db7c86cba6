"""Write the API reference, made of the docstrings, as HTML: python docs/api.py [FOLDER].

`make docs` installs what it needs and calls it. The packages export some names lazily and list them
in `__all__`, which pdoc takes for all there is; here it is told the rest.
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
import sys
import typing
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pdoc

PACKAGES = ("ultrabench_eval", "model_zoo", "tasks", "usjepa")


def main(out: Path, packages: Sequence[str] = PACKAGES) -> None:
    """Write a page a module, an index and a search."""
    for name in packages:
        _prepare(importlib.import_module(name))
    pdoc.render.configure(docformat="google", show_source=False)
    pdoc.pdoc(*packages, output_directory=out)


def _prepare(module: ModuleType) -> None:
    """Resolve what a module, and all below it, says in a form that pdoc does not follow."""
    exported = getattr(module, "__all__", ())
    for name in exported:  # lazily imported ones, too
        vars(module)[name] = getattr(module, name)
    for value in list(vars(module).values()):
        if isinstance(value, type) and value.__module__ == module.__name__:
            _annotate(value)
    if not hasattr(module, "__path__"):
        return
    below = [one.name for one in pkgutil.iter_modules(module.__path__) if one.name != "__main__"]
    for name in below:
        _prepare(importlib.import_module(f"{module.__name__}.{name}"))
    if exported:
        module.__all__ = [*exported, *below]  # type: ignore[attr-defined]


def _annotate(made: type[Any]) -> None:
    """Types of generated constructors: their annotations are strings in no module of ours."""
    if issubclass(made, tuple) and hasattr(made, "_fields"):
        constructor = made.__new__
    elif dataclasses.is_dataclass(made):
        constructor = made.__init__
        constructor.__annotations__.pop("__dataclass_self__", None)  # pydantic's
    else:
        return
    with suppress(NameError):  # of what is imported for type checkers only, which pdoc resolves
        hints = typing.get_type_hints(made)
        known = constructor.__annotations__
        constructor.__annotations__ = {name: hints.get(name, known[name]) for name in known}


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "site"))
