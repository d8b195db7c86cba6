"""The linear dense probe: one linear classifier says the class of each place of a feature map.

Batch normalisation and a 1 x 1 convolution, which is how DINOv2 and DINOv3 measure a frozen encoder
by segmentation. Its targets are the shares of the classes in a place; masks come from its logits,
which the scoring brings to the masks' own size.

H is the number of heads, S of settings, C of classes, D of channels, P of places of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pydantic.dataclasses
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ultrabench_eval.feature_rows import Features
from ultrabench_eval.probes import dense_loss, dense_training
from ultrabench_eval.probes.dense_training import MapData, MapNetworks, MapSettings
from ultrabench_eval.probes.heads import Probes, Scaler, Stream
from ultrabench_eval.probes.linear import initial
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import STRICT, Count, Protocol


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class DenseSettings(MapSettings):
    """How the linear dense probe is trained, and how its masks are made."""

    finer: Count = 1
    """By how many times the grid on which the loss is taken is finer than the map's; logits are
    brought to it bilinearly. With 16, a map of stride 16 is trained at the input's own pixels, some
    hundred times as slow."""


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
        return dense_training.predict(
            x, lambda block: _logits(self.weight, self.bias, block.flatten(2)), self.weight.dtype, 1
        )


def train(data: MapData, draws: Sequence[Stream], protocol: Protocol) -> DenseProbes:
    """Train linear dense probes; see `dense_training.train`.

    Each head is what `nn.Conv2d` gives alone on standardised maps.

    Args:
        data: targets are [N, C, finer h, finer w], by the settings' `finer`.
        draws: the streams.
        protocol: standardisation, and `DenseSettings`.
    """
    classes, grids = data.train_y.shape[1], (data.train_x.shape[2:], data.train_y.shape[2:])
    trained = dense_training.train(
        *(data, draws, protocol.of("dense"), protocol.standardize),
        lambda scaler: _Linear(scaler, classes, *grids),
    )
    parts = []
    for heads, parameters, history, scaler in trained:
        table = parameters.view(len(heads), classes, -1)
        parts.append(DenseProbes(heads, *scaler.folded(table[..., :-1], table[..., -1]), history))
    return DenseProbes.joined(parts)


class _Linear(MapNetworks):
    """Parameters are weights and bias [C, D + 1], on standardised maps.

    The gradient is written out, because autograd would take longer than the products themselves.
    """

    def __init__(
        self, scaler: Scaler, classes: int, grid: Sequence[int], taught: Sequence[int]
    ) -> None:
        self._deviation, self._classes = scaler.deviation, classes
        self._grid, self._taught = list(grid), list(taught)

    def start(self, seed: int) -> Tensor:
        return initial(seed, self._classes, len(self._deviation)).flatten()

    def logits(self, parameters: Tensor, x: Tensor) -> Tensor:
        table = parameters.view(len(parameters), self._classes, -1)
        logits = _logits(table[..., :-1] / self._deviation, table[..., -1], x)
        if self._grid == self._taught:
            return logits
        maps = logits.view(len(x), -1, *self._grid)
        return interpolate(maps, self._taught, mode="bilinear").view(*logits.shape[:3], -1)

    def slope(self, parameters: Tensor, x: Tensor, target: Tensor) -> Tensor:
        error = dense_loss.slope(self.logits(parameters, x), target).flatten(1, 2)
        if self._grid != self._taught:
            size = [*error.shape[:2], *self._grid]
            error = torch.ops.aten.upsample_bilinear2d_backward(
                error.view(*size[:2], *self._taught), self._taught, size, False
            ).flatten(2)
        # error is [B, S C, P] from here on.
        by_weight = torch.bmm(error, x.mT).sum(0) / self._deviation
        by_bias = error.sum((0, 2)).unsqueeze(-1)
        return torch.cat([by_weight, by_bias], 1).view_as(parameters)


def _logits(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """[B, H, C, P] of weights [H, C, D], biases [H, C] and maps [B, D, P]."""
    every = weight.flatten(0, 1).expand(len(x), -1, -1)
    return torch.baddbmm(bias.reshape(1, -1, 1), every, x).view(len(x), *bias.shape, -1)


PROBE = Probe(
    train,
    settings=DenseSettings,
    tried=lambda protocol: len(protocol.of("dense").settings),
    predicts="masks",
    reads="maps",
    seconds=0.02,
    gives=DenseProbes,
)
