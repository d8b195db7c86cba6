"""The head of arXiv 2507.18424 must be nothing but a plain network, trained as its text says."""

from __future__ import annotations

from dataclasses import asdict

import torch
from test_dense import blobs, moments
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ultrabench_eval import protocol
from ultrabench_eval.core import hashing
from ultrabench_eval.feature_rows import InMemory
from ultrabench_eval.grid import Grid
from ultrabench_eval.probes import transposed
from ultrabench_eval.probes.heads import DataOf, streams
from ultrabench_eval.protocol import Protocol


def finer(shares: Tensor) -> Tensor:
    return shares.repeat_interleave(4, -1).repeat_interleave(4, -2)


class Plain(nn.Module):
    """The form of the docstring of `transposed`, drawn by one generator as torch would draw it."""

    def __init__(self, channels: int, classes: int, seed: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 64, 1)
        self.attention = nn.MultiheadAttention(64, 1, batch_first=True)
        self.finer = nn.ConvTranspose2d(64, 32, 2, 2)
        self.finest = nn.ConvTranspose2d(32, classes, 2, 2)
        generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))

        def fill(weight: Tensor, bias: Tensor) -> None:
            bound, count = weight[0].numel() ** -0.5, weight.numel()
            drawn = torch.rand(count + bias.numel(), generator=generator) * 2 * bound - bound
            weight.copy_(drawn[:count].view_as(weight))
            bias.copy_(drawn[count:])

        with torch.no_grad():
            fill(self.first.weight, self.first.bias)
            asked = self.attention.in_proj_weight, self.attention.in_proj_bias
            for weight, bias in zip(*(part.chunk(3) for part in asked), strict=True):
                fill(weight, bias)
            for layer in (self.attention.out_proj, self.finer, self.finest):
                fill(layer.weight, layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        z = self.first(x)
        places = z.flatten(2).mT
        seen, _ = self.attention(places, places, places)
        return self.finest(self.finer(z + seen.mT.reshape(z.shape)).relu())


def plain_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Soft cross-entropy over what is shown of the places."""
    return cross_entropy(logits, shares, reduction="sum") / shares.sum()


def fit(
    settings: transposed.TransposedSettings, clearer: float = 0
) -> tuple[transposed.TransposedProbes, Tensor]:
    (x, y), (vx, vy) = blobs(channels=7), blobs(10, channels=7, seed=1)
    for maps, shares in ((x, y), (vx, vy)):
        maps[:, :3] += clearer * shares
    how = Protocol(name="test", standardize=True, own=(("transposed", settings),))
    data = DataOf(InMemory(x.float()), finer(y), InMemory(vx.float()), finer(vy), 3)
    return transposed.train(data, streams(30, 10, [0, 5], None, None), how), vx.float()


def test_each_head_equals_a_plain_network() -> None:
    settings = transposed.TransposedSettings(
        learning_rates=(1e-3, 3e-3), weight_decays=(0.1,), batch_size=8, max_epochs=4
    )
    probes, vx = fit(settings)
    x, y = blobs(channels=7)
    mean, deviation = (part[:, None, None].float() for part in moments(x, y))
    x, y, scaled = (x.float() - mean) / deviation, finer(y), (vx - mean) / deviation
    vy = finer(blobs(10, channels=7, seed=1)[1])
    heads = iter(zip(probes.heads, probes.history, probes.predict(vx).float(), strict=True))
    for seed in (0, 5):
        for rate, decay in settings.settings:
            net = Plain(7, 3, seed)
            optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
            order = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/order"))
            losses, said = [], []
            for _ in range(4):
                for rows in torch.randperm(30, generator=order).split(8):
                    optimizer.zero_grad()
                    plain_loss(net(x[rows]), y[rows]).backward()
                    optimizer.step()
                schedule.step()
                with torch.no_grad():
                    said.append(net(scaled))
                    losses.append(plain_loss(said[-1], vy).item())
            head, history, predicted = next(heads)
            torch.testing.assert_close(history, torch.tensor(losses), rtol=1e-5, atol=1e-5)
            best = losses.index(min(losses))
            assert head.best_epoch == best
            torch.testing.assert_close(predicted, said[best], rtol=2e-3, atol=2e-3)
    assert probes.history.std(1).min() > 1e-3  # the steps lead somewhere


def test_it_learns_and_the_same_seed_gives_the_same_bytes() -> None:
    settings = transposed.TransposedSettings(max_epochs=10)
    (probes, vx), (again, _) = fit(settings, 9), fit(settings, 9)
    assert probes.parameters.equal(again.parameters)
    assert probes.predict(vx).equal(again.predict(vx))
    first, last = probes.history[:, 0], probes.history.min(1).values
    assert (last < 0.8 * first).all()
    assert not probes.history.isnan().any()  # it never stops early
    assert not probes.parameters[0].equal(probes.parameters[1])


def test_the_protocol_is_as_the_paper_states_it_and_brings_its_probe() -> None:
    named = protocol.load("camus-vjepa")
    assert named is protocol.load("camus_vjepa") is protocol.PROTOCOLS["camus_vjepa"]
    stated = {
        **{"optimizer": "adamw", "learning_rates": (1e-3,), "max_epochs": 300, "batch_size": 4},
        "decision": "argmax",
    }
    assert stated.items() <= asdict(named.of("transposed")).items()
    grid = Grid.parse(None, ["camus-vjepa", "dense"], "100", "")
    assert [(how.name, probe) for how, probe in grid.ways("masks")] == [
        ("camus_vjepa", "transposed"),
        ("dense", "dense"),
    ]
    assert grid.ways("classes") == []
    chosen = Grid.parse("decoder", "camus-vjepa", "100", "").ways("masks")
    assert [probe for _, probe in chosen] == ["decoder"]
