"""The wide table: a row for each model, a column for each task, for one probe and protocol.

Only of the main condition: all training images, test images as they are. It is a board in text.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ultrabench_eval.cells import Coordinates
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import Entry, Labels
from ultrabench_eval.report.results.standing import Letters, mean_title
from ultrabench_eval.report.tables.board import Board, BoardScore, boards
from ultrabench_eval.report.tables.table import Table, TableCell

SEEN = "†"
"""Behind a score: the model was trained on images of the task."""


@dataclass(frozen=True)
class Wide:
    """Main metric of one probe and protocol."""

    condition: str
    metric: Metric
    """What the numbers are."""
    table: Table
    """Models from best to worst, then controls and random weights under a rule; what is best:
    `standing.best`."""
    synthetic: bool
    letters: str
    """How the letters that tell ties are read; "" without any."""
    seen: bool = False
    """Whether any score is of a model that was trained on images of the task."""
    without: tuple[str, ...] = ()
    """Tasks that are not ranked: no bold, no letters, left out of the mean."""


def wide(
    entries: Sequence[Entry],
    letters: Mapping[Coordinates, str] | None = None,
    without: Collection[str] = (),
) -> list[Wide]:
    """One table for each kind of task, probe and protocol, of the main condition.

    The last column is the mean over tasks, of models that have all of them: a mean is never
    taken over holes. Models are ordered by it; those with holes follow by name, controls are last.

    Args:
        entries: of a results folder; other conditions are ignored.
        letters: for cells that were compared, and for means over tasks, the letters they share
            with their ties (`standing.letters`). Without them nothing is bold.
        without: tasks that have no part in the mean (`degenerate.unranked`).
    """
    labels, reading = Labels.of(entries), _reading(letters or {})
    made = boards(entries, letters or {}, without=without, only_main=True)
    return [_wide(board, labels, reading) for board in made]


def _wide(board: Board, labels: Labels, reading: str) -> Wide:
    tasks = [task.name for task in board.tasks]
    title = mean_title(tasks, board.without)
    rows: list[list[str | TableCell]] = [
        [labels.model(row.model), *map(_place, row.scores)] for row in board.rows
    ]
    above = sum(not row.control for row in board.rows)
    table = Table(
        ["model", *map(labels.task, tasks), *([title] if title else [])],
        rows,
        f"{board.metric.heading}, mean ± sd over seeds: {board.probing}",
        label=board.probing.in_files,
        rules=[above] if above < len(rows) else [],
    )
    told = any(score.letters for row in board.rows for score in row.scores)
    return Wide(
        condition=str(board.probing),
        metric=board.metric,
        table=table,
        synthetic=bool(board.synthetic),
        letters=reading if told else "",
        seen=any(score.seen for row in board.rows for score in row.scores),
        without=tuple(task for task in tasks if task in board.without),
    )


def _place(score: BoardScore) -> TableCell:
    mark = "best" if score.best else ""
    return TableCell(f"{score.text}{SEEN if score.seen else ''}", mark, score.letters)


def _reading(letters: Mapping[Coordinates, str]) -> str:
    return letters.reading if isinstance(letters, Letters) else "Letters: of ties."
