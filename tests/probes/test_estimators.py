"""The probes as scikit-learn estimators: they are its kind, and the very probes of a run."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from clouds import clouds
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from ultrabench_eval import probes, protocol
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.estimators import ProbeClassifier
from ultrabench_eval.probes.heads import ProbeData, streams

POOLED = ("linear", "logistic", "ridge", "knn")


@parametrize_with_checks([ProbeClassifier(name) for name in POOLED])
def test_it_is_an_estimator_of_scikit_learn(estimator: Any, check: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(estimator)


def test_it_is_the_probe_of_a_run() -> None:
    x, y = clouds(150)
    vx, vy = clouds(60, seed=1)
    for name in POOLED:
        fitted = ProbeClassifier(name, protocol="tuned", seeds=2, calibrated=False)
        fitted.fit(x.numpy(), y.numpy(), validation=(vx.numpy(), vy.numpy()))
        data = ProbeData(x, y, vx, vy, 3)
        stack = probes.get(name).train(data, streams(150, 60, range(2), None, None), protocol.TUNED)
        expected = stack.chosen().predict(vx).mean(0).numpy()
        np.testing.assert_allclose(fitted.predict_proba(vx.numpy()), expected, rtol=1e-12)


def test_the_attentive_probe_reads_tokens_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    y = np.array(["cyst", "mass"])[generator.integers(0, 2, 80)]
    x = generator.normal(size=(80, 9, 8)).astype(np.float32)
    x[np.arange(80), generator.integers(0, 9, 80)] += np.where(y == "mass", 9, -9)[:, None]
    gradient = protocol.Gradient(learning_rates=(1e-2,), max_epochs=20)
    fitted = ProbeClassifier("attentive", protocol=protocol.Protocol("quick", gradient=gradient))
    assert fitted.fit(x, y).score(x, y) > 0.9
    assert list(fitted.classes_) == ["cyst", "mass"]
    with pytest.raises(ValueError, match=r"reads tokens \[N, T, D\]; X has the shape \(80, 8\)"):
        ProbeClassifier("attentive").fit(x.mean(1), y)
    with pytest.raises(ValueError, match="Found array with dim 3"):
        ProbeClassifier("linear").fit(x, y)


def test_validation_is_drawn_by_patients_and_stratified() -> None:
    x, y = (part.numpy() for part in clouds(120, classes=2))
    patients = np.arange(120) // 4
    rows, held = ProbeClassifier()._drawn(y, patients)
    assert not set(patients[rows]) & set(patients[held])
    assert 12 <= len(held) <= 36
    assert set(y[held]) == {0, 1}
    assert abs(y[held].mean() - y.mean()) < 0.15
    scores = cross_val_score(
        make_pipeline(StandardScaler(), ProbeClassifier("ridge")),
        x, y, groups=patients, cv=GroupKFold(4),
    )  # fmt: skip
    assert scores.mean() > 0.65


def test_temperatures_are_fitted_on_validation() -> None:
    x, y = (part.numpy() for part in clouds(150))
    vx, vy = (part.numpy() for part in clouds(60, seed=1))
    fitted = ProbeClassifier("knn").fit(x, y, validation=(vx, vy))
    plain = ProbeClassifier("knn", calibrated=False).fit(x, y, validation=(vx, vy))

    def loss(one: ProbeClassifier) -> float:
        return float(-np.log(one.predict_proba(vx)[np.arange(60), vy]).mean())

    assert fitted.temperatures_[0] != 1
    assert loss(fitted) < loss(plain)
    assert list(fitted.predict(vx)) == list(plain.predict(vx))


def test_what_cannot_be_fitted_is_told() -> None:
    x, y = np.eye(6), np.arange(6) % 2
    with pytest.raises(UserError, match="'liner'"):
        ProbeClassifier("liner").fit(x, y)
    for name, kind in (("ridge_regression", "numbers"), ("dense", "masks")):
        with pytest.raises(UserError, match=f"'{name}' predicts {kind}; name one for classes"):
            ProbeClassifier(name).fit(x, y)
    with pytest.raises(ValueError, match=r"labels of the validation samples that y lacks: \[2\]"):
        ProbeClassifier().fit(x, y, validation=(x, np.arange(6) % 3))
    with pytest.warns(UserWarning, match="chosen on the training samples"):
        ProbeClassifier("ridge").fit(x, y, groups=y)
    with pytest.raises(ValueError, match="6 samples and 2 groups"):
        ProbeClassifier().fit(x, y, groups=[1, 2])
