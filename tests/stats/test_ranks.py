"""Ranks over tasks against scipy, scikit-posthocs and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import scikit_posthocs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ultrabench_eval.stats import ranks


def scores(models: int = 5, tasks: int = 8, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.arange(models)[:, None] * 0.4 + generator.normal(size=(models, tasks))


# ---- ranks, Friedman, Nemenyi -------------------------------------------------------------------


def test_the_best_is_first_and_ties_share() -> None:
    table = np.array([[0.9, 0.5], [0.7, 0.5], [0.8, 0.4]])
    assert ranks.ranks(table).tolist() == [[1, 1.5], [3, 1.5], [2, 3]]
    assert ranks.average_ranks(table).tolist() == [1.25, 2.25, 2.5]


def test_nan_is_refused() -> None:
    table = scores()
    table[1, 2] = np.nan
    for of in (ranks.ranks, ranks.friedman):
        with pytest.raises(ValueError, match="NaN"):
            of(table)


@pytest.mark.parametrize("rounded", [False, True], ids=["no ties", "ties"])
def test_friedman_equals_scipys(rounded: bool) -> None:
    table = scores().round() if rounded else scores()
    found = ranks.friedman(table)
    expected = stats.friedmanchisquare(*table)
    assert (found.chi_square, found.p) == pytest.approx((expected.statistic, expected.pvalue))
    # Iman and Davenport's F is that of a two-way analysis of variance of the ranks.
    r = ranks.ranks(table)
    models, tasks = r.shape
    between = tasks * np.square(r.mean(1) - r.mean()).sum() / (models - 1)
    rest = np.square(r - r.mean(1, keepdims=True)).sum() / ((models - 1) * (tasks - 1))
    assert found.f == pytest.approx(between / rest)
    assert found.p_f == pytest.approx(1 - stats.f.cdf(found.f, 4, 28))


def test_friedman_of_demsars_example() -> None:
    # Demsar 2006, table 6: AUC of C4.5, +m, +cf and +m+cf on 14 data sets. He finds mean ranks of
    # 3.143, 2.000, 2.893 and 1.964, chi-square 9.28 and a critical difference of 1.25.
    table = np.array(
        [
            [0.763, 0.768, 0.771, 0.798],
            [0.599, 0.591, 0.590, 0.569],
            [0.954, 0.971, 0.968, 0.967],
            [0.628, 0.661, 0.654, 0.657],
            [0.882, 0.888, 0.886, 0.898],
            [0.936, 0.931, 0.916, 0.931],
            [0.661, 0.668, 0.609, 0.685],
            [0.583, 0.583, 0.563, 0.625],
            [0.775, 0.838, 0.866, 0.875],
            [1.000, 1.000, 1.000, 1.000],
            [0.940, 0.962, 0.965, 0.962],
            [0.619, 0.666, 0.614, 0.669],
            [0.972, 0.981, 0.9751, 0.975],
            [0.957, 0.978, 0.946, 0.970],
        ]
    ).T
    assert ranks.average_ranks(table) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert ranks.critical_difference(4, 14) == pytest.approx(1.25, abs=0.01)
    # He does not correct for ties: one of all four models and three of two.
    untied = 1 - ((4**3 - 4) + 3 * (2**3 - 2)) / (14 * (4**3 - 4))
    assert ranks.friedman(table).chi_square * untied == pytest.approx(9.28, abs=0.01)


def test_the_same_ranks_everywhere_are_as_sure_as_can_be() -> None:
    found = ranks.friedman(np.tile(np.arange(4.0)[:, None], (1, 6)))
    assert found.chi_square == pytest.approx(18)
    assert found.f == np.inf
    assert found.p_f == 0


@pytest.mark.parametrize("table", [scores(2), scores(4, 1), np.ones((4, 5))])
def test_friedman_refuses_what_has_no_answer(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"needs 3 models|all models tie"):
        ranks.friedman(table)


@pytest.mark.parametrize("rounded", [False, True], ids=["no ties", "ties"])
def test_the_critical_difference_is_where_nemenyis_p_is_its_level(rounded: bool) -> None:
    table = scores().round() if rounded else scores()
    p_values = scikit_posthocs.posthoc_nemenyi_friedman(table.T).to_numpy()
    mean = ranks.average_ranks(table)
    apart = np.abs(mean[:, None] - mean)
    for level in (0.5, 0.9, 0.95):
        further = apart > ranks.critical_difference(5, 8, level)
        assert further.any()
        assert not further.all()
        assert (further == (p_values < 1 - level)).all()


# ---- first places -------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
@settings(max_examples=40)
def test_first_share_equals_a_loop_over_resamples(seed: int, models: int, tasks: int) -> None:
    resampled = np.random.default_rng(seed).integers(0, 4, (models, tasks, 15)) / 4  # many ties
    on_task, by_rank, by_score = np.zeros((models, tasks)), np.zeros(models), np.zeros(models)
    mean_ranks = []
    for r in range(15):
        table = resampled[:, :, r]
        for task in range(tasks):
            first = table[:, task] == table[:, task].max()
            on_task[:, task] += first / first.sum() / 15
        mean_rank = np.mean([stats.rankdata(-table[:, task]) for task in range(tasks)], axis=0)
        mean_ranks.append(mean_rank)
        for total, better in ((by_rank, -mean_rank), (by_score, table.mean(1))):
            first = better == better.max()
            total += first / first.sum() / 15
    found = ranks.first_share(resampled, level=0.8)
    assert found.on_task == pytest.approx(on_task)
    assert found.by_mean_rank == pytest.approx(by_rank)
    assert found.by_mean_score == pytest.approx(by_score)
    assert found.on_task.sum(0) == pytest.approx(1)
    low, high = np.quantile(mean_ranks, [0.1, 0.9], axis=0)
    assert found.rank_low == pytest.approx(low)
    assert found.rank_high == pytest.approx(high)


def test_a_clear_winner_is_always_first() -> None:
    resampled = np.random.default_rng(0).random((3, 4, 50))
    resampled[1] += 2
    found = ranks.first_share(resampled)
    assert found.on_task[1].tolist() == [1, 1, 1, 1]
    assert found.by_mean_rank.tolist() == found.by_mean_score.tolist() == [0, 1, 0]
    assert found.rank_low[1] == found.rank_high[1] == 1


# ---- agreement ----------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(2, 7))
@settings(max_examples=40)
@pytest.mark.filterwarnings("ignore")  # scipy's, where all tie
def test_kendall_equals_scipys(seed: int, models: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 4, (2, models, 6))
    expected = [stats.kendalltau(a[:, r], b[:, r]).statistic for r in range(6)]
    assert ranks.kendall(a, b) == pytest.approx(expected, nan_ok=True)


def test_agreement_has_the_interval_of_resampled_taus() -> None:
    generator = np.random.default_rng(0)
    a = np.arange(6.0)
    b = np.array([0.0, 1, 3, 2, 4, 5])
    noisy_a, noisy_b = (s[:, None] + generator.normal(0, 0.5, (6, 300)) for s in (a, b))
    found = ranks.agreement(a, b, noisy_a, noisy_b)
    taus = [stats.kendalltau(noisy_a[:, r], noisy_b[:, r]).statistic for r in range(300)]
    assert found.tau == pytest.approx(13 / 15)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(taus, [0.025, 0.975])))
    assert found.low < found.tau <= found.high


def test_agreement_of_the_same_and_of_reversed_rankings() -> None:
    a = np.arange(4.0)
    still = np.tile(a[:, None], (1, 5))
    assert ranks.agreement(a, a, still, still) == ranks.RankAgreement(1, 1, 1)
    assert ranks.agreement(a, -a, still, -still) == ranks.RankAgreement(-1, -1, -1)


def test_a_ranking_of_ties_agrees_with_nothing() -> None:
    a, flat = np.arange(4.0), np.zeros(4)
    found = ranks.agreement(a, flat, np.tile(a[:, None], (1, 5)), np.zeros((4, 5)))
    assert np.isnan([found.tau, found.low, found.high]).all()
