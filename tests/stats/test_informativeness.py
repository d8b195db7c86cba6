"""The best model above the best control: by hand, and in simulations where the truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ultrabench_eval.stats.informativeness import (
    Informativeness,
    informativeness,
    selection_optimism,
)

NAMES = ("good", "better", "random", "thumbnail")
CONTROLS = ["random", "thumbnail"]


def case(values: tuple[float, ...], spread: float = 0.02):
    noise = np.random.default_rng(0).normal(0, spread, (len(values), 500))
    scores = dict(zip(NAMES, values, strict=True))
    return scores, {n: v + e for (n, v), e in zip(scores.items(), noise, strict=True)}


def test_the_best_of_each_kind_are_compared() -> None:
    scores, resampled = case((0.7, 0.8, 0.4, 0.5))
    found = informativeness(scores, resampled, CONTROLS)
    assert (found.model, found.control) == ("better", "thumbnail")
    assert found.difference == pytest.approx(0.3)
    assert found.gain == found.difference - found.optimism
    d = resampled["better"] - resampled["thumbnail"]
    expected = np.quantile(d, [0.025, 0.975]) - found.optimism
    assert (found.low, found.high) == pytest.approx(tuple(expected))
    assert found.informative


def test_a_control_that_is_as_good_makes_a_task_uninformative() -> None:
    assert not informativeness(*case((0.5, 0.51, 0.4, 0.5)), CONTROLS).informative
    assert not informativeness(*case((0.5, 0.51, 0.4, 0.9)), CONTROLS).informative


def test_optimism_equals_a_loop_over_resamples() -> None:
    scores = np.array([0.5, 0.52, 0.3])
    resampled = np.random.default_rng(0).normal(scores[:, None] - 0.1, 0.05, (3, 200))
    gains = []
    for r in range(200):
        there = [resampled[m, r] - resampled[m].mean() + scores[m] for m in range(3)]
        best = int(np.argmax(there))
        gains.append(there[best] - scores[best])
    assert selection_optimism(scores, resampled) == pytest.approx(np.mean(gains))
    assert np.mean(gains) > 0.01  # though the metric is lower in resamples, a bias of its own


def test_a_model_far_ahead_or_alone_has_no_optimism() -> None:
    resampled = np.random.default_rng(0).normal(0, 0.01, (2, 300))
    assert selection_optimism(np.array([0.9, 0.5]), resampled) == pytest.approx(0, abs=1e-12)
    assert selection_optimism(np.array([0.9]), resampled[:1]) == pytest.approx(0, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_optimism_is_never_negative(seed: int, models: int) -> None:
    generator = np.random.default_rng(seed)
    assert selection_optimism(generator.random(models), generator.random((models, 20))) >= 0


def simulate(generator: np.random.Generator, models: int) -> Informativeness:
    """Models and one control that are all equally good, on 80 images."""
    names = [*map(str, range(models)), "control"]
    images = generator.normal(size=(80, 1)) + generator.normal(size=(80, len(names)))
    drawn = generator.multinomial(80, np.full(80, 1 / 80), size=300) / 80
    return informativeness(
        dict(zip(names, images.mean(0), strict=True)),
        dict(zip(names, (drawn @ images).T, strict=True)),
        ["control"],
    )


def test_the_best_of_many_equal_models_rarely_passes_for_informative() -> None:
    generator = np.random.default_rng(0)
    found = [simulate(generator, models=20) for _ in range(300)]
    claimed = np.mean([f.informative for f in found])
    uncorrected = np.mean([f.low + f.optimism > 0 for f in found])
    assert claimed < 0.09
    assert uncorrected > 0.15
    differences = np.mean([f.difference for f in found])
    assert 0 < np.mean([f.gain for f in found]) < 0.5 * differences


@pytest.mark.parametrize("controls", [[], ["unheard"], list(NAMES)])
def test_a_model_and_a_known_control_are_needed(controls: list[str]) -> None:
    with pytest.raises(ValueError, match="need a model and a control"):
        informativeness(*case((0.7, 0.8, 0.4, 0.5)), controls)


def test_nan_is_refused() -> None:
    scores, resampled = case((0.7, 0.8, 0.4, 0.5))
    with pytest.raises(ValueError, match="NaN"):
        informativeness({**scores, "good": np.nan}, resampled, CONTROLS)
