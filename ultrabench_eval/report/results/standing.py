"""Which models of a column are level, and which one may be called the best: one rule for all pages.

Letters come from the statistics; bold comes from the letters, so the two cannot contradict.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ultrabench_eval.cells import Cell, Coordinates
from ultrabench_eval.report.results.degenerate import can_rank
from ultrabench_eval.report.results.entries import (
    Entry,
    Probing,
    at_place,
    by_probing,
    is_main,
    models_of,
    tasks_of,
)
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.sections import significance
from ultrabench_eval.stats import paired

OVER_TASKS = "\n"
"""In place of a task's name, before the kind of the tasks: the mean over them. No name has it."""
_LETTER = re.compile(r"\(\d+\)|[A-Za-z]")


class Letters(dict[Coordinates, str]):
    """Of each compared result the letters that it shares with its ties."""

    reading: str
    """How they are read, in a sentence."""


def letters(evidence: Evidence) -> Letters:
    """The letters of the main condition.

    The mean over tasks has them at `mean_at`; test sets that cannot rank have none.
    """
    without = {one.task for _, one in evidence.comparisons if not can_rank(one.test)}
    found = Letters((at, text) for at, text in evidence.letters().items() if at.task not in without)
    found.reading = _reading(evidence)
    groups = by_probing(entry for entry in evidence.entries if is_main(entry))
    for probing, comparisons in evidence.main.items():
        order = significance.ranking(comparisons)
        if order is None or not _is_column(order, groups[probing], without):
            continue
        shared = significance.over_tasks(order, comparisons).letters
        for model, text in zip(order.models, shared, strict=True):
            found[mean_at(model, probing)] = text
    return found


def _reading(evidence: Evidence) -> str:
    models = max((len(one.models) for _, one in evidence.comparisons), default=0)
    if evidence.reference:
        who = f"Letter r: not significantly different from {evidence.reference} on that task"
        pairs = "the comparisons of encoders with it, which alone were made"
    elif models > paired.MANY:
        who = "Letter a: not significantly different from the best model on that task"
        pairs = f"all pairs of encoders; of so many models (above {paired.MANY}) only those with "
        pairs += "the best and of neighbours are tested"
    else:
        who = "Letters: two models that share one are not significantly different on that task"
        pairs = "the pairs of encoders"
    return (
        f"{who} (whole patients swapped between two models, Holm-corrected over {pairs}; 5 %). "
        "The mean over tasks has letters too, where all models have all of its tasks."
    )


def mean_at(model: str, probing: Probing) -> Coordinates:
    """Where the letters of a model's mean over tasks are."""
    return Coordinates(model, f"{OVER_TASKS}{probing.type}", probing.protocol, probing.probe)


def _is_column(
    order: significance.Ranking, entries: Sequence[Entry], without: Collection[str]
) -> bool:
    """Whether the tables' mean is over just these tasks, and of just these models.

    It is not where a model lacks a task: the statistics leave out the task, the tables the model.
    """
    tasks = [task for task in tasks_of(entries) if task not in without]
    places = at_place(entries)
    whole = {
        model
        for model in models_of(entries)
        if all(isinstance(places.get((model, task)), Cell) for task in tasks)
    }
    several = len(tasks) > 1 and len(order.models) > 1
    return several and set(order.tasks) == set(tasks) and set(order.models) == whole


def mean_title(tasks: Sequence[str], without: Collection[str]) -> str:
    """Head of the column of means; "" if there is none, because fewer than two tasks are left."""
    counted = sum(task not in without for task in tasks)
    if counted < 2:
        return ""
    return f"mean of {counted} of {len(tasks)} tasks" if counted < len(tasks) else "mean of tasks"


def best(
    scores: Mapping[str, float],
    letters: Mapping[str, str],
    doubted: Collection[str] = (),
    sign: int = 1,
) -> str | None:
    """The best model of a column, if it is significantly that.

    It shares no letter with any other model, so it differs from the runner-up and from all below.

    Args:
        scores: of all models; NaN for a hole.
        letters: of compared models; "" or nothing for others.
        doubted: models whose number is not verified: not the best of anything.
        sign: -1 where less is better.
    """
    known = {model: score for model, score in scores.items() if not np.isnan(score)}
    if len(known) < 2:
        return None
    first = max(known, key=lambda model: sign * known[model])
    mine, others = _letters(letters, first), [_letters(letters, m) for m in known if m != first]
    alone = bool(mine) and all(others) and not any(mine & other for other in others)
    return first if alone and first not in doubted else None


def tie(a: str, b: str) -> bool:
    """Whether two models' letters have one in common."""
    return bool({*_LETTER.findall(a)} & {*_LETTER.findall(b)})


def _letters(letters: Mapping[str, str], model: str) -> set[str]:
    return set(_LETTER.findall(letters.get(model, "")))
