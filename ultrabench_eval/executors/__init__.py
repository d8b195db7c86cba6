"""Executors: who measures the units of a run, if not this process alone.

A unit is a model on a task. `local` has worker processes on this machine, `slurm` submits a job
array, `ray` sends remote functions to a cluster; the results folder and the cache lie where all of
them reach them. The parent loads and checks everything once, hands out the units, and writes the
tables at the end.

Each job is given its one unit; workers do not choose among units by file locks. On the network file
systems of clusters locks cannot carry that: Lustre and BeeGFS may be mounted so that a lock holds
on its own node only, NFS without its lock service has none, and with it a lock can outlive a node
that has crashed. A scheduler, in turn, knows which of its jobs has died, on which node, and has a
place for it elsewhere. Locks stay as a second safety, against two runs on one folder, and nobody
waits for them for ever; whatever two workers do twice is written whole and with the same content.

If a worker is lost, only its unit is affected: the job is tried `ATTEMPTS` times at most, and
resumes from the cells and feature shards that are on disk.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model_zoo.loading import resolve_device
from ultrabench_eval.core.errors import UserError, did_you_mean
from ultrabench_eval.measure import Stage
from ultrabench_eval.request import Request
from ultrabench_eval.units import Unit

MOST_WORKERS = 4096
ATTEMPTS = 3  # at a unit whose worker dies
PAUSE = 0.2  # seconds between two looks at jobs that are under way
FOLDER = ".workers"  # in the results folder: a log a unit, and what engines keep for themselves

_ENGINES = {
    "local": "ultrabench_eval.executors.local:Local",
    "slurm": "ultrabench_eval.executors.slurm:Slurm",
    "ray": "ultrabench_eval.executors.ray:Ray",
}


@dataclass(frozen=True)
class Job:
    """All that a worker must know of a unit. Plain words and numbers, because it is sent."""

    unit: Unit
    request: Request
    """For this unit alone."""
    folder: str
    """In which relative paths are meant."""
    log: Path | None
    """What the worker says; None for its standard error."""
    threads: int | None = None
    """On which a network is computed; None leaves it to torch."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables that the worker's machine would not have by itself."""
    losses: tuple[str, ...] = ()
    """How earlier workers of this unit ended."""


@dataclass(frozen=True)
class Outcome:
    """What became of a unit."""

    stages: tuple[Stage, ...] = ()
    """Of its cells."""
    encoded: int = 0
    """Images."""
    error: str = ""
    """Why none was measured, in a sentence."""


@dataclass(frozen=True)
class Lost:
    """The worker is gone, and left no word."""

    reason: str
    log: Path | None = None
    """Where the engine says more, if the unit's own log does not exist."""


Ended = tuple[Job, Outcome | Lost]


