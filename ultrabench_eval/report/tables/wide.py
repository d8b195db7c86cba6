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
from ultrabench_eval.report.tables.board import Board, boards


@dataclass(frozen=True)
class Wide:
    """Main metric of one probe and protocol, ready to be set: text cells, and which are best."""

    condition: str
    metric: Metric
    """What the numbers are."""
    header: list[str]
    rows: list[list[str]]
    """Models from best to worst, then the floors."""
    best: set[tuple[int, int]]
    """Places of what is set in bold: see `standing.placed`."""
    synthetic: bool
    floors: int
    """How many rows at the end are floors: controls and models with random weights."""
    letters: str
    """How the letters that tell ties are read; "" without any."""
    without: tuple[str, ...] = ()
    """Tasks that take no bold, no letters and no part in the mean."""

    def marked(self, mark: str) -> list[list[str]]:
        """The rows, with `mark` (a format such as "**{}**") around the best of each column."""
        return [
            [mark.format(text) if (r, c) in self.best else text for c, text in enumerate(row)]
            for r, row in enumerate(self.rows)
        ]


def wide(
    entries: Sequence[Entry],
    letters: Mapping[Coordinates, str] | None = None,
    without: Collection[str] = (),
) -> list[Wide]:
    """One table for each kind of task, probe and protocol, of the main condition.

    The last column is the mean over tasks, of models that have all of them: a mean is never
    taken over holes. Models are ordered by it; those with holes follow by name, floors stand last.

    Args:
        entries: of a results folder; other conditions are passed over.
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
    rows = [
        [labels.model(row.model), *(f"{s.text} {s.letters}".rstrip() for s in row.scores)]
        for row in board.rows
    ]
    best = {
        (r, c)
        for r, row in enumerate(board.rows)
        for c, score in enumerate(row.scores, 1)
        if score.place == "best"
    }
    told = any(score.letters for row in board.rows for score in row.scores)
    return Wide(
        condition=str(board.probing),
        metric=board.metric,
        header=["model", *map(labels.task, tasks), *([title] if title else [])],
        rows=rows,
        best=best,
        synthetic=bool(board.synthetic),
        floors=sum(row.floor for row in board.rows),
        letters=reading if told else "",
        without=tuple(task for task in tasks if task in board.without),
    )


def _reading(letters: Mapping[Coordinates, str]) -> str:
    return letters.reading if isinstance(letters, Letters) else "Letters: of ties."
