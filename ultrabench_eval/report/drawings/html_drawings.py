"""Drawings inside the HTML page: the run's figures as inline SVG, and score against cost.

Several SVGs share one document there, so their ids are made different; what only a file needs is
taken off.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from markupsafe import Markup

from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import Probing
from ultrabench_eval.report.tables.board import Board, BoardRow

_UNUSED = re.compile(r"<!--.*?-->|<metadata>.*?</metadata>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_ID = re.compile(r"""(\bid="|href="#|url\(#)""")
_NAMESPACE = re.compile(r"""\s+xmlns(?::\w+)?="[^"]*"|\bxlink:(?=href=)""")
_SIZE = re.compile(r'(?<=\s)(width|height)="([\d.]+)pt"\s*')
_PATH = re.compile(r'(?<=\sd=")[^"]+')
_DECIMALS = re.compile(r"(\d+\.\d{2})\d+")
_PIXELS = 4 / 3  # a point


@dataclass(frozen=True)
class Drawing:
    """A figure of the run."""

    name: str
    """Of its file, without suffix: "corruption_paper"."""
    svg: Markup
    """With a description for those who do not see it."""
    probing: Probing | None
    """The only one that it shows; None if there are several or it cannot be told."""


_WORDS = {
    "fewshot": "Curves of {} against the part of the training images, a panel a task",
    "corruption": "Curves of {} against the severity of a corruption, a panel a task",
    "protocols": "Lines of each model's {} from one protocol to the other, a panel a task",
    "ranks": "Mean ranks of the models on one axis; bars join models that are not told apart",
}
KINDS = tuple(_WORDS)


def drawings(
    files: Mapping[str, bytes], probings: Iterable[Probing], scores: str
) -> dict[str, list[Drawing]]:
    """The SVG files of a run by kind (all of `KINDS`, and "" for others), in their order.

    Args:
        files: content by name, "figures/ranks.svg"; a figure of one of several probes and
            protocols has it at the end of its name.
        probings: all of the folder.
        scores: titles of what is drawn.
    """
    found: dict[str, list[Drawing]] = {kind: [] for kind in (*KINDS, "")}
    # The longest first: "-linear-paper-1" is the end of "-classification-in-a-b-linear-paper-1".
    ends = {f"-{one.in_files}": one for one in sorted(probings, key=lambda one: -len(one.in_files))}
    for name, data in files.items():
        path = PurePosixPath(name)
        if path.suffix == ".svg":
            kind = next((kind for kind in KINDS if path.stem.startswith(kind)), "")
            shown = _WORDS.get(kind, "Figure").format(scores)
            words = f"{shown} ({path.stem}); the tables have the numbers"
            svg = inline(data.decode(), f"f{sum(map(len, found.values()))}", words)
            probing = next((one for end, one in ends.items() if path.stem.endswith(end)), None)
            found[kind].append(Drawing(path.stem, svg, probing))
    return found


def inline(svg: str, prefix: str, words: str) -> Markup:
    """An SVG file as part of a page.

    Args:
        svg: content of a file of ours.
        prefix: put before every id.
        words: what the drawing shows.
    """
    svg = _UNUSED.sub("", svg[svg.index("<svg") :])
    sizes = {side: float(points) for side, points in _SIZE.findall(_TAG.match(svg)[0])}  # type: ignore[index]
    head = Markup('<svg role="img" aria-label="{}" style="--width:{:.0f}px" ').format(
        words, sizes["width"] * _PIXELS
    )
    svg = head + Markup(_SIZE.sub("", svg, count=2).removeprefix("<svg "))
    return Markup(_TAG.sub(lambda tag: _own(tag[0], prefix), svg).strip())


def _own(tag: str, prefix: str) -> str:
    """A tag with ids of its own, without namespaces, and with paths to a hundredth of a point."""
    tag = _ID.sub(rf"\1{prefix}-", _NAMESPACE.sub("", tag))
    return _PATH.sub(lambda path: _DECIMALS.sub(r"\1", " ".join(path[0].split())), tag)


# ---- score against cost -------------------------------------------------------------------------

WIDTH, HEIGHT = 420, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 410, 12, 232
_ROOM_FOR_ZERO = 60  # a logarithmic axis has no zero: models without parameters stand apart


@dataclass(frozen=True)
class Point:
    """A model in the chart; its number stands in the point."""

    number: int
    row: BoardRow
    score: str
    x: float
    y: float


@dataclass(frozen=True)
class Tick:
    """A mark of an axis."""

    at: float
    text: str


class Measure(NamedTuple):
    """What a model costs."""

    title: str
    column: str
    """Head of the table beside the chart."""
    of: Callable[[BoardRow], float | None]
    text: Callable[[BoardRow], str]
    """Of a model whose number is known."""


PARAMETERS = Measure(
    "parameters of the encoder",
    "parameters",
    lambda row: row.parameters,
    lambda row: f"{row.parameters:,}",
)
SPEED = Measure(
    "images a second (to the right is cheaper)",
    "images/s",
    lambda row: row.speed.images_per_second if row.speed else None,
    lambda row: row.speed.text if row.speed else "",
)


@dataclass(frozen=True)
class Cost:
    """Mean score against what an encoder costs, drawn in a box of `WIDTH` x `HEIGHT`."""

    board: Board
    measure: Measure
    points: tuple[Point, ...]
    """In the order of the board."""
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    missing: tuple[str, ...]
    """Models that lack a mean or this number."""

    @property
    def where(self) -> str:
        """Device and versions of a measured cost."""
        places = (point.row.speed.where for point in self.points if point.row.speed)
        return "; ".join(dict.fromkeys(places)) if self.measure is SPEED else ""


def costs(board: Board) -> list[Cost]:
    """The charts of a board: those that have at least two models, and one that costs something."""
    return [chart for measure in (PARAMETERS, SPEED) if (chart := cost(board, measure))]


def cost(board: Board, measure: Measure) -> Cost | None:
    """A chart; None without a mean, without two models to draw, or if none costs anything."""
    if len(board.tasks) > 1 and not board.mean:
        return None
    rows = [(row, row.scores[-1].value) for row in board.rows]
    drawn = [
        (row, value) for row, value in rows if value is not None and measure.of(row) is not None
    ]
    missing = tuple(row.model for row, value in rows if value is None or measure.of(row) is None)
    sizes = [measure.of(row) or 0 for row, _ in drawn]
    positive = [math.log10(size) for size in sizes if size > 0]
    if len(drawn) < 2 or not positive:
        return None
    first = math.floor(min(positive))
    last = max(math.ceil(max(positive)), first + 1)
    start = _LEFT + (_ROOM_FOR_ZERO if 0 in sizes else 0)

    def x_of(size: float) -> float:
        if size == 0:
            return _LEFT + _ROOM_FOR_ZERO / 3
        return start + 10 + (math.log10(size) - first) / (last - first) * (_RIGHT - start - 20)

    low, high, step = _round_range([value for _, value in drawn], board.metric)

    def y_of(score: float) -> float:
        return _BOTTOM - (score - low) / (high - low) * (_BOTTOM - _TOP)

    x_ticks = [Tick(x_of(10.0**power), _count(10.0**power)) for power in range(first, last + 1)]
    if 0 in sizes:
        x_ticks.insert(0, Tick(x_of(0), "none"))
    steps = range(round((high - low) / step) + 1)
    return Cost(
        board,
        measure,
        tuple(
            Point(
                place,
                row,
                f"{value:.{board.metric.places}f}",
                x_of(measure.of(row) or 0),
                y_of(value),
            )
            for place, (row, value) in enumerate(drawn, 1)
        ),
        tuple(x_ticks),
        tuple(Tick(y_of(low + k * step), f"{low + k * step:g}") for k in steps),
        missing,
    )


def _round_range(values: Sequence[float], metric: Metric) -> tuple[float, float, float]:
    """A range of round numbers around the values, and the step of about five ticks; at least half
    a point of a percentage, and of other numbers a hundredth of the largest."""
    least = 0.5 if metric.scale == 100 else max(max(map(abs, values)) / 100, 1e-9)
    wanted = max(least, (max(values) - min(values)) / 5)
    power = math.log10(wanted) // 1
    step = next(one for k in (1, 2, 5, 10) if (one := k * 10.0**power) >= wanted * (1 - 1e-9))
    low = math.floor(min(values) / step - 0.1) * step
    high = math.ceil(max(values) / step + 0.1) * step
    return low, high, step


def _count(number: float) -> str:
    """1000 as "1 k", a million as "1 M"."""
    for unit, sign in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            return f"{number / unit:g} {sign}"
    return f"{number:g}"
