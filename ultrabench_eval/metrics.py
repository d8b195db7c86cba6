"""Metrics of class predictions. H is the number of seeds, N of images, C of classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

from ultrabench_eval import calibration

MAIN = "macro_f1"

# All names that `score` can give. Scores are reported in percent, the loss in nats, the Brier score
# as it is.
UNITS = {
    "macro_f1": "%",
    "accuracy": "%",
    "balanced_accuracy": "%",
    "weighted_f1": "%",
    "auroc": "%",
    "auprc": "%",
    "log_loss": "nats",
    "brier": "",
    "ece": "%",
    # After temperature scaling on validation.
    "log_loss_calibrated": "nats",
    "brier_calibrated": "",
    "ece_calibrated": "%",
    # Two classes: at a threshold chosen on validation.
    "sensitivity_at_90_specificity": "%",
    "specificity_reached": "%",
    # One prediction a patient (or video).
    "group_macro_f1": "%",
    "group_accuracy": "%",
    "group_balanced_accuracy": "%",
    "group_auroc": "%",
}


def scale(name: str) -> float:
    """What a metric is multiplied by for a table: 100 for "%", 1 for the rest."""
    return 100.0 if UNITS[name] == "%" else 1.0


# ---- from sums: any leading shape, so that statistics can score many test sets at once ----------

# Sums [..., 3, C] over images, of each class: called so and rightly, of it, called so.


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [C, C] of images by (true class, predicted class), int64."""
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


def sums(counts: np.ndarray) -> np.ndarray:
    """What `OF_SUMS` take, [..., 3, C], of a confusion matrix [..., C, C]."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.stack([right, counts.sum(-1), counts.sum(-2)], axis=-2)


def _macro_f1(sums: np.ndarray) -> np.ndarray:
    """Unweighted mean of the classes' F1.

    A class that is neither present nor predicted is left out, as scikit-learn does.
    """
    return np.asarray(np.nanmean(_f1(sums), axis=-1))


def _weighted_f1(sums: np.ndarray) -> np.ndarray:
    """Mean of the classes' F1 weighted by their true counts."""
    true = sums[..., 1, :]
    return np.asarray(np.nansum(_f1(sums) * true, axis=-1) / true.sum(-1))


def _accuracy(sums: np.ndarray) -> np.ndarray:
    """Part of the images that is predicted right."""
    return np.asarray(sums[..., 0, :].sum(-1) / sums[..., 1, :].sum(-1))


def _balanced_accuracy(sums: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that are present."""
    return np.asarray(np.nanmean(_ratio(sums[..., 0, :], sums[..., 1, :]), axis=-1))


OF_SUMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "macro_f1": _macro_f1,
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "weighted_f1": _weighted_f1,
}
"""Sums [..., 3, C] -> scores [...] in [0, 1]."""
OVER_CLASSES = ("macro_f1", "balanced_accuracy")
"""Those that are unweighted means over classes."""


def of_counts(name: str, counts: np.ndarray) -> np.ndarray:
    """One of `OF_SUMS` of confusion matrices; counts [..., C, C] -> [...] in [0, 1]."""
    return OF_SUMS[name](sums(counts))


def _f1(sums: np.ndarray) -> np.ndarray:
    """F1 of each class [..., C]; NaN where a class is neither present nor predicted."""
    return _ratio(2 * sums[..., 0, :], sums[..., 1, :] + sums[..., 2, :])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


# ---- from probabilities -------------------------------------------------------------------------


def score(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """The metrics of `UNITS` that the arguments allow, for each seed.

    Args:
        probabilities: of the test images, [H, N, C], rows sum to 1.
        labels: int64 [N].
        groups: N names of patients or videos; gives the `group_...` metrics (see `by_unit`).
        validation: probabilities [H, V, C] and labels int64 [V] of the validation images; gives
            the `..._calibrated` metrics (one temperature a seed, from validation only) and, for
            two classes, `sensitivity_at_90_specificity` and `specificity_reached`.

    Returns:
        float64 [H] for each metric, not yet in percent, in the order of `UNITS`. AUROC and AUPRC
        are the unweighted means over one-against-rest classes, and NaN where a class has no image.
        What would be the mean of no image at all is NaN, too.
    """
    counts = _counts(probabilities, labels)
    scores = {name: of_counts(name, counts) for name in OF_SUMS}
    scores["auroc"], scores["auprc"] = areas(probabilities, labels)
    scores |= _of_probabilities(probabilities, labels, "")
    if validation is not None:
        scores |= _after_validation(probabilities, labels, *validation)
    if groups is not None:
        unit_probabilities, unit_labels = by_unit(probabilities, labels, groups)
        counts = _counts(unit_probabilities, unit_labels)
        for name in ("macro_f1", "accuracy", "balanced_accuracy"):
            scores[f"group_{name}"] = of_counts(name, counts)
        scores["group_auroc"], _ = areas(unit_probabilities, unit_labels)
    return {name: scores[name] for name in UNITS if name in scores}


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


def _after_validation(
    probabilities: np.ndarray,
    labels: np.ndarray,
    validation: np.ndarray,
    validation_labels: np.ndarray,
) -> dict[str, np.ndarray]:
    temperatures = [calibration.temperature(p, validation_labels) for p in validation]
    calibrated = calibration.apply(probabilities, np.array(temperatures)[:, None])
    scores = _of_probabilities(calibrated, labels, "_calibrated")
    if probabilities.shape[-1] == 2:
        thresholds = [threshold_at_specificity(p[:, 1], validation_labels) for p in validation]
        # An unknown threshold (NaN) calls nothing positive; that must not pass for a result.
        known = np.where(np.isnan(thresholds), np.nan, 1.0)
        called = probabilities[..., 1] > np.array(thresholds)[:, None]  # [H, N]
        for name, code in (("sensitivity_at_90_specificity", 1), ("specificity_reached", 0)):
            of_code = called[:, labels == code]
            hits, number = (of_code == bool(code)).sum(-1), np.array(of_code.shape[-1])
            scores[name] = known * _ratio(hits, np.broadcast_to(number, hits.shape))
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
