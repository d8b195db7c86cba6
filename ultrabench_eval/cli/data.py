"""`ubench data`: make, fetch, prepare and check data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Make, fetch, prepare and check data.", no_args_is_help=True)


@app.command()
def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write; becomes a data root.")],
    size: Annotated[str, typer.Option(help="small or medium.")] = "small",
    seed: Annotated[int, typer.Option(help="Another seed gives other patients.")] = 0,
    task: Annotated[str, typer.Option(help="Tasks, comma-separated, or 'all'.")] = "all",
) -> None:
    """Simulate eight SYNTHETIC datasets in the layouts of the eight original releases."""
    from tasks import phantom as suite
    from ultrabench_eval.display import Progress
    from ultrabench_eval.pipeline import Step
    from ultrabench_eval.plan import resolve_names

    with Progress() as progress:
        suite.write(
            out,
            size=size,
            seed=seed,
            tasks=resolve_names(task, suite.TASKS),
            progress=lambda name, done, total: progress(Step("phantom", "", name, done, total)),
        )
    print(f"SYNTHETIC data written to {out}; use it with --data {out}")
