"""The audit: which images stand where they must not. Read it from the top."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

import tasks as task_zoo
from tasks.near_duplicates import duplicates, search, signatures
from tasks.near_duplicates.duplicates import DuplicatePair
from tasks.near_duplicates.signatures import Signatures, Signed
from tasks.own_data.reading import Reading, unused
from tasks.split_files import UNUSED
from tasks.task import SPLITS, Task
from ultrabench_eval import loading, pipeline, plugins
from ultrabench_eval.audit import collection
from ultrabench_eval.audit.collection import PRETRAINING, Entry
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.pipeline import Step

# Places of a pair, the gravest first: the order of tables and gallery.
PLACES = (
    "train-test",
    "validation-test",
    "pretraining-test",
    "train-validation",
    "across tasks",
    "within test",
    "within validation",
    "within train",
    "pretraining-train",
    "pretraining-validation",
    "with unused",
)


@dataclass(frozen=True)
class SamePicture:
    """A pair of images that show the same, and what that means."""

    first: Entry
    second: Entry
    pair: DuplicatePair

    @cached_property
    def place(self) -> str:
        """One of `PLACES`."""
        one, two = self.first, self.second
        splits = {one.split, two.split}
        if UNUSED in splits:
            return "with unused"
        if PRETRAINING in splits:
            return f"{PRETRAINING}-{(splits - {PRETRAINING}).pop()}"
        if one.task != two.task:
            return "across tasks"
        if len(splits) == 1:
            return f"within {one.split}"
        return "-".join(split for split in SPLITS if split in splits)

    @property
    def task(self) -> str:
        """The task or tasks it concerns."""
        names = [e.task for e in (self.first, self.second) if e.split != PRETRAINING]
        return " + ".join(dict.fromkeys(names))

    @property
    def expected(self) -> bool:
        """Two images of one known patient or video, within one split (equal pixels only:
        others are not compared)."""
        return self.first.same_group(self.second)

    @property
    def conflict(self) -> bool:
        """Different labels of one task."""
        one, two = self.first, self.second
        return one.task == two.task and one.label != two.label

    @property
    def leaks(self) -> bool:
        """A test image that the probe or the encoder may have seen."""
        return self.place in PLACES[:3]


@dataclass(frozen=True)
class Audit:
    """What an audit found."""

    tasks: dict[str, Task]
    entries: list[Entry]
    digests: list[str]
    """Content digest of each entry; "" for one that cannot be read."""
    findings: list[SamePicture]
    """The gravest first."""
    content: np.ndarray
    """int64 [N]: groups by content, the same number for entries that a chain of pairs connects."""
    unreadable: list[tuple[Entry, str]]
    notes: list[str] = field(default_factory=list)

    @cached_property
    def seen(self) -> dict[str, set[str]]:
        """By task, the names of test images that train, validation or pretraining images show."""
        seen: dict[str, set[str]] = {name: set() for name in self.tasks}
        for finding in self.findings:
            if finding.leaks:
                for entry in (finding.first, finding.second):
                    if entry.split == "test":
                        seen[entry.task].add(entry.image.name)
        return seen

    def counts(self) -> list[tuple[str, str, Counter[str]]]:
        """Place, task, and pairs by grade, "expected" and "conflict"; the gravest places first."""
        table: dict[tuple[int, str], Counter[str]] = {}
        for finding in self.findings:
            row = table.setdefault((PLACES.index(finding.place), finding.task), Counter())
            row["expected" if finding.expected else finding.pair.grade] += 1
            row["conflict"] += finding.conflict
        return [(PLACES[place], task, row) for (place, task), row in sorted(table.items())]


def audit(
    tasks: str | Sequence[str],
    *,
    data: Path | str | None = None,
    against: Iterable[Path | str] = (),
    cache: Path | str | None = None,
    plugin_files: Iterable[Path | str] = (),
    reading: Reading | None = None,
    report: Callable[[Step], None] = lambda step: None,
) -> Audit:
    """Find images that show the same, within and across splits, tasks and pretraining images.

    Args:
        tasks: names of `tasks.names()` or own data; "all" for those that `data` holds.
        data: data root; "phantom" for the synthetic suite. Default: `$UBENCH_DATA`.
        against: folders or lists of pretraining images.
        cache: where signatures are kept. Default: `$UBENCH_CACHE`, else the user's cache.
        plugin_files: Python files that register tasks.
        reading: how own data are read.
        report: called at every step, for a progress display.

    Raises:
        UserError: unknown or unreadable task, missing folder or list. Images that cannot be read
            are not an error: see `Audit.unreadable`.
    """
    for file in plugin_files:
        plugins.load_file(Path(file))
    cache = Path(cache) if cache else pipeline.default_cache()
    report(Step("plan"))
    loaded, notes = _tasks(tasks, data, cache, reading or Reading(), report)
    entries = [entry for task in loaded.values() for entry in collection.of_task(task)]
    for source in against:
        more, remarks = collection.of_pretraining(Path(source))
        entries += more
        notes += remarks

    def progress(words: str) -> Callable[[int, int], None]:
        return lambda done, total: report(Step("audit", words, "", done, total))

    looked = signatures.store(cache).look(
        [entry.image for entry in entries], progress("reading images")
    )
    digests = [known.digest if isinstance(known, Signed) else "" for known in looked]
    unreadable = [
        (e, str(k)) for e, k in zip(entries, looked, strict=True) if isinstance(k, UserError)
    ]
    readable = [row for row, known in enumerate(looked) if isinstance(known, Signed)]
    signed = Signatures.of([k.signature for k in looked if isinstance(k, Signed)])
    del looked  # of a million images some gigabytes
    notes += search.not_all_pairs(signed)
    alike = together([entries[row] for row in readable])
    pairs = [
        pair._replace(first=readable[pair.first], second=readable[pair.second])
        for pair in duplicates.find(signed, together=alike, advance=progress("comparing images"))
    ]
    pairs = [
        pair
        for pair in pairs
        if {entries[pair.first].split, entries[pair.second].split} != {PRETRAINING}
    ]
    findings = [SamePicture(entries[pair.first], entries[pair.second], pair) for pair in pairs]
    return Audit(
        loaded,
        entries,
        digests,
        sorted(findings, key=_gravity),
        duplicates.components(pairs, len(entries)),
        unreadable,
        notes,
    )


def together(entries: Sequence[Entry]) -> np.ndarray:
    """Images that need not be compared have the same number: of one group, of pretraining."""
    numbers: dict[tuple[str, str, int], int] = {}
    keys = [
        ("", PRETRAINING, 0)
        if entry.split == PRETRAINING
        else (entry.task, entry.group, 0 if entry.group else row)
        for row, entry in enumerate(entries)
    ]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _gravity(finding: SamePicture) -> tuple[bool, int, bool, int, float, str, str]:
    return (
        finding.expected,
        PLACES.index(finding.place),
        not finding.conflict,
        duplicates.GRADES.index(finding.pair.grade),
        -finding.pair.correlation,
        finding.first.image.name,
        finding.second.image.name,
    )


def _tasks(
    asked: str | Sequence[str],
    data: Path | str | None,
    cache: Path,
    reading: Reading,
    report: Callable[[Step], None],
) -> tuple[dict[str, Task], list[str]]:
    """The tasks by name, and a note on those of "all" that are not there."""
    names = loading.resolve_names(asked, task_zoo.names())
    problems = [*loading.check_labels(names), *unused(names, reading)]
    if not names:
        problems.append("no task is asked for; `ubench tasks` lists all")
    problems += [
        task_zoo.registry.unknown(name)
        for name in names
        if name not in task_zoo.registry and not task_zoo.is_manifest(name)
    ]
    if problems:
        raise loading.Problems(problems)
    notes = []
    data = pipeline.chosen_data(data, asked)
    if data == pipeline.PHANTOM:
        built_in = [name for name in names if name in task_zoo.BUILT_IN]
        root: Path | None = pipeline.phantom_root(cache, built_in, report)
    else:
        place = data or os.environ.get("UBENCH_DATA")
        root = Path(place) if place else None
        if root is not None and "all" in (asked.split(",") if isinstance(asked, str) else asked):
            absent = [n for n in names if not task_zoo.is_manifest(n) and not (root / n).is_dir()]
            names = [name for name in names if name not in absent]
            if absent:
                notes.append(f"not in the data folder, so not audited: {', '.join(absent)}")
            if not names:
                raise UserError(
                    f"no task is in {root}: it has no sub-folder aul, busbra ...; "
                    "give the folder that holds them as --data"
                )
    loaded = [task_zoo.load(name, root, reading) for name in names]
    return {task.name: task for task in loaded}, notes
