"""The leaderboard of a results folder: Markdown, LaTeX, CSV and a data frame.

Tables hold nothing that differs between two runs of the same thing (no dates, no durations), so
they are equal byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

import numpy as np
import pandas as pd
from tabulate import tabulate

import tasks as task_zoo
from tasks.task import SPLITS
from ultrabench_eval import metrics
from ultrabench_eval.cells import Cell, Cells, Coordinates, Failure
from ultrabench_eval.core import files, hashing

COLUMNS = [
    *("model", "task", "probe", "protocol", "fraction", "corruption", "severity"),
    *("metric", "mean", "sd", "low", "high", "n_seeds", "n_test", "status"),
]
SYNTHETIC = "ok (synthetic)"
HOLE = "error"

Entry = Cell | Failure


def write(cells: Cells) -> pd.DataFrame:
    """Write OUT/leaderboard.{md,tex,csv} from all cells of OUT; return the CSV's frame."""
    entries = cells.gather()
    table = frame(entries)
    files.write_text(cells.out / "leaderboard.csv", table.to_csv(index=False, float_format="%.4f"))
    files.write_text(cells.out / "leaderboard.md", markdown(entries))
    files.write_text(cells.out / "leaderboard.tex", latex(entries))
    return table


def frame(entries: Iterable[Entry]) -> pd.DataFrame:
    """Long form, one row a cell and metric; columns `COLUMNS`, scores in percent.

    `sd` is the sample deviation over seeds (n - 1), empty for one seed; `low` and `high` the 95 %
    bootstrap interval over test groups, where the metric has one. A failed cell is one row of the
    main metric without numbers, whose status is "error: " and the reason.
    """
    rows: list[dict[str, object]] = []
    for entry in entries:
        where = asdict(entry.coordinates)
        if isinstance(entry, Failure):
            status = f"error: {entry.reason}".replace("\n", " ")
            rows.append({**where, "metric": metrics.MAIN, "status": status})
            continue
        for metric, values in entry.scores.items():
            scale = metrics.scale(metric)
            low, high = entry.intervals.get(metric, (np.nan, np.nan))
            mean, sd = _mean_sd(values)
            rows.append(
                {
                    **where,
                    "metric": metric,
                    **{"mean": mean * scale, "sd": sd * scale},
                    **{"low": low * scale, "high": high * scale},
                    "n_seeds": len(values),
                    "n_test": entry.images["test"],
                    "status": SYNTHETIC if entry.synthetic else "ok",
                }
            )
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"n_seeds": "Int64", "n_test": "Int64"})


# ---- the wide table: a row a model, a column a task ---------------------------------------------


@dataclass(frozen=True)
class Wide:
    """Main metric of one condition, ready to be set: text cells, and which are the best."""

    condition: str
    header: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]]
    synthetic: bool

    def marked(self, mark: str) -> list[list[str]]:
        """The rows, with `mark` (a format such as "**{}**") around the best of each column."""
        return [
            [mark.format(text) if (r, c) in self.best else text for c, text in enumerate(row)]
            for r, row in enumerate(self.rows)
        ]


def wide(entries: Sequence[Entry]) -> list[Wide]:
    """One table a condition (probe, protocol, fraction, corruption, severity).

    The last column is the mean over tasks, of models that have all of them: a mean is never
    taken over holes. Models are ordered by it; those with holes follow by name.
    """
    ordered = sorted(entries, key=lambda e: _condition(e.coordinates))
    return [
        _wide(condition, list(members))
        for condition, members in groupby(ordered, key=lambda e: _condition(e.coordinates))
    ]


def _wide(condition: str, entries: list[Entry]) -> Wide:
    tasks = sorted({e.coordinates.task for e in entries}, key=_task_order)
    by_place = {(e.coordinates.model, e.coordinates.task): e for e in entries}
    names = {e.coordinates.model: _model_name(e) for e in entries if isinstance(e, Cell)}
    models = sorted({e.coordinates.model for e in entries})

    means = {
        model: [_main(by_place.get((model, task)))[0] for task in tasks] for model in models
    }  # NaN for a hole, which makes the mean over tasks NaN
    overall = {model: float(np.mean(values)) for model, values in means.items()}
    models.sort(key=lambda m: (np.isnan(overall[m]), -np.nan_to_num(overall[m]), m))

    synthetic_tasks = {e.coordinates.task for e in entries if e.synthetic}
    header = ["model"]
    header += [f"{task} (SYNTHETIC)" if task in synthetic_tasks else task for task in tasks]
    header += ["mean of tasks"] if len(tasks) > 1 else []
    rows, values = [], []
    for model in models:
        row = [names.get(model, model)]
        row += [_text(by_place.get((model, task))) for task in tasks]
        row += [_number(overall[model])] if len(tasks) > 1 else []
        rows.append(row)
        values.append([np.nan, *means[model], *([overall[model]] if len(tasks) > 1 else [])])
    return Wide(condition, header, rows, _best(np.array(values)), bool(synthetic_tasks))


