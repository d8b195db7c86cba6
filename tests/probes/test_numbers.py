"""Probes for numbers: against scikit-learn, plain torch, and with what must not leak."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from arrays import fit
from plain_probe import plain_probe
from sklearn.linear_model import Ridge

from ultrabench_eval.protocol import Gradient, Protocol

PROBES = ("ridge_regression", "linear_regression")
QUICK = Protocol(standardize=True, gradient=Gradient(learning_rates=(1e-2,), max_epochs=20))


def lengths(count: int = 150, width: int = 20, seed: int = 0):
    """Features on unlike scales, and millimetres that depend on some of them."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, generator=generator, dtype=torch.float64)
    y = 170 + 30 * x[:, 0] - 12 * x[:, 1] + 8 * noise
    return x * torch.logspace(-1, 1, width).double() + 3, y


def fitted(name: str, train, validation, seeds=(0,), protocol=QUICK, **options):
    return fit(name, *train, *validation, classes=0, seeds=seeds, protocol=protocol, **options)


@pytest.mark.parametrize("count", [150, 12])  # more and fewer images than features
def test_ridge_equals_scikit_learn_for_every_penalty(count: int) -> None:
    (x, y), (vx, vy) = lengths(count), lengths(40, seed=1)
    penalties = (1e-4, 0.1, 10.0)
    probes = fitted(
        "ridge_regression", (x, y), (vx, vy), protocol=replace(QUICK, penalties=penalties)
    )
    mean, deviation = x.mean(0), x.std(0, correction=0)
    scaled = (x - mean) / deviation
    for penalty, head, found in zip(penalties, probes.heads, probes.predict(vx), strict=True):
        alpha = penalty * scaled.square().mean().item() * count
        reference = Ridge(alpha=alpha, tol=1e-12).fit(scaled, y)
        expected = reference.predict((vx - mean) / deviation)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert head.setting == {"penalty": penalty}
        loss = np.square(expected - vy.numpy()).mean() / y.var(correction=0).item()
        assert head.validation_loss == pytest.approx(loss, rel=1e-6)


@pytest.mark.parametrize("subset", [False, True])
def test_the_linear_probe_is_nn_linear_with_adamw_on_the_squared_error(subset: bool) -> None:
    (x, y), (vx, vy) = lengths(), lengths(40, seed=1)
    gradient = Gradient("adamw", (3e-3, 0.03), (1e-4, 0.5), max_epochs=25, patience=4)
    rows = [torch.arange(0, 150, 2), torch.arange(1, 150, 2)] if subset else None
    probes = fitted(
        *("linear_regression", (x, y), (vx, vy), (3, 4), replace(QUICK, gradient=gradient)),
        subsets=[rows] if rows else None,
    )
    at = 0
    for place, seed in enumerate((3, 4)):
        used = rows[place] if rows else torch.arange(150)
        mean, deviation = x[used].mean(0), x[used].std(0, correction=0)
        middle, spread = y[used].mean(), y[used].std(correction=0)
        for rate, decay in gradient.settings:
            kept, epoch, losses = plain_probe(
                *((x[used] - mean) / deviation, ((y[used] - middle) / spread)[:, None]),
                *((vx - mean) / deviation, ((vy - middle) / spread)[:, None]),
                *(1, seed, gradient, rate, decay),
                loss=torch.nn.functional.mse_loss,
            )
            head = probes.heads[at]
            assert (head.seed, *head.setting.values()) == (seed, rate, decay)
            assert head.best_epoch == epoch
            assert head.validation_loss == pytest.approx(losses[epoch], rel=1e-8)
            expected = ((vx - mean) / deviation) @ kept["weight"][0] + kept["bias"]
            np.testing.assert_allclose(
                probes.predict(vx)[at], expected * spread + middle, rtol=1e-8
            )
            at += 1
    assert at == len(probes.heads)


@pytest.mark.parametrize("name", PROBES)
def test_the_unit_of_targets_changes_predictions_by_its_factor_alone(name: str) -> None:
    (x, y), (vx, vy) = lengths(), lengths(40, seed=1)
    in_mm = fitted(name, (x, y), (vx, vy))
    in_um = fitted(name, (x, 1000 * y + 5), (vx, 1000 * vy + 5))
    torch.testing.assert_close(1000 * in_mm.predict(vx) + 5, in_um.predict(vx), rtol=1e-6, atol=0)
    for one, other in zip(in_mm.heads, in_um.heads, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=1e-6)


