"""`ubench compare`: predictions per item of several models, from wherever they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import options, show


def compare(
    predictions: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="A table per model with a row per item: .csv, .xlsx or .parquet; NAME=FILE.",
        ),
    ],
    truth: Annotated[
        Path | None,
        typer.Option("--truth", help="Table of labels or targets, and groups, for all models."),
    ] = None,
    effect: Annotated[
        float | None,
        typer.Option("--effect", help="A difference you want to find; shows patients needed."),
    ] = None,
    power: Annotated[
        float, typer.Option("--power", help="Probability of finding it, in percent.")
    ] = 80,
    metric: Annotated[
        str | None,
        typer.Option("--metric", help="Metric to compare by; default: macro F1, MAE or Dice."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option("--reference", help="Compare all models with this one, and only with it."),
    ] = None,
    task: Annotated[
        str,
        typer.Option(
            "--task", help="Name of the test set, by which random draws are named; as in a run."
        ),
    ] = "compare",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the tables (.md, .csv, .tex).")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Compare models by their predictions per item: intervals, paired tests, patients needed.

    The statistics are those of `ubench run`: whole patients are resampled and swapped. Files are
    checked first: same items, same truth. docs/compare.md has their columns. Exit code 2: a file
    was refused, and nothing was written.
    """
    from ultrabench_eval.compare import predictions as reading
    from ultrabench_eval.compare import result

    given = reading.read(result.names_of(predictions), truth, task)
    found = result.compare(
        given, metric=metric, reference=reference, effect=effect, power=power / 100
    )
    written = found.write(out) if out else []
    if as_json:
        show.json({**found.data(), "files": written})
        return
    for table in (found.scores_table, found.pairs_table):
        if table.rows:
            show.say(table.title)
            show.table(table.header, table.texts)
            print()
    for note in found.notes:
        show.say(note)
    for warning in found.warnings:
        show.say(f"warning: {warning}", err=True)
    for path in written:
        print(path)
