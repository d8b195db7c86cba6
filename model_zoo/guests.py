"""Code of others in our process: what it sets for all is put back, and its exit ends nothing."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ultrabench_eval.core.errors import UserError


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Put the working directory and torch's defaults back, and turn an exit into a sentence.

    Args:
        what: whose code runs inside, such as "model 'mine'".

    Raises:
        UserError: it calls `sys.exit()`, or raises something else that is no `Exception`. The
            user's own Ctrl-C passes through.
    """
    try:
        with _settings_kept():
            yield
    except (Exception, KeyboardInterrupt):
        raise
    except SystemExit as stop:
        raise UserError(
            f"{what} ends the program at {_place(stop)} (exit code {stop.code}); remove that call "
            "of sys.exit() or exit()"
        ) from stop
    except BaseException as error:
        raise UserError(
            f"{what} fails at {_place(error)} ({type(error).__name__}: {error}); correct it there"
        ) from error


@contextmanager
def _settings_kept() -> Iterator[None]:
    torch = sys.modules.get("torch")
    dtype = torch.get_default_dtype() if torch else None
    device = torch.get_default_device() if torch else None
    try:
        folder: str | None = os.getcwd()
    except FileNotFoundError:  # it was deleted
        folder = None
    try:
        yield
    finally:
        if folder is not None and Path(folder).is_dir():
            os.chdir(folder)
        torch = sys.modules.get("torch")
        if torch:
            torch.set_default_dtype(dtype or torch.float32)
            if torch.get_default_device() != (device or torch.device("cpu")):
                torch.set_default_device(device)


def _place(error: BaseException) -> str:
    """FILE:LINE where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"
