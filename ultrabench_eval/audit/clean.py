"""Tasks without the test images that were seen, and what the scores become on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.split_files import UNUSED, SplitRow
from tasks.task import Task
from ultrabench_eval import metrics
from ultrabench_eval.audit.audit import Audit
from ultrabench_eval.audit.collection import PRETRAINING
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report import regenerate

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
    """Mean over seeds; percent for scores, nats for the loss."""
    clean: float
    """The same on the clean images; NaN where it is not defined."""
    n_full: int
    n_clean: int
    chance: float
    """Standard deviation of the difference if as many test images are left out at random; for the
    main metric only, else NaN."""

    @property
    def difference(self) -> float:
        """Clean minus full."""
        return self.clean - self.full


def rescore(out: Path, seen: Mapping[str, set[str]]) -> tuple[list[Rescored], list[str]]:
    """Scores of a results folder from its stored predictions, without the test images in `seen`.

    Args:
        out: a results folder of `ubench run`.
        seen: by task, names of test images to leave out.

    Returns:
        One row a cell and metric, in the folder's order, and notes on what could not be rescored.

    Raises:
        UserError: the folder has no results.
    """
    cells = Cells(out)
    entries = regenerate.whole(cells)
    if not entries:
        raise UserError(f"no results in {out}; give --run the folder that `ubench run --out` wrote")
    rows, notes = [], []
    for cell in entries:
        if not isinstance(cell, Cell) or cell.coordinates.task not in seen:
            continue
        test = cells.test_set(str(cell.identity["task"]))
        names, labels = test.names, np.array(test.labels, dtype=np.int64)
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
        lost = set(labels.tolist()) - set(labels[keep].tolist())
        if lost:
            gone = ", ".join(cell.classes[code] for code in sorted(lost))
            notes.append(f"{cell.coordinates.task}: no clean test image of class {gone} is left")
        full = cells.probabilities(cell)
        scores = (metrics.score(full, labels), metrics.score(full[:, keep], labels[keep]))
        chance = _chance(full.argmax(-1), labels, len(cell.classes), int((~keep).sum()))
        for metric in scores[0]:
            before, after = (float(s[metric].mean() * metrics.scale(metric)) for s in scores)
            rows.append(
                Rescored(
                    cell.coordinates.model,
                    cell.coordinates.task,
                    cell.coordinates.path.name,
                    metric,
                    before,
                    after,
                    len(labels),
                    int(keep.sum()),
                    chance if metric == metrics.MAIN else math.nan,
                )
            )
    return rows, list(dict.fromkeys(notes))


def _chance(predicted: np.ndarray, labels: np.ndarray, classes: int, dropped: int) -> float:
    """Standard deviation of macro F1 (percent) over random draws of images to leave out.

    Args:
        predicted: class codes [H, N] of H seeds.
        labels: class codes [N].
        classes: C.
        dropped: images left out of each draw.
    """
    generator = np.random.default_rng(hashing.seed_for(0, "audit/images left out"))
    counts = np.empty((DRAWS, len(predicted), classes, classes))
    for draw in range(DRAWS):
        keep = generator.permutation(len(labels))[dropped:]
        for seed, codes in enumerate(predicted):
            counts[draw, seed] = metrics.confusion(codes[keep], labels[keep], classes)
    return 100 * float(metrics.of_counts(metrics.MAIN, counts).mean(-1).std())
