"""What is audited: the images of tasks, and pretraining images of a folder or a list."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks.samples import image_kinds, video
from tasks.samples.images import Image, ImageFile
from tasks.split_files import UNUSED
from tasks.task import Task
from ultrabench_eval.core.errors import UserError, not_found

PRETRAINING = "pretraining"
COLUMNS = ("image", "path", "file")  # of a CSV list; the first that is there


@dataclass(frozen=True)
class Entry:
    """One image of the audit, and what is known of its place."""

    image: Image
    task: str
    """Name of the task, or the folder or list of pretraining images."""
    split: str
    """train, validation, test, unused or pretraining."""
    label: str = ""
    group: str = ""
    """Patient or video; "" where it is not known."""

    def same_group(self, other: Entry) -> bool:
        """True if both are of one known group of one task."""
        return self.group != "" and (self.task, self.group) == (other.task, other.group)


def of_task(task: Task) -> list[Entry]:
    """All images of a task: its three splits, then those of the release in no split."""
    parts = [(name, split.items) for name, split in task.splits.items()]
    return [
        Entry(item.image, task.name, name, task.told(item), item.group or "")
        for name, items in [*parts, (UNUSED, task.unused)]
        for item in items
    ]


def of_pretraining(source: Path) -> tuple[list[Entry], list[str]]:
    """Images and video frames of a folder (with all folders in it), or of a list.

    A list is a CSV file with a column `image`, `path` or `file`, or any other text file with one
    path a line; paths start at the list's folder.

    Returns:
        The entries, and notes: what was ignored, which videos cannot be read.

    Raises:
        UserError: the folder or list is not there, or names nothing.
    """
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file())
        names = [path.relative_to(source).as_posix() for path in files]
    elif source.is_file():
        names = _listed(source)
        files = [source.parent / name for name in names]
    else:
        raise not_found("pretraining images", source, "give --against a folder or a list of paths")

    entries: list[Entry] = []
    notes: list[str] = []
    passed = 0
    for path, name in zip(files, names, strict=True):
        suffix = path.suffix.lower()
        images: Sequence[Image] = ()
        if suffix in video.SUFFIXES:
            try:
                images = _frames(path, name)
            except UserError as error:
                notes.append(str(error))
        elif suffix in image_kinds.SUFFIXES or not source.is_dir():  # what a list names is meant
            images = (ImageFile(path, name),)
        else:
            passed += 1
        entries += [Entry(image, str(source), PRETRAINING) for image in images]
    if not entries and not notes:
        raise UserError(
            f"no images in {source}; give --against a folder with images or videos, or a list"
        )
    if passed:
        notes.append(f"{passed} files of {source} are ignored: neither image nor video")
    return entries, notes


def _frames(path: Path, name: str) -> list[video.VideoFrame]:
    positions = video.sample(path, video.RATE, video.LIMIT)
    return [video.VideoFrame(path, f"{name}#{at}", at, positions) for at in positions]


def _listed(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read {path} ({error}) as a list of images; give a folder, a CSV file with a "
            f"column {', '.join(COLUMNS)}, or a text file with one path a line"
        ) from error
    if path.suffix.lower() != ".csv":
        return [line.strip() for line in text.splitlines() if line.strip()]
    rows = csv.DictReader(text.splitlines())
    column = next((c for c in COLUMNS if c in (rows.fieldnames or ())), None)
    if column is None:
        raise UserError(
            f"{path} has no column {' or '.join(COLUMNS)}; name the one with the paths so"
        )
    return [row[column] for row in rows if row[column]]
