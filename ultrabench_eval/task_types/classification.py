"""Classification: one of C classes a sample.

H is the number of seeds, N of samples, C of classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

from tasks.targets import Targets
from ultrabench_eval.metrics import Metric, of_sums
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.intervals import intervals
from ultrabench_eval.task_types import calibration
from ultrabench_eval.task_types.task_type import (
    FoldPredictions,
    Scored,
    TaskType,
    Validation,
)
from ultrabench_eval.test_set import TestSet

# ---- from sums: any leading shape, so that statistics can score many test sets at once ----------

# The statistics of a sample are three numbers for each class, K = 3 C: whether it is of it and
# called so, is of it, is called so.


def by_class(sums: np.ndarray) -> np.ndarray:
    """Sums [..., K] by class: [..., 3, C], called so and rightly, of it, called so."""
    return sums.reshape(*sums.shape[:-1], 3, -1)


def statistics(codes: np.ndarray, labels: np.ndarray, classes: int) -> Additive:
    """What predicted classes add up to.

    Args:
        codes: class codes [H, N].
        labels: int64 [N].
        classes: C.

    Raises:
        ValueError: a code is none of them.
    """
    if codes.size and codes.max() >= classes:
        raise ValueError(f"a class code of {codes.max()}, but there are {classes} classes")
    seeds, samples = codes.shape
    seed, sample = np.indices(codes.shape).reshape(2, -1)
    called, true = codes.ravel(), labels[sample]
    hit = called == true
    return Additive(
        (seeds, samples, 3 * classes),
        np.concatenate([seed[hit], seed, seed]),
        np.concatenate([sample[hit], sample, sample]),
        np.concatenate([called[hit], classes + true, 2 * classes + called]),
    )


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [C, C] of images by (true class, predicted class), int64."""
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


def of_counts(metric: Metric, counts: np.ndarray) -> np.ndarray:
    """A metric of confusion matrices; counts [..., C, C] -> [...] in [0, 1].

    Raises:
        ValueError: sums do not suffice for it.
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    sums = np.concatenate([right, counts.sum(-1), counts.sum(-2)], axis=-1)
    return of_sums(metric)(sums)


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    """Unweighted mean of the classes' F1.

    A class that is neither present nor predicted is left out, as scikit-learn does.
    """
    return np.asarray(np.nanmean(_f1(by_class(sums)), axis=-1))


def _weighted_f1(sums: np.ndarray) -> np.ndarray:
    """Mean of the classes' F1 weighted by their true counts."""
    sums = by_class(sums)
    true = sums[..., 1, :]
    return np.asarray(np.nansum(_f1(sums) * true, axis=-1) / true.sum(-1))


def _accuracy(sums: np.ndarray) -> np.ndarray:
    """Part of the images that is predicted right."""
    sums = by_class(sums)
    return np.asarray(sums[..., 0, :].sum(-1) / sums[..., 1, :].sum(-1))


