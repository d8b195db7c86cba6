"""Fine-tuning for numbers: a linear function of pooled features, trained with the network.

Targets are standardised by the training images in use, as for `linear_regression`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ultrabench_eval.probes import finetune_training
from ultrabench_eval.probes.finetune import settings_of
from ultrabench_eval.probes.finetune_network import Aim, ImageData, slope_of
from ultrabench_eval.probes.finetune_training import FineTuned
from ultrabench_eval.probes.heads import Stream
from ultrabench_eval.probes.number_probes import in_unit, target_scaler
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import FineTuning, Protocol


def _squared(outputs: Tensor, y: Tensor) -> Tensor:
    return (outputs.squeeze(-1) - y.to(outputs)).square()


class _Numbers(Aim):
    def outputs(self, data: ImageData) -> int:
        return 1

    def targets(self, data: ImageData, stream: Stream) -> tuple[Tensor, Tensor]:
        scaler = target_scaler(data, stream)
        return scaler(data.train_y.double()), scaler(data.validation_y.double())

    def slope(
        self, outputs: Tensor, y: Tensor, count: int, settings: FineTuning
    ) -> tuple[Tensor, Tensor]:
        return slope_of(_squared, outputs, y, count)

    def loss(self, outputs: Sequence[Tensor], y: Sequence[Tensor]) -> float:
        return float(_squared(torch.cat(list(outputs)), torch.cat(list(y))).mean())

    def folded(
        self, data: ImageData, stream: Stream, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        weight, bias = weight.double().unsqueeze(0), bias.double().unsqueeze(0)
        return in_unit(target_scaler(data, stream), weight, bias)

    def answers(self, outputs: Tensor, sides: tuple[int, ...]) -> Tensor:
        return outputs.squeeze(-1).double()


class NumberNetworks(FineTuned):
    """Networks that predict numbers."""

    aim = _Numbers()


def train(data: ImageData, draws: Sequence[Stream], protocol: Protocol) -> FineTuned:
    """Fine-tune networks for numbers; see `finetune_training.train`."""
    return finetune_training.train(data, draws, protocol, NumberNetworks)


PROBE = Probe(train, uses=settings_of, predicts="numbers", reads="images", gives=NumberNetworks)
