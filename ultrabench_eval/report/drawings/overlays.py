"""The best, a middling and the worst mask of a few models, over the test images themselves.

They need the data: a run keeps no images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tasks.samples.clips import still
from tasks.task import Task
from ultrabench_eval.cells import Cell, Coordinates
from ultrabench_eval.core import drawing, sheets
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.sheets import SheetRow, Tile
from ultrabench_eval.report.drawings import canvas
from ultrabench_eval.report.drawings.pictures import DPI
from ultrabench_eval.report.results import sources
from ultrabench_eval.report.results.entries import Probing
from ultrabench_eval.report.results.evidence import Comparison, Evidence
from ultrabench_eval.task_types import segmentation

MOST = 3
"""Models that are shown: the best encoders, and the best control in the last row."""
TRUTH = "#3cff3c"
COLOURS = ("#ff6a3c", "#3cb4ff", "#ffd23c", "#ff3cc8")
"""Of what is called each structure; of more, again from the first."""


def overlays(evidence: Evidence, data: Path) -> dict[str, bytes]:
    """A sheet per task of masks: file name to content; none where the data are others.

    Args:
        evidence: of the results folder.
        data: data root, or own data of the run.
    """
    made: dict[str, bytes] = {}
    for probing, one in evidence.comparisons:
        if one.type.predicts != "masks":
            continue
        try:
            task = sources.load(one.task, data, evidence.cells.out)
            if task.fingerprint == one.test.fingerprint:
                made |= _sheet(probing, one, task, evidence)
        except UserError:  # the page says of each task without pictures why it has none
            continue
    return made


def _sheet(probing: Probing, one: Comparison, task: Task, evidence: Evidence) -> dict[str, bytes]:
    rows = []
    for model in _shown(one):
        at = Coordinates(model, one.task, probing.protocol, probing.probe)
        cell = next(e for e in evidence.entries if e.coordinates == at)
        stored = evidence.cells.predictions(cell) if isinstance(cell, Cell) else {}
        if "logits" not in stored:  # an archive of results
            continue
        good = one.type.good(one.answers[one.models.index(model)], one.test)[0]
        order = np.argsort(good, kind="stable")
        places = [order[int(part * (len(order) - 1))] for part in (0, 0.25, 0.5, 1)]
        tiles = [_tile(int(n), stored, task, float(good[n])) for n in places]
        rows.append(SheetRow(evidence.labels.model(model), tiles))
    if not rows:
        return {}
    masks = f"Masks of {evidence.labels.task(one.task)}, {probing.words}"
    title = [
        canvas.marked(masks, task.synthetic),
        "first seed; by the Dice of each image: its worst, at a quarter, in the middle, its best",
    ]
    legend = [(TRUTH, "mask of the data"), *zip(COLOURS, one.test.classes[1:], strict=False)]
    figure = sheets.sheet(title, rows, ("worst", "quarter", "median", "best"), legend)
    return drawing.files(figure, f"figures/masks-{one.task}-{probing.probe}", DPI)


def _shown(one: Comparison) -> Sequence[str]:
    """The best encoders, then the best control."""
    ranked = [one.models[m] for m in one.ordered]
    encoders = [model for model in ranked if model not in one.controls]
    controls = [model for model in ranked if model in one.controls]
    return [*encoders[: MOST - len(controls[:1])], *controls[:1]]


def _tile(place: int, stored: dict[str, np.ndarray], task: Task, dice: float) -> Tile:
    """A test image, its mask, and what the first seed calls it."""
    split = task.test
    image = still(split.images[place])
    pixels, mask = image.read(image.digest()), split.masks[place].read()
    extent = tuple(stored["extents"][place].tolist())
    called = segmentation.called(stored["logits"][0, place], mask.shape, extent)
    structures = range(1, len(task.classes))
    outlines = [(mask == code, TRUTH) for code in structures if (mask == code).any()]
    outlines += [
        (called == code, COLOURS[(code - 1) % len(COLOURS)])
        for code in structures
        if (called == code).any()
    ]
    return Tile(pixels, f"Dice {100 * dice:.0f} %", outlines)
