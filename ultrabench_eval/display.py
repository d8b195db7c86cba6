"""What the terminal shows: progress, and tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from ultrabench_eval.core.names import printable

if TYPE_CHECKING:  # light commands, such as `ubench tasks`, show tables as well
    from ultrabench_eval.pipeline import Step
    from ultrabench_eval.report.results.entries import Entry


def console() -> Console:
    """Standard output; as wide as the table needs where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=240)


class Progress:
    """Shows the pipeline's steps on a terminal, with an estimate of what is left.

    Where standard error is not a terminal, only waiting is told, once. Counts the images that were
    encoded and the cells that failed, for the closing words.
    """

    def __init__(self) -> None:
        self.encoded = self.failed = 0
        self._bars: Bars | None = None
        self._told: set[str] = set()

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bars = _bars()
            self._bars.start()
            self._cells = self._bars.add_task("all cells", total=None)
            self._current = self._bars.add_task("looking at models and data", total=None)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, step: Step) -> None:
        """Take in one step."""
        self.encoded += step.new
        self.failed += step.stage == "failed"
        if self._bars is None:
            if step.stage == "wait" and step.model not in self._told:
                self._told.add(step.model)
                Console(stderr=True, soft_wrap=True).print(Text(step.model))
            return
        if step.stage in ("done", "kept", "failed"):
            self._bars.update(self._cells, completed=step.done, total=step.total)
            return
        words = {
            "plan": "looking at models and data",
            "phantom": f"simulating {step.task}",
            "audit": step.model,
            "units": step.model,
            "wait": step.model,
            "encode": f"{step.model}: encoding {step.task}",
            "probe": f"{step.model}: training probes on {step.task}",
        }[step.stage]
        # A new bar for new work, so that the estimate of what is left starts anew.
        if self._bars.tasks[-1].description != words:
            self._bars.remove_task(self._current)
            self._current = self._bars.add_task(words, total=step.total or None)
        self._bars.update(self._current, completed=step.done)


@contextmanager
def progress_bar(words: str) -> Iterator[Callable[[int, int], None]]:
    """One bar for one piece of work; what is yielded takes what is done and the total.

    Quiet where standard error is no terminal.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with _bars() as bars:
        bar = bars.add_task(words, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total)


def _bars() -> Bars:
    return Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def leaderboard(entries: Sequence[Entry], without: Collection[str] = ()) -> list[Group]:
    """The wide tables of a results folder, each under its title.

    Nothing is bold: which model is the best is for the pages, which have the statistics.

    Args:
        entries: of the folder.
        without: tasks that have no part in the mean.
    """
    from ultrabench_eval.report.results.entries import capitalised
    from ultrabench_eval.report.tables.wide import wide

    shown = []
    for one in wide(entries, without=without):
        title = f"{capitalised(one.metric.in_unit)}, mean ± sd over seeds\n{one.condition}"
        if one.synthetic:
            title = f"SYNTHETIC images: says nothing about real ultrasound\n{title}"
        table = Table()
        table.add_column(one.table.header[0])
        for name in one.table.header[1:]:
            table.add_column(printable(name).replace(" (", "\n("), justify="right")
        for r, row in enumerate(one.table.texts):
            if r > 0 and r in one.table.rules:
                table.add_section()
            # Text, because "[...]" in a name is not markup
            table.add_row(*map(Text, map(printable, row)))
        shown.append(Group(Text(title), table))  # a title of its own may be wider than the table
    return shown


def grid(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A plain table without lines."""
    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, map(printable, row)))
    return table
