"""Cards of the tasks: which classes, in how many images, and what controls reach on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tasks as task_zoo
from tasks.task import SPLITS, TaskCard
from ultrabench_eval.cells import CLASSES, Cell
from ultrabench_eval.core import hashing
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import (
    Labels,
    Probing,
    main_cells,
    number_in,
    score_text,
    tasks_of,
)
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.sections.significance import Row, Section, independent


def cards(evidence: Evidence, informative: Section) -> list[dict[str, Any]]:
    """Of all tasks that have a result of the main condition: parts of the page.

    Args:
        evidence: of the folder.
        informative: the section on whether a task discriminates.
    """
    mains = main_cells(evidence.entries)
    return [
        _card_of(
            [cell for cell in mains if cell.coordinates.task == task],
            evidence,
            [(probing, row) for probing, row in informative.rows if row["task"] == task],
        )
        for task in tasks_of(mains)
    ]


def _card_of(
    cells: Sequence[Cell], evidence: Evidence, rows: Sequence[tuple[Probing, Row]]
) -> dict[str, Any]:
    """Facts are [term, sentences]; a sentence of one probe and protocol is [its name, sentence]."""
    one = cells[0]
    test = evidence.test_of(one)
    named = [*(one.classes or [number_in(one)])]
    groups = None
    if test is not None and len(test.classes) == len(one.classes):
        if test.kind == "class":
            counts = np.bincount(test.targets, minlength=len(test.classes)).tolist()
            named = [f"{name} ({count})" for name, count in zip(named, counts, strict=True)]
        groups = len(set(test.groups)) if test.groups is not None else None
    controls = [[str(p), text] for p, text in _controls(cells, evidence.labels).items()]
    notes = dict.fromkeys(note for cell in cells if not cell.synthetic for note in cell.notes)
    facts = [
        ("images", [", ".join(f"{split} {_images(cells, split)}" for split in SPLITS)]),
        ("classes (test images)" if one.type == CLASSES else one.type, [", ".join(named)]),
        *_facts(one, groups),
        ("controls", controls or ["none was measured"]),
        (
            "whether it discriminates",
            [[str(probing), _verdict(row, one.main_metric)] for probing, row in rows],
        ),
        ("notes", [*notes]),
        ("fingerprint", [f"`{hashing.short(str(one.identity['task']))}`"]),
    ]
    return {"task": one.coordinates.task, "card": [fact for fact in facts if fact[1]]}


def _images(cells: Sequence[Cell], split: str) -> str:
    """Several numbers only where versions of a task are mixed."""
    return " or ".join(map(str, sorted({cell.images[split] for cell in cells})))


def _controls(cells: Sequence[Cell], labels: Labels) -> dict[Probing, str]:
    found = by_key(
        (Probing.of(cell), f"{cell.coordinates.model} {score_text(cell)}")
        for cell in cells
        if cell.coordinates.model in labels.controls
    )
    return {probing: "; ".join(texts) for probing, texts in found.items()}


def _verdict(row: Row, metric: Metric) -> str:
    """One row of the section in a sentence."""
    count = independent(row)
    worth = f" Its test set is worth {count} independent images." if count else ""
    if row["best_model"] is None:
        return f"Without a control and a model above it, nothing can be said.{worth}"
    tells = "Separates encoders" if row["tells_apart"] else "Does not separate encoders"
    gain, low, high = (row[name] for name in ("gain", "low", "high"))
    p = metric.places
    points = "points" if metric.unit == "%" else metric.unit
    first, second = row["best_model"], row["best_control"]
    if not metric.higher_is_better:
        first, second = second, first
    return (
        f"{tells} from controls. {first} minus {second} is "
        f"{gain:.{p}f} {points} ({low:.{p}f} to {high:.{p}f}), corrected for having picked the "
        f"best.{worth}"
    )


# ---- what is known of the release ---------------------------------------------------------------


def _facts(cell: Cell, groups: int | None) -> list[tuple[str, tuple[str, ...]]]:
    card = _card(cell)
    kind = cell.task["groups"]
    what = f"{card.organ}, {card.target}" if card else cell.task["title"]
    counted = f"{kind}, {groups} in the test set" if groups is not None else kind
    facts: list[tuple[str, tuple[str, ...]]] = [
        ("what", (what,) if what != cell.coordinates.task else ()),
        ("groups", (counted,)),
    ]
    if cell.synthetic:
        words = "simulated images: they have no release and no licence"
        facts.append(("licence", (words,)))
    elif card:
        facts += [("licence", (card.licence,)), ("source", (card.source,))]
        facts += [("paper", (card.paper,)), ("known defects", card.defects)]
    return [fact for fact in facts if fact[1]]


def _card(cell: Cell) -> TaskCard | None:
    """The built-in card of a cell's task, if it is of this very task and not only of its name.

    Cards of plug-ins are left out: they are known only in the process that loaded them, and the
    page must not depend on where it is made.
    """
    base, _ = task_zoo.split_name(cell.coordinates.task)
    if base not in task_zoo.BUILT_IN:
        return None
    card = task_zoo.card(base)
    same = card.title == cell.task["title"] and list(card.classes) == cell.classes
    return card if same else None
