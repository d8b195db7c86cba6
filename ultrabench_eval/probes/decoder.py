"""The light decoder: a small convolutional network on a feature map, its grid twice as fine.

A linear head on 14 x 14 places cannot follow a thin structure. This is the second figure beside it,
which measures the encoder less purely. On standardised maps:

    1 x 1 to 64, ReLU, 3 x 3 to 64, ReLU, transposed 2 x 2 of stride 2 to 32, ReLU, 1 x 1 to C

The form and the widths are this project's.

H is the number of heads, S of settings, C of classes, D of channels, h x w = P of places of a map,
B of images, K of a network's parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import pydantic.dataclasses
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from ultrabench_eval.core import hashing
from ultrabench_eval.feature_rows import Features
from ultrabench_eval.probes import dense_loss, dense_training
from ultrabench_eval.probes.dense_training import MapData, MapNetworks, MapSettings
from ultrabench_eval.probes.heads import Probes, Scaler, Stream
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import STRICT, Count, Protocol, Values

_FINER, _WIDTH, _LAST = 2, 64, 32


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class DecoderSettings(MapSettings):
    """How the decoder is trained, and how its masks are made."""

    learning_rates: Values = (3e-4, 1e-3, 3e-3)
    max_epochs: Count = 40


@dataclass(frozen=True)
class DecoderProbes(Probes):
    """Trained heads; H = subsets x seeds x settings, the last varying fastest.

    Args:
        parameters: [H, K], of networks that read maps as the encoder gives them; see `_shapes`.
        history: validation loss (see `dense_loss`) after every epoch, [H, E]; NaN once a head has
            stopped.
    """

    parameters: Tensor
    history: Tensor

    def predict(self, x: Features | Tensor) -> Tensor:
        """Logits of maps [N, D, h, w]: float16 [H, N, C, 2 h, 2 w] on the CPU."""
        layers = _layers(self.parameters, x.shape[1])
        return dense_training.predict(
            *(x, lambda block: _logits(layers, block), self.parameters.dtype, _FINER)
        )


def train(data: MapData, draws: Sequence[Stream], protocol: Protocol) -> DecoderProbes:
    """Train light decoders; see `dense_training.train`.

    Args:
        data: its targets are on the finer grid, [N, C, 2 h, 2 w].
        draws: the streams.
        protocol: standardisation, and `DecoderSettings`.
    """
    _, _, *grid = data.train_x.shape
    classes = data.train_y.shape[1]
    trained = dense_training.train(
        *(data, draws, protocol.of("decoder"), protocol.standardize),
        lambda scaler: _Decoders(scaler, classes, grid),
    )
    parts = []
    for heads, parameters, history, scaler in trained:
        layers = _layers(parameters, len(scaler.mean))
        layers[:2] = scaler.folded(*layers[:2])
        raw = torch.cat([layer.flatten(1) for layer in layers], 1)
        parts.append(DecoderProbes(heads, raw, history))
    return DecoderProbes.joined(parts)


class _Decoders(MapNetworks):
    """Settings side by side, as groups of the same convolutions; gradients by autograd."""

    def __init__(self, scaler: Scaler, classes: int, grid: Sequence[int]) -> None:
        self._deviation, self._classes, self._grid = scaler.deviation, classes, tuple(grid)

    def start(self, seed: int) -> Tensor:
        """As `nn.Conv2d` and `nn.ConvTranspose2d` draw them: uniform within 1/sqrt(fan in)."""
        generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))
        shapes = _shapes(len(self._deviation), self._classes)
        parts = []
        for weight, bias in zip(shapes[::2], shapes[1::2], strict=True):
            bound = prod(weight[1:]) ** -0.5
            drawn = torch.rand(prod(weight) + prod(bias), generator=generator)
            parts.append(drawn * 2 * bound - bound)
        return torch.cat(parts)

    def logits(self, parameters: Tensor, x: Tensor) -> Tensor:
        narrow, *others = _layers(parameters, len(self._deviation))
        return _logits([narrow / self._deviation, *others], x.view(*x.shape[:2], *self._grid))

    def slope(self, parameters: Tensor, x: Tensor, target: Tensor) -> Tensor:
        leaf = parameters.detach().requires_grad_()
        logits = self.logits(leaf, x)
        (found,) = torch.autograd.grad(logits, leaf, dense_loss.slope(logits.detach(), target))
        return found


def _shapes(channels: int, classes: int) -> list[tuple[int, ...]]:
    """Of the four convolutions' weights and biases, in their order among the K parameters."""
    return [
        *((_WIDTH, channels), (_WIDTH,)),
        *((_WIDTH, _WIDTH, 3, 3), (_WIDTH,)),
        *((_WIDTH, _LAST, _FINER, _FINER), (_LAST,)),
        *((classes, _LAST), (classes,)),
    ]


def _layers(parameters: Tensor, channels: int) -> list[Tensor]:
    """Parameters [S, K] as `_shapes` has them, each with a leading S."""
    before = sum(map(prod, _shapes(channels, 0)))
    shapes = _shapes(channels, (parameters.shape[1] - before) // (_LAST + 1))
    parts = torch.split(parameters, [prod(shape) for shape in shapes], dim=1)
    return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def _logits(layers: Sequence[Tensor], x: Tensor) -> Tensor:
    """[B, S, C, 4 P] of layers [S, ...] and maps [B, D, h, w]."""
    narrow, narrow_bias, mix, mix_bias, widen, widen_bias, weight, bias = layers
    count = len(narrow)
    x = conv2d(x, narrow.flatten(0, 1)[..., None, None], narrow_bias.flatten()).relu_()
    x = conv2d(x, mix.flatten(0, 1), mix_bias.flatten(), padding=1, groups=count).relu_()
    x = conv_transpose2d(
        x, widen.flatten(0, 1), widen_bias.flatten(), stride=_FINER, groups=count
    ).relu_()
    x = conv2d(x, weight.flatten(0, 1)[..., None, None], bias.flatten(), groups=count)
    return x.view(len(x), count, -1, prod(x.shape[2:]))


PROBE = Probe(
    train,
    settings=DecoderSettings,
    tried=lambda protocol: len(protocol.of("decoder").settings),
    predicts="masks",
    reads="maps",
    finer=_FINER,
    seconds=10.0,
    gives=DecoderProbes,
)
