"""Figures of the HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import Probing

_WORDS = {
    "fewshot": "Curves of {} against the fraction of training images, one panel per task",
    "corruption": "Curves of {} against the severity of a corruption, one panel per task",
    "protocols": "Lines of each model's {} from one protocol to the other, one panel per task",
    "ranks": "Mean ranks of the models; bars join models that do not differ significantly",
}
Part = dict[str, Any]


def drawings(
    files: Mapping[str, bytes], probings: Iterable[Probing], scores: str
) -> dict[str, list[Part]]:
    """The SVG files of a run by kind (all of `_WORDS`, and "" for others), in their order.

    Args:
        files: content by name, "figures/ranks.svg"; a figure of one of several probes and
            protocols has it at the end of its name.
        probings: all of the folder.
        scores: titles of what is drawn.
    """
    found: dict[str, list[Part]] = {kind: [] for kind in (*_WORDS, "")}
    # The longest first: "-linear-paper-1" is the end of "-classification-in-a-b-linear-paper-1".
    ends = {
        f"-{one.in_files}": str(one) for one in sorted(probings, key=lambda one: -len(one.in_files))
    }
    for name, data in files.items():
        path = PurePosixPath(name)
        if path.suffix == ".svg":
            kind = next((kind for kind in _WORDS if path.stem.startswith(kind)), "")
            shown = _WORDS.get(kind, "Figure").format(scores)
            words = f"{shown} ({path.stem}); the tables have the numbers"
            part = {"svg": data.decode(), "alt": words}
            of = next((one for end, one in ends.items() if path.stem.endswith(end)), None)
            found[kind].append(part | ({"probing": of} if of else {}))
    return found


def round_range(values: Sequence[float], metric: Metric) -> tuple[float, float, float]:
    """A range of round numbers around the values, and the step of about five ticks; at least half
    a point of a percentage, and of other numbers a hundredth of the largest."""
    least = 0.5 if metric.scale == 100 else max(max(map(abs, values)) / 100, 1e-9)
    wanted = max(least, (max(values) - min(values)) / 5)
    power = math.log10(wanted) // 1
    step = next(one for k in (1, 2, 5, 10) if (one := k * 10.0**power) >= wanted * (1 - 1e-9))
    low = math.floor(min(values) / step - 0.1) * step
    high = math.ceil(max(values) / step + 0.1) * step
    return low, high, step
