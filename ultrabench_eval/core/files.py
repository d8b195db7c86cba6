"""Files that are on disk whole or not at all, and locks between processes."""

from __future__ import annotations

import itertools
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_HOST = socket.gethostname()
_counter = itertools.count()  # two threads of one process may write the same file


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, else removed.

    The content is flushed to the disk before the rename, so that a power cut cannot leave an
    empty file under the final name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_HOST}.{next(_counter)}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8, `\\n` line ends) to `path` atomically."""
    write_bytes(path, text.encode())


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`.lock; other processes that want it wait.

    The operating system frees the lock when its holder dies, so a killed run blocks nobody.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        yield


def remove_orphans(folder: Path) -> int:
    """Remove temporary files that processes of this machine left behind when they were killed.

    Returns how many were removed. Files of living processes and of other machines stay.
    """
    removed = 0
    for temporary in folder.rglob(f".*.{_HOST}.*.tmp"):
        pid = temporary.name.split(".")[-2]
        if pid.isdecimal() and not _alive(int(pid)):
            temporary.unlink(missing_ok=True)
            removed += 1
    return removed


def _alive(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there; better leave its file
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
