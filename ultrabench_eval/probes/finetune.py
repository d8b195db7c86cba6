"""Fine-tuning for classes: a linear classifier on pooled features, trained with the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ultrabench_eval.probes import finetune_training
from ultrabench_eval.probes.finetune_network import Aim, ImageData, slope_of
from ultrabench_eval.probes.finetune_training import FineTuned
from ultrabench_eval.probes.heads import Stream
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import FineTuning, Protocol

_GAMMA = 2.0  # of the focal loss


def _cross_entropies(outputs: Tensor, y: Tensor) -> Tensor:
    return cross_entropy(outputs, y, reduction="none")


def _focal(outputs: Tensor, y: Tensor) -> Tensor:
    """(1 - p)^gamma times the cross-entropy, p the probability of the right class."""
    losses = _cross_entropies(outputs, y)
    return (1 - torch.exp(-losses)) ** _GAMMA * losses


class _Classes(Aim):
    crops = True

    def slope(
        self, outputs: Tensor, y: Tensor, count: int, settings: FineTuning
    ) -> tuple[Tensor, Tensor]:
        losses = _focal if settings.loss == "focal" else _cross_entropies
        return slope_of(losses, outputs, y, count)

    def loss(self, outputs: Sequence[Tensor], y: Sequence[Tensor]) -> float:
        return float(cross_entropy(torch.cat(list(outputs)), torch.cat(list(y))))

    def answers(self, outputs: Tensor, sides: tuple[int, ...]) -> Tensor:
        return outputs.softmax(-1)


class ClassNetworks(FineTuned):
    """Networks that predict classes."""

    aim = _Classes()


def train(data: ImageData, draws: Sequence[Stream], protocol: Protocol) -> FineTuned:
    """Fine-tune networks for classes; see `finetune_training.train`."""
    return finetune_training.train(data, draws, protocol, ClassNetworks)


def settings_of(protocol: Protocol) -> dict[str, object]:
    """What the numbers of a fine-tuning depend on."""
    return asdict(protocol.finetune or FineTuning())


PROBE = Probe(train, uses=settings_of, reads="images", gives=ClassNetworks)
