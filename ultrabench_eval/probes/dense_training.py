"""How probes of feature maps are trained: all settings of a stream at once, streams in threads.

All settings (learning rate, weight decay) of a stream see the same batches, so a batch is gathered
once for them, and what they compute is stacked.

N is the number of images, D of channels, h x w = P of places of a map, S of settings, C of classes
(0 is the background), B the batch size, K of a network's parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import cos, pi, prod
from typing import Literal, NamedTuple

import pydantic.dataclasses
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torch.optim.adamw import adamw

from ultrabench_eval.core import hashing
from ultrabench_eval.feature_rows import Features, InMemory
from ultrabench_eval.probes import dense_loss
from ultrabench_eval.probes.early_stopping import EarlyStopping
from ultrabench_eval.probes.heads import DataOf, Head, Scaler, Stream, one_thread
from ultrabench_eval.probes.linear import ADAM
from ultrabench_eval.protocol import STRICT, Count, Gradient, Values

_BLOCK = 32  # images that are looked at together, which bounds the memory
_HELD = 1 << 29  # numbers: a part's maps that are more stay in shards, others in memory as float32

MapData = DataOf[Features]
"""Maps [N, D, h, w] and [M, D, h, w], and their targets (`dense_loss`)."""


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class MapSettings(Gradient):
    """How a probe of maps is trained, and how its masks are made."""

    learning_rates: Values = (3e-3, 1e-2, 3e-2, 1e-1)
    batch_size: Count = 16
    max_epochs: Count = 40
    patience: Count = 8
    decision: Literal["argmax", "threshold"] = "argmax"
    """The headline's masks: the class of the highest logit, or the foreground's probability at or
    above a threshold that is chosen on validation. The other one is reported beside it."""


class MapNetworks(ABC):
    """Networks of one form, one a setting, from standardised maps to logits.

    Their parameters are rows of a matrix [S, K].
    """

    dice: bool = True
    """Whether soft Dice is a part of their loss."""

    @abstractmethod
    def start(self, seed: int) -> Tensor:
        """A network's first parameters, float32 [K]."""

    @abstractmethod
    def logits(self, parameters: Tensor, x: Tensor) -> Tensor:
        """[B, S, C, P'] of maps less their mean, [B, D, P]; P' are the places of the answers."""

    @abstractmethod
    def slope(self, parameters: Tensor, x: Tensor, target: Tensor) -> Tensor:
        """Gradient of `dense_loss` by the parameters, [S, K]; target [B, C, P']."""


class Trained(NamedTuple):
    """The networks of a stream, all of its settings: parameters [S, K], history [S, E]."""

    heads: tuple[Head, ...]
    parameters: Tensor
    history: Tensor
    scaler: Scaler


def train(
    data: MapData,
    draws: Sequence[Stream],
    settings: MapSettings,
    standardize: bool,
    form: Callable[[Scaler], MapNetworks],
) -> list[Trained]:
    """Train networks by AdamW on the `dense_loss` of shuffled batches, for each stream.

    The learning rate is annealed by a cosine once an epoch; training stops early on the loss of all
    validation images taken together. Maps are standardised as `nn.BatchNorm2d` would do it without
    an affine part, with the mean and variance of the training images in use. The bits of a head
    depend on no other stream.

    Args:
        data: maps of any floating dtype; computed in float32 or, if they have it, float64.
        draws: the streams.
        settings: all else.
        standardize: else maps are used as the encoder gives them.
        form: the networks for maps with this mean and deviation.

    Raises:
        UserError: the loss of a head was never finite.
    """
    distinct = {id(stream.rows): stream.rows for stream in draws}
    with one_thread() as threads, ThreadPoolExecutor(threads) as pool:
        training = _Maps(data.train_x, data.train_y)
        validation = _Maps(data.validation_x, data.validation_y)
        scaler = training.scaler if standardize else training.neutral
        scalers = dict(zip(distinct, pool.map(scaler, distinct.values()), strict=True))

        def fit(stream: Stream) -> Trained:
            scaler = scalers[id(stream.rows)]
            return _train(stream, training, validation, scaler, form(scaler), settings)

        return list(pool.map(fit, draws))


