"""The wide tables for a paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ultrabench_eval.cells import Coordinates
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
    rows = [[_tex(text) for text in row] for row in table.rows]
    for r, c in table.best:
        rows[r][c] = f"\\textbf{{{rows[r][c]}}}"
    lines = [_row(row) for row in rows]
    if 0 < table.floors < len(lines):
        lines.insert(len(lines) - table.floors, "\\midrule")
    caption = f"Macro F1 (\\%), mean $\\pm$ sd over seeds; {_tex(table.condition)}."
    if table.letters:
        caption += " Models that share a letter are not told apart on that task (Holm, 5 \\%)."
    if table.floors:
        caption += " Floors below the rule: controls and random weights."
    if table.synthetic:
        caption += " SYNTHETIC columns are simulated images."
    return "\n".join(
        [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{caption}}}",
            f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            "\\toprule",
            _row(map(_tex, table.header)),
            "\\midrule",
            *lines,
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}\n",
        ]
    )


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tex(text: str) -> str:
    return text.translate(_TEX)


_TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
    }
)
