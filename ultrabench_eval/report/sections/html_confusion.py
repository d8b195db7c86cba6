"""Which class is taken for which: the confusion matrices of the HTML page.

They are counted from the predictions beside the cells; a cell whose predictions cannot be read or
do not give its score has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ultrabench_eval.report.results.entries import Labels, Probing, task_order
from ultrabench_eval.report.results.evidence import Comparison, Evidence
from ultrabench_eval.report.tables.board import marks
from ultrabench_eval.task_types import classification

SHADES = 10


@dataclass(frozen=True)
class ConfusionShare:
    """Part of a true class's images that got one answer."""

    text: str
    """Percent, mean over seeds; "" where the class has no test image."""
    shade: int
    """0 ... `SHADES`."""


@dataclass(frozen=True)
class Matrix:
    """One model's answers (columns) to images of each true class (rows)."""

    model: str
    marks: tuple[str, ...]
    rows: tuple[tuple[ConfusionShare, ...], ...]


@dataclass(frozen=True)
class Confusion:
    """All models of one task, probe and protocol."""

    task: str
    synthetic: bool
    probing: Probing
    classes: tuple[tuple[str, int], ...]
    """Names of the classes and their test images."""
    matrices: tuple[Matrix, ...]
    """From the best model to the worst, floors last."""


def confusions(evidence: Evidence) -> list[Confusion]:
    """Those of the main conditions, by task.

    Args:
        evidence: of the folder.
    """
    found = [
        _confusion(probing, one, evidence.labels)
        for probing, comparisons in evidence.main.items()
        for one in comparisons.values()
        if one.type.predicts == "classes"
    ]
    return sorted(found, key=lambda one: task_order(one.task))


def _confusion(probing: Probing, one: Comparison, labels: Labels) -> Confusion:
    truth, count = one.test.targets, len(one.test.classes)
    sign = one.metric.sign
    order = sorted(
        range(len(one.models)),
        key=lambda m: (one.models[m] in labels.floors, -sign * one.scores[m]),
    )
    images = np.bincount(truth, minlength=count).tolist()
    return Confusion(
        one.task,
        one.task in labels.synthetic,
        probing,
        tuple(zip(one.test.classes, images, strict=True)),
        tuple(
            Matrix(
                one.models[m],
                marks(one.models[m], labels),
                shares(one.answers[m], truth, count),
            )
            for m in order
        ),
    )


def shares(
    predicted: np.ndarray, truth: np.ndarray, classes: int
) -> tuple[tuple[ConfusionShare, ...], ...]:
    """Rows of a matrix in percent of the true class.

    Args:
        predicted: class codes [H, N].
        truth: [N].
        classes: C.
    """
    counts = sum(classification.confusion(codes, truth, classes) for codes in predicted)
    whole = np.bincount(truth, minlength=classes) * len(predicted)
    return tuple(
        tuple(
            ConfusionShare(f"{100 * part / total:.0f}", round(SHADES * part / total))
            if total
            else ConfusionShare("", 0)
            for part in row
        )
        for row, total in zip(np.asarray(counts).tolist(), whole.tolist(), strict=True)
    )
