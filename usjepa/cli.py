"""The command `usjepa`: a thin skin on the Python functions, and the only place that prints.

Heavy modules are imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ultrabench_eval.core import command, files, siblings
from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

    from usjepa.config import Config
    from usjepa.frames.guard import Guard
    from usjepa.frames.sources import Clips, FrameSource
    from usjepa.frames.store import Frames, Settings
    from usjepa.train import Probe

app = typer.Typer(
    help="Train US-JEPA, USrc-JEPA and their baselines.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigName = Annotated[
    str, typer.Option("--config", help="A name that `usjepa configs` lists, or a YAML file.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="section.key=value over the configuration; may be repeated."),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data",
        envvar="UBENCH_DATA",
        help="Tasks whose test images must not be trained on; by default those among the frames.",
    ),
]
Unguarded = Annotated[
    bool, typer.Option("--unguarded", help="Do not look for test images among the frames.")
]


@app.command()
def train(
    config: ConfigName,
    frames: Annotated[
        Path, typer.Option(help="An index, or a folder of data sets, which is indexed into OUT.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run; one that was started is resumed.")],
    set: Set = None,
    data: DataRoot = None,
    unguarded: Unguarded = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that make batches.")] = 2,
    probe: Annotated[
        str | None,
        typer.Option(
            help="MODULE:FUNCTION that scores the encoder while it is trained, such as "
            "ultrabench_eval.live:ridge."
        ),
    ] = None,
    probe_every: Annotated[int, typer.Option(min=1, help="Epochs between its calls.")] = 5,
) -> None:
    """Train an encoder; the same command resumes a run that was stopped.

    OUT/encoder.safetensors and its card are there when it is done:
    `ubench run --model usjepa --weights usjepa=OUT`.
    Several GPUs: `torchrun --nproc-per-node 8 -m usjepa train ...`.
    """
    from usjepa import config as configs
    from usjepa import train as trainer

    settings = configs.load(config, set or ())
    files.check_writable(out, "the folder of the run (--out)")
    execution = trainer.Execution(
        device=device,
        workers=workers,
        probe=_probe(probe),
        probe_every=probe_every,
        report=_Steps(settings.train.epochs, "frames" if settings.video is None else "clips"),
    )
    index = _frames(frames, out / "frames", settings, data, unguarded)
    path = trainer.run(settings, index, out, execution)
    if _is_first():
        model = "usjepa" if settings.video is None else "usjepa-clip"
        print(f"{path}\nmeasure it: ubench run --model {model} --weights {model}={out}")


@app.command()
def index(
    sources: Annotated[list[Path], typer.Argument(help="Folders of data sets.")],
    out: Annotated[Path, typer.Option(help="Folder of the index.")],
    splits: Annotated[str, typer.Option(help="Splits of tasks among the sources.")] = "train",
    size: Annotated[int, typer.Option(min=16, help="Shorter side of stored frames.")] = 288,
    colour: Annotated[bool, typer.Option("--colour", help="Keep colours.")] = False,
    inpaint_below: Annotated[
        float, typer.Option(min=0, max=1, help="Share under which coloured marks are painted over.")
    ] = 0.05,
    clips: Annotated[
        bool, typer.Option("--clips", help="Whole videos, for configurations of clips.")
    ] = False,
    frame_folders: Annotated[
        bool,
        typer.Option("--frame-folders", help="With --clips: a folder of images is also a video."),
    ] = False,
    data: DataRoot = None,
    unguarded: Unguarded = False,
) -> None:
    """Read frames once: grey, marks painted over, ultrasound region found, test images left out.

    A folder's sub-folders are data sets: tasks (only their training images), images, videos, DICOM;
    with --clips also NIfTI and MetaImage sequences.
    A set that is there already and has not changed is not read again.
    """
    from usjepa.frames.store import Settings, about

    files.check_writable(out, "the folder of the index (--out)")
    if frame_folders and not clips:
        raise UserError("--frame-folders is about videos; give it with --clips")
    settings = Settings(grey=not colour, inpaint_below=inpaint_below, size=size, clips=clips)
    kind: Clips = "folders" if frame_folders else "files"
    found = _build(sources, out, settings, tuple(splits.split(",")), data, unguarded, kind)
    for name, count in zip(found.sets, found.counts.tolist(), strict=True):
        removed = (about(out / name) or {}).get("removed", {})
        reasons = ", ".join(f"{reason} {times}" for reason, times in removed.items())
        left_out = f"  left out: {reasons} ({out / name}/removed.csv)" if reasons else ""
        print(f"{name:24} {count:9,d}{left_out}")
    print(f"{('clips in ' if clips else 'frames in ') + str(out):24} {len(found):9,d}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The --out of a training, finished or not.")],
    out: Annotated[Path, typer.Option(help="Folder for encoder.safetensors and its card.")],
    half: Annotated[
        bool, typer.Option("--half", help="Weights as float16: half the size.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Matrices in 8 bits: a quarter of the size.")
    ] = False,
) -> None:
    """Write the encoder of least validation loss so far, for `ubench run --model usjepa`."""
    from usjepa.train import write_export

    files.check_writable(out, "the folder of the export (--out)")
    if half and int8:
        raise UserError("--half and --int8 are two ways to store weights; give one")
    print(write_export(run, out, "int8" if int8 else "float16" if half else "float32"))


@app.command()
def figure(
    data: Annotated[
        Path, typer.Option("--data", envvar="UBENCH_DATA", help="Data root: aul, busbra ... in it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for masks.svg, .png and .pdf.")],
    config: ConfigName = "usrc_jepa_vitb16",
    set: Set = None,
) -> None:
    """Draw masks on a training image of each task: region, valid patches, blocks with and without.

    Nothing is trained, and nothing is written unless all of it can be drawn.
    """
    import tasks
    from usjepa import config as configs
    from usjepa import figure as figures

    files.check_writable(out, "the folder of the figure (--out)")
    settings = configs.load(config, set or ())
    stills = [name for name in tasks.names_at(data) if tasks.card(name).samples == "image"]
    made = figures.masks([tasks.load(name, data) for name in stills], settings)
    for name, content in made.items():
        files.write_bytes(out / name, content)
        print(out / name)


@app.command()
def configs() -> None:
    """Names of the configurations that come with the package."""
    from usjepa import config

    for name in config.names():
        first = (config.CONFIGS / f"{name}.yaml").read_text().splitlines()[0]
        print(f"{name:20} {first.removeprefix('# ')}")


def main() -> None:
    """Entry point: whatever goes wrong becomes one sentence and an exit code."""
    siblings.check()
    command.main("usjepa", app)


def _is_first() -> bool:
    """Whether we are the process that shows progress, should torchrun have started several.

    Errors are shown by each: one process may have a reason of its own.
    """
    from usjepa import distributed

    rank, _ = distributed.rank_and_size()
    return rank == 0


def _frames(
    source: Path, place: Path, config: Config, data: Path | None, unguarded: bool
) -> Frames:
    """The index at `source`, or one at `place` of the data sets at `source`."""
    from usjepa.frames import store

    if store.is_index(source):
        return store.open_index(source)
    settings = store.Settings(config.data.grey, config.data.inpaint_below)
    if config.video is not None:
        # As large, for the input, as frames of stills are for theirs: videos have many.
        size = -(-288 * config.model.image_size // 224)
        settings = replace(settings, size=size, clips=True)
    return _build([source], place, settings, ("train",), data, unguarded)


def _build(
    folders: list[Path],
    out: Path,
    settings: Settings,
    splits: tuple[str, ...],
    data: Path | None,
    unguarded: bool,
    kind: Clips = "files",
) -> Frames:
    from usjepa.frames import index as indexing

    sources = [
        source for folder in folders for source in indexing.sources_of(folder, settings.clips)
    ]
    guard = None if unguarded else _guard(sources, data)
    told: set[tuple[str, int]] = set()

    def progress(name: str, done: int, total: int) -> None:
        tenth = (name, 10 * done // max(total, 1))
        if tenth not in told and _is_first():
            told.add(tenth)
            print(f"{name}: {done} of {total} files", file=sys.stderr)

    def tell(text: str) -> None:
        print(text, file=sys.stderr)

    return indexing.build(
        sources, out, settings, guard, splits, progress=progress, tell=tell, kind=kind
    )


def _guard(sources: list[FrameSource], data: Path | None) -> Guard:
    """A guard of the tasks at `data`, and of those among the sources."""
    import tasks
    from usjepa.frames.guard import Guard

    found = {source.task.name: source.task for source in sources if source.task is not None}
    for name in tasks.names_at(data) if data is not None else ():
        if name not in found:
            found[name] = tasks.load(name, data)
    indexed = {tasks.card(name).dataset for name in found}
    for name, task in list(found.items()):
        # Each of its samples is tested once, so what is trained on would all be left out.
        if task.folds and task.card.dataset in indexed - {None}:
            del found[name]
            print(
                f"usjepa: {name} tests all of its samples, some of which are trained on here; its "
                "scores are of samples that were seen",
                file=sys.stderr,
            )
    if not found:
        raise UserError(
            "no task is among the frames, so there are no test images to keep out; give --data "
            "ROOT with the tasks that you will measure on, or --unguarded"
        )
    return Guard.of(list(found.values()))


def _probe(name: str | None) -> Probe | None:
    """The function that MODULE:FUNCTION names, of an installed module or one in this folder."""
    if name is None:
        return None
    module, _, attribute = name.partition(":")
    sys.path.append(str(Path.cwd()))  # last: nothing installed gives way to a file here
    try:
        probe: Probe = getattr(importlib.import_module(module), attribute)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a module of the user's does, sys.exit() included
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"--probe {name} cannot be imported ({reason}); write it as MODULE:FUNCTION, and see "
            "that `python -c 'import MODULE'` works"
        ) from error
    if not callable(probe):
        raise UserError(f"--probe {name} is not a function; write it as MODULE:FUNCTION")
    return probe


class _Steps:
    """Shows the log: a bar with the time that is left, and a line for each epoch."""

    def __init__(self, epochs: int, what: str) -> None:
        self.epochs, self.what = epochs, what
        self.speed = self.loss = 0.0
        self.bar: Progress | None = None
        self.first = self.total = 0

    def __call__(self, entry: Mapping[str, Any]) -> None:
        """Show one line of the log."""
        kind, step = entry["kind"], entry["step"]
        if kind == "note":
            print(f"usjepa: {entry['text']}", file=sys.stderr, flush=True)
        elif kind == "start":
            self._start(entry)
        elif kind == "train" and self.bar is not None:
            self.speed, self.loss = entry["images_per_second"], entry["loss"]
            self.bar.update(self.bar.task_ids[0], completed=step)
            if step == self.total:
                self.bar.stop()
        elif kind == "validation":
            print(
                f"epoch {entry['epoch']} of {self.epochs}: loss {self.loss:.4f}, on held-out "
                f"{self.what} {entry['loss']:.4f}, effective rank {entry['effective_rank']:.1f}, "
                f"{self.speed:.0f} {'clips' if self.what == 'clips' else 'images'}/s",
                flush=True,
            )
        elif kind == "probe":
            scores = [f"{name} {value:.4g}" for name, value in entry.items() if name not in _PLACE]
            print(f"probe at epoch {entry['epoch']}: {', '.join(scores)}", flush=True)

    def _start(self, entry: Mapping[str, Any]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        self.total = entry["steps"]
        print(
            f"{entry['training_frames']:,d} training {self.what}, "
            f"{entry['held_out_frames']:,d} held out, {self.total:,d} steps, "
            f"from step {entry['step']:,d} on {entry['device']}",
            flush=True,
        )
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self.bar.add_task("steps", total=self.total, completed=entry["step"])
        if self.total > entry["step"]:
            self.bar.start()


_PLACE = ("kind", "step", "epoch")
