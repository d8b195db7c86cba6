"""The command `ubench`: a thin skin on the Python functions, and the only place that prints.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ultrabench_eval import __version__
from ultrabench_eval.cli import (
    audit,
    checkpoint,
    compare,
    data,
    doctor,
    embed,
    importing,
    merge,
    options,
    plan,
    predict,
    report,
    show,
    speed,
    wrapper_check,
)
from ultrabench_eval.core import command, siblings
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.request import Request

# Commands in the order in which they are used, under what they are for.
_ORDER = {
    "Start": ("demo", "doctor"),
    "Choose": ("tasks", "data", "models", "verify"),
    "Measure": ("plan", "run", "import", "merge"),
    "Read": ("report", "compare", "audit", "speed"),
    "Use": ("predict", "embed"),
}


class _InOrder(TyperGroup):
    """The commands as `_ORDER` has them, others behind them."""

    def __init__(self, *rest: Any, **more: Any) -> None:
        super().__init__(*rest, **more)
        for panel, names in _ORDER.items():
            for name in names:
                vars(self.commands[name])["rich_help_panel"] = panel

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in order."""
        known = [name for names in _ORDER.values() for name in names]
        return [*known, *(name for name in super().list_commands(ctx) if name not in known)]


app = typer.Typer(
    cls=_InOrder,
    help="Is my ultrasound encoder better, and can I prove it?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.command()(audit.audit)
app.command()(report.report)
app.command()(compare.compare)
app.command("import")(importing.import_)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"ubench {__version__}")
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_version, help="Show the version and exit."
        ),
    ] = False,
) -> None: ...


DEMO_MODELS = "usrc-jepa-nano,efficientnet-lite0,random-vit-tiny,pixels,image-stats,fan-mask"


@app.command()
@options.asks
def run(request: Request, as_json: options.Json = False) -> None:
    """Measure models on tasks and write the leaderboard.

    Results that are already there are not computed again. The same command in several processes
    at once shares the work. Exit code 0: every result was measured; 1: some failed (error rows say
    why); 2: nothing was started.
    """
    from ultrabench_eval.loading import NoData

    try:
        code = _run(request, as_json)
    except NoData as nothing:
        _offer_phantom(nothing)
        code = _run(replace(request, data="phantom"), as_json)
    raise typer.Exit(code)


def _offer_phantom(nothing: UserError) -> None:
    """Ask whether SYNTHETIC images will do; they are never taken without a yes.

    Raises:
        UserError: there is nobody to ask.
    """
    if not _is_watched():
        again = shlex.join(["ubench", *sys.argv[1:], "--data", "phantom"])
        raise UserError(f"{nothing}\nto run it on SYNTHETIC images instead: {again}")
    typer.echo(str(nothing), err=True)
    question = "Run on SYNTHETIC images instead? They say nothing about real ultrasound"
    if not typer.confirm(question, err=True):
        raise UserError("nothing was run")


