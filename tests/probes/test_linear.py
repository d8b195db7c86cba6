"""The stacked probe must be nothing but several plain probes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.probes import linear
from ultrabench_eval.protocol import Protocol


def clouds(count: int = 150, width: int = 20, classes: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (count,), generator=generator)
    x = torch.randn(count, width, generator=generator, dtype=torch.float64)
    x[torch.arange(count), y] += 1.2
    return x, y


def plain_probe(x, y, vx, vy, classes: int, seed: int, p: Protocol):
    """The protocol as anyone would write it: nn.Linear, one seed, no stack."""
    head = nn.Linear(x.shape[1], classes).to(x)
    generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))
    bound = x.shape[1] ** -0.5
    draw = torch.rand(classes, x.shape[1] + 1, generator=generator) * 2 * bound - bound
    with torch.no_grad():
        head.weight.copy_(draw[:, :-1])
        head.bias.copy_(draw[:, -1])
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=p.learning_rate, weight_decay=p.weight_decay
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, p.max_epochs)
    order = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/order"))
    best, best_epoch, kept = float("inf"), -1, None
    for epoch in range(p.max_epochs):
        for rows in torch.randperm(len(x), generator=order).split(p.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()
            optimizer.step()
        schedule.step()
        loss = nn.functional.cross_entropy(head(vx), vy).item()
        if loss < best:
            best, best_epoch = loss, epoch
            kept = {k: v.clone() for k, v in head.state_dict().items()}
        elif epoch - best_epoch >= p.patience:
            break
    return kept, best_epoch, best


@pytest.mark.parametrize(
    "protocol",
    [Protocol(), Protocol(learning_rate=0.05, patience=3), Protocol(batch_size=64, max_epochs=7)],
    ids=["paper", "early stop", "short"],
)
def test_each_head_equals_a_plain_probe(protocol: Protocol) -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    probes = linear.fit(x, y, vx, vy, classes=3, seeds=[0, 1, 7], protocol=protocol)
    for head, seed in enumerate([0, 1, 7]):
        kept, best_epoch, loss = plain_probe(x, y, vx, vy, 3, seed, protocol)
        assert probes.best_epoch[head] == best_epoch
        assert probes.validation_loss[head] == pytest.approx(loss, rel=1e-9)
        torch.testing.assert_close(probes.weight[head], kept["weight"], rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(probes.bias[head], kept["bias"], rtol=1e-8, atol=1e-10)


def test_heads_stop_at_epochs_of_their_own_and_early_stopping_bites() -> None:
    (x, y), (vx, vy) = clouds(60), clouds(30, seed=1)
    protocol = Protocol(learning_rate=0.05, patience=3)
    probes = linear.fit(x, y, vx, vy, classes=3, seeds=range(8), protocol=protocol)
    assert len(set(probes.best_epoch)) > 1
    assert max(probes.best_epoch) < protocol.max_epochs - protocol.patience


def test_a_seed_does_not_depend_on_its_companions() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    together = linear.fit(x, y, vx, vy, classes=3, seeds=range(4), protocol=Protocol())
    alone = linear.fit(x, y, vx, vy, classes=3, seeds=[2], protocol=Protocol())
    torch.testing.assert_close(together.weight[2], alone.weight[0], rtol=1e-9, atol=1e-12)
    assert together.best_epoch[2] == alone.best_epoch[0]


def test_same_seeds_same_bytes_whatever_the_global_generator_and_threads() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    threads = torch.get_num_threads()
    results = []
    for number, count in enumerate((1, 2)):
        torch.manual_seed(number)
        torch.set_num_threads(count)
        probes = linear.fit(
            x.float(), y, vx.float(), vy, classes=3, seeds=range(3), protocol=Protocol()
        )
        results.append(probes.weight.numpy().tobytes())
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert results[0] == results[1]


def test_probabilities_are_softmax_of_the_head() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    probes = linear.fit(x, y, vx, vy, classes=3, seeds=range(2), protocol=Protocol(max_epochs=3))
    probabilities = probes.predict_proba(vx)
    assert probabilities.shape == (2, 40, 3)
    by_hand = torch.softmax(vx @ probes.weight[1].T + probes.bias[1], -1)
    torch.testing.assert_close(probabilities[1], by_hand)
    np.testing.assert_allclose(probabilities.sum(-1), 1)


def test_a_loss_that_is_never_finite_is_told() -> None:
    (x, y), (vx, vy) = clouds(), clouds(40, seed=1)
    with pytest.raises(UserError, match="never finite"):
        linear.fit(x * float("inf"), y, vx, vy, classes=3, seeds=[0], protocol=Protocol())
