"""Archives: a release is unpacked whole and as it was packed, or not at all.

`archive_members` reads them; here are the rules that each member must meet. Everything lands
in a temporary folder that is renamed at the end, so that an archive which is refused, or a process
which is killed, leaves nothing behind.
"""

from __future__ import annotations

import errno
import json
import lzma
import shutil
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tasks.obtain.archive_members import BLOCK, Member, Progress, members, pointed_at
from tasks.obtain.safe_names import Refused, folded, is_leftover, safe_parts
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError, not_found

MARKER = ".unpacked.json"  # in the unpacked folder: the archives it came from
SUFFIXES = (
    *(".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst"),
    *(".rar", ".7z"),  # not read; `unpack` says what to do with them
)

# A bomb gives more than MAX_RATIO bytes for one, once it has given FREE_EXPANSION. Images hardly
# shrink when packed, tables of numbers some twentyfold.
MAX_RATIO = 200
FREE_EXPANSION = 256 << 20
MAX_DEPTH = 100  # folders inside one another; releases have five

TAKEN = (errno.ENOTEMPTY, errno.EEXIST)  # of a folder that another process has put there

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

    The kind is recognised by content. Left out are what macOS and Windows add (`__MACOSX/`, `._*`,
    `.DS_Store`, `Thumbs.db`), rights, owners and dates. Links become copies of the files they
    point at. Does nothing if the folder was made from the same archives before.

    Args:
        archive: one archive, or several that make one release together (AUL is three).
        folder: where to; it must not be there, be empty, or come from an earlier call.
        nested: archives with a usual suffix inside these are unpacked too, each where it lies
            and in place of itself; archives inside those are left alone.
        progress: told after each member.

    Raises:
        UserError: an archive is missing, damaged, encrypted or of another kind; a member would be
            written outside `folder`, is not a file, folder or link, or is the same file as another
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
    except OSError as error:  # `_add` tells those of single members
        if error.errno in TAKEN and _is_unpacked(folder, archives, nested):
            return  # another process has just unpacked the same
        raise not_written(error, folder) from error


def not_written(error: OSError, path: Path, what: str = "") -> UserError:
    """The sentence for what this machine cannot write; a full disk is named as such.

    Args:
        error: as the system raised it.
        path: what was to be written, if the error does not say.
        what: what is therefore not done.
    """
    undone = f"{what} is not unpacked: " if what else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"{undone}the disk is full at {error.filename or path}; make room and run again"
        )
    return UserError(
        f"{undone}{error.filename or path} cannot be written ({error.strerror or error}); use "
        "another folder or disk"
    )


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
            raise Refused(f"expands to more than {limit}, absurdly much for its size")
        if size > self._free:
            raise Refused(f"expands to more than the {self._free / 2**20:.0f} MB free on the disk")

    def claim(self, parts: list[str], folder: bool) -> None:
        """Note a path and the folders above it; refuse what a system could confuse."""
        if len(parts) > MAX_DEPTH:
            raise Refused(f"lies in more than {MAX_DEPTH} folders, one inside the other")
        for depth in range(1, len(parts) + 1):
            path, is_folder = "/".join(parts[:depth]), folder or depth < len(parts)
            key = folded(path)
            if key not in self._paths:
                self._paths[key] = (path, is_folder)
                continue
            known, was_folder = self._paths[key]
            if known != path:
                raise Refused(
                    f"is the same as {known!r} on systems that ignore upper and lower case"
                )
            if not (is_folder and was_folder):
                raise Refused("is there twice, or is both a file and a folder")

    def expect(self, size: int) -> None:
        """Count `size` bytes that are about to be written; refused if they are too many."""
        self._bytes += size
        self.check(self._bytes)


def _add(
    tree: _Tree, path: Path, shown: str, above: tuple[str, ...], progress: Progress | None
) -> None:
    """Unpack one archive into the folder `above` of a tree; `shown` is its name in messages."""
    before = len(tree.files)
    links: dict[str, tuple[Member, str]] = {}  # path of a link -> the path it points at
    member: Member | None = None
    try:
        with path.open("rb") as raw:
            for member in members(path, shown, raw, tree.check, progress):
                _take(tree, member, shown, above, links)
        for link, (noted, _) in links.items():
            member = noted
            _copy(tree, link, links, shown)
    except (Refused, NotImplementedError) as error:
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
    member: Member,
    shown: str,
    above: tuple[str, ...],
    links: dict[str, tuple[Member, str]],
) -> None:
    """Unpack one member; links are noted for later."""
    inner = safe_parts(member.name)
    if member.fault:
        raise Refused(member.fault)
    if any(is_leftover(part) for part in inner):
        return
    if not inner and member.kind != "folder":
        raise Refused("has no name")
    parts = [*above, *inner]
    tree.claim(parts, folder=member.kind == "folder")
    path, target = "/".join(parts), tree.root.joinpath(*parts)
    with _writing(shown, member, target):
        (target if member.kind == "folder" else target.parent).mkdir(parents=True, exist_ok=True)
    if member.kind == "file":
        tree.expect(member.size)
        _write(member, target, shown)
        tree.files.append(path)
    elif member.kind != "folder":
        links[path] = member, "/".join([*above, *pointed_at(member, inner)])


def _write(member: Member, target: Path, shown: str) -> None:
    with member.open() as source:
        with _writing(shown, member, target):
            file = target.open("xb")
        try:
            while block := source.read(BLOCK):
                with _writing(shown, member, target):
                    file.write(block)
        finally:
            with _writing(shown, member, target):
                file.close()  # writes what is left, and may find the disk full


def _copy(tree: _Tree, link: str, links: dict[str, tuple[Member, str]], shown: str) -> None:
    """Put a copy of the file where a link to it stands."""
    member, target = links[link]
    for _ in links:  # a link may point at a link, if not in a circle
        target = links[target][1] if target in links else target
    source = tree.root / target
    if not source.is_file():
        raise Refused(f"is a link to {member.target!r}, which is not a file in the archive")
    tree.expect(source.stat().st_size)
    with _writing(shown, member, tree.root / link):
        shutil.copyfile(source, tree.root / link)
    tree.files.append(link)


@contextmanager
def _writing(shown: str, member: Member, target: Path) -> Iterator[None]:
    """Tell what goes wrong on this machine from what is wrong with the archive."""
    try:
        yield
    except OSError as error:
        raise not_written(error, target, f"{shown} (at its member {member.name!r})") from error
