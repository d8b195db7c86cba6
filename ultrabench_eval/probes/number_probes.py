"""What the probes that predict numbers have in common: linear functions, and standardised targets.

H is the number of heads, D the feature width, N of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ultrabench_eval.probes.heads import DataOf, Probes, Scaler, Stream


@dataclass(frozen=True)
class NumberProbes(Probes):
    """Linear functions of features, however they were trained.

    Args:
        weight: float64 [H, D], on features as the encoder gives them.
        bias: float64 [H]; what is predicted is in the unit of the targets.
        history: validation loss after every epoch, [H, E], NaN once a head has stopped; E is 0 for
            a probe without epochs.
    """

    weight: Tensor
    bias: Tensor
    history: Tensor

    def predict(self, x: Tensor) -> Tensor:
        """Numbers, float64 [H, N] on the CPU, of features [N, D]."""
        return (self.weight @ x.to(self.weight).mT + self.bias.unsqueeze(1)).cpu()


def target_scaler(data: DataOf[Any], stream: Stream) -> Scaler:
    """Mean [1] and deviation [1] of the targets that a stream is trained on, in float64.

    Nothing of validation or test is in it. Losses are in these deviations, squared: 1 is what the
    mean of the training targets has on themselves.
    """
    return Scaler.of(data.train_y[stream.rows].double().unsqueeze(1))


def in_unit(targets: Scaler, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [H, D] and biases [H] that give in the unit of the targets what weights [H, 1, D] and
    biases [H, 1] give standardised."""
    return weight[:, 0] * targets.deviation, bias[:, 0] * targets.deviation + targets.mean
