"""datasets.md, .csv, .tex: the tasks of a run and their images, beside what was published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

import tasks as task_zoo
from tasks.task import SPLITS
from ultrabench_eval.core import hashing
from ultrabench_eval.report.paper.published import Published
from ultrabench_eval.report.results.entries import (
    SYNTHETIC,
    Entry,
    bullets,
    main_cells,
    synthetic_words,
    task_order,
)
from ultrabench_eval.report.tables.frame import csv_of
from ultrabench_eval.report.tables.table import NEEDS, Table


@dataclass(frozen=True)
class Dataset:
    """A task as a run found it."""

    task: str
    title: str
    organ: str
    target: str
    classes: int
    images: tuple[int, ...]
    """Of train, validation and test."""
    published: tuple[int, ...] | None
    """The same as printed; None if the task, or this way to split it, was not published."""
    groups: str
    fingerprint: str
    synthetic: bool

    @property
    def difference(self) -> str:
        """How the images are beside the published ones."""
        if self.published is None:
            return "not published"
        return "as published" if self.images == self.published else "other images"


def datasets(entries: Sequence[Entry], published: Published) -> list[Dataset]:
    """The tasks of all cells that were trained on all images; versions of one task apart."""
    found: dict[tuple[str, str], Dataset] = {}
    for entry in main_cells(entries):
        name, fingerprint = entry.coordinates.task, str(entry.identity["task"])
        sizes = None if entry.synthetic else published.sizes_of.get(name)
        organ, target = _known(name)
        found[name, fingerprint] = Dataset(
            task=name,
            title=str(entry.task["title"]),
            organ=organ,
            target=target,
            classes=len(entry.classes),
            images=tuple(entry.images[split] for split in SPLITS),
            published=sizes.splits if sizes else None,
            groups=str(entry.task["groups"]),
            fingerprint=hashing.short(fingerprint),
            synthetic=entry.synthetic,
        )
    return [found[at] for at in sorted(found, key=lambda at: (*task_order(at[0]), at[1]))]


def _known(name: str) -> tuple[str, str]:
    """Organ and target of a task, by its card; empty for a manifest."""
    base, _ = task_zoo.split_name(name)
    card = task_zoo.card(base) if base in task_zoo.registry else None
    return (card.organ, card.target) if card else ("", "")


# ---- as files -----------------------------------------------------------------------------------

_HEADER = [
    *("Dataset", "Organ", "Task", "Classes", "Total", "Train", "Val", "Test", "Groups"),
    *("Published total", "Train", "Val", "Test", ""),
]


def pages(entries: Sequence[Entry], published: Published) -> dict[str, bytes]:
    """datasets.md, .csv and .tex by file name; nothing if no task was measured."""
    found = datasets(entries, published)
    if not found:
        return {}
    return {
        "datasets.md": _markdown(found, published).encode(),
        "datasets.csv": _csv(found).encode(),
        "datasets.tex": f"{NEEDS}\n{_table(found, published).latex()}".encode(),
    }


def _row(one: Dataset) -> list[str]:
    name = f"{one.task} (SYNTHETIC)" if one.synthetic else one.task
    theirs = map(str, (sum(one.published), *one.published)) if one.published else ["–"] * 4
    ours = map(str, (one.classes, sum(one.images), *one.images))
    return [name, one.organ, one.target, *ours, one.groups, *theirs, one.difference]


def _table(found: Sequence[Dataset], published: Published) -> Table:
    source = published.source
    notes = [
        "Data sets of this run: organ, task, classes, and images of each split; next to them the "
        f"images of {source.sizes_table} of {source.title}. A group is never in two splits."
    ]
    if any(one.synthetic for one in found):
        notes.append("SYNTHETIC rows are simulated images.")
    return Table(
        _HEADER,
        [_row(one) for one in found],
        notes=notes,
        label="datasets",
        right=range(3, len(_HEADER)),
    )


def _markdown(found: Sequence[Dataset], published: Published) -> str:
    made = _table(found, published)
    simulated = any(one.synthetic for one in found)
    notes = [
        "“As published”: the same number of images in each split; leaderboard.md says what else "
        "differs.",
        "–: not published, or images that are simulated or split otherwise.",
    ]
    warning = synthetic_words(simulated, "rows marked so")
    return "\n".join(
        ["# Data sets\n", f"{made.notes[0]}\n", *warning, made.markdown(), bullets(notes)]
    )


def _csv(found: Sequence[Dataset]) -> str:
    printed = [f"published_{split}" for split in SPLITS]
    rows = [
        {
            **{"task": one.task, "organ": one.organ, "target": one.target},
            **{"classes": one.classes, "total": sum(one.images)},
            **dict(zip(SPLITS, one.images, strict=True)),
            "groups": one.groups,
            **dict(zip(printed, one.published or (None, None, None), strict=True)),
            **{"difference": one.difference, "fingerprint": one.fingerprint},
            "status": SYNTHETIC if one.synthetic else "ok",
        }
        for one in found
    ]
    return csv_of(pd.DataFrame(rows).astype(dict.fromkeys(printed, "Int64")))
