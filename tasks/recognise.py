"""Which folders hold a task's release, whatever they are called.

A release that is not known as one would give its test images to a training. So a folder counts as a
task's if its name is the task's in other letters, or if it holds what the task's reader looks for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tasks import release
from ultrabench_eval.core import names
from ultrabench_eval.core.errors import UserError

PREPARED = "prepared"  # ROOT/prepared/<task>/ describes a task (`tasks.prepare`), and is none

# Of BUTTERFLY's folders <subset>/<patient>/<class>/; lists of files would tell, but it has none.
_BUTTERFLY = frozenset(("carotid", "2ch", "lungs", "ivc", "4ch", "bladder", "plax"))
_ABOVE = 3  # levels from the images of a release up to its folder, at most


# Names that are not words: with others around them ("GBCU-Shared") they still name the task.
_ACRONYMS = ("aul", "busbra", "gbcu", "mmotu", "tn5000")


class Release(NamedTuple):
    """A folder that counts as a task's release."""

    task: str
    place: Path
    named: bool
    """Whether its name is the task's."""
    held: bool
    """Whether it holds what the task's reader looks for, at once or deeper."""


def releases(root: Path, tasks: Iterable[str]) -> list[Release]:
    """The releases at and below a folder; not those inside another one, nor in hidden folders.

    Folders are listed, and no file is opened. Links are followed, each folder is entered once.

    Args:
        root: where to look.
        tasks: names of the tasks that are looked for.

    Raises:
        UserError: a folder cannot be listed.
    """
    known = list(tasks)
    found: dict[Release, None] = {}
    for place, folders, entries in _walk(root):
        name = place.resolve().name if place == root else place.name
        called = _called(name, known)
        if called is not None:
            found[Release(called, place, True, _holds(place, called))] = None
        for task in _held(place, entries):
            if task != called and task in known:
                found[Release(task, place, False, True)] = None
        top = _subset_top(root, place) if _holds_patients(place, folders) else None
        if top is not None and "butterfly" in known and called is None:
            found[Release("butterfly", top.parent if top != root else root, False, True)] = None
        if top is not None or any(release.place == place for release in found):
            folders.clear()
    return list(found)


def around(folder: Path, tasks: Iterable[str]) -> Release | None:
    """The release that a folder is a part of: "Images" of BUSBRA, or a class of AUL."""
    known = set(tasks)
    for place in folder.resolve().parents[:_ABOVE]:
        try:
            entries = {name.casefold() for name in os.listdir(place)}
        except OSError:  # nobody can tell
            continue
        for task in _held(place, entries):
            if task in known:
                return Release(task, place, named=False, held=True)
    return None


def _called(name: str, tasks: list[str]) -> str | None:
    """The task that a folder's name stands for, if any."""
    key = names.folder_key(name)
    words = {names.folder_key(word) for word in re.split(r"[\W_]+", name)}
    for task in tasks:
        if names.folder_key(task) == key or (task in _ACRONYMS and task in words):
            return task
    return None


def _walk(root: Path) -> Iterator[tuple[Path, list[str], set[str]]]:
    """Each folder, its sub-folders (those taken off the list are not entered), and all names in it
    without case. A folder that is met a second time has no sub-folders."""
    seen = set()
    for place, folders, files in os.walk(root, onerror=unlisted, followlinks=True):
        if is_prepared(Path(place)):
            folders.clear()
            continue
        entries = {name.casefold() for name in (*folders, *files)}
        real = os.path.realpath(place)
        shown = [] if real in seen else [name for name in folders if not is_hidden(name)]
        folders[:] = sorted(shown)
        seen.add(real)
        yield Path(place), folders, entries


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none that a person put there."""
    return name.startswith(".") or name == "__MACOSX"


def is_prepared(folder: Path) -> bool:
    """Whether a folder is what `ubench data prepare` wrote: sheets of test images too."""
    return folder.name == PREPARED and any(folder.glob("*/splits.csv"))


def unlisted(error: OSError) -> None:
    """For `os.walk`, which would skip a folder that it cannot list.

    Raises:
        UserError: always.
    """
    raise UserError(
        f"cannot list {error.filename} ({error.strerror or error}); make it readable or remove it"
    ) from error


def _holds(place: Path, task: str) -> bool:
    """Whether a folder holds a task's marks, at once or deeper; of no marks, whether it may."""
    every = [known[task] for known in (release.MARKS, release.OLDER_MARKS) if task in known]
    return not every or any(next(release.candidates(place, one), None) for one in every)


def _held(place: Path, entries: set[str]) -> list[str]:
    """The tasks whose marks are in a folder."""
    return [
        task
        for task, marks in (*release.MARKS.items(), *release.OLDER_MARKS.items())
        if all(mark.split("/")[0].casefold() in entries for mark in marks)
        and all(release.inside(place, mark).exists() for mark in marks)
    ]


def is_subset(name: str) -> bool:
    """Whether a folder is called as a subset of BUTTERFLY is."""
    words = re.split(r"[\W_\d]+", name.lower())
    return "butterfly" in name.lower() or "training" in words or "test" in words


def _holds_patients(place: Path, folders: list[str]) -> bool:
    """Whether a folder is one of patients' folders, with BUTTERFLY's classes in them."""
    patients = [name for name in folders if name.isdecimal()]
    return any(
        child.name.casefold() in _BUTTERFLY and child.is_dir()
        for name in patients[:5]
        for child in (place / name).iterdir()
    )


def _subset_top(root: Path, place: Path) -> Path | None:
    """The uppermost folder from `root` to `place` that is called as a subset of BUTTERFLY."""
    if "butterfly" in root.resolve().name.lower():  # that it is called "test" says nothing
        return root
    below = [folder for folder in (*reversed(place.parents), place) if root in folder.parents]
    return next((folder for folder in below if is_subset(folder.name)), None)
