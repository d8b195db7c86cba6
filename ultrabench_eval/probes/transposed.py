"""The head of arXiv 2507.18424 on a feature map: attention, then two transposed convolutions.

"Self-Supervised Ultrasound-Video Segmentation with Feature Prediction and 3D Localised Loss" (Ellis
et al. 2025) judges frozen video encoders on CAMUS by it. Its text states: an attentive probe, then
a shallow decoder of two transposed convolutions; cross-entropy; AdamW; batches of 4; 300 epochs; a
cosine from 1e-3 to 0. It leaves open, and it is inferred here:

- the form: on maps standardised by channel, with one head of attention as wide as those of V-JEPA's
  attentive probe (arXiv 2404.08471),

      1 x 1 to 64; z + attention of every place to all places;
      transposed 2 x 2 of stride 2 to 32, ReLU, transposed 2 x 2 of stride 2 to C

  so that a grid of 14 x 14 becomes 56 x 56, whose logits are brought to the mask's size;
- a weight decay of 0.01 (torch's own), and an annealing once an epoch;
- that the epoch of the lowest validation loss is kept (training never stops early);
- that images, of which it takes 16 as a clip, come singly, 4 a batch.

Its split is not stated either.

S is the number of settings, C of classes, D of channels, h x w = P of places of a map, B of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import pydantic.dataclasses
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, scaled_dot_product_attention

from ultrabench_eval.probes.convolutions import ConvolutionForm, ConvolutionProbes
from ultrabench_eval.probes.dense_training import MapData, MapSettings
from ultrabench_eval.probes.heads import Stream
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import STRICT, Count, Decays, Protocol, Values

_STRIDE, _WIDTH, _LAST = 2, 64, 32


@pydantic.dataclasses.dataclass(frozen=True, config=STRICT)
class TransposedSettings(MapSettings):
    """How it is trained, and how its masks are made: by default as the paper states it."""

    learning_rates: Values = (1e-3,)
    weight_decays: Decays = (0.01,)
    batch_size: Count = 4
    max_epochs: Count = 300
    patience: Count = 300


def _shapes(channels: int, classes: int) -> list[tuple[int, ...]]:
    """Of the weights and biases: of the five layers of width 64, of the two that are transposed."""
    square = ((_WIDTH, _WIDTH), (_WIDTH,))
    return [
        *((_WIDTH, channels), (_WIDTH,)),
        *(4 * square),
        *((_WIDTH, _LAST, _STRIDE, _STRIDE), (_LAST,)),
        *((_LAST, classes, _STRIDE, _STRIDE), (classes,)),
    ]


def _logits(layers: Sequence[Tensor], x: Tensor) -> Tensor:
    """[B, S, C, 16 P] of layers [S, ...] and maps [B, D, h, w], settings as groups."""
    count = len(layers[0])
    pairs = [
        (weight.flatten(0, 1), bias.flatten())
        for weight, bias in zip(layers[::2], layers[1::2], strict=True)
    ]
    first, *asked, out, finer, finest = pairs

    def mixed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return conv2d(x, weight[..., None, None], bias, groups=count)

    x = conv2d(x, first[0][..., None, None], first[1])
    # Places by width, [B, S, P, 64].
    query, key, value = (
        mixed(x, *one).view(len(x), count, _WIDTH, -1).transpose(2, 3) for one in asked
    )
    seen = scaled_dot_product_attention(query, key, value).transpose(2, 3).reshape(x.shape)
    x = x + mixed(seen, *out)
    x = conv_transpose2d(x, *finer, stride=_STRIDE, groups=count).relu_()
    x = conv_transpose2d(x, *finest, stride=_STRIDE, groups=count)
    return x.view(len(x), count, -1, prod(x.shape[2:]))


@dataclass(frozen=True)
class TransposedProbes(ConvolutionProbes):
    """Trained heads of this form."""

    form = ConvolutionForm(_shapes, _logits, finer=_STRIDE**2, dice=False)


def train(data: MapData, draws: Sequence[Stream], protocol: Protocol) -> TransposedProbes:
    """Train heads of this form; see `ConvolutionProbes.trained`.

    Args:
        data: its targets are on the finer grid, [N, C, 4 h, 4 w].
        draws: the streams.
        protocol: standardisation, and `TransposedSettings`.
    """
    return TransposedProbes.trained(data, draws, protocol.of("transposed"), protocol.standardize)


PROBE = Probe(
    train,
    settings=TransposedSettings,
    tried=lambda protocol: len(protocol.of("transposed").settings),
    predicts="masks",
    reads="maps",
    finer=_STRIDE**2,
    seconds=9.0,
    gives=TransposedProbes,
)
