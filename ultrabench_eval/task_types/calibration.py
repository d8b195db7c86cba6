"""Are the probabilities true? Temperature scaling, calibration error and Brier score.

N is the number of images, C of classes; leading axes (seeds) are scored one by one.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

# What a probability of 0 counts as, so that its logarithm is finite: -87.3 nats.
SMALLEST = float(np.finfo(np.float32).tiny)

# Where the temperature is looked for. Validation images that are all predicted right ask for 0,
# which would make every later mistake infinitely bad: sharpening stops at a factor of 10. The
# other end lets probabilities of 0 (-87.3 nats) come down to the order of 1.
COLDEST, HOTTEST = 0.1, 1000.0


def temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The temperature t for which softmax(log p / t) has the smallest log loss.

    Guo et al. 2017 (ICML, PMLR 70), section 4.2; log p stands for the logits, from which it
    differs by a constant that softmax ignores. The loss is convex in 1/t, so the one minimum is
    found by a bounded search over log t. To be fitted on validation images, never on test.

    Args:
        probabilities: [N, C], rows sum to 1; zeros are taken as `SMALLEST`.
        labels: int64 [N].

    Returns:
        A number in [`COLDEST`, `HOTTEST`]; above 1 if the predictions were too sure. 1 where no
        temperature does better, as with constant predictions of 1/C.

    Raises:
        ValueError: no images.
    """
    if not len(labels):
        raise ValueError("a temperature needs at least one image")
    logits = _log(probabilities)
    # Relative to the true class: the loss is log sum exp of the margins over t.
    margins = logits - logits[np.arange(len(labels)), labels][:, None]

    def loss(log_t: float) -> float:
        return float(_log_sum_exp(margins / np.exp(log_t)).mean())

    found = minimize_scalar(
        loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-4}
    )
    # Where the loss is flat the search ends anywhere; only a gain is a reason to leave 1.
    return float(np.exp(found.x)) if loss(found.x) < loss(0.0) - 1e-12 else 1.0


def apply(probabilities: np.ndarray, temperature: float | np.ndarray) -> np.ndarray:
    """softmax(log p / t): probabilities [..., C] -> float64 [..., C], rows sum to 1.

    The order of the classes stays, so every metric of the predicted class does, too (float32
    probabilities: differences that float64 could lose do not occur).

    Args:
        probabilities: [..., C].
        temperature: one for all, or an array that broadcasts with [...], one a seed [H, 1].
    """
    logits = _log(probabilities) / np.asarray(temperature, np.float64)[..., None]
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def ece(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> np.ndarray:
    """Expected calibration error of the top class; [..., N, C] and [N] -> [...] in [0, 1].

    Guo et al. 2017, equation 3: images fall into `bins` equal intervals (a, b] by the probability
    of their predicted class; the error is the mean of |accuracy - mean probability| over intervals,
    weighted by their images. It is biased upward where images are few.
    """
    heads = probabilities.shape[:-2]
    surest = probabilities.max(-1).astype(np.float64).reshape(-1, len(labels))
    right = (probabilities.argmax(-1) == labels).reshape(-1, len(labels))
    place = np.clip(np.ceil(surest * bins).astype(np.int64) - 1, 0, bins - 1)
    place += bins * np.arange(len(place))[:, None]
    gaps = np.bincount(place.ravel(), (right - surest).ravel(), minlength=bins * len(place))
    return np.asarray(np.abs(gaps).reshape(*heads, bins).sum(-1) / len(labels))


def brier(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Brier score; [..., N, C] and [N] -> [...] in [0, 2], 0 is perfect.

    The mean over images of the sum over ALL classes of squared errors, as Brier 1950 (Monthly
    Weather Review 78:1) has it. For two classes that is twice what is often called by this name.
    """
    truth = np.eye(probabilities.shape[-1])[labels]
    return np.asarray(np.square(probabilities - truth).sum(-1).mean(-1))


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean of -log p(true class) in nats; [..., N, C] and [N] -> [...], never infinite."""
    picked = probabilities[..., np.arange(len(labels)), labels]
    return np.asarray(-_log(picked).mean(-1))


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.clip(probabilities.astype(np.float64), SMALLEST, 1)))


def _log_sum_exp(values: np.ndarray) -> np.ndarray:
    """Over the last axis; scipy's is several times slower, which the search would feel."""
    top = values.max(-1)
    return np.asarray(top + np.log(np.exp(values - top[..., None]).sum(-1)))