def _balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that are present."""
    sums = by_class(sums)
    return np.asarray(np.nanmean(_ratio(sums[..., 0, :], sums[..., 1, :]), axis=-1))


def _f1(sums: np.ndarray) -> np.ndarray:
    """F1 of each class [..., C]; NaN where a class is neither present nor predicted."""
    return _ratio(2 * sums[..., 0, :], sums[..., 1, :] + sums[..., 2, :])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


MACRO_F1 = Metric("macro_f1", "macro F1", of=_macro_f1)
BALANCED_ACCURACY = Metric("balanced_accuracy", "balanced accuracy", of=_balanced_accuracy)
METRICS = (
    MACRO_F1,
    Metric("accuracy", "accuracy", of=_accuracy),
    BALANCED_ACCURACY,
    Metric("weighted_f1", "weighted F1", of=_weighted_f1),
    Metric("auroc", "AUROC"),
    Metric("auprc", "AUPRC"),
    Metric("log_loss", "log loss", "nats", higher_is_better=False),
    Metric("brier", "Brier score", "", higher_is_better=False),
    Metric("ece", "ECE", higher_is_better=False),
    # After temperature scaling on validation.
    Metric("log_loss_calibrated", "log loss, calibrated", "nats", higher_is_better=False),
    Metric("brier_calibrated", "Brier score, calibrated", "", higher_is_better=False),
    Metric("ece_calibrated", "ECE, calibrated", higher_is_better=False),
    # Two classes: at a threshold chosen on validation.
    Metric("sensitivity_at_90_specificity", "sensitivity at 90 % specificity"),
    Metric("specificity_reached", "specificity reached"),
    # One prediction a patient (or video).
    Metric("group_macro_f1", "macro F1 by patient"),
    Metric("group_accuracy", "accuracy by patient"),
    Metric("group_balanced_accuracy", "balanced accuracy by patient"),
    Metric("group_auroc", "AUROC by patient"),
)
"""All that `score` can give, in the order of tables."""
_OF_SUMS = tuple(metric for metric in METRICS if metric.of is not None)


# ---- from probabilities -------------------------------------------------------------------------


def score(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The metrics of `METRICS` that the arguments allow, for each seed.

    Args:
        probabilities: of the test images, [H, N, C], rows sum to 1.
        labels: int64 [N].
        groups: N names of patients or videos; gives the `group_...` metrics (see `by_unit`).
        validation: probabilities [H, V, C] and labels int64 [V] of the validation images; gives
            the `..._calibrated` metrics (one temperature a seed, from validation only) and, for
            two classes, `sensitivity_at_90_specificity` and `specificity_reached`.

    Returns:
        float64 [H] for each metric, not yet in percent, in the order of `METRICS`. AUROC and AUPRC
        are the unweighted means over one-against-rest classes, and NaN where a class has no image.
        What would be the mean of no image at all is NaN too.
    """
    counts = _counts(probabilities, labels)
    scores = {metric.name: of_counts(metric, counts) for metric in _OF_SUMS}
    scores["auroc"], scores["auprc"] = areas(probabilities, labels)
    scores |= _of_probabilities(probabilities, labels, "")
    if validation is not None:
        scores |= _after_validation(_Decided.of(probabilities, *validation), labels)
    if groups is not None:
        unit_probabilities, unit_labels = by_unit(probabilities, labels, groups)
        counts = _counts(unit_probabilities, unit_labels)
        for metric in _OF_SUMS[:3]:  # not the weighted one
            scores[f"group_{metric.name}"] = of_counts(metric, counts)
        scores["group_auroc"], _ = areas(unit_probabilities, unit_labels)
    return {metric.name: scores[metric.name] for metric in METRICS if metric.name in scores}


