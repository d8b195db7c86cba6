"""Imported predictions beside the probes: a finished system against encoders with heads of ours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ultrabench_eval.cells import IMPORTED
from ultrabench_eval.report.results.degenerate import can_rank
from ultrabench_eval.report.results.entries import (
    Labels,
    Probing,
    between,
    capitalised,
    number,
    probability,
)
from ultrabench_eval.report.results.evidence import Comparison, Evidence
from ultrabench_eval.report.sections.significance import LEVEL, Row, Section
from ultrabench_eval.report.tables.table import Table

CSV = "imported.csv"
_Against = tuple[Probing, str]
"""Of an answer: how it was probed, and the model's name."""


def section(evidence: Evidence) -> Section | None:
    """Each imported prediction against all other results of its task; None without any."""
    found = Section(
        "Imported predictions beside other results",
        "Answers whether predictions that were imported score otherwise than each other result of "
        "the same task by more than the choice of test patients and seeds explains (p-values are "
        "Holm-corrected for each imported entry). They are of a finished system, whose head was "
        "trained elsewhere, in a way that is not known here: a difference is one of systems, not "
        "of encoders. Positive: the imported one has the higher number, which is the worse one of "
        f"errors. All are in {CSV}.",
        CSV,
    )
    for probing, comparisons in evidence.main.items():
        if probing.probe != IMPORTED:
            continue
        for task, mine in comparisons.items():
            others = {
                (other, model): answers
                for other, every in evidence.main.items()
                if other.type == probing.type and task in every
                for model, answers in zip(every[task].models, every[task].answers, strict=True)
            }
            if len(others) > 1 and can_rank(mine.test):
                for model in mine.models:
                    _compare(found, probing, model, mine, others, evidence.labels)
    return found if found.rows else None


def _compare(
    section: Section,
    probing: Probing,
    model: str,
    mine: Comparison,
    others: dict[_Against, np.ndarray],
    labels: Labels,
) -> None:
    """Add the tests of one imported entry on one task."""
    keys = [(probing, model), *(key for key in others if key != (probing, model))]
    called = [f"{name}, {one}" for one, name in keys]
    every = replace(
        mine,
        models=tuple(called),
        answers=[others[key] for key in keys],
        controls=frozenset(),
        reference=called[0],
    )
    pairs, metric = every.pairs, mine.metric
    shown = []
    for place, (other, name) in enumerate(keys[1:], 1):
        found = pairs.row(0, place)
        row: Row = {
            "task": mine.task,
            "synthetic": mine.task in labels.synthetic,
            "imported": model,
            "model": name,
            **{"probe": other.probe, "protocol": other.protocol},
            **found,
            "told_apart": found["p_holm"] < 1 - LEVEL,
        }
        section.rows.append((probing, row))
        of = (found["difference"], found["low"], found["high"])
        shown.append(
            [
                *(labels.model(name), str(Probing(other.probe, other.protocol))),
                *(number(every.scores[place], metric.places), between(*of, metric.places)),
                probability(found["p_holm"]).removeprefix("= "),
            ]
        )
    score = number(every.scores[0], metric.places)
    section.parts.append(f"### {labels.model(model)} on {labels.task(mine.task)}: {score}\n")
    head = ["beside", "probed by", capitalised(metric.in_unit), "difference (95 %)", "p"]
    section.parts.append(Table(head, shown).markdown())
