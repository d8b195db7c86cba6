"""The long form of a results folder: one row per cell and metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from ultrabench_eval.cells import Failure
from ultrabench_eval.report.results.degenerate import Finding, warnings_of
from ultrabench_eval.report.results.entries import Entry, main_metric, mean_sd, seen_told, status

COLUMNS = [
    *("model", "task", "probe", "protocol", "fraction", "corruption", "severity"),
    *("metric", "mean", "sd", "low", "high", "n_seeds", "n_test", "status"),
    *("seen", "warnings"),
]


def csv_of(table: pd.DataFrame) -> str:
    """As the text of a CSV file; numbers with four decimals."""
    text: str = table.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    return text


def frame(entries: Iterable[Entry], found: Sequence[Finding] = ()) -> pd.DataFrame:
    """Long form, one row per cell and metric; columns `COLUMNS`, scores in percent.

    `sd` is the sample deviation over seeds (n - 1), empty for one seed; `low` and `high` the 95 %
    interval over test groups and seeds, where the metric has one. `validation_loss` is
    the cross-entropy (nats) by which a protocol chose its probes: with it a pooling or checkpoint
    is chosen without looking at test images; one row for all corruptions. A failed cell is one row
    of the main metric without numbers, whose status is "error: " and the reason. `seen` tells
    whether the model was trained on images of the task, with their number where `--seen` told it.
    `warnings` has the
    sentences of `found` (`degenerate.find`) that are about the row; empty if there are none.
    """
    rows: list[dict[str, object]] = []
    for entry in entries:
        where = {
            **asdict(entry.coordinates),
            "seen": seen_told(entry),
            "warnings": warnings_of(entry, found),
            "status": status(entry),
        }
        if isinstance(entry, Failure):
            rows.append({**where, "metric": main_metric([entry]).name})
            continue
        for metric, values in entry.scores.items():
            scale = entry.metrics[metric].scale
            low, high = entry.intervals.get(metric, (np.nan, np.nan))
            mean, sd = mean_sd(values)
            rows.append(
                {
                    **where,
                    "metric": metric,
                    **{"mean": mean * scale, "sd": sd * scale},
                    **{"low": low * scale, "high": high * scale},
                    "n_seeds": len(values),
                    "n_test": entry.images["test"],
                }
            )
        if entry.coordinates.corruption == "none" and entry.heads:
            mean, sd = mean_sd([float(head["validation_loss"]) for head in entry.heads])
            rows.append(
                {
                    **where,
                    "metric": "validation_loss",
                    **{"mean": mean, "sd": sd},
                    "n_seeds": len(entry.heads),
                }
            )
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"n_seeds": "Int64", "n_test": "Int64"})
