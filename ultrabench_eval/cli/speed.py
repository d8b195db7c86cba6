"""`ubench speed`: images a second of a run's encoders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import options, show
from ultrabench_eval.request import weights_of


def speed(
    run: Annotated[Path, typer.Argument(help="Results folder of `ubench run`.")],
    plugin: options.Plugins = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    rounds: Annotated[
        int, typer.Option("--rounds", help="How often each encoder is timed; the median counts.")
    ] = 5,
    as_json: options.Json = False,
) -> None:
    """Time a run's encoders side by side, and put images/s into its leaderboard.html.

    Run nothing else on the machine meanwhile. Takes the --plugin and --weights of the run. Exit
    code 0: all were timed; 1: some could not be; 2: none, and nothing was written.
    """
    from rich.console import Console

    from ultrabench_eval import throughput
    from ultrabench_eval.report.sections import speeds

    with Console(stderr=True).status("looking at the models") as status:
        measured = throughput.measure(
            run,
            plugin_files=plugin or (),
            weights=weights_of(weights or ()),
            device=device,
            rounds=rounds,
            report=lambda turn, model: status.update(f"round {turn} of {rounds}: {model}"),
        )
    if as_json:
        show.json(
            {
                "speeds": [one.model_dump() for one in measured.speeds],
                "without_network": measured.without_network,
                "problems": measured.problems,
                "files": [run / speeds.FILE, run / "leaderboard.html"],
            }
        )
        raise typer.Exit(options.SOME_FAILED if measured.problems else 0)
    slowest = min(one.images_per_second for one in measured.speeds)
    rows = [
        (
            one.model,
            f"{one.images_per_second:.4g}",
            f"{one.slowest:.4g} to {one.fastest:.4g}",
            f"{one.images_per_second / slowest:.2f}",
            one.numerics,
            str(one.batch),
            one.where,
        )
        for one in sorted(measured.speeds, key=lambda one: -one.images_per_second)
    ]
    head = ("model", "images/s", "rounds", "times the slowest", "dtype", "batch", "on")
    show.table(head, rows)
    if measured.without_network:
        print(f"without a network, so not timed: {', '.join(measured.without_network)}")
    print(run / speeds.FILE)
    print(run / "leaderboard.html")
    for problem in measured.problems:
        print(f"ubench: {problem}", file=sys.stderr)
    raise typer.Exit(options.SOME_FAILED if measured.problems else 0)
