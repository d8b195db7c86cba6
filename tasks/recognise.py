"""Which folders hold a task's release, whatever they are called.

A release that is not known as one would give its test images to a training. So a folder counts as a
task's if its name is the task's in other letters, or if it holds what the task's reader looks for.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tasks import release
from ultrabench_eval.core import names
from ultrabench_eval.core.errors import UserError

PREPARED = "prepared"  # ROOT/prepared/<task>/ describes a task (`tasks.prepare`), and is none

# Of BUTTERFLY's folders <subset>/<patient>/<class>/; lists of files would tell, but it has none.
_BUTTERFLY = frozenset(("carotid", "2ch", "lungs", "ivc", "4ch", "bladder", "plax"))
_SUBSETS = ("training", "test", "butterfly", "mini_dataset")


class Release(NamedTuple):
    """A folder that counts as a task's release."""

    task: str
    place: Path
    named: bool
    """By its name; else by what it holds."""


def releases(root: Path, tasks: Iterable[str]) -> list[Release]:
    """The releases at and below a folder; not those inside another one, nor in hidden folders.

    Folders are listed, and no file is opened. Links are followed once.

    Args:
        root: where to look.
        tasks: names of the tasks that are looked for.

    Raises:
        UserError: a folder cannot be listed.
    """
    by_key = {names.folder_key(task): task for task in tasks}
    found: dict[Release, None] = {}
    for place, folders, entries in _walk(root):
        name = place.resolve().name if place == root else place.name
        called = by_key.get(names.folder_key(name))
        if called is not None:
            found[Release(called, place, named=True)] = None
            folders.clear()
        for task in _held(place, entries):
            if task != called and task in by_key.values():
                found[Release(task, place, named=False)] = None
                folders.clear()
        if "butterfly" in by_key.values() and _is_subset(place, folders):
            if top := _subset_top(root, place):
                found[Release("butterfly", top.parent if top != root else root, False)] = None
                folders.clear()
    return list(found)


def _walk(root: Path) -> Iterator[tuple[Path, list[str], set[str]]]:
    """Each folder, its sub-folders (those taken off the list are not entered), and all names in it
    without case."""
    seen = set()
    for place, folders, files in os.walk(root, onerror=unlisted, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or is_prepared(Path(place)):
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield Path(place), folders, {name.casefold() for name in (*folders, *files)}


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none that a person put there."""
    return name.startswith(".") or name == "__MACOSX"


def is_prepared(folder: Path) -> bool:
    """Whether a folder is what `ubench data prepare` wrote: sheets of test images, too."""
    return folder.name == PREPARED and any(folder.glob("*/splits.csv"))


def unlisted(error: OSError) -> None:
    """For `os.walk`, which would pass over a folder that it cannot list.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"cannot list {error.filename} ({error.strerror or error}); make it readable or remove it"
    ) from error


def _held(place: Path, entries: set[str]) -> list[str]:
    """The tasks whose marks are in a folder."""
    return [
        task
        for task, marks in release.MARKS.items()
        if all(mark.split("/")[0].casefold() in entries for mark in marks)
        and all(release.inside(place, mark).exists() for mark in marks)
    ]


def _is_subset(place: Path, folders: list[str]) -> bool:
    """Whether a folder is one of patients' folders, with BUTTERFLY's classes in them."""
    patients = [name for name in folders if name.isdecimal()]
    return any(
        child.name.casefold() in _BUTTERFLY and child.is_dir()
        for name in patients[:5]
        for child in (place / name).iterdir()
    )


def _subset_top(root: Path, place: Path) -> Path | None:
    """The uppermost folder from `root` to `place` that is called as a subset of BUTTERFLY."""
    for folder in (*reversed(place.parents), place):
        if folder.is_relative_to(root):
            name = folder.resolve().name if folder == root else folder.name
            if any(word in name.lower() for word in _SUBSETS):
                return folder
    return None
