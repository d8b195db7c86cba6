"""Metrics against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ultrabench_eval import metrics


@st.composite
def predictions(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    classes = draw(st.integers(2, 6))
    count = draw(st.integers(1, 60))
    code = st.integers(0, classes - 1)
    labels = draw(st.lists(code, min_size=count, max_size=count))
    predicted = draw(st.lists(code, min_size=count, max_size=count))
    return np.array(predicted), np.array(labels), classes


@given(predictions())
@settings(deadline=None)
@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_counts_give_what_scikit_learn_gives(case: tuple[np.ndarray, np.ndarray, int]) -> None:
    predicted, labels, classes = case
    counts = metrics.confusion(predicted, labels, classes)
    assert counts.sum() == len(labels)
    expected = {
        "macro_f1": sk.f1_score(labels, predicted, average="macro", zero_division=0),
        "weighted_f1": sk.f1_score(labels, predicted, average="weighted", zero_division=0),
        "accuracy": sk.accuracy_score(labels, predicted),
        "balanced_accuracy": sk.balanced_accuracy_score(labels, predicted),
    }
    for name, value in expected.items():
        assert metrics.FROM_COUNTS[name](counts) == pytest.approx(value), name


def test_score_of_several_seeds() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 50)
    probabilities = generator.dirichlet(np.ones(3), (4, 50)).astype(np.float32)
    scores = metrics.score(probabilities, labels)
    assert list(scores) == list(metrics.UNITS)
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
    scores = metrics.score(np.stack([1 - positive, positive], -1)[None], labels)
    assert scores["auroc"][0] == pytest.approx(sk.roc_auc_score(labels, positive))


def test_a_class_without_test_images_leaves_auroc_open_but_not_the_rest() -> None:
    probabilities = np.full((1, 4, 3), 1 / 3, np.float32)
    scores = metrics.score(probabilities, np.array([0, 1, 0, 1]))
    assert np.isnan(scores["auroc"]).all()
    assert np.isnan(scores["auprc"]).all()
    assert np.isfinite(scores["macro_f1"]).all()


def test_a_certain_mistake_has_a_finite_loss() -> None:
    probabilities = np.array([[[1.0, 0.0]]], np.float32)
    assert np.isfinite(metrics.score(probabilities, np.array([1]))["log_loss"]).all()
