"""Workers on this machine: processes that are fed one job after the other.

`python -m ultrabench_eval.executors.local` is such a worker. Jobs come in by its standard input,
outcomes go out by its standard output, and it ends when nobody holds the other end any more.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import torch

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.executors import PAUSE, Ended, Engine, Job, Lost


class Local(Engine):
    """One thread per worker, which talks with its process and restarts it when it has died.

    Workers share the cores evenly, and see one GPU each (or share it, with gpus_per_worker=0.5).
    """

    name = "local"

    def __init__(self, workers: int, options: Mapping[str, object], device: str) -> None:
        super().__init__(workers, options, device)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        self._stopping = False
        self._gpus = self._gpus_of_workers()

    def start(self, folder: Path) -> None:
        """Ready at once: a process is started when it gets its first job."""
        self._folder = folder
        for number in range(self.workers):
            thread = threading.Thread(target=self._serve, args=(number,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Into the queue of all workers."""
        for job in jobs:
            self._jobs.put(job)

    def ended(self) -> Iterator[Ended]:
        """The next one, if it comes soon."""
        try:
            yield self._ended.get(timeout=PAUSE)
        except queue.Empty:
            return

    def stop(self) -> None:
        """Kill the processes; what they had finished is on disk."""
        with self._lock:
            self._stopping = True
            for process in self._processes.values():
                _kill(process)
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        for process in self._processes.values():
            with process:  # waits, and closes its streams
                pass

    # ---- inside -----------------------------------------------------------------------------

    def _serve(self, number: int) -> None:
        """The life of a worker, from this side."""
        while (job := self._jobs.get()) is not None:
            process = self._process(number)
            if process is None:
                return
            try:
                pickle.dump(job, _stream(process.stdin))
                _stream(process.stdin).flush()
                end = pickle.load(_stream(process.stdout))
            except Exception:  # it died in the middle of a word, or before
                _kill(process)
                end = Lost(_death(process.wait()), self._log(number))
            self._ended.put((job, end))

    def _process(self, number: int) -> subprocess.Popen[bytes] | None:
        """A living process of this worker; None if all is being stopped."""
        with self._lock:
            process = self._processes.get(number)
            if self._stopping:
                return None
            if process is None or process.poll() is not None:
                process = self._start(number)
                self._processes[number] = process
            return process

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(place or os.getcwd() for place in sys.path)
        environment = {**os.environ, "PYTHONPATH": path}
        if self.options.cpus_per_worker:
            environment["OMP_NUM_THREADS"] = str(self.options.cpus_per_worker)
        environment.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // self.workers)))
        if self._gpus is not None:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[number]
        with self._log(number).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "ultrabench_eval.executors.local"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the parent, who then kills its workers
            )

    def _log(self, number: int) -> Path:
        """For what goes wrong outside of any unit."""
        return self._folder / f"worker-{number + 1}.log"

    def _gpus_of_workers(self) -> list[str] | None:
        """What each worker sees as CUDA_VISIBLE_DEVICES; None leaves it as it is."""
        if self.device not in ("auto", "cuda"):
            return None
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        names = visible.split(",")[:count] if visible else [str(n) for n in range(count)]
        return share_gpus(names, self.workers, self.options.gpus_per_worker)


def share_gpus(names: Sequence[str], workers: int, each: float | None) -> list[str] | None:
    """The GPU of each worker, neighbours sharing one if `each` is below 1.

    Args:
        names: of the GPUs there are.
        workers: number of them.
        each: GPUs per worker; None: one, if there is any.

    Returns:
        Names, "" for none; None if there is nothing to share.

    Raises:
        UserError: there are not enough.
    """
    if each is None and not names:
        return None
    each = 1.0 if each is None else each
    if each * workers > len(names) + 1e-6:
        few = len(names) / workers
        raise UserError(
            f"{workers} workers with {each:g} GPU each are more than the {len(names)} GPU(s) of "
            f"this machine; take fewer workers, or --executor-option gpus_per_worker={few:.2g}"
        )
    return [names[int(number * each + 1e-6)] if each else "" for number in range(workers)]


def _cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _death(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"its process ended with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = str(-code)
    memory = " (possibly out of memory)" if name == "SIGKILL" else ""
    return f"its process was killed by {name}{memory}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """A worker, with whatever it has started; unless its number may be another's by now."""
    if process.returncode is None:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


# ---- the worker itself ---------------------------------------------------------------------------


def main() -> None:
    """Do jobs until there is nobody who sends any."""
    jobs_in, outcomes_out = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # programs that a model starts must not eat the jobs
    os.dup2(2, 1)  # nor may anyone who prints spoil the outcomes
    jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs_in, jobs), daemon=True).start()

    from ultrabench_eval.executors.work import work  # here, because it imports the pipeline

    with os.fdopen(outcomes_out, "wb") as answer:
        while True:
            pickle.dump(work(jobs.get()), answer)
            answer.flush()


def _listen(jobs_in: int, jobs: queue.SimpleQueue[Job]) -> None:
    """Take jobs; the process ends with the parent, however that ended, and in the midst of work."""
    with os.fdopen(jobs_in, "rb") as stream:
        while True:
            try:
                jobs.put(pickle.load(stream))
            except (EOFError, pickle.UnpicklingError):
                os._exit(0)


if __name__ == "__main__":
    main()
