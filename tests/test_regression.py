"""Numbers as targets: scores against scikit-learn and scipy, intervals, and what must be caught."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as reference

from tasks.task import Split
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.metrics import of_sums
from ultrabench_eval.stats import paired
from ultrabench_eval.stats.permutation import Contest
from ultrabench_eval.stats.rank_correlation import spearman
from ultrabench_eval.task_types import conformal
from ultrabench_eval.task_types.regression import MAE, METRICS, TYPE, Numbers
from ultrabench_eval.test_set import TestSet

NUMBERS = st.one_of(
    st.floats(-1e4, 1e4, allow_subnormal=False).map(lambda x: round(x, 3)), st.integers(-3, 3)
)


def test_set(truth: Numbers) -> TestSet:
    """As a run makes it."""
    count = len(truth)
    return TestSet(
        fingerprint="",
        task="made",
        type="regression",
        kind="number",
        classes=(),
        synthetic=True,
        names=tuple(map(str, range(count))),
        labels=(),
        values=tuple(truth.values.tolist()),
        unit="mm",
        groups=None if truth.groups is None else tuple(truth.groups.tolist()),
        truth=truth,
    )


test_set.__test__ = False  # type: ignore[attr-defined]


def numbers(values, factors=None, groups=None) -> Numbers:
    values = np.asarray(values, np.float64)
    factors = np.ones(len(values)) if factors is None else np.asarray(factors)
    return Numbers(values, factors, None if groups is None else np.asarray(groups))


def drawn(count: int, seed: int = 0, seeds: int = 2, per_patient: int = 1):
    """Truth in mm with factors and patients, and predictions in trained units [H, N]."""
    generator = np.random.default_rng(seed)
    truth = numbers(
        generator.normal(170, 60, count),
        generator.uniform(50, 250, count),
        [f"p{n // per_patient:04d}" for n in range(count)],
    )
    errors = generator.normal(3, 15, (seeds, count))
    return truth, (truth.values + errors) / truth.factors


def scored(truth: Numbers, predicted: np.ndarray, validation: Numbers | None = None, of=None):
    given = None if validation is None else [(one, validation) for one in of]
    return TYPE.score(predicted, test_set(truth), given)


# ---- scores -------------------------------------------------------------------------------------


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=40))
def test_scores_are_those_of_scikit_learn_and_scipy(pairs: list[tuple[float, float]]) -> None:
    y, p = np.array(pairs, np.float64).T
    found = {name: v.item() for name, v in scored(numbers(y), p[None]).scores.items()}
    close = {"rel": 1e-7, "abs": 1e-9}
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(y, p), **close)
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(y, p), **close)
    assert found["bias"] == pytest.approx((p - y).mean(), **close)
    deviation = (p - y).std(ddof=1)
    for name, sign in (("lower_limit", -1), ("upper_limit", 1)):
        limit = (p - y).mean() + sign * 1.96 * deviation
        assert found[name] == pytest.approx(limit, rel=1e-6, abs=1e-5)
    if np.ptp(y):
        assert found["r2"] == pytest.approx(reference.r2_score(y, p), **close)
    else:
        assert np.isnan(found["r2"])
    if np.ptp(y) and np.ptp(p):
        assert found["spearman"] == pytest.approx(stats.spearmanr(y, p).statistic, abs=1e-12)
    else:
        assert np.isnan(found["spearman"])


def test_r2_survives_targets_far_from_zero() -> None:
    y = 1e8 + np.arange(30.0)
    p = y + np.random.default_rng(0).normal(size=30)
    assert scored(numbers(y), p[None]).scores["r2"][0] == pytest.approx(
        reference.r2_score(y, p), rel=1e-6
    )


def test_predictions_are_multiplied_by_the_factor_of_their_image() -> None:
    truth, predicted = drawn(50)
    right = scored(truth, predicted)
    np.testing.assert_allclose(right.stored["predictions"], predicted * truth.factors)
    np.testing.assert_allclose(TYPE.taught(truth, (8,)), truth.values / truth.factors)
    # A score in a wrong unit, or with the factors of other images, is another score.
    in_trained = np.abs(predicted - TYPE.taught(truth, (8,))).mean(-1)
    assert (right.scores["mae"] > 50 * in_trained).all()
    turned = numbers(truth.values, truth.factors[::-1])
    assert (scored(turned, predicted).scores["mae"] > 2 * right.scores["mae"]).all()


def test_another_unit_of_the_task_scales_what_has_a_unit_and_nothing_else() -> None:
    truth, predicted = drawn(60)
    in_cm = numbers(truth.values / 10, truth.factors / 10, truth.groups)
    of = (truth, predicted), (in_cm, predicted)
    mm, cm = (scored(t, p, validation=t, of=p).scores for t, p in of)
    for metric in METRICS:
        scale = 10 if metric.unit == "target" else 1
        np.testing.assert_allclose(mm[metric.name], scale * cm[metric.name], rtol=1e-9)


def test_scores_do_not_depend_on_the_order_of_images_but_on_that_of_targets() -> None:
    truth, predicted = drawn(60)
    order = np.random.default_rng(1).permutation(60)
    right = scored(truth, predicted).scores
    together = scored(truth[order], predicted[:, order]).scores
    for name, values in right.items():
        np.testing.assert_allclose(together[name], values, rtol=1e-9)
    apart = scored(truth[order], predicted).scores
    assert (apart["mae"] > 3 * right["mae"]).all()
    assert (np.abs(apart["spearman"]) < 0.5).all()
    assert (right["spearman"] > 0.9).all()


def test_truth_joins_targets_factors_and_groups_of_the_same_image() -> None:
    class Drawn:
        """An image that is never read."""

        def __init__(self, name: str) -> None:
            self.name = name

        def read(self, digest: str = "") -> np.ndarray:
            raise AssertionError

        def digest(self) -> str:
            raise AssertionError

    y, factors = np.array([30.0, 10.0, 20.0]), np.array([3.0, 1.0, 2.0])
    split = Split(tuple(map(Drawn, "cab")), y, ("c", "a", "b"), None, factors)
    truth = TYPE.truth(split)
    assert TYPE.taught(truth, (4,)).tolist() == [10, 10, 10]
    some = truth[np.array([2, 0])]
    assert (some.values.tolist(), some.factors.tolist()) == ([20, 30], [2, 3])
    assert some.groups.tolist() == ["b", "c"]
    assert len(some) == 2
    plain = TYPE.truth(Split(split.images, y))
    assert plain.factors.tolist() == [1, 1, 1]
    assert plain[np.array([1])].groups is None


def test_what_is_kept_gives_the_same_scores_without_factors() -> None:
    truth, predicted = drawn(60)
    one = scored(truth, predicted, validation=truth, of=predicted)
    read_back = test_set(truth).model_copy(update={"truth": None})
    for stored in (one.stored, TYPE.compact(one.stored)):
        again = TYPE.again(stored, read_back)
        assert list(again) == [metric.name for metric in METRICS]
        for name, values in one.scores.items():
            assert again[name].tolist() == values.tolist()


def test_good_is_the_error_with_a_minus_and_models_are_ranked_by_the_least_mae() -> None:
    truth, _ = drawn(80)
    test, generator = test_set(truth), np.random.default_rng(0)
    contest = []
    for spread in (5.0, 50.0):
        p = truth.values + generator.normal(0, spread, (2, 80))
        stored = TYPE.score(p / truth.factors, test).stored
        good = TYPE.good(TYPE.answers(stored), test)
        np.testing.assert_allclose(good, -np.abs(p - truth.values), atol=1e-9)
        contest.append(TYPE.statistics(TYPE.answers(stored), test))
    assert TYPE.main is MAE
    assert not MAE.higher_is_better
    found = paired.compare(
        [Contest.of(contest, TYPE.clusters(test), of_sums(MAE), "made", MAE.higher_is_better)]
    )
    assert found.letters == ("a", "b")
    assert found.high[0, 1] < 0


# ---- intervals ----------------------------------------------------------------------------------


def test_intervals_hold_the_scores_and_patients_widen_them() -> None:
    truth, predicted = drawn(40, seeds=1)
    answers = TYPE.answers(scored(truth, predicted, validation=truth, of=predicted).stored)
    many = np.repeat(answers, 10, axis=1)
    copies = truth[np.repeat(np.arange(40), 10)]
    by_patient = TYPE.intervals(many, test_set(copies))
    by_image = TYPE.intervals(many, test_set(numbers(copies.values, copies.factors)))
    scores = scored(truth, predicted, validation=truth, of=predicted).scores
    assert by_patient.keys() == scores.keys() - {"interval_width"}
    for name, (low, high) in by_patient.items():
        assert low - 1e-6 <= scores[name].mean() <= high + 1e-6
        assert np.isfinite([low, high]).all()
        assert high - low > 2 * np.diff(by_image[name]).item()


def test_what_was_not_calibrated_is_not_told() -> None:
    truth, predicted = drawn(40)
    plain = scored(truth, predicted)
    later = {"coverage", "interval_width", "mae_of_mean"}
    assert list(plain.scores) == [metric.name for metric in METRICS]
    assert {name for name, values in plain.scores.items() if np.isnan(values).all()} == later
    assert not later & TYPE.intervals(TYPE.answers(plain.stored), test_set(truth)).keys()
    few, of_few = drawn(8)
    unsure = scored(truth, predicted, validation=few, of=of_few)
    assert np.isnan(unsure.scores["coverage"]).all()
    assert np.isnan(unsure.scores["interval_width"]).all()
    assert np.isfinite(unsure.scores["mae_of_mean"]).all()
    told = TYPE.intervals(TYPE.answers(unsure.stored), test_set(truth))
    assert later & told.keys() == {"mae_of_mean"}


def test_one_patient_is_a_sentence() -> None:
    truth, predicted = drawn(10, per_patient=10)
    answers = TYPE.answers(scored(truth, predicted).stored)
    with pytest.raises(UserError, match="of one patient or video"):
        TYPE.intervals(answers, test_set(truth))


def test_mae_of_the_mean_is_that_of_a_constant() -> None:
    truth, predicted = drawn(60)
    validation, of = drawn(30, seed=1)
    found = scored(truth, predicted, validation=validation, of=of).scores["mae_of_mean"]
    expected = np.abs(truth.values - validation.values.mean()).mean()
    assert found.tolist() == pytest.approx([expected] * 2)


def test_the_interval_of_mae_is_that_of_a_mean() -> None:
    truth, predicted = drawn(50, seeds=1)
    answers = TYPE.answers(scored(truth, predicted).stored)
    low, high = TYPE.intervals(answers, test_set(truth))["mae"]
    errors = np.abs(answers[0, :, 0] - truth.values)
    half = stats.t.ppf(0.975, 49) * stats.sem(errors)
    assert (low, high) == pytest.approx((errors.mean() - half, errors.mean() + half), rel=1e-6)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=25))
def test_influence_on_spearman_is_what_more_of_a_sample_changes(pairs) -> None:
    x, y = np.array(pairs, np.float64).T
    if not np.ptp(x) or not np.ptp(y):
        return
    _, moves = spearman(x, y)
    assert moves.sum() == pytest.approx(0, abs=1e-8)
    # Each sample a hundred times, and sample 0 once more or less.
    weights = np.full(len(x), 100)
    ends = []
    for change in (1, -1):
        weights[0] = 100 + change
        ends.append(stats.spearmanr(np.repeat(x, weights), np.repeat(y, weights)).statistic)
    assert (ends[0] - ends[1]) / 0.02 == pytest.approx(moves[0], rel=1e-3, abs=1e-3)


def test_the_interval_of_spearman_holds_the_truth_as_often_as_it_says() -> None:
    """80 images of 40 patients; of normal pairs with correlation r it is 6 / pi asin(r / 2)."""
    generator, held = np.random.default_rng(0), []
    groups = np.repeat([f"p{n:02d}" for n in range(40)], 2)
    for _ in range(250):
        shared = np.repeat(generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 40), 2, 0)
        own = generator.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 80)
        x, y = ((shared + own) / np.sqrt(2)).T
        test = test_set(numbers(y, groups=groups))
        answers = TYPE.answers({"predictions": x[None]})
        low, high = TYPE.intervals(answers, test)["spearman"]
        held.append(low <= 6 / np.pi * np.arcsin(0.3) <= high)
    assert 0.92 < np.mean(held) < 0.98


# ---- conformal intervals ------------------------------------------------------------------------


@given(st.integers(9, 60), st.integers(0, 1000))
def test_half_width_of_single_images_is_split_conformal(count: int, seed: int) -> None:
    errors = np.random.default_rng(seed).normal(size=count)
    place = int(np.ceil(0.9 * (count + 1) - 1e-9))
    assert conformal.half_width(errors) == np.sort(np.abs(errors))[place - 1]


def test_a_patient_with_many_images_counts_once() -> None:
    errors = np.arange(1.0, 20.0)
    groups = [f"p{n}" for n in range(19)]
    alone = conformal.half_width(errors, groups)
    more = np.concatenate([errors, np.full(50, 1.0)])
    assert conformal.half_width(more, [*groups, *["p0"] * 50]) == alone == 18
    assert conformal.half_width(more) == 13  # what the images of one patient would do to it
    assert np.isnan(conformal.half_width(errors[:8], groups[:8]))
    assert conformal.half_width(errors[:9], groups[:9]) == 9


def test_coverage_is_that_of_the_patients_whatever_their_number_of_images() -> None:
    """Patients of 1 to 30 images; those with many have other errors."""
    generator, covered = np.random.default_rng(0), []
    for _ in range(400):
        sizes = generator.choice([1, 2, 30], 60)
        of_patient = generator.normal(size=60) * np.where(sizes == 30, 0.3, 1.0)
        member = np.repeat(np.arange(60), sizes)
        errors = of_patient[member] + 0.2 * generator.normal(size=len(member))
        some = member < 30
        half = conformal.half_width(errors[some], member[some])
        inside = np.abs(errors) <= half
        covered.append(np.mean([inside[member == patient].mean() for patient in range(30, 60)]))
    assert 0.895 < np.mean(covered) < 0.935


def test_remarks_tell_of_a_factor() -> None:
    truth, _ = drawn(20)
    (sentence,) = TYPE.remarks(test_set(truth))
    assert "factor" in sentence
    assert TYPE.remarks(test_set(numbers(truth.values))) == ()
