"""`ubench models FILE`: what is in a checkpoint, and the lines that run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    from model_zoo.checkpoints.contents import Contents, HowToRun


def is_meant(name: str) -> bool:
    """Whether a name that no model has is that of a checkpoint file."""
    from model_zoo.checkpoints.files import SUFFIXES

    return Path(name).is_file() or Path(name).suffix in SUFFIXES


def show(path: Path, as_json: bool, out: Path | None) -> None:
    """Print what a checkpoint holds, and print or write the Python file that runs it.

    Args:
        path: the checkpoint.
        as_json: as data instead.
        out: where the Python file is written; None to print it.

    Raises:
        UserError: the checkpoint cannot be read; nothing in it is recognised, or `out` is there
            already.
    """
    from model_zoo.checkpoints import contents
    from ultrabench_eval.core import files

    found = contents.look(path)
    how = contents.recipe(found, out) if found.networks else None
    if out is not None and (how is None or not how.code):
        why = (
            "no network in it is recognised" if how is None else f"it needs none: {how.commands[0]}"
        )
        raise UserError(f"there is nothing to write into {out} for {path}, because {why}")
    if out is not None and (out.exists() or out.suffix != ".py"):
        raise UserError(f"--out {out} must be a Python file (.py) that is not there yet")
    if as_json:
        print(json.dumps(_as_data(found, how), indent=1))
    else:
        for line in _lines(found, how, written=out is not None):
            print(f"# {line}")
    if out is not None and how is not None:
        files.write_text(out, how.code)
        print(out)
    elif how is not None and how.code and not as_json:
        print(f"\n{how.code}", end="")


def _lines(found: Contents, how: HowToRun | None, written: bool) -> list[str]:
    writer = f" written by {found.writer}" if found.writer else ""
    lines = [f"{found.path}: a checkpoint{writer}"]
    lines += [f"at the top: {', '.join(found.tops[:8])}" + ", ..." * (len(found.tops) > 8)]
    for one in found.networks:
        left = f"; left out: {', '.join(one.dropped)}" if one.dropped else ""
        lines.append(f"{one.entry or 'top level'}: {one}{left}")
    if how is None:
        return [
            *lines,
            "no network in it was recognised: write build() for yours, as docs/add_your_model.md",
            "shows; model_zoo.fill names each key that does not fit",
        ]
    usual, why = found.usual
    if len(found.networks) > 1:
        lines.append(f"taken here: {usual.entry}{why}")
    if usual.assumed:
        lines.append(f"not in the file: {usual.assumed}")
    lines.append("not in the file: mean and standard deviation of the input, taken as ImageNet's")
    if how.file and not written:
        lines.append(f"save this as {how.file}, then:")
    return [*lines, *how.commands]


def _as_data(found: Contents, how: HowToRun | None) -> dict[str, object]:
    return {
        "file": str(found.path),
        "writer": found.writer,
        "networks": [vars(one) for one in found.networks],
        "commands": list(how.commands) if how else [],
        "code": how.code if how else "",
    }
