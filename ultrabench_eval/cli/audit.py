"""`ubench audit`: near-duplicates within and across splits, tasks and pretraining images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import options, show
from ultrabench_eval.request import Request


@options.reads_own_data
def audit(
    request: Request,
    task: Annotated[
        str, typer.Option(help="Tasks, tables or folders of your own, or 'all'.")
    ] = "all",
    data: options.DataRoot = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Pretraining images: a folder, or a text or CSV list; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("runs/audit"),
    run: Annotated[
        Path | None,
        typer.Option(help="Results of `ubench run`, to score again without the seen images."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(envvar="UBENCH_CACHE", help="Folder for signatures.")
    ] = None,
    plugin: options.Plugins = None,
    as_json: options.Json = False,
) -> None:
    """Check whether test images also appear among training, validation or pretraining images.

    Exit code 0: every image was compared; 1: some cannot be read (audit.md names them); 2: nothing
    was compared. What was found does not change the exit code.
    """
    import sys

    from ultrabench_eval.audit import clean, report
    from ultrabench_eval.audit.audit import audit as search
    from ultrabench_eval.progress import Progress

    with Progress() as progress:
        found = search(
            task,
            data=data,
            against=against or (),
            cache=cache,
            plugin_files=plugin or (),
            reading=request.reading,
            report=progress,
        )
    scores, notes = clean.rescore(run, found.seen, found.tasks.values()) if run else ([], [])
    report.write(found, out, scores, notes)
    files = [
        out / name for name in ("audit.md", "gallery.html", "pairs.csv", "groups.csv", "clean")
    ]
    if as_json:
        whole = report.as_dict(found, scores, [*found.notes, *notes])
        show.json({**whole, "summary": report.summary(found), "files": files})
        raise typer.Exit(options.SOME_FAILED if found.unreadable else 0)

    if any(known.synthetic for known in found.tasks.values()):
        print("SYNTHETIC images: says nothing about real ultrasound")
    show.table(report.COUNT_HEADER, report.count_rows(found))
    if scores:
        print(f"{report.scores_are(scores)}, on all test images and on those that were not seen")
        show.table(report.SCORE_HEADER, report.score_rows(scores))
    for line in report.summary(found):
        print(line)
    for note in (*found.notes, *notes):
        print(f"note: {note}")
    for _, reason in found.unreadable:
        print(f"error: {reason}", file=sys.stderr)
    for file in files:
        print(file)
    raise typer.Exit(options.SOME_FAILED if found.unreadable else 0)
