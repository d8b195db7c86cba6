"""The linear dense probe: one linear classifier says the class of each place of a feature map.

Batch normalisation and a 1 x 1 convolution, which is how DINOv2 and DINOv3 measure a frozen encoder
by segmentation. Its targets are the shares of the classes in a place; masks come from its logits,
which the scoring brings to the masks' own size.

All settings (learning rate, weight decay) of a stream see the same batches, so a batch is gathered
once for them and their logits are one batched matrix product. Streams run in threads.

N and M are the numbers of training and validation images, D of channels, h x w = P of places of a
map, S of settings, C of classes (0 is the background), B the batch size, H of heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import cos, pi, prod
from typing import Literal

import pydantic.dataclasses
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from ultrabench_eval.core import hashing
from ultrabench_eval.feature_rows import Features, InMemory
from ultrabench_eval.probes import dense_loss
from ultrabench_eval.probes.early_stopping import EarlyStopping
from ultrabench_eval.probes.heads import DataOf, Probes, Scaler, Stream, one_thread
from ultrabench_eval.probes.linear import ADAM, initial
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import _STRICT, Gradient, Protocol, _Count, _Grid

_BLOCK = 32  # images that are looked at together, which bounds the memory
_HELD = 1 << 29  # numbers: a part's maps that are more stay in shards, others in memory as float32

MapData = DataOf[Features]
"""Maps [N, D, h, w] and [M, D, h, w]; targets [N, C, h, w] and [M, C, h, w] (`dense_loss`)."""


@pydantic.dataclasses.dataclass(frozen=True, config=_STRICT)
class DenseSettings(Gradient):
    """How the dense probe is trained, and how its masks are made."""

    learning_rates: _Grid = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
    batch_size: _Count = 16
    max_epochs: _Count = 60
    patience: _Count = 10
    decision: Literal["argmax", "threshold"] = "argmax"
    """The headline's masks: the class of the highest logit, or the foreground's probability at or
    above a threshold that is chosen on validation. The other one is reported beside it."""


@dataclass(frozen=True)
class DenseProbes(Probes):
    """Trained heads; H = subsets x seeds x settings, the last varying fastest.

    Args:
        weight: [H, C, D], on maps as the encoder gives them.
        bias: [H, C].
        history: validation loss (see `dense_loss`) after every epoch, [H, E]; NaN once a head has
            stopped.
    """

    weight: Tensor
    bias: Tensor
    history: Tensor

    def predict(self, x: Features | Tensor) -> Tensor:
        """Logits of maps [N, D, h, w]: float16 [H, N, C, h, w] on the CPU."""
        x = InMemory(x) if isinstance(x, Tensor) else x
        (heads, classes), (count, _, *grid) = self.bias.shape, x.shape
        found = torch.empty(heads, count, classes, *grid, dtype=torch.float16)
        places = torch.split(found.flatten(3), _BLOCK, dim=1)
        for block, into in zip(x.batches(_BLOCK), places, strict=True):
            logits = _logits(self.weight, self.bias, block.flatten(2).to(self.weight))
            into.copy_(logits.transpose(0, 1))
        return found

    def predict_proba(self, x: Features | Tensor) -> Tensor:
        """`predict`."""
        return self.predict(x)


def train(data: MapData, draws: Sequence[Stream], protocol: Protocol) -> DenseProbes:
    """Train linear dense probes by AdamW on the `dense_loss` of shuffled batches.

    The learning rate is annealed by a cosine once an epoch; training stops early on the loss of all
    validation images taken together. Each head is what `nn.BatchNorm2d` (without its affine part,
    with the mean and variance of the training images in use) and `nn.Conv2d` give alone; its bits
    depend on no other stream.

    Args:
        data: its maps, of any floating dtype; computed in float32 or, if they have it, float64.
        draws: the streams.
        protocol: standardisation, and `DenseSettings`.

    Raises:
        UserError: the loss of a head was never finite.
    """
    settings: DenseSettings = protocol.of("dense")
    distinct = {id(stream.rows): stream.rows for stream in draws}
    with one_thread() as threads, ThreadPoolExecutor(threads) as pool:
        training = _Maps(data.train_x, data.train_y)
        validation = _Maps(data.validation_x, data.validation_y)
        scaler = training.scaler if protocol.standardize else training.neutral
        scalers = dict(zip(distinct, pool.map(scaler, distinct.values()), strict=True))

        def fit(stream: Stream) -> DenseProbes:
            return _train(stream, training, validation, scalers[id(stream.rows)], settings)

        return DenseProbes.joined(list(pool.map(fit, draws)))


class _Maps:
    """Maps as [N, D, P], with their targets [N, C, P].

    Args:
        x: [N, D, h, w]; if they are not many, they are in memory from now on.
        target: [N, C, h, w].
    """

    def __init__(self, x: Features, target: Tensor) -> None:
        self._x = x
        self.dtype = torch.promote_types(x.dtype, torch.float32)
        self.shape = x.shape[1], prod(x.shape[2:])  # D and P
        self.target = target.flatten(2).to(self.dtype)
        self._held: Tensor | None = None
        if len(x) * prod(self.shape) <= _HELD:
            held = torch.empty(len(x), *self.shape, dtype=self.dtype)
            for rows in torch.split(torch.arange(len(x)), _BLOCK):
                self.read(rows, held[rows[0] :])
            self._held = held

    def read(self, rows: Tensor, into: Tensor) -> Tensor:
        """The maps of K images, the first K of `into`, whose others stay as they are."""
        into = into[: len(rows)]
        if self._held is None:
            return into.copy_(self._x.rows(rows).flatten(2))
        return torch.index_select(self._held, 0, rows, out=into)

    def neutral(self, rows: Tensor) -> Scaler:
        """The one that leaves maps as they are."""
        return Scaler.neutral(torch.zeros(1, self.shape[0], dtype=self.dtype))

    def scaler(self, rows: Tensor) -> Scaler:
        """By the mean and deviation of each channel over the places of `rows`, by their weight."""
        into = torch.empty(_BLOCK, *self.shape, dtype=self.dtype)
        first, second = torch.zeros(2, self.shape[0], dtype=torch.float64)
        for block in torch.split(rows, _BLOCK):
            x = self.read(block, into).double()
            weight = self.target[block].sum(1, dtype=torch.float64).unsqueeze(-1)  # [K, P, 1]
            first += (x @ weight).sum(0).squeeze(-1)
            second += (x.square_() @ weight).sum(0).squeeze(-1)
        total = self.target[rows].sum(dtype=torch.float64)
        mean = first / total
        deviation = (second / total - mean.square()).clamp(min=0).sqrt()
        return Scaler.from_moments(mean.to(self.dtype), deviation.to(self.dtype))


def _train(
    stream: Stream, training: _Maps, validation: _Maps, scaler: Scaler, settings: DenseSettings
) -> DenseProbes:
    """All settings of a stream; written out as `linear._train`, which explains the step."""
    pairs = torch.tensor(settings.settings, dtype=torch.float64).to(training.dtype)
    rates, decays = pairs.T[..., None, None]  # [S, 1, 1] each
    channels, classes = len(scaler.mean), training.target.shape[1]
    start = initial(stream.seed, classes, channels).to(training.dtype)
    best = start.repeat(len(pairs), 1, 1)  # [S, C, D + 1]
    weight = start / rates
    moments = [torch.zeros_like(weight) for _ in range(2)]
    step = torch.zeros(())
    order = torch.Generator().manual_seed(hashing.seed_for(stream.seed, "probe/order"))
    stopping = EarlyStopping([stream], settings)
    alone = torch.zeros(1, dtype=torch.int64)  # its position
    slope = torch.empty_like(weight)
    into = torch.empty(max(settings.batch_size, _BLOCK), *training.shape, dtype=training.dtype)
    mean = scaler.mean.unsqueeze(-1)

    for epoch in range(settings.max_epochs):
        annealed = (1 + cos(pi * epoch / settings.max_epochs)) / 2
        kept = 1 - annealed * rates * decays  # what weight decay leaves
        shuffled = stream.rows[torch.randperm(len(stream.rows), generator=order)]
        for rows in torch.split(shuffled, settings.batch_size):
            x = training.read(rows, into).sub_(mean)
            logits = _logits(*_split(weight * rates, scaler), x)
            error = dense_loss.slope(logits, training.target[rows]).flatten(1, 2)  # [B, S C, P]
            by_weight = torch.bmm(error, x.mT).sum(0).view_as(slope[..., :-1])
            torch.div(by_weight, scaler.deviation, out=slope[..., :-1])
            slope[..., -1] = error.sum((0, 2)).view_as(slope[..., -1])
            weight *= kept
            adamw(
                *([weight], [slope], moments[:1], moments[1:], [], [step]),
                fused=True,
                lr=annealed,
                weight_decay=0.0,
                **ADAM,
            )
        now = weight * rates
        loss = dense_loss.Loss(len(pairs), classes)
        for rows in torch.split(stream.validation_rows, _BLOCK):
            x = validation.read(rows, into).sub_(mean)
            loss.add(_logits(*_split(now, scaler), x), validation.target[rows])
        (better,), goes_on = stopping.take(alone, epoch, loss.value().unsqueeze(0))
        best[better] = now[better]
        if not goes_on.any():
            break
    return DenseProbes(
        stopping.heads(0), *scaler.folded(best[..., :-1], best[..., -1]), stopping.history[0]
    )


def _split(weight: Tensor, scaler: Scaler) -> tuple[Tensor, Tensor]:
    """Weights [S, C, D] on maps less their mean, and biases [S, C], of [S, C, D + 1]."""
    return weight[..., :-1] / scaler.deviation, weight[..., -1]


def _logits(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """[B, S, C, P] of weights [S, C, D], biases [S, C] and maps [B, D, P]."""
    every = weight.flatten(0, 1).expand(len(x), -1, -1)
    return torch.baddbmm(bias.reshape(1, -1, 1), every, x).view(len(x), *bias.shape, -1)


PROBE = Probe(
    train,
    settings=DenseSettings,
    tried=lambda protocol: len(protocol.of("dense").settings),
    reads="maps",
    seconds=1.0,
    gives=DenseProbes,
)
