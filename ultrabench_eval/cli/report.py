"""`ubench report`: tables and figures of a finished run, also beside published figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import show
from ultrabench_eval.core.errors import UserError


def report(
    run: Annotated[
        Path | None, typer.Argument(help="Results folder of `ubench run`.", show_default=False)
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Published figures to set ours beside: us-jepa.")
    ] = None,
    claims: Annotated[
        bool, typer.Option("--claims", help="Test what the US-JEPA paper says of its numbers.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="The paper's tables in their own layout.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; default: RUN itself, without RUN runs/published."),
    ] = None,
) -> None:
    """Make tables and figures of a run again, from its cells alone; nothing is encoded or trained.

    --published needs no run. Exit code 2: nothing was written.
    """
    if run is None and (against or not (published or claims)):
        raise UserError(
            "no run to report: write `ubench report RUN`, RUN being the --out of `ubench run`, or "
            "`ubench report --published`"
        )
    from ultrabench_eval.report import against as beside
    from ultrabench_eval.report import claims as ledger
    from ultrabench_eval.report import published as paper
    from ultrabench_eval.report import regenerate

    source = paper.find(against) if against else paper.US_JEPA
    figures = paper.load(source.name) if against or claims or published else None
    entries = regenerate.gather(run) if run else []
    out = out or run or Path("runs/published")
    words: list[str] = []
    made: dict[str, bytes] = {}
    if figures and published:
        made |= paper.pages(figures)
    if figures and against:
        compared = beside.compare(entries, figures)
        made |= beside.pages(compared)
        words += [beside.summary(compared), *compared.notes]
    if figures and claims:
        tested = ledger.judge_all(entries, figures)
        made |= ledger.pages(tested, entries, figures)
        words += ledger.summary(tested, figures, run=bool(entries))

    if run:
        regenerate.regenerate(run, out)
    written = regenerate.write(out, made)
    if any(entry.synthetic for entry in entries):
        print("SYNTHETIC images are among these: they say nothing about real ultrasound")
    if figures and published:
        layout = paper.scores_layout(figures)
        print(layout.title)
        show.table(layout.header, layout.rows)
    for path in [out / "leaderboard.md", *written] if run else written:
        print(path)
    for line in words:
        print(line)
