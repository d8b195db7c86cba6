"""Code of others in our process: what it sets for all is put back, and its exit ends nothing."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ultrabench_eval.core.errors import UserError


@contextmanager
def contained(what: str) -> Iterator[None]:
    """Put the working directory and torch's defaults back, and turn an exit into a sentence.

    Args:
        what: whose code runs inside, such as "model 'mine'".

    Raises:
        UserError: it calls `sys.exit()`, or raises something else that is not an `Exception`. The
            user's own Ctrl-C passes through.
    """
    try:
        with settings_kept():
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
def settings_kept() -> Iterator[None]:
    """Put back what code of others sets for the whole process: folder, and defaults of torch."""
    torch = sys.modules.get("torch")
    before = _settings(torch) if torch else {}
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
            now = _settings(torch)
            wanted = before or {**now, "set_default_dtype": torch.float32}
            for name, value in wanted.items():
                if now[name] != value:
                    getattr(torch, name)(value)


def _settings(torch: Any) -> dict[str, Any]:
    """Values by the name of the function that sets them."""
    return {
        "set_default_dtype": torch.get_default_dtype(),
        "set_default_device": torch.get_default_device(),
        "set_grad_enabled": torch.is_grad_enabled(),
        "set_num_threads": torch.get_num_threads(),
        "use_deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _place(error: BaseException) -> str:
    """FILE:LINE where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename]
    last = (own or frames)[-1]
    return f"{last.filename}:{last.lineno}"
