"""The members of an archive, as the archive describes them; nothing it says is trusted.

Zip and tar, plain or compressed, are recognised by content. What is read here is neither written
nor believed: `archives` decides what is taken.
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import posixpath
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, cast

from tasks.obtain.safe_names import Refused, safe_parts
from ultrabench_eval.core.errors import UserError

Progress = Callable[[str, int, int], None]
"""Called with the archive's name, the bytes of it that are read, and all its bytes."""

BLOCK = 1 << 20  # bytes that are read at once
_HEAD = 512  # the bytes that tell what a file is; also the block size of tar
_LONGEST_LINK = 4096


@dataclass(frozen=True)
class Member:
    """One entry of an archive, as the archive describes it."""

    name: str
    kind: Literal["file", "folder", "symbolic link", "hard link"]
    size: int = 0
    open: Callable[[], IO[bytes]] = io.BytesIO
    target: str = ""
    """Where a link points."""
    fault: str = ""
    """Why it cannot be taken at all."""


def members(
    path: Path,
    shown: str,
    raw: IO[bytes],
    check: Callable[[int], None],
    progress: Progress | None,
) -> Iterator[Member]:
    """The members of an archive in its order; each must be used before the next is asked for.

    Args:
        path: the archive.
        shown: its name in messages.
        raw: the archive, opened.
        check: called with the bytes that were unpacked so far; raises if they are too many.
        progress: told after each member.
    """
    head = raw.read(_HEAD)
    raw.seek(0)
    size = path.stat().st_size

    def tell(done: int) -> None:
        if progress:
            progress(path.name, min(done, size), size)

    decompress = _decompressor(head)
    if head.startswith((b"PK\3\4", b"PK\5\6")):
        yield from _zip_members(raw, tell)
    elif decompress:
        with decompress(raw) as stream:
            yield from _tar_members(_Forward(stream, check), raw, tell)
    elif head[257:262] == b"ustar" or (head and tarfile.is_tarfile(path)):
        yield from _tar_members(_Forward(raw, check), raw, tell)
    else:
        raise UserError(f"{shown} {_what_else(head)}")
    tell(size)


def _decompressor(head: bytes) -> Callable[[IO[bytes]], Any] | None:
    """What opens a compressed stream; None if it is not compressed."""
    if head.startswith(b"\x1f\x8b"):
        return gzip.open
    if head.startswith(b"BZh"):
        return bz2.open
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.open
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        try:
            return cast(
                "Callable[[IO[bytes]], Any]", importlib.import_module("compression.zstd").open
            )
        except ImportError as error:
            raise NotImplementedError("zstd before Python 3.14") from error
    return None


def _what_else(head: bytes) -> str:
    """What a file is that is not a zip or tar archive, and what to do."""
    if head.startswith(b"Rar!\x1a\7"):
        return "is a RAR archive; unpack it by hand (`unrar x`, or 7-Zip)"
    if head.startswith(b"7z\xbc\xaf\x27\x1c"):
        return "is a 7z archive; unpack it by hand (`7z x`, or 7-Zip)"
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return (
            "is a web page, not an archive (a download that needed a login or a confirmation?); "
            "download it again"
        )
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the archive; run `git lfs pull` there"
    return "is not a zip or tar archive, or its beginning is damaged; get it again"


def _zip_members(raw: IO[bytes], tell: Callable[[int], None]) -> Iterator[Member]:
    try:
        # Names without the UTF-8 flag are taken as cp437, whatever the machine.
        archive = zipfile.ZipFile(raw)
    except UnicodeDecodeError as error:
        raise Refused(f"has a member whose name is not UTF-8, {error.object!r}") from error
    done = 0
    with archive:
        for info in archive.infolist():
            # As stored: `filename` is cut at a NUL, and its separators depend on the system.
            name, mode = info.orig_filename, info.external_attr >> 16
            if info.flag_bits & 1:
                yield Member(name, "file", fault="is encrypted")
            elif name.endswith("/") or (stat.S_ISDIR(mode) and not info.file_size):
                yield Member(name, "folder")
            elif stat.S_ISLNK(mode) and info.file_size <= _LONGEST_LINK:
                target = archive.read(info).decode("utf-8", "surrogateescape")
                yield Member(name, "symbolic link", target=target)
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR):
                yield Member(name, "file", info.file_size, partial(archive.open, info))
            else:
                yield Member(name, "file", fault=_ODD)
            done += info.compress_size
            tell(done)


_ODD = "is a device, a pipe or something else that no release needs"


def _tar_members(stream: _Forward, raw: IO[bytes], tell: Callable[[int], None]) -> Iterator[Member]:
    try:
        archive = tarfile.open(  # noqa: SIM115 - closed below
            fileobj=cast("IO[bytes]", stream),
            mode="r:",
            encoding="utf-8",
            errors="surrogateescape",  # such names are refused later, by name
        )
    except tarfile.ReadError as error:
        raise Refused(f"holds no tar archive ({error})") from error
    with archive:
        for info in archive:
            if info.isdir():
                yield Member(info.name, "folder")
            elif info.issym():
                yield Member(info.name, "symbolic link", target=info.linkname)
            elif info.islnk():
                yield Member(info.name, "hard link", target=info.linkname)
            elif info.isreg() and info.size >= 0:
                content = cast("Callable[[], IO[bytes]]", partial(archive.extractfile, info))
                yield Member(info.name, "file", info.size, content)
            else:
                yield Member(info.name, "file", fault=_ODD)
            tell(raw.tell())
    # The library takes whatever is not a header for the end, and leaves a checksum after it unread.
    if len(stream.last) != _HEAD or stream.last.strip(b"\0"):
        raise tarfile.ReadError("its end mark is missing")
    while block := stream.read(BLOCK):
        if block.strip(b"\0"):
            raise tarfile.ReadError("there is more after its end mark")


class _Forward:
    """A stream that is read once from front to back; keeps count, and the last block it gave."""

    def __init__(self, stream: IO[bytes], check: Callable[[int], None]) -> None:
        self._stream = stream
        self._check = check
        self._position = 0
        self.last = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        self.last = self._stream.read(size)
        self._position += len(self.last)
        self._check(self._position)
        return self.last

    def tell(self) -> int:
        """The bytes given so far."""
        return self._position

    def seek(self, position: int) -> int:
        """Go on to `position`; going back would let a crafted archive run in circles."""
        if position < self._position:
            raise tarfile.ReadError("a member lies before the one before it")
        while self._position < position and self.read(min(BLOCK, position - self._position)):
            pass
        return self._position


def pointed_at(member: Member, parts: list[str]) -> list[str]:
    """Components of the path that a link points at, from the archive's top.

    Raises:
        Refused: it lies outside of the archive.
    """
    try:
        if member.kind == "hard link" or member.target.startswith("/"):
            return safe_parts(member.target)
        # A symbolic link starts in its own folder, and may lead upwards within the archive.
        return safe_parts(posixpath.normpath("/".join([*parts[:-1], member.target])))
    except Refused as error:
        raise Refused(f"is a link out of the folder, to {member.target!r}") from error
