"""Tables in LaTeX: booktabs rules, text escaped, as many cells a row as columns.

A table that is wider than its place on the page is made smaller as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

NEEDS = "% Needs \\usepackage{booktabs,graphicx}."
# Columns that fit into one of a page's two.
NARROW = 3


def escape(text: str) -> str:
    """Plain text as LaTeX; signs that not every font has as commands."""
    return text.translate(_ESCAPED)


def bold(text: str) -> str:
    """LaTeX text in bold."""
    return f"\\textbf{{{text}}}"


def underlined(text: str) -> str:
    """LaTeX text underlined."""
    return f"\\underline{{{text}}}"


def table(
    header: Sequence[str],
    groups: Iterable[Sequence[Sequence[str]]],
    caption: str,
    *,
    left: int = 1,
) -> str:
    """A floating table, over both columns of a page unless it is narrow.

    Args:
        header: C column names.
        groups: rows of C cells each; a rule stands between groups.
        caption: what the table shows.
        left: how many columns, from the first, are set to the left; the others to the right.

    Names, cells and caption are LaTeX already (see `escape`).
    """
    float_name = "table" if len(header) <= NARROW else "table*"
    body: list[str] = []
    for rows in groups:
        body += ["\\midrule", *map(_row, rows)]
    return "\n".join(
        [
            f"\\begin{{{float_name}}}",
            "\\centering",
            "\\scriptsize",
            "\\setlength{\\tabcolsep}{3pt}",
            "\\setlength{\\belowcaptionskip}{4pt}",
            "\\renewcommand{\\arraystretch}{1.1}",
            f"\\caption{{{caption}}}",
            # A scratch box, for only when it is set is its width known.
            f"\\sbox0{{\\begin{{tabular}}{{{'l' * left}{'r' * (len(header) - left)}}}",
            "\\toprule",
            _row(header),
            *body,
            "\\bottomrule",
            "\\end{tabular}}",
            r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
            f"\\end{{{float_name}}}\n",
        ]
    )


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


_ESCAPED = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"$<$",
        ">": r"$>$",
        "±": r"$\pm$",
        "−": r"$-$",
        "–": "--",
    }
)
