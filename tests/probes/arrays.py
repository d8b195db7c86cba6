"""Any probe on plain arrays, as `linear.fit` takes them."""

from __future__ import annotations

from ultrabench_eval import probes
from ultrabench_eval.feature_rows import InMemory
from ultrabench_eval.probes.heads import DataOf, Probes, streams
from ultrabench_eval.protocol import Protocol


def fit(
    probe: str, x, y, vx, vy, *, classes: int, seeds, protocol: Protocol, subsets=None
) -> Probes:
    draws = streams(len(x), len(vx), seeds, subsets, None)
    known = probes.get(probe)
    if known.reads == "tokens":
        x, vx = InMemory(x), InMemory(vx)
    return known.train(DataOf(x, y, vx, vy, classes), draws, protocol)
