"""What the commands print: tables, cards, and words after a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tasks.task import Task


def results(out: Path, encoded: int) -> None:
    """The leaderboard on screen, what failed, and where the files are."""
    from ultrabench_eval.cells import Cells, Failure
    from ultrabench_eval.display import console, leaderboard

    entries = Cells(out).gather()
    for wide in leaderboard(entries):
        console().print(wide)
    for entry in entries:
        if isinstance(entry, Failure):
            at = entry.coordinates
            print(f"error: {at.model} on {at.task}: {entry.reason}", file=sys.stderr)
    print(f"images encoded: {encoded}")
    for suffix in ("md", "csv", "tex"):
        print(out / f"leaderboard.{suffix}")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table."""
    from ultrabench_eval.display import console, grid

    console().print(grid(header, rows))


_LABELS = {"saw": "tasks seen in pretraining", "hub": "fetched with --accept-license"}


def card(known: dict[str, Any]) -> None:
    """Print what is known of a model or task, a line a field."""
    rows = []
    for field, value in known.items():
        if isinstance(value, dict):
            text = ", ".join(f"{key.replace('_', ' ')} {part}" for key, part in value.items())
        elif isinstance(value, list | tuple):
            text = "; ".join(map(str, value)) or "none stated"
        else:
            text = str(value)
            if value is None:
                text = "no: by hand only" if field == "hub" else "not known"
        rows.append((_LABELS.get(field, field.replace("_", " ")), text))
    table(("", ""), rows)


def task(known: Task) -> None:
    """Print counts, notes and fingerprint of a task that was read."""
    if known.synthetic:
        print("SYNTHETIC images")
    counts = known.counts()
    rows = [
        (name, *(str(split[code]) for split in counts.values()))
        for code, name in enumerate(known.classes)
    ]
    rows.append(("all", *(str(sum(split)) for split in counts.values())))
    table(("class", *counts), rows)
    for note in known.notes:
        print(f"- {note}")
    print(f"fingerprint {known.fingerprint}")
