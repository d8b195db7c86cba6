"""Metrics of class predictions. H is the number of seeds, N of images, C of classes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sklearn import metrics as sk

MAIN = "macro_f1"

# Scores are reported in percent, the loss in nats.
UNITS = {
    "macro_f1": "%",
    "accuracy": "%",
    "balanced_accuracy": "%",
    "weighted_f1": "%",
    "auroc": "%",
    "auprc": "%",
    "log_loss": "nats",
}


def scale(name: str) -> float:
    """What a metric is multiplied by for a table: 100 for scores, 1 for the loss."""
    return 100.0 if UNITS[name] == "%" else 1.0


# ---- from counts: any leading shape, so that a bootstrap can score all resamples at once --------


def confusion(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts [C, C] of images by (true class, predicted class), int64."""
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Unweighted mean of the classes' F1; counts [..., C, C] -> [...] in [0, 1].

    A class that is neither present nor predicted is left out, as scikit-learn does.
    """
    return np.asarray(np.nanmean(_f1(counts), axis=-1))


def weighted_f1(counts: np.ndarray) -> np.ndarray:
    """Mean of the classes' F1 weighted by their true counts; counts [..., C, C] -> [...]."""
    return np.asarray(np.nansum(_f1(counts) * counts.sum(-1), axis=-1) / counts.sum((-2, -1)))


def accuracy(counts: np.ndarray) -> np.ndarray:
    """Part of the images that is predicted right; counts [..., C, C] -> [...]."""
    return np.asarray(_right(counts).sum(-1) / counts.sum((-2, -1)))


def balanced_accuracy(counts: np.ndarray) -> np.ndarray:
    """Mean recall of the classes that are present; counts [..., C, C] -> [...]."""
    return np.asarray(np.nanmean(_ratio(_right(counts), counts.sum(-1)), axis=-1))


FROM_COUNTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "macro_f1": macro_f1,
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "weighted_f1": weighted_f1,
}


def _right(counts: np.ndarray) -> np.ndarray:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _f1(counts: np.ndarray) -> np.ndarray:
    """F1 of each class [..., C]; NaN where a class is neither present nor predicted."""
    return _ratio(2 * _right(counts), counts.sum(-1) + counts.sum(-2))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


# ---- from probabilities -------------------------------------------------------------------------


def score(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """All metrics of `UNITS` for each seed.

    Args:
        probabilities: [H, N, C], rows sum to 1.
        labels: int64 [N].

    Returns:
        float64 [H] for each metric, not yet in percent. AUROC and AUPRC are the unweighted means
        over one-against-rest classes, and NaN where a class has no image.
    """
    classes = probabilities.shape[-1]
    counts = np.stack([confusion(p.argmax(-1), labels, classes) for p in probabilities])
    scores = {name: of(counts) for name, of in FROM_COUNTS.items()}
    truth = np.eye(classes)[labels]  # [N, C]
    present = truth.any(0).all()
    for name, of in (("auroc", sk.roc_auc_score), ("auprc", sk.average_precision_score)):
        scores[name] = np.array([of(truth, p) if present else np.nan for p in probabilities])
    picked = probabilities[:, np.arange(len(labels)), labels].astype(np.float64)
    scores["log_loss"] = -np.log(np.clip(picked, np.finfo(np.float32).tiny, 1)).mean(-1)
    return {name: scores[name] for name in UNITS}
