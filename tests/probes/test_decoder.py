"""The stacked decoder must be nothing but several plain networks, and what it is for."""

from __future__ import annotations

import torch
from test_dense import blobs, moments, plain_loss
from torch import nn

from ultrabench_eval.core import hashing
from ultrabench_eval.feature_rows import InMemory
from ultrabench_eval.probes import decoder
from ultrabench_eval.probes.heads import DataOf, streams
from ultrabench_eval.protocol import Protocol


def finer(shares):
    return shares.repeat_interleave(2, -1).repeat_interleave(2, -2)


def network(channels: int, classes: int, seed: int) -> nn.Sequential:
    """The form of the docstring of `decoder`, drawn by one generator as torch would draw it."""
    net = nn.Sequential(
        *(nn.Conv2d(channels, 64, 1), nn.ReLU()),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 32, 2, 2), nn.ReLU()),
        nn.Conv2d(32, classes, 1),
    )
    generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))
    with torch.no_grad():
        for layer in net[::2]:
            bound = layer.weight[0].numel() ** -0.5
            count = layer.weight.numel() + layer.bias.numel()
            drawn = torch.rand(count, generator=generator) * 2 * bound - bound
            layer.weight.copy_(drawn[: layer.weight.numel()].view_as(layer.weight))
            layer.bias.copy_(drawn[layer.weight.numel() :])
    return net


def test_each_head_equals_a_plain_network_over_twenty_steps() -> None:
    (x, y), (vx, vy) = blobs(channels=7), blobs(10, channels=7, seed=1)
    x, vx = x.float(), vx.float()
    settings = decoder.DecoderSettings(
        learning_rates=(1e-3, 3e-3), weight_decays=(0.1,), batch_size=8, max_epochs=5
    )
    protocol = Protocol(name="test", standardize=True, own=(("decoder", settings),))
    data = DataOf(InMemory(x), finer(y), InMemory(vx), finer(vy), 3)
    probes = decoder.train(data, streams(30, 10, [0, 5], None, None), protocol)
    mean, deviation = (part[:, None, None].float() for part in moments(x.double(), y))
    x, y, scaled = (x - mean) / deviation, finer(y), (vx - mean) / deviation
    at = 0
    for seed in (0, 5):
        for rate, decay in settings.settings:
            net = network(7, 3, seed)
            optimizer = torch.optim.AdamW(net.parameters(), lr=rate, weight_decay=decay)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5)
            order = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/order"))
            losses, said, kept = [], [], []
            for _ in range(5):
                for rows in torch.randperm(30, generator=order).split(8):  # 4 steps an epoch
                    optimizer.zero_grad()
                    plain_loss(net(x[rows]), y[rows]).backward()
                    optimizer.step()
                schedule.step()
                with torch.no_grad():
                    said.append(net(scaled))
                    losses.append(plain_loss(said[-1], finer(vy)).item())
                    raw = net[0].weight[..., 0, 0] / deviation[:, 0, 0]
                    first = raw.flatten(), net[0].bias - raw @ mean[:, 0, 0]
                    others = (parameter.flatten() for parameter in net[1:].parameters())
                    kept.append(torch.cat([*first, *others]))
            best = losses.index(min(losses))
            torch.testing.assert_close(
                probes.history[at], torch.tensor(losses), rtol=1e-5, atol=1e-5
            )
            assert probes.heads[at].best_epoch == best
            # Adam makes much of what rounding leaves of a gradient that is almost 0.
            torch.testing.assert_close(probes.parameters[at], kept[best], rtol=1e-4, atol=1e-4)
            layers = probes.form.layers(probes.parameters[at : at + 1], 7)
            logits = probes.form.logits(layers, vx).view_as(said[best])
            torch.testing.assert_close(logits, said[best], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(
                probes.predict(vx)[at].float(), said[best], rtol=1e-3, atol=1e-3
            )
            at += 1
    assert at == len(probes.heads)
    assert probes.history.std(1).min() > 1e-3  # the steps lead somewhere
