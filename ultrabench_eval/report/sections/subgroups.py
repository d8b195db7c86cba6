"""On which patients is a model worst? Scores by device, sex, age ... where a release tells them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ultrabench_eval.report.results.degenerate import FEWEST, can_rank
from ultrabench_eval.report.results.entries import Labels, Probing, between
from ultrabench_eval.report.results.evidence import Comparison, Evidence
from ultrabench_eval.report.sections.significance import Row, Section, where
from ultrabench_eval.report.tables.table import Table
from ultrabench_eval.stats import bootstrap
from ultrabench_eval.test_set import TestSet

CSV = "subgroups.csv"
LEAST = 20
"""Patients of a subgroup whose score is given: the interval of fewer is wider than what devices or
sexes differ by, and one patient moves it by several points."""


class SubgroupScore(NamedTuple):
    """A model on a subgroup."""

    value: float
    low: float
    high: float


class Subgroup(NamedTuple):
    """The test samples that a release says the same of."""

    value: str
    rows: np.ndarray
    test: TestSet
    patients: int
    enough: bool
    """Whether its score is given."""


def section(evidence: Evidence) -> Section | None:
    """The section; None if nothing more is known of any test image."""
    made = Section(
        "On which patients is it worst?",
        "Answers whether a score hides a subgroup of patients on which it is lower, by what the "
        "release says of them. Scores are given for subgroups with at least "
        f"{LEAST} patients (images where a task has no groups), {FEWEST} of each class: in fewer, "
        "one patient moves it by several points. `Lowest` is the worst of those; the lowest of "
        "several is lower by chance alone, so compare intervals (95 %, over test patients and "
        "seeds). subgroups.csv has all, the small ones too.",
        CSV,
    )
    for probing, one in evidence.comparisons:
        for name in one.test.subgroups:
            _add(made, probing, one, name, evidence.labels)
    if made.rows and not made.parts:
        made.parts.append("Left out: no test set has two subgroups of so many patients.\n")
    return made if made.rows else None


def _add(made: Section, probing: Probing, one: Comparison, name: str, labels: Labels) -> None:
    groups = list(_subgroups(one.test, name))
    if len(groups) < 2:
        return
    scored = {
        model: [_score(one, answers, group) for group in groups]
        for model, answers in zip(one.models, one.answers, strict=True)
    }
    told = [place for place, group in enumerate(groups) if group.enough]
    metric = one.metric
    worst = {}
    for model, scores in scored.items():
        if len(told) > 1:
            worst[model] = min(told, key=lambda place: metric.sign * scores[place].value)
        for place, group in enumerate(groups):
            row: Row = {
                **where(probing, one.task, labels),
                "model": model,
                "control": model in one.controls,
                "by": name,
                "subgroup": group.value,
                "images": len(group.rows),
                "patients": group.patients,
                "metric": metric.name,
                **scores[place]._asdict(),
                "enough": group.enough,
                "lowest": worst.get(model) == place,
            }
            made.rows.append((probing, row))
    if len(told) < 2:
        return  # nothing to compare
    rows = []
    for model in (one.models[m] for m in one.ordered):
        shown = zip(scored[model], groups, strict=True)
        texts = [between(*score, metric.places) if of.enough else "" for score, of in shown]
        rows.append([labels.model(model), *texts, groups[worst[model]].value])
    worse = "lowest" if metric.sign > 0 else "highest"
    heads = [
        f"{group.value} ({group.patients}{'' if group.enough else ', too few'})" for group in groups
    ]
    title = f"{labels.task(one.task)} by {name}: {metric.in_unit}{metric.direction}, {probing}"
    table = Table(["model", *heads, worse], rows, title)
    made.parts += table.section(3)
    made.tables.append(table)


def _subgroups(test: TestSet, name: str) -> Iterator[Subgroup]:
    """The subgroups by one thing, sorted; samples of which it is not known are in none."""
    values = np.array(test.subgroups[name])
    for value in sorted({*test.subgroups[name]} - {""}):
        rows = np.flatnonzero(values == value)
        part = test.only(rows)
        patients = len({*(part.groups or part.names)})
        yield Subgroup(value, rows, part, patients, patients >= LEAST and can_rank(part))


def _score(one: Comparison, answers: np.ndarray, group: Subgroup) -> SubgroupScore:
    mine = answers[:, group.rows]
    scale = one.metric.scale
    statistics = one.type.statistics(mine, group.test)
    if one.type.clusters(group.test).count == 1 and not np.isfinite(one.metric.within).all():
        low = high = np.nan  # nothing is known of other patients, and errors have no largest value
    else:
        low, high = one.type.intervals(mine, group.test)[one.metric.name]
    value = bootstrap.observe([statistics], one.of)[0]
    return SubgroupScore(scale * float(value), scale * low, scale * high)
