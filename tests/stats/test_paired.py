"""Pairs of models: against statsmodels, by the defining properties, and under the null."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import contest as made
from scipy.stats import kstest, ttest_ind
from statsmodels.stats.multitest import multipletests

from ultrabench_eval.stats import paired, permutation

# ---- Holm ---------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.011, 0.04, 0.05, 0.3, 1.0]), max_size=12))
@settings(max_examples=20)  # statsmodels takes its time
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
def test_models_share_a_letter_if_and_only_if_they_do_not_differ(different: np.ndarray) -> None:
    found = [tokens(text) for text in paired.letters(different, range(len(different)))]
    for a in range(len(different)):
        assert found[a]
        for b in range(a):
            assert bool(found[a] & found[b]) != different[a, b]


@given(differing())
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


# ---- equal and unequal models -------------------------------------------------------------------


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


def contest(predicted, labels, groups, purpose: str = "task") -> permutation.Contest:
    return made(predicted, labels, groups, 3, purpose)


def p_of(seed: int, better: float = 0.0) -> float:
    return float(paired.compare([contest(*two_models(seed, better), f"{seed}")]).p[0, 1])


@pytest.fixture
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutation, "DRAWS", 999)


@pytest.mark.usefixtures("fewer_draws")
def test_p_of_equal_models_is_about_uniform() -> None:
    p = np.array([p_of(seed) for seed in range(400)])
    assert kstest(p, "uniform").statistic < 0.1  # 0.068 is the 5 % bound; p is not quite exact
    assert 0.02 < (p < 0.05).mean() < 0.08


@pytest.mark.usefixtures("fewer_draws")
def test_p_of_a_better_model_is_small() -> None:
    p = np.array([p_of(seed, better=1.5) for seed in range(30)])
    assert (p < 0.05).mean() > 0.8


@pytest.mark.usefixtures("fewer_draws")
def test_seeds_that_scatter_are_no_difference() -> None:
    """Two models whose seeds differ far more than their patients do, and are equal on average."""
    found = []
    for seed in range(200):
        generator = np.random.default_rng(seed)
        labels = np.arange(300) % 3
        predicted = []
        for _ in range(2):
            right = np.clip(0.7 + 0.1 * generator.normal(size=(5, 1)), 0, 1)
            wrong = (labels + generator.integers(1, 3, (5, 300))) % 3
            predicted.append(np.where(generator.random((5, 300)) < right, labels, wrong))
        found.append(paired.compare([contest(predicted, labels, None, f"{seed}")]).p[0, 1])
    assert 0.015 < (np.array(found) < 0.05).mean() < 0.09


def leaning(seeds: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Class codes of seeds that are right on so large a part of each of three classes."""
    labels = np.arange(images) % 3
    rank = np.arange(images) // 3 / (images // 3)
    wrong = (labels + 1) % 3
    return np.where(rank < seeds[:, None], labels, wrong), labels


def test_of_models_that_differ_by_their_seeds_p_is_students() -> None:
    one = np.array([0.60, 0.70, 0.65, 0.55, 0.75])
    other = np.array([0.75, 0.80, 0.60, 0.70, 0.85])
    predicted, labels = zip(*(leaning(seeds, 3000) for seeds in (one, other)), strict=True)
    pairs = paired.compare([contest(predicted, labels[0], None)])
    expected = ttest_ind(one, other).pvalue  # the normal distribution has less
    assert pairs.p[0, 1] == pytest.approx(expected, abs=0.015)


def test_a_difference_by_seeds_that_lean_either_way_is_seen() -> None:
    """Each seed leans to one class or the other; their mean predictions lean to none."""
    labels = np.arange(400) % 2
    often = np.random.default_rng(0).random((6, 400))
    right = np.where((np.arange(6)[:, None] + labels) % 2, 0.99, 0.45)
    leaning_ones = np.where(often < right, labels, 1 - labels)
    steady = np.where(often < 0.72, labels, 1 - labels)
    pairs = paired.compare([contest([leaning_ones, steady], labels, None)])
    middle = (pairs.low[0, 1] + pairs.high[0, 1]) / 2
    assert pairs.difference[0, 1] < -0.01
    assert middle == pytest.approx(pairs.difference[0, 1], abs=0.003)


def test_p_is_that_of_all_swaps_of_few_patients() -> None:
    # Five patients on whom the models differ, always in favour of the first: of 2 ** 5 swaps two
    # are as far from 0.
    labels = np.arange(60) % 3
    first = labels[None].copy()
    second = first.copy()
    second[0, :5] = (labels[:5] + 1) % 3
    pairs = paired.compare([contest([first, second], labels, None)])
    assert pairs.p[0, 1] == pytest.approx(2 / 2**5, abs=0.01)


def test_images_of_a_patient_are_swapped_together() -> None:
    labels = np.repeat(np.arange(12) % 3, 10)
    first = labels[None].copy()
    second = first.copy()
    second[0, :20] = (labels[:20] + 1) % 3  # two patients
    groups = [f"p{i // 10}" for i in range(120)]
    by_patient = paired.compare([contest([first, second], labels, groups)])
    by_image = paired.compare([contest([first, second], labels, None)])
    assert by_patient.p[0, 1] > 0.4
    assert by_image.p[0, 1] < 0.001


# ---- all pairs ----------------------------------------------------------------------------------


def three_models() -> tuple[list[np.ndarray], np.ndarray, list[str]]:
    predicted, labels, groups = two_models(0, better=1.0)
    more, _, _ = two_models(1, better=0.5)  # of other images: as good as guessing
    return [*predicted, more[0]], labels, groups


