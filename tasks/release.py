"""Finding an original release inside a folder, however it was unpacked."""

from __future__ import annotations

from collections.abc import Iterable
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
    level = [folder]
    while level:
        for directory in level:
            if all((directory / mark).exists() for mark in marks):
                return directory
        level = [child for directory in level for child in _subfolders(directory)]
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


def missing_note(what: str, missing: Iterable[str], total: int) -> tuple[str, ...]:
    """A note that counts rows whose file is absent; empty if none is."""
    missing = list(missing)
    if not missing:
        return ()
    return (f"{len(missing)} of {total} {what} have no image file (first: {missing[0]})",)


def _subfolders(directory: Path) -> list[Path]:
    try:
        children = sorted(path for path in directory.iterdir() if path.is_dir())
    except PermissionError as error:
        raise UserError(f"cannot read folder {directory}; give yourself the rights") from error
    return [c for c in children if not c.name.startswith(".") and c.name != "__MACOSX"]
