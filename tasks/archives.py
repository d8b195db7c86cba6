"""Archives: a release is unpacked whole and as it was packed, or not at all.

Nothing an archive says is trusted: not its suffix, not its members' names, kinds and sizes.
Everything lands in a temporary folder that is renamed at the end, so that an archive which is
refused, or a process which is killed, leaves nothing behind.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import importlib
import io
import json
import lzma
import posixpath
import re
import shutil
import stat
import struct
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal, cast

from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError, not_found

Progress = Callable[[str, int, int], None]
"""Called with the archive's name, the bytes of it that are read, and all its bytes."""

MARKER = ".unpacked.json"  # in the unpacked folder: the archives it came from
SUFFIXES = (
    *(".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst"),
    *(".rar", ".7z"),  # not read; `unpack` says what to do with them
)

# A bomb gives more than MAX_RATIO bytes for one, once it has given FREE_EXPANSION. Images hardly
# shrink when packed, tables of numbers some twentyfold.
MAX_RATIO = 200
FREE_EXPANSION = 256 << 20

_BLOCK = 1 << 20
_HEAD = 512  # the bytes that tell what a file is; also the block size of tar
_LONGEST_LINK = 4096
_DAMAGED = (  # what the standard library raises while it reads a damaged archive
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, OverflowError, ValueError),
)


def find_archives(folder: Path) -> list[Path]:
    """The archives directly in a folder, by name: files with a suffix of `SUFFIXES`, not hidden."""
    found = [path for path in folder.iterdir() if path.is_file() and is_archive(path)]
    return sorted(found, key=lambda path: path.name)