def _best(values: np.ndarray) -> set[tuple[int, int]]:
    """Places of the highest printed number of each column, ties included; [R, C] with NaN."""
    best: set[tuple[int, int]] = set()
    if len(values) < 2:
        return best
    printed = np.round(values, 1)
    for column in range(1, printed.shape[1]):
        if not np.isnan(printed[:, column]).all():
            top = np.nanmax(printed[:, column])
            best |= {(int(row), column) for row in np.flatnonzero(printed[:, column] == top)}
    return best


# ---- Markdown and LaTeX -------------------------------------------------------------------------


def markdown(entries: Sequence[Entry]) -> str:
    """The leaderboard page: wide tables, what failed, each number's detail and origin."""
    cells = [e for e in entries if isinstance(e, Cell)]
    parts = ["# Leaderboard\n"]
    if any(e.synthetic for e in entries):
        parts.append(
            "**SYNTHETIC: columns marked so are simulated images. Their numbers say nothing about "
            "real ultrasound.**\n"
        )
    for table in wide(entries):
        parts.append(f"## Macro F1 in percent, mean ± sd over seeds: {table.condition}\n")
        parts.append(_md(table.header, table.marked("**{}**")))
    parts += _section("Errors", ["model", "task", "why"], _error_rows(entries))
    warnings = _mixtures(cells)
    if warnings:
        parts.append("## Not comparable\n")
        parts.append("\n".join(f"- {warning}" for warning in warnings) + "\n")
    parts += _section("Details", _DETAILS, [_detail(cell) for cell in cells])
    parts.append(
        "sd: over seeds (n - 1). 95 % CI: bootstrap over test groups of the mean over seeds "
        "(images where a task has no groups). All metrics are in leaderboard.csv.\n"
    )
    protocols = {
        cell.coordinates.protocol: ", ".join(
            f"{name.replace('_', ' ')} {value}" for name, value in cell.protocol.items()
        )
        for cell in cells
    }
    parts += _section("Protocols", ["protocol", "settings"], [list(p) for p in protocols.items()])
    parts += _section("Models", _MODELS, _model_rows(cells))
    parts += _section("Tasks", _TASKS, _task_rows(cells))
    rounding = {
        f"{_model_name(c)}: {c.model['rounding']}": None for c in cells if c.model.get("rounding")
    }
    if rounding:
        parts.append("## Notes on the models\n")
        parts.append("\n".join(f"- {note}" for note in rounding) + "\n")
    real = [cell for cell in cells if not cell.synthetic]
    notes = {f"{c.coordinates.task}: {note}": None for c in real for note in c.notes}
    if notes:
        parts.append("## Notes on the data\n")
        parts.append("\n".join(f"- {note}" for note in notes) + "\n")
    return "\n".join(parts)


def latex(entries: Sequence[Entry]) -> str:
    """The wide tables for a paper; needs the package booktabs."""
    parts = ["% Made by ultrabench_eval from the cells of this folder. \\usepackage{booktabs}\n"]
    for table in wide(entries):
        rows = [[_tex(text) for text in row] for row in table.rows]
        for r, c in table.best:
            rows[r][c] = f"\\textbf{{{rows[r][c]}}}"
        caption = f"Macro F1 (\\%), mean $\\pm$ sd over seeds; {_tex(table.condition)}."
        if table.synthetic:
            caption += " SYNTHETIC columns are simulated images."
        lines = [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{caption}}}",
            f"\\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}",
            "\\toprule",
            _tex_row(map(_tex, table.header)),
            "\\midrule",
            *map(_tex_row, rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}\n",
        ]
        parts.append("\n".join(lines))
    return "\n".join(parts)


_DETAILS = [
    *("model", "task", "macro F1", "sd", "95 % CI", "balanced acc.", "AUROC", "seeds"),
    *("train", "validation", "test"),
]
_MODELS = [
    *("model", "what", "pooling", "input", "features", "parameters", "dtype", "weights"),
    *("wrapper", "tasks seen in pretraining", "fingerprint"),
]
_TASKS = ["task", "what", "classes", "groups", "fingerprint"]


def _detail(cell: Cell) -> list[str]:
    low, high = (100 * bound for bound in cell.intervals[metrics.MAIN])
    mean, sd = _main(cell)
    return [
        _model_name(cell),
        _task_name(cell),
        _number(mean),
        _number(sd),
        f"{low:.1f} to {high:.1f}",
        _number(100 * _mean_sd(cell.scores["balanced_accuracy"])[0]),
        _number(100 * _mean_sd(cell.scores["auroc"])[0]),
        str(len(cell.scores[metrics.MAIN])),
        *(str(cell.images[split]) for split in SPLITS),
    ]


