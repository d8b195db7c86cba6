"""What a kind of task declares of itself: all that the rest of the harness knows of it.

H is the number of seeds, N of samples, K of statistics a sample, V of validation samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from tasks.targets import Targets
from tasks.task import Split
from ultrabench_eval import metrics
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.metrics import Metric
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.intervals import intervals
from ultrabench_eval.test_set import TestSet

Predicts = Literal["classes", "masks", "numbers"]
"""What a probe gives and a kind of task is about: "classes" are probabilities [H, N, C], "masks"
logits [H, N, C, h, w] on a grid, "numbers" [H, N]."""
Validation = Sequence[tuple[np.ndarray, Any]]
"""Of each seed what is predicted for its validation samples [V, ...], and what is right for them
(`TaskType.truth`)."""


class FoldPredictions(NamedTuple):
    """What the probes of one fold predict, [H, n, ...], as `TaskType.score` takes it."""

    predicted: np.ndarray
    test: TestSet
    validation: Validation


class Scored(NamedTuple):
    """What is known of predictions."""

    scores: dict[str, np.ndarray]
    """float64 [H] for each metric, in its own unit (not percent)."""
    stored: dict[str, np.ndarray]
    """What is kept of them on disk, by name."""


class TaskType(ABC):
    """A kind of task."""

    name: ClassVar[str]
    predicts: ClassVar[Predicts] = "classes"
    """Which probes serve it: those that give the same."""
    main: ClassVar[Metric]
    """The one that tables, statistics and figures show; a function of sums."""
    metrics: ClassVar[tuple[Metric, ...]]
    """All of them, `main` among them, in the order of tables."""
    details: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Further metrics of the table of details: name and heading."""

    def strata(self, targets: Targets) -> np.ndarray:
        """What few-shot subsets keep the shares of: int64 [N]; here nothing."""
        return np.zeros(len(targets), np.int64)

    def truth(self, split: Split, extents: np.ndarray | None = None) -> Any:
        """What is right for the N samples of a split, as `score` compares it with predictions.

        It has a length and is indexed by arrays of row numbers.

        Args:
            split: of a task.
            extents: for masks: which part of the model's input shows each image, float64 [N, 2]
                or [N, 4]
                (`Encoder.extent`).
        """
        return split.targets

    def taught(self, truth: Any, shape: tuple[int, ...]) -> np.ndarray:
        """What probes are trained on, [N, ...] (`probes.heads.DataOf`).

        Args:
            truth: of N samples.
            shape: of what the probe answers for one sample: for masks (C, h, w), classes and grid.
        """
        return np.asarray(truth)

    def remarks(self, test: TestSet) -> tuple[str, ...]:
        """Sentences that belong under the scores of a test set."""
        return ()

    def clusters(self, test: TestSet) -> Clusters:
        """What is drawn as one in the statistics; here without strata."""
        return Clusters.of(test.groups, np.zeros(len(test), np.int64))

    @abstractmethod
    def score(
        self, predicted: np.ndarray, test: TestSet, validation: Validation | None = None
    ) -> Scored:
        """Scores of predictions, without those of `metrics.added`.

        Args:
            predicted: what the probes give, [H, N, ...]; see `Predicts`.
            test: the samples that they are of.
            validation: for what is chosen or calibrated on validation samples.
        """

    def score_as(
        self,
        predicted: np.ndarray,
        test: TestSet,
        validation: Validation | None,
        settings: Any,
        thorough: bool,
    ) -> Scored:
        """`score`, for kinds of task to which more than its arguments matters; by default nothing.

        Args:
            predicted: see `score`.
            test: see `score`.
            validation: see `score`.
            settings: of the probe, if it brings some of its own (`Protocol.of`), else None.
            thorough: whether metrics that take long are wanted too.
        """
        return self.score(predicted, test, validation)

    def joined(
        self, parts: Sequence[Scored], folds: Sequence[FoldPredictions], test: TestSet
    ) -> Scored:
        """The scores of all folds together, without those of `metrics.added`.

        What is chosen or calibrated on validation samples is so in each fold.

        Args:
            parts: the scores of each fold by itself.
            folds: what they are of.
            test: all test samples, fold by fold.
        """
        names = parts[0].stored
        stored = {
            name: np.concatenate([part.stored[name] for part in parts], axis=1) for name in names
        }
        return Scored(self.again(stored, test), stored)

    @abstractmethod
    def again(self, stored: Mapping[str, np.ndarray], test: TestSet) -> dict[str, np.ndarray]:
        """The scores of what was kept, as far as that tells them: [H] for each metric."""

    @abstractmethod
    def answers(self, stored: Mapping[str, np.ndarray]) -> np.ndarray:
        """What statistics and pages need of `Scored.stored`: [H, N, ...]."""

    @abstractmethod
    def compact(self, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The least of `Scored.stored` that `answers` need, for archives of results."""

    def only(self, stored: Mapping[str, np.ndarray], keep: np.ndarray) -> dict[str, np.ndarray]:
        """`Scored.stored` of some of the samples, by rows or bool [N]; here all are [H, N, ...]."""
        return {name: array[:, keep] for name, array in stored.items()}

    @abstractmethod
    def statistics(self, answers: np.ndarray, test: TestSet) -> Additive:
        """What answers add up to, sample by sample."""

    @abstractmethod
    def good(self, answers: np.ndarray, test: TestSet) -> np.ndarray:
        """How good each answer is, float64 [H, N], more is better: for the design effect."""

    def intervals(self, answers: np.ndarray, test: TestSet) -> dict[str, tuple[float, float]]:
        """95 % intervals of the metrics that are functions of sums; see `stats.intervals`."""
        statistics, clusters = self.statistics(answers, test), self.clusters(test)
        return intervals(statistics, clusters, self.of_sums)

    # ---- with what plugins add ------------------------------------------------------------------

    @property
    def every(self) -> tuple[Metric, ...]:
        """Its own metrics, and those that were added.

        Raises:
            UserError: an added one has the name of its own.
        """
        added, own = metrics.added(self.name), {metric.name for metric in self.metrics}
        for metric in added:
            if metric.name in own:
                raise UserError(
                    f"the metric '{metric.name}' that a plugin registers has the name of one that "
                    f"{self.name} tasks have already; choose another name for yours"
                )
        return (*self.metrics, *added)

    @property
    def of_sums(self) -> tuple[Metric, ...]:
        """Those that are functions of sums."""
        return tuple(metric for metric in self.every if metric.of is not None)

    def measure(
        self,
        predicted: np.ndarray,
        test: TestSet,
        validation: Validation | None = None,
        *,
        settings: Any = None,
        thorough: bool = True,
    ) -> Scored:
        """`score_as`, and what the added metrics say.

        Raises:
            UserError: an added metric does not give one number for each seed.
        """
        scored = self.score_as(predicted, test, validation, settings, thorough)
        return self._with_added(scored, predicted, test)

    def measure_folds(
        self,
        folds: Sequence[FoldPredictions],
        test: TestSet,
        *,
        settings: Any = None,
        thorough: bool = True,
    ) -> Scored:
        """As `measure`, of the predictions of several folds.

        Args:
            folds: each with its own validation samples.
            test: all test samples, fold by fold.
            settings: see `score_as`.
            thorough: see `score_as`.

        Raises:
            UserError: see `measure`.
        """
        parts = [self.score_as(*fold, settings, thorough) for fold in folds]
        predicted = np.concatenate([fold.predicted for fold in folds], axis=1)
        return self._with_added(self.joined(parts, folds, test), predicted, test)

    def _with_added(self, scored: Scored, predicted: np.ndarray, test: TestSet) -> Scored:
        added = metrics.added(self.name)
        if not added:
            return scored
        sums = self.statistics(self.answers(scored.stored), test).total()
        scores = dict(scored.scores)
        for metric in added:
            if metric.of is not None:
                found = np.asarray(metric.of(sums))
            elif metric.of_rows is not None:
                found = np.asarray(metric.of_rows(predicted, test))
            if found.shape != (len(predicted),):
                raise UserError(
                    f"the metric '{metric.name}' gives an array of shape {found.shape} for "
                    f"{len(predicted)} seeds; it must give one number for each"
                )
            scores[metric.name] = found
        return Scored(scores, scored.stored)
