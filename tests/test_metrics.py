"""Metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from ultrabench_eval.task_types import calibration, classification

BY_NAME = {metric.name: metric for metric in classification.METRICS}
GROUPED = {"group_macro_f1", "group_accuracy", "group_balanced_accuracy", "group_auroc"}
CALIBRATED = {"log_loss_calibrated", "brier_calibrated", "ece_calibrated"}
AT_THRESHOLD = {"sensitivity_at_90_specificity", "specificity_reached"}


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    classes = draw(st.integers(2, 6))
    count = draw(st.integers(1, 60))
    code = st.integers(0, classes - 1)
    labels = draw(st.lists(code, min_size=count, max_size=count))
    predicted = draw(st.lists(code, min_size=count, max_size=count))
    return np.array(predicted), np.array(labels), classes


@given(predictions())
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_counts_give_what_scikit_learn_gives(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    predicted, labels, classes = case
    counts = classification.confusion(predicted, labels, classes)
    assert counts.sum() == len(labels)
    expected = {
        "macro_f1": sk.f1_score(labels, predicted, average="macro", zero_division=0),
        "weighted_f1": sk.f1_score(labels, predicted, average="weighted", zero_division=0),
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
    }
    for name, value in expected.items():
        assert classification.of_counts(BY_NAME[name], counts) == pytest.approx(value), name


def test_score_of_several_seeds() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 50)
    probabilities = generator.dirichlet(np.ones(3), (4, 50)).astype(np.float32)
    scores = classification.score(probabilities, labels)
    assert list(scores) == [
        name for name in BY_NAME if name not in GROUPED | CALIBRATED | AT_THRESHOLD
    ]
    for seed, p in enumerate(probabilities):
        assert scores["auroc"][seed] == pytest.approx(
            sk.roc_auc_score(labels, p / p.sum(1, keepdims=True), multi_class="ovr")
        )
        assert scores["log_loss"][seed] == pytest.approx(sk.log_loss(labels, p), rel=1e-5)
        assert scores["macro_f1"][seed] == pytest.approx(
            sk.f1_score(labels, p.argmax(1), average="macro")
        )


def test_two_classes_have_the_usual_auroc() -> None:
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 2, 40)
    positive = generator.random(40).astype(np.float32)
    scores = classification.score(np.stack([1 - positive, positive], -1)[None], labels)
    assert scores["auroc"][0] == pytest.approx(sk.roc_auc_score(labels, positive))


def test_a_class_without_test_images_leaves_auroc_open_but_not_the_rest() -> None:
    probabilities = np.full((1, 4, 3), 1 / 3, np.float32)
    scores = classification.score(probabilities, np.array([0, 1, 0, 1]))
    assert np.isnan(scores["auroc"]).all()
    assert np.isnan(scores["auprc"]).all()
    assert np.isfinite(scores["macro_f1"]).all()


def test_a_certain_mistake_has_a_finite_loss() -> None:
    probabilities = np.array([[[1.0, 0.0]]], np.float32)
    assert np.isfinite(classification.score(probabilities, np.array([1]))["log_loss"]).all()


# ---- areas --------------------------------------------------------------------------------------


@st.composite
def tied_probabilities(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Few distinct values, so that many tie; every class has an image; float32 [2, N, C]."""
    classes = draw(st.integers(2, 4))
    more = draw(st.lists(st.integers(0, classes - 1), max_size=25))
    labels = np.array([*range(classes), *more])
    size = 2 * len(labels) * classes
    values = draw(st.lists(st.integers(1, 4), min_size=size, max_size=size))
    weights = np.array(values, np.float32).reshape(2, len(labels), classes)
    return weights / weights.sum(-1, keepdims=True), labels


