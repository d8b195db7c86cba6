"""choose.md: which encoder for me? Score, speed, size and licence side by side."""

from __future__ import annotations

from collections.abc import Sequence

import model_zoo
from ultrabench_eval.cells import Cell
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report.results.entries import Entry, Labels, applicable, bullets, cells_of
from ultrabench_eval.report.results.standing import tie
from ultrabench_eval.report.tables.board import NOT_KNOWN, Board, BoardRow
from ultrabench_eval.report.tables.table import Table, TableCell


def tables(boards: Sequence[Board], entries: Sequence[Entry], labels: Labels) -> list[Table]:
    """A table for each kind of task, of its first probe and protocol; controls are left out.

    Args:
        boards: of the main condition.
        entries: of the results folder.
        labels: how models are called.
    """
    first = {board.probing.type: board for board in reversed(boards)}
    facts = {cell.coordinates.model: cell for cell in cells_of(entries)}
    return [_table(board, facts, labels) for board in reversed(first.values()) if _rows(board)]


def _rows(board: Board) -> list[BoardRow]:
    rows = [row for row in board.rows if not row.control and row.scores[-1].value is not None]
    return sorted(rows, key=lambda row: -board.metric.sign * (row.scores[-1].value or 0))


def _table(board: Board, facts: dict[str, Cell], labels: Labels) -> Table:
    rows = _rows(board)
    texts: list[list[str | TableCell]] = [
        [
            labels.model(row.model),
            TableCell(row.scores[-1].text, letters=row.scores[-1].letters),
            row.speed.text if row.speed else "",
            NOT_KNOWN if row.parameters is None else f"{row.parameters:,}",
            str(facts[row.model].model.get("dim", NOT_KNOWN)),
            licence(row.model),
            row.saw,
        ]
        for row in rows
    ]
    what = board.mean or labels.task(board.tasks[0].name)
    header = ("model", what, "images/s", "parameters", "features", "licence of the weights")
    return Table(
        (*header, "tasks seen in pretraining"),
        texts,
        title=f"{board.metric.heading}: {board.probing}",
        notes=[*_advice(board, rows, labels), *_without(board, rows, labels)],
        right=range(1, 5),
    )


def licence(model: str) -> str:
    """As the card of the weights states it."""
    try:
        return str(model_zoo.describe(model)["weights_licence"])
    except UserError:  # of a plugin that is not loaded now
        return NOT_KNOWN


def _advice(board: Board, rows: Sequence[BoardRow], labels: Labels) -> list[str]:
    """What the table means for a choice."""
    best, first = rows[0], "highest" if board.metric.higher_is_better else "lowest"
    mine = best.scores[-1].letters
    level = [best, *(row for row in rows[1:] if tie(mine, row.scores[-1].letters))]
    name = labels.model(best.model)
    if not mine:
        told = [f"The {first} score is that of {name}; differences were not tested."]
    elif len(level) == 1:
        told = [f"{name} is significantly better than all other encoders here."]
    else:
        others = ", ".join(labels.model(row.model) for row in level[1:])
        told = [f"Not significantly different from {name}, the {first}: {others}."]
    several = level if len(level) > 1 else []
    if sized := [(one.parameters, one.model) for one in several if one.parameters is not None]:
        size, smallest = min(sized, key=lambda one: one[0])
        told.append(f"The smallest of them is {labels.model(smallest)} ({size:,} parameters).")
    if timed := [(one.speed, one.model) for one in several if one.speed]:
        speed, fastest = max(timed, key=lambda one: one[0].images_per_second)
        told.append(
            f"The fastest of them is {labels.model(fastest)} ({speed.text} images/s; "
            f"{speed.where})."
        )
    return told + applicable(
        (
            not any(row.speed for row in rows),
            "Speeds were not measured: `ubench speed RUN` measures them.",
        ),
        (
            True,
            "Licences are as the cards state them (`ubench models NAME`); this is not legal "
            "advice.",
        ),
    )


def _without(board: Board, rows: Sequence[BoardRow], labels: Labels) -> list[str]:
    """Encoders that lack a task, so that they have no mean."""
    known = {row.model for row in rows}
    names = [labels.model(r.model) for r in board.rows if not (r.control or r.model in known)]
    return [f"Left out, because they lack a task: {', '.join(names)}."] if names else []


def page(found: Sequence[Table]) -> str:
    """choose.md."""
    parts = ["# Which encoder?\n"]
    for one in found:
        parts += [*one.section(), bullets(one.notes)]
    return "\n".join(parts)
