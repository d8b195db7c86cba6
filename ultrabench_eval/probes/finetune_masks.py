"""Fine-tuning for masks: the dense probe's head on feature maps, trained with the network.

Batch normalisation by the released network's maps, and a 1 x 1 convolution; the loss is that of
dense probes, on the grid of the maps.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from model_zoo.unfrozen import Unfrozen
from ultrabench_eval.finetune import one_map
from ultrabench_eval.probes import dense_loss, finetune_training
from ultrabench_eval.probes.finetune import settings_of
from ultrabench_eval.probes.finetune_network import Aim, ImageData
from ultrabench_eval.probes.finetune_training import FineTuned
from ultrabench_eval.probes.heads import Stream
from ultrabench_eval.probes.probe import Probe
from ultrabench_eval.protocol import FineTuning, Protocol


class _Masks(Aim):
    separable = False  # Dice is of all images of a batch

    def features(self, trunk: Unfrozen, x: Tensor) -> Tensor:
        return one_map(trunk.maps(x)).flatten(2)

    def outputs(self, data: ImageData) -> int:
        return data.train_y.shape[1]

    def weights(self, y: Tensor) -> Tensor:
        return y.sum(1).flatten(1)

    def flipped(self, y: Tensor) -> Tensor:
        return y.flip(-1)

    def slope(
        self, outputs: Tensor, y: Tensor, count: int, settings: FineTuning
    ) -> tuple[Tensor, Tensor]:
        logits, target = outputs.unsqueeze(1), y.flatten(2).to(outputs)
        of_batch = dense_loss.LossOfMany(1, target.shape[1])
        of_batch.add(logits, target)
        return of_batch.value()[0], dense_loss.slope(logits, target).squeeze(1)

    def loss(self, outputs: Sequence[Tensor], y: Sequence[Tensor]) -> float:
        of_all = dense_loss.LossOfMany(1, outputs[0].shape[1])
        for logits, target in zip(outputs, y, strict=True):
            of_all.add(logits.unsqueeze(1), target.flatten(2).to(logits))
        return float(of_all.value()[0])

    def answers(self, outputs: Tensor, sides: tuple[int, ...]) -> Tensor:
        return outputs.half().view(*outputs.shape[:2], *sides)


class MaskNetworks(FineTuned):
    """Networks that predict masks."""

    aim = _Masks()


def train(data: ImageData, draws: Sequence[Stream], protocol: Protocol) -> FineTuned:
    """Fine-tune networks for masks; see `finetune_training.train`."""
    return finetune_training.train(data, draws, protocol, MaskNetworks)


PROBE = Probe(train, uses=settings_of, predicts="masks", reads="images", gives=MaskNetworks)
