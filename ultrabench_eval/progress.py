"""What a command tells while it works: on a terminal bars, elsewhere a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
from rich.progress import Progress as Bars
from rich.text import Text

from ultrabench_eval.core.names import printable

if TYPE_CHECKING:
    from ultrabench_eval.pipeline import Step
    from ultrabench_eval.workload import UnitForecast

ENDS = ("done", "kept", "failed")
EVERY = 30.0
"""Seconds between two lines without a terminal."""


class TimeLeft:
    """How long a run still takes: what the plan has left to do, at the speed measured so far.

    Images count at the speed of their model, once it has encoded some; until then in proportion to
    what the plan takes it for. Probes count at the plan's rates, corrected by what those so far
    have taken. Workers tell only which units have ended: all work then counts at one speed.

    Args:
        work: of the run, unit by unit.
        now: seconds on any clock.
    """

    def __init__(self, work: Sequence[UnitForecast], now: float) -> None:
        self._left = {(share.model, share.task): share for share in work}
        self._images = {unit: share.images for unit, share in self._left.items()}
        self._rough = {share.model: _rough(share) for share in work if share.images}
        self._whole = self._planned()
        self._begun = self._last = now
        self._encoded: Counter[str] = Counter()
        self._encoding: dict[str, float] = {}
        self._probes = self._probing = 0.0
        self._stage, self._unit = "", ("", "")
        self._by_workers = False

    def step(self, step: Step, now: float) -> None:
        """Take in a step of the run, at a time."""
        took, before, unit = now - self._last, self._stage, (step.model, step.task)
        ended = step.stage in ENDS and unit in self._left
        self._by_workers |= step.stage == "units"
        if before == "encode" and step.stage in ("encode", "probe"):
            self._encoding[step.model] = self._encoding.get(step.model, 0.0) + took
        elif before in ("probe", "tune") or (before == "encode" and ended):
            self._probing += took
        if step.stage == "encode":
            self._encoded[step.model] += step.new
            known = self._images.get(unit, 0) - step.new
            self._images[unit] = max(known, step.total - step.done)
        if ended:
            self._probes += self._left.pop(unit).probe_seconds
        self._stage, self._unit, self._last = step.stage, unit, now

    def seconds(self, now: float) -> float | None:
        """An estimate; None as long as too little was measured."""
        if self._by_workers:
            done = self._whole - self._planned()
            return (now - self._begun) / done * self._planned() if done > 0 else None
        parts = {unit: self._of_unit(unit) for unit in self._left}
        if None in parts.values():
            return None
        under_way = min(now - self._last, parts.get(self._unit) or 0.0)
        return sum(filter(None, parts.values())) - under_way

    def _planned(self) -> float:
        """Of all units that have not ended, as the plan has it."""
        return sum((s.encode_seconds or 0.0) + s.probe_seconds for s in self._left.values())

    def _of_unit(self, unit: tuple[str, str]) -> float | None:
        share, images = self._left[unit], self._images[unit]
        probes = share.probe_seconds * (self._probing / self._probes if self._probes else 1.0)
        speed = self._speed(share.model) if images else 0.0
        return None if speed is None else images * speed + probes

    def _speed(self, model: str) -> float | None:
        """Seconds per image."""
        if self._encoded[model]:
            return self._encoding[model] / self._encoded[model]
        rough = sum(self._rough.get(other, 0.0) * n for other, n in self._encoded.items())
        if not rough:
            return None
        return self._rough.get(model, 0.0) * sum(self._encoding.values()) / rough


def _rough(share: UnitForecast) -> float:
    return (share.encode_seconds or 0.0) / share.images


def in_words(seconds: float | None) -> str:
    """The time that is left; "" if it is not known."""
    if seconds is None:
        return ""
    if seconds >= 5400:
        return f"about {seconds / 3600:.1f} h left"
    if seconds >= 90:
        return f"about {seconds / 60:.0f} min left"
    return "about 1 min left" if seconds >= 30 else "< 1 min left"


class Progress:
    """Shows the pipeline's steps, with an estimate of the time that is left.

    Where standard error is not a terminal, a plain line every `EVERY` seconds. Counts the images
    that were encoded and the results that failed, for the closing words.
    """

    def __init__(self) -> None:
        self.encoded = self.failed = 0
        self._bars: Bars | None = None
        self._time: TimeLeft | None = None
        self._words, self._part = "", (0, 0)
        self._results = (0, 0)
        self._told: set[str] = set()
        self._over = threading.Event()
        self._lock = threading.Lock()  # the time is looked at from another thread

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bars = _bars(_TimeLeftColumn(self._left))
            self._bars.start()
            self._all = self._bars.add_task("all results", total=None, visible=False)
            self._current = self._bars.add_task("", total=None)
        else:
            threading.Thread(target=self._lines, daemon=True).start()
        self._show("looking at models and data", (0, 0))
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        if self._bars:
            self._bars.stop()

    def __call__(self, step: Step) -> None:
        """Take in one step."""
        self.encoded += step.new
        self.failed += step.stage == "failed"
        if step.stage == "note":
            self._print(f"note: {step.model}")
            return
        if step.stage == "begin":
            self._time = TimeLeft(step.work, time.monotonic())
        elif self._time:
            with self._lock:
                self._time.step(step, time.monotonic())
        if step.stage in (*ENDS, "begin"):
            self._results = (step.done, step.total)
            if self._bars:
                self._bars.update(self._all, completed=step.done, total=step.total, visible=True)
            return
        words = {
            "plan": "looking at models and data",
            "phantom": f"simulating {step.task}",
            "audit": step.model,
            "units": step.model,
            "wait": step.model,
            "encode": f"{step.model}: encoding {step.task}",
            "probe": f"{step.model}: training probes on {step.task}",
            "tune": f"{step.model}: fine-tuning on {step.task}",
            "report": "writing tables and figures",
        }[step.stage]
        part = self._results if step.stage == "wait" else (step.done, step.total)
        if step.stage == "wait" and self._bars is None and words not in self._told:
            self._told.add(words)
            self._print(words)
        self._show(words, part)

    def line(self) -> str:
        """What is under way, on one line."""
        done, total = self._part
        results = f"{self._results[0]} of {self._results[1]} results" if self._results[1] else ""
        now = f"{self._words} ({done} of {total})" if total else self._words
        return "; ".join(filter(None, (results, now, self._left())))

    def _show(self, words: str, part: tuple[int, int]) -> None:
        self._words, self._part = words, part
        if self._bars:
            self._bars.update(
                self._current, description=words, completed=part[0], total=part[1] or None
            )

    def _left(self) -> str:
        if self._time is None or self._words == "writing tables and figures":
            return ""
        with self._lock:
            return in_words(self._time.seconds(time.monotonic()))

    def _print(self, text: str) -> None:
        where = self._bars.console if self._bars else Console(stderr=True, soft_wrap=True)
        where.print(Text(printable(text)))

    def _lines(self) -> None:
        while not self._over.wait(EVERY):
            self._print(self.line())


@contextmanager
def progress_bar(words: str) -> Iterator[Callable[[int, int], None]]:
    """One bar for one piece of work; what is yielded takes what is done and the total.

    Where standard error is not a terminal, a plain line every `EVERY` seconds.
    """
    with Progress() as progress:
        progress._show(words, (0, 0))
        yield lambda done, total: progress._show(words, (done, total))


class _TimeLeftColumn(ProgressColumn):
    """Beside the bar of all results."""

    def __init__(self, left: Callable[[], str]) -> None:
        super().__init__()
        self._left = left

    def render(self, task: Task) -> Text:
        return Text(self._left() if task.description == "all results" else "")


def _bars(left: _TimeLeftColumn) -> Bars:
    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        left,
        console=Console(stderr=True),
    )
