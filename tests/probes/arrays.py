"""Any probe on plain arrays, as `linear.fit` takes them."""

from __future__ import annotations

from ultrabench_eval import probes
from ultrabench_eval.probes.heads import ProbeData, Probes, streams
from ultrabench_eval.protocol import Protocol


def fit(
    probe: str, x, y, vx, vy, *, classes: int, seeds, protocol: Protocol, subsets=None
) -> Probes:
    draws = streams(len(x), len(vx), seeds, subsets, None)
    return probes.get(probe).train(ProbeData(x, y, vx, vy, classes), draws, protocol)
