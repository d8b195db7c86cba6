"""The linear probe: all seeds, subsets and settings trained at once.

A *stream* is one order of batches: a seed on a subset of the training images. All settings
(learning rate, weight decay) of a stream see the same batches, so a batch is gathered once for
them, and a step of a group of streams is two batched matrix products. Streams are grouped by
length; groups run in threads of their own.

K is the number of streams of a group, S of settings, C of classes, D the feature width (P with the
bias, padded), B the batch size, N and M the numbers of training and validation images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import cos, pi
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad
from torch.optim.adamw import adamw

from ultrabench_eval.core import hashing
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.probes.early_stopping import EarlyStopping
from ultrabench_eval.probes.heads import (
    LinearProbes,
    ProbeData,
    Scaler,
    Stream,
    one_thread,
    streams,
)
from ultrabench_eval.probes.probe import Probe, by_gradient, steps_tried
from ultrabench_eval.protocol import Protocol

_LANES = 16  # float32 numbers in the widest vector registers


class Loss(NamedTuple):
    """What a stack is trained to lower, by its outputs [..., C] for a sample.

    Args:
        target: what is right, in the form that `slope` takes: (y [R], C) -> [R, C].
        slope: derivatives of the loss by the outputs: (outputs, target) -> [..., C].
        of: losses of validation samples: (outputs [K, M, S, C], y [K, M]) -> [K, M, S].
    """

    target: Callable[[Tensor, int], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]
    of: Callable[[Tensor, Tensor], Tensor]


def _cross_entropy_slope(logits: Tensor, target: Tensor) -> Tensor:
    error = logits.softmax(-1)
    error -= target
    return error


def _cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    places = y[..., None, None].expand(*logits.shape[:-1], 1)
    return -logits.log_softmax(-1).gather(-1, places).squeeze(-1)


CROSS_ENTROPY = Loss(one_hot, _cross_entropy_slope, _cross_entropy)


def fit(
    train_x: Tensor,
    train_y: Tensor,
    validation_x: Tensor,
    validation_y: Tensor,
    *,
    classes: int,
    protocol: Protocol,
    seeds: Sequence[int],
    subsets: Sequence[Sequence[Tensor]] | None = None,
    validation_subsets: Sequence[Sequence[Tensor]] | None = None,
) -> LinearProbes:
    """Train linear classifiers (US-JEPA, section 4 and Table 6).

    AdamW on the mean cross-entropy of shuffled batches, learning rate annealed by a cosine once
    an epoch, stopped early on the validation loss. Each head is what `nn.Linear`, `AdamW` and
    `CosineAnnealingLR` give alone; its bits depend on no other stream.

    Args:
        train_x: [N, D] floating point; the probe computes in its dtype, on its device.
        train_y: int64 [N], codes below `classes`.
        validation_x: [M, D].
        validation_y: int64 [M].
        classes: C.
        protocol: standardisation, and `gradient` with all else.
        seeds: each has an initialisation and an order of its own.
        subsets: row numbers (int64) of the training images in use, one tensor a seed; None is
            one subset, of all rows.
        validation_subsets: the same for validation.

    Raises:
        UserError: the loss of a head was never finite.
    """
    data = ProbeData(train_x, train_y, validation_x, validation_y, classes)
    draws = streams(len(train_x), len(validation_x), seeds, subsets, validation_subsets)
    return train(data, draws, protocol)


def train(data: ProbeData, draws: Sequence[Stream], protocol: Protocol) -> LinearProbes:
    """`fit`, with the images and the streams that use them put together."""
    trained = by_stream(data, draws, protocol, CROSS_ENTROPY)
    return LinearProbes.joined([trained[stream] for stream in draws])


def by_stream(
    data: ProbeData, draws: Sequence[Stream], protocol: Protocol, loss: Loss
) -> dict[Stream, LinearProbes]:
    """The heads of each stream, trained to lower any loss; else as `train`."""
    with one_thread() as threads:
        groups = _groups(draws, threads if data.train_x.device.type == "cpu" else 1)
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(lambda group: _train(group, data, protocol, loss), groups))
    return {
        stream: probes
        for group, part in zip(groups, parts, strict=True)
        for stream, probes in zip(group, part, strict=True)
    }


def _groups(streams: Sequence[Stream], threads: int) -> list[list[Stream]]:
    """Streams of equal length, in parts for the threads, the longest first."""
    lengths = by_key(((len(one.rows), len(one.validation_rows)), one) for one in streams)
    groups = []
    for _, same in sorted(lengths.items(), reverse=True):
        size = -(-len(same) // threads)
        groups += [same[start : start + size] for start in range(0, len(same), size)]
    return groups


def _train(
    group: Sequence[Stream], data: ProbeData, protocol: Protocol, loss: Loss
) -> list[LinearProbes]:
    """Train the heads of streams of one length; the probes of each stream.

    Written out instead of autograd and one optimiser per head, because a loop over heads would pay
    a step's overhead for each. Adam's step depends on the learning rate by a factor only, so the
    stack holds weight / rate: one call steps all settings, and logits are multiplied by the rate.
    """
    gradient = protocol.gradient
    inputs = _inputs(group, data, protocol.standardize, loss)
    settings = torch.tensor(gradient.settings, dtype=torch.float64)
    rates, decays = settings.to(data.train_x).T  # [S] each

    width = data.train_x.shape[1]
    start = torch.stack([initial(stream.seed, data.classes, width) for stream in group])
    start = pad(start, (0, -(width + 1) % _LANES)).to(data.train_x)
    best = start.unsqueeze(1).repeat(1, len(rates), 1, 1)  # [K, S, C, P]
    stopping = EarlyStopping(group, gradient)
    weight = start.unsqueeze(1) / rates.view(-1, 1, 1)  # [K, S, C, P]
    moments = [torch.zeros_like(weight) for _ in range(2)]
    step = torch.zeros((), device=weight.device)
    orders = [
        torch.Generator().manual_seed(hashing.seed_for(stream.seed, "probe/order"))
        for stream in group
    ]
    alive = torch.arange(len(group))  # streams that still run
    validation_x, validation_y = inputs.validation_x, inputs.validation_y  # of these

    for epoch in range(gradient.max_epochs):
        annealed = (1 + cos(pi * epoch / gradient.max_epochs)) / 2
        kept = (1 - annealed * rates * decays).view(-1, 1, 1)  # what weight decay leaves
        order = torch.stack(
            [torch.randperm(inputs.rows.shape[1], generator=orders[k]) for k in alive.tolist()]
        )
        ordered = inputs.rows[alive].gather(1, order).to(weight.device)  # [K, N]
        for batch in torch.split(ordered, gradient.batch_size, dim=1):
            slope = _gradient(weight, rates, inputs.x, inputs.target, batch, loss)
            weight *= kept
            adamw(
                *([weight], [slope], moments[:1], moments[1:], [], [step]),
                fused=True,
                lr=annealed,
                weight_decay=0.0,
                **ADAM,
            )
        losses = _losses(weight, rates, validation_x, validation_y, loss)
        better, goes_on = stopping.take(alive, epoch, losses)
        place, setting = better.nonzero(as_tuple=True)
        best[alive[place], setting] = (weight * rates.view(-1, 1, 1))[place, setting]
        if not goes_on.any():
            break
        if not goes_on.all():
            alive, weight = alive[goes_on], weight[goes_on]
            moments = [moment[goes_on] for moment in moments]
            validation_x, validation_y = validation_x[goes_on], validation_y[goes_on]
    return [
        LinearProbes(
            stopping.heads(k),
            *inputs.scalers[k].folded(best[k, ..., :width], best[k, ..., width]),
            stopping.history[k],
        )
        for k in range(len(group))
    ]


ADAM: dict[str, Any] = {  # as torch.optim.AdamW has them
    **{"beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    **{"amsgrad": False, "maximize": False},
}


@dataclass(frozen=True)
class _Inputs:
    """What a group is trained on: x [R, P] and target [R, C], of which a stream uses `rows`."""

    x: Tensor
    target: Tensor
    rows: Tensor
    """int64 [K, N]."""
    validation_x: Tensor
    """[K, M, P]."""
    validation_y: Tensor
    """[K, M]."""
    scalers: list[Scaler]


def _inputs(group: Sequence[Stream], data: ProbeData, standardize: bool, loss: Loss) -> _Inputs:
    distinct = {id(stream.rows): stream.rows for stream in group}
    if standardize:  # by the images in use alone, so each subset has a copy of its own
        scalers = {key: Scaler.of(data.train_x[rows]) for key, rows in distinct.items()}
        x = torch.cat([scalers[key](data.train_x[rows]) for key, rows in distinct.items()])
        y = torch.cat([data.train_y[rows] for rows in distinct.values()])
        count = len(group[0].rows)
        start = {key: place * count for place, key in enumerate(distinct)}
        used = [torch.arange(count) + start[id(stream.rows)] for stream in group]
    else:
        scalers = dict.fromkeys(distinct, Scaler.neutral(data.train_x))
        x, y = data.train_x, data.train_y
        used = [stream.rows for stream in group]
    of_stream = [scalers[id(stream.rows)] for stream in group]
    if len({(id(s.validation_rows), id(o)) for s, o in zip(group, of_stream, strict=True)}) == 1:
        one = _padded(of_stream[0](data.validation_x[group[0].validation_rows]))
        validation_x = one.expand(len(group), *one.shape)
    else:
        validation_x = torch.stack(
            [
                _padded(scaler(data.validation_x[stream.validation_rows]))
                for stream, scaler in zip(group, of_stream, strict=True)
            ]
        )
    return _Inputs(
        _padded(x),
        loss.target(y, data.classes).to(x),
        torch.stack(used),
        validation_x,
        torch.stack([data.validation_y[stream.validation_rows] for stream in group]),
        of_stream,
    )


def _padded(x: Tensor) -> Tensor:
    """Features [..., D] as [..., P]: a column of ones for the bias, then zeros.

    P is a multiple of `_LANES`. Vector instructions treat what is left over at a tensor's end
    apart, so a head's bits would else depend on its place in the stack.
    """
    ones = torch.ones_like(x[..., :1])
    return pad(torch.cat([x, ones], -1), (0, -(x.shape[-1] + 1) % _LANES))


def initial(seed: int, classes: int, width: int) -> Tensor:
    """Weights and bias as `torch.nn.Linear` draws them, uniform within 1/sqrt(D): [C, D + 1]."""
    bound = width**-0.5
    generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))
    drawn: Tensor = torch.rand(classes, width + 1, generator=generator) * 2 * bound - bound
    return drawn


def _gradient(
    weight: Tensor, rates: Tensor, x: Tensor, target: Tensor, batch: Tensor, loss: Loss
) -> Tensor:
    """Of the mean loss of the rows `batch` [K, B], by the weights: [K, S, C, P]."""
    (k, s, c, width), size = weight.shape, batch.shape[1]
    inputs = x.index_select(0, batch.flatten()).view(k, size, width)
    outputs = torch.bmm(inputs, weight.view(k, s * c, width).mT).view(k, size, s, c)
    error = loss.slope(outputs * rates.unsqueeze(-1), target[batch].unsqueeze(2))
    error /= size
    return torch.bmm(error.view(k, size, s * c).mT, inputs).view_as(weight)


def _losses(weight: Tensor, rates: Tensor, x: Tensor, y: Tensor, loss: Loss) -> Tensor:
    """Mean loss of each head, [K, S], on x [K, M, P] and y [K, M]."""
    (k, s, c, width), count = weight.shape, x.shape[1]
    outputs = torch.bmm(x, weight.view(k, s * c, width).mT).view(k, count, s, c)
    losses: Tensor = loss.of(outputs * rates.unsqueeze(-1), y).mT.contiguous().mean(-1)
    return losses


PROBE = Probe(train, uses=by_gradient, tried=steps_tried, seconds=0.2)
