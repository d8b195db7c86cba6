"""One command of ours in a forked copy of this process, which has imported everything."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import NamedTuple

LIMIT = 120.0  # seconds


class Done(NamedTuple):
    """How a command ended."""

    code: int
    """-1: it did not end in time; below that: killed by a signal."""
    text: str
    """What it wrote, standard output first."""


def run(words: list[str], folder: Path, patch: str = "") -> Done:
    """Run `ubench ...` or `usjepa ...` in a folder.

    Args:
        words: the program and its arguments.
        folder: the working directory; the home folder and all output files are below it.
        patch: Python code that is executed before, to stop a training at a step for example.
    """
    (folder / ".log").mkdir(exist_ok=True)
    logs = [folder / ".log" / name for name in ("stdout", "stderr", "modules")]
    child = os.fork()
    if child == 0:
        os.setsid()
        code = 70
        try:
            code = _in_child(words, folder, patch, logs)
        finally:
            os._exit(code)
    code = _wait(child)
    out, err = (path.read_text(errors="replace") for path in logs[:2])
    return Done(code, f"{out}\n{err}")


def warm(folder: Path) -> None:
    """Import what the last command in a folder has imported, so that the next ones need not."""
    for name in (folder / ".log" / "modules").read_text().split():
        if name not in sys.modules:
            with contextlib.suppress(BaseException):
                importlib.import_module(name)


def _in_child(words: list[str], folder: Path, patch: str, logs: list[Path]) -> int:
    os.chdir(folder)
    for number, path in zip((1, 2), logs, strict=False):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ |= {"HOME": str(folder / ".home"), "UBENCH_CACHE": str(folder / "cache")}
    for name in ("UBENCH_DATA", "UBENCH_WEIGHTS"):
        os.environ.pop(name, None)
    sys.argv = words
    try:
        exec(patch, {})
        if words[0] == "ubench":
            from ultrabench_eval.cli import main
        else:
            from usjepa.cli import main
        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    known = [name for name in sys.modules if not name.startswith(("ubench_plugin", "plugin"))]
    logs[2].write_text("\n".join(known))
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _wait(child: int) -> int:
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else -2
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)  # it made a session of its own
    os.waitpid(child, 0)
    return -1
