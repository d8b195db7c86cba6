"""The loss of dense probes: cross-entropy with soft targets, plus soft Dice over the batch.

B is the number of images, S of settings, C of classes (0 is the background), P of places.

A target t [B, C, P] says how much of each place's area is class c; its sum over c is the place's
weight w [B, P], which is less than 1 where a place is in part padding or ignored. With
probabilities q, and sums over all places of all images of a batch:

    cross-entropy  = -sum(t log q) / sum(w)
    Dice of c      = (2 sum(q t) + e) / (sum(q w) + sum(t) + e)
    loss           = cross-entropy + 1 - mean over c > 0 of the Dice of c

e is `SMOOTHING`. A class that no image of the batch has adds all but a constant. Without Dice, the
loss is the cross-entropy.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMOOTHING = 1e-5  # places


def slope(logits: Tensor, target: Tensor, with_dice: bool = True) -> Tensor:
    """Gradient of a batch's loss by its logits, written out: [B, S, C, P].

    Args:
        logits: [B, S, C, P].
        target: t, [B, C, P].
        with_dice: else of the cross-entropy.
    """
    weight = target.sum(1)[:, None, None]  # [B, 1, 1, P]
    target = target.unsqueeze(1)
    likely = logits.softmax(2)
    weighted = likely * weight
    if not with_dice:
        return weighted.sub_(target).div_(weight.sum())
    overlap, union = _dice_sums(likely, weighted, target)
    share = 1 / max(1, logits.shape[2] - 1)
    of_target, of_weight = share * 2 / union, share * overlap / union.square()
    of_target[:, 0] = of_weight[:, 0] = 0
    # q (of_weight w - of_target t) leads through the softmax to the Dice's gradient.
    pull = weighted * of_weight.unsqueeze(-1)
    pull -= (likely * target) * of_target.unsqueeze(-1)
    weighted -= target
    weighted /= weight.sum()
    weighted += pull
    return weighted.addcmul_(likely, pull.sum(2, keepdim=True), value=-1)


def _dice_sums(likely: Tensor, weighted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The Dice's numerator and denominator, [S, C] each."""
    return (
        2 * (likely * target).sum((0, 3)) + SMOOTHING,
        weighted.sum((0, 3)) + target.sum((0, 3)) + SMOOTHING,
    )


class LossOfMany:
    """The loss of images that are taken in some at a time.

    Args:
        settings: S.
        classes: C.
        with_dice: else the cross-entropy.
    """

    def __init__(self, settings: int, classes: int, with_dice: bool = True) -> None:
        self._with_dice = with_dice
        self._cross = torch.zeros(settings, dtype=torch.float64)
        self._weight = torch.zeros((), dtype=torch.float64)
        self._overlap = torch.zeros(settings, classes, dtype=torch.float64)
        self._union = torch.zeros(settings, classes, dtype=torch.float64)

    def add(self, logits: Tensor, target: Tensor) -> None:
        """Take in images: logits [B, S, C, P], target [B, C, P]."""
        weight = target.sum(1)
        target = target.unsqueeze(1)
        log = logits.log_softmax(2)
        self._cross -= (log * target).sum((0, 2, 3)).cpu()
        self._weight += weight.sum().cpu()
        likely = log.exp_()
        self._overlap += (likely * target).sum((0, 3)).cpu()
        self._union += (likely * weight[:, None, None]).sum((0, 3)).cpu()
        self._union += target.sum((0, 3)).cpu()

    def value(self) -> Tensor:
        """Of each setting, float64 [S]."""
        cross = self._cross / self._weight
        if not self._with_dice:
            return cross
        dice = (2 * self._overlap + SMOOTHING) / (self._union + SMOOTHING)
        return cross + 1 - dice[:, 1:].mean(1)