@given(tied_probabilities())
def test_areas_equal_scikit_learns_with_ties(case: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = case
    truth = np.eye(probabilities.shape[-1])[labels]
    auroc, auprc = classification.areas(probabilities, labels)
    assert auroc == pytest.approx([sk.roc_auc_score(truth, p) for p in probabilities])
    assert auprc == pytest.approx([sk.average_precision_score(truth, p) for p in probabilities])


# ---- what groups and validation add -------------------------------------------------------------


def case(classes: int, count: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Over-confident predictions of 3 seeds, float32, that are right more often than not."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), generator.integers(0, classes, count - classes)])
    logits = generator.normal(size=(3, count, classes)) + 1.5 * np.eye(classes)[labels]
    powers = np.exp(4 * logits)
    return (powers / powers.sum(-1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize(("classes", "binary"), [(2, AT_THRESHOLD), (3, set())])
def test_a_cell_gets_every_name_that_applies(classes: int, binary: set[str]) -> None:
    probabilities, labels = case(classes)
    groups = [f"p{i // 3}" for i in range(len(labels))]
    plain = set(classification.score(probabilities, labels))
    assert set(classification.score(probabilities, labels, groups=groups)) == plain | GROUPED
    both = classification.score(
        probabilities, labels, groups=groups, validation=case(classes, seed=1)
    )
    assert set(both) == plain | GROUPED | CALIBRATED | binary
    assert plain | GROUPED | CALIBRATED | AT_THRESHOLD == set(BY_NAME)
    for name, values in both.items():
        assert values.shape == (3,), name
        assert values.dtype == np.float64, name
        assert np.isfinite(values).all(), name


def test_units() -> None:
    assert {metric.unit for metric in BY_NAME.values()} == {"%", "nats", ""}
    assert BY_NAME["ece"].scale == 100
    assert BY_NAME["brier"].scale == BY_NAME["log_loss"].scale == 1
    assert BY_NAME["macro_f1"].in_unit == "macro F1 in percent"
    assert BY_NAME["log_loss"].on_axis == "log loss, nats"


def test_calibrated_scores_use_the_temperature_of_validation_seed_by_seed() -> None:
    (probabilities, labels), (validation, truth) = case(3), case(3, 60, seed=1)
    scores = classification.score(probabilities, labels, validation=(validation, truth))
    for seed, (p, v) in enumerate(zip(probabilities, validation, strict=True)):
        calibrated = calibration.apply(p, calibration.temperature(v, truth))
        assert scores["log_loss_calibrated"][seed] == pytest.approx(sk.log_loss(labels, calibrated))
        assert scores["brier_calibrated"][seed] == calibration.brier(calibrated, labels)
        assert scores["ece_calibrated"][seed] == calibration.ece(calibrated, labels)
    assert (scores["log_loss_calibrated"] < scores["log_loss"]).all()


def test_group_scores_equal_a_loop_over_units() -> None:
    probabilities, labels = case(3)
    groups = [f"p{i % 17}" for i in range(len(labels))]  # patients with images of all classes
    scores = classification.score(probabilities, labels, groups=groups)
    units = sorted(set(zip(groups, labels.tolist(), strict=True)))
    truth = np.array([label for _, label in units])
    assert len(units) > 17
    for seed, p in enumerate(probabilities):
        means = np.array(
            [
                p[[i for i in range(len(labels)) if (groups[i], labels[i]) == unit]].mean(0)
                for unit in units
            ]
        )
        predicted = means.argmax(1)
        expected = {
            "group_macro_f1": sk.f1_score(truth, predicted, average="macro"),
            "group_accuracy": sk.accuracy_score(truth, predicted),
            "group_balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
            "group_auroc": sk.roc_auc_score(np.eye(3)[truth], means),
        }
        for name, value in expected.items():
            assert scores[name][seed] == pytest.approx(value), name


def test_groups_of_one_image_change_nothing() -> None:
    probabilities, labels = case(3)
    scores = classification.score(
        probabilities, labels, groups=[str(i) for i in range(len(labels))]
    )
    for name in GROUPED:
        assert scores[name] == pytest.approx(scores[name.removeprefix("group_")]), name


def threshold_by_trial(positive: np.ndarray, labels: np.ndarray) -> float:
    negatives = positive[labels == 0]
    return min(t for t in negatives if np.mean(negatives <= t) >= 0.9 - 1e-12)


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=45), st.lists(st.integers(0, 8), max_size=5)
)
def test_threshold_is_the_smallest_with_the_specificity(
    negatives: list[int], positives: list[int]
) -> None:
    probability = np.array([*negatives, *positives]) / 8
    labels = np.array([0] * len(negatives) + [1] * len(positives))
    found = classification.threshold_at_specificity(probability, labels)
    assert found == threshold_by_trial(probability, labels)
    assert np.mean(probability[labels == 0] > np.nextafter(found, -1)) > 0.1 - 1e-12


def test_sensitivity_is_taken_on_test_at_the_threshold_of_validation() -> None:
    (probabilities, labels), (validation, truth) = case(2), case(2, 60, seed=1)
    scores = classification.score(probabilities, labels, validation=(validation, truth))
    for seed, (p, v) in enumerate(zip(probabilities, validation, strict=True)):
        called = p[:, 1] > threshold_by_trial(v[:, 1], truth)
        assert scores["sensitivity_at_90_specificity"][seed] == pytest.approx(
            sk.recall_score(labels, called)
        )
        assert scores["specificity_reached"][seed] == pytest.approx(
            sk.recall_score(labels, called, pos_label=0)
        )


def test_sensitivity_without_negatives_to_choose_by_or_positives_to_find_is_open() -> None:
    probabilities, labels = case(2)
    blind = classification.score(
        probabilities, labels, validation=(probabilities[:, :2], np.array([1, 1]))
    )
    assert np.isnan(blind["sensitivity_at_90_specificity"]).all()
    assert np.isnan(blind["specificity_reached"]).all()
    negatives = labels == 0
    healthy = classification.score(
        probabilities[:, negatives], labels[negatives], validation=(probabilities, labels)
    )
    assert np.isnan(healthy["sensitivity_at_90_specificity"]).all()
    assert (healthy["specificity_reached"] >= 0.9).all()
