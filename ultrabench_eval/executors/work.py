"""What a worker does with a job, whichever engine started it."""

from __future__ import annotations

import faulthandler
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from ultrabench_eval import loading, pipeline
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.executors import ATTEMPTS, Job, Outcome
from ultrabench_eval.measure import Stage
from ultrabench_eval.pipeline import Step

TELL_EVERY = 10.0  # seconds, at most, of progress in a log


def work(job: Job) -> Outcome:
    """Measure the unit of a job. Whatever is wrong becomes an outcome, and never an exception."""
    try:
        with _at_home(job):
            return _measured(job)
    except UserError as error:
        return Outcome(error=str(error))
    except loading.FOREIGN as error:
        return Outcome(error=loading.reason(error))


def _measured(job: Job) -> Outcome:
    told = _StepsTold()
    try:
        ready = pipeline.prepare(job.request, told)
        units = [unit._replace(seed=job.unit.seed) for unit in ready.units]
        ready = replace(ready, units=units)
        pipeline.measure_all(ready, told, patience=files.PATIENCE)
    except loading.FOREIGN as error:
        _tell(str(error) if isinstance(error, UserError) else traceback.format_exc())
        raise
    return Outcome(tuple(told.stages), told.encoded)


class _StepsTold:
    """Counts what is done, and writes down how far it is."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.encoded = 0
        self._last = ("", 0.0)

    def __call__(self, step: Step) -> None:
        self.encoded += step.new
        cell = step.stage == "done" or step.stage == "kept" or step.stage == "failed"
        if step.stage == "done" or step.stage == "kept" or step.stage == "failed":
            self.stages.append(step.stage)
        stage, when = self._last
        if cell or step.stage != stage or time.monotonic() - when >= TELL_EVERY:
            self._last = (step.stage, time.monotonic())
            count = f" {step.done} of {step.total}" if step.total else ""
            _tell(" ".join(filter(None, [step.stage, step.model, step.task])) + count)


@contextmanager
def _at_home(job: Job) -> Iterator[None]:
    """Folder, variables, threads and log as the job wants them, and afterwards as they were."""
    with ExitStack() as stack:
        before = Path.cwd()
        try:
            os.chdir(job.folder)
        except OSError as error:
            raise UserError(
                f"the folder {job.folder} is not on {socket.gethostname()}; start the run in a "
                "folder that all machines of the cluster share"
            ) from error
        stack.callback(os.chdir, before)
        stack.callback(_set_environment, dict(os.environ))
        os.environ.update(job.environment)
        if job.threads:
            stack.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(job.threads)
        if job.log:
            stack.enter_context(_written_to(job.log))
        number = f", attempt {len(job.losses) + 1} of {ATTEMPTS}" if job.losses else ""
        _tell(f"{job.unit.model} on {job.unit.task}, {socket.gethostname()}:{os.getpid()}{number}")
        for loss in job.losses:
            _tell(f"before: {loss}")
        yield


def _set_environment(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


@contextmanager
def _written_to(log: Path) -> Iterator[None]:
    """Standard output and error go to a file, also those of libraries and of a crash."""
    log.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with log.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        faulthandler.enable(2)
        yield
    finally:
        faulthandler.disable()
        for stream in streams:
            stream.flush()
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


def _tell(words: str) -> None:
    sys.stderr.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {words}\n")
    sys.stderr.flush()
