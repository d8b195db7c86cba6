"""Metrics: how well a model did on a test set, as one number.

The built-in ones are declared by their task type (`task_types`). Anyone's is registered by a plugin
file: `ultrabench_eval.metrics.register("kappa", Metric("kappa", "Cohen's kappa", of=kappa))`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.registry import Registry

OF_TASK = "target"
"""The unit of a metric that has that of its task's targets, e.g. mm."""
OfSums = Callable[[np.ndarray], np.ndarray]
"""A metric of sums: [..., K] -> [...]."""


@dataclass(frozen=True)
class Metric:
    """A metric of one kind of task. H is the number of seeds.

    Args:
        name: column of the CSV files, e.g. "macro_f1".
        title: in tables, e.g. "macro F1".
        unit: "%" (a number in [0, 1], shown in percent), "nats", "mm", `OF_TASK`, or "" for none.
        of: what it is of sums of the task type's statistics, [..., K] -> [...]. Such a metric has
            an interval, and may be a task type's main one.
        of_rows: what it is of predictions and test samples, if sums do not suffice:
            (predicted, `test_set.TestSet`) -> float64 [H]. It has no interval.
        higher_is_better: whether it is.
        within: its smallest and its largest value.
        places: decimals in tables.
        task_type: name of the kind of task, for metrics that a plugin registers.
    """

    name: str
    title: str = ""
    unit: str = "%"
    of: OfSums | None = None
    of_rows: Callable[..., np.ndarray] | None = None
    higher_is_better: bool = True
    within: tuple[float, float] = (0.0, 1.0)
    places: int = 1
    of_one: bool = True
    """Of a percentage: whether it is a number in [0, 1]. A target in percent is not."""
    task_type: str = "classification"

    @property
    def scale(self) -> float:
        """What it is multiplied by for a table: 100 for a part of one, 1 for the rest."""
        return 100.0 if self.unit == "%" and self.of_one else 1.0

    @property
    def in_unit(self) -> str:
        """Title and unit in words: "macro F1 in percent"."""
        if not self.unit:
            return self.title
        return f"{self.title} in {'percent' if self.unit == '%' else self.unit}"

    @property
    def on_axis(self) -> str:
        """Title and unit at the axis of a figure: "macro F1, %"."""
        return ", ".join(filter(None, (self.title, self.unit)))

    @property
    def direction(self) -> str:
        """Behind a title: " (lower is better)", or nothing."""
        return "" if self.higher_is_better else " (lower is better)"

    @property
    def heading(self) -> str:
        """Of a table: `in_unit` with a capital first letter, and `direction`."""
        return self.in_unit[:1].upper() + self.in_unit[1:] + self.direction

    @property
    def sign(self) -> int:
        """1, or -1 where less is better."""
        return 1 if self.higher_is_better else -1


def of_task(metric: Metric, unit: str) -> Metric:
    """The metric with the unit of a task's targets, if it has that."""
    return replace(metric, unit=unit, of_one=False) if metric.unit == OF_TASK else metric


def of_sums(metric: Metric) -> OfSums:
    """The function of a metric that has one.

    Raises:
        ValueError: it has none.
    """
    if metric.of is None:
        raise ValueError(f"{metric.name} is not a function of sums")
    return metric.of


registry: Registry[Metric] = Registry(
    "metric", group="ultrabench_eval.metrics", listing="ubench run --help"
)


def register(name: str, metric: Metric) -> Any:
    """Make a metric known; it is measured on all tasks of its type from then on.

    Raises:
        UserError: it cannot be measured, or is called otherwise itself.
    """
    if metric.name != name:
        raise UserError(
            f"the metric '{metric.name}' is registered as '{name}'; give it one name in both places"
        )
    if metric.of is None and metric.of_rows is None:
        raise UserError(f"the metric '{name}' has no function; give it `of` or `of_rows`")
    return registry.register(name, metric)


def added(task_type: str) -> tuple[Metric, ...]:
    """Those that plugins and other packages brought for a type of task, by name."""
    every = [registry.get(name) for name in registry.names()]
    return tuple(metric for metric in every if metric.task_type == task_type)
