"""The light decoder: a small convolutional network on a feature map, its grid twice as fine.

A linear head on 14 x 14 places cannot follow a thin structure. This is the second figure beside it,
which measures the encoder less purely. On standardised maps:

    1 x 1 to 64, ReLU, 3 x 3 to 64, ReLU, transposed 2 x 2 of stride 2 to 32, ReLU, 1 x 1 to C

The form and the widths are this project's.

S is the number of settings, C of classes, D of channels, h x w = P of places of a map, B of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import pydantic.dataclasses
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from ultrabench_eval.probes.convolutions import ConvolutionForm, ConvolutionProbes
from ultrabench_eval.probes.dense_training import MapData, MapSettings
from ultrabench_eval.probes.heads import Stream
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import STRICT, Count, Protocol, Values

_FINER, _WIDTH, _LAST = 2, 64, 32


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class DecoderSettings(MapSettings):
    """How the decoder is trained, and how its masks are made."""

    learning_rates: Values = (3e-4, 1e-3, 3e-3)
    max_epochs: Count = 40


def _shapes(channels: int, classes: int) -> list[tuple[int, ...]]:
    """Of the four convolutions' weights and biases."""
    return [
        *((_WIDTH, channels), (_WIDTH,)),
        *((_WIDTH, _WIDTH, 3, 3), (_WIDTH,)),
        *((_WIDTH, _LAST, _FINER, _FINER), (_LAST,)),
        *((classes, _LAST), (classes,)),
    ]


def _logits(layers: Sequence[Tensor], x: Tensor) -> Tensor:
    """[B, S, C, 4 P] of layers [S, ...] and maps [B, D, h, w], settings as groups."""
    narrow, narrow_bias, mix, mix_bias, widen, widen_bias, weight, bias = layers
    count = len(narrow)
    x = conv2d(x, narrow.flatten(0, 1)[..., None, None], narrow_bias.flatten()).relu_()
    x = conv2d(x, mix.flatten(0, 1), mix_bias.flatten(), padding=1, groups=count).relu_()
    x = conv_transpose2d(
        x, widen.flatten(0, 1), widen_bias.flatten(), stride=_FINER, groups=count
    ).relu_()
    x = conv2d(x, weight.flatten(0, 1)[..., None, None], bias.flatten(), groups=count)
    return x.view(len(x), count, -1, prod(x.shape[2:]))


@dataclass(frozen=True)
class DecoderProbes(ConvolutionProbes):
    """Trained light decoders."""

    form = ConvolutionForm(_shapes, _logits, _FINER)


def train(data: MapData, draws: Sequence[Stream], protocol: Protocol) -> DecoderProbes:
    """Train light decoders; see `ConvolutionProbes.trained`.

    Args:
        data: its targets are on the finer grid, [N, C, 2 h, 2 w].
        draws: the streams.
        protocol: standardisation, and `DecoderSettings`.
    """
    return DecoderProbes.trained(data, draws, protocol.of("decoder"), protocol.standardize)


PROBE = Probe(
    train,
    settings=DecoderSettings,
    tried=lambda protocol: len(protocol.of("decoder").settings),
    predicts="masks",
    reads="maps",
    finer=_FINER,
    seconds=0.5,
    gives=DecoderProbes,
)
