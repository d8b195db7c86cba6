"""The test samples of a task, to which predictions refer: OUT/tasks/<task fingerprint>.json."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from pydantic import Field, FiniteFloat

import tasks as task_zoo
from tasks.targets import Kind
from tasks.task import Task
from ultrabench_eval.sealed import Sealed


class TestSet(Sealed):
    """N test samples, of C classes where the task has any."""

    __test__ = False  # for pytest, which takes the name for that of a test
    later = frozenset({"type", "kind", "values", "unit", "subgroups"})

    fingerprint: str
    """Of the task."""
    task: str
    type: str = "classification"
    """Of the task, see `task_types`."""
    kind: Kind = "class"
    """What is predicted for an image."""
    classes: tuple[str, ...]
    synthetic: bool
    names: tuple[str, ...]
    labels: tuple[int, ...]
    """Class codes; none where the targets are not classes."""
    values: tuple[FiniteFloat, ...] = ()
    """Targets that are numbers."""
    unit: str = ""
    """Of these."""
    groups: tuple[str, ...] | None
    subgroups: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """What else is known of the samples, see `tasks.task.Split`."""
    doubt: str = Field(default="", exclude=True)
    """Why it is not verified; "" if it is."""
    truth: Any = Field(default=None, exclude=True)
    """What is right, as the task type has it, while the task is at hand: masks are not kept."""

    @classmethod
    def of(cls, task: Task, truth: Any = None) -> TestSet:
        """That of a task, with what is right as its task type has it."""
        test = task.test
        kind = task.targets
        listed = [] if kind == "mask" else np.asarray(test.targets).tolist()
        return cls(
            fingerprint=task.fingerprint,
            task=task.name,
            type=task.card.type,
            kind=kind,
            classes=task.classes,
            synthetic=task.synthetic,
            names=tuple(image.name for image in test.images),
            labels=tuple(listed if kind == "class" else ()),
            values=tuple(listed if kind == "number" else ()),
            unit=task.card.unit,
            groups=test.groups,
            subgroups=dict(test.subgroups),
            truth=truth,
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
        tested = task_zoo.parts(self.task)[-1]
        return task_zoo.split_name(tested)[0] not in task_zoo.BUILT_IN

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
    def targets(self) -> Any:
        """What is right: `truth`, or what is kept of it: class codes int64 [N], or numbers float64
        [N]."""
        if self.truth is not None:
            return self.truth
        return np.asarray(self.values) if self.kind == "number" else np.asarray(self.labels, int)

    @property
    def fits(self) -> bool:
        """Whether its parts go together."""
        count = len(self)
        held = {"class": (count, 0), "number": (0, count), "mask": (0, 0)}[self.kind]
        lengths = {len(one) for one in (self.groups or self, *self.subgroups.values())}
        whole = held == (len(self.labels), len(self.values)) and lengths == {count}
        return whole and all(0 <= code < len(self.classes) for code in self.labels)

    def only(self, rows: Sequence[int] | np.ndarray) -> TestSet:
        """Some of the samples, in that order."""
        places = np.arange(len(self))[np.asarray(rows)].tolist()
        parts = {
            name: every and tuple(every[n] for n in places)
            for name in ("names", "labels", "values", "groups")
            for every in [getattr(self, name)]
        }
        parts["subgroups"] = {
            name: tuple(every[n] for n in places) for name, every in self.subgroups.items()
        }
        truth = None if self.truth is None else self.truth[np.asarray(places)]
        return TestSet(**{**self.model_dump(), **parts, "truth": truth})
