"""Results that a table must not show without a word: test sets that cannot rank models, probes
that always give one answer, models that are all level, images that should not be where they are.

What is found is reported above every table, the same in each format.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from ultrabench_eval import data_warnings
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.report.results.entries import Entry, Probing, is_main, main_cells, task_order
from ultrabench_eval.report.results.evidence import Comparison, Evidence
from ultrabench_eval.test_set import TestSet

TITLE = "Read this first"
FEWEST = 5
"""Patients of a class that a test set must have, or one of them decides the class's F1."""
_TOO_FEW = (
    f"the test split lacks a class, or has fewer than {FEWEST} patients (groups) of one, so that "
    "nothing is bold, has letters or counts in the mean over tasks"
)
_CONSTANT = (
    "one answer for all test images with some seeds or all, so that the score is that of a constant"
)
_TIES = "all models tie, so that nothing is bold and their order is not a ranking"
_NOT_RANKED = (
    "its scores are not ranked (no bold, no letters) and are left out of the mean over tasks"
)


@dataclass(frozen=True)
class Finding:
    """One thing to know before the tables are read.

    Args:
        task: that it is about.
        sentence: what is wrong, in which task, how to fix it.
        models: that it is about; empty for all.
        probing: the probe and protocol that it is about; None for all.
        excludes: whether the task takes no bold, no letters and no part in the mean over tasks.
        brief: what is wrong, without names, where several tasks may have it.
    """

    task: str
    sentence: str
    models: tuple[str, ...] = ()
    probing: Probing | None = None
    excludes: bool = False
    brief: str = ""

    def concerns(self, entry: Entry) -> bool:
        """Whether it is about this result."""
        at = entry.coordinates
        if at.task != self.task or (self.models and at.model not in self.models):
            return False
        # What a probe answers was looked at in the main condition only.
        return self.probing is None or (is_main(entry) and Probing.of(entry) == self.probing)


def find(evidence: Evidence) -> tuple[Finding, ...]:
    """All that is to be told of a results folder, by task."""
    found = [*_test_sets(evidence), *_images(evidence), *_constant(evidence), *_tied(evidence)]
    return tuple(sorted(found, key=lambda one: task_order(one.task)))


def sentences(found: Iterable[Finding]) -> list[str]:
    """Each once, on one line."""
    return list(dict.fromkeys(" ".join(one.sentence.split()) for one in found))


def grouped(found: Iterable[Finding]) -> list[str]:
    """The sentences, those of one kind as one that names the tasks (and models) it is about."""
    told = []
    for brief, alike in by_key((one.brief or one.sentence, one) for one in found).items():
        several = len({one.task for one in alike}) > 1
        told += [f"{brief}: {_places(alike)}"] if several else sentences(alike)
    return told


def _places(found: Sequence[Finding]) -> str:
    """Tasks, each with the models if only some are meant."""
    places = by_key((one.task, () if one.brief == _TIES else one.models) for one in found)
    named = {task: ", ".join(dict.fromkeys(chain(*some))) for task, some in places.items()}
    return ", ".join(f"{task} ({models})" if models else task for task, models in named.items())


def unranked(found: Iterable[Finding]) -> frozenset[str]:
    """The tasks that are not ranked: no bold, no letters, left out of the mean over tasks."""
    return frozenset(one.task for one in found if one.excludes)


# ---- test sets ----------------------------------------------------------------------------------


def can_rank(test: TestSet) -> bool:
    """Whether a test set has enough patients of every class to compare models on."""
    return min(_patients(test)) >= FEWEST


def _patients(test: TestSet) -> list[int]:
    """Patients of each class; images where the task names no groups. Without classes: of all."""
    if test.kind != "class":
        return [len(set(test.groups or test.names))]
    if test.groups is None:
        return _images_of(test)
    pairs = set(zip(test.labels, test.groups, strict=True))
    return [sum(label == code for label, _ in pairs) for code in range(len(test.classes))]


def _images_of(test: TestSet) -> list[int]:
    """Test images of each class."""
    counts: list[int] = np.bincount(test.targets, minlength=len(test.classes)).tolist()
    return counts


def _test_sets(evidence: Evidence) -> list[Finding]:
    tests = {one.task: one.test for _, one in evidence.comparisons}
    return [
        Finding(task, f"task '{task}': {sentence}", excludes=True, brief=_TOO_FEW)
        for task, test in tests.items()
        for sentence in (*_lacking(test), *_few(test, _unit(evidence, task, test)))
    ]