def _is_watched() -> bool:
    """Whether there is somebody to answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _run(request: Request, as_json: bool = False) -> int:
    """Run, print what came of it, and return the exit code."""
    import ultrabench_eval
    from ultrabench_eval.progress import Progress

    with Progress() as progress:
        ultrabench_eval.run(request, report=progress)
    out = Path(request.out)
    if as_json:
        counts = {"encoded": progress.encoded, "failed": progress.failed}
        show.json({**show.results_data(out), **counts, "files": show.pages(out)})
    else:
        show.results(out, progress.encoded)
    return options.SOME_FAILED if progress.failed else 0


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything that the demo makes.")] = Path(
        "demo"
    ),
    seeds: Annotated[int, typer.Option(help="Number of probe seeds per result.")] = 5,
) -> None:
    """Run six small models on SYNTHETIC tasks, from simulation to leaderboard.

    The eight tasks of the US-JEPA paper, masks of lesions, head circumferences, and, with two
    controls, videos in which no single frame shows whether the lung slides.
    """
    import model_zoo
    import tasks as task_zoo
    from ultrabench_eval import remedies

    known = DEMO_MODELS.split(",")
    lacking = [
        name for name in known if not all(map(remedies.installed, model_zoo.card(name).packages))
    ]
    for name in lacking:
        command = remedies.for_weights(name)
        show.say(f"{name} is left out, its weights are not installed: {command}", err=True)
    request = Request(
        models=tuple(name for name in known if name not in lacking),
        tasks=(*task_zoo.OF_THE_PAPER, "busbra-seg", "hc18-hc"),
        seeds=seeds,
        data="phantom",
        out=out,
        cache=out / "cache",
    )
    # Into a folder of its own, because models that lack a task have no mean over tasks.
    videos = replace(
        request, models="pixels,frame-differences", tasks="phantom-sliding", out=out / "videos"
    )
    code = _run(request)
    code = _run(videos) or code
    show.say(
        "Synthetic images can show that everything works, from images to statistics, and that an "
        "encoder which learned something beats the controls; they cannot show which "
        "encoder is better on ultrasound of patients."
    )
    raise typer.Exit(code)


@app.command()
def models(
    name: Annotated[
        str | None,
        typer.Argument(
            help="A model, or a checkpoint file; shows all that is known of it.",
            autocompletion=options.complete_models,
        ),
    ] = None,
    as_json: options.Json = False,
    plugin: options.Plugins = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="For a checkpoint file: write the lines that run it here (.py)."
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(help="Load the model from this file; show which tensors are used."),
    ] = None,
    ask_author: Annotated[
        bool,
        typer.Option("--ask-author", help="Print a letter that asks its authors to confirm it."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Load a model and look for faults in its wrapper."),
    ] = False,
) -> None:
    """List the models, or show what is known of one, or what a checkpoint file holds.

    For a checkpoint file, the few lines of Python that run its network are printed, or written to
    --out. With --check a model is loaded and examined on SYNTHETIC images, without labels; exit
    code 1: an alarm.
    """
    import model_zoo

    options.load_plugins(plugin)
    wrong = None if name is None else model_zoo.problem(name)
    if name is not None and wrong and checkpoint.is_meant(name):
        checkpoint.show(Path(name), as_json, out)
        return
    if wrong:
        raise UserError(wrong)
    if out is not None:
        raise UserError("--out is for the lines of a checkpoint file; name one: ubench models FILE")
    if name is None and (weights or ask_author or check):
        raise UserError("name a model: ubench models NAME")
    if name is not None and weights:  # as a path, or as `run` takes it
        before, _, path = weights.partition("=")
        weights = path if before in {name, model_zoo.split(name)[0]} else weights
    if name is not None and ask_author:
        from model_zoo.letter import letter

        print(letter(name))
        return
    if name is not None and check:
        wrapper_check.check(name, weights, as_json)
    known = [name] if name is not None else model_zoo.names()
    described = [model_zoo.describe(one) for one in known]
    if name is not None and weights:
        described = [_loaded(name, weights)]
    if as_json:
        show.json(described if name is None else described[0])
        return
    if name is not None:
        show.card(described[0])
        return
    rows = []
    for one in described:
        size = one["input"]["size"] if one["input"] else ""
        if one["takes"] == "clip":
            size = f"{one['clip']['frames']} frames x {size}"
        rows.append(
            (
                one["name"],
                one["title"],
                f"{one['parameters'] / 1e6:.1f} M" if one["parameters"] else "",
                str(one["dim"] or ""),
                str(size),
                ", ".join(one["poolings"]),
                one["status"],
                one["verified"],
                one["weights_licence"],
            )
        )
    header = (
        *("model", "title", "parameters", "dim", "input", "poolings", "status", "verified"),
        "licence",
    )
    show.table(header, rows)


def _loaded(name: str, weights: str) -> dict[str, Any]:
    """What is known of a model that was filled from a file: its card, and what was used of it."""
    import model_zoo
    from model_zoo import cards

    encoder = model_zoo.load(name, weights, "cpu", "float32")
    found = cards.describe(name, encoder)
    found |= {"parameters": encoder.parameter_count, "dim": encoder.dim}
    total = len(encoder.network.state_dict())
    entry = encoder.filled[0] if encoder.filled else None
    return {
        **found,
        "weights": f"{encoder.weights_file}{f'#{entry}' if entry else ''}",
        "tensors used": f"{encoder.used or total} of the network's {total}",
        "not used of the file": list(encoder.dropped),
        "assumed, because the file does not say": list(encoder.assumed),
    }


@app.command()
def verify(
    model: Annotated[str, typer.Argument(help="Models, comma-separated, or 'all'.")] = "all",
    device: options.Device = "auto",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16, float16.")] = "float32",
    wrapper: Annotated[
        str | None,
        typer.Option(help="Your own wrapper of that model (from --plugin), compared with it."),
    ] = None,
    plugin: options.Plugins = None,
) -> None:
    """Replay the reference vectors of the encoders on this machine, device and dtype.

    A checkpoint in the released layout is written by the vectors' fill rule, loaded as a user's
    would be, and the features are compared with those of the authors' code. Where the numbers are
    those of a known mistake, it is named. Exit code 1: some differ by more than the tolerance.
    """
    from model_zoo import verify as replay
    from ultrabench_eval.loading import resolve_names

    options.load_plugins(plugin)
    rows, failed = [], False
    mistakes: dict[str, None] = {}
    names = resolve_names(model, replay.names())
    for name in names:
        replay.read(name)  # refuses what cannot be verified before the first takes its minutes
    for name in names:
        for one in replay.replay(name, device=device, dtype=dtype, wrapper=wrapper):
            failed |= not one.agrees
            if one.mistake:
                mistakes[f"{wrapper or name}: {one.mistake}"] = None
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
    for sentence in mistakes:
        show.say(sentence)
    raise typer.Exit(options.SOME_FAILED if failed else 0)


@app.command()
@options.reads_own_data
def tasks(
    request: Request,
    name: Annotated[
        str | None,
        typer.Argument(
            help="A task, to show all that is known of it.", autocompletion=options.complete_tasks
        ),
    ] = None,
    as_json: options.Json = False,
    data: options.DataRoot = None,
    plugin: options.Plugins = None,
) -> None:
    """List the tasks, or show what is known of one; with --data, what is there."""
    import tasks as task_zoo

    options.load_plugins(plugin)
    if name is not None and (wrong := task_zoo.problem(name)):
        raise UserError(wrong)
    options.check_used([name] if name else [], request.reading)
    named = name is not None and not task_zoo.is_manifest(name)
    listed = [task_zoo.split_name(name)[0]] if name and named else task_zoo.names()
    described = [task_zoo.describe(one) for one in listed]
    if as_json:
        show.json(described[0] if named else described)
    elif name is None:
        show.tasks(described)
    else:
        if named:
            show.card(described[0])
        if data or not named:
            show.task(task_zoo.load(name, data, request.reading))


for one in (plan.plan, merge.merge, predict.predict, embed.embed, doctor.doctor, speed.speed):
    app.command()(one)


def main() -> None:
    """Entry point: bad input becomes one sentence per problem and exit code 2."""
    siblings.check()
    command.main("ubench", app)
