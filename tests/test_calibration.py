"""Calibration against plain loops, scikit-learn, and predictions whose temperature is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn import metrics as sk

from ultrabench_eval.task_types import calibration


def draws(count: int, classes: int, seed: int = 0, seeds: tuple[int, ...] = ()) -> np.ndarray:
    """Random logits."""
    return np.random.default_rng(seed).normal(size=(*seeds, count, classes)) * 2


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def labels_of(probabilities: np.ndarray, seed: int = 1) -> np.ndarray:
    """Labels that are drawn from the probabilities, which are so made true."""
    generator = np.random.default_rng(seed)
    return (probabilities.cumsum(-1) > generator.random((len(probabilities), 1))).argmax(-1)


# ---- temperature --------------------------------------------------------------------------------


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 6])
def test_temperature_undoes_a_known_one(true: float, classes: int) -> None:
    logits = draws(8000, classes)
    labels = labels_of(softmax(logits))
    claimed = softmax(logits * true)  # over-confident for true > 1
    assert calibration.temperature(claimed, labels) == pytest.approx(true, rel=0.08)


def test_temperature_is_the_minimum_that_another_optimiser_finds() -> None:
    logits = draws(200, 4)
    probabilities, labels = softmax(logits), labels_of(softmax(logits / 2))

    def loss(inverse: np.ndarray) -> float:
        return sk.log_loss(labels, softmax(np.log(probabilities) * inverse[0]))

    inverse = minimize(loss, [0.5], method="Nelder-Mead", bounds=[(1e-3, 10)]).x[0]
    found = calibration.temperature(probabilities, labels)
    assert loss(np.array([1 / found])) == pytest.approx(loss(np.array([inverse])), abs=1e-6)


def test_temperature_of_constant_predictions_is_one() -> None:
    assert calibration.temperature(np.full((30, 3), 1 / 3), np.arange(30) % 3) == 1


def test_certain_predictions_that_are_often_wrong_are_brought_down() -> None:
    labels = np.arange(100) % 2
    claimed = np.eye(2)[np.where(np.arange(100) % 10 < 3, 1 - labels, labels)]  # 70 % right
    t = calibration.temperature(claimed, labels)
    assert calibration.apply(claimed, t).max() == pytest.approx(0.7, abs=0.01)


def test_one_image_right_or_wrong_stays_within_the_bounds() -> None:
    sure = np.array([[0.9, 0.1]])
    assert calibration.temperature(sure, np.array([0])) == pytest.approx(
        calibration.COLDEST, rel=1e-3
    )
    assert calibration.temperature(sure, np.array([1])) == pytest.approx(
        calibration.HOTTEST, rel=1e-2
    )


def test_no_image_has_no_temperature() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        calibration.temperature(np.empty((0, 2)), np.empty(0, np.int64))


@st.composite
def rough_predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """float32, with zeros and ties among them."""
    classes, count = draw(st.integers(2, 5)), draw(st.integers(1, 20))
    weights = st.lists(
        st.sampled_from([0.0, 1e-30, 1e-7, 0.1, 0.1000001, 1.0]), min_size=classes, max_size=classes
    ).filter(lambda w: max(w) > 1e-20)
    rows = np.array([draw(weights) for _ in range(count)])
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    return (rows / rows.sum(-1, keepdims=True)).astype(np.float32), np.array(labels)


@given(rough_predictions())
def test_temperature_never_costs_on_the_images_it_is_fitted_on(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    probabilities, labels = case
    t = calibration.temperature(probabilities, labels)
    assert calibration.COLDEST <= t <= calibration.HOTTEST
    calibrated = calibration.apply(probabilities, t)
    before = calibration.log_loss(calibration.apply(probabilities, 1.0), labels)
    # Clipping at the smallest probability can only lower a loss.
    assert calibration.log_loss(calibrated, labels) <= before + 1e-9


@given(rough_predictions(), st.floats(calibration.COLDEST, calibration.HOTTEST))
def test_apply_keeps_the_predicted_class_and_sums_to_one(
    case: tuple[np.ndarray, np.ndarray], t: float
) -> None:
    probabilities, _ = case
    calibrated = calibration.apply(probabilities, t)
    assert (calibrated.argmax(-1) == probabilities.argmax(-1)).all()
    assert calibrated.sum(-1) == pytest.approx(1)


def test_apply_takes_one_temperature_a_seed() -> None:
    probabilities = softmax(draws(7, 3, seeds=(2,)))
    both = calibration.apply(probabilities, np.array([[1.0], [2.5]]))
    assert both[0] == pytest.approx(probabilities[0])
    assert both[1] == pytest.approx(softmax(np.log(probabilities[1]) / 2.5))


# ---- errors -------------------------------------------------------------------------------------


def ece_by_loop(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    surest, right = probabilities.max(1), probabilities.argmax(1) == labels
    total = 0.0
    for low, high in zip(np.arange(bins) / bins, np.arange(1, bins + 1) / bins, strict=True):
        inside = (surest > low) & (surest <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - surest[inside].mean())
    return total


@pytest.mark.parametrize("bins", [15, 4])
def test_ece_equals_a_loop_over_bins_and_seeds(bins: int) -> None:
    probabilities = softmax(draws(150, 4, seeds=(3,)))
    labels = labels_of(probabilities[0])
    expected = [ece_by_loop(p, labels, bins) for p in probabilities]
    assert calibration.ece(probabilities, labels, bins) == pytest.approx(expected)
    assert calibration.ece(probabilities[1], labels, bins) == pytest.approx(expected[1])


def test_a_probability_on_an_edge_belongs_to_the_bin_below() -> None:
    probabilities = np.array([[0.5, 0.5], [0.75, 0.25]])  # right, wrong
    assert calibration.ece(probabilities, np.array([0, 1]), bins=2) == (0.5 + 0.75) / 2


def test_ece_of_the_extremes() -> None:
    labels = np.zeros(10, np.int64)
    assert calibration.ece(np.tile([1.0, 0.0], (10, 1)), labels) == 0
    assert calibration.ece(np.tile([0.0, 1.0], (10, 1)), labels) == 1
    assert calibration.ece(np.tile([0.8, 0.2], (10, 1)), labels) == pytest.approx(0.2)


def test_temperature_lowers_the_ece_of_unseen_over_confident_predictions() -> None:
    logits = draws(4000, 3)
    labels, claimed = labels_of(softmax(logits)), softmax(3 * logits)
    t = calibration.temperature(claimed[:2000], labels[:2000])
    calibrated = calibration.apply(claimed[2000:], t)
    assert calibration.ece(calibrated, labels[2000:]) < 0.04
    assert calibration.ece(claimed[2000:], labels[2000:]) > 0.1


def test_brier_is_twice_scikit_learns_for_two_classes() -> None:
    probabilities, labels = softmax(draws(50, 2)), np.arange(50) % 2
    expected = 2 * sk.brier_score_loss(labels, probabilities[:, 1])
    assert calibration.brier(probabilities, labels) == pytest.approx(expected)


def test_brier_equals_a_loop_over_seeds_images_and_classes() -> None:
    probabilities, labels = softmax(draws(20, 4, seeds=(2,))), np.arange(20) % 4
    for p, value in zip(probabilities, calibration.brier(probabilities, labels), strict=True):
        errors = [
            sum((p[i, c] - (c == label)) ** 2 for c in range(4)) for i, label in enumerate(labels)
        ]
        assert value == pytest.approx(np.mean(errors))


def test_brier_of_certain_mistakes_is_two() -> None:
    assert calibration.brier(np.array([[0.0, 1.0, 0.0]]), np.array([2])) == 2


def test_log_loss_equals_scikit_learns_and_is_never_infinite() -> None:
    probabilities, labels = softmax(draws(40, 3, seeds=(2,))), np.arange(40) % 3
    expected = [sk.log_loss(labels, p) for p in probabilities]
    assert calibration.log_loss(probabilities, labels) == pytest.approx(expected)
    assert np.isfinite(calibration.log_loss(np.array([[1.0, 0.0]]), np.array([1])))