def _error_rows(entries: Iterable[Entry]) -> list[list[str]]:
    return [
        [e.coordinates.model, e.coordinates.task, " ".join(e.reason.split())]
        for e in entries
        if isinstance(e, Failure)
    ]


def _model_rows(cells: Iterable[Cell]) -> list[list[str]]:
    rows = {}
    for cell in cells:
        info, fingerprint = cell.model, str(cell.identity["model"])
        size = info["input_size"]
        rows[_model_name(cell), fingerprint] = [
            _model_name(cell),
            str(info["title"]),
            str(info["pooling"]),
            f"{size} x {size}" if size else "as it is",
            str(info["dim"]),
            f"{info['parameters']:,}",
            str(cell.identity["dtype"]),
            _weights(cell),
            str(info.get("status") or ""),
            "none: random" if cell.random_weights else str(info.get("saw") or ""),
            hashing.short(fingerprint),
        ]
    return list(rows.values())


def _weights(cell: Cell) -> str:
    """File, the part of it and the checksum's first digits."""
    if cell.random_weights:
        return "random"
    name, digest = cell.model.get("weights_file"), cell.model.get("weights_sha256")
    if not name:
        return ""
    entry = cell.model.get("weights_entry")
    part = f"#{entry}" if entry else ""
    return f"{name}{part} ({hashing.short(str(digest))})"


def _task_rows(cells: Iterable[Cell]) -> list[list[str]]:
    rows = {}
    for cell in cells:
        fingerprint = str(cell.identity["task"])
        rows[cell.coordinates.task, fingerprint] = [
            _task_name(cell),
            cell.task["title"],
            ", ".join(cell.classes),
            cell.task["groups"],
            hashing.short(fingerprint),
        ]
    return list(rows.values())


def _mixtures(cells: Sequence[Cell]) -> list[str]:
    """What stands in one table but was not measured alike."""
    warnings = []
    for task, members in _grouped(cells, lambda c: c.coordinates.task):
        if len({c.identity["task"] for c in members}) > 1:
            models = sorted({c.coordinates.model for c in members})
            warnings.append(
                f"the rows of task '{task}' ({', '.join(models)}) were measured on different "
                "versions of its data; run all of them again"
            )
    for model, members in _grouped(cells, lambda c: c.coordinates.model):
        if len({(c.identity["model"], c.identity["dtype"]) for c in members}) > 1:
            warnings.append(
                f"the columns of model '{model}' were measured with different weights, wrappers "
                "or dtypes; run all of its tasks again"
            )
    if len({c.identity["seeds"] for c in cells}) > 1:
        warnings.append("cells differ in their number of seeds (see Details)")
    return warnings


# ---- small parts --------------------------------------------------------------------------------


def _mean_sd(values: Sequence[float | None]) -> tuple[float, float]:
    """Mean and sample deviation; NaN if any value is undefined, or for the sd of one value."""
    array = np.array([np.nan if v is None else v for v in values])
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else float("nan")


def _main(entry: Entry | None) -> tuple[float, float]:
    """Mean and sd of the main metric in percent; NaN for a hole."""
    if not isinstance(entry, Cell):
        return float("nan"), float("nan")
    mean, sd = _mean_sd(entry.scores[metrics.MAIN])
    return 100 * mean, 100 * sd


def _text(entry: Entry | None) -> str:
    if isinstance(entry, Failure):
        return HOLE
    mean, sd = _main(entry)
    return _number(mean) if np.isnan(sd) else f"{mean:.1f} ± {sd:.1f}"


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.1f}"


def _condition(at: Coordinates) -> str:
    text = f"{at.probe} probe, protocol {at.protocol}, {at.fraction} % of the training images"
    if at.corruption != "none":
        text += f", {at.corruption} severity {at.severity}"
    return text


def _model_name(cell: Cell) -> str:
    return cell.coordinates.model + (" [random weights]" if cell.random_weights else "")


def _task_name(cell: Cell) -> str:
    return cell.coordinates.task + (" (SYNTHETIC)" if cell.synthetic else "")


def _task_order(task: str) -> tuple[int, str]:
    known = task_zoo.BUILT_IN
    return (known.index(task) if task in known else len(known), task)


def _grouped(cells: Iterable[Cell], by: Callable[[Cell], str]) -> list[tuple[str, list[Cell]]]:
    return [(key, list(members)) for key, members in groupby(sorted(cells, key=by), key=by)]


def _section(title: str, header: list[str], rows: list[list[str]]) -> list[str]:
    return [f"## {title}\n", _md(header, rows)] if rows else []


def _md(header: list[str], rows: list[list[str]]) -> str:
    cells = [[text.replace("|", "\\|") for text in row] for row in rows]
    return str(tabulate(cells, header, tablefmt="pipe", disable_numparse=True)) + "\n"


def _tex_row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tex(text: str) -> str:
    return text.translate(_TEX)


_TEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
    }
)
