"""The tasks: `load(name, root)` reads one from its original release, or from anyone's CSV."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.release import SYNTHETIC_MARKER
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.registry import Registry

if TYPE_CHECKING:
    from tasks.task import Task, TaskCard

__all__ = ["BUILT_IN", "card", "load", "names", "register", "registry"]

registry = Registry("task", group="ultrabench_eval.tasks", listing="ubench tasks")

# A reader is a function `read(folder: Path) -> Task`; `folder` is ROOT/<task name>.
BUILT_IN = ("aul", "busbra", "butterfly", "fatty_liver", "gbcu", "mmotu", "pocus", "tn5000")
for _name in BUILT_IN:
    registry.register(_name, f"tasks.{_name}:read")


def names() -> list[str]:
    """Names of all tasks: the eight of UltraBench and those of installed packages."""
    return registry.names()


def register(name: str, target: Any = None) -> Any:
    """Register a reader `read(folder) -> Task` under `name`; a decorator without `target`."""
    return registry.register(name, target)


def card(name: str) -> TaskCard:
    """What is known of a task without its data: the CARD beside its reader."""
    from tasks.task import TaskCard

    read = registry.get(name)
    known = getattr(sys.modules[read.__module__], "CARD", None)
    if isinstance(known, TaskCard):
        return known
    return TaskCard(name, title=name, organ="not stated", target="not stated", classes=())


def is_manifest(name: str) -> bool:
    """True if a task is given as a manifest file rather than by name."""
    return name.lower().endswith(".csv")


def load(name: str, root: Path | str | None = None) -> Task:
    """Read a task.

    Args:
        name: a name of `names()`, or the path of a manifest (columns image,label,split[,group]).
        root: data root with one sub-folder a task (`ROOT/aul` ...); not needed for a manifest.

    Raises:
        UserError: unknown name, missing folder or files, or a task that cannot be trusted.
    """
    if is_manifest(name):
        from tasks.manifest import read as read_manifest

        return read_manifest(Path(name))
    read = registry.get(name)
    if root is None:
        raise UserError(
            f"no data folder given for task '{name}'; pass --data ROOT or set UBENCH_DATA, "
            f"where ROOT/{name} holds the release (or try --data phantom)"
        )
    folder = Path(root) / name
    if not folder.is_dir():
        raise UserError(
            f"data of task '{name}' not found: {folder} is no folder; "
            f"unpack the release there (`ubench tasks {name}` says where it is had from)"
        )
    task: Task = read(folder)
    if (folder / SYNTHETIC_MARKER).exists():
        task = dataclasses.replace(task, synthetic=True)
    return task
