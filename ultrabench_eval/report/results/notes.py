"""What went wrong, what to know before a number is believed, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby

from ultrabench_eval.cells import FRAMES_POOLED, STILL_REPEATED, Cell, Failure
from ultrabench_eval.report.results.entries import Entry, Probing, condition, task_order
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
    failed: dict[tuple[str, str, str], list[str]] = {}
    for entry in entries:
        if isinstance(entry, Failure):
            at, reason = entry.coordinates, " ".join(entry.reason.split())
            model = "all" if entry.absent else at.model
            failed.setdefault((model, at.task, reason), []).append(condition(at))
    rows = [
        [model, task, where[0] if len(where) == 1 else f"{len(where)} conditions", reason]
        for (model, task, reason), where in failed.items()
    ]
    return Table(("model", "task", "condition", "why"), rows, "Errors", right=())


def warnings(cells: Iterable[Cell]) -> Table:
    """A row a (task, sentence, conditions) with the models that share it."""
    found: dict[tuple[str, str, str], dict[Probing, list[int]]] = {}
    for cell in cells:
        at = cell.coordinates
        for warning in cell.warnings:
            fractions = found.setdefault((at.task, warning, at.model), {})
            fractions.setdefault(Probing.of(cell), []).append(at.fraction)
    models: dict[tuple[str, str, str], list[str]] = {}
    for (task, warning, model), where in found.items():
        words = "; ".join(
            f"{probing}: {', '.join(map(str, fractions))} %" for probing, fractions in where.items()
        )
        models.setdefault((task, warning, words), []).append(model)
    ordered = sorted(models.items(), key=lambda item: (task_order(item[0][0]), item[0][1:]))
    rows = [[task, warning, ", ".join(named), where] for (task, warning, where), named in ordered]
    return Table(("task", "what", "models", "where"), rows, "Warnings", right=())


def doubts(entries: Iterable[Entry], gone: Sequence[str] = ()) -> list[str]:
    """Which numbers are not verified, and which are missing: a sentence per reason.

    Args:
        entries: of a results folder.
        gone: places of results that are no longer there (`Cells.gone`).
    """
    found: dict[str, list[str]] = {}
    for entry in entries:
        if isinstance(entry, Cell) and entry.doubt:
            at = entry.coordinates
            words = f"{at.model} on {at.task} ({condition(at)})"
            found.setdefault(entry.doubt, []).append(words)
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
    models: dict[tuple[str, str], dict[str, None]] = {}
    for cell in cells:
        if how := str(cell.model.get("shown") or ""):
            models.setdefault((how, cell.coordinates.task), {})[cell.coordinates.model] = None
    tasks: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (how, task), named in models.items():
        tasks.setdefault((how, tuple(named)), []).append(task)
    return [
        f"{how} ({_SHOWN.get(how, how)}), on {', '.join(some)}: {', '.join(named)}."
        for (how, named), some in tasks.items()
    ]


def mixtures(cells: Sequence[Cell]) -> list[str]:
    """What is in one table but was not measured alike."""
    found = []
    for task, members in _grouped(cells, lambda c: c.coordinates.task):
        if len({c.identity["task"] for c in members}) > 1:
            models = sorted({c.coordinates.model for c in members})
            found.append(
                f"the rows of task '{task}' ({', '.join(models)}) were measured on different "
                "versions of its data; run all of them again"
            )
    for model, members in _grouped(cells, lambda c: c.coordinates.model):
        if len({(c.identity["model"], c.identity["dtype"]) for c in members}) > 1:
            found.append(
                f"the columns of model '{model}' were measured with different weights, wrappers "
                "or dtypes; run all of its tasks again"
            )
    for name, members in _grouped(cells, lambda c: c.coordinates.corruption):
        if len({c.identity.get("corruption") for c in members}) > 1:
            found.append(
                f"test images with {name} were made by different versions of that corruption; run "
                "all of them again"
            )
    if len({c.identity["seeds"] for c in cells}) > 1:
        found.append("cells differ in their number of seeds (see Details)")
    return found


def _grouped(cells: Iterable[Cell], by: Callable[[Cell], str]) -> list[tuple[str, list[Cell]]]:
    return [(key, list(members)) for key, members in groupby(sorted(cells, key=by), key=by)]
