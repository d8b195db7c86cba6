"""The wide tables for a paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ultrabench_eval.cells import Coordinates
from ultrabench_eval.report.results.degenerate import TITLE, Finding, sentences, unranked
from ultrabench_eval.report.results.entries import NOT_VERIFIED, Entry, applicable, capitalised
from ultrabench_eval.report.tables.table import NEEDS
from ultrabench_eval.report.tables.wide import SEEN, Wide, wide


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
    head = f"% Made by ultrabench_eval from the results in this folder.\n{NEEDS}\n"
    if found:
        head += "\n".join([f"% {TITLE}:", *(f"% - {text}" for text in sentences(found))]) + "\n"
    return "\n".join([head, *map(_table, wide(entries, letters, unranked(found)))])


def _table(table: Wide) -> str:
    unit = f" ({table.metric.unit})" if table.metric.unit else ""
    title = f"{capitalised(table.metric.title)}{unit}{table.metric.direction}"
    without = f"{', '.join(table.without)} (too few test patients of a class)"
    doubted = any(NOT_VERIFIED in str(place) for row in table.table.rows for place in row)
    notes = applicable(
        (True, f"{title}, mean ± sd over seeds; {table.condition}."),
        (table.letters, table.letters),
        (table.without, f"Not ranked and not in the mean: {without}."),
        (
            table.table.rules,
            "Below the rule: controls, which are trivial methods and random weights.",
        ),
        (table.seen, f"{SEEN}: the model was trained on images of this data set."),
        (table.synthetic, "SYNTHETIC columns are simulated images."),
        (doubted, "Numbers marked as not verified are not what was measured last."),
    )
    return replace(table.table, title="", notes=notes).latex()