def test_compare_equals_a_loop_over_pairs() -> None:
    one = contest(*three_models())
    pairs = paired.compare([one], level=0.9, unit=100)
    raw = []
    upper = [(0, 1), (0, 2), (1, 2)]
    for a, b in upper:
        alone = paired.compare([one.only([a, b])], level=0.9, unit=100)
        assert pairs.difference[a, b] == pytest.approx(100 * (one.scores[a] - one.scores[b]))
        assert pairs.difference[a, b] == -pairs.difference[b, a]
        assert pairs.p[a, b] == pairs.p[b, a] == alone.p[0, 1]  # whoever else is in the list
        assert (pairs.low[a, b], pairs.high[a, b]) == (alone.low[0, 1], alone.high[0, 1])
        assert (pairs.low[b, a], pairs.high[b, a]) == (-pairs.high[a, b], -pairs.low[a, b])
        raw.append(pairs.p[a, b])
    corrected = multipletests(raw, method="holm")[1]
    assert [pairs.p_holm[pair] for pair in upper] == pytest.approx(corrected)
    assert (pairs.p_holm == pairs.p_holm.T).all()
    assert (np.diag(pairs.p) == 1).all()
    assert "a" in pairs.letters[int(one.scores.argmax())]
    for a, b in upper:
        assert bool(set(pairs.letters[a]) & set(pairs.letters[b])) == (pairs.p_holm[a, b] >= 0.1)
    assert not set(pairs.letters[0]) & set(pairs.letters[2])  # or the letters were never at work


@given(st.integers(0, 1000), st.floats(0, 1.5), st.sampled_from([0.8, 0.9, 0.95]))
@settings(max_examples=40)
def test_p_and_the_interval_tell_the_same(seed: int, better: float, level: float) -> None:
    pairs = paired.compare([contest(*two_models(seed, better))], level=level)
    holds = pairs.low[0, 1] <= 0 <= pairs.high[0, 1]
    assert holds == (pairs.p[0, 1] >= 1 - level)


def test_controls_cost_encoders_no_power() -> None:
    predicted, labels, groups = three_models()
    generator = np.random.default_rng(5)
    guesses = [generator.integers(0, 3, (5, 240)) for _ in range(4)]
    encoders = paired.compare([contest(predicted, labels, groups)])
    both = paired.compare(
        [contest([*predicted, *guesses], labels, groups)], controls=[False] * 3 + [True] * 4
    )
    assert (both.p_holm[:3, :3] == encoders.p_holm).all()
    control = multipletests(both.p[3:, 3:][np.triu_indices(4, k=1)], method="holm")[1]
    assert both.p_holm[3:, 3:][np.triu_indices(4, k=1)] == pytest.approx(control)


def test_a_reference_is_compared_with_all_and_nothing_else_is() -> None:
    one = contest(*three_models())
    every, some = paired.compare([one]), paired.compare([one], reference=1)
    assert some.letters == tuple("r" if some.p_holm[1, m] >= 0.05 else "" for m in range(3))
    assert some.letters[1] == "r"
    assert set(paired.compare([one.only([0, 1])], reference=0).letters) <= {"r", ""}
    assert some.compared.tolist() == [[True, True, False], [True, True, True], [False, True, True]]
    assert some.p[1, 0] == every.p[1, 0]
    both = multipletests([every.p[1, 0], every.p[1, 2]], method="holm")[1]
    assert (some.p_holm[1, 0], some.p_holm[1, 2]) == pytest.approx(tuple(both))


@pytest.mark.usefixtures("fewer_draws")
def test_of_very_many_models_the_best_and_neighbours_are_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paired, "MANY", 5)
    generator = np.random.default_rng(0)
    labels = np.arange(90) % 3
    wrong = (labels + 1) % 3
    predicted = [
        np.where(generator.random((2, 90)) < 0.4 + 0.08 * k, labels, wrong) for k in range(6)
    ]
    one = contest(predicted, labels, None)
    pairs = paired.compare([one])
    order = np.argsort(-one.scores)
    assert pairs.compared[order[0]].all()
    assert all(pairs.compared[a, b] for a, b in pairwise(order))
    assert pairs.compared.sum() == 6 + 2 * (5 + 4)
    assert pairs.letters[order[0]] == "a"
    assert pairs.letters[order[-1]] == ""
    smallest = np.nanmin(pairs.p)
    assert np.nanmin(pairs.p_holm) == pytest.approx(min(1, 15 * smallest))  # of all 15 pairs


def test_the_mean_of_tasks_is_more_certain_than_each() -> None:
    tasks = [contest(*two_models(seed, better=0.6), f"task {seed}") for seed in range(4)]
    alone = [paired.compare([one]) for one in tasks]
    mean = paired.compare(tasks)
    assert mean.difference[0, 1] == pytest.approx(np.mean([x.difference[0, 1] for x in alone]))
    widths = [x.high[0, 1] - x.low[0, 1] for x in alone]
    assert mean.high[0, 1] - mean.low[0, 1] == pytest.approx(np.mean(widths) / 2, rel=0.15)
    assert mean.p[0, 1] < np.median([x.p[0, 1] for x in alone])


def test_far_apart_models_have_a_p_that_many_pairs_do_not_drown() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    wrong = (labels + 1) % 3
    good, bad = (np.where(generator.random((2, 300)) < r, labels, wrong) for r in (0.95, 0.4))
    pairs = paired.compare([contest([good, bad], labels, None)])
    assert pairs.p[0, 1] * 1770 < 0.05


def test_a_model_equals_itself() -> None:
    (first, _), labels, groups = two_models(0)
    pairs = paired.compare([contest([first[:1], first[:1]], labels, groups)])
    assert pairs.p[0, 1] == 1
    assert pairs.letters == ("a", "a")


def test_one_model_has_a_letter() -> None:
    (first, _), labels, groups = two_models(0)
    assert paired.compare([contest([first], labels, groups)]).letters == ("a",)
