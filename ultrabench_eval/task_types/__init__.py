"""Kinds of task: what their answers are, how they are scored, and what the scores are made of.

Each has a file of its own, which declares it as `TYPE` (`task_type.TaskType`). Anyone's is
registered by a plugin file: `ultrabench_eval.task_types.register("its-name", Its())`; tasks name
it in their card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultrabench_eval.core.registry import Registry

if TYPE_CHECKING:
    from ultrabench_eval.task_types.task_type import Predicts, TaskType

registry: Registry[TaskType] = Registry(
    "task type", group="ultrabench_eval.task_types", listing="ubench run --help"
)
for _name in ("classification", "segmentation", "regression"):
    registry.register(_name, f"{__name__}.{_name}:TYPE")

register, get = registry.register, registry.get


def predicts(name: str) -> Predicts:
    """What is predicted for tasks of a type; of one that is not known, classes."""
    return get(name).predicts if name in registry else "classes"
