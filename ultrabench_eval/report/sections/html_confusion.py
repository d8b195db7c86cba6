"""Which class is taken for which: the confusion matrices of the HTML page.

They are counted from the predictions beside the cells; a cell whose predictions cannot be read or
do not give its score has none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ultrabench_eval.report.results.entries import Probing, task_order
from ultrabench_eval.report.results.evidence import Comparison, Evidence
from ultrabench_eval.task_types import classification


def confusions(evidence: Evidence) -> list[dict[str, Any]]:
    """Those of the main conditions, by task: parts of the page.

    Args:
        evidence: of the folder.
    """
    found = [
        _confusion(probing, one)
        for probing, one in evidence.comparisons
        if one.type.predicts == "classes"
    ]
    return sorted(found, key=lambda one: task_order(one["task"]))


def _confusion(probing: Probing, one: Comparison) -> dict[str, Any]:
    """Models from the best to the worst, controls last."""
    truth, count = one.test.targets, len(one.test.classes)
    images = np.bincount(truth, minlength=count).tolist()
    return {
        "task": one.task,
        "probing": str(probing),
        "confusion": {
            "classes": [list(pair) for pair in zip(one.test.classes, images, strict=True)],
            "models": [[one.models[m], shares(one.answers[m], truth, count)] for m in one.ordered],
        },
    }


def shares(predicted: np.ndarray, truth: np.ndarray, classes: int) -> list[list[int | None]]:
    """Rows of a matrix in percent of the true class; None where that has no test image.

    Args:
        predicted: class codes [H, N].
        truth: [N].
        classes: C.
    """
    counts = sum(classification.confusion(codes, truth, classes) for codes in predicted)
    whole = np.bincount(truth, minlength=classes) * len(predicted)
    return [
        [round(100 * part / total) if total else None for part in row]
        for row, total in zip(np.asarray(counts).tolist(), whole.tolist(), strict=True)
    ]
