"""Early stopping of a stack: which epoch of each head is kept, and which streams still run.

K is the number of streams, S of settings, E of epochs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.probes.heads import Head, Stream
from ultrabench_eval.protocol import Gradient


class EarlyStopping:
    """The record of K streams x S settings.

    Args:
        group: the K streams.
        gradient: the S settings, patience and number of epochs.

    Attributes:
        history: validation losses [K, S, E], float32; NaN once a head has stopped.
    """

    def __init__(self, group: Sequence[Stream], gradient: Gradient) -> None:
        self.group, self.gradient = group, gradient
        shape = len(group), len(gradient.settings)
        self.history = torch.full((*shape, gradient.max_epochs), torch.nan)
        self._loss = torch.full(shape, torch.inf, dtype=torch.float64)
        self._epoch = torch.full(shape, -1)

    def take(self, streams: Tensor, epoch: int, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the losses after an epoch.

        Args:
            streams: positions of the k streams that still run, int64 [k].
            epoch: from 0.
            loss: [k, S].

        Returns:
            Which heads are better than ever before, and so must be kept, bool [k, S]; and whether
            any head of a stream goes on, bool [k]. Both on the CPU.
        """
        loss = loss.double().cpu()
        running = epoch - self._epoch[streams] <= self.gradient.patience
        self.history[streams, :, epoch] = torch.where(running, loss, torch.nan).float()
        better = (loss < self._loss[streams]) & running
        self._loss[streams] = torch.where(better, loss, self._loss[streams])
        self._epoch[streams] = torch.where(better, epoch, self._epoch[streams])
        return better, (epoch - self._epoch[streams] < self.gradient.patience).any(1)

    def heads(self, place: int) -> tuple[Head, ...]:
        """The S heads of a stream.

        Raises:
            UserError: the loss of one was never finite.
        """
        if (self._epoch[place] < 0).any():
            raise UserError(
                "the probe's validation loss was never finite; look for extreme values in the "
                "features or lower the learning rate"
            )
        stream = self.group[place]
        return tuple(
            Head(
                stream.subset,
                stream.seed,
                {"learning_rate": rate, "weight_decay": decay},
                float(self._loss[place, setting]),
                int(self._epoch[place, setting]),
            )
            for setting, (rate, decay) in enumerate(self.gradient.settings)
        )
