"""What statistics are computed from: the predictions of all models on the same test images.

H is the number of seeds, N of test images, M of models, R of resamples. Of each task, only models
measured on the same images (the same task fingerprint) are compared; what is left out is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ultrabench_eval import task_types
from ultrabench_eval.cells import Cell, Cells, Coordinates
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.metrics import Metric, OfSums, of_sums, of_task
from ultrabench_eval.report.results.entries import (
    Entry,
    Labels,
    Probing,
    by_probing,
    cells_of,
    is_clean,
    is_main,
    mean_sd,
    tasks_of,
)
from ultrabench_eval.report.sections.speeds import Speed
from ultrabench_eval.sealed import AGAIN
from ultrabench_eval.stats import bootstrap, effective, paired, permutation
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.task_types.task_type import TaskType
from ultrabench_eval.test_set import TestSet


@dataclass(frozen=True)
class Comparison:
    """Models of one probe and protocol on the test samples of one task."""

    task: str
    test: TestSet
    models: tuple[str, ...]
    answers: list[np.ndarray]
    """Of each model, see `TaskType.answers`: of classes their codes [H, N]."""
    controls: frozenset[str] = frozenset()
    """Those of the models that learned nothing about ultrasound."""
    reference: str | None = None
    """The model that all others are compared with; None: all pairs."""
    by: str = ""
    """Name of the metric that models are compared by; "": the main one of the type of task."""

    @property
    def type(self) -> TaskType:
        """What kind of task it is."""
        return task_types.get(self.test.type)

    @property
    def metric(self) -> Metric:
        """What models are compared by."""
        metric = self.type.main
        if self.by:
            metric = next(one for one in self.type.of_sums if one.name == self.by)
        return of_task(metric, self.test.unit)

    @property
    def of(self) -> OfSums:
        """The same as a function of sums."""
        return of_sums(self.metric)

    @property
    def statistics(self) -> list[Additive]:
        """Of each model; not kept, because they are many times as large as answers."""
        return [self.type.statistics(one, self.test) for one in self.answers]

    @cached_property
    def clusters(self) -> Clusters:
        """What is drawn as one."""
        return self.type.clusters(self.test)

    @cached_property
    def scores(self) -> np.ndarray:
        """By the metric as tables show it (in percent, say), means over seeds, [M]."""
        return self.metric.scale * bootstrap.observe(self.statistics, self.of)

    @property
    def ordered(self) -> list[int]:
        """Places of the models, the best first and controls last."""
        order = np.argsort(-self.metric.sign * self.scores, kind="stable").tolist()
        return sorted(order, key=lambda m: self.models[m] in self.controls)

    @cached_property
    def resampled(self) -> np.ndarray:
        """The same in resamples of test patients and seeds, paired over models, [M, R]."""
        found = bootstrap.resample(
            self.statistics,
            self.clusters,
            {self.metric.name: self.of},
            purpose=self.task,
            models=self.models,
        )
        return self.metric.scale * found[self.metric.name]

    @cached_property
    def contest(self) -> permutation.Contest:
        """What tests of differences are made of."""
        better = self.metric.higher_is_better
        return permutation.Contest.of(self.statistics, self.clusters, self.of, self.task, better)

    @cached_property
    def pairs(self) -> paired.Pairs:
        """Every model against every other, in the unit of `scores`."""
        return compared([self], self.models)

    @cached_property
    def effective(self) -> effective.Effective:
        """What the test set is worth in independent images."""
        good = np.stack([self.type.good(one, self.test).mean(0) for one in self.answers])
        return effective.effective_size(good, self.clusters)

    def rows(self, models: Iterable[str]) -> list[int]:
        """Places of models."""
        return [self.models.index(model) for model in models]


def compared(tasks: Sequence[Comparison], models: Sequence[str]) -> paired.Pairs:
    """Models by their score on a task, or by the mean of several, in the unit of scores."""
    controls, reference = tasks[0].controls, tasks[0].reference
    if reference is not None and reference not in models:
        scores = [one.scores[one.rows(models)] for one in tasks]
        return paired.none(np.mean(scores, axis=0))
    return paired.compare(
        [one.contest.only(one.rows(models)) for one in tasks],
        controls=[model in controls for model in models],
        reference=None if reference is None else models.index(reference),
        unit=tasks[0].metric.scale,
    )


@dataclass
class Evidence:
    """All that can be compared in a results folder.

    Args:
        cells: the folder.
        entries: its content.
        speeds: of its encoders.
        unsure: what is not verified, a sentence each.
        reference: the model that all others are compared with; None: all pairs.
    """

    cells: Cells
    entries: Sequence[Entry]
    speeds: Sequence[Speed] = ()
    unsure: Sequence[str] = ()
    reference: str | None = None
    left_out: list[str] = field(default_factory=list)
    """Sentences on what could not be compared and why."""
    _tests: dict[str, TestSet | str] = field(default_factory=dict)

    @cached_property
    def labels(self) -> Labels:
        """How models and tasks are called."""
        return Labels.of(self.entries)

    @cached_property
    def main(self) -> dict[Probing, dict[str, Comparison]]:
        """Main conditions: for each probe and protocol, one comparison per task."""
        mains = list(filter(is_main, self.entries))
        cells = cells_of(mains)
        tests = {task: self._common_test(task, cells) for task in tasks_of(cells)}
        found: dict[Probing, dict[str, Comparison]] = {p: {} for p in by_probing(mains)}
        for probing, group in by_probing(cells).items():
            for task in tasks_of(group):
                mine = [e for e in group if isinstance(e, Cell) and e.coordinates.task == task]
                if (test := tests[task]) and (one := self._comparison(task, test, mine)):
                    found[probing][task] = one
        return found

    @property
    def comparisons(self) -> list[tuple[Probing, Comparison]]:
        """All of `main`."""
        return [(probing, one) for probing, some in self.main.items() for one in some.values()]

    def letters(self) -> dict[Coordinates, str]:
        """Of each compared cell, the letters that it shares with its ties."""
        return {
            Coordinates(model, one.task, probing.protocol, probing.probe): letters
            for probing, one in self.comparisons
            if len(one.models) > 1
            for model, letters in zip(one.models, one.pairs.letters, strict=True)
        }

    def answers(self, cell: Cell, test: TestSet) -> np.ndarray | None:
        """A cell's answers (`TaskType.answers`); None, and a sentence, if they are not what it
        says.

        They must give the very score of the cell: a page whose statistics and tables disagree
        would be worse than one without statistics.
        """
        if cell.type not in task_types.registry:
            why = f"tasks of the type '{cell.type}' are not known here; load its plugin"
            self._leave_out(cell, why)
            return None
        kind = task_types.get(cell.type)
        try:
            answers = kind.answers(self.cells.predictions(cell))
            fits = answers.ndim >= 2 and answers.shape[1] == len(test)
            statistics = kind.statistics(answers, test) if fits else None
        except UserError as error:
            self._leave_out(cell, str(error))
            return None
        except (KeyError, ValueError):  # of another number of classes, say
            statistics = None
        stated, _ = mean_sd(cell.scores[cell.main])
        if statistics is None or not np.isclose(
            bootstrap.observe([statistics], of_sums(kind.main))[0], stated, rtol=1e-6, atol=1e-6
        ):
            self._leave_out(cell, f"its stored predictions do not reproduce its score; {AGAIN}")
            return None
        return answers

    def test_of(self, cell: Cell) -> TestSet | None:
        """The test images of a cell; None, and a sentence, if they are not there."""
        fingerprint = str(cell.identity["task"])
        if fingerprint not in self._tests:
            try:
                self._tests[fingerprint] = self.cells.test_set(fingerprint)
            except UserError as error:
                self._tests[fingerprint] = str(error)
        test = self._tests[fingerprint]
        if isinstance(test, str):
            self._leave_out(cell, test)
            return None
        return test

    def _common_test(self, task: str, cells: Sequence[Cell]) -> TestSet | None:
        """The test images that most cells of a task were measured on."""
        mine = [cell for cell in cells if cell.coordinates.task == task]
        counts = Counter(str(cell.identity["task"]) for cell in mine)
        (common, _), *_ = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        for cell in mine:
            if cell.identity["task"] != common:
                self._leave_out(
                    cell, "it was measured on another version of the data than most; run it again"
                )
        return self.test_of(next(cell for cell in mine if cell.identity["task"] == common))

    def _comparison(self, task: str, test: TestSet, cells: Sequence[Cell]) -> Comparison | None:
        found = {
            cell.coordinates.model: answers
            for cell in cells
            if cell.identity["task"] == test.fingerprint
            and (answers := self.answers(cell, test)) is not None
        }
        if not found:
            return None
        controls = self.labels.controls
        return Comparison(task, test, tuple(found), list(found.values()), controls, self.reference)

    def _leave_out(self, cell: Cell, why: str) -> None:
        at = cell.coordinates
        where = f"{at.probe} probe, protocol {at.protocol}"
        where += "" if is_clean(cell) else f", {at.corruption} severity {at.severity}"
        sentence = f"{at.model} on {at.task} ({where}) is left out: {why}"
        if sentence not in self.left_out:
            self.left_out.append(sentence)
