"""The attentive probe: a learned query weighs the patch tokens, a linear classifier reads the sum.

For encoders whose mean over tokens hides what a few of them know. Trained as the linear probe is,
but with autograd: here reading the tokens takes the time, not the steps' overhead. A batch of
tokens is in memory at a time. If they are standardised, mean and deviation are first worked out
from some of their columns at a time: `_NUMBERS` numbers, or 64 per token where that is more.

N is the number of training images, T of tokens, D their width, B the batch size, S the number of
settings, C of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ultrabench_eval.core import hashing
from ultrabench_eval.feature_rows import Features, InMemory
from ultrabench_eval.probes.early_stopping import EarlyStopping
from ultrabench_eval.probes.heads import Probes, Scaler, Stream, TokenData, one_thread
from ultrabench_eval.probes.linear import initial
from ultrabench_eval.probes.probe import Probe, by_gradient, steps_tried
from ultrabench_eval.protocol import Protocol

_BLOCK = 256  # images whose tokens are looked at at a time, which bounds the memory
_COLUMNS = 64  # that torch adds up together, four of the widest vector registers
_NUMBERS = 1 << 26  # of all tokens that are in memory at a time to standardise them


@dataclass(frozen=True)
class AttentiveProbes(Probes):
    """Trained heads; H = subsets x seeds x settings, the last varying fastest.

    Args:
        query: [H, D], on tokens as the encoder gives them.
        weight: [H, C, D].
        bias: [H, C].
        history: validation loss (nats) after every epoch, [H, E]; NaN once a head has stopped.
    """

    query: Tensor
    weight: Tensor
    bias: Tensor
    history: Tensor

    def predict(self, x: Features | Tensor) -> Tensor:
        """Class probabilities [H, N, C] of tokens [N, T, D]."""
        x = InMemory(x) if isinstance(x, Tensor) else x
        parameters = _Parameters(self.query, self.weight, self.bias)
        blocks = [
            _logits(parameters, block.to(self.query)).softmax(-1) for block in x.batches(_BLOCK)
        ]
        return torch.cat(blocks, 1)


def train(data: TokenData, draws: Sequence[Stream], protocol: Protocol) -> AttentiveProbes:
    """Train attentive classifiers: one query, softmax over tokens of x q / sqrt(D), then linear.

    The attentive pooling of V-JEPA (arXiv 2404.08471, section 4) with one head and no block behind
    it. The query starts at 0, which is the mean over tokens. Optimiser, schedule and early stopping
    are those of `linear.fit`.

    Args:
        data: its tokens, of any floating dtype; computed in float32 or, if they have it, float64.
        draws: the streams.
        protocol: standardisation, and `gradient` with all else.

    Raises:
        UserError: the loss of a head was never finite.
    """
    dtype = torch.promote_types(data.train_x.dtype, torch.float32)
    first = data.train_x.rows(torch.zeros(1, dtype=torch.int64))[0].to(dtype)
    scalers: dict[int, Scaler] = {}  # of streams that share their images
    parts = []
    with one_thread():
        for stream in draws:
            if (images := id(stream.rows)) not in scalers:
                scalers[images] = (
                    _scaler(data.train_x, stream.rows, dtype)
                    if protocol.standardize
                    else Scaler.neutral(first)
                )
            parts.append(_train(stream, data, scalers[images], protocol))
    return AttentiveProbes.joined(parts)


def _scaler(x: Features, rows: Tensor, dtype: torch.dtype) -> Scaler:
    """`Scaler.of` all tokens of some images, to the bit.

    Made of some columns after the other. They are multiples of `_COLUMNS`, and what is left over
    goes with the last ones, because torch adds up the rows of a tensor in another order in columns
    that do not fill its vector registers.
    """
    _, tokens, width = x.shape
    count = len(rows) * tokens
    step = max(1, _NUMBERS // (count * _COLUMNS)) * _COLUMNS
    starts = range(0, max(width - _COLUMNS, 0) + 1, step)
    means, deviations = [], []
    for start, end in zip(starts, (*starts[1:], width), strict=True):
        part = torch.empty(count, end - start, dtype=dtype)
        for block, index in zip(
            torch.split(part, _BLOCK * tokens), torch.split(rows, _BLOCK), strict=True
        ):
            block.copy_(x.rows(index)[..., start:end].flatten(0, 1))
        mean, deviation = part.mean(0), part.std(0, correction=0)
        means.append(mean)
        deviations.append(deviation)
    return Scaler.from_moments(torch.cat(means), torch.cat(deviations))


def _train(stream: Stream, data: TokenData, scaler: Scaler, protocol: Protocol) -> AttentiveProbes:
    """All settings of a stream, on the same batches."""
    gradient = protocol.gradient
    dtype = scaler.mean.dtype
    settings = [_initial(stream.seed, data, dtype) for _ in gradient.settings]
    optimizer = torch.optim.AdamW(
        [
            {"params": [*parameters], "lr": rate, "weight_decay": decay}
            for parameters, (rate, decay) in zip(settings, gradient.settings, strict=True)
        ],
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, gradient.max_epochs)
    order = torch.Generator().manual_seed(hashing.seed_for(stream.seed, "probe/order"))
    stopping = EarlyStopping([stream], gradient)
    alone = torch.zeros(1, dtype=torch.int64)  # its position
    kept = _Parameters(*(stacked.detach().clone() for stacked in _stacked(settings)))
    for epoch in range(gradient.max_epochs):
        shuffled = stream.rows[torch.randperm(len(stream.rows), generator=order)]
        for rows in torch.split(shuffled, gradient.batch_size):
            logits = _logits(_stacked(settings), scaler(data.train_x.rows(rows).to(dtype)))
            optimizer.zero_grad()
            torch.autograd.backward(_losses(logits, data.train_y[rows]).sum())
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            now = _stacked(settings)
            loss = _validation_losses(now, stream.validation_rows, data, scaler)
        (better,), goes_on = stopping.take(alone, epoch, loss.unsqueeze(0))
        for old, new in zip(kept, now, strict=True):
            old[better] = new[better]
        if not goes_on.any():
            break
    query, weight, bias = kept
    # The mean's part of the query's product is alike for all tokens, so the softmax drops it.
    return AttentiveProbes(
        stopping.heads(0),
        query / scaler.deviation,
        *scaler.folded(weight, bias),
        stopping.history[0],
    )


class _Parameters(NamedTuple):
    """Query, weight and bias: [D], [C, D] and [C], or stacked."""

    query: Tensor
    weight: Tensor
    bias: Tensor


def _initial(seed: int, data: TokenData, dtype: torch.dtype) -> _Parameters:
    """Query 0; weights and bias as `torch.nn.Linear` draws them."""
    width = data.train_x.shape[-1]
    draw = initial(seed, data.classes, width)
    start = torch.zeros(width), draw[:, :-1].contiguous(), draw[:, -1].contiguous()
    return _Parameters(*(t.to(dtype).requires_grad_() for t in start))


def _stacked(settings: Sequence[_Parameters]) -> _Parameters:
    """Query [S, D], weight [S, C, D] and bias [S, C] of all settings."""
    return _Parameters(*(torch.stack(part) for part in zip(*settings, strict=True)))


def _logits(parameters: _Parameters, x: Tensor) -> Tensor:
    """[S, B, C] of tokens [B, T, D]."""
    query, weight, bias = parameters
    attention = (x @ query.mT * x.shape[-1] ** -0.5).softmax(1)  # [B, T, S]
    pooled = attention.mT @ x  # [B, S, D]
    return torch.baddbmm(bias.unsqueeze(1), pooled.transpose(0, 1), weight.mT)


def _losses(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy of each setting, [S]."""
    flat = cross_entropy(logits.flatten(0, 1), y.repeat(len(logits)), reduction="none")
    return flat.view(len(logits), -1).mean(1)


def _validation_losses(
    parameters: _Parameters, rows: Tensor, data: TokenData, scaler: Scaler
) -> Tensor:
    """Of each setting, float64 [S]."""
    blocks = [
        _logits(parameters, scaler(data.validation_x.rows(block).to(parameters.query)))
        for block in torch.split(rows, _BLOCK)
    ]
    return _losses(torch.cat(blocks, 1), data.validation_y[rows]).double().cpu()


PROBE = Probe(
    train, uses=by_gradient, tried=steps_tried, reads="tokens", seconds=3.0, gives=AttentiveProbes
)
