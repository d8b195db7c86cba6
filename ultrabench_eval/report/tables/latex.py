"""The wide tables for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ultrabench_eval.cells import Coordinates
from ultrabench_eval.report.results.degenerate import TITLE, Finding, sentences, unranked
from ultrabench_eval.report.results.entries import NOT_VERIFIED, Entry, capitalised
from ultrabench_eval.report.tables import booktabs
from ultrabench_eval.report.tables.wide import Wide, wide


def latex(
    entries: Sequence[Entry],
    letters: Mapping[Coordinates, str] | None = None,
    found: Sequence[Finding] = (),
) -> str:
    """The wide tables in LaTeX.

    Args:
        entries: of a results folder.
        letters: see `wide`.
        found: what is degenerate (`degenerate.find`).
    """
    head = f"% Made by ultrabench_eval from the cells of this folder.\n{booktabs.NEEDS}\n"
    if found:
        head += "\n".join([f"% {TITLE}:", *(f"% - {text}" for text in sentences(found))]) + "\n"
    return "\n".join([head, *map(_table, wide(entries, letters, unranked(found)))])


def _table(table: Wide) -> str:
    rows = [[booktabs.escape(model), *map(_score, scores)] for model, *scores in table.rows]
    for r, c in table.best:
        rows[r][c] = booktabs.bold(rows[r][c])
    unit = f" ({table.metric.unit})" if table.metric.unit else ""
    title = booktabs.escape(capitalised(table.metric.title) + unit)
    caption = f"{title}, mean $\\pm$ sd over seeds; {booktabs.escape(table.condition)}."
    if table.letters:
        caption += f" {booktabs.escape(table.letters)}"
    if table.without:
        caption += (
            f" Not ranked and not in the mean: {booktabs.escape(', '.join(table.without))} (too "
            "few test patients of a class)."
        )
    if table.floors:
        caption += " Floors below the rule: controls and random weights."
    if table.synthetic:
        caption += " SYNTHETIC columns are simulated images."
    if any(NOT_VERIFIED in text for row in table.rows for text in row):
        caption += " Numbers marked as not verified are not what was measured last."
    above = len(rows) - table.floors
    groups = [group for group in (rows[:above], rows[above:]) if group]
    return booktabs.table([booktabs.escape(text) for text in table.header], groups, caption)


def _score(text: str) -> str:
    """A cell, with the letters of its ties raised: that is how they are printed, and narrower."""
    score, _, letters = text.rpartition(" ")
    if score and letters.isalpha():
        return f"{booktabs.escape(score)}\\textsuperscript{{{letters}}}"
    return booktabs.escape(text)
