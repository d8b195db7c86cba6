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

from ultrabench_eval import metrics
from ultrabench_eval.cells import AGAIN, Cell, Cells, Coordinates, TestSet
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report.results.entries import (
    Entry,
    Labels,
    Probing,
    by_probing,
    is_clean,
    is_main,
    mean_sd,
    tasks_of,
)
from ultrabench_eval.report.sections.speeds import Speed
from ultrabench_eval.stats import bootstrap, effective, paired, permutation


@dataclass(frozen=True)
class Truth:
    """The test images of a task."""

    fingerprint: str
    labels: np.ndarray
    """int64 [N]."""
    groups: list[str] | None
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    """Of the N images."""

    @property
    def classes(self) -> int:
        """How many."""
        return len(self.class_names)

    @classmethod
    def of(cls, test: TestSet) -> Truth:
        """As a results folder keeps them."""
        return cls(
            test.fingerprint,
            np.asarray(test.labels, np.int64),
            test.groups,
            tuple(test.classes),
            tuple(test.names),
        )


@dataclass(frozen=True)
class Comparison:
    """Models of one probe and protocol on the test images of one task."""

    task: str
    test: Truth
    models: tuple[str, ...]
    predicted: list[np.ndarray]
    """Class codes [H, N] of each model."""
    controls: frozenset[str] = frozenset()
    """Those of the models that learned nothing about ultrasound."""
    reference: str | None = None
    """The model that all others are compared with; None: all pairs."""

    @cached_property
    def scores(self) -> np.ndarray:
        """Macro F1 in percent, means over seeds, [M]."""
        return 100 * bootstrap.observe(self.predicted, self.test.labels, self.test.classes)

    @cached_property
    def resampled(self) -> np.ndarray:
        """The same in resamples of test patients and seeds, paired over models, [M, R]."""
        found = bootstrap.resample(
            self.predicted,
            self.test.labels,
            self.test.groups,
            self.test.classes,
            purpose=self.task,
            models=self.models,
        )
        return 100 * found[metrics.MAIN]

    @cached_property
    def contest(self) -> permutation.Contest:
        """What tests of differences are made of."""
        test = self.test
        return permutation.Contest.of(
            self.predicted, test.labels, test.groups, test.classes, purpose=self.task
        )

    @cached_property
    def pairs(self) -> paired.Pairs:
        """Every model against every other, in points of macro F1."""
        return compared([self], self.models)

    @cached_property
    def effective(self) -> effective.Effective:
        """What the test set is worth in independent images."""
        return effective.effective_size(self.predicted, self.test.labels, self.test.groups)

    def rows(self, models: Iterable[str]) -> list[int]:
        """Places of models."""
        return [self.models.index(model) for model in models]


def compared(tasks: Sequence[Comparison], models: Sequence[str]) -> paired.Pairs:
    """Models by their score on a task, or by the mean of several, in points of macro F1."""
    controls, reference = tasks[0].controls, tasks[0].reference
    if reference is not None and reference not in models:
        scores = [one.scores[one.rows(models)] for one in tasks]
        return paired.none(np.mean(scores, axis=0))
    return paired.compare(
        [one.contest.only(one.rows(models)) for one in tasks],
        controls=[model in controls for model in models],
        reference=None if reference is None else models.index(reference),
        unit=100,
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
    _tests: dict[str, Truth | str] = field(default_factory=dict)

    @cached_property
    def labels(self) -> Labels:
        """How models and tasks are called."""
        return Labels.of(self.entries)

    @cached_property
    def main(self) -> dict[Probing, dict[str, Comparison]]:
        """Main conditions: for each probe and protocol, a comparison a task."""
        mains = [e for e in self.entries if is_main(e)]
        cells = [e for e in mains if isinstance(e, Cell)]
        tests = {task: self._common_test(task, cells) for task in tasks_of(cells)}
        found: dict[Probing, dict[str, Comparison]] = {p: {} for p in by_probing(mains)}
        for probing, group in by_probing(cells).items():
            for task, test in tests.items():
                mine = [e for e in group if isinstance(e, Cell) and e.coordinates.task == task]
                if test and (one := self._comparison(task, test, mine)):
                    found[probing][task] = one
        return found

    def letters(self) -> dict[Coordinates, str]:
        """Of each compared cell, the letters that it shares with its ties."""
        return {
            Coordinates(model, task, probing.protocol, probing.probe): letters
            for probing, comparisons in self.main.items()
            for task, one in comparisons.items()
            if len(one.models) > 1
            for model, letters in zip(one.models, one.pairs.letters, strict=True)
        }

    def codes(self, cell: Cell, test: Truth) -> np.ndarray | None:
        """Predicted classes [H, N] of a cell; None, and a sentence, if they are not what it says.

        They must give the very score of the cell: a page whose statistics and tables disagree
        would be worse than one without statistics.
        """
        try:
            codes: np.ndarray = self.cells.probabilities(cell).argmax(-1)
        except UserError as error:
            self._leave_out(cell, str(error))
            return None
        stated, _ = mean_sd(cell.scores[metrics.MAIN])
        fits = codes.ndim == 2 and codes.shape[1] == len(test.labels)
        if not fits or not np.isclose(
            bootstrap.observe([codes], test.labels, test.classes)[0], stated, rtol=0, atol=1e-6
        ):
            self._leave_out(cell, f"its stored predictions do not reproduce its score; {AGAIN}")
            return None
        return codes

    def test_of(self, cell: Cell) -> Truth | None:
        """The test images of a cell; None, and a sentence, if they are not there."""
        fingerprint = str(cell.identity["task"])
        if fingerprint not in self._tests:
            try:
                self._tests[fingerprint] = Truth.of(self.cells.test_set(fingerprint))
            except UserError as error:
                self._tests[fingerprint] = str(error)
        test = self._tests[fingerprint]
        if isinstance(test, str):
            self._leave_out(cell, test)
            return None
        return test

    def _common_test(self, task: str, cells: Sequence[Cell]) -> Truth | None:
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

    def _comparison(self, task: str, test: Truth, cells: Sequence[Cell]) -> Comparison | None:
        found = {
            cell.coordinates.model: codes
            for cell in cells
            if cell.identity["task"] == test.fingerprint
            and (codes := self.codes(cell, test)) is not None
        }
        if not found:
            return None
        controls = self.labels.floors
        return Comparison(task, test, tuple(found), list(found.values()), controls, self.reference)

    def _leave_out(self, cell: Cell, why: str) -> None:
        at = cell.coordinates
        where = f"{at.probe} probe, protocol {at.protocol}"
        where += "" if is_clean(cell) else f", {at.corruption} severity {at.severity}"
        sentence = f"{at.model} on {at.task} ({where}) is left out: {why}"
        if sentence not in self.left_out:
            self.left_out.append(sentence)
