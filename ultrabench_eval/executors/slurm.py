"""Slurm, by submitit: every unit is a job of one array, of which so many run at a time.

Slurm itself queues jobs again that are preempted or out of time. A job that has left the queue
without a result is lost: submitit would ask `sacct` for it, which clusters without accounting do
not have, so it is `squeue` that is looked at.

With `cluster=local` the same goes through processes on this machine, with `cluster=debug` through
this process: to try a run before it is queued.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.executors import PAUSE, Ended, Engine, Job, Lost, Outcome, Resources, needed
from ultrabench_eval.executors.work import work

ARRAY = 1000  # jobs of one array; Slurm's default for MaxArraySize is 1001
LIST_EVERY = 2.0  # seconds between two looks at the folder of results
LOOK_EVERY = 20.0  # seconds between two questions to Slurm
GRACE = 60.0  # seconds that a result may take from a node's file system to this one


class SlurmOptions(Resources):
    """Of a job."""

    gpus_per_worker: int | None = Field(None, ge=0)  # type: ignore[assignment]
    timeout_min: int = Field(240, ge=1)
    """Of a unit. A job that is out of time is queued again, and goes on."""
    mem_gb: float | None = Field(None, gt=0)
    cluster: Literal["slurm", "local", "debug"] = "slurm"


class Slurm(Engine):
    """One job per unit. Options that begin with slurm_ (slurm_partition, slurm_account ...) go to
    sbatch as submitit has them."""

    name = "slurm"
    Options = SlurmOptions
    also = ", and slurm_partition, slurm_account ... for sbatch's own"
    options: SlurmOptions

    def __init__(self, workers: int, options: Mapping[str, object], device: str) -> None:
        own = {key: text for key, text in options.items() if not key.startswith("slurm_")}
        super().__init__(workers, own, device)
        self._sbatch = {key: _value(options[key]) for key in options if key not in own}
        self._submitit = needed("submitit", "slurm")
        if self.options.cluster == "slurm" and not (
            shutil.which("sbatch") and shutil.which("srun")
        ):
            raise UserError(
                "there is no sbatch on this machine; start the run where jobs are submitted, or "
                "try it here with --executor-option cluster=local"
            )
        self._jobs: dict[Any, Job] = {}
        self._gone: dict[str, float] = {}
        """When jobs were first missed in Slurm's queue."""
        self._looked = time.monotonic()
        self._failed = False

    @property
    def room(self) -> int:
        """All: those that wait are in Slurm's own queue."""
        return ARRAY if self.options.cluster == "slurm" else self.workers

    def start(self, folder: Path) -> None:
        """Nothing runs yet."""
        self._folder = Path(tempfile.mkdtemp(prefix="slurm-", dir=folder))
        parameters = {
            "name": "ubench",
            "timeout_min": self.options.timeout_min,
            "mem_gb": self.options.mem_gb,
            "cpus_per_task": self.options.cpus_per_worker,
            "gpus_per_node": int(self.gpus) or None,
            "slurm_array_parallelism": self.workers,
            **self._sbatch,
        }
        try:
            self._executor = self._submitit.AutoExecutor(self._folder, cluster=self.options.cluster)
            self._executor.update_parameters(**parameters)
        except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
            self.stop()
            raise UserError(
                f"Slurm's options are not valid ({_line(error)}); correct --executor-option"
            ) from error

    def submit(self, jobs: Sequence[Job]) -> None:
        """As one array."""
        debug = self.options.cluster == "debug"  # in this process, whose output is the user's
        sent = [
            replace(job, log=None if debug else job.log, threads=self.options.cpus_per_worker)
            for job in jobs
        ]
        try:
            handles = self._executor.map_array(_Work(), sent)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"Slurm does not take the jobs ({_line(error)}); correct --executor-option"
            ) from error
        self._jobs |= dict(zip(handles, jobs, strict=True))

    def ended(self) -> Iterator[Ended]:
        """Those whose result is on disk, or that have left the queue without one."""
        time.sleep(LIST_EVERY if self.options.cluster == "slurm" else PAUSE)
        self._look()
        written = set(os.listdir(self._folder))  # read again, where a file system would remember
        for handle, job in list(self._jobs.items()):
            end = self._end(handle, written)
            if end is not None:
                del self._jobs[handle]
                self._failed |= isinstance(end, Lost)
                yield job, end

    def stop(self) -> None:
        """Cancel what is queued or runs. What submitit kept goes, unless a worker was lost."""
        for handle in self._jobs:
            handle.cancel(check=False)
        if not self._failed:
            shutil.rmtree(self._folder, ignore_errors=True)

    # ---- inside -----------------------------------------------------------------------------

    def _end(self, handle: Any, written: Container[str]) -> Outcome | Lost | None:
        result: Path = handle.paths.result_pickle
        if self.options.cluster == "debug" or result.name in written:
            try:
                outcome: Outcome = handle.result()
            except RuntimeError as error:  # submitit's: the job could not even begin
                return Lost(_cause(error), handle.paths.stderr)
            return outcome
        if self.options.cluster == "local":
            over = handle.done()
        else:
            missed = self._gone.get(handle.job_id)
            over = missed is not None and time.monotonic() - missed >= GRACE
        if not over or result.exists():
            return None
        return Lost(f"job {handle.job_id} ended without a result", handle.paths.stderr)

    def _look(self) -> None:
        """Which jobs Slurm no longer has."""
        if self.options.cluster != "slurm" or time.monotonic() - self._looked < LOOK_EVERY:
            return
        self._looked = time.monotonic()
        try:
            listed = subprocess.run(
                ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
        except (OSError, subprocess.SubprocessError):
            return  # Slurm is busy or being restarted; its jobs go on
        queued = set(listed.stdout.split())
        self._gone = {
            handle.job_id: self._gone.get(handle.job_id, time.monotonic())
            for handle in self._jobs
            if handle.job_id not in queued
        }


class _Work:
    """`work`, in a form that submitit queues again when Slurm preempts it or its time is over."""

    def __call__(self, job: Job) -> Outcome:
        return work(job)

    def checkpoint(self, job: Job) -> Any:
        """The same again: what is finished is on disk."""
        return needed("submitit.helpers", "slurm").DelayedSubmission(self, job)


def _value(text: object) -> object:
    """An option as submitit wants it: "4" is a number, "gpu" a string, '["a", "b"]' a list."""
    try:
        return json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError:
        return text


def _line(error: Exception) -> str:
    """The first line of an error."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


def _cause(error: Exception) -> str:
    """The last line of the job's traceback, which submitit sets between dashes."""
    parts = str(error).split("-" * 22)
    lines = parts[1 if len(parts) > 1 else 0].strip().splitlines()
    return lines[-1] if lines else repr(error)
