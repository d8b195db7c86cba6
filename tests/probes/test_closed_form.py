"""Probes without anything random, against scikit-learn and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from arrays import fit
from clouds import clouds
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss

from ultrabench_eval.probes import logistic, ridge
from ultrabench_eval.protocol import Protocol

PROBES = ("logistic", "ridge", "knn")


def test_logistic_equals_scikit_learn_for_every_cost() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    costs = (0.001, 0.1, 1.0, 100.0)
    probes = fit("logistic", x, y, vx, vy, classes=3, seeds=[0], protocol=Protocol(costs=costs))
    for cost, head, p in zip(costs, probes.heads, probes.predict(vx), strict=True):
        reference = LogisticRegression(C=cost, tol=1e-8, max_iter=5000).fit(x, y)
        np.testing.assert_allclose(p, reference.predict_proba(vx), atol=2e-3)
        assert head.setting == {"cost": cost}
        assert head.validation_loss == pytest.approx(log_loss(vy, p, labels=range(3)))


@pytest.mark.parametrize("factor", [1e-2, 1.0, 1e2])
def test_logistic_reaches_the_minimum_whatever_the_scale_of_the_features(factor: float) -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    probes = fit(
        "logistic", x * factor, y, vx, vy, classes=3, seeds=[0], protocol=Protocol(costs=(1.0,))
    )

    def objective(weight, bias) -> float:
        logits = x.numpy() * factor @ weight.T + bias
        likelihood = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        return (weight**2).sum() / 2 - likelihood[np.arange(len(y)), y].sum()

    reference = LogisticRegression(C=1.0, tol=1e-10, max_iter=100_000).fit(x * factor, y)
    least = objective(reference.coef_, reference.intercept_)
    assert objective(probes.weight[0].numpy(), probes.bias[0].numpy()) == pytest.approx(
        least, rel=1e-4
    )


@pytest.mark.parametrize("count", [150, 40, 12])
def test_logistic_reaches_the_minimum_of_classes_that_come_apart(count: int) -> None:
    """Few images of many unlike features, hardly penalised, and a class without any image."""
    x, y = clouds(count)
    x = torch.cat([x, x.square() * 1e-3, torch.ones(count, 1)], dim=1).double()
    costs = torch.tensor([1.0, 100.0, 1e4])
    target = torch.nn.functional.one_hot(y, 4).double()
    weight, bias = logistic.solve(x - x.mean(0), target, 1 / (count * costs.double()))
    assert bias.isfinite().all()
    for cost, w, b in zip(costs.tolist(), weight, bias - weight @ x.mean(0), strict=True):
        loss = -(x @ w.T + b).log_softmax(1)[range(count), y].sum()
        reference = LogisticRegression(C=cost, tol=1e-10, max_iter=100_000).fit(x, y)
        least = log_loss(y, reference.predict_proba(x), normalize=False)
        least += (reference.coef_**2).sum() / cost / 2
        assert float(loss + w.square().sum() / cost / 2) == pytest.approx(least, rel=1e-3)


@pytest.mark.parametrize("count", [150, 12])
def test_ridge_weights_are_scikit_learns(count: int) -> None:
    (x, y), width = clouds(count), 20
    centred = x - x.mean(0)
    target = torch.nn.functional.one_hot(y, 3).double()
    target -= target.mean(0)
    penalties = torch.tensor([1e-4, 0.1, 10.0]).double()
    solved = ridge.solutions(centred, target, penalties)
    assert solved.shape == (3, 3, width)
    variance = centred.square().mean().item()
    for penalty, weight in zip(penalties.tolist(), solved, strict=True):
        reference = Ridge(alpha=penalty * variance * count, fit_intercept=False, tol=1e-12)
        np.testing.assert_allclose(weight, reference.fit(centred, target).coef_, atol=1e-8)


def test_ridge_predicts_the_class_of_the_highest_score() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    probes = fit("ridge", x, y, vx, vy, classes=3, seeds=[0], protocol=Protocol(penalties=(0.1,)))
    target = np.eye(3)[y.numpy()]
    alpha = 0.1 * (x - x.mean(0)).square().mean().item() * len(x)
    scores = Ridge(alpha=alpha).fit(x, target).predict(vx)
    assert (probes.predict(vx)[0].argmax(-1).numpy() == scores.argmax(-1)).all()


def test_neighbours_vote_as_in_a_plain_loop() -> None:
    (x, y), (vx, vy) = clouds(), clouds(30, seed=1)
    grid = (1, 4, 1000)
    probes = fit("knn", x, y, vx, vy, classes=3, seeds=[0], protocol=Protocol(neighbours=grid))
    for probabilities, k in zip(probes.predict(vx), grid, strict=True):
        for row, p in zip(vx, probabilities, strict=True):
            cosine = x @ row / (x.norm(dim=1) * row.norm())
            near = cosine.argsort(descending=True)[:k]
            votes = torch.full((3,), 1 / 3).double()
            for place in near:
                votes[y[place]] += torch.exp((cosine[place] - cosine.max()) / 0.07)
            torch.testing.assert_close(p, votes / votes.sum())


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("standardize", [False, True])
def test_a_subset_is_all_a_probe_sees(name: str, standardize: bool) -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    protocol = Protocol(standardize=standardize)
    rows = [torch.arange(0, 150, 5), torch.arange(1, 150, 4)]
    together = fit(
        name, x, y, vx, vy, classes=3, seeds=[0, 1], protocol=protocol, subsets=[rows]
    ).chosen()
    assert [head.seed for head in together.heads] == [0, 1]
    other = x.clone()
    other[torch.arange(2, 150, 20)] = 1e3  # in neither subset
    for at, used in enumerate(rows):
        assert not set(used.tolist()) & set(range(2, 150, 20))
        alone = fit(
            name, other[used], y[used], vx, vy, classes=3, seeds=[0], protocol=protocol
        ).chosen()
        torch.testing.assert_close(
            together.predict(vx)[at], alone.predict(vx)[0], rtol=1e-6, atol=1e-8
        )
        assert together.heads[at].setting == alone.heads[0].setting


@pytest.mark.parametrize("name", PROBES)
def test_seeds_are_alike_on_all_images_and_probabilities_sum_to_one(name: str) -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    x[torch.arange(150), y] += 3
    vx[torch.arange(40), vy] += 3
    probes = fit(
        name, x.float(), y, vx.float(), vy, classes=3, seeds=range(3), protocol=Protocol()
    ).chosen()
    p = probes.predict(vx.float())
    assert p.shape == (3, 40, 3)
    assert p.dtype == torch.float32
    assert p[0].equal(p[1])
    assert p[0].equal(p[2])
    torch.testing.assert_close(p.sum(-1), torch.ones(3, 40))
    assert (p[0].argmax(-1) == vy).float().mean() > 0.9


@pytest.mark.parametrize("name", PROBES)
def test_standardised_probes_do_not_depend_on_the_scale_of_features(name: str) -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    scale = torch.logspace(-3, 3, x.shape[1]).double()
    results = [
        fit(name, x * s, y, vx * s, vy, classes=3, seeds=[0], protocol=Protocol(standardize=True))
        .chosen()
        .predict(vx * s)
        for s in (torch.ones_like(scale), torch.full_like(scale, 50.0))
    ]
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", PROBES)
def test_standardised_probes_are_plain_ones_on_standardised_features(name: str) -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    scale = torch.logspace(-1, 1, x.shape[1]).double()
    x, vx = x * scale + 3, vx * scale * 2 + 1  # validation images lie elsewhere
    mean, deviation = x.mean(0), x.std(0, correction=0)
    found = fit(name, x, y, vx, vy, classes=3, seeds=[0], protocol=Protocol(standardize=True))
    x, unseen = (x - mean) / deviation, (vx - mean) / deviation
    plain = fit(name, x, y, unseen, vy, classes=3, seeds=[0], protocol=Protocol())
    torch.testing.assert_close(found.predict(vx), plain.predict(unseen), rtol=1e-5, atol=1e-7)
