"""Small convolutional networks on feature maps, several settings of one form side by side.

H is the number of heads, S of settings, C of classes, D of channels, h x w = P of places of a map,
B of images, K of a network's parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar, NamedTuple, Self

import torch
from torch import Tensor

from ultrabench_eval.core import hashing
from ultrabench_eval.feature_rows import Features
from ultrabench_eval.probes import dense_loss, dense_training
from ultrabench_eval.probes.dense_training import MapData, MapNetworks, MapSettings
from ultrabench_eval.probes.heads import Probes, Scaler, Stream


class ConvolutionForm(NamedTuple):
    """What the networks are, from standardised maps to logits.

    Args:
        shapes: (D, C) -> the shapes of all weights and biases, in turn. The first weight is
            [width, D], of a 1 x 1 convolution; those of the last layer alone depend on C.
        logits: (layers, x) -> [B, S, C, P'] of layers [S, *shape] and maps x [B, D, h, w].
        finer: by how many times the grid of the logits is finer than the map's.
        dice: whether soft Dice is a part of the loss, or it is cross-entropy alone.
    """

    shapes: Callable[[int, int], list[tuple[int, ...]]]
    logits: Callable[[Sequence[Tensor], Tensor], Tensor]
    finer: int
    dice: bool = True

    def layers(self, parameters: Tensor, channels: int) -> list[Tensor]:
        """Parameters [S, K] in their shapes, each with a leading S."""
        without, with_one = (sum(map(prod, self.shapes(channels, n))) for n in (0, 1))
        shapes = self.shapes(channels, (parameters.shape[1] - without) // (with_one - without))
        parts = torch.split(parameters, [prod(shape) for shape in shapes], dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


@dataclass(frozen=True)
class ConvolutionProbes(Probes):
    """Trained heads; H = subsets x seeds x settings, the last varying fastest.

    Args:
        parameters: [H, K], of networks that read maps as the encoder gives them.
        history: validation loss (see `dense_loss`) after every epoch, [H, E]; NaN once a head has
            stopped.
    """

    form: ClassVar[ConvolutionForm]

    parameters: Tensor
    history: Tensor

    def predict(self, x: Features | Tensor) -> Tensor:
        """Logits of maps [N, D, h, w]: float16 [H, N, C, finer h, finer w] on the CPU."""
        layers = self.form.layers(self.parameters, x.shape[1])
        return dense_training.predict(
            *(x, lambda block: self.form.logits(layers, block)),
            *(self.parameters.dtype, self.form.finer),
        )

    @classmethod
    def trained(
        cls, data: MapData, draws: Sequence[Stream], settings: MapSettings, standardize: bool
    ) -> Self:
        """Train networks of this form; see `dense_training.train`.

        Args:
            data: its targets are on the finer grid, [N, C, finer h, finer w].
            draws: the streams.
            settings: of the training.
            standardize: see `dense_training.train`.
        """
        _, _, *grid = data.train_x.shape
        classes = data.train_y.shape[1]
        trained = dense_training.train(
            *(data, draws, settings, standardize),
            lambda scaler: _Networks(cls.form, scaler, classes, grid),
        )
        parts = []
        for heads, parameters, history, scaler in trained:
            layers = cls.form.layers(parameters, len(scaler.mean))
            layers[:2] = scaler.folded(*layers[:2])
            raw = torch.cat([layer.flatten(1) for layer in layers], 1)
            parts.append(cls(heads, raw, history))
        return cls.joined(parts)


class _Networks(MapNetworks):
    """Gradients by autograd."""

    def __init__(
        self, form: ConvolutionForm, scaler: Scaler, classes: int, grid: Sequence[int]
    ) -> None:
        self._form, self.dice = form, form.dice
        self._deviation, self._classes, self._grid = scaler.deviation, classes, tuple(grid)

    def start(self, seed: int) -> Tensor:
        """As `nn.Conv2d` and `nn.ConvTranspose2d` draw them: uniform within 1/sqrt(fan in)."""
        generator = torch.Generator().manual_seed(hashing.seed_for(seed, "probe/initialisation"))
        shapes = self._form.shapes(len(self._deviation), self._classes)
        parts = []
        for weight, bias in zip(shapes[::2], shapes[1::2], strict=True):
            bound = prod(weight[1:]) ** -0.5
            drawn = torch.rand(prod(weight) + prod(bias), generator=generator)
            parts.append(drawn * 2 * bound - bound)
        return torch.cat(parts)

    def logits(self, parameters: Tensor, x: Tensor) -> Tensor:
        first, *others = self._form.layers(parameters, len(self._deviation))
        maps = x.view(*x.shape[:2], *self._grid)
        return self._form.logits([first / self._deviation, *others], maps)

    def slope(self, parameters: Tensor, x: Tensor, target: Tensor) -> Tensor:
        leaf = parameters.detach().requires_grad_()
        logits = self.logits(leaf, x)
        by_logits = dense_loss.slope(logits.detach(), target, self.dice)
        (found,) = torch.autograd.grad(logits, leaf, by_logits)
        return found
