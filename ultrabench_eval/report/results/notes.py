"""What went wrong, what to know before a number is believed, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ultrabench_eval.cells import FRAMES_POOLED, STILL_REPEATED, Cell, Failure
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.report.results.entries import (
    Entry,
    Probing,
    cells_of,
    condition,
    is_fine_tuning,
    models_of,
    task_order,
)
from ultrabench_eval.report.tables.table import Table
from ultrabench_eval.sealed import AGAIN

SHOWN = 3  # results that a sentence names
_SHOWN = {
    FRAMES_POOLED: "the model takes images: it is shown frames of a video one by one, and its "
    "features are averaged; for masks, the labelled frame alone",
    STILL_REPEATED: "the model takes clips: it is shown an image as a video that stands still",
}


def errors(entries: Iterable[Entry]) -> Table:
    """A row a (model, task, reason): a broken image fails all conditions alike, and data that are
    not there are missed by all models."""
    failed = by_key(
        (
            ("all" if entry.absent else at.model, at.task, " ".join(entry.reason.split())),
            condition(at),
        )
        for entry in entries
        if isinstance(entry, Failure)
        for at in [entry.coordinates]
    )
    rows = [
        [model, task, where[0] if len(where) == 1 else f"{len(where)} conditions", reason]
        for (model, task, reason), where in failed.items()
    ]
    return Table(("model", "task", "condition", "why"), rows, "Errors", right=())


def warnings(cells: Iterable[Cell]) -> Table:
    """A row a (task, sentence, conditions) with the models that share it."""
    found = by_key(
        ((at.task, warning, at.model), (Probing.of(cell), str(at.fraction)))
        for cell in cells
        for at in [cell.coordinates]
        for warning in cell.warnings
    )
    models = by_key(
        ((task, warning, "; ".join(f"{p}: {', '.join(f)} %" for p, f in where.items())), model)
        for (task, warning, model), fractions in found.items()
        for where in [by_key(fractions)]
    )
    ordered = sorted(models.items(), key=lambda item: (task_order(item[0][0]), item[0][1:]))
    rows = [[task, warning, ", ".join(named), where] for (task, warning, where), named in ordered]
    return Table(("task", "what", "models", "where"), rows, "Warnings", right=())


def doubts(entries: Iterable[Entry], gone: Sequence[str] = ()) -> list[str]:
    """Which numbers are not verified, and which are missing: a sentence per reason.

    Args:
        entries: of a results folder.
        gone: places of results that are no longer there (`Cells.gone`).
    """
    found = by_key(
        (cell.doubt, f"{at.model} on {at.task} ({condition(at)})")
        for cell in cells_of(entries)
        for at in [cell.coordinates]
        if cell.doubt
    )
    sentences = [
        f"{_counted(named)} not verified ({doubt}): {_first(named)}; {AGAIN}"
        for doubt, named in sorted(found.items())
    ]
    if gone:
        missing = f"{_counted(gone)} missing from cells/, where `ubench` wrote what is gone"
        sentences.append(f"{missing}: {_first([f'{place}.json' for place in gone])}; {AGAIN}")
    return sentences


def _counted(named: Sequence[str]) -> str:
    return "1 result is" if len(named) == 1 else f"{len(named)} results are"


def _first(named: Sequence[str]) -> str:
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    return ", ".join(named[:SHOWN]) + more


def shown(cells: Iterable[Cell]) -> list[str]:
    """Which models were not shown what they take: a sentence for each way and set of models."""
    models = by_key(
        ((how, cell.coordinates.task), cell.coordinates.model)
        for cell in cells
        if (how := str(cell.model.get("shown") or ""))
    )
    tasks = by_key(
        ((how, tuple(dict.fromkeys(named))), task) for (how, task), named in models.items()
    )
    return [
        f"{how} ({_SHOWN.get(how, how)}), on {', '.join(some)}: {', '.join(named)}."
        for (how, named), some in tasks.items()
    ]


def mixtures(cells: Sequence[Cell]) -> list[str]:
    """What is in one table but was not measured alike."""
    found = []
    for task, members in sorted(by_key((c.coordinates.task, c) for c in cells).items()):
        if len({c.identity["task"] for c in members}) > 1:
            found.append(
                f"the rows of task '{task}' ({', '.join(models_of(members))}) were measured on "
                "different versions of its data; run all of them again"
            )
    # A network that is fine-tuned computes in float32 wherever, frozen ones in less.
    rows = by_key(((c.coordinates.model, is_fine_tuning(c.coordinates.probe)), c) for c in cells)
    for (model, _), members in sorted(rows.items()):
        if len({(c.identity["model"], c.identity["dtype"]) for c in members}) > 1:
            found.append(
                f"the columns of model '{model}' were measured with different weights, wrappers "
                "or dtypes; run all of its tasks again"
            )
    for name, members in sorted(by_key((c.coordinates.corruption, c) for c in cells).items()):
        if len({c.identity.get("corruption") for c in members}) > 1:
            found.append(
                f"test images with {name} were made by different versions of that corruption; run "
                "all of them again"
            )
    if len({c.identity["seeds"] for c in cells}) > 1:
        found.append("results differ in their number of seeds (see Details)")
    return found
