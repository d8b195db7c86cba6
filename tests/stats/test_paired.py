"""Pairs of models: against statsmodels, by the defining properties, and under the null."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest
from statsmodels.stats.multitest import multipletests

from ultrabench_eval.metrics import MAIN
from ultrabench_eval.stats import bootstrap, paired

# ---- Holm ---------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.011, 0.04, 0.05, 0.3, 1.0]), max_size=12))
@settings(deadline=None, max_examples=20)  # statsmodels takes its time
def test_holm_equals_statsmodels(values: list[float]) -> None:
    p = np.array(values)
    expected = multipletests(p, method="holm")[1] if values else p
    assert paired.holm(p) == pytest.approx(expected)


# ---- letters ------------------------------------------------------------------------------------


def tokens(text: str) -> set[str]:
    return set(re.findall(r"[a-zA-Z]|\(\d+\)", text))


@st.composite
def differing(draw: st.DrawFn) -> np.ndarray:
    models = draw(st.integers(1, 9))
    different = np.zeros((models, models), bool)
    upper = np.triu_indices(models, k=1)
    different[upper] = draw(st.lists(st.booleans(), min_size=len(upper[0]), max_size=len(upper[0])))
    return different | different.T


@given(differing())
@settings(deadline=None)
def test_models_share_a_letter_if_and_only_if_they_do_not_differ(different: np.ndarray) -> None:
    found = [tokens(text) for text in paired.letters(different, range(len(different)))]
    for a in range(len(different)):
        assert found[a]
        for b in range(a):
            assert bool(found[a] & found[b]) != different[a, b]


@given(differing())
@settings(deadline=None)
def test_no_letter_lies_in_another_one(different: np.ndarray) -> None:
    found = [tokens(text) for text in paired.letters(different, range(len(different)))]
    members = [
        {model for model, mine in enumerate(found) if letter in mine}
        for letter in set().union(*found)
    ]
    assert not any(a <= b for i, a in enumerate(members) for j, b in enumerate(members) if i != j)


def test_letters_of_a_table_go_from_best_to_worst() -> None:
    # Scores 3, 1, 2: the outer two differ, the middle one ties with both.
    different = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    assert paired.letters(different, [0, 2, 1]) == ("a", "b", "ab")
    assert paired.letters(different, [1, 2, 0]) == ("b", "a", "ab")


def test_letters_do_not_end_with_the_alphabet() -> None:
    all_differ = ~np.eye(60, dtype=bool)
    found = paired.letters(all_differ, range(60))
    assert found[0] == "a"
    assert found[52] == "(53)"
    assert len(set(found)) == 60


# ---- p-values -----------------------------------------------------------------------------------


def test_p_counts_the_resamples_on_the_other_side() -> None:
    differences = np.array([[-1.0, *[1.0] * 98], [0.0, *[-1.0] * 98], [0.0] * 99, [1.0] * 99])
    # (1 + 1) / 100 twice; a tie at 0 is on both sides; all ties; none on the other side.
    assert paired.p_value(differences) == pytest.approx([0.04, 0.04, 1.0, 0.02])


@given(st.integers(0, 1000), st.floats(-3, 3))
@settings(deadline=None)
def test_p_and_the_interval_tell_the_same(seed: int, shift: float) -> None:
    differences = np.random.default_rng(seed).normal(shift, 1, 999)
    p = float(paired.p_value(differences))
    level = 1 - p
    # A little narrower than 1 - p the interval leaves 0 out, a little wider it holds it.
    low, high = bootstrap.interval(differences, max(0.0, level - 0.01))
    assert p == 1 or not low <= 0 <= high
    low, high = bootstrap.interval(differences, min(1.0, level + 0.01))
    assert level + 0.01 >= 1 or low <= 0 <= high


def two_models(seed: int, better: float = 0.0) -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    """Class codes of two models, 5 seeds each: 60 patients of 4 images that are hard alike for
    both, and then for each model in its own way. Exchangeable unless one is `better`."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(generator.integers(0, 3, 60), 4)
    common = np.repeat(generator.normal(size=60), 4) + generator.normal(size=240)
    predicted = []
    for gain in (better, 0.0):
        own = np.repeat(generator.normal(size=60), 4)
        training = 0.2 * generator.normal(size=(5, 1)) + 0.5 * generator.normal(size=(5, 240))
        wrong = (labels + generator.integers(1, 3, (5, 240))) % 3
        predicted.append(np.where(1 + gain + common + own + training > 0, labels, wrong))
    return predicted, labels, [f"p{i // 4}" for i in range(240)]


