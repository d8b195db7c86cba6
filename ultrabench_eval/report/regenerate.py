"""A finished run's tables and figures once more, from its cells alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ultrabench_eval.cells import Cell, Cells, Failure
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report import write
from ultrabench_eval.report.results.entries import Entry
from ultrabench_eval.report.sections import speeds


def gather(run: Path) -> list[Entry]:
    """The cells of a results folder; see `read`."""
    return read(Cells(run))


def read(cells: Cells, *, timed: bool = True) -> list[Entry]:
    """The cells of a run.

    Args:
        cells: of a results folder.
        timed: whether the speeds of its encoders are to be verified as well.

    Raises:
        UserError: there are none, or a cell, its test images or the speeds are damaged.
    """
    entries = whole(cells) if cells.out.is_dir() else []
    if not entries:
        raise UserError(
            f"{cells.out} holds no cells; name a folder that `ubench run --out` wrote (with "
            "cells/ in it)"
        )
    if timed:
        speeds.read(cells.out)
    return entries


def whole(cells: Cells) -> list[Entry]:
    """The cells of a folder, none of which may be damaged.

    Raises:
        UserError: one is, or the test images that it refers to are.
    """
    entries = cells.gather()
    damaged = [e.reason for e in entries if isinstance(e, Failure) and e.damaged]
    if damaged:
        more = f" ({len(damaged) - 1} more files are damaged as well)" if damaged[1:] else ""
        raise UserError(f"{damaged[0]}{more}")
    for fingerprint in sorted({str(e.identity["task"]) for e in entries if isinstance(e, Cell)}):
        cells.test_set(fingerprint)
    return entries


def regenerate(
    cells: Cells,
    out: Path,
    data: Path | None = None,
    reference: str | None = None,
    parquet: bool = False,
    entries: Sequence[Entry] | None = None,
) -> None:
    """Write what the run wrote, byte for byte unless there is a reference.

    Args:
        cells: of a results folder; nothing is written there unless it is `out`.
        out: where to.
        data: data root for small pictures of test images in leaderboard.html; None: without.
        reference: model that all others are compared with; None: all pairs.
        parquet: whether each CSV file gets one of Parquet beside it.
        entries: what `read` gave; read again if anything was written meanwhile.
    """
    files.remove_orphans(out)
    with files.locked(out / "leaderboard"):
        known = entries if cells.as_gathered() else None
        write.write(cells, out, data, reference, parquet, known)


def pairs(out: Path) -> list[dict[str, Any]]:
    """Rows of pairs.csv, as `regenerate` has just written it; none if no two models differ."""
    path = out / "pairs.csv"
    table = pd.read_csv(path) if path.is_file() else pd.DataFrame()
    return [{str(name): value for name, value in row.items()} for _, row in table.iterrows()]


def write_files(out: Path, made: Mapping[str, bytes]) -> list[Path]:
    """Write files by name; return their paths."""
    for name, data in made.items():
        files.write_bytes(out / name, data)
    return [out / name for name in made]
