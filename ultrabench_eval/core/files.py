"""Files that are on disk whole or not at all, and locks between processes."""

from __future__ import annotations

import csv
import errno
import hashlib
import inspect
import io
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from filelock import FileLock, Timeout

from ultrabench_eval.core.errors import UserError

PATIENCE = 1800.0  # seconds, after which a lock counts as left behind by a machine that is gone

# What file systems without locks answer, NFS without its lock service for instance.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_HOST = quote(socket.gethostname(), safe="")[:60]
_LONGEST = 160  # bytes of a name that is made into a file's; suffixes come behind it
# Newer versions of filelock turn a lock that the file system refuses into a file whose existence
# is the lock. Ours stay on the disk, so that such a lock would never be free.
_HARD: dict[str, Any] = (
    {"fallback_to_soft": False}
    if "fallback_to_soft" in inspect.signature(FileLock.__init__).parameters
    else {}
)


def file_name(text: str) -> str:
    """`text` as the name of one file or folder: the same on every system, and no path.

    Letters, digits and `_.-~` stay, all else becomes "%2F" and the like; "." and ".." are not
    names, so that leading dots become "%2E". Of a long text the beginning stays, with its digest
    behind a "+", which no other name has.
    """
    quoted = quote(text, safe="", errors="surrogateescape")
    dots = len(quoted) - len(quoted.lstrip("."))
    quoted = "%2E" * dots + quoted[dots:]
    if len(quoted) <= _LONGEST:
        return quoted
    known = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:24]
    return f"{quoted[: _LONGEST - 40]}+{known}"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file, which is renamed to `path` on success, else removed.

    The content is flushed to the disk before the rename, so that a power cut cannot leave an
    empty file under the final name. Its mode is that of any new file, whoever fills it.
    """
    temporary = _temporary(path)
    mode = _create(temporary)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        if stat.S_IMODE(temporary.stat().st_mode) != mode:  # some libraries make private files
            temporary.chmod(mode)
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
    """A hidden name beside `path` that nobody can foresee; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name.encode(errors="surrogateescape")[:120].decode(errors="ignore")
    return path.with_name(f".{name}.{_HOST}.{secrets.token_hex(8)}.{os.getpid()}.tmp")


def _create(path: Path) -> int:
    """Make a file that was not there, through no link; returns its mode, by the umask."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o666)
    try:
        return stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def check_writable(folder: Path, what: str) -> None:
    """Try whether files can be written to a folder, which need not exist; leaves nothing behind.

    Args:
        folder: the folder.
        what: what an error calls it, and how to name another, such as "the results folder (--out)".

    Raises:
        UserError: it cannot be made, or nothing can be written there.
    """
    there = folder
    while not os.path.lexists(there) and there != there.parent:
        there = there.parent
    # Tried in a folder of its own: of several processes of one run, none may remove what another
    # has just found or made.
    trial = there / f".trial.{_HOST}.{secrets.token_hex(8)}.{os.getpid()}.tmp"
    try:
        trial.mkdir()
        below = trial / folder.relative_to(there)
        below.mkdir(parents=True, exist_ok=True)
        _create(below / "trial")
    except OSError as error:
        raise UserError(
            f"cannot write to {what} {folder} ({error.strerror or error}); give another folder, or "
            "free space and permissions there"
        ) from error
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` (UTF-8, `\\n` line ends) to `path` atomically."""
    write_bytes(path, text.encode())


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows, the header among them, as the text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


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
    lock = FileLock(f"{path}.lock", **_HARD)
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
