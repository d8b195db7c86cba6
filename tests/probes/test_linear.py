"""The stacked probe must be nothing but several plain probes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clouds import clouds
from plain_probe import plain_probe

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.probes import heads, linear
from ultrabench_eval.protocol import Gradient, Protocol


def assert_equal(probes, at: int, plain, *, rtol: float, atol: float) -> None:
    kept, best_epoch, losses = plain
    head, history = probes.heads[at], probes.history[at]
    assert head.best_epoch == best_epoch
    assert head.validation_loss == pytest.approx(losses[best_epoch], rel=rtol)
    np.testing.assert_allclose(history[: len(losses)], losses, rtol=max(rtol, 1e-6))
    assert history[len(losses) :].isnan().all()  # it stopped in the same epoch
    torch.testing.assert_close(probes.weight[at], kept["weight"], rtol=rtol, atol=atol)
    torch.testing.assert_close(probes.bias[at], kept["bias"], rtol=rtol, atol=atol)


GRADIENTS = {
    "paper": Gradient(),
    "early stop": Gradient(learning_rates=(0.05,), patience=3),
    "short": Gradient(batch_size=64, max_epochs=7),
    "sweep": Gradient(learning_rates=(1e-4, 0.02), weight_decays=(0.0, 0.5), patience=4),
}


@pytest.mark.parametrize("gradient", GRADIENTS.values(), ids=GRADIENTS)
def test_each_head_equals_a_plain_probe(gradient: Gradient) -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    seeds = [0, 1, 7]
    protocol = Protocol(gradient=gradient)
    probes = linear.fit(x, y, vx, vy, classes=3, seeds=seeds, protocol=protocol)
    at = 0
    for seed in seeds:
        for rate, decay in gradient.settings:
            plain = plain_probe(x, y, vx, vy, 3, seed, gradient, rate, decay)
            head = probes.heads[at]
            assert (head.seed, *head.setting.values()) == (seed, rate, decay)
            assert_equal(probes, at, plain, rtol=1e-8, atol=1e-9)
            at += 1
    assert at == len(probes.heads) == len(probes.weight)


@pytest.mark.parametrize("standardize", [False, True])
def test_a_head_on_a_subset_equals_a_plain_probe_on_those_rows(standardize: bool) -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    gradient = Gradient(patience=5)
    generator = torch.Generator().manual_seed(3)
    every = torch.arange(len(x))
    subsets = [
        [torch.randperm(len(x), generator=generator)[:count] for _ in range(2)]
        for count in (33, 70)
    ] + [[every, every]]
    probes = linear.fit(
        *(x, y, vx, vy),
        classes=3,
        seeds=[4, 5],
        protocol=Protocol(gradient=gradient, standardize=standardize),
        subsets=subsets,
    )
    at = 0
    for of_seed in subsets:
        for seed, rows in zip([4, 5], of_seed, strict=True):
            mean, deviation = x[rows].mean(0), x[rows].std(0, correction=0)
            if not standardize:
                mean, deviation = 0, 1
            kept, *rest = plain_probe(
                (x[rows] - mean) / deviation,
                y[rows],
                (vx - mean) / deviation,
                vy,
                3,
                seed,
                gradient,
            )
            kept["weight"] /= deviation
            kept["bias"] -= kept["weight"] @ (torch.zeros(x.shape[1]).to(x) + mean)
            assert_equal(probes, at, (kept, *rest), rtol=1e-8, atol=1e-9)
            at += 1


def test_validation_can_be_cut_for_each_subset() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    rows, few = torch.arange(60), torch.arange(9)
    protocol = Protocol(gradient=Gradient(patience=5))
    probes = linear.fit(
        *(x, y, vx, vy),
        classes=3,
        seeds=[0],
        protocol=protocol,
        subsets=[[rows]],
        validation_subsets=[[few]],
    )
    plain = plain_probe(x[rows], y[rows], vx[few], vy[few], 3, 0, protocol.gradient)
    assert_equal(probes, 0, plain, rtol=1e-8, atol=1e-9)


def test_heads_stop_at_epochs_of_their_own_and_early_stopping_bites() -> None:
    (x, y), (vx, vy) = clouds(60), clouds(30, seed=1)
    gradient = Gradient(learning_rates=(0.05,), patience=3)
    probes = linear.fit(
        x, y, vx, vy, classes=3, seeds=range(8), protocol=Protocol(gradient=gradient)
    )
    epochs = [head.best_epoch for head in probes.heads]
    assert len(set(epochs)) > 1
    assert max(epochs) < gradient.max_epochs - gradient.patience


@pytest.mark.parametrize("width", [20, 768])
def test_the_bits_of_a_head_depend_on_no_other_stream(width: int) -> None:
    (x, y), (vx, vy) = clouds(width=width), clouds(40, width, seed=1)
    x, vx = x.float(), vx.float()
    protocol = Protocol(gradient=Gradient(max_epochs=20))
    every, part = torch.arange(len(x)), torch.arange(0, len(x), 2)
    together = linear.fit(
        *(x, y, vx, vy),
        classes=3,
        seeds=range(6),
        protocol=protocol,
        subsets=[[part] * 6, [every] * 6],
    )
    alone = linear.fit(x, y, vx, vy, classes=3, seeds=[2], protocol=protocol)
    assert together.weight[6 + 2].equal(alone.weight[0])
    assert together.heads[6 + 2].best_epoch == alone.heads[0].best_epoch


def test_same_seeds_same_bytes_whatever_the_global_generator_and_threads() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    threads = torch.get_num_threads()
    results = []
    for number, count in enumerate((1, 2, 3)):
        torch.manual_seed(number)
        torch.set_num_threads(count)
        probes = linear.fit(
            x.float(), y, vx.float(), vy, classes=3, seeds=range(5), protocol=Protocol()
        )
        results.append(probes.weight.numpy().tobytes())
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert results[0] == results[1] == results[2]


def test_the_setting_of_lowest_validation_loss_is_chosen_and_an_edge_is_told() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    gradient = Gradient(learning_rates=(1e-5, 1e-2), max_epochs=20)
    probes = linear.fit(
        x, y, vx, vy, classes=3, seeds=range(3), protocol=Protocol(gradient=gradient)
    )
    best = probes.chosen()
    assert len(best.heads) == 3
    for seed, head in enumerate(best.heads):
        rivals = [other for other in probes.heads if other.seed == seed]
        assert head.validation_loss == min(other.validation_loss for other in rivals)
    (sentence,) = heads.at_an_edge(probes.heads, best.heads)
    assert sentence.startswith("learning rate 0.01 is the highest of the grid")


def test_a_feature_that_never_varies_does_no_harm() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    x[:, 0], vx[:, 0] = 5.0, 7.0
    protocol = Protocol(standardize=True, gradient=Gradient(max_epochs=5))
    probes = linear.fit(x, y, vx, vy, classes=3, seeds=[0], protocol=protocol)
    assert probes.predict(vx).isfinite().all()


def test_probabilities_are_softmax_of_the_head() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    probes = linear.fit(
        x, y, vx, vy, classes=3, seeds=range(2), protocol=Protocol(gradient=Gradient(max_epochs=3))
    )
    probabilities = probes.predict(vx)
    assert probabilities.shape == (2, 40, 3)
    by_hand = torch.softmax(vx @ probes.weight[1].T + probes.bias[1], -1)
    torch.testing.assert_close(probabilities[1], by_hand)
    np.testing.assert_allclose(probabilities.sum(-1), 1)


def test_a_loss_that_is_never_finite_is_told() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    with pytest.raises(UserError, match="never finite"):
        linear.fit(x * float("inf"), y, vx, vy, classes=3, seeds=[0], protocol=Protocol())
