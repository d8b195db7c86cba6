"""Bland-Altman figures: differences between predictions and targets against their mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ultrabench_eval.core import drawing
from ultrabench_eval.report.drawings import canvas
from ultrabench_eval.report.look import look
from ultrabench_eval.report.results.entries import Labels, Probing
from ultrabench_eval.task_types.regression import AGREEMENT

MOST = canvas.COLUMNS * canvas.PAGE
"""Models in a figure; those of further models are left out, and the note says so."""
_NOTE = (
    "dots: test images, first seed; lines: bias and limits of agreement (bias ± 1.96 sd), means "
    "over seeds"
)


def bland_altman(
    name: str,
    probing: Probing,
    task: str,
    predictions: Mapping[str, np.ndarray],
    targets: np.ndarray,
    unit: str,
    labels: Labels,
) -> dict[str, bytes]:
    """A panel per model, all on one scale (Bland & Altman 1986, Lancet 327:307): name to content.

    Args:
        name: of the files, without suffix.
        probing: what the predictions were made with.
        task: whose test images they are of.
        predictions: of each model, in the order of panels, [H, N] in the unit of the task.
        targets: [N].
        unit: "" for none.
        labels: of the page.
    """
    shown = dict(list(predictions.items())[:MOST])
    styles = canvas.styles(shown, labels)
    columns = min(canvas.COLUMNS, len(shown))
    figure, axes = canvas.panels(-(-len(shown) // columns), columns)
    flat = [ax for row in axes for ax in row]
    means = [(one[0] + targets) / 2 for one in shown.values()]
    span = min(map(np.min, means)), max(map(np.max, means))
    reach = 1.05 * max(np.abs(one[0] - targets).max() for one in shown.values()) or 1.0
    for ax, (model, predicted), mean in zip(flat, shown.items(), means, strict=False):
        lower, bias, upper = limits(predicted, targets)
        colour = styles[model]["color"]
        ax.plot(mean, predicted[0] - targets, "o", markersize=1.6, alpha=0.5, color=colour)
        for level, style in ((lower, "--"), (bias, "-"), (upper, "--")):
            ax.axhline(level, color="black", linewidth=0.8, linestyle=style)
            ax.annotate(
                f"{level:.3g}",
                (1, level),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=look().font - 1,
            )
        ax.set_xlabel(", ".join(filter(None, ("mean of both", unit))), fontsize=look().font)
        ax.set_title(drawing.plain(labels.model(model)), fontsize=look().font)
        ax.set_xlim(span[0] - 0.03 * np.ptp(span), span[1] + 0.03 * np.ptp(span) or 1.0)
        ax.set_ylim(min(-reach, lower * 1.1), max(reach, upper * 1.1))
    for row in axes:
        words = ", ".join(filter(None, ("prediction - target", unit)))
        row[0].set_ylabel(words, fontsize=look().font)
    for ax in flat[len(shown) :]:
        ax.set_visible(False)
    note = _NOTE
    if len(shown) < len(predictions):
        note += f"; the first {len(shown)} of {len(predictions)} models"
    title = f"Agreement on {labels.task(task)}, {probing.words}"
    synthetic = task in labels.synthetic
    canvas.finish(figure, flat, title, columns, synthetic=synthetic, note=note)
    return canvas.files(figure, name)


def limits(predicted: np.ndarray, targets: np.ndarray) -> tuple[float, float, float]:
    """Lower limit of agreement, bias and upper limit, means over seeds.

    Args:
        predicted: [H, N].
        targets: [N], two or more.
    """
    errors = predicted - targets
    bias, reach = errors.mean(), AGREEMENT * errors.std(1, ddof=1).mean()
    return float(bias - reach), float(bias), float(bias + reach)
