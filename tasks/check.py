"""Check a task's data in one pass: every image is decoded and hashed once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tasks import split_files
from tasks.samples.images import Image
from tasks.split_files import UNUSED, SplitRow
from tasks.task import Task
from ultrabench_eval.core import parallel
from ultrabench_eval.core.errors import UserError


class ImageSize(NamedTuple):
    """Of an image, in pixels."""

    height: int
    width: int


@dataclass(frozen=True)
class Report:
    """What was found of N images, used or not."""

    task: Task
    rows: tuple[SplitRow, ...]
    """N rows of the split file, with hashes ("" where the file cannot be read at all)."""
    sizes: tuple[ImageSize | None, ...]
    """N sizes; None where the image cannot be decoded."""
    unreadable: tuple[str, ...]
    """A sentence for each image that cannot be decoded."""
    repeated: tuple[str, ...]
    """A sentence for each content that stands in several splits, or with several labels."""
    changed: tuple[str, ...]
    """A sentence for each difference from the record."""

    @property
    def missing(self) -> tuple[str, ...]:
        """One sentence if this copy lacks images that the release lists."""
        names = self.task.missing
        if not names:
            return ()
        return (
            f"{len(names)} file(s) that the release lists are not in {self.task.origin} "
            f"(first: {names[0]}); copy them from the release",
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """All that is wrong, one sentence each."""
        return (*self.missing, *self.unreadable, *self.repeated, *self.changed)

    def extremes(self) -> dict[str, tuple[ImageSize, str]]:
        """The image of the fewest and of the most pixels, and the longest side: size and name."""
        sized = [
            (size, row.image)
            for row, size in zip(self.rows, self.sizes, strict=True)
            if size is not None
        ]
        if not sized:
            return {}
        return {
            "smallest": min(sized, key=lambda one: one[0].height * one[0].width),
            "largest": max(sized, key=lambda one: one[0].height * one[0].width),
            "longest side": max(sized, key=lambda one: max(one[0])),
        }


def check(
    task: Task,
    record: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """Decode and hash every image once, and look for what would spoil a number.

    Args:
        task: as read.
        record: a split file with hashes that an earlier check wrote, to compare with; it need
            not exist.
        progress: called with images done and in all.

    Raises:
        UserError: the record is damaged.
    """
    before = split_files.read(record) if record is not None and record.is_file() else None
    listed = list(split_files.rows(task))
    rows, sizes, unreadable = [], [], []
    for (row, _), (digest, size, problem) in parallel.ordered(_look, listed):
        rows.append(row._replace(sha256=digest))
        sizes.append(size)
        if problem:
            unreadable.append(problem)
        progress(len(rows), len(listed))
    return Report(
        task,
        tuple(rows),
        tuple(sizes),
        tuple(unreadable),
        tuple(_repeated(rows)),
        tuple(changed(rows, before, record)) if before is not None else (),
    )


def _look(listed: tuple[SplitRow, Image]) -> tuple[str, ImageSize | None, str]:
    """Hash, size and what is wrong."""
    image, digest = listed[1], ""
    try:
        digest = image.digest()
        height, width = image.read().shape[:2]
    except UserError as error:
        return digest, None, str(error)
    return digest, ImageSize(height, width), ""


def _repeated(rows: list[SplitRow]) -> list[str]:
    by_content: defaultdict[str, list[SplitRow]] = defaultdict(list)
    for row in rows:
        if row.sha256:
            by_content[row.sha256].append(row)
    sentences = []
    for same in by_content.values():
        splits = dict.fromkeys(row.split for row in same if row.split != UNUSED)
        labels = dict.fromkeys(row.label for row in same)
        if len(splits) > 1 or len(labels) > 1:
            where = " and ".join(f"{row.image} ({row.split}, {row.label})" for row in same)
            sentences.append(
                f"the same content is {where}; keep one, or leave the others out by a split file"
            )
    return sentences


def changed(rows: list[SplitRow], before: dict[str, SplitRow], record: Path | None) -> list[str]:
    """How rows with hashes differ from those of a record, one sentence each.

    Args:
        rows: as they are now.
        before: rows of the record by image.
        record: its file, for the sentences.
    """
    now = {row.image: row for row in rows}
    sentences = []
    for name, old in before.items():
        if name not in now:
            sentences.append(f"{name} of {record} is no longer there; restore it")
        elif old.sha256 and old.sha256 != now[name].sha256:
            sentences.append(
                f"{name} is not the image of {record} (its SHA-256 differs); restore it, or "
                "prepare the task again"
            )
        elif old.split != now[name].split:
            sentences.append(
                f"{name} is in {now[name].split}, in {record} it was in {old.split}; look for "
                "files that were added or removed"
            )
    added = [name for name in now if name not in before]
    if added:
        sentences.append(f"{len(added)} image(s) are not in {record} (first: {added[0]})")
    return sentences
