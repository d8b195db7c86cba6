"""One guard around every command: whatever goes wrong with files and words becomes a sentence."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.names import printable

BAD_INPUT, INTERRUPTED = 2, 130

_REMEDIES = {
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "its disk is read-only: name another place",
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EDQUOT: "your quota is used up: free some space and run the same command again",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of this path is a file, not a folder: name another place",
    errno.EEXIST: "name another place, or move what is there",
    errno.EISDIR: "it is a folder where a file is needed: move it away, or name another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ELOOP: "its links run in a circle: name the file itself",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.EIO: "the disk does not answer: check it, then run the same command again",
    errno.ESTALE: "the network disk was mounted again: run the same command again",
}


def main(
    program: str, app: Callable[..., Any], speaks: Callable[[], bool] = lambda: True
) -> NoReturn:
    """Run a typer application as a program, and leave with its exit code.

    Args:
        program: its name, which stands before each sentence.
        app: called with `standalone_mode=False`, so that a SystemExit that comes out of it is not
            typer's own but that of somebody's code.
        speaks: whether this process prints errors, should several run the same command.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that lacks "±" shows "?"
            stream.reconfigure(errors="replace")
    with guarded(program, speaks):
        code = app(standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # what typer makes of it
            raise KeyboardInterrupt
        _leave(code if isinstance(code, int) else 0)


@contextmanager
def guarded(program: str, speaks: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Turn errors into a sentence each on standard error, and leave with exit code 2.

    Bugs of ours stay tracebacks. An interruption leaves with exit code 130.

    Args:
        program: its name, which stands before each sentence.
        speaks: whether this process prints them.
    """
    try:
        yield
    except _Exit as exit:
        sys.exit(exit.code)
    except UserError as error:
        _end(program, str(error), speaks)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _end(program, sentence(error), speaks)
    except UnicodeError as error:
        _end(program, f"a text cannot be read or written ({error}); save it as UTF-8", speaks)
    except MemoryError:
        _end(
            program,
            "out of memory; close other programs, or measure fewer models and tasks at a time",
            speaks,
        )
    except SystemExit as stop:
        if _is_typers(stop):  # completion for a shell ends so, and rich on a broken pipe
            raise
        _end(
            program,
            f"a plugin or library ended the program (exit code {stop.code}); remove its call of "
            "sys.exit() or exit()",
            speaks,
        )
    except KeyboardInterrupt:
        _interrupted(program)
    except Exception as error:
        if not _is_click(error):
            raise
        if type(error).__name__ == "Abort":
            _interrupted(program)
        _show(error)
        sys.exit(getattr(error, "exit_code", BAD_INPUT))


def sentence(error: OSError) -> str:
    """An error of the file system in one sentence: the file, what is wrong, how to fix it."""
    place = " and ".join(str(p) for p in (error.filename, error.filename2) if p is not None)
    reason = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0, "check that place, then run the same command again")
    return f"cannot read or write {place or 'a file'} ({reason}); {remedy}"


class _Exit(BaseException):
    """Our own way out, which no `except SystemExit` takes for a plugin's."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _leave(code: int) -> NoReturn:
    raise _Exit(code)


def _end(program: str, text: str, speaks: Callable[[], bool]) -> NoReturn:
    if speaks():
        for line in text.splitlines():
            print(f"{program}: {printable(line)}", file=sys.stderr)
    sys.exit(BAD_INPUT)


def _interrupted(program: str) -> NoReturn:
    print(f"{program}: interrupted; run the same command to resume", file=sys.stderr)
    sys.exit(INTERRUPTED)


def _is_typers(stop: SystemExit) -> bool:
    """Whether typer's own code, or what it prints with, called sys.exit()."""
    frames = traceback.extract_tb(stop.__traceback__)
    return bool({"typer", "click", "rich"} & set(Path(frames[-1].filename).parts[:-1]))


def _is_click(error: Exception) -> bool:
    """Whether typer raised it about the words of the command line; some versions bring click."""
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return bool(packages & {"click", "typer"})


def _show(error: Any) -> None:
    from typer import rich_utils

    rich_utils.rich_format_error(error)
