"""Keeps evaluation images out of the frames that a student is trained on.

What counts as the same picture, and how reliably it is met, is measured in results/audit/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import tasks as task_zoo
from model_zoo.clip_rule import ClipRule
from tasks.near_duplicates import align, duplicates, signatures
from tasks.near_duplicates.signatures import Signatures
from tasks.samples import clips
from tasks.samples.clips import Clip
from tasks.samples.images import Image
from tasks.scan.scan_mask import LOOKED_AT
from tasks.task import SPLITS, Task
from ultrabench_eval.core import hashing, parallel
from ultrabench_eval.core.errors import UserError, did_you_mean

THRESHOLDS = {
    "signatures": signatures.FORMAT,
    "like": duplicates.LIKE,
    "sieve": align.SIEVE,
    "halfway": align.HALFWAY,
    "same scene": duplicates.SAME_SCENE,
    "near duplicate": duplicates.NEAR_DUPLICATE,
}
"""What a verdict depends on besides the pixels."""

Advance = Callable[[int, int], None]


def _silent(done: int, total: int) -> None:
    pass


class Match(NamedTuple):
    """The evaluation image that a frame shows."""

    task: str
    image: str
    """Its name in the task."""
    grade: str
    """One of `duplicates.GRADES`."""
    correlation: float
    """Of the texture; 1 for equal pixels."""


class Guard:
    """Knows evaluation images, and tells which frames show one of them.

    Args:
        images: task and name of each of the N images.
        signed: their signatures.
        grades: what counts as showing one, of `duplicates.GRADES`. By default all, for another
            frame of a test scene leaks too.

    Raises:
        UserError: no image, or an unknown grade.
    """

    def __init__(
        self,
        images: Sequence[tuple[str, str]],
        signed: Signatures,
        grades: Sequence[str] = duplicates.GRADES,
    ) -> None:
        if not images:
            raise UserError("the guard was given no evaluation image; give it tasks and splits")
        _check("grade", grades, duplicates.GRADES)
        self.tasks = tuple(dict.fromkeys(task for task, _ in images))
        """Names of the guarded tasks."""
        self.count = len(images)
        """Evaluation images, N."""
        self.grades = tuple(grade for grade in duplicates.GRADES if grade in grades)
        self.digest = hashing.digest(
            {
                "thresholds": THRESHOLDS,
                "grades": self.grades,
                # Sorted: the order of tasks and images changes no verdict.
                "images": sorted(
                    [task, pixels] for (task, _), pixels in zip(images, signed.pixels, strict=True)
                ),
            }
        )
        """SHA-256 over task and pixels of every evaluation image, and what counts as a match."""
        self._images = tuple(images)
        self._reference = duplicates.Reference(signed)

    @classmethod
    def of(
        cls,
        tasks: Sequence[Task],
        splits: Sequence[str] = ("test",),
        grades: Sequence[str] = duplicates.GRADES,
        advance: Advance = _silent,
    ) -> Guard:
        """A guard of those splits of some tasks.

        Args:
            tasks: whose images are read, all of them.
            splits: of `tasks.task.SPLITS`.
            grades: see the class.
            advance: called with the number of images read and in all.

        Raises:
            UserError: no task, an unknown split or grade, or an image that cannot be read.
        """
        _check("split", splits, SPLITS)
        _check("grade", grades, duplicates.GRADES)
        images: list[tuple[str, Image]] = [
            (task.name, image)
            for task in tasks
            for split in dict.fromkeys(splits)
            for sample in task.splits[split].images
            for image in _images(sample)
        ]
        signed = []
        for _, one in parallel.ordered(lambda item: signatures.signature(item[1].read()), images):
            signed.append(one)
            advance(len(signed), len(images))
        return cls([(task, i.name) for task, i in images], Signatures.of(signed), grades)

    @classmethod
    def at(
        cls,
        root: Path,
        names: Sequence[str] | None = None,
        splits: Sequence[str] = ("test",),
        grades: Sequence[str] = duplicates.GRADES,
        advance: Advance = _silent,
    ) -> Guard:
        """A guard of the tasks below a data root.

        Args:
            root: holds one sub-folder per task.
            names: as `tasks.load` takes them, each of which must be there; None for every known
                task that has a sub-folder.
            splits: as `of` takes them.
            grades: see the class.
            advance: as `of` takes it.

        Raises:
            UserError: what `of` raises, and a task that is not there or cannot be read: a guard
                that passed it over would let its images through.
        """
        if names is None:
            names = task_zoo.names_at(root)
        return cls.of([task_zoo.load(name, root) for name in names], splits, grades, advance)

    def check(self, images: Sequence[np.ndarray]) -> list[Match | None]:
        """The evaluation image that each frame shows best, or None.

        A verdict depends on the frame alone, not on the others of the batch; memory grows with the
        batch.

        Args:
            images: decoded frames, uint8 RGB [H, W, 3] each.
        """
        signed = [one for _, one in parallel.ordered(signatures.signature, images)]
        best: dict[int, duplicates.DuplicatePair] = {}
        for pair in self._reference.find(Signatures.of(signed)):
            if pair.grade in self.grades:
                best[pair.first] = min(best.get(pair.first, pair), pair, key=_gravity)
        return [self._match(best[row]) if row in best else None for row in range(len(images))]

    def _match(self, pair: duplicates.DuplicatePair) -> Match:
        return Match(*self._images[pair.second], pair.grade, pair.correlation)


def _images(sample: Image | Clip) -> Sequence[Image]:
    """The sample itself, or, of a video, frames evenly spread over it."""
    if not clips.is_clip(sample):
        return [sample]
    return [
        sample.frame(index) for index in dict.fromkeys(ClipRule(LOOKED_AT).positions(sample.count))
    ]


def _gravity(pair: duplicates.DuplicatePair) -> tuple[int, float, int]:
    return duplicates.GRADES.index(pair.grade), -pair.correlation, pair.second


def _check(what: str, asked: Sequence[str], known: Sequence[str]) -> None:
    """Refuse an unknown name, and none at all."""
    for name in asked:
        if name not in known:
            raise UserError(
                f"the guard knows no {what} '{name}'{did_you_mean(name, known)} "
                f"it knows {', '.join(known)}"
            )
    if not asked:
        raise UserError(f"the guard was given no {what}; give one or more of {', '.join(known)}")
