"""A table of texts, and how Markdown, LaTeX and CSV write it (HTML: the page's template).

In LaTeX it has booktabs rules and is made smaller as a whole where it is wider than its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from ultrabench_eval.core import files

NEEDS = "% Needs \\usepackage{booktabs,graphicx}."
# Columns that fit into one of a page's two.
_NARROW = 3


@dataclass(frozen=True)
class TableCell:
    """One place of a table."""

    text: str
    mark: str = ""
    """"best", "second" or ""; of its column."""
    letters: str = ""
    """Shared with its ties."""

    def __str__(self) -> str:
        return f"{self.text} {self.letters}".rstrip()


@dataclass(frozen=True)
class Table:
    """C columns; the first names the rows. All texts are plain, each format escapes them."""

    header: Sequence[str]
    rows: Sequence[Sequence[str | TableCell]]
    """Of C places each."""
    title: str = ""
    notes: Sequence[str] = ()
    """Sentences on how it is read; in LaTeX a part of the caption."""
    label: str = ""
    """In LaTeX, for references to it: "tab:" and this."""
    rules: Collection[int] = ()
    """Rows that a rule stands above."""
    right: Collection[int] | None = None
    """Columns set to the right; None: all but the first."""
    code: Collection[int] = ()
    """Columns of digests, set in a fixed width."""

    def markdown(self) -> str:
        """The rows alone: best in bold, second underlined."""
        rows = [[plain(_MARKDOWN[_mark(one)].format(one)) for one in row] for row in self.rows]
        cells = [[text.replace("|", "\\|") for text in row] for row in rows]
        return f"{tabulate(cells, list(self.header), tablefmt='pipe', disable_numparse=True)}\n"

    def section(self, level: int = 2) -> list[str]:
        """Title and rows in Markdown; nothing without rows."""
        return [f"{'#' * level} {self.title}\n", self.markdown()] if self.rows else []

    def csv(self) -> str:
        """Header and texts."""
        return files.csv_text([self.header, *self.texts])

    @property
    def texts(self) -> list[list[str]]:
        """The rows without marks."""
        return [[str(one) for one in row] for row in self.rows]

    @property
    def on_right(self) -> Collection[int]:
        """Columns set to the right."""
        return range(1, len(self.header)) if self.right is None else self.right

    @property
    def _caption(self) -> str:
        return " ".join([*([f"{self.title}."] if self.title else []), *self.notes])

    def latex(self) -> str:
        """A floating table, over both columns of a page unless it is narrow."""
        body = ["\\midrule"]
        for number, row in enumerate(self.rows):
            body += ["\\midrule"] if number in self.rules and number else []
            body.append(_row([_latex(one) for one in row]))
        columns = "".join("lr"[c in self.on_right] for c in range(len(self.header)))
        float_name = "table" if len(self.header) <= _NARROW else "table*"
        return "\n".join(
            [
                f"\\begin{{{float_name}}}",
                "\\centering",
                "\\scriptsize",
                "\\setlength{\\tabcolsep}{3pt}",
                "\\setlength{\\belowcaptionskip}{4pt}",
                "\\renewcommand{\\arraystretch}{1.1}",
                f"\\caption{{{escape(self._caption)}}}",
                *([f"\\label{{tab:{self.label}}}"] if self.label else []),
                # A scratch box, because its width is known only when it is set.
                f"\\sbox0{{\\begin{{tabular}}{{{columns}}}",
                "\\toprule",
                _row([escape(name) for name in self.header]),
                *body,
                "\\bottomrule",
                "\\end{tabular}}",
                r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi",
                f"\\end{{{float_name}}}\n",
            ]
        )


_MARKDOWN = {"": "{}", "best": "**{}**", "second": "<u>{}</u>"}
_LATEX = {"": "{}", "best": "\\textbf{{{}}}", "second": "\\underline{{{}}}"}


def best_two(values: Sequence[float | None]) -> list[str]:
    """The marks of a column: its highest number and the second highest, ties included."""
    known = sorted({value for value in values if value is not None}, reverse=True)
    marks: dict[float | None, str] = dict(zip(known, ("best", "second"), strict=False))
    return [marks.get(value, "") for value in values]


def _mark(one: str | TableCell) -> str:
    return one.mark if isinstance(one, TableCell) else ""


def _latex(one: str | TableCell) -> str:
    """A place; the letters of its ties are raised: so they are printed, and it is narrower."""
    if isinstance(one, str):
        return escape(one)
    raised = f"\\textsuperscript{{{one.letters}}}" if one.letters else ""
    return _LATEX[one.mark].format(escape(one.text) + raised)


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def plain(text: str) -> str:
    """`text` as Markdown that no viewer takes for HTML, a link or a picture: names are anyone's."""
    text = re.sub(r"<(?!/?u>)(?=[A-Za-z/!?])", "&lt;", " ".join(text.splitlines()))
    return re.sub(r"\](?=[(\[:])", r"]\\", text)


def escape(text: str) -> str:
    """Plain text as LaTeX; signs that not every font has as commands."""
    return text.translate(_ESCAPED)


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
        "†": r"$\dagger$",
        "²": r"$^2$",
    }
)