def p_of(seed: int, better: float = 0.0) -> float:
    predicted, labels, groups = two_models(seed, better)
    resampled = bootstrap.resample(predicted, labels, groups, 3, purpose=f"{seed}", resamples=299)[
        MAIN
    ]
    return float(paired.p_value(resampled[0] - resampled[1]))


def test_p_of_equal_models_is_about_uniform() -> None:
    p = np.array([p_of(seed) for seed in range(400)])
    assert kstest(p, "uniform").statistic < 0.1  # 0.068 is the 5 % bound; p is not quite exact
    assert (p < 0.05).mean() < 0.08
    assert (p < 0.05).mean() > 0.02


def test_p_of_a_better_model_is_small() -> None:
    p = np.array([p_of(seed, better=1.5) for seed in range(30)])
    assert (p < 0.05).mean() > 0.8


# ---- all pairs ----------------------------------------------------------------------------------


def test_compare_equals_a_loop_over_pairs() -> None:
    predicted, labels, groups = two_models(0, better=1.0)
    more, _, _ = two_models(1, better=0.5)  # of other images: as good as guessing
    predicted = [*predicted, more[0]]
    resampled = bootstrap.resample(predicted, labels, groups, 3, resamples=400)[MAIN]
    scores = bootstrap.observe(predicted, labels, 3)
    pairs = paired.compare(scores, resampled, level=0.9)
    upper = [(0, 1), (0, 2), (1, 2)]
    raw = []
    for a, b in upper:
        d = resampled[a] - resampled[b]
        assert pairs.difference[a, b] == scores[a] - scores[b] == -pairs.difference[b, a]
        assert (pairs.low[a, b], pairs.high[a, b]) == pytest.approx(
            tuple(np.quantile(d, [0.05, 0.95]))
        )
        assert (pairs.low[b, a], pairs.high[b, a]) == pytest.approx(
            (-pairs.high[a, b], -pairs.low[a, b])
        )
        raw.append(min(1, 2 * min(1 + sum(d <= 0), 1 + sum(d >= 0)) / 401))
        assert pairs.p[a, b] == pairs.p[b, a] == pytest.approx(raw[-1])
    corrected = multipletests(raw, method="holm")[1]
    assert [pairs.p_holm[pair] for pair in upper] == pytest.approx(corrected)
    assert (pairs.p_holm == pairs.p_holm.T).all()
    assert (np.diag(pairs.p) == 1).all()
    assert "a" in pairs.letters[int(scores.argmax())]
    for a, b in upper:
        assert bool(set(pairs.letters[a]) & set(pairs.letters[b])) == (pairs.p_holm[a, b] >= 0.1)
    assert not set(pairs.letters[0]) & set(pairs.letters[2])  # or the letters were never at work


def test_pairing_finds_what_two_intervals_can_not() -> None:
    generator = np.random.default_rng(0)
    test_set = generator.normal(0, 5, 2000)  # moves both models alike
    resampled = np.stack([70 + test_set, 69 + test_set]) + generator.normal(0, 0.2, (2, 2000))
    pairs = paired.compare(np.array([70.0, 69.0]), resampled)
    assert pairs.p[0, 1] < 0.01
    assert pairs.letters == ("a", "b")


def test_letters_go_by_the_corrected_p() -> None:
    resampled = np.stack([np.linspace(-0.04, 2, 102), np.zeros(102), np.zeros(102)])
    pairs = paired.compare(np.array([1.0, 0.0, 0.0]), resampled)
    assert pairs.p[0, 1] < 0.08 < pairs.p_holm[0, 1]
    assert paired.compare(np.array([1.0, 0.0, 0.0]), resampled, level=0.92).letters == ("a",) * 3
    assert paired.compare(np.array([1.0, 0.0]), resampled[:2], level=0.92).letters == ("a", "b")


def test_a_model_equals_itself() -> None:
    resampled = np.tile(np.random.default_rng(0).random(100), (2, 1))
    pairs = paired.compare(np.array([0.5, 0.5]), resampled)
    assert pairs.p[0, 1] == 1
    assert pairs.letters == ("a", "a")


def test_one_model_has_a_letter() -> None:
    assert paired.compare(np.array([0.5]), np.full((1, 10), 0.5)).letters == ("a",)


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        paired.compare(np.array([0.5, np.nan]), np.zeros((2, 10)))
