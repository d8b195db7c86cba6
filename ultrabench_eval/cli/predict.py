"""`ubench predict`: class probabilities of images by the probes that a run kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import options, show
from ultrabench_eval.request import weights_of


def predict(
    run: Annotated[Path, typer.Argument(help="Results folder of `ubench run --keep-probes`.")],
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.")],
    model: Annotated[str, typer.Option("--model", help="A model of the run.")],
    out: Annotated[Path, typer.Option("--out", help="CSV file to write.")],
    task: Annotated[
        str | None, typer.Option("--task", help="Its task, if the run has several.")
    ] = None,
    probe: Annotated[
        str | None, typer.Option("--probe", help="Its probe, if the run has several.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Name or id, if the run has several.")
    ] = None,
    fraction: Annotated[
        int, typer.Option("--fraction", help="Percent of the training images it was trained on.")
    ] = 100,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed of one probe; default: the mean over all seeds."),
    ] = None,
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Do not calibrate the probabilities.")
    ] = False,
    frames: Annotated[str | None, options.option("frames")] = None,
    window: Annotated[str | None, options.option("window")] = None,
    plugin: options.Plugins = None,
    weights: options.Weights = None,
    device: options.Device = "auto",
    cache: options.Cache = None,
) -> None:
    """Predict the classes of images with a classifier that a run measured.

    Writes a CSV file: one row per image, one column per class with its probability, calibrated on
    the task's validation images, and what made them: model and its fingerprint, task, probe,
    protocol. Takes the --plugin and --weights of the run. Exit code 2: nothing was written. Not a
    medical device.
    """
    from tasks.own_data.reading import Reading
    from ultrabench_eval import predict as predicting
    from ultrabench_eval.core.names import printable
    from ultrabench_eval.progress import progress_bar

    with progress_bar("encoding images") as progress:
        found = predicting.predict(
            run,
            model,
            images,
            task=task,
            probe=probe,
            protocol=protocol,
            fraction=fraction,
            seed=seed,
            calibrated=not uncalibrated,
            weights=weights_of(weights or ()),
            plugin_files=plugin or (),
            reading=Reading.of(frames=frames, window=window),
            device=device,
            cache=cache,
            report=progress,
        )
    predicting.write(found, out)
    at = found.cell.coordinates
    print(f"{at.model} on {at.task} ({at.probe}, {at.protocol}): {len(found.names)} images")
    counts = dict.fromkeys(found.cell.classes, 0)
    for code in found.probabilities.argmax(-1).tolist():
        counts[found.cell.classes[code]] += 1
    show.table(("class", "images"), [(name, str(count)) for name, count in counts.items()])
    for sentence in found.warnings:
        print(f"warning: {printable(sentence)}", file=sys.stderr)
    print(out)
