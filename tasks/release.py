"""Finding an original release inside a folder, however it was unpacked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ultrabench_eval.core.errors import UserError

SYNTHETIC_MARKER = "SYNTHETIC.json"  # the phantom suite writes it beside every release it makes
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


def find(folder: Path, *marks: str, source: str) -> Path:
    """The directory at or below `folder` that holds every path of `marks`.

    Directories nearest the top win, then alphabetical order, so that the choice never depends on
    the file system. Hidden folders and macOS leftovers are passed over.

    Raises:
        UserError: no directory holds them all.
    """
    level, seen = [folder], set[Path]()
    while level:
        for directory in level:
            if all((directory / mark).exists() for mark in marks):
                return directory
        seen.update(directory.resolve() for directory in level)  # links may run in circles
        level = [c for d in level for c in _subfolders(d) if c.resolve() not in seen]
    raise UserError(
        f"{folder} does not hold the release: no folder at or below it has "
        f"{' and '.join(marks)}; unpack {source} there"
    )


def images_in(directory: Path) -> list[Path]:
    """Image files of a directory (suffix in any case; no hidden or `._` files), by name."""
    return sorted(
        path
        for path in directory.iterdir()
        if path.suffix.lower() in _IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def walk(folder: Path, suffix: str) -> Iterator[Path]:
    """Files below `folder` with this suffix (in any case), by name; hidden ones are passed over."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() == suffix and not path.name.startswith("."):
            yield path
    for child in _subfolders(folder):
        yield from walk(child, suffix)


def read_text(path: Path) -> str:
    """Text of a release's file, UTF-8 with or without byte order mark.

    Raises:
        UserError: the file cannot be read or is in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is no UTF-8 text (byte {error.start}); copy it again from the release"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); copy it again from the release"
        ) from error


def labelled_list(path: Path, separator: str | None, n_classes: int) -> list[tuple[str, int]]:
    """Rows `<name><separator><code>` of a list file, in order; empty lines are passed over.

    Args:
        path: the list file.
        separator: as for `str.split`; None is any white space.
        n_classes: codes run from 0 to n_classes - 1.

    Raises:
        UserError: a row is not of this form; it is named by its line number.
    """
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, *code = (part.strip() for part in line.rsplit(separator, 1))
        if not name or not code or not code[0].isdecimal() or int(code[0]) >= n_classes:
            raise UserError(
                f"{path}, line {number}: '{line.strip()}' is not an image name and a class code "
                f"from 0 to {n_classes - 1}; copy the file again from the release"
            )
        rows.append((name, int(code[0])))
    return rows


def missing_note(what: str, missing: Iterable[str], total: int) -> tuple[str, ...]:
    """A note that counts rows whose file is absent; empty if none is."""
    missing = list(missing)
    if not missing:
        return ()
    return (f"{len(missing)} of {total} {what} have no image file (first: {missing[0]})",)


def unused_note(what: str, unused: Iterable[str]) -> tuple[str, ...]:
    """A note that counts files which are there but not read; empty if there are none."""
    unused = sorted(unused)
    if not unused:
        return ()
    return (f"{len(unused)} {what} (first: {unused[0]})",)


def _subfolders(directory: Path) -> list[Path]:
    try:
        children = sorted(path for path in directory.iterdir() if path.is_dir())
    except PermissionError as error:
        raise UserError(f"cannot read folder {directory}; give yourself the rights") from error
    return [c for c in children if not c.name.startswith(".") and c.name != "__MACOSX"]
