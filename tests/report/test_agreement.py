"""Bland-Altman figures say what the table says, mark controls, and are the same bytes each time."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ultrabench_eval.report.drawings import agreement
from ultrabench_eval.report.results.entries import Labels, Probing
from ultrabench_eval.task_types.regression import TYPE, Numbers
from ultrabench_eval.test_set import TestSet

PROBING = Probing("ridge_regression", "regression-0a1b2c3d", "regression")
TARGETS = np.linspace(60.0, 340.0, 40)


def figure(models: int = 3, synthetic: bool = False) -> str:
    generator = np.random.default_rng(0)
    predictions = {
        f"model-{n}": TARGETS + generator.normal(n, 10 + n, (2, 40)) for n in range(models)
    }
    labels = Labels(
        frozenset(), frozenset({"model-1"}), frozenset({"hc18-hc"} if synthetic else ())
    )
    arguments = ("agreement", PROBING, "hc18-hc", predictions, TARGETS, "mm", labels)
    made = agreement.bland_altman(*arguments)
    assert made == agreement.bland_altman(*arguments)
    return made["figures/agreement.svg"].decode()


def texts(svg: str) -> list[str]:
    return re.findall("<!-- (.*?) -->", svg)


def test_a_panel_per_model_with_its_name_unit_and_marks() -> None:
    found = texts(figure())
    assert {"model-0", "model-2"} <= {*found}
    assert any(text.startswith("model-1 (") for text in found)  # the control
    assert "mean of both, mm" in found
    assert any("prediction" in text and text.endswith(", mm") for text in found)
    assert not any(text.startswith("SYNTHETIC") for text in found)
    assert any(text.startswith("SYNTHETIC") for text in texts(figure(synthetic=True)))


def test_of_too_many_models_the_figure_says_how_many_it_shows() -> None:
    found = " ".join(texts(figure(agreement.MOST + 2)))
    assert f"the first {agreement.MOST} of {agreement.MOST + 2} models" in found


def test_limits_are_those_of_the_scores() -> None:
    predicted = TARGETS + np.random.default_rng(1).normal(4, 15, (3, 40))
    truth = Numbers(TARGETS, np.ones(40))
    test = TestSet(
        **{"fingerprint": "", "task": "made", "type": "regression", "kind": "number"},
        **{"classes": (), "synthetic": True, "names": tuple(map(str, range(40)))},
        **{"labels": (), "values": tuple(TARGETS), "groups": None, "truth": truth},
    )
    scores = TYPE.score(predicted, test).scores
    expected = [scores[name].mean() for name in ("lower_limit", "bias", "upper_limit")]
    assert agreement.limits(predicted, TARGETS) == pytest.approx(expected)
