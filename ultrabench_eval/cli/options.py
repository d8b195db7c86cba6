"""Options that several commands take, their completion, and the exit codes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import Field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.request import OPTIONS, OWN_DATA, Request

if TYPE_CHECKING:
    from tasks.own_data.reading import Reading

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


def option(name: str, *, grouped: bool = False) -> Any:
    """The option of a field of `Request`, in `--help` under the title of its group or not."""
    said = OPTIONS[name].metadata
    completed = {"models": complete_models, "tasks": complete_tasks}.get(name)
    return typer.Option(
        said["flag"],
        help=said["help"],
        envvar=said["variable"],
        autocompletion=completed,
        rich_help_panel=said["group"] if grouped else None,
    )


DataRoot = Annotated[str | None, option("data")]
Cache = Annotated[Path | None, option("cache")]
Plugins = Annotated[list[Path] | None, option("plugin_files")]
Weights = Annotated[list[str] | None, option("weights")]
Device = Annotated[str, option("device")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]

# ---- of `run` and `plan` -------------------------------------------------------------------------


def asks(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first argument is a `Request`, an option for each of its fields.

    With `--config` the fields come from a file, and options on the command line replace them.
    """
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    parameters = [_parameter("ctx", typer.Context, inspect.Parameter.empty)]
    for name, field in OPTIONS.items():
        kind = field.metadata["kind"]
        parameters.append(
            _parameter(name, Annotated[kind, option(name, grouped=True)], _default(field))
        )
    config = Annotated[
        Path | None,
        typer.Option("--config", help="YAML file of these options, as OUT/requests/ has them."),
    ]
    parameters.append(_parameter("config", config, None))

    @functools.wraps(command)
    def made(ctx: typer.Context, config: Path | None, **given: Any) -> None:
        asked = {name: given.pop(name) for name in OPTIONS}
        said = {
            name: _parsed(name, value)
            for name, value in asked.items()
            if getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"
        }
        request = Request.read(config, **said) if config else Request.of(**said)
        command(request, **given)

    every = [*parameters, *own]
    vars(made)["__signature__"] = inspect.Signature(every)
    made.__annotations__ = {one.name: one.annotation for one in every}
    return made


def reads_own_data(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first argument is a `Request`, the options of own data alone."""
    every = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    for name in OWN_DATA:
        kind = OPTIONS[name].metadata["kind"]
        every.append(_parameter(name, Annotated[kind, option(name)], _default(OPTIONS[name])))

    @functools.wraps(command)
    def made(**given: Any) -> None:
        said = {name: given.pop(name) for name in OWN_DATA}
        words = {name: _parsed(name, value) for name, value in said.items() if value is not None}
        command(Request.of(**words), **given)

    vars(made)["__signature__"] = inspect.Signature(every)
    made.__annotations__ = {one.name: one.annotation for one in every}
    return made


def check_used(tasks: Iterable[str], reading: Reading) -> None:
    """Raise a UserError if words for own data are given, and none of the tasks is any."""
    from tasks.own_data.reading import unused

    if problems := unused(tasks, reading):
        raise UserError(problems[0])


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


def _default(field: Field[Any]) -> Any:
    """As the command line shows it."""
    if not isinstance(field.default, tuple):
        return field.default
    return ",".join(map(str, field.default)) or None


def _parsed(name: str, value: Any) -> Any:
    parse = OPTIONS[name].metadata["parse"]
    return parse(value) if parse else value


def load_plugins(paths: list[Path] | None) -> None:
    """Import plugin files, which register what they hold."""
    from ultrabench_eval import plugins

    for path in paths or ():
        plugins.load_file(path)
