"""Tasks without the test images that were seen, and what the scores become on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.split_files import UNUSED, SplitRow
from tasks.task import Task
from ultrabench_eval import task_types
from ultrabench_eval.audit.audit import Audit
from ultrabench_eval.audit.collection import PRETRAINING
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.metrics import Metric, of_sums
from ultrabench_eval.report import regenerate
from ultrabench_eval.stats.additive import Additive

DRAWS = 1000  # of as many images, to tell a difference from chance


def rows(audit: Audit, task: Task) -> list[SplitRow]:
    """The split file of a task in which test images that were seen are unused.

    The hash of an image that cannot be read is "".
    """
    seen = audit.seen[task.name]
    listed = []
    for entry, digest in zip(audit.entries, audit.digests, strict=True):
        if entry.split == PRETRAINING or entry.task != task.name:
            continue
        dropped = entry.split == "test" and entry.image.name in seen
        split = UNUSED if dropped else entry.split
        listed.append(SplitRow(entry.image.name, entry.label, split, entry.group, digest))
    return listed


class Rescored(NamedTuple):
    """A finished cell on all test images and on the clean ones."""

    model: str
    task: str
    condition: str
    """Probe, protocol, fraction, corruption and severity, as the cell's file is named."""
    metric: str
    full: float
    """Mean over seeds, in the unit that tables show it in."""
    clean: float
    """The same on the clean images; NaN where it is not defined."""
    n_full: int
    n_clean: int
    chance: float
    """Standard deviation of the difference if as many test images are left out at random; for the
    main metric only, else NaN."""
    in_unit: str
    """The metric and its unit in words."""

    @property
    def difference(self) -> float:
        """Clean minus full."""
        return self.clean - self.full


def rescore(
    out: Path, seen: Mapping[str, set[str]], tasks: Iterable[Task] = ()
) -> tuple[list[Rescored], list[str]]:
    """Scores of a results folder from its stored predictions, without the test images in `seen`.

    Args:
        out: a results folder of `ubench run`.
        seen: by task, names of test images to leave out.
        tasks: as they were read now: they name the images of results that keep no names.

    Returns:
        One row per cell and metric, in the folder's order, and notes on what could not be rescored.

    Raises:
        UserError: the folder has no results.
    """
    cells = Cells(out)
    entries = regenerate.whole(cells)
    if not entries:
        raise UserError(f"no results in {out}; give --run the folder that `ubench run --out` wrote")
    rows, notes = [], []
    known = {task.fingerprint: tuple(image.name for image in task.test.images) for task in tasks}
    for cell in entries:
        if not isinstance(cell, Cell) or cell.coordinates.task not in seen:
            continue
        test = cells.test_set(str(cell.identity["task"]))
        names, labels = known.get(test.fingerprint, test.names), np.asarray(test.labels)
        dropped = seen[cell.coordinates.task]
        keep = np.array([name not in dropped for name in names], dtype=bool)
        absent = dropped - set(names)
        if absent:
            notes.append(
                f"{cell.coordinates.model} on {cell.coordinates.task}: {len(absent)} of the images "
                "to leave out are not in its test set: it was measured on other splits"
            )
        if not keep.any():
            notes.append(f"no clean test image of {cell.coordinates.task} is left")
            continue
        lost = set(labels) - set(labels[keep]) if test.kind == "class" else ()
        if lost:
            gone = ", ".join(cell.classes[code] for code in sorted(lost))
            notes.append(f"{cell.coordinates.task}: no clean test image of class {gone} is left")
        kind = task_types.get(cell.type)
        stored = cells.predictions(cell)
        whole, clean = (
            kind.again(stored, test),
            kind.again(kind.only(stored, keep), test.only(keep)),
        )
        statistics = kind.statistics(kind.answers(stored), test)
        chance = _chance(statistics, kind.main, int((~keep).sum()))
        for metric in whole:
            scale = cell.metrics[metric].scale
            before, after = (float(scores[metric].mean() * scale) for scores in (whole, clean))
            rows.append(
                Rescored(
                    cell.coordinates.model,
                    cell.coordinates.task,
                    cell.coordinates.path.name,
                    metric,
                    before,
                    after,
                    len(test),
                    int(keep.sum()),
                    chance if metric == cell.main else math.nan,
                    cell.metrics[metric].in_unit,
                )
            )
    return rows, list(dict.fromkeys(notes))


def _chance(statistics: Additive, metric: Metric, dropped: int) -> float:
    """Standard deviation of a score, as tables show it, over random draws of images to leave out.

    Args:
        statistics: of H seeds on N images.
        metric: the score.
        dropped: images left out of each draw.
    """
    generator = np.random.default_rng(hashing.seed_for(0, "audit/images left out"))
    seeds, images, width = statistics.shape
    sums = statistics.columns(np.arange(images), images)  # [H * K, N]
    kept = np.zeros((images, DRAWS), np.float32)
    for draw in range(DRAWS):
        kept[generator.permutation(images)[dropped:], draw] = 1
    every = (sums @ kept).T.astype(np.float64).reshape(DRAWS, seeds, width)
    return metric.scale * float(of_sums(metric)(every).mean(-1).std())
