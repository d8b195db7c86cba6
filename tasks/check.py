"""Check a task's data in one pass: every image and mask is decoded and hashed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks import split_files
from tasks.samples.clips import content, is_clip
from tasks.samples.images import Image
from tasks.split_files import UNUSED, SplitRow
from tasks.task import Item, Task
from ultrabench_eval.core import hashing, parallel
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key


class ImageSize(NamedTuple):
    """Of an image, in pixels."""

    height: int
    width: int


class MaskFacts(NamedTuple):
    """Of a mask."""

    digest: str
    """Of its codes."""
    shares: tuple[float, ...]
    """Of the classes, in parts of the image."""


class _Look(NamedTuple):
    """What was found of an image and its mask."""

    digest: str = ""
    content: str = ""
    size: ImageSize | None = None
    mask: MaskFacts | None = None
    problem: str = ""


@dataclass(frozen=True)
class Report:
    """What was found of N images, used or not."""

    task: Task
    rows: tuple[SplitRow, ...]
    """N rows of the split file, with hashes ("" where the file cannot be read at all)."""
    sizes: tuple[ImageSize | None, ...]
    """N sizes; None where the image cannot be decoded."""
    masks: tuple[MaskFacts | None, ...]
    """N, where the targets are masks that can be read."""
    unreadable: tuple[str, ...]
    """A sentence for each image or mask that cannot be decoded."""
    repeated: tuple[str, ...]
    """A sentence for each content that is in several splits, or has several labels."""
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

    def shown(self) -> tuple[str, ...]:
        """A sentence for each class of masks: how many show it, and how much of an image it is."""
        masks = [mask for mask in self.masks if mask is not None]
        sentences = []
        for code, name in list(enumerate(self.task.classes))[1:] if masks else ():
            shares = [mask.shares[code] for mask in masks if mask.shares[code] > 0]
            area = f", {sum(shares) / len(shares):.1%} of it on average" if shares else ""
            least = f" ({min(shares):.2%} to {max(shares):.1%})" if shares else ""
            sentences.append(f"{name}: in {len(shares)} of {len(masks)} images{area}{least}")
        return tuple(sentences)

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
    """Decode and hash every image and mask once, and look for what would spoil a number.

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
    rows, looks = list[SplitRow](), list[_Look]()
    for (row, _), look in parallel.ordered(partial(_look, len(task.classes)), listed):
        rows.append(row._replace(sha256=look.digest))
        looks.append(look)
        progress(len(rows), len(listed))
    return Report(
        task,
        tuple(rows),
        tuple(look.size for look in looks),
        tuple(look.mask for look in looks),
        tuple(look.problem for look in looks if look.problem),
        (*_repeated(rows, looks), *_repeated_masks(rows, looks)),
        tuple(changed(rows, before, record)) if before is not None else (),
    )


def _look(classes: int, listed: tuple[SplitRow, Item]) -> _Look:
    """Decode and hash an image and its mask."""
    item, look = listed[1], _Look()
    try:
        look = look._replace(digest=item.image.digest(), content=content(item.image))
        look = look._replace(size=_size(item.image, look.digest))
        if not isinstance(item.target, int | float):
            look = look._replace(mask=_facts(item.target.read(), classes))
    except UserError as error:
        return look._replace(problem=str(error))
    return look


def _size(sample: Image, digest: str) -> ImageSize:
    """Decode a sample, of a video each frame."""
    if not is_clip(sample):
        return ImageSize(*sample.read().shape[:2])
    for _ in sample.stream(digest):
        pass
    return ImageSize(*sample.size)


def _facts(codes: np.ndarray, classes: int) -> MaskFacts:
    shares = np.bincount(codes.ravel(), minlength=classes)[:classes] / codes.size
    parts = [str(codes.shape).encode(), codes.tobytes()]
    return MaskFacts(hashing.digest_parts(parts), tuple(shares.tolist()))


def _repeated(rows: list[SplitRow], looks: list[_Look]) -> list[str]:
    by_content = by_key(
        (look.content, row) for row, look in zip(rows, looks, strict=True) if look.content
    )
    sentences = []
    for same in by_content.values():
        splits = dict.fromkeys(row.split for row in same if row.split != UNUSED)
        labels = dict.fromkeys(row.label for row in same)
        if len(splits) > 1 or len(labels) > 1:
            sentences.append(
                f"the same content is {_where(same)}; keep one, or leave the others out by a split "
                "file"
            )
    return sentences


def _repeated_masks(rows: list[SplitRow], looks: list[_Look]) -> list[str]:
    """Masks that are not empty, of images in several splits: such images show the same, or one
    mask is another image's."""
    by_content = by_key(
        (look.mask.digest, row)
        for row, look in zip(rows, looks, strict=True)
        if look.mask is not None and look.mask.shares[0] < 1
    )
    return [
        f"the same mask belongs to {_where(same)}; look whether one of them is another image's"
        for same in by_content.values()
        if len({row.split for row in same if row.split != UNUSED}) > 1
    ]


def _where(same: list[SplitRow]) -> str:
    return " and ".join(
        f"{row.image} ({', '.join(filter(None, (row.split, row.label)))})" for row in same
    )


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
