"""The test samples of a task, to which predictions refer: OUT/tasks/<task fingerprint>.json."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from pydantic import Field

import tasks as task_zoo
from tasks.task import Task
from ultrabench_eval.sealed import Sealed


class TestSet(Sealed):
    """N test samples, of C classes where the task has any."""

    __test__ = False  # for pytest, which takes the name for that of a test
    later = frozenset({"type"})

    fingerprint: str
    """Of the task."""
    task: str
    type: str = "classification"
    """Of the task, see `task_types`."""
    classes: tuple[str, ...]
    synthetic: bool
    names: tuple[str, ...]
    labels: tuple[int, ...]
    """Class codes."""
    groups: tuple[str, ...] | None
    doubt: str = Field(default="", exclude=True)
    """Why it is not verified; "" if it is."""

    @classmethod
    def of(cls, task: Task) -> TestSet:
        """That of a task."""
        test = task.test
        return cls(
            fingerprint=task.fingerprint,
            task=task.name,
            type=task.card.type,
            classes=task.classes,
            synthetic=task.synthetic,
            names=tuple(image.name for image in test.images),
            labels=tuple(test.labels.tolist()),
            groups=test.groups,
        )

    @classmethod
    def of_labels(
        cls, labels: np.ndarray, classes: int, groups: Sequence[str] | None = None
    ) -> TestSet:
        """One without names, of class codes int64 [N]."""
        return cls(
            fingerprint="",
            task="",
            classes=tuple(map(str, range(classes))),
            synthetic=False,
            names=tuple(map(str, range(len(labels)))),
            labels=tuple(np.asarray(labels).tolist()),
            groups=None if groups is None else tuple(groups),
        )

    @property
    def own(self) -> bool:
        """Whether it is of people's own data, not of a published release."""
        return task_zoo.split_name(self.task)[0] not in task_zoo.BUILT_IN

    def anonymous(self) -> TestSet:
        """With numbers in place of the names of images and of groups.

        Groups are numbered in the order of their names, so that statistics draw the same.
        """
        digits = len(str(len(self)))
        ranks = {name: rank for rank, name in enumerate(sorted({*(self.groups or ())}), 1)}
        numbered = {
            "names": tuple(f"image {place:0{digits}d}" for place in range(1, len(self) + 1)),
            "groups": self.groups and tuple(f"group {ranks[g]:0{digits}d}" for g in self.groups),
        }
        return self.model_copy(update=numbered)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def targets(self) -> np.ndarray:
        """What is right: class codes, int64 [N]."""
        return np.asarray(self.labels, np.int64)

    @property
    def fits(self) -> bool:
        """Whether its parts go together."""
        lengths = {len(self.names), len(self.labels), len(self.groups or self.names)}
        return len(lengths) == 1 and all(0 <= code < len(self.classes) for code in self.labels)

    def only(self, rows: Sequence[int] | np.ndarray) -> TestSet:
        """Some of the samples, in that order."""
        places = np.arange(len(self))[np.asarray(rows)].tolist()
        parts = {
            name: every and tuple(every[n] for n in places)
            for name in ("names", "labels", "groups")
            for every in [getattr(self, name)]
        }
        return TestSet(**{**self.model_dump(), **parts})
