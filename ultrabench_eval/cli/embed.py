"""`ubench embed`: the features of a task's images as a Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import options
from ultrabench_eval.request import weights_of


def embed(
    model: Annotated[
        str,
        typer.Argument(
            help="A model; MODEL/POOLING for another pooling.",
            autocompletion=options.complete_models,
        ),
    ],
    task: Annotated[
        str,
        typer.Argument(help="A task or manifest file.", autocompletion=options.complete_tasks),
    ],
    out: Annotated[Path, typer.Option("--out", help=".parquet file to write.")],
    data: options.DataRoot = None,
    plugin: options.Plugins = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    dtype: Annotated[str, options.option("dtype")] = "auto",
    accept_license: Annotated[bool, options.option("accept_license")] = False,
    cache: options.Cache = None,
) -> None:
    """Write the features of a task's images, with ids, splits, labels and groups.

    They are those that probes are trained on, from the cache if it has them. The fingerprints of
    model and task are in the file's metadata. Needs the extra 'parquet'.
    """
    from ultrabench_eval import embed as embedding
    from ultrabench_eval.cli import data as data_root
    from ultrabench_eval.progress import progress_bar

    embedding.check_installed(out)
    with progress_bar("encoding images") as progress:
        made = embedding.embed(
            model,
            task,
            data=data_root.root_folder(data) if data else None,
            weights=weights_of(weights or ()),
            plugin_files=plugin or (),
            device=device,
            dtype=dtype,
            accept_license=accept_license,
            cache=cache,
            report=progress,
        )
    embedding.write(made, out)
    if made.task.synthetic:
        print("SYNTHETIC images: says nothing about real ultrasound")
    count, width = made.features.shape
    print(f"{made.model.name} on {made.task.name}: {count} images x {width} features")
    print(out)
