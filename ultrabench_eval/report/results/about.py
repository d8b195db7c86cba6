"""What a run is called, when and by which command it was measured, and on which copies of the data.

It is the line at the top of leaderboard.html. What results do not hold, a person may state in
OUT/about.yaml: name, date, command, data; a statement replaces what is read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime

from tasks.task import DOWNSCALED
from ultrabench_eval.cells import Cells
from ultrabench_eval.core import yaml_file
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report.results.entries import Entry, cells_of, is_downscaled, tasks_of

FILE = "about.yaml"
_OLDEST = 315_532_800  # seconds: 1980; archives give their files dates before that


@dataclass(frozen=True)
class About:
    """Plain texts; "" for what nobody knows."""

    name: str
    """Of the run; its folder's unless stated."""
    date: str
    """Of the last result, YYYY-MM-DD in UTC."""
    command: str
    """One that measures the same, without the folders of this machine."""
    data: str
    """In what the images differ from the original download."""


def about(cells: Cells, entries: Sequence[Entry]) -> About:
    """What is known of a results folder.

    Raises:
        UserError: about.yaml cannot be read, or has another key than `About`.
    """
    known = {
        "name": cells.out.resolve().name,
        "date": _date(cells),
        "command": command(entries),
        "data": _data(entries),
    }
    path = cells.out / FILE
    stated = yaml_file.read(path, "statement on a run") if path.is_file() else {}
    if other := [key for key in stated if key not in known]:
        names = ", ".join(one.name for one in fields(About))
        raise UserError(f"{path}: unknown key '{other[0]}'; it may have {names}")
    return About(**known | {key: " ".join(str(text).split()) for key, text in stated.items()})


def _date(cells: Cells) -> str:
    """The day on which the last result was written; "" if the files have lost it."""
    path = cells.out / "cells" / "ledger.jsonl"
    written = path.stat().st_mtime if path.is_file() else 0
    return datetime.fromtimestamp(written, UTC).date().isoformat() if written > _OLDEST else ""


def command(entries: Sequence[Entry]) -> str:
    """A command whose results these are, from the results themselves; "" without any."""
    at = [entry.coordinates for entry in entries]
    fractions = sorted({one.fraction for one in at})
    seeds = {int(cell.identity["seeds"]) for cell in cells_of(entries)}
    words = {
        "model": _listed(one.model for one in at),
        "task": _listed(tasks_of(entries)),
        "probe": _listed(one.probe for one in at),
        "protocol": _listed(one.protocol.rsplit("-", 1)[0] for one in at),
        "seeds": _listed(sorted(seeds)),
        "fractions": _listed(fractions) if fractions != [100] else "",
        "corruptions": _listed(one.corruption for one in at if one.corruption != "none"),
    }
    return "ubench run" + "".join(f" --{k} {v}" for k, v in words.items() if v) if at else ""


def _listed(values: Iterable[object]) -> str:
    return ",".join(dict.fromkeys(map(str, values)))


def _data(entries: Sequence[Entry]) -> str:
    small = tasks_of(entry for entry in entries if is_downscaled(entry))
    told = [f"{DOWNSCALED} of {', '.join(small)}"] if small else []
    if simulated := tasks_of(entry for entry in entries if entry.synthetic):
        every = len(simulated) == len(tasks_of(entries))
        told.append("SYNTHETIC images" if every else f"SYNTHETIC images of {', '.join(simulated)}")
    return "; ".join(told)