class _Maps:
    """Maps as [N, D, P], with their targets [N, C, P'].

    Args:
        x: [N, D, h, w]; if they are not many, they are in memory from now on.
        target: [N, C, h', w'].
    """

    def __init__(self, x: Features, target: Tensor) -> None:
        self._x = x
        self.dtype = torch.promote_types(x.dtype, torch.float32)
        self.shape = x.shape[1], prod(x.shape[2:])  # D and P
        # How much of each place shows the image and is not ignored, [N, P, 1].
        shown = adaptive_avg_pool2d(target.sum(1), (x.shape[2], x.shape[3]))
        self._weight = shown.flatten(1).unsqueeze(-1).double()
        self.target = target.flatten(2).to(self.dtype)
        self._held: Tensor | None = None
        if len(x) * prod(self.shape) <= _HELD:
            held = torch.empty(len(x), *self.shape, dtype=self.dtype)
            for rows in torch.split(torch.arange(len(x)), _BLOCK):
                self.read(rows, held[rows[0] :])
            self._held = held

    def read(self, rows: Tensor, into: Tensor) -> Tensor:
        """The maps of R images, in the first R rows of `into`."""
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
        image = torch.empty(1, *self.shape, dtype=torch.float64)  # one at a time stays in the cache
        first, second = torch.zeros(2, self.shape[0], dtype=torch.float64)
        for block in torch.split(rows, _BLOCK):
            sums = torch.empty(2, len(block), self.shape[0], 1, dtype=torch.float64)
            for place, x in enumerate(self.read(block, into)):
                weight = self._weight[block[place]].unsqueeze(0)
                torch.bmm(image.copy_(x), weight, out=sums[0, place : place + 1])
                torch.bmm(image.square_(), weight, out=sums[1, place : place + 1])
            first += sums[0].sum(0).squeeze(-1)
            second += sums[1].sum(0).squeeze(-1)
        total = self._weight[rows].sum()
        mean = first / total
        deviation = (second / total - mean.square()).clamp(min=0).sqrt()
        return Scaler.from_moments(mean.to(self.dtype), deviation.to(self.dtype))


def _train(
    stream: Stream,
    training: _Maps,
    validation: _Maps,
    scaler: Scaler,
    networks: MapNetworks,
    settings: MapSettings,
) -> Trained:
    """All settings of a stream; one call steps them all, as `linear._train` explains."""
    pairs = torch.tensor(settings.settings, dtype=torch.float64).to(training.dtype)
    rates, decays = pairs.T.unsqueeze(-1)  # [S, 1] each
    best = networks.start(stream.seed).to(training.dtype).repeat(len(pairs), 1)
    held = best / rates
    moments = [torch.zeros_like(held) for _ in range(2)]
    step = torch.zeros(())
    order = torch.Generator().manual_seed(hashing.seed_for(stream.seed, "probe/order"))
    stopping = EarlyStopping([stream], settings)
    alone = torch.zeros(1, dtype=torch.int64)  # its position
    into = torch.empty(max(settings.batch_size, _BLOCK), *training.shape, dtype=training.dtype)
    mean = scaler.mean.unsqueeze(-1)

    for epoch in range(settings.max_epochs):
        annealed = (1 + cos(pi * epoch / settings.max_epochs)) / 2
        kept = 1 - annealed * rates * decays  # what weight decay leaves
        shuffled = stream.rows[torch.randperm(len(stream.rows), generator=order)]
        for rows in torch.split(shuffled, settings.batch_size):
            x = training.read(rows, into).sub_(mean)
            slope = networks.slope(held * rates, x, training.target[rows])
            held *= kept
            adamw(
                *([held], [slope], moments[:1], moments[1:], [], [step]),
                fused=True,
                lr=annealed,
                weight_decay=0.0,
                **ADAM,
            )
        now = held * rates
        loss = dense_loss.LossOfMany(len(pairs), training.target.shape[1], networks.dice)
        for rows in torch.split(stream.validation_rows, _BLOCK):
            x = validation.read(rows, into).sub_(mean)
            with torch.no_grad():
                loss.add(networks.logits(now, x), validation.target[rows])
        (better,), goes_on = stopping.take(alone, epoch, loss.value().unsqueeze(0))
        best[better] = now[better]
        if not goes_on.any():
            break
    return Trained(stopping.heads(0), best, stopping.history[0], scaler)


def predict(
    x: Features | Tensor, logits: Callable[[Tensor], Tensor], dtype: torch.dtype, finer: int
) -> Tensor:
    """What trained heads say of maps, some at a time.

    Args:
        x: [N, D, h, w].
        logits: of [B, D, h, w], which it gives as [B, H, C, P'].
        dtype: in which it computes.
        finer: by how many times the grid of its answers is finer than the map's.

    Returns:
        float16 [H, N, C, finer h, finer w] on the CPU.
    """
    x = InMemory(x) if isinstance(x, Tensor) else x
    parts = [logits(block.to(dtype)).transpose(0, 1).half() for block in x.batches(_BLOCK)]
    found = torch.cat(parts, 1)
    return found.view(*found.shape[:-1], *(finer * side for side in x.shape[2:]))
