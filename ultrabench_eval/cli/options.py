"""Options that several commands take, their completion, and the exit codes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.core.errors import UserError

BAD_INPUT, SOME_FAILED, STOPPED = 2, 1, 130


def complete_models(incomplete: str) -> list[str]:
    """Names of models that the last of a comma-separated list may become."""
    import model_zoo

    return _completed(incomplete, model_zoo.names())


def complete_tasks(incomplete: str) -> list[str]:
    """Names of tasks that the last of a comma-separated list may become."""
    import tasks

    return _completed(incomplete, tasks.names())


def _completed(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    names = (name.removesuffix("<name>") for name in names)
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="Python file that registers models or tasks; may be repeated."),
]
DataRoot = Annotated[
    str | None,
    typer.Option(
        "--data",
        envvar="UBENCH_DATA",
        help="Folder with one sub-folder a task; 'phantom' for the built-in synthetic suite.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As data for programs.")]

# ---- of `run` and `plan` -------------------------------------------------------------------------

Models = Annotated[
    str,
    typer.Option(
        "--model", help="Models, comma-separated, or 'all'.", autocompletion=complete_models
    ),
]
Tasks = Annotated[
    str,
    typer.Option(
        "--task", help="Tasks or manifest.csv files, or 'all'.", autocompletion=complete_tasks
    ),
]
Seeds = Annotated[int, typer.Option("--seeds", help="Probes a cell, with seeds 0 ... n-1.")]
Out = Annotated[Path, typer.Option("--out", help="Results folder.")]
Cache = Annotated[
    Path | None, typer.Option("--cache", envvar="UBENCH_CACHE", help="Folder for features.")
]
Weights = Annotated[
    list[str] | None,
    typer.Option(
        "--weights",
        help="MODEL=PATH of a checkpoint, MODEL=random, or random for all; may be repeated.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16, float16.")]
Pooling = Annotated[
    str | None,
    typer.Option("--pooling", help="For all models; MODEL/POOLING asks for one model's."),
]
AcceptLicense = Annotated[
    bool, typer.Option("--accept-license", help="Fetch weights from the hub, on their terms.")
]
Compile = Annotated[bool, typer.Option("--compile", help="Use torch.compile.")]
Splits = Annotated[
    str | None,
    typer.Option(
        "--splits", help="For all tasks: 'rule' or a split file; TASK@HOW asks for one task's."
    ),
]
Probe = Annotated[
    str,
    typer.Option("--probe", help="linear, logistic, ridge, knn, attentive; comma-separated."),
]
HowTrained = Annotated[
    str, typer.Option("--protocol", help="paper, tuned, or a YAML file; comma-separated.")
]
Fractions = Annotated[
    str, typer.Option("--fractions", help="Percent of the training images, e.g. 1,5,10,50,100.")
]
Corruptions = Annotated[
    str,
    typer.Option(
        "--corruptions", help="Of test images: paper, physics, all, or names (blur, shadow ...)."
    ),
]
FewshotValidation = Annotated[
    str | None,
    typer.Option(
        "--fewshot-validation", help="whole, or subset: cut validation to the same percent."
    ),
]
ShardOf = Annotated[
    str | None,
    typer.Option(
        "--shard", help="I/N: this job's share of models x tasks, e.g. 2/4 of an array of four."
    ),
]
Executor = Annotated[
    str | None,
    typer.Option(
        "--executor", help="Who measures: local, slurm or ray workers; a model on a task each."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", help="How many at a time; without --executor on this machine."),
]
ExecutorOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--executor-option",
        help="KEY=VALUE, such as gpus_per_worker=1, cpus_per_worker=8, timeout_min=600, "
        "slurm_partition=gpu, address=HOST:PORT; may be repeated.",
    ),
]


def weights_of(pairs: list[str] | None) -> dict[str, str]:
    """MODEL=PATH options as a mapping; "random" alone is for all models."""
    pairs = ["all=random" if pair == "random" else pair for pair in pairs or ()]
    return _by_key(pairs, "--weights", "MODEL=PATH or MODEL=random")


def executor_options_of(pairs: list[str] | None) -> dict[str, object]:
    """KEY=VALUE options as a mapping."""
    return {**_by_key(pairs or (), "--executor-option", "KEY=VALUE")}


def _by_key(pairs: Iterable[str], option: str, form: str) -> dict[str, str]:
    found = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise UserError(f"{option} {pair} is not understood; write {form}")
        found[key] = value
    return found


def load_plugins(paths: list[Path] | None) -> None:
    """Import plugin files, which register what they hold."""
    from ultrabench_eval import plugins

    for path in paths or ():
        plugins.load_file(path)
