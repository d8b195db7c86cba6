"""The linear probe, all seeds trained at once.

Every seed is one head of a stack: its own initialisation, its own order of the training images,
its own best epoch. A step is one batched matrix product over the stack, so five seeds cost
little more than one. H is the number of seeds, C of classes, D the feature width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.protocol import Protocol


@dataclass(frozen=True)
class LinearProbes:
    """Trained heads.

    Args:
        weight: [H, C, D].
        bias: [H, C].
        best_epoch: for each head the epoch (from 0) whose weights were kept.
        validation_loss: for each head its cross-entropy (nats) on validation at that epoch.
    """

    weight: Tensor
    bias: Tensor
    best_epoch: tuple[int, ...]
    validation_loss: tuple[float, ...]

    def predict_proba(self, x: Tensor) -> Tensor:
        """Class probabilities [H, N, C] of features [N, D]."""
        return _logits(self.weight, self.bias, x.expand(len(self.weight), *x.shape)).softmax(-1)


def fit(
    train_x: Tensor,
    train_y: Tensor,
    validation_x: Tensor,
    validation_y: Tensor,
    *,
    classes: int,
    seeds: Sequence[int],
    protocol: Protocol,
) -> LinearProbes:
    """Train one linear classifier a seed (US-JEPA, section 4 and Table 6).

    AdamW on the mean cross-entropy of shuffled batches, learning rate annealed by a cosine once
    an epoch, stopped early on the validation loss. Features are used as they are.

    Args:
        train_x: [N, D] floating point; the probe computes in its dtype, on its device.
        train_y: int64 [N], codes below `classes`.
        validation_x: [M, D].
        validation_y: int64 [M].
        classes: C.
        seeds: one head each.
        protocol: batch size, learning rate and so on.

    Raises:
        UserError: the loss of a head was never finite.
    """
    with _one_thread():
        return _fit(train_x, train_y, validation_x, validation_y, classes, seeds, protocol)


def _fit(
    train_x: Tensor,
    train_y: Tensor,
    validation_x: Tensor,
    validation_y: Tensor,
    classes: int,
    seeds: Sequence[int],
    protocol: Protocol,
) -> LinearProbes:
    heads, count = len(seeds), len(train_x)
    weight, bias = _initial(seeds, classes, train_x)
    optimizer = torch.optim.AdamW(
        [weight, bias], lr=protocol.learning_rate, weight_decay=protocol.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=protocol.max_epochs)
    shuffles = [torch.Generator().manual_seed(hashing.seed_for(s, "probe/order")) for s in seeds]

    best = LinearProbes(
        weight.detach().clone(), bias.detach().clone(), (-1,) * heads, (float("inf"),) * heads
    )
    best_loss = torch.full((heads,), torch.inf, dtype=train_x.dtype, device=train_x.device)
    best_epoch = torch.full((heads,), -1)
    running = torch.ones(heads, dtype=torch.bool)  # heads that still count
    for epoch in range(protocol.max_epochs):
        order = torch.stack([torch.randperm(count, generator=g) for g in shuffles])  # [H, N]
        for rows in torch.split(order.to(train_x.device), protocol.batch_size, dim=1):  # [H, B]
            loss = _losses(weight, bias, train_x[rows], train_y[rows])
            optimizer.zero_grad()
            torch.autograd.backward(
                loss.sum()
            )  # heads share nothing, so the sum trains each on its own loss
            optimizer.step()
        schedule.step()

        with torch.no_grad():
            loss = _losses(
                weight,
                bias,
                validation_x.expand(heads, -1, -1),
                validation_y.expand(heads, -1),
            )
            better = (loss < best_loss).cpu() & running
            best.weight[better], best.bias[better] = weight[better], bias[better]
            best_loss[better] = loss[better]
            best_epoch[better] = epoch
        running &= epoch - best_epoch < protocol.patience
        if not running.any():
            break

    if (best_epoch < 0).any():
        raise UserError(
            "the probe's validation loss was never finite; look for extreme values in the "
            "features or lower the learning rate"
        )
    return LinearProbes(
        best.weight, best.bias, tuple(best_epoch.tolist()), tuple(best_loss.tolist())
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever the number of cores; the products are too small to gain more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _initial(seeds: Sequence[int], classes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Weights as `torch.nn.Linear` draws them: uniform within 1/sqrt(D). [H, C, D] and [H, C]."""
    width = like.shape[1]
    bound = width**-0.5
    draws = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))
        draws.append(torch.rand(classes, width + 1, generator=generator) * 2 * bound - bound)
    stack = torch.stack(draws).to(like)
    return (
        stack[..., :-1].clone().requires_grad_(),
        stack[..., -1].clone().requires_grad_(),
    )


def _logits(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)  # [H, B, C]


def _losses(weight: Tensor, bias: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each head, [H], on its own x [H, B, D] and y [H, B]."""
    logits = _logits(weight, bias, x)
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view_as(y).mean(1)
