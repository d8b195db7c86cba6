"""Options that several commands take, and their exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

BAD_INPUT, SOME_FAILED, STOPPED = 2, 1, 130

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


def load_plugins(paths: list[Path] | None) -> None:
    """Import plugin files, which register what they hold."""
    from ultrabench_eval import plugins

    for path in paths or ():
        plugins.load_file(path)
