"""The command `ubench`: a thin skin on the Python functions, and the only place that prints.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import audit, data, options, show
from ultrabench_eval.core.errors import UserError

app = typer.Typer(
    help="Is my ultrasound encoder better, and can I prove it?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command()(audit.audit)

DEMO_MODELS = "efficientnet-lite0,random-vit-tiny,pixels,image-stats,fan-mask"


@app.command()
def run(
    model: Annotated[str, typer.Option(help="Models, comma-separated, or 'all'.")],
    task: Annotated[str, typer.Option(help="Tasks or manifest.csv files, or 'all'.")] = "all",
    seeds: Annotated[int, typer.Option(help="Probes a cell, with seeds 0 ... n-1.")] = 5,
    data: options.DataRoot = None,
    out: Annotated[Path, typer.Option(help="Results folder.")] = Path("runs/latest"),
    cache: Annotated[
        Path | None, typer.Option(envvar="UBENCH_CACHE", help="Folder for features.")
    ] = None,
    plugin: options.Plugins = None,
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="MODEL=PATH of a checkpoint, MODEL=random, or random for all; may be repeated."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    pooling: Annotated[
        str | None, typer.Option(help="For all models; MODEL/POOLING asks for one model's.")
    ] = None,
    accept_license: Annotated[
        bool, typer.Option("--accept-license", help="Fetch weights from the hub, on their terms.")
    ] = False,
    compile: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    splits: Annotated[
        str | None,
        typer.Option(help="For all tasks: 'rule' or a split file; TASK@HOW asks for one task's."),
    ] = None,
    probe: Annotated[
        str, typer.Option(help="linear, logistic, ridge, knn, attentive; comma-separated.")
    ] = "linear",
    protocol: Annotated[
        str, typer.Option(help="paper, tuned, or a YAML file; comma-separated.")
    ] = "paper",
    fractions: Annotated[
        str, typer.Option(help="Percent of the training images, e.g. 1,5,10,50,100.")
    ] = "100",
    corruptions: Annotated[
        str, typer.Option(help="Of test images: paper, physics, all, or names (blur, shadow ...).")
    ] = "none",
    fewshot_validation: Annotated[
        str | None, typer.Option(help="whole, or subset: cut validation to the same percent.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Run what can be run; problems become error rows.")
    ] = False,
) -> None:
    """Measure models on tasks and write the leaderboard.

    What is done is not done again. Exit code 0: all cells are there; 1: some failed (error rows
    say why); 2: nothing was started.
    """
    import ultrabench_eval
    from ultrabench_eval.display import Progress

    with Progress() as progress:
        ultrabench_eval.run(
            model,
            task,
            seeds=seeds,
            data=data,
            out=out,
            cache=cache,
            plugin_files=plugin or (),
            weights=_weights(weights or []),
            device=device,
            dtype=dtype,
            pooling=pooling,
            accept_license=accept_license,
            compile=compile,
            splits=splits,
            probe=probe,
            protocol=protocol,
            fractions=fractions,
            corruptions=corruptions,
            fewshot_validation=fewshot_validation,
            keep_going=keep_going,
            report=progress,
        )
    show.results(out, progress.encoded)
    raise typer.Exit(options.SOME_FAILED if progress.failed else 0)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for all that the demo makes.")] = Path("demo"),
    seeds: Annotated[int, typer.Option(help="Probes a cell.")] = 5,
) -> None:
    """Run five small models on the eight SYNTHETIC tasks, from simulation to leaderboard."""
    run(model=DEMO_MODELS, task="all", seeds=seeds, data="phantom", out=out, cache=out / "cache")


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="One model, for all that is known.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As data for programs.")] = False,
    plugin: options.Plugins = None,
) -> None:
    """List the models, or tell what is known of one."""
    import model_zoo

    options.load_plugins(plugin)
    if name is not None and (wrong := model_zoo.problem(name)):
        raise UserError(wrong)
    known = [name] if name is not None else model_zoo.names()
    described = [model_zoo.describe(one) for one in known]
    if as_json:
        print(json.dumps(described if name is None else described[0], indent=1))
        return
    if name is not None:
        show.card(described[0])
        return
    rows = []
    for one in described:
        size = one["input"]["size"] if one["input"] else ""
        rows.append(
            (
                one["name"],
                one["title"],
                f"{one['parameters'] / 1e6:.1f} M" if one["parameters"] else "",
                str(one["dim"] or ""),
                str(size),
                ", ".join(one["poolings"]),
                one["status"],
                one["weights_licence"],
            )
        )
    header = ("model", "title", "parameters", "dim", "input", "poolings", "status", "licence")
    show.table(header, rows)


@app.command()
def verify(
    model: Annotated[str, typer.Argument(help="Models, comma-separated, or 'all'.")] = "all",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16.")] = "float32",
) -> None:
    """Replay the reference vectors of the encoders on this machine, device and dtype.

    A checkpoint in the released layout is written by the vectors' fill rule, loaded as a user's
    would be, and the features are compared with those of the authors' code. Exit code 1: some
    differ by more than the tolerance.
    """
    from model_zoo import verify as replay
    from ultrabench_eval.plan import resolve_names

    rows, failed = [], False
    for name in resolve_names(model, replay.names()):
        for one in replay.replay(name, device=device, dtype=dtype):
            failed |= not one.agrees
            rows.append(
                (
                    name,
                    one.array,
                    f"{one.largest:.1e}",
                    f"{one.cosine:.6f}",
                    f"cosine {replay.COSINE}" if one.allowed is None else f"{one.allowed:.0e}",
                    "agrees" if one.agrees else "DIFFERS",
                )
            )
    header = ("model", "array", "largest difference", "least cosine", "asked for", "")
    show.table(header, rows)
    raise typer.Exit(options.SOME_FAILED if failed else 0)


@app.command()
def tasks(
    name: Annotated[str | None, typer.Argument(help="One task, for all that is known.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As data for programs.")] = False,
    data: options.DataRoot = None,
    plugin: options.Plugins = None,
) -> None:
    """List the tasks, or tell what is known of one; with --data, what is there."""
    import tasks as task_zoo

    options.load_plugins(plugin)
    if name is not None and (wrong := task_zoo.problem(name)):
        raise UserError(wrong)
    named = name is not None and not task_zoo.is_manifest(name)
    listed = [task_zoo.split_name(name)[0]] if name and named else task_zoo.names()
    described = [task_zoo.describe(one) for one in listed]
    if as_json:
        print(json.dumps(described[0] if named else described, indent=1))
    elif name is None:
        show.tasks(described)
    else:
        if named:
            show.card(described[0])
        if data or not named:
            show.task(task_zoo.load(name, data))


def main() -> None:
    """Entry point: bad input becomes one sentence a problem and exit code 2."""
    try:
        app()
    except UserError as error:
        for line in str(error).splitlines():
            print(f"ubench: {line}", file=sys.stderr)
        sys.exit(options.BAD_INPUT)
    except KeyboardInterrupt:
        print("ubench: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(options.STOPPED)


def _weights(pairs: list[str]) -> dict[str, str]:
    """MODEL=PATH options as a mapping; "random" alone is for all models."""
    pairs = ["all=random" if pair == "random" else pair for pair in pairs]
    for pair in pairs:
        if not all(pair.partition("=")):
            raise UserError(f"--weights {pair} is not understood; write MODEL=PATH or MODEL=random")
    return {name: path for name, _, path in (pair.partition("=") for pair in pairs)}