class Resources(BaseModel):
    """What all executors can be told of a worker."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpus_per_worker: float | None = Field(None, ge=0, le=1)
    """None: one where the device that is asked for is a GPU."""
    cpus_per_worker: int | None = Field(None, ge=1)


class Engine(ABC):
    """Runs jobs, each in a process that may die without harm to the others.

    Args:
        workers: jobs that are under way at a time.
        options: strings from the command line, or values.
        device: as asked for.
    """

    name: ClassVar[str]
    Options: ClassVar[type[Resources]] = Resources
    also: ClassVar[str] = ""
    """Options beside these, in words."""

    def __init__(self, workers: int, options: Mapping[str, object], device: str) -> None:
        self.workers = workers
        self.device = device
        self.options = self._validated(options)

    def _validated(self, given: Mapping[str, object]) -> Resources:
        try:
            return self.Options.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors()[0]
            key = str(first["loc"][0])
            if first["type"] != "extra_forbidden":
                raise UserError(
                    f"--executor-option {key}={given[key]} is not valid ({first['msg']}); "
                    "correct it"
                ) from error
            known = list(self.Options.model_fields)
            raise UserError(
                f"executor {self.name} has no option '{key}'{did_you_mean(key, known)} "
                f"there are {', '.join(known)}{self.also}"
            ) from error

    @property
    def room(self) -> int:
        """Jobs that it takes at a time."""
        return self.workers

    @property
    def gpus(self) -> float:
        """Of a worker."""
        asked = self.options.gpus_per_worker
        return float(self.device.startswith("cuda")) if asked is None else asked

    @abstractmethod
    def start(self, folder: Path) -> None:
        """Get ready; `folder` is there for what it keeps on disk.

        Raises:
            UserError: the engine is not available, or not with these options.
        """

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> None:
        """Begin jobs, no more than there is room for.

        Raises:
            UserError: they are not taken.
        """

    @abstractmethod
    def ended(self) -> Iterator[Ended]:
        """Wait a while, or until a job has ended; those that have."""

    @abstractmethod
    def stop(self) -> None:
        """End whatever is still under way, at once; called once, after `start`, whatever came."""


def engine(
    name: str | None, workers: int | None, options: Mapping[str, object] | None, device: str
) -> Engine | None:
    """The engine that is asked for; None if this process does the work itself.

    Raises:
        UserError: unknown name or option, a number out of range, a package that is missing.
    """
    if name is None and workers is None:
        if options:
            raise UserError("--executor-option is for --executor; name one: local, slurm or ray")
        return None
    name = name or "local"
    if name not in _ENGINES:
        raise UserError(
            f"there is no executor '{name}'{did_you_mean(name, _ENGINES)} "
            f"there are {', '.join(_ENGINES)}"
        )
    if workers is None:
        raise UserError(f"--executor {name} needs to know how many: --workers N")
    if not 1 <= workers <= MOST_WORKERS:
        raise UserError(f"--workers must be from 1 to {MOST_WORKERS}, not {workers}")
    _check_device(name, device)
    module, _, attribute = _ENGINES[name].partition(":")
    made: Engine = getattr(importlib.import_module(module), attribute)(
        workers, options or {}, device
    )
    return made


@contextmanager
def started(engine: Engine, folder: Path) -> Iterator[None]:
    """The engine is at work inside, and whatever is under way is ended with it.

    Args:
        engine: the one.
        folder: for logs; made, and taken away again if nothing was begun.

    Raises:
        UserError: the engine is not available.
    """
    made = [path for path in (folder, folder.parent) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        engine.start(folder)
        try:
            yield
        finally:
            engine.stop()
    finally:
        for path in made:
            with suppress(OSError):  # there is something in it
                path.rmdir()


def distribute(jobs: Sequence[Job], engine: Engine) -> Iterator[Ended]:
    """The end of every job, as they come, by an engine that is started.

    A job whose worker is lost is given out again after those that wait, until it is `final`.
    """
    waiting, running, begun = deque(jobs), 0, False
    while waiting or running:
        batch = [waiting.popleft() for _ in range(min(len(waiting), engine.room - running))]
        try:
            if batch:
                engine.submit(batch)
        except UserError as error:
            if not begun:
                raise
            for job in batch:
                yield job, Outcome(error=str(error))
            continue
        begun = True
        running += len(batch)
        for job, end in engine.ended():
            running -= 1
            if isinstance(end, Lost) and not final(job):
                waiting.append(replace(job, losses=(*job.losses, end.reason)))
            yield job, end


def final(job: Job) -> bool:
    """Whether this is the last attempt at a job."""
    return len(job.losses) + 1 >= ATTEMPTS


def reason(job: Job, end: Outcome | Lost) -> str:
    """Why a unit is given up, in a sentence."""
    if isinstance(end, Outcome):
        return end.error
    log = job.log if job.log and job.log.exists() else end.log
    where = f"see {log}, fix the cause" if log else "fix the cause"
    return f"its worker died {len(job.losses) + 1} times ({end.reason}); {where} and run again"


def log_path(out: Path, unit: Unit) -> Path:
    """Where the worker of a unit says what it does."""
    path = out / FOLDER / unit.path
    return path.with_name(f"{path.name}.log")


def needed(module: str, extra: str) -> Any:
    """A module of an optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(
            f"--executor {extra} needs a package that is not installed ({error.name}): "
            f"pip install {error.name}"
        ) from error


def _check_device(executor: str, device: str) -> None:
    """Whether there can be such a device; on this machine, where the workers are on it.

    Without a look at the GPU itself, which would take memory from its worker.
    """
    if device in ("auto", "cpu"):
        return
    try:
        asked = torch.device(device)
    except RuntimeError:
        resolve_device(device)  # says why
        return
    there = asked.type == "cuda" and (asked.index or 0) < torch.cuda.device_count()
    if executor == "local" and not there:
        resolve_device(device)
