"""Results of several folders in one: what jobs with folders of their own measured.

A number is never chosen over another: two folders that hold the same cell must agree on it. An
error row gives way to a number, because one job may have had the weights that another lacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ultrabench_eval.cells import Cell, Cells, Coordinates, Failure
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError, not_found
from ultrabench_eval.loading import Problems
from ultrabench_eval.probe_files import ProbeFiles
from ultrabench_eval.report import regenerate, write
from ultrabench_eval.report.results.entries import Entry, condition

# What two folders must agree on; durations and versions may differ.
_NUMBERS = ("identity", "predictions", "scores", "intervals", "images", "classes")


@dataclass(frozen=True)
class Gathered:
    """An entry and the folder that holds it."""

    entry: Entry
    cells: Cells


@dataclass(frozen=True)
class Merged:
    """What a merge did."""

    taken: dict[str, int]
    """New entries by the folder they came from."""
    cells: int
    """Numbers that OUT now holds."""
    failures: int
    """Error rows that OUT now holds."""


def merge(out: Path | str, sources: Sequence[Path | str]) -> Merged:
    """Put cells, predictions and test sets of results folders into one, and write its tables.

    Args:
        out: the folder; what it holds already takes part. Made if need be.
        sources: folders of `run`, which stay as they are.

    Raises:
        UserError: a folder without results, a damaged file.
        Problems: cells that two folders disagree on, a sentence for each two folders. Nothing is
            written then.
    """
    target = Cells(Path(out))
    if not sources:
        raise UserError("nothing to merge; write ubench merge OUT FROM [FROM ...]")
    folders = [Cells(Path(source)) for source in sources]
    for folder in folders:
        if not (folder.out / "cells").is_dir():
            raise not_found("results", folder.out / "cells", "name folders of `ubench run --out`")
    found = _gathered([target, *folders])
    new = [one for one in found.values() if one.cells is not target]
    for one in new:
        _check(one)
    files.remove_orphans(target.out)
    for one in new:
        _copy(one, target)
    entries = [one.entry for one in found.values()]
    for folder in folders:
        target.miss(folder.gone(entries), folder)  # so that the merged pages tell it too
    with files.locked(target.out / "leaderboard"):
        write.write(target)
    return Merged(
        {str(folder.out): sum(one.cells is folder for one in new) for folder in folders},
        sum(isinstance(one.entry, Cell) for one in found.values()),
        sum(isinstance(e, Failure) and not e.absent for e in entries),
    )


def _gathered(folders: Sequence[Cells]) -> dict[Coordinates, Gathered]:
    """One entry for each place: the first number, else the first error."""
    found: dict[Coordinates, Gathered] = {}
    conflicts: dict[tuple[Path, Path], list[str]] = {}
    for cells in folders:
        for entry in regenerate.whole(cells):
            at = entry.coordinates
            known = found.get(at)
            if known is None or (isinstance(known.entry, Failure) and isinstance(entry, Cell)):
                found[at] = Gathered(entry, cells)
            elif isinstance(entry, Cell) and (what := _difference(known.entry, entry)):
                words = f"{at.model} on {at.task} ({condition(at)}) has {what}"
                conflicts.setdefault((known.cells.out, cells.out), []).append(words)
    if conflicts:
        raise Problems([_conflict(*pair, words) for pair, words in conflicts.items()])
    return found


def _difference(one: Entry, other: Cell) -> str:
    """What two cells of one place disagree on, in words; "" if they are the same numbers."""
    if isinstance(one, Failure):
        return ""
    parts = [key for key in other.identity if one.identity.get(key) != other.identity[key]]
    if parts:
        return f"other settings or data ({', '.join(parts)})"
    if any(getattr(one, field) != getattr(other, field) for field in _NUMBERS):
        return "other numbers"
    return ""


def _conflict(one: Path, other: Path, words: Sequence[str]) -> str:
    more = f", and so do {len(words) - 1} more results" if words[1:] else ""
    return (
        f"{words[0]} in {one} than in {other}{more}; merge runs of one command only, or delete "
        "from one folder the results that are not wanted"
    )


def _check(found: Gathered) -> None:
    """Whether the test images of a new cell are there."""
    entry, cells = found.entry, found.cells
    if isinstance(entry, Failure):
        return
    cells.test_set(str(entry.identity["task"]))


def _copy(found: Gathered, target: Cells) -> None:
    if isinstance(found.entry, Cell):
        target.adopt_test(str(found.entry.identity["task"]), found.cells)
        ProbeFiles(target.out).adopt(found.entry.coordinates, ProbeFiles(found.cells.out))
    target.adopt(found.entry, found.cells)
