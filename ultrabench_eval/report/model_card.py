"""A model's results for its card on the Hugging Face hub: `model-index` and a section to paste.

The metadata are made and checked by `huggingface_hub` (`EvalResult`, `ModelCardData`), which reads
them again from the card. Numbers are those of the tables: the main condition, means over seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tasks.task import DOWNSCALED
from ultrabench_eval import __version__
from ultrabench_eval.cells import CLASSES, Cell, Coordinates
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError, did_you_mean
from ultrabench_eval.report.results import standing
from ultrabench_eval.report.results.about import command
from ultrabench_eval.report.results.entries import (
    Entry,
    Labels,
    Probing,
    by_probing,
    cells_of,
    is_doubted,
    is_downscaled,
    main_cells,
    main_interval,
    main_metric,
    main_score,
    mean_sd,
    models_of,
    number,
    plus_minus,
    printed,
    seen_told,
    status,
    tasks_of,
)
from ultrabench_eval.report.tables.table import Table, plain

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

_TASKS = {CLASSES: "image-classification", "segmentation": "image-segmentation"}
"""What the hub calls a kind of task; it has no name for regression from images."""
_METRICS = {"macro_f1": "f1", "auroc": "roc_auc"}
"""What the hub calls a metric; others keep their names."""


def pages(
    entries: Sequence[Entry], model: str, letters: Mapping[Coordinates, str]
) -> dict[str, bytes]:
    """The card of a model: a Markdown file with its metadata in front.

    Args:
        entries: of a results folder.
        model: name of one of its models.
        letters: of its results, see `standing.letters`.

    Raises:
        UserError: it has no result of that model.
    """
    from huggingface_hub import ModelCardData

    results = eval_results(entries, model)
    metadata = ModelCardData(model_name=printed(model), eval_results=results)
    text = f"---\n{metadata.to_yaml()}\n---\n\n{_section(entries, model, letters)}"
    return {f"model-card-{files.file_name(model)}.md": text.encode()}


def eval_results(entries: Sequence[Entry], model: str) -> list[EvalResult]:
    """A model's results in the main condition, as the hub has them: a metric each.

    Values are as in tables (percent, mm, ...). `metric_args` has the standard deviation over seeds,
    the 95 % interval, probe and protocol; `dataset_revision` is the task's fingerprint.

    Raises:
        UserError: that model has no result.
    """
    from huggingface_hub import EvalResult

    found = []
    for cell in _cells(entries, model):
        at = cell.coordinates
        shown = {cell.main, *(("accuracy", "auroc") if cell.type == CLASSES else ("iou", "rmse"))}
        for name, metric in cell.metrics.items():
            mean, sd = mean_sd(cell.scores[name]) if name in cell.scores else (np.nan, np.nan)
            if name not in shown or np.isnan(mean):
                continue
            scale = metric.scale
            args: dict[str, object] = {"seeds": len(cell.scores[name])}
            if not np.isnan(sd):
                args["sd_over_seeds"] = _rounded(scale * sd)
            if name in cell.intervals:
                args["interval_95"] = [_rounded(scale * end) for end in cell.intervals[name]]
            if name == "macro_f1":
                args["average"] = "macro"
            found.append(
                EvalResult(
                    task_type=_TASKS.get(cell.type, "other"),
                    task_name=f"{cell.type} by a {at.probe} probe, protocol {at.protocol}",
                    dataset_type=at.task,
                    dataset_name=_title(cell),
                    dataset_config=f"{at.probe}, {at.protocol}",
                    dataset_split="test",
                    dataset_revision=str(cell.identity["task"]),
                    dataset_args={
                        "test_images": cell.images["test"],
                        "synthetic": cell.synthetic,
                        "seen_in_pretraining": seen_told(cell),
                        "status": status(cell),
                    },
                    metric_type=_METRICS.get(name, name),
                    metric_name=metric.in_unit,
                    metric_value=_rounded(scale * mean),
                    metric_config=f"ultrabench_eval {__version__}",
                    metric_args=args,
                )
            )
    return found


def _cells(entries: Sequence[Entry], model: str) -> list[Cell]:
    mine = [cell for cell in main_cells(entries) if cell.coordinates.model == model]
    if not mine:
        there = models_of(cells_of(entries))
        near = did_you_mean(model, there)
        raise UserError(f"no result of model '{model}'{near} there are {', '.join(there)}")
    order = tasks_of(mine)
    return sorted(mine, key=lambda cell: (Probing.of(cell), order.index(cell.coordinates.task)))


def _section(entries: Sequence[Entry], model: str, letters: Mapping[Coordinates, str]) -> str:
    """The part of the card that people read."""
    mine, labels = _cells(entries, model), Labels.of(entries)
    parts = [
        "## Evaluation on ultrasound tasks\n",
        f"{plain(labels.model(model))}, measured by ultrabench_eval {__version__}. Controls "
        "know nothing about ultrasound; a score that is not significantly better than the best of "
        "them is worth little.\n",
    ]
    if any(cell.synthetic for cell in mine):
        parts.append("**SYNTHETIC tasks are simulated: they say nothing about real ultrasound.**\n")
    for probing, cells in by_probing(mine).items():
        rows = [_row(cell, entries, letters) for cell in cells_of(cells)]
        metric = main_metric(cells)
        header = ["task", "mean ± sd over seeds", "95 % interval", "best control"]
        header += ["better than it", "seen in pretraining", "test images"]
        title = f"{metric.heading}: {probing}"
        parts += Table(header, rows, title).section(3)
    asked = command([e for e in entries if e.coordinates.model == model or _is_control(e)])
    parts.append(f"Measured again by `{asked}`.\n")
    return "\n".join(parts)


def _row(cell: Cell, entries: Sequence[Entry], letters: Mapping[Coordinates, str]) -> list[str]:
    metric, at = cell.main_metric, cell.coordinates
    mean, sd = main_score(cell)
    low, high = main_interval(cell)
    controls = [
        entry
        for entry in main_cells(entries)
        if _is_control(entry)
        and Probing.of(entry) == Probing.of(cell)
        and entry.coordinates.task == at.task
        and entry.identity["task"] == cell.identity["task"]
        and entry.coordinates.model != at.model
    ]
    best = max(controls, key=lambda one: metric.sign * main_score(one)[0], default=None)
    text = plus_minus(mean, sd, metric.places)
    ends = "" if np.isnan(low) else f"{low:.{metric.places}f} to {high:.{metric.places}f}"
    control, better = "not measured", "not tested"
    if best is not None:
        score = main_score(best)[0]
        control = f"{best.coordinates.model}, {number(score, metric.places)}"
        mine, its = (letters.get(one, "") for one in (at, best.coordinates))
        if mine and its:
            ahead = metric.sign * (mean - score) > 0
            better = "not significantly" if standing.tie(mine, its) else "yes" if ahead else "no"
    return [
        _title(cell) + (" [not verified]" if is_doubted(cell) else ""),
        *(text, ends, control, better, seen_told(cell), str(cell.images["test"])),
    ]


def _is_control(entry: Entry) -> bool:
    """Whether its model learned nothing about ultrasound."""
    if not isinstance(entry, Cell):
        return False
    return entry.random_weights or entry.model.get("status") == "control"


def _title(cell: Cell) -> str:
    copies = f" ({DOWNSCALED})" if is_downscaled(cell) else ""
    return cell.task["title"] + (" (SYNTHETIC)" if cell.synthetic else copies)


def _rounded(value: float) -> float:
    """As leaderboard.csv has it."""
    return round(float(value), 4)
