"""Files that are on disk whole or not at all, and locks between processes."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

PATIENCE = 1800.0  # seconds, after which a lock counts as left behind by a machine that is gone

# What file systems without locks answer, NFS without its lock service for instance.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_HOST = socket.gethostname()
_counter = itertools.count()  # two threads of one process may write the same file


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path`, else removed.

    The content is flushed to the disk before the rename, so that a power cut cannot leave an
    empty file under the final name.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it is renamed to `path`, else removed.

    `path` may be there if it is an empty folder. What a killed process left behind of an earlier
    attempt at the same folder is removed first. The files are not flushed one by one (a release
    has tens of thousands): safe against being killed, not against a power cut.
    """
    temporary = _temporary(path)
    for left in path.parent.iterdir():
        if left.name.startswith(f".{path.name}.{_HOST}.") and _orphan(left):
            shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.is_dir():
            path.rmdir()  # only ever an empty one; a rename onto it fails on Windows
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary(path: Path) -> Path:
    """A hidden name beside `path` that no other process or thread uses; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{_HOST}.{next(_counter)}.{os.getpid()}.tmp")


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8, `\\n` line ends) to `path` atomically."""
    write_bytes(path, text.encode())


@contextmanager
def locked(path: Path, patience: float | None = None) -> Iterator[bool]:
    """Hold the lock file `path`.lock; other processes that want it wait.

    The operating system frees the lock when its holder dies, so a killed run blocks nobody. On a
    network file system this may take long or never happen, if the holder's whole machine is gone;
    and there are some without any locks, where the holder is not kept alone.

    Args:
        path: what is locked.
        patience: seconds to wait at most; then False is yielded, and the caller goes on without
            the lock. Only for locks that save double work. None waits as long as it takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    alone = True
    try:
        lock.acquire(timeout=-1 if patience is None else patience)
    except Timeout:
        alone = False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        yield alone
    finally:
        lock.release()


def remove_orphans(folder: Path) -> int:
    """Remove temporary files that processes of this machine left behind when they were killed.

    Returns how many were removed. Files of living processes and of other machines stay.
    """
    removed = 0
    for temporary in folder.rglob(f".*.{_HOST}.*.tmp"):
        if temporary.is_file() and _orphan(temporary):
            temporary.unlink(missing_ok=True)
            removed += 1
    return removed


def _orphan(temporary: Path) -> bool:
    """Whether the process that made a temporary path of this machine is gone."""
    *_, pid, suffix = temporary.name.rsplit(".", 2)
    return suffix == "tmp" and pid.isdecimal() and not _alive(int(pid))


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