def is_archive(path: Path) -> bool:
    """Whether a path has a suffix of `SUFFIXES`."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def unpack(
    archive: Path | Sequence[Path],
    folder: Path,
    *,
    nested: bool = False,
    progress: Progress | None = None,
) -> None:
    """Unpack zip and tar archives (gz, bz2, xz; zst from Python 3.14 on) into a new folder.

    The kind is told by content. Left out are what macOS and Windows add (`__MACOSX/`, `._*`,
    `.DS_Store`, `Thumbs.db`), rights, owners and dates. Links become copies of the files they
    point at. Does nothing if the folder was made from the same archives before.

    Args:
        archive: one archive, or several that make one release together (AUL is three).
        folder: where to; it must not be there, be empty, or come from an earlier call.
        nested: archives with a usual suffix inside these are unpacked, too, each where it lies
            and in place of itself; archives inside those are left alone.
        progress: told after each member.

    Raises:
        UserError: an archive is missing, damaged, encrypted or of another kind; a member would be
            written outside `folder`, is no file, folder or link, or is the same file as another
            one where upper and lower case are one; it expands absurdly or the disk is too small;
            or `folder` holds something else. Nothing is written then.
    """
    archives = [archive] if isinstance(archive, Path) else list(archive)
    for path in archives:
        if not path.is_file():
            raise not_found("archive", path, "check the path")
    if _is_unpacked(folder, archives, nested):
        return
    try:
        with files.atomic_folder(folder) as temporary:
            _fill(temporary, archives, nested, progress)
    except OSError as error:  # those of single members are told apart in `_add`
        raise UserError(
            f"{error.filename or folder} cannot be written ({error.strerror or error}); unpack "
            "into another folder"
        ) from error


def _fill(folder: Path, archives: list[Path], nested: bool, progress: Progress | None) -> None:
    """Unpack the archives into an empty folder, and note where it comes from."""
    tree = _Tree(folder, packed=sum(path.stat().st_size for path in archives))
    for path in archives:
        _add(tree, path, str(path), (), progress)
    if nested:
        for name in [name for name in tree.files if is_archive(Path(name))]:
            inner, above = folder / name, tuple(name.split("/")[:-1])
            _add(tree, inner, f"the archive {name!r} in {archives[0]}", above, progress)
            inner.unlink()
    parts = [
        {"name": path.name, "bytes": path.stat().st_size, "sha256": hashing.digest_file(path)}
        for path in archives
    ]
    origin = {"nested": nested, "archives": parts}
    files.write_text(folder / MARKER, json.dumps(origin, indent=2) + "\n")


def _is_unpacked(folder: Path, archives: list[Path], nested: bool) -> bool:
    """Whether `folder` was made from the same archives in the same way; an error if otherwise."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder to unpack to")
    marker = folder / MARKER
    if not marker.is_file():
        if any(folder.iterdir()):
            raise UserError(
                f"{folder} is not empty and was not made by unpacking; name another folder or "
                "move its content away"
            )
        return False
    try:
        origin = json.loads(marker.read_text(encoding="utf-8"))
        known = [(part["bytes"], part["sha256"]) for part in origin["archives"]]
        names = ", ".join(part["name"] for part in origin["archives"])
        was_nested = bool(origin["nested"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{marker} is damaged; remove {folder} and unpack again") from error
    same = [path.stat().st_size for path in archives] == [size for size, _ in known] and all(
        hashing.digest_file(path) == digest
        for path, (_, digest) in zip(archives, known, strict=True)
    )
    if same and was_nested == nested:
        return True
    if same:
        inner = "too" if was_nested else "left alone"
        fault = f"{folder} was unpacked with the archives inside {inner}, unlike what is asked now"
    else:
        given = ", ".join(str(path) for path in archives)
        fault = f"{folder} was unpacked from another archive ({names}) than {given}"
    raise UserError(f"{fault}; remove the folder or name another")


# Reading archives.


@dataclass(frozen=True)
class _Member:
    """One entry of an archive, as the archive describes it."""

    name: str
    kind: Literal["file", "folder", "symbolic link", "hard link"]
    size: int = 0
    open: Callable[[], IO[bytes]] = io.BytesIO
    target: str = ""
    """Where a link points."""
    fault: str = ""
    """Why it cannot be taken at all."""


class _Refused(ValueError):
    """Why a member cannot be taken; becomes a sentence with the archive and the member in it."""


def _members(
    path: Path,
    shown: str,
    raw: IO[bytes],
    check: Callable[[int], None],
    progress: Progress | None,
) -> Iterator[_Member]:
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
    """What a file is that is no zip or tar archive, and what to do."""
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
    return "is no zip or tar archive, or its beginning is damaged; get it again"


def _zip_members(raw: IO[bytes], tell: Callable[[int], None]) -> Iterator[_Member]:
    try:
        # Names without the UTF-8 flag are taken as cp437, whatever the machine.
        archive = zipfile.ZipFile(raw)
    except UnicodeDecodeError as error:
        raise _Refused(f"has a member whose name is not UTF-8, {error.object!r}") from error
    done = 0
    with archive:
        for info in archive.infolist():
            # As stored: `filename` is cut at a NUL, and its separators depend on the system.
            name, mode = info.orig_filename, info.external_attr >> 16
            if info.flag_bits & 1:
                yield _Member(name, "file", fault="is encrypted")
            elif name.endswith("/") or (stat.S_ISDIR(mode) and not info.file_size):
                yield _Member(name, "folder")
            elif stat.S_ISLNK(mode) and info.file_size <= _LONGEST_LINK:
                target = archive.read(info).decode("utf-8", "surrogateescape")
                yield _Member(name, "symbolic link", target=target)
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG, stat.S_IFDIR):
                yield _Member(name, "file", info.file_size, partial(archive.open, info))
            else:
                yield _Member(name, "file", fault=_ODD)
            done += info.compress_size
            tell(done)


_ODD = "is a device, a pipe or something else that no release needs"


def _tar_members(
    stream: _Forward, raw: IO[bytes], tell: Callable[[int], None]
) -> Iterator[_Member]:
    try:
        archive = tarfile.open(  # noqa: SIM115 - closed below
            fileobj=cast("IO[bytes]", stream),
            mode="r:",
            encoding="utf-8",
            errors="surrogateescape",  # such names are refused later, by name
        )
    except tarfile.ReadError as error:
        raise _Refused(f"holds no tar archive ({error})") from error
    with archive:
        for info in archive:
            if info.isdir():
                yield _Member(info.name, "folder")
            elif info.issym():
                yield _Member(info.name, "symbolic link", target=info.linkname)
            elif info.islnk():
                yield _Member(info.name, "hard link", target=info.linkname)
            elif info.isreg() and info.size >= 0:
                content = cast("Callable[[], IO[bytes]]", partial(archive.extractfile, info))
                yield _Member(info.name, "file", info.size, content)
            else:
                yield _Member(info.name, "file", fault=_ODD)
            tell(raw.tell())
    # The library takes whatever is no header for the end, and leaves a checksum after it unread.
    if len(stream.last) != _HEAD or stream.last.strip(b"\0"):
        raise tarfile.ReadError("its end mark is missing")
    while block := stream.read(_BLOCK):
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
        while self._position < position and self.read(min(_BLOCK, position - self._position)):
            pass
        return self._position


# Writing what they hold.


class _Tree:
    """What is unpacked so far below `root`, and the rules that the next member must meet.

    Args:
        root: the folder to fill.
        packed: size of all archives in bytes.
    """

    def __init__(self, root: Path, packed: int) -> None:
        self.root = root
        self.files: list[str] = []
        self._limit = max(FREE_EXPANSION, MAX_RATIO * packed)
        self._free = shutil.disk_usage(root).free
        self._bytes = 0
        self._paths: dict[str, tuple[str, bool]] = {}  # folded -> path, whether it is a folder

    def check(self, size: int) -> None:
        """Refuse if `size` bytes in all are too many."""
        if size > self._limit:
            limit = f"{self._limit / 2**20:.0f} MB"
            raise _Refused(f"expands to more than {limit}, absurdly much for its size")
        if size > self._free:
            raise _Refused(f"expands to more than the {self._free / 2**20:.0f} MB free on the disk")

    def claim(self, parts: list[str], folder: bool) -> None:
        """Note a path and the folders above it; refuse what a system could confuse."""
        for depth in range(1, len(parts) + 1):
            path, is_folder = "/".join(parts[:depth]), folder or depth < len(parts)
            key = _fold(path)
            if key not in self._paths:
                self._paths[key] = (path, is_folder)
                continue
            known, was_folder = self._paths[key]
            if known != path:
                raise _Refused(
                    f"is the same as {known!r} where upper and lower case are not told apart"
                )
            if not (is_folder and was_folder):
                raise _Refused("is there twice, or is both a file and a folder")

    def expect(self, size: int) -> None:
        """Count `size` bytes that are about to be written; refused if they are too many."""
        self._bytes += size
        self.check(self._bytes)


def _add(
    tree: _Tree, path: Path, shown: str, above: tuple[str, ...], progress: Progress | None
) -> None:
    """Unpack one archive into the folder `above` of a tree; `shown` is its name in messages."""
    before = len(tree.files)
    links: dict[str, tuple[_Member, str]] = {}  # path of a link -> the path it points at
    member: _Member | None = None
    try:
        with path.open("rb") as raw:
            for member in _members(path, shown, raw, tree.check, progress):
                _take(tree, member, shown, above, links)
        for link, (noted, _) in links.items():
            member = noted
            _copy(tree, link, links, shown)
    except (_Refused, NotImplementedError) as error:
        reason = str(error)
        if isinstance(error, NotImplementedError):
            reason = f"is packed in a way that Python does not read ({reason})"
        name = f"its member {member.name!r}" if member else "it"
        raise UserError(
            f"{shown} is not unpacked: {name} {reason}; get the archive again from the release's "
            "own page, or, if you trust it, unpack it by hand with 7-Zip"
        ) from error
    except _DAMAGED as error:
        where = f" at or behind its member {member.name!r}" if member else ""
        raise UserError(
            f"{shown} is damaged or cut off{where} ({type(error).__name__}: {error}); nothing is "
            "unpacked: get it again and compare its size and checksum"
        ) from error
    if len(tree.files) == before:
        raise UserError(f"{shown} holds no files; get it again from the release's own page")


def _take(
    tree: _Tree,
    member: _Member,
    shown: str,
    above: tuple[str, ...],
    links: dict[str, tuple[_Member, str]],
) -> None:
    """Unpack one member; links are noted for later."""
    inner = safe_parts(member.name)
    if member.fault:
        raise _Refused(member.fault)
    if any(_is_leftover(part) for part in inner):
        return
    if not inner and member.kind != "folder":
        raise _Refused("has no name")
    parts = [*above, *inner]
    tree.claim(parts, folder=member.kind == "folder")
    path, target = "/".join(parts), tree.root.joinpath(*parts)
    with _writing(shown, member):
        (target if member.kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
    if member.kind == "file":
        tree.expect(member.size)
        _write(member, target, shown)
        tree.files.append(path)
    elif member.kind != "folder":
        links[path] = member, "/".join([*above, *_pointed_at(member, inner)])


def _write(member: _Member, target: Path, shown: str) -> None:
    with member.open() as source:
        with _writing(shown, member):
            file = target.open("xb")
        with file:
            while block := source.read(_BLOCK):
                with _writing(shown, member):
                    file.write(block)
            with _writing(shown, member):
                file.flush()


def _copy(tree: _Tree, link: str, links: dict[str, tuple[_Member, str]], shown: str) -> None:
    """Put a copy of the file where a link to it stands."""
    member, target = links[link]
    for _ in links:  # a link may point at a link, if not in a circle
        target = links[target][1] if target in links else target
    source = tree.root / target
    if not source.is_file():
        raise _Refused(f"is a link to {member.target!r}, which is no file of the archive")
    tree.expect(source.stat().st_size)
    with _writing(shown, member):
        shutil.copyfile(source, tree.root / link)
    tree.files.append(link)


@contextmanager
def _writing(shown: str, member: _Member) -> Iterator[None]:
    """Tell what goes wrong on this machine from what is wrong with the archive."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk is full: {shown} is not unpacked; make room and run again"
            ) from error
        raise UserError(
            f"{shown} is not unpacked: its member {member.name!r} cannot be written "
            f"({error.strerror}); unpack into another folder or on another disk"
        ) from error


# Names.


def safe_parts(name: str) -> list[str]:
    """The components of a `/`-separated name from elsewhere, if it stays within its folder.

    Raises:
        ValueError: it is absolute, leads upwards, would be another place on another system, or is
            no valid text. The message is the rest of a sentence that begins with the name.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise _Refused("has a name that is not UTF-8") from error
    if "\0" in name or "\\" in name:
        raise _Refused("has a NUL or a backslash in its name")
    if name.startswith("/"):
        raise _Refused("has an absolute name")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise _Refused("leads out of the folder")
    if any(re.match("[A-Za-z]:", part) for part in parts):
        raise _Refused("names a Windows drive")
    return parts


def _pointed_at(member: _Member, parts: list[str]) -> list[str]:
    """Components of the path that a link points at, from the archive's top."""
    try:
        if member.kind == "hard link" or member.target.startswith("/"):
            return safe_parts(member.target)
        # A symbolic link starts in its own folder, and may lead upwards within the archive.
        return safe_parts(posixpath.normpath("/".join([*parts[:-1], member.target])))
    except _Refused as error:
        raise _Refused(f"is a link out of the folder, to {member.target!r}") from error


def _is_leftover(part: str) -> bool:
    """Whether a file or folder is one that a system adds to archives on its own."""
    return part == "__MACOSX" or part.startswith("._") or part in (".DS_Store", "Thumbs.db")


def _fold(path: str) -> str:
    """Equal for two paths that macOS or Windows could take for one (Unicode standard, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
