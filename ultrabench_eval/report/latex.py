"""The wide tables for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ultrabench_eval.cells import Coordinates
from ultrabench_eval.report import booktabs
from ultrabench_eval.report.entries import Entry
from ultrabench_eval.report.wide import Wide, wide


def latex(entries: Sequence[Entry], letters: Mapping[Coordinates, str] | None = None) -> str:
    """The wide tables in LaTeX; needs the package booktabs.

    Args:
        entries: of a results folder.
        letters: see `wide`.
    """
    parts = ["% Made by ultrabench_eval from the cells of this folder. \\usepackage{booktabs}\n"]
    return "\n".join([*parts, *map(_table, wide(entries, letters))])


def _table(table: Wide) -> str:
    rows = [[booktabs.escape(text) for text in row] for row in table.rows]
    for r, c in table.best:
        rows[r][c] = booktabs.bold(rows[r][c])
    caption = f"Macro F1 (\\%), mean $\\pm$ sd over seeds; {booktabs.escape(table.condition)}."
    if table.letters:
        caption += " Models that share a letter are not told apart on that task (Holm, 5 \\%)."
    if table.floors:
        caption += " Floors below the rule: controls and random weights."
    if table.synthetic:
        caption += " SYNTHETIC columns are simulated images."
    above = len(rows) - table.floors
    groups = [group for group in (rows[:above], rows[above:]) if group]
    return booktabs.table([booktabs.escape(text) for text in table.header], groups, caption)
