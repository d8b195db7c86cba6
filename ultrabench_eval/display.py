"""What the terminal shows: tables. However narrow it is, no name and no number is cut."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ultrabench_eval.core.names import printable

if TYPE_CHECKING:  # light commands, such as `ubench tasks`, show tables as well
    from ultrabench_eval.cells import Coordinates
    from ultrabench_eval.report.results.entries import Entry
    from ultrabench_eval.report.tables.board import Board

_BESIDE = 3  # between two columns of a leaderboard
_NARROW, _LONG = 20, 40  # a column of words; a word that is broken only if it is longer


def is_terminal(err: bool = False) -> bool:
    """Whether somebody watches standard output, or standard error."""
    return (sys.stderr if err else sys.stdout).isatty()


def console(err: bool = False) -> Console:
    """Standard output or error; as wide as each table needs where it is not a terminal."""
    return Console(stderr=err) if is_terminal(err) else Console(stderr=err, width=10_000)


# ---- plain tables -------------------------------------------------------------------------------


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table without lines."""
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(name, overflow="fold", no_wrap=place == 0)
    for row in rows:
        table.add_row(*map(Text, map(printable, row)))
    return table


def listing(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    """A table where there is room for it, else a paragraph for each row.

    Args:
        header: of C columns.
        rows: of C texts; the first names the row.
        width: of the terminal.
    """
    first, *others = zip(header, *rows, strict=True)
    least = max(map(cell_len, first)) + sum(_least(column) + 1 for column in others)
    if least <= width:
        return grid(header, rows)
    return Group(*(_paragraph(header, row) for row in rows))


def _least(column: Sequence[str]) -> int:
    """How narrow a column may become, with lines broken between words."""
    words = max((cell_len(word) for text in column for word in text.split()), default=0)
    return min(max(map(cell_len, column)), max(_NARROW, min(words, _LONG)))


def _paragraph(header: Sequence[str], row: Sequence[str]) -> RenderableType:
    below = Table(box=None, pad_edge=False, show_header=False, padding=(0, 1))
    below.add_column(no_wrap=True)
    below.add_column(overflow="fold")
    for name, text in zip(header[1:], row[1:], strict=True):
        if text:
            below.add_row(Text(f"  {name}", style="dim"), Text(printable(text)))
    return Group(Text(printable(row[0]), style="bold", overflow="fold"), below)


# ---- leaderboards -------------------------------------------------------------------------------


class _Place(NamedTuple):
    """Of a leaderboard: two lines, such as a score and its interval."""

    upper: str
    lower: str = ""
    bold: bool = False

    @property
    def width(self) -> int:
        return max(cell_len(self.upper), cell_len(self.lower))

    def text(self) -> Text:
        text = Text(printable(self.upper), style="bold" if self.bold else "")
        return text.append(f"\n{printable(self.lower)}", style="not bold dim")


def leaderboard(
    entries: Sequence[Entry],
    letters: Mapping[Coordinates, str],
    without: Iterable[str],
    width: int,
) -> list[Group]:
    """The main tables of a results folder, each under its title.

    A table that is wider than the terminal goes on below itself, with the models' names again.

    Args:
        entries: of the folder.
        letters: see `standing.letters`.
        without: tasks that have no part in the mean.
        width: of the terminal.
    """
    from ultrabench_eval.report.results.entries import (
        ABSENT,
        at_place,
        by_probing,
        is_main,
    )
    from ultrabench_eval.report.tables.board import boards
    from ultrabench_eval.report.tables.wide import SEEN

    mains = by_probing(filter(is_main, entries))
    shown = []
    for board in boards(entries, letters, without=frozenset(without), only_main=True):
        title = (
            f"{board.metric.heading}: mean ± sd over seeds, "
            f"letters of ties, and below it the 95 % interval\n{board.probing}"
        )
        if board.synthetic:
            title = f"SYNTHETIC images: says nothing about real ultrasound\n{title}"
        columns = _columns(board, at_place(mains[board.probing]))
        absent = [head.upper for head, *places in columns if {p.upper for p in places} == {ABSENT}]
        columns = [one for one in columns if not {p.upper for p in one[1:]} <= {"", ABSENT}]
        parts: list[RenderableType] = [Text(title)]
        parts += [_table(board, block) for block in _blocks(columns, width)]
        if any(score.seen for row in board.rows for score in row.scores):
            parts.append(Text(f"{SEEN}: the model was trained on images of this task"))
        if absent:
            parts.append(Text(f"no data, so no mean over all tasks: {', '.join(absent)}"))
        shown.append(Group(*parts))
    return shown


def _columns(board: Board, entries: Mapping[tuple[str, str], Entry]) -> list[list[_Place]]:
    """Head and one place per model, of the names, each task and the mean."""
    from ultrabench_eval.report.tables.wide import SEEN

    names = [_Place(row.model, ", ".join(row.marks)) for row in board.rows]
    heads = [_Place(h.name, "(SYNTHETIC)" if h.synthetic else "") for h in board.tasks]
    if board.mean:
        first, _, rest = board.mean.partition(" of ")
        heads.append(_Place(f"{first} of", rest))
    columns = [[_Place("model"), *names]]
    for c, head in enumerate(heads):
        places = []
        for row in board.rows:
            score = row.scores[c]
            entry = entries.get((row.model, head.upper))
            seen = SEEN if score.seen else ""
            upper = f"{score.text}{seen} {score.letters}".rstrip()
            places.append(_Place(upper, _interval(entry), score.best))
        columns.append([head, *places])
    return columns


def _interval(entry: Entry | None) -> str:
    """Of the main metric, as tables show it; nothing for a hole."""
    from ultrabench_eval.cells import Cell

    if not isinstance(entry, Cell):
        return ""
    metric = entry.main_metric
    low, high = (metric.scale * bound for bound in entry.intervals[metric.name])
    return f"{low:.{metric.places}f} to {high:.{metric.places}f}"


def _blocks(columns: Sequence[list[_Place]], width: int) -> list[list[list[_Place]]]:
    """The columns in as few blocks as fit side by side, each behind that of the names."""
    names, *others = columns
    widths = [max(place.width for place in column) + _BESIDE for column in columns]
    blocks: list[list[list[_Place]]] = []
    room = 0
    for column, needed in zip(others, widths[1:], strict=True):
        if not blocks or needed > room:
            blocks.append([names])
            room = width - widths[0]
        blocks[-1].append(column)
        room -= needed
    return blocks


def _table(board: Board, columns: Sequence[list[_Place]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    names, *others = columns
    table.add_column(names[0].text(), overflow="fold")
    for head, *_ in others:
        table.add_column(head.text(), justify="right", no_wrap=True)
    controls = sum(row.control for row in board.rows)
    for r in range(len(board.rows)):
        if 0 < r == len(board.rows) - controls:
            table.add_section()
        table.add_row(*(column[r + 1].text() for column in columns))
    return table
