"""The linear probe as anyone would write it."""

from __future__ import annotations

import torch
from torch import nn

from ultrabench_eval.core import hashing
from ultrabench_eval.protocol import Gradient


def plain_probe(
    x, y, vx, vy, classes: int, seed: int, gradient: Gradient, rate=None, decay=None,
    loss=nn.functional.cross_entropy,
):  # fmt: skip
    """The protocol as anyone would write it: nn.Linear, one seed, no stack."""
    head = nn.Linear(x.shape[1], classes).to(x)
    generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))
    bound = x.shape[1] ** -0.5
    draw = torch.rand(classes, x.shape[1] + 1, generator=generator) * 2 * bound - bound
    with torch.no_grad():
        head.weight.copy_(draw[:, :-1])
        head.bias.copy_(draw[:, -1])
    rate = gradient.learning_rates[0] if rate is None else rate
    decay = gradient.weight_decays[0] if decay is None else decay
    optimizer = torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, gradient.max_epochs)
    order = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/order"))
    best, best_epoch, kept, losses = float("inf"), -1, None, []
    for epoch in range(gradient.max_epochs):
        for rows in torch.randperm(len(x), generator=order).split(gradient.batch_size):
            optimizer.zero_grad()
            loss(head(x[rows]), y[rows]).backward()
            optimizer.step()
        schedule.step()
        losses.append(loss(head(vx), vy).item())
        if losses[-1] < best:
            best, best_epoch = losses[-1], epoch
            kept = {k: v.clone() for k, v in head.state_dict().items()}
        elif epoch - best_epoch >= gradient.patience:
            break
    return kept, best_epoch, losses
