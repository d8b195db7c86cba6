"""`ubench merge`: results of several folders in one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ultrabench_eval.cli import options


def merge(
    out: Annotated[Path, typer.Argument(help="Results folder to make, or to add to.")],
    sources: Annotated[
        list[Path], typer.Argument(metavar="FROM...", help="Results folders of `ubench run`.")
    ],
) -> None:
    """Combine the results of several folders into one and write its tables.

    Two folders may hold the same result, with the same numbers. Exit code 0: every result is a
    number; 1: some are error rows; 2: two folders disagree, and nothing was written.
    """
    from ultrabench_eval.merge import merge as put_together

    merged = put_together(out, sources)
    for folder, count in merged.taken.items():
        print(f"{count} new results from {folder}")
    print(f"{out} holds {merged.cells} results and {merged.failures} error rows")
    print(out / "leaderboard.md")
    raise typer.Exit(options.SOME_FAILED if merged.failures else 0)
