"""Learning rate, weight decay and teacher momentum: pure functions of the step.

As facebookresearch/ijepa (`src/utils/schedulers.py`, momentum in `src/train.py`, commit 52c1ae9)
has them. Steps count from 1: the first optimiser step uses the values of step 1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from usjepa.config import Train


class Values(NamedTuple):
    """What one optimiser step uses."""

    learning_rate: float
    weight_decay: float
    momentum: float
    """Of the teacher's average, after the step."""


def learning_rate(
    step: int,
    *,
    warmup: int,
    total: int,
    start: float,
    peak: float,
    final: float,
    straight: bool = False,
) -> float:
    """Straight from `start` to `peak` while `step < warmup`, then along half a cosine to `final`.

    Args:
        step: from 1.
        warmup: steps of the warm-up; `peak` is reached at this step.
        total: the step at which `final` is reached; the rate stays there.
        start: what the warm-up begins above: step 1 is already one part of `warmup` higher.
        peak: the highest rate.
        final: the last one.
        straight: whether a line leads to `final` instead.
    """
    if step < warmup:
        return start + step / warmup * (peak - start)
    progress = (step - warmup) / max(total - warmup, 1)
    if straight:
        return peak + min(progress, 1.0) * (final - peak)
    return _cosine(progress, peak, final)


def weight_decay(step: int, *, total: int, start: float, final: float) -> float:
    """Along half a cosine from `start` to `final` at step `total`, without warm-up.

    Args:
        step: from 1.
        total: the step at which `final` is reached; it stays there.
        start: what step 0 would have.
        final: the last one.
    """
    return _cosine(step / total, start, final)


def momentum(step: int, *, total: float, first: float, last: float) -> float:
    """Straight from `first` at step 1 towards `last`, which step `total + 1` would have.

    Args:
        step: from 1.
        total: steps of the schedule; need not be whole.
        first: at step 1.
        last: kept once reached.
    """
    return first + min((step - 1) / total, 1.0) * (last - first)


def at(step: int, train: Train, steps_per_epoch: int) -> Values:
    """All values of a step.

    Args:
        step: from 1.
        train: the run's settings.
        steps_per_epoch: optimiser steps of an epoch.
    """
    length = train.stretch * train.epochs * steps_per_epoch
    total = int(length)
    return Values(
        learning_rate(
            step,
            warmup=int(train.warmup_epochs * steps_per_epoch),
            total=total,
            start=train.start_learning_rate,
            peak=train.learning_rate,
            final=train.final_learning_rate,
            straight=train.schedule == "linear",
        ),
        weight_decay(step, total=total, start=train.weight_decay, final=train.final_weight_decay),
        momentum(step, total=length, first=train.ema[0], last=train.ema[1]),
    )


def _cosine(progress: float, start: float, end: float) -> float:
    """From `start` at 0 to `end` at 1 and beyond."""
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2
