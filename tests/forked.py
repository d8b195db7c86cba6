"""Processes of their own, to be killed or to run side by side, without waiting for imports.

Each is a fork of one that has imported what this one has, and runs nothing itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Mapping
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

_OURS = ("ultrabench_eval", "model_zoo", "tasks", "usjepa")
_ALSO = ("ultrabench_eval.pipeline", "usjepa.train", "usjepa.cli", "torch", "scipy.stats")


@cache
def _forks() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    ours = [name for name in sys.modules if name.split(".")[0] in _OURS]
    context.set_forkserver_preload([*_ALSO, *sorted(ours)])
    return context


class Forked:
    """As `subprocess.Popen([sys.executable, "-c", code, *words], env=environment)`."""

    def __init__(self, code: str, *words: object, environment: Mapping[str, str]) -> None:
        given = (code, ["-c", *map(str, words)], dict(environment), Path.cwd())
        self._process: ForkServerProcess = _forks().Process(target=_run, args=given)
        self._process.start()

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"is not ready after {timeout} s"
        return self._process.exitcode

    def kill(self) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)


def _run(code: str, words: list[str], environment: dict[str, str], folder: Path) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    exec(compile(code, "-c", "exec"), {"__name__": "__main__"})
