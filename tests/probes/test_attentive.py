"""The attentive probe against a plain module, and what it is for."""

from __future__ import annotations

import pytest
import torch
from arrays import fit
from torch import nn

from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.feature_rows import InMemory
from ultrabench_eval.probes import attentive
from ultrabench_eval.probes.heads import Scaler, one_thread
from ultrabench_eval.protocol import Gradient, Protocol


def spots(count: int = 90, tokens: int = 9, width: int = 12, seed: int = 0):
    """Tokens of noise; one, anywhere, carries the class, and says so in another direction."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (count,), generator=generator)
    x = torch.randn(count, tokens, width, generator=generator, dtype=torch.float64)
    place = torch.randint(tokens, (count,), generator=generator)
    x[torch.arange(count), place, 0] += 6
    x[torch.arange(count), place, 1] += 4.0 * (2 * y - 1)
    return x, y


class Plain(nn.Module):
    def __init__(self, width: int, classes: int, seed: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width).double())
        self.head = nn.Linear(width, classes).double()
        generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))
        bound = width**-0.5
        draw = torch.rand(classes, width + 1, generator=generator) * 2 * bound - bound
        with torch.no_grad():
            self.head.weight.copy_(draw[:, :-1])
            self.head.bias.copy_(draw[:, -1])

    def forward(self, x):
        weights = torch.softmax(torch.einsum("btd,d->bt", x, self.query) / x.shape[-1] ** 0.5, 1)
        return self.head(torch.einsum("bt,btd->bd", weights, x))


def plain(x, y, vx, vy, seed: int, gradient: Gradient, rate: float, decay: float):
    model = Plain(x.shape[-1], 2, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, gradient.max_epochs)
    order = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/order"))
    best, best_epoch, kept = float("inf"), -1, None
    for epoch in range(gradient.max_epochs):
        for rows in torch.randperm(len(x), generator=order).split(gradient.batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        schedule.step()
        loss = nn.functional.cross_entropy(model(vx), vy).item()
        if loss < best:
            best, best_epoch, kept = loss, epoch, {k: v.clone() for k, v in
                                                   model.state_dict().items()}  # fmt: skip
        elif epoch - best_epoch >= gradient.patience:
            break
    return kept, best_epoch, best


@pytest.mark.parametrize("standardize", [False, True])
def test_each_head_equals_a_plain_module(standardize: bool) -> None:
    (x, y), (vx, vy) = spots(), spots(40, seed=1)
    x[..., 3] *= 5  # so that standardising does something
    gradient = Gradient(
        learning_rates=(1e-3, 3e-2), weight_decays=(0.01,), max_epochs=25, patience=4
    )
    protocol = Protocol(standardize=standardize, gradient=gradient)
    rows = torch.arange(0, 90, 2)
    probes = fit(
        "attentive",
        x,
        y,
        vx,
        vy,
        classes=2,
        seeds=[0, 3],
        protocol=protocol,
        subsets=[[rows, rows]],
    )
    mean, deviation = 0.0, 1.0
    if standardize:
        flat = x[rows].flatten(0, 1)
        mean, deviation = flat.mean(0), flat.std(0, correction=0)
    at = 0
    for seed in (0, 3):
        for rate, decay in gradient.settings:
            kept, epoch, loss = plain(
                *((x[rows] - mean) / deviation, y[rows], (vx - mean) / deviation, vy),
                *(seed, gradient, rate, decay),
            )
            head = probes.heads[at]
            assert (head.seed, head.best_epoch) == (seed, epoch)
            assert head.validation_loss == pytest.approx(loss, rel=1e-7)
            model = Plain(x.shape[-1], 2, seed)
            model.load_state_dict(kept)
            expected = model((vx - mean) / deviation).softmax(-1)
            torch.testing.assert_close(probes.predict(vx)[at], expected, rtol=1e-6, atol=1e-8)
            at += 1
    assert [head.setting["learning_rate"] for head in probes.chosen().heads] == [0.03, 0.03]


def test_it_finds_the_token_that_tells_where_the_mean_cannot() -> None:
    (x, y), (vx, vy) = spots(400, tokens=64), spots(200, tokens=64, seed=1)
    protocol = Protocol(gradient=Gradient(learning_rates=(0.03,), max_epochs=40))
    probes = fit("attentive", x, y, vx, vy, classes=2, seeds=[0], protocol=protocol)
    right = (probes.predict(vx)[0].argmax(-1) == vy).double().mean()
    mean = Protocol(gradient=Gradient(learning_rates=(1e-9,), max_epochs=1))  # a query of 0
    start = fit("attentive", x, y, vx, vy, classes=2, seeds=[0], protocol=mean)
    torch.testing.assert_close(
        start.predict(vx)[0],
        torch.softmax(vx.mean(1) @ start.weight[0].T + start.bias[0], -1),
        rtol=1e-5,
        atol=1e-6,
    )
    assert right > 0.95


def test_half_precision_tokens_are_computed_in_float32() -> None:
    (x, y), (vx, vy) = spots(), spots(40, seed=1)
    protocol = Protocol(gradient=Gradient(max_epochs=3))
    probes = fit("attentive", x.half(), y, vx.half(), vy, classes=2, seeds=[0], protocol=protocol)
    assert probes.weight.dtype == torch.float32
    assert probes.predict(vx.half()).sum(-1).sub(1).abs().max() < 1e-5


def test_a_loss_that_is_never_finite_is_told() -> None:
    x, y = spots()
    with pytest.raises(UserError, match="never finite"):
        fit("attentive", x * float("inf"), y, x, y, classes=2, seeds=[0], protocol=Protocol())


@pytest.mark.parametrize("width", [12, 33, 64, 100, 128, 192, 200])
@pytest.mark.parametrize("numbers", [1, 50_000, 1 << 26])
def test_standardisation_in_parts_is_that_of_the_whole_to_the_bit(
    width: int, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(width)
    x = (torch.randn(300, 9, width, generator=generator) * 3 + 1).half()
    rows = torch.randperm(300, generator=generator)[:270]
    monkeypatch.setattr(attentive, "_NUMBERS", numbers)
    with one_thread():
        whole = Scaler.of(x[rows].float().flatten(0, 1))
        parts = attentive._scaler(InMemory(x), rows, torch.float32)
    assert torch.equal(parts.mean, whole.mean)
    assert torch.equal(parts.deviation, whole.deviation)
