"""How tables and figures look in print: names, size and font.

It holds for all that is made inside `looking`, so that no page has to pass it on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from ultrabench_eval.core import yaml_file
from ultrabench_eval.core.errors import UserError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)(?:x(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Look:
    """What a user may choose."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Names in print of models and tasks."""
    width: float | None = None
    """Of a figure, inches; None: as its panels need, at most 7."""
    panel: float = 1.75
    """Height of a row of panels, inches."""
    font: float = 7.0
    """Points."""


_DEFAULT = Look()
_LOOK: ContextVar[Look] = ContextVar("look", default=_DEFAULT)


def look() -> Look:
    """The one that holds now."""
    return _LOOK.get()


@contextmanager
def looking(chosen: Look) -> Iterator[None]:
    """Let one hold."""
    token = _LOOK.set(chosen)
    try:
        yield
    finally:
        _LOOK.reset(token)


def read(names: Path | None, size: str | None, font: float | None) -> Look:
    """A look from what a command was given.

    Args:
        names: YAML file of lines "name: Name in Print", of models and tasks.
        size: "WIDTH" or "WIDTHxHEIGHT" in inches, of a figure and of a row of its panels.
        font: points.

    Raises:
        UserError: one of them is not valid.
    """
    found = yaml_file.read(names, "file of names") if names else {}
    for name, printed in found.items():
        if not isinstance(printed, str):
            raise UserError(
                f"{names}: the name in print of '{name}' is {printed!r}, not a text; write "
                f'{name}: "{printed}"'
            )
    default = _DEFAULT
    match = _SIZE.fullmatch(size or "7")
    width, panel = (float(part) if part else None for part in match.groups()) if match else (0, 0)
    if not match or not 1 <= (width or 0) <= 40 or not 0.5 <= (panel or default.panel) <= 40:
        raise UserError(
            f"the size '{size}' is not valid; write WIDTH or WIDTHxHEIGHT in inches, such as "
            "3.5 or 7x2"
        )
    if font is not None and not 3 <= font <= 40:
        raise UserError(f"a font of {font:g} points cannot be read; choose between 3 and 40")
    return Look(found, width if size else None, panel or default.panel, font or default.font)
