"""Probes: small classifiers on frozen features. Pure functions of arrays.

Each module has a function `train` and is named as in `protocol.PROBES`; `linear.fit` takes plain
arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ultrabench_eval.probes.heads import Data, Probes, Stream
    from ultrabench_eval.protocol import Protocol


def train(probe: str, data: Data, draws: Sequence[Stream], protocol: Protocol) -> Probes:
    """Train the probe of that name.

    Args:
        probe: one of `protocol.PROBES`.
        data: features and labels of training and validation images.
        draws: which of them each subset and seed uses; see `heads.streams`.
        protocol: all settings.
    """
    probes: Probes = import_module(f"{__name__}.{probe}").train(data, draws, protocol)
    return probes
