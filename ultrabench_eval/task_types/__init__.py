"""Kinds of task: what their answers are, how they are scored, and what the scores are made of.

Each has a file of its own, which declares it as `TYPE` (`task_type.TaskType`). Anyone's is
registered by a plugin file: `ultrabench_eval.task_types.register("its-name", Its())`; tasks name
it in their card.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ultrabench_eval.core.registry import Registry

if TYPE_CHECKING:
    from ultrabench_eval.task_types.task_type import TaskType

registry = Registry("task type", group="ultrabench_eval.task_types", listing="ubench run --help")
for _name in ("classification",):
    registry.register(_name, f"{__name__}.{_name}:TYPE")


def register(name: str, task_type: TaskType) -> Any:
    """Make a kind of task known by a name."""
    return registry.register(name, task_type)


def get(name: str) -> TaskType:
    """The kind of task of that name.

    Raises:
        UserError: there is none.
    """
    found: TaskType = registry.get(name)
    return found
