"""Bootstrap over clusters and seeds against a plain loop, and what it must not do."""

from __future__ import annotations

import numpy as np
import pytest
from made_predictions import draws, observe, resample, scattering_seeds
from sklearn.metrics import f1_score

from ultrabench_eval.core import hashing
from ultrabench_eval.stats import bootstrap


def loop(predicted, labels, groups, resamples: int, purpose: str, model: str) -> list[float]:
    """Macro F1 by scikit-learn, image lists put together patient by patient."""
    names = sorted(set(groups))
    members = [np.flatnonzero(np.array(groups) == name) for name in names]
    of_groups = np.random.default_rng(hashing.seed_for(0, f"bootstrap/test groups/{purpose}"))
    of_seeds = np.random.default_rng(hashing.seed_for(0, f"bootstrap/seeds/{purpose}/{model}"))
    heads = len(predicted)
    values = []
    for _ in range(resamples):
        rows = np.concatenate([members[g] for g in of_groups.integers(0, len(names), len(names))])
        times = of_seeds.multinomial(heads - 1, np.full(heads, 1 / heads))
        drawn = [p for p, n in zip(predicted, times, strict=True) for _ in range(n)]
        assert len(drawn) == heads - 1
        values.append(np.mean([f1_score(labels[rows], p[rows], average="macro") for p in drawn]))
    return values


def test_models_share_the_patients_of_a_resample_but_not_the_seeds() -> None:
    first, labels = draws(60)
    second, _ = draws(60, seeds=2, seed=1)
    groups = [f"p{i // 4}" for i in range(60)]
    resampled = resample(
        [first, second, first], labels, groups, 3, purpose="aul", models="abc", resamples=50
    )
    assert resampled.shape == (3, 50)
    for model, predicted in enumerate((first, second, first)):
        expected = loop(predicted, labels, groups, 50, "aul", "abc"[model])
        assert resampled[model] == pytest.approx(expected)
    assert not np.allclose(resampled[0], resampled[2])
    one = resample([first[:1], first[:1]], labels, groups, 3, resamples=50)
    assert (one[0] == one[1]).all()


def test_a_models_draws_do_not_depend_on_the_other_models() -> None:
    first, labels = draws(60)
    second, _ = draws(60, seeds=2, seed=1)
    alone = resample([second], labels, None, 3, models=["b"], resamples=50)
    beside = resample([first, second], labels, None, 3, models="ab", resamples=50)
    assert (alone[0] == beside[1]).all()


def test_probes_of_one_model_on_several_versions_of_the_images_share_their_seeds() -> None:
    first, labels = draws(60)
    both = resample([first, first], labels, None, 3, resamples=50)
    assert (both[0] == both[1]).all()


def test_a_class_that_a_resample_lacks_never_raises_a_score() -> None:
    labels = np.repeat([0, 1], [2, 58])
    constant = np.ones((1, 60), np.int64)
    observed = observe([constant], labels, 2)[0]
    found = resample([constant], labels, None, 2, resamples=500)
    assert observed < 0.5
    assert found.max() < 0.5


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    predicted, labels = draws(60)
    whole = resample([predicted], labels, None, 3, resamples=100)
    monkeypatch.setattr(bootstrap, "_BLOCK_BYTES", 7 * 8 * 60)  # 7 resamples at a time, and fewer
    assert (resample([predicted], labels, None, 3, resamples=100) == whole).all()


def test_tasks_have_draws_of_their_own() -> None:
    predicted, labels = draws(60, seeds=1)
    aul, busbra = (
        resample([predicted], labels, None, 3, purpose=task, resamples=200)
        for task in ("aul", "busbra")
    )
    assert abs(np.corrcoef(aul, busbra)[0, 1]) < 0.3


def test_observed_scores_are_the_means_over_seeds() -> None:
    (first, labels), (second, _) = draws(60), draws(60, seeds=2, seed=1)
    observed = observe([first, second], labels, 3)
    expected = [
        np.mean([f1_score(labels, p, average="macro") for p in model]) for model in (first, second)
    ]
    assert observed == pytest.approx(expected)
    assert observe([first], labels, 3, "accuracy") == pytest.approx((first == labels).mean())


def test_the_variance_of_accuracy_is_that_of_images_and_of_seeds() -> None:
    predicted, labels, of_seeds = scattering_seeds()
    accuracy = (predicted == labels).mean(1)
    of_images = (predicted == labels).mean(0).var() / 400
    resampled = resample([predicted], labels, None, 2, "accuracy")[0]
    assert resampled.var() == pytest.approx(of_seeds + of_images, rel=0.1)
    assert resampled.mean() == pytest.approx(accuracy.mean(), abs=0.003)
    assert of_seeds > of_images  # or the test would not see seeds
