"""`ubench import`: features or predictions that were made elsewhere, as an entry of the tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import options, show
from ultrabench_eval.request import Request, seen_of, weights_of


@options.reads_own_data
def import_(
    request: Request,
    file: Annotated[
        Path,
        typer.Argument(help="Features or predictions: .npz, .safetensors, .parquet or .csv."),
    ],
    model: Annotated[str, typer.Option("--model", help="Name of the entry.")],
    task: Annotated[
        str,
        typer.Option(
            "--task", help="A task, or your own data.", autocompletion=options.complete_tasks
        ),
    ],
    out: Annotated[Path, options.option("out")] = Path("runs/latest"),
    data: options.DataRoot = None,
    seeds: Annotated[int, options.option("seeds")] = 5,
    probe: Annotated[str | None, options.option("probe")] = None,
    protocol: Annotated[str | None, options.option("protocol")] = None,
    fractions: Annotated[str, options.option("fractions")] = "100",
    fewshot_validation: Annotated[str | None, options.option("fewshot_validation")] = None,
    splits: Annotated[str | None, options.option("splits")] = None,
    seen: Annotated[list[str] | None, options.option("seen")] = None,
    weights: options.Weights = None,
    plugin: options.Plugins = None,
    device: options.Device = "auto",
    accept_license: Annotated[bool, options.option("accept_license")] = False,
    partial: Annotated[bool, options.option("partial")] = False,
    identifiers: Annotated[bool, options.option("identifiers")] = False,
    cache: options.Cache = None,
    as_json: options.Json = False,
) -> None:
    """Score features or predictions that were made elsewhere, next to models that are loaded here.

    Rows are joined by the image's SHA-256 or name, never by order. Features get probes, few-shot
    and statistics like any others; if the model of that name can be loaded, some images are encoded
    again and compared. The entry is called imported/NAME. docs/import.md has the formats. Exit code
    0: every result was measured; 1: some failed; 2: the file is refused, and nothing was written.
    """
    from ultrabench_eval.imports.entry import import_file
    from ultrabench_eval.progress import Progress

    asked = replace(
        request,
        models=(model,),
        tasks=(task,),
        out=out,
        data=data,
        seeds=seeds,
        probe=probe,
        protocol=protocol,
        fractions=fractions,
        fewshot_validation=fewshot_validation,
        splits=splits,
        seen=dict[str, Path | str](seen_of(seen)) if seen else None,
        weights=dict[str, Path | str](weights_of(weights)) if weights else None,
        plugin_files=tuple(plugin or ()),
        device=device,
        accept_license=accept_license,
        partial=partial,
        identifiers=identifiers,
        cache=cache,
    )
    options.check_used([task], request.reading)
    with Progress() as progress:
        done = import_file(file, asked, report=progress)
    failed = done.stages.count("failed")
    if as_json:
        facts = {"entry": done.name, "holds": done.held, "images": done.count, "rows": done.rows}
        show.json({**facts, "failed": failed, "notes": done.notes, **show.results_data(out)})
    else:
        print(f"{done.name}: {done.held} of {done.count} images, {done.rows}")
        for note in done.notes:
            show.say(f"note: {note}", err=True)
        show.results(out, 0)
    raise typer.Exit(options.SOME_FAILED if failed else 0)