def _lacking(test: TestSet) -> list[str]:
    counts = _images_of(test) if test.kind == "class" else []
    absent = [name for name, count in zip(test.classes, counts, strict=False) if not count]
    there = [name for name in test.classes if name not in absent]
    only = f"the test split is of one class ('{there[0]}'), with " if len(there) == 1 else ""
    sentence = (
        f"{only}no test image of {data_warnings.class_names(absent)}; {_NOT_RANKED}; add test "
        "images of every class, or merge or drop classes"
    )
    return [sentence] if absent else []


def _few(test: TestSet, unit: str) -> list[str]:
    if test.kind != "class":
        (count,) = _patients(test)
        one = f"{count} {unit if count == 1 else _plural(unit)}, fewer than {FEWEST}"
        return (
            [f"the test split has {one}; {_NOT_RANKED}; get more of them"] if count < FEWEST else []
        )
    few = {
        name: count
        for name, count in zip(test.classes, _patients(test), strict=True)
        if 0 < count < FEWEST
    }
    if not few:
        return []
    (first, least), *more = few.items()
    words = f"{least} {unit if least == 1 else _plural(unit)} of class '{first}'"
    words += "".join(f", {count} of '{name}'" for name, count in more)
    return [
        f"the test split has {words}, fewer than {FEWEST}{' each' if more else ''}; "
        f"{_NOT_RANKED}; get more {_plural(unit)} of such a class, or merge classes"
    ]


def _unit(evidence: Evidence, task: str, test: TestSet) -> str:
    """What is counted: "patient", "video", ..."""
    if test.groups is None:
        return "image"
    kinds = {e.task["groups"] for e in main_cells(evidence.entries) if e.coordinates.task == task}
    known = kinds & {"patient", "video"}
    return known.pop() if len(known) == 1 else "patient (group)"


def _plural(unit: str) -> str:
    return "patients (groups)" if unit == "patient (group)" else f"{unit}s"


# ---- images -------------------------------------------------------------------------------------


def _images(evidence: Evidence) -> list[Finding]:
    """What was known of the images when they were measured: repeated ones, empty classes, ..."""
    found = {
        (cell.coordinates.task, sentence): None
        for cell in main_cells(evidence.entries)
        for sentence in data_warnings.among([*cell.warnings, *cell.notes])
    }
    return [Finding(task, f"task '{task}': {sentence}") for task, sentence in found]


# ---- probes -------------------------------------------------------------------------------------


def _constant(evidence: Evidence) -> list[Finding]:
    return [
        finding
        for probing, one in evidence.comparisons
        if one.type.predicts == "classes" and len(np.unique(one.test.targets)) > 1
        for finding in _constant_on(probing, one)
    ]


def _constant_on(probing: Probing, one: Comparison) -> list[Finding]:
    alike = by_key(
        ((tuple(sorted({*constant})), f"{len(constant)} of {len(codes)}"), model)
        for model, codes in zip(one.models, one.answers, strict=True)
        if (constant := [int(seed[0]) for seed in codes if (seed == seed[0]).all()])
    )
    return [
        Finding(
            one.task,
            f"task '{one.task}' ({probing}): the probe of {', '.join(models)} gives one answer "
            f"for all test images "
            f"({data_warnings.class_names([one.test.classes[code] for code in codes])}"
            f"{', one or the other by seed' if codes[1:] else ''}) with {how_many} seeds, "
            "so the score is that of a constant; look at the features and the training labels, "
            "or try `--protocol tuned`",
            tuple(models),
            probing,
            brief=_CONSTANT,
        )
        for (codes, how_many), models in alike.items()
    ]


def _tied(evidence: Evidence) -> list[Finding]:
    return [
        Finding(one.task, _tie(probing, one), one.models, probing, brief=_TIES)
        for probing, one in evidence.comparisons
        if len(one.models) > 1 and can_rank(one.test) and _all_level(one)
    ]


def _all_level(one: Comparison) -> bool:
    """Whether every pair was compared, and none differs; some pairs alone tell nothing of all."""
    return bool(one.pairs.compared.all()) and len(set(one.pairs.letters)) == 1


def _tie(probing: Probing, one: Comparison) -> str:
    same = " and all have the same score" if np.ptp(one.scores) < 1e-6 else ""
    models = "both" if len(one.models) == 2 else f"all {len(one.models)}"
    return (
        f"task '{one.task}' ({probing}): {models} models tie: no two differ "
        f"significantly{same}; nothing is bold, and their order is not a ranking; test on more "
        "patients, or report a tie"
    )


def warnings_of(entry: Entry, found: Sequence[Finding]) -> str:
    """All that concerns one result, for a column of a CSV file."""
    return " | ".join(sentences(one for one in found if one.concerns(entry)))