@pytest.mark.parametrize("name", PROBES)
def test_the_scale_of_features_changes_nothing(name: str) -> None:
    (x, y), (vx, vy) = lengths(), lengths(40, seed=1)
    one, other = fitted(name, (x, y), (vx, vy)), fitted(name, (50 * x, y), (50 * vx, vy))
    torch.testing.assert_close(one.predict(vx), other.predict(50 * vx), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", PROBES)
def test_features_are_used_as_they_are_if_the_protocol_says_so(name: str) -> None:
    (x, y), (vx, vy) = lengths(), lengths(40, seed=1)
    mean, deviation = x.mean(0), x.std(0, correction=0)
    scaled = fitted(name, (x, y), (vx, vy))
    by_hand = (((x - mean) / deviation, y), ((vx - mean) / deviation, vy))
    plain = fitted(name, *by_hand, protocol=replace(QUICK, standardize=False))
    torch.testing.assert_close(scaled.predict(vx), plain.predict(by_hand[1][0]))
    as_it_is = fitted(name, (x, y), (vx, vy), protocol=replace(QUICK, standardize=False))
    assert (as_it_is.predict(vx) - scaled.predict(vx)).abs().max() > 1


@pytest.mark.parametrize("name", PROBES)
def test_validation_decides_on_the_setting_and_nothing_else(name: str) -> None:
    """A scaler of features or targets that sees validation images would change the heads."""
    (x, y), (vx, vy) = lengths(), lengths(40, seed=1)
    protocol = replace(QUICK, gradient=replace(QUICK.gradient, max_epochs=1))
    one = fitted(name, (x, y), (vx, vy), protocol=protocol)
    other = fitted(name, (x, y), (vx * 50 + 7, vy * 3), protocol=protocol)
    assert one.weight.equal(other.weight)
    assert one.bias.equal(other.bias)
    assert one.heads != other.heads  # whose losses are of other images


@pytest.mark.parametrize("name", PROBES)
def test_a_subset_is_all_a_head_sees_and_heads_keep_their_order(name: str) -> None:
    (x, y), (vx, vy) = lengths(), lengths(40, seed=1)
    few = [torch.arange(0, 150, 5), torch.arange(1, 150, 4)]
    every = torch.arange(150)
    together = fitted(name, (x, y), (vx, vy), (0, 1), subsets=[few, [every, every]]).chosen()
    assert [(head.subset, head.seed) for head in together.heads] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    spoilt = x.clone(), y.clone()
    unused = np.setdiff1d(every, torch.cat(few))
    spoilt[0][unused], spoilt[1][unused] = 1e3, -1e6
    for at, rows in enumerate(few):
        alone = fitted(name, spoilt, (vx, vy), (at,), subsets=[[rows]]).chosen()
        torch.testing.assert_close(
            together.predict(vx)[at], alone.predict(vx)[0], rtol=1e-9, atol=0
        )


@pytest.mark.parametrize("name", PROBES)
def test_features_that_say_nothing_give_the_training_mean(name: str) -> None:
    (_, y), (_, vy) = lengths(), lengths(40, seed=1)
    x, vx = torch.ones(150, 1), torch.ones(40, 1)
    protocol = replace(QUICK, gradient=Gradient(learning_rates=(0.03,)))
    found = fitted(name, (x, y), (vx, vy), protocol=protocol).chosen().predict(vx)
    assert found.dtype == torch.float64
    assert found.shape == (1, 40)
    # The gradient stops at the lowest loss on validation, whose mean is another.
    close = 1e-9 if name == "ridge_regression" else 0.03
    assert found.unique().tolist() == pytest.approx([y.mean().item()], rel=close)


@pytest.mark.parametrize("name", PROBES)
def test_same_seeds_same_bytes_from_float32_features(name: str) -> None:
    (x, y), (vx, vy) = lengths(), lengths(40, seed=1)
    one, other = (fitted(name, (x.float(), y), (vx.float(), vy), (0, 1)) for _ in range(2))
    assert one.weight.equal(other.weight)
    assert one.weight.dtype == torch.float64
    assert one.heads == other.heads
    alike = one.chosen().weight
    assert alike[0].equal(alike[1]) == (name == "ridge_regression")  # nothing random in it
