"""Units of work: a model on a task. Which are this job's share, and which are free to be taken.

Jobs on several machines take a share each (`--shard I/N`), or are given one unit at a time
(`executors`). Processes on one results folder take turns: whoever holds
OUT/.units/<model>/<task>.lock works on that unit, and the others go on to the next. The operating
system frees the lock of a process that dies, so its unit is taken up again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from ultrabench_eval.cells import Coordinates
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError

PAUSE = 0.5  # seconds between two looks at units that are all held by others

T = TypeVar("T")


class Unit(NamedTuple):
    """What is measured in one go."""

    model: str
    task: str
    """The task's label."""
    seed: int | None = None
    """If it is only the fine-tuning of this seed's networks, of which cells are made later."""

    @property
    def path(self) -> Path:
        """Where its files lie under a folder, without suffix; "timm/x" becomes "timm%2Fx"."""
        task = files.file_name(self.task)
        of_seed = "" if self.seed is None else f"+seed-{self.seed}"  # "+" is in no name that short
        return Path(files.file_name(self.model)) / f"{task}{of_seed}"


@dataclass(frozen=True)
class Shard:
    """One of `of` shares of a run, counted from 1."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The share that "2/4" means.

        Raises:
            UserError: not of this form, or out of range.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise UserError(f"invalid --shard '{text}': expected I/N with 1 <= I <= N, e.g. 2/4")
        return cls(number, of)

    def part(self, whole: Sequence[T]) -> list[T]:
        """This share of a list: neighbours, so that a job loads as few models as can be.

        The shares of all numbers are the list, each item once; their lengths differ by one at most.
        """
        start, end = (len(whole) * number // self.of for number in (self.number - 1, self.number))
        return list(whole[start:end])


def in_turn(
    units: Iterable[Unit],
    out: Path,
    patience: float | None = None,
    held: Callable[[list[Unit]], None] = lambda units: None,
) -> Iterator[Unit]:
    """Every unit once, held by this process while the caller works on it.

    Those that other processes hold come when they are free: finished by then, or left by a process
    that was killed.

    Args:
        units: in the order wanted.
        out: the results folder that the processes share.
        patience: seconds to wait at most for units that are held; then they come all the same. For
            units that were given to this process by name, where the lock only saves double work.
        held: told of the units that others hold, while nothing else is left to do.
    """
    waiting = list(units)
    since = time.monotonic()
    while waiting:
        busy = []
        for unit in waiting:
            with files.locked(out / ".units" / unit.path, patience=0) as mine:
                if mine:
                    yield unit
                    since = time.monotonic()
                else:
                    busy.append(unit)
        if len(busy) == len(waiting):
            if patience is not None and time.monotonic() - since >= patience:
                yield from busy
                return
            held(busy)
            time.sleep(PAUSE)
        waiting = busy


class Written:
    """Which cells were written since this was made.

    Args:
        out: the results folder, which other processes may share.
    """

    suffix = ".json"

    def __init__(self, out: Path) -> None:
        self._cells = out / "cells"
        paths = self._cells.glob(f"*/*/*{self.suffix}")
        self._before = {path: _stamp(path) for path in paths}

    def __contains__(self, at: object) -> bool:
        if not isinstance(at, Coordinates):
            return False
        path = self._cells / at.path
        path = path.with_name(f"{path.name}{self.suffix}")
        found = _stamp(path)
        return found is not None and found != self._before.get(path)


class Failures(Written):
    """Which cells failed in another process since this run began, and need no second try here."""

    suffix = ".error.json"


def _stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever a file is rewritten, whatever the clocks say; None without a file."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
