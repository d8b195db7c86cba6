"""robustness.md and .csv: what corruption of the test images leaves of a score.

H is the number of seeds, N of test images, R of resamples, K of conditions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from ultrabench_eval import corrupt, task_types
from ultrabench_eval.cells import CLASSES, Cell, Failure
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.metrics import Metric, of_sums
from ultrabench_eval.report.results.entries import (
    Entry,
    Labels,
    Probing,
    applicable,
    at_place,
    between,
    bullets,
    by_probing,
    is_clean,
    is_main,
    main_metric,
    main_score,
    score_text,
    status,
    synthetic_words,
    tasks_of,
)
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.tables.table import Table
from ultrabench_eval.stats import bootstrap
from ultrabench_eval.test_set import TestSet

RESAMPLES = 2000  # for intervals of ratios; there are many, and none is a test
Condition = tuple[str, int]
"""Corruption and severity."""


@dataclass(frozen=True)
class Kept:
    """Retained performance of one model on one task: corrupted / clean, in percent."""

    ratio: float
    resampled: np.ndarray
    """[R], percent."""

    def text(self) -> str:
        """With its 95 % interval."""
        low, high = bootstrap.interval(self.resampled)
        return between(self.ratio, float(low), float(high))


Ratios = Mapping[tuple[str, str, Condition], Kept]
"""By model, task and condition; what could not be computed is not there."""


@dataclass(frozen=True)
class Corrupted:
    """All corrupted conditions of one probe and protocol.

    Args:
        clean: entries by (model, task).
        corrupted: the same for each condition.
        ratios: what is left.
        metric: what the scores are.
    """

    clean: Mapping[tuple[str, str], Entry]
    corrupted: Mapping[Condition, Mapping[tuple[str, str], Entry]]
    ratios: Ratios
    metric: Metric

    @property
    def models(self) -> set[str]:
        """That have any corrupted cell or failure."""
        return {model for places in self.corrupted.values() for model, _ in places}

    @property
    def tasks(self) -> list[str]:
        """That have any."""
        return tasks_of(entry for places in self.corrupted.values() for entry in places.values())

    def tasks_under(self, condition: Condition) -> list[str]:
        """Those that can have a condition: of a temporal one tasks with any temporal one."""
        temporal = corrupt.told(condition[0]).temporal
        return tasks_of(
            entry
            for (name, _), places in self.corrupted.items()
            if corrupt.told(name).temporal == temporal
            for entry in places.values()
        )

    def mean(self, model: str, conditions: Sequence[Condition]) -> Kept | None:
        """Mean over tasks and conditions; None if any of them is missing."""
        under = {one: self.tasks_under(one) for one in conditions}
        every = [
            (model, task, one) for task in self.tasks for one in conditions if task in under[one]
        ]
        if not all(key in self.ratios for key in every):
            return None
        return Kept(
            float(np.mean([self.ratios[key].ratio for key in every])),
            np.mean([self.ratios[key].resampled for key in every], axis=0),
        )

    def families(self) -> dict[str, list[Condition]]:
        """Conditions of each family that were measured."""
        return {
            family: mine
            for family in corrupt.FAMILIES
            if (mine := [one for one in self.corrupted if corrupt.told(one[0]).family == family])
        }


def measured(entries: Sequence[Entry]) -> dict[Probing, Corrupted]:
    """Probes and protocols that have corrupted conditions, without retained performance."""
    found = {}
    for probing, group in by_probing(entries).items():
        worse = by_key(
            ((e.coordinates.corruption, e.coordinates.severity), e)
            for e in group
            if not is_clean(e)
        )
        if worse:
            conditions = sorted(worse, key=lambda one: (corrupt.order(one[0]), one[1]))
            places = {condition: at_place(worse[condition]) for condition in conditions}
            clean = at_place(e for e in group if is_main(e))
            found[probing] = Corrupted(clean, places, {}, main_metric(group))
    return found


def corrupted(evidence: Evidence) -> dict[Probing, Corrupted]:
    """Probes and protocols that have corrupted conditions, with retained performance."""
    return {
        probing: replace(one, ratios=_ratios(evidence, one.clean, one.corrupted))
        for probing, one in measured(evidence.entries).items()
    }


def _ratios(
    evidence: Evidence,
    clean: Mapping[tuple[str, str], Entry],
    places: Mapping[Condition, Mapping[tuple[str, str], Entry]],
) -> dict[tuple[str, str, Condition], Kept]:
    found = {}
    for (model, task), whole in clean.items():
        if not isinstance(whole, Cell):
            continue
        mine = {
            one: cell
            for one, at in places.items()
            if isinstance(cell := at.get((model, task)), Cell) and _same_probes(whole, cell)
        }
        test = evidence.test_of(whole) if mine else None
        if test is None or (clear := evidence.answers(whole, test)) is None:
            continue
        worse = {
            one: a for one, cell in mine.items() if (a := evidence.answers(cell, test)) is not None
        }
        for one, kept in zip(worse, keep(clear, list(worse.values()), test, task), strict=True):
            found[model, task, one] = kept
    return found


def _same_probes(clean: Cell, worse: Cell) -> bool:
    """Whether both numbers are of the very same probes, so that their ratio means something."""
    names = ("model", "task", "protocol", "dtype", "seeds")
    return all(clean.identity[name] == worse.identity[name] for name in names)


def keep(clean: np.ndarray, worse: Sequence[np.ndarray], test: TestSet, task: str) -> list[Kept]:
    """Corrupted / clean with paired resamples: the same test patients and the same probes.

    Args:
        clean: answers (`TaskType.answers`); of classes their codes [H, N].
        worse: the same for each of K conditions.
        test: the test samples.
        task: its name.
    """
    if not worse:
        return []
    kind = task_types.get(test.type)
    statistics = [kind.statistics(answers, test) for answers in (clean, *worse)]
    metric = {kind.main.name: of_sums(kind.main)}
    means = bootstrap.resample(
        statistics, kind.clusters(test), metric, purpose=task, resamples=RESAMPLES
    )[kind.main.name]  # [1 + K, R]
    observed = bootstrap.observe(statistics, of_sums(kind.main))
    if not observed[0] or not means[0].all():  # nothing is right: there is nothing to keep
        return [Kept(np.nan, np.full(RESAMPLES, np.nan))] * len(worse)
    return [
        Kept(100 * float(observed[k] / observed[0]), 100 * means[k] / means[0])
        for k in range(1, len(statistics))
    ]


# ---- page ---------------------------------------------------------------------------------------


def page(found: Mapping[Probing, Corrupted], labels: Labels) -> str:
    """robustness.md."""
    parts = [
        "# Robustness: with corrupted test images\n",
        "Answers how much of a score is retained when test images get worse. Probes are trained on "
        "clean images; only test images are corrupted. Relative robustness is the score on "
        "corrupted images in percent of the score on clean ones; its 95 % interval draws test "
        "patients and seeds, the same for both. A model near chance has little to lose, so always "
        "read robustness next to the clean score.\n",
    ]
    if errors := dict.fromkeys(
        one.metric.title for one in found.values() if not one.metric.higher_is_better
    ):
        parts.append(
            f"Of {' and '.join(errors)} less is better: in percent of that on clean images it is "
            "above 100 where corruption does harm.\n"
        )
    parts += synthetic_words(labels.synthetic)
    named = {name for one in found.values() for name, _ in one.corrupted}
    parts.append(
        bullets(
            f"{c.name} ({c.family}): {c.summary}"
            + (
                f"; severity 1, 2, 3 is {', '.join(f'{level:g}' for level in c.levels)} {c.unit}"
                if len(c.levels) > 1
                else ""
            )
            for c in map(corrupt.told, sorted(named, key=corrupt.order))
        )
    )
    if named & {*corrupt.CONTROLS}:
        parts.append(
            "The temporal controls change the order of a video's frames and no frame. A model that "
            "is shown frames one by one keeps exactly 100 % of its score where they are shuffled "
            "or reversed; one that is shown videos and keeps as much does not use their order.\n"
        )
    for probing, one in found.items():
        models = sorted(one.models, key=lambda m: (m in labels.controls, m))
        what, worse = "robustness", ""
        if not one.metric.higher_is_better:
            what, worse = one.metric.title, "; above 100 is worse"
        parts += [
            f"## {probing}\n",
            f"### Mean relative {what} over tasks, percent{worse}\n",
            _summary(one, models, labels),
            f"### Relative {what}, percent (95 % CI{worse})\n",
            _relative(one, models, labels),
            f"### {one.metric.heading}, mean ± sd over seeds\n",
            _scores(one, models, labels),
        ]
    return "\n".join(parts)


def _summary(one: Corrupted, models: Sequence[str], labels: Labels) -> str:
    """One row per model: means over whole families, then over each corruption."""
    columns = {
        f"{family} ({', '.join(dict.fromkeys(name for name, _ in mine))})": mine
        for family, mine in one.families().items()
    }
    for name in dict.fromkeys(name for name, _ in one.corrupted):
        columns[name] = [condition for condition in one.corrupted if condition[0] == name]
    rows = [
        [
            labels.model(model),
            *(kept.text() if (kept := one.mean(model, mine)) else "" for mine in columns.values()),
        ]
        for model in models
    ]
    temporal = any(corrupt.told(name).temporal for name, _ in one.corrupted)
    notes = applicable(
        (True, "Means over all tasks and severities; empty where one of them is missing.\n"),
        (temporal, "Temporal corruptions are of the tasks of videos alone.\n"),
        (labels.synthetic & set(one.tasks), "SYNTHETIC tasks are part of these means.\n"),
    )
    return "\n".join([Table(["model", *columns], rows).markdown(), *notes])


def _relative(one: Corrupted, models: Sequence[str], labels: Labels) -> str:
    rows = []
    for model, (condition, places) in product(models, one.corrupted.items()):
        row = [labels.model(model), *_named(condition)]
        for task in one.tasks:
            both = (places.get((model, task)), one.clean.get((model, task)))
            failed = next((entry for entry in both if isinstance(entry, Failure)), None)
            kept = one.ratios.get((model, task, condition))
            row.append(score_text(failed) if failed else kept.text() if kept else "")
        rows.append(row)
    return Table([*_HEADER, *map(labels.task, one.tasks)], rows).markdown()


def _scores(one: Corrupted, models: Sequence[str], labels: Labels) -> str:
    rows = []
    every = {("none", 0): one.clean, **one.corrupted}
    for model, (condition, places) in product(models, every.items()):
        texts = [score_text(places.get((model, task))) for task in one.tasks]
        rows.append([labels.model(model), *_named(condition), *texts])
    return Table([*_HEADER, *map(labels.task, one.tasks)], rows).markdown()


_HEADER = ("model", "corruption", "severity", "level")


def _named(condition: Condition) -> list[str]:
    name, severity = condition
    if not severity:
        return [name, "0", ""]
    known = corrupt.told(name)
    level = f"{known.level(severity):g} {known.unit}" if len(known.levels) > 1 else ""
    return [name, str(severity), level]


def rows(found: Mapping[Probing, Corrupted]) -> list[dict[str, object]]:
    """robustness.csv: one row per model, task and condition; failed ones without numbers. Where not
    all tasks are of classes, also what kind each is of."""
    result: list[dict[str, object]] = []
    several = any(probing.type != CLASSES for probing in found)
    for probing, one in found.items():
        for (name, severity), places in one.corrupted.items():
            known = corrupt.told(name)
            for (model, task), entry in places.items():
                mean, sd = main_score(entry)
                kept = one.ratios.get((model, task, (name, severity)))
                low, high = bootstrap.interval(kept.resampled) if kept else (np.nan, np.nan)
                clean, _ = main_score(one.clean.get((model, task)))
                result.append(
                    {
                        "model": model,
                        "task": task,
                        "probe": probing.probe,
                        "protocol": probing.protocol,
                        "family": known.family,
                        "corruption": name,
                        "severity": severity,
                        "level": known.level(severity),
                        "unit": known.unit,
                        one.metric.name: mean,
                        "sd": sd,
                        f"clean_{one.metric.name}": clean,
                        "relative": kept.ratio if kept else np.nan,
                        "low": float(low),
                        "high": float(high),
                        "status": status(entry),
                        **({"kind": probing.type} if several else {}),
                    }
                )
    return result