def areas(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """AUROC and AUPRC, means over one-against-rest classes; [H, N, C] and [N] -> twice [H].

    From ranks: AUROC is the part of (positive, negative) pairs in the right order, ties counting
    half (Hanley & McNeil 1982, Radiology 143:29). AUPRC is average precision: the mean over
    positives of the precision at their score. NaN where a class has no image.
    """
    count, classes = len(labels), probabilities.shape[-1]
    positives = np.bincount(labels, minlength=classes)
    if not positives.all():
        undefined = np.full(len(probabilities), np.nan)
        return undefined, undefined.copy()
    first = rankdata(probabilities, "min", axis=1)  # [H, N, C], 1 for the smallest
    middle = (first + rankdata(probabilities, "max", axis=1)) / 2
    roc, precision = [], []
    for code, some in enumerate(positives):
        mine = labels == code
        right = middle[:, mine, code].sum(-1) - some * (some + 1) / 2
        roc.append(right / (some * (count - some)))
        # How many images, and how many positives, are at least as probable as each positive.
        all_above = count + 1 - first[:, mine, code]
        mine_above = some + 1 - rankdata(probabilities[:, mine, code], "min", axis=1)
        precision.append((mine_above / all_above).mean(-1))
    return np.mean(roc, axis=0), np.mean(precision, axis=0)


def by_unit(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """One prediction a unit: the mean of its images' probabilities.

    A unit is a (group, label) pair: a patient with masses of two classes counts as two units, as
    the releases don't say which image shows which mass but by its label.

    Args:
        probabilities: [H, N, C].
        labels: int64 [N].
        groups: N names.

    Returns:
        Probabilities float64 [H, U, C] and labels [U] of the U units.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    classes = probabilities.shape[-1]
    units, member = np.unique(group * classes + labels, return_inverse=True)
    order = np.argsort(member, kind="stable")
    sizes = np.bincount(member)
    starts = np.cumsum(sizes) - sizes
    sums = np.add.reduceat(probabilities[:, order].astype(np.float64), starts, axis=1)
    return sums / sizes[:, None], units % classes


def threshold_at_specificity(positive: np.ndarray, labels: np.ndarray) -> float:
    """The smallest threshold t with specificity >= 0.90, when p > t is called positive.

    Args:
        positive: probability of class 1, [V], of validation images.
        labels: 0 or 1, [V].

    Returns:
        One of the negatives' probabilities; NaN if there is no negative.
    """
    negatives = np.sort(positive[labels == 0])
    if not len(negatives):
        return float("nan")
    kept = -(-9 * len(negatives) // 10)  # the smallest count that is at least 90 %
    return float(negatives[kept - 1])


class _Decided(NamedTuple):
    """What validation samples make of the probabilities of N test samples."""

    calibrated: np.ndarray
    """[H, N, C]."""
    positive: np.ndarray
    """Of two classes, whether the second is called at the threshold, [H, N]; else empty."""
    known: np.ndarray
    """1 where that threshold is known, else NaN: [H]."""

    @classmethod
    def of(cls, probabilities: np.ndarray, validation: np.ndarray, labels: np.ndarray) -> _Decided:
        """By the probabilities [H, V, C] and labels [V] of validation samples."""
        temperatures = [calibration.temperature(p, labels) for p in validation]
        calibrated = calibration.apply(probabilities, np.array(temperatures)[:, None])
        if probabilities.shape[-1] != 2:
            return cls(calibrated, np.empty((len(probabilities), 0), bool), np.empty(0))
        thresholds = [threshold_at_specificity(p[:, 1], labels) for p in validation]
        # An unknown threshold (NaN) calls nothing positive; that must not pass for a result.
        known = np.where(np.isnan(thresholds), np.nan, 1.0)
        return cls(calibrated, probabilities[..., 1] > np.array(thresholds)[:, None], known)


def _after_validation(decided: _Decided, labels: np.ndarray) -> dict[str, np.ndarray]:
    scores = _of_probabilities(decided.calibrated, labels, "_calibrated")
    if decided.positive.size:
        for name, code in (("sensitivity_at_90_specificity", 1), ("specificity_reached", 0)):
            of_code = decided.positive[:, labels == code]
            hits, number = (of_code == bool(code)).sum(-1), np.array(of_code.shape[-1])
            scores[name] = decided.known * _ratio(hits, np.broadcast_to(number, hits.shape))
    return scores


def _of_probabilities(
    probabilities: np.ndarray, labels: np.ndarray, suffix: str
) -> dict[str, np.ndarray]:
    return {
        f"log_loss{suffix}": calibration.log_loss(probabilities, labels),
        f"brier{suffix}": calibration.brier(probabilities, labels),
        f"ece{suffix}": calibration.ece(probabilities, labels),
    }


def _counts(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Confusion counts of each seed, int64 [H, C, C]."""
    classes = probabilities.shape[-1]
    return np.stack([confusion(p.argmax(-1), labels, classes) for p in probabilities])


# ---- the task type ------------------------------------------------------------------------------


class Classification(TaskType):
    """One of C classes a sample."""

    name = "classification"
    main = MACRO_F1
    metrics = METRICS
    details = (("balanced_accuracy", "balanced acc."), ("auroc", "AUROC"))

    def strata(self, targets: Targets) -> np.ndarray:
        """The classes."""
        return np.asarray(targets)

    def clusters(self, test: TestSet) -> Clusters:
        """Patients, with the classes that they hold."""
        return Clusters.of(test.groups, test.targets, len(test.classes))

    def score(
        self, predicted: np.ndarray, test: TestSet, validation: Validation | None = None
    ) -> Scored:
        """Scores of probabilities [H, N, C]; temperatures and thresholds are of each seed."""
        if validation is None:
            found = score(predicted, test.targets, groups=test.groups)
            return Scored(found, {"probabilities": predicted})
        by_seed = [
            score(
                predicted[[seed]],
                test.targets,
                groups=test.groups,
                validation=(of_validation[None], truth),
            )
            for seed, (of_validation, truth) in enumerate(validation)
        ]
        found = {name: np.concatenate([one[name] for one in by_seed]) for name in by_seed[0]}
        return Scored(found, {"probabilities": predicted})

    def joined(
        self, parts: Sequence[Scored], folds: Sequence[FoldPredictions], test: TestSet
    ) -> Scored:
        """See `TaskType.joined`; temperatures and thresholds are of each seed and fold."""
        predicted = np.concatenate([fold.predicted for fold in folds], axis=1)
        found = score(predicted, test.targets, groups=test.groups)
        decided = [
            [
                _Decided.of(fold.predicted[[seed]], of_validation[None], truth)
                for seed, (of_validation, truth) in enumerate(fold.validation)
            ]
            for fold in folds
        ]
        by_fold = [
            [np.concatenate(part) for part in zip(*of_seeds, strict=True)] for of_seeds in decided
        ]
        calibrated, positive, known = zip(*by_fold, strict=True)
        whole = _Decided(
            np.concatenate(calibrated, 1), np.concatenate(positive, 1), np.prod(known, axis=0)
        )
        found |= _after_validation(whole, test.targets)
        ordered = {metric.name: found[metric.name] for metric in METRICS if metric.name in found}
        return Scored(ordered, {"probabilities": predicted})

    def again(self, stored: Mapping[str, np.ndarray], test: TestSet) -> dict[str, np.ndarray]:
        """Without what needs validation images, and without those by patient; of an archive, which
        has no probabilities, those of sums."""
        if "probabilities" in stored:
            return score(stored["probabilities"], test.targets)
        sums = self.statistics(self.answers(stored), test).total()
        return {metric.name: of_sums(metric)(sums) for metric in _OF_SUMS}

    def answers(self, stored: Mapping[str, np.ndarray]) -> np.ndarray:
        """Class codes, int64 [H, N]."""
        if "codes" in stored:
            return stored["codes"].astype(np.int64)
        return np.asarray(stored["probabilities"].argmax(-1))

    def compact(self, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Class codes, uint16 [H, N]."""
        return {"codes": self.answers(stored).astype(np.uint16)}

    def statistics(self, answers: np.ndarray, test: TestSet) -> Additive:
        """Three numbers for each class, see `by_class`."""
        return statistics(answers, test.targets, len(test.classes))

    def good(self, answers: np.ndarray, test: TestSet) -> np.ndarray:
        """1 where the class is right."""
        return np.asarray(answers == test.targets)

    def intervals(self, answers: np.ndarray, test: TestSet) -> dict[str, tuple[float, float]]:
        """Of the metrics that are functions of sums, with what is known of single classes.

        A class of which nothing is ever right has a recall of at most 1 - 0.025^(1 / patients)
        (Clopper & Pearson 1934, Biometrika 26:404), which bounds means over classes. A class
        without test images may score anything between 0 and 1, and the interval says so.
        """
        clusters = self.clusters(test)
        added = self.statistics(answers, test)
        total, holders = by_class(added.total()), clusters.held.sum(0)
        found = intervals(added, clusters, self.of_sums, _imagined(total.mean(0), holders))
        for name in (MACRO_F1.name, BALANCED_ACCURACY.name):
            found[name] = _of_classes(*found[name], total, holders, name)
        return found


def _imagined(total: np.ndarray, holders: np.ndarray) -> np.ndarray:
    """Statistics of two patients of each class, one wholly right and one wholly wrong: [C, 2, K].

    They are as large as the class's patients are on average; the wrong one is called what the
    model calls images most, or what they are if it knows this class alone.

    Args:
        total: sums of the test set, means over seeds, [3, C].
        holders: how many patients hold each class, [C].
    """
    classes = len(holders)
    size = total[1] / np.maximum(holders, 1)
    one = np.eye(classes)
    called, true = ((1 - one) * total[k] for k in (2, 1))
    others = np.where(called.sum(1, keepdims=True) > 0, called, true)
    others = others / np.maximum(others.sum(1, keepdims=True), 1e-300)
    right = np.stack([one, one, one], axis=1)
    wrong = np.stack([np.zeros_like(one), one, others], axis=1)
    both = size[:, None, None, None] * np.stack([right, wrong], axis=1)
    return np.asarray(both.reshape(classes, 2, -1))


def _of_classes(
    low: float, high: float, total: np.ndarray, holders: np.ndarray, name: str, level: float = 0.95
) -> tuple[float, float]:
    """Fit the interval of a mean over classes to what is known of single classes.

    Args:
        low: lower end.
        high: upper end.
        total: sums of the test set, [H, 3, C].
        holders: how many patients hold each class, [C].
        name: of the metric.
        level: coverage.
    """
    classes, absent = len(holders), holders == 0
    # A class that is called but absent counts in the mean, as 0.
    counted = ((total[:, 1] + total[:, 2]) > 0).sum(-1).mean()
    if absent.any():
        low, high = low * counted / classes, (high * counted + absent.sum()) / classes
    never = (total[:, 0] == 0).all(0) & ~absent
    recall = 1 - ((1 - level) / 2) ** (1 / np.maximum(holders, 1))
    at_most = 2 * recall / (1 + recall) if name == MACRO_F1.name else recall
    return float(low), float(min(high, np.where(never, at_most, 1.0).mean()))


def intervals_of(
    codes: np.ndarray, labels: np.ndarray, groups: Sequence[str] | None, classes: int
) -> dict[str, tuple[float, float]]:
    """95 % intervals of predicted classes, for callers without a task.

    Args:
        codes: class codes [H, N].
        labels: int64 [N].
        groups: N names of patients or videos, or None.
        classes: C.
    """
    return TYPE.intervals(codes, TestSet.of_labels(labels, classes, groups))


TYPE = Classification()
