"""What to know of a task's images before any of its numbers is believed, one sentence each.

Reports show these sentences above their tables: `PREFIX` tells them from warnings about probes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tasks.task import Task

PREFIX = "data: "
_BEFORE = "images are training images as well, byte for byte"  # had no prefix in earlier versions


def of_task(task: Task) -> list[str]:
    """All that are known once the images are read."""
    return [PREFIX + sentence for sentence in (*_repeated(task), *_absent(task))]


def changed(sentences: Sequence[str]) -> list[str]:
    """One sentence for all differences from the record of `ubench data prepare`."""
    if not sentences:
        return []
    return [
        f"{PREFIX}the images differ from the record of `ubench data prepare` in {len(sentences)} "
        f"place(s) (first: {sentences[0]}); restore them, or prepare the task again"
    ]


def among(sentences: Iterable[str]) -> list[str]:
    """Those of warnings or notes that are about a task's images, without the prefix."""
    return [
        sentence.removeprefix(PREFIX)
        for sentence in sentences
        if sentence.startswith(PREFIX) or _BEFORE in sentence
    ]


def _repeated(task: Task) -> list[str]:
    """Images that are the same in training and in another split."""
    return [
        f"{len(same)} of {len(task.splits[name])} {name} images are training images as "
        f"well, byte for byte (first: {same[0]}); remove them from one of the splits"
        for name, same in task.seen_in_training().items()
        if same
    ]


def _absent(task: Task) -> list[str]:
    """Classes without an image in validation; those without one in test need no run to be seen."""
    if task.targets != "class":
        return []
    counts = task.counts()
    validation, test = counts["validation"], counts["test"]
    train_only = [c for c, name in enumerate(task.classes) if not validation[c] and not test[c]]
    unseen = [c for c, count in enumerate(validation) if not count and c not in train_only]
    sentences = []
    if train_only:
        sentences.append(
            f"no image of {_named(task, train_only)} outside the training split; add images to "
            "validation and test, or merge or drop classes"
        )
    if unseen:
        sentences.append(
            f"no validation image of {_named(task, unseen)}, so probes, thresholds and "
            "temperatures are chosen without it; add validation images, or merge classes"
        )
    return sentences


def _named(task: Task, codes: Iterable[int]) -> str:
    return class_names([task.classes[code] for code in codes])


def class_names(names: Sequence[str]) -> str:
    """As in a sentence: "class 'a'", "classes 'a', 'b'"."""
    listed = ", ".join(f"'{name}'" for name in names)
    return f"class {listed}" if len(names) == 1 else f"classes {listed}"
