"""Figures of the HTML page: those of the run, and score against cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import Probing, printed
from ultrabench_eval.report.tables.board import Board, BoardRow

_WORDS = {
    "fewshot": "Curves of {} against the part of the training images, one panel per task",
    "corruption": "Curves of {} against the severity of a corruption, one panel per task",
    "protocols": "Lines of each model's {} from one protocol to the other, one panel per task",
    "ranks": "Mean ranks of the models on one axis; bars join models that are not told apart",
}
KINDS = tuple(_WORDS)
Part = dict[str, Any]


def drawings(
    files: Mapping[str, bytes], probings: Iterable[Probing], scores: str
) -> dict[str, list[Part]]:
    """The SVG files of a run by kind (all of `KINDS`, and "" for others), in their order.

    Args:
        files: content by name, "figures/ranks.svg"; a figure of one of several probes and
            protocols has it at the end of its name.
        probings: all of the folder.
        scores: titles of what is drawn.
    """
    found: dict[str, list[Part]] = {kind: [] for kind in (*KINDS, "")}
    ends = {f"-{one.in_files}": str(one) for one in probings}
    for name, data in files.items():
        path = PurePosixPath(name)
        if path.suffix == ".svg":
            kind = next((kind for kind in KINDS if path.stem.startswith(kind)), "")
            shown = _WORDS.get(kind, "Figure").format(scores)
            words = f"{shown} ({path.stem}); the tables have the numbers"
            part = {"svg": data.decode(), "alt": words}
            of = next((one for end, one in ends.items() if path.stem.endswith(end)), None)
            found[kind].append(part | ({"probing": of} if of else {}))
    return found


# ---- score against cost -------------------------------------------------------------------------

WIDTH = 640
_LEFT, _RIGHT, _TOP, _NAMES = 48, 400, 14, 430
_LINE = 15  # pixels of a name: names take a column of their own, so that none covers another
_ROOM_FOR_ZERO = 60  # a logarithmic axis has no zero: models without parameters stand apart


class Measure(NamedTuple):
    """What a model costs."""

    title: str
    column: str
    """Of the table of scores."""
    of: Callable[[BoardRow], float | None]


PARAMETERS = Measure(
    "parameters of the encoder",
    "parameters",
    lambda row: row.parameters,
)
SPEED = Measure(
    "images per second (to the right is cheaper)",
    "images/s",
    lambda row: row.speed.images_per_second if row.speed else None,
)


class Point(NamedTuple):
    """A model in the chart, in pixels."""

    row: BoardRow
    x: float
    y: float
    name_y: float
    """Where its name stands, in a column beside the chart."""


class Tick(NamedTuple):
    """A mark of an axis."""

    at: float
    text: str


class Chart(NamedTuple):
    """Mean score against what an encoder costs."""

    points: list[Point]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    height: int


def costs(board: Board) -> list[Part]:
    """The charts of a board: parts of the page."""
    parts = []
    for measure in (PARAMETERS, SPEED):
        if chart := cost(board, measure):
            parts += _parts(board, measure, chart)
    return parts


def _parts(board: Board, measure: Measure, chart: Chart) -> list[Part]:
    told = {point.row.model for point in chart.points}
    speeds = [point.row.speed.where for point in chart.points if point.row.speed]
    notes = [f"Measured on: {'; '.join(dict.fromkeys(speeds))}."] if measure is SPEED else []
    if lacking := [row.model for row in board.rows if row.model not in told]:
        notes.append(
            f"Not drawn, because a score or the number of {measure.column} is missing: "
            f"{', '.join(lacking)}."
        )
    title = f"{board.mean or board.tasks[0].name} and {measure.column}: {board.probing}"
    part = {"svg": draw(chart, board.metric, measure), "alt": f"Scatter plot, {title}"}
    return [part | {"title": title, "notes": notes, "probing": str(board.probing)}]


def cost(board: Board, measure: Measure) -> Chart | None:
    """A chart; None without a mean, without two models to draw, or if none costs anything."""
    if len(board.tasks) > 1 and not board.mean:
        return None
    drawn = [
        (row, value, size)
        for row in board.rows
        if (value := row.scores[-1].value) is not None and (size := measure.of(row)) is not None
    ]
    positive = [math.log10(size) for _, _, size in drawn if size > 0]
    if len(drawn) < 2 or not positive:
        return None
    first = math.floor(min(positive))
    last = max(math.ceil(max(positive)), first + 1)
    zero = len(positive) < len(drawn)
    start = _LEFT + (_ROOM_FOR_ZERO if zero else 0)
    bottom = max(250, _TOP + _LINE * len(drawn))
    low, high, step = round_range([value for _, value, _ in drawn], board.metric)

    def x_of(size: float) -> float:
        if size == 0:
            return _LEFT + _ROOM_FOR_ZERO / 3
        return start + 10 + (math.log10(size) - first) / (last - first) * (_RIGHT - start - 20)

    def y_of(score: float) -> float:
        return bottom - (score - low) / (high - low) * (bottom - _TOP)

    x_ticks = [Tick(x_of(10.0**power), _count(10.0**power)) for power in range(first, last + 1)]
    if zero:
        x_ticks.insert(0, Tick(x_of(0), "none"))
    steps = range(round((high - low) / step) + 1)
    heights = [y_of(value) for _, value, _ in drawn]
    return Chart(
        [
            Point(row, x_of(size), y, name_y)
            for (row, _, size), y, name_y in zip(
                drawn, heights, spread(heights, _LINE, bottom), strict=True
            )
        ],
        x_ticks,
        [Tick(y_of(low + k * step), f"{low + k * step:g}") for k in steps],
        bottom,
    )


def spread(wanted: Sequence[float], gap: float, most: float) -> list[float]:
    """Places near those that are wanted, `gap` apart or more and none above `most`, in the same
    order; there must be room for them."""
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    found = [*wanted]
    for before, n in pairwise(order):
        found[n] = max(found[n], found[before] + gap)
    ceiling = most
    for n in reversed(order):
        found[n] = min(found[n], ceiling)
        ceiling = found[n] - gap
    return found


def draw(chart: Chart, metric: Metric, measure: Measure) -> str:
    """A chart as SVG: controls are hollow, a thin line leads from each point to its name."""
    bottom, parts = chart.height, []

    def line(x1: float, y1: float, x2: float, y2: float, colour: str) -> None:
        ends = f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"
        parts.append(f'<path d="{ends}" stroke="{colour}" fill="none"/>')

    def text(x: float, y: float, words: str, anchor: str = "middle", turned: str = "") -> None:
        where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}'
        parts.append(f"<text {where}>{escape(words)}</text>")

    for tick in chart.y_ticks:
        line(_LEFT, tick.at, _RIGHT, tick.at, "#dddddd")
        text(_LEFT - 6, tick.at + 4, tick.text, "end")
    for tick in chart.x_ticks:
        line(tick.at, bottom, tick.at, bottom + 5, "#666666")
        text(tick.at, bottom + 18, tick.text)
    line(_LEFT, bottom, _RIGHT, bottom, "#666666")
    text((_LEFT + _RIGHT) / 2, bottom + 38, measure.title)
    axis, middle = f"mean {metric.on_axis}{metric.direction}", (bottom + _TOP) / 2
    text(11, middle, axis, turned=f' transform="rotate(-90 11 {middle:.1f})"')
    for point in chart.points:
        line(point.x, point.y, _NAMES - 4, point.name_y, "#bbbbbb")
    for point in chart.points:
        fill = "#ffffff" if point.row.floor else "#0a5a94"
        where = f'cx="{point.x:.1f}" cy="{point.y:.1f}" r="4.5"'
        parts.append(f'<circle {where} fill="{fill}" stroke="#0a5a94"/>')
        text(_NAMES, point.name_y + 4, _short(printed(point.row.model)), "start")
    size = f'width="{WIDTH}" height="{bottom + 48}" viewBox="0 0 {WIDTH} {bottom + 48}"'
    return Markup(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>'
    )


def _short(name: str) -> str:
    """As much of a name as the column beside the chart holds."""
    return name if len(name) <= 32 else f"{name[:15]}…{name[-16:]}"


def round_range(values: Sequence[float], metric: Metric) -> tuple[float, float, float]:
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
