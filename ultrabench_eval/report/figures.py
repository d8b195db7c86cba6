"""OUT/figures: what the tables say, drawn where their conditions were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ultrabench_eval import corrupt
from ultrabench_eval.report import canvas, protocols
from ultrabench_eval.report.entries import (
    Entry,
    Labels,
    Probing,
    at_place,
    main_score,
    tasks_of,
)
from ultrabench_eval.report.evidence import Evidence
from ultrabench_eval.report.fewshot import fewshot
from ultrabench_eval.report.robustness import Corrupted
from ultrabench_eval.report.significance import Ranking, ranking
from ultrabench_eval.stats import ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND = "macro F1 in percent, mean over seeds; band: ± sd over seeds"


def figures(evidence: Evidence, found: Mapping[Probing, Corrupted]) -> dict[str, bytes]:
    """All figures: file name to content.

    Args:
        evidence: of the folder.
        found: its corrupted conditions.
    """
    labels = evidence.labels
    made: dict[str, bytes] = {}
    shots = fewshot(evidence.entries)
    for probing, by_fraction in shots.items():
        made |= _fewshot(f"fewshot{_suffix(probing, shots)}", probing, by_fraction, labels)
    for probing, one in found.items():
        for family in one.families():
            name = f"corruption_{family}{_suffix(probing, found)}"
            made |= _corruption(name, probing, family, one, labels)
    both = protocols.pairs_of_protocols(evidence)
    for a, b in both:
        changes = protocols.changes(evidence.main[a], evidence.main[b])
        name = f"protocols-{a.probe}-{a.protocol}-{b.protocol}" if len(both) > 1 else "protocols"
        made |= _protocols(name, (a, b), changes, labels) if changes else {}
    for probing, comparisons in evidence.main.items():
        order = ranking(comparisons)
        if order and len(order.models) >= 3 and len(order.tasks) >= 3:
            made |= _ranks(f"ranks{_suffix(probing, evidence.main)}", probing, order, labels)
    return made


def _suffix(probing: Probing, every: Mapping[Probing, object]) -> str:
    """Nothing for the only probe and protocol of a folder."""
    return f"-{probing.probe}-{probing.protocol}" if len(every) > 1 else ""


# ---- curves -------------------------------------------------------------------------------------


def _curve(
    ax: Axes, x: Sequence[float], entries: Sequence[Entry | None], style: Mapping[str, Any]
) -> None:
    """Mean and sd over seeds; a hole interrupts the line."""
    scores = np.array([main_score(entry) for entry in entries])
    mean, sd = scores[:, 0], np.nan_to_num(scores[:, 1])
    if np.isnan(mean).all():
        return
    ax.plot(x, mean, **style)
    ax.fill_between(x, mean - sd, mean + sd, color=style["color"], alpha=0.15, linewidth=0)


def _fewshot(
    name: str, probing: Probing, by_fraction: Mapping[int, Sequence[Entry]], labels: Labels
) -> dict[str, bytes]:
    """A panel a task, macro F1 against percent of the training images."""
    every = [entry for group in by_fraction.values() for entry in group]
    tasks, models = tasks_of(every), sorted({e.coordinates.model for e in every})
    places = [at_place(group) for group in by_fraction.values()]
    x = list(by_fraction)

    def draw(ax: Axes, task: str) -> None:
        for model, style in canvas.styles(models, labels).items():
            _curve(ax, x, [at.get((model, task)) for at in places], style)
        ax.set_xscale("log")
        ax.set_xticks(x, [f"{percent:g}" for percent in x], minor=False)
        ax.set_xticks([], minor=True)
        ax.set_xlabel("% of training images", fontsize=canvas.FONT)

    title = f"Few-shot, {probing}"
    return _task_panels(name, title, BAND, tasks, models, labels, draw)


def _task_panels(
    name: str,
    title: str,
    note: str,
    tasks: Sequence[str],
    models: Sequence[str],
    labels: Labels,
    draw: Callable[[Axes, str], None],
) -> dict[str, bytes]:
    """Small multiples: a panel a task, at most four a row."""
    columns = min(canvas.COLUMNS, len(tasks))
    rows = -(-len(tasks) // columns)
    figure, axes = canvas.panels(rows, columns, canvas.legend_lines(models, columns))
    flat = [ax for row in axes for ax in row]
    for place, ax in enumerate(flat):
        if place >= len(tasks):
            ax.set_visible(False)
            continue
        draw(ax, tasks[place])
        ax.set_title(canvas.plain(labels.task(tasks[place])), fontsize=canvas.FONT)
        if place % columns == 0:
            ax.set_ylabel("macro F1, %", fontsize=canvas.FONT)
    synthetic = bool(labels.synthetic & set(tasks))
    canvas.finish(figure, flat, title, columns, synthetic=synthetic, note=note)
    return canvas.files(figure, name)


def _corruption(
    name: str, probing: Probing, family: str, one: Corrupted, labels: Labels
) -> dict[str, bytes]:
    """A row a corruption, a column a task, macro F1 against severity."""
    names = list(dict.fromkeys(corruption for corruption, _ in one.families()[family]))
    tasks, models = one.tasks, sorted(one.models)
    columns = min(canvas.COLUMNS, len(tasks))
    blocks = -(-len(tasks) // columns)
    rows = blocks * len(names)
    figure, axes = canvas.panels(rows, columns, canvas.legend_lines(models, columns))
    for place, task in enumerate(tasks):
        block, column = divmod(place, columns)
        mine = [row[column] for row in axes[block * len(names) :][: len(names)]]
        mine[0].set_title(canvas.plain(labels.task(task)), fontsize=canvas.FONT)
        for corruption, ax in zip(names, mine, strict=True):
            _severities(ax, corruption, task, one, canvas.styles(models, labels))
            if column == 0:
                words = f"{corruption.replace('_', ' ')}\nmacro F1, %"
                ax.set_ylabel(words, fontsize=canvas.FONT)
        limits = [ax.get_ylim() for ax in mine]  # one scale a task
        for ax in mine:
            ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for row in axes[(blocks - 1) * len(names) :]:
        for ax in row[len(tasks) - (blocks - 1) * columns :]:
            ax.set_visible(False)
    canvas.finish(
        figure,
        [ax for row in axes for ax in row],
        f"Corrupted test images ({family}), {probing}",
        columns,
        synthetic=bool(labels.synthetic & set(tasks)),
        note=BAND,
    )
    return canvas.files(figure, name)


def _severities(
    ax: Axes, corruption: str, task: str, one: Corrupted, styles: Mapping[str, dict[str, Any]]
) -> None:
    """A panel: one corruption of one task."""
    known = corrupt.find(corruption)
    for model, style in styles.items():
        entries = [one.clean.get((model, task))] + [
            one.corrupted.get((corruption, severity), {}).get((model, task))
            for severity in corrupt.SEVERITIES
        ]
        _curve(ax, (0, *corrupt.SEVERITIES), entries, style)
    levels = [f"{known.level(severity):g}" for severity in corrupt.SEVERITIES]
    ax.set_xticks((0, *corrupt.SEVERITIES), ["clean", *levels])
    ax.set_xlabel(canvas.plain(known.unit), fontsize=canvas.FONT - 0.5)


def _protocols(
    name: str,
    both: tuple[Probing, Probing],
    changes: Sequence[protocols.Change],
    labels: Labels,
) -> dict[str, bytes]:
    """A panel a task, a line a model from one protocol to the other: crossings change the order."""
    by_task = {change.task: change for change in changes}
    models = sorted({model for change in changes for model in change.models})

    def draw(ax: Axes, task: str) -> None:
        change = by_task[task]
        for model, style in canvas.styles(models, labels).items():
            if model in change.models:
                place = change.models.index(model)
                ax.plot((0, 1), [scores[place] for scores in change.scores], **style)
        ax.set_xticks((0, 1), protocols.short(both))
        ax.set_xlim(-0.25, 1.25)

    title = f"Protocols {both[0].protocol} and {both[1].protocol}, {both[0].probe} probe"
    note = "macro F1 in percent, mean over seeds; lines that cross change the order"
    tasks = list(by_task)
    return _task_panels(name, title, note, tasks, models, labels, draw)


# ---- ranks --------------------------------------------------------------------------------------


def _ranks(name: str, probing: Probing, found: Ranking, labels: Labels) -> dict[str, bytes]:
    """Critical-difference diagram (Demsar 2006, section 3.2.2): bars join ties."""
    models, tasks = found.scores.shape
    mean = ranks.average_ranks(found.scores)
    distance = ranks.critical_difference(models, tasks)
    order = [int(m) for m in np.argsort(mean, kind="stable")]
    bars = cliques(mean[order], distance)
    half = -(-models // 2)
    height = 1.2 + 0.1 * len(bars) + 0.17 * half
    figure = canvas.new(canvas.WIDTH * 0.75, height)
    ax = figure.subplots()
    low, high = 1.0, float(models)
    side = 0.12 * (high - low)
    ax.set_xlim(low - 3.2 * side, high + 3.2 * side)
    ax.set_axis_off()
    line: dict[str, Any] = {"color": "black", "linewidth": 0.8}
    ax.plot((low, high), (0, 0), **line)
    for rank in range(1, models + 1):
        ax.plot((rank, rank), (0, 0.25), **line)
        ax.text(rank, 0.35, str(rank), ha="center", va="bottom", fontsize=canvas.FONT)
    shown = min(distance, high - low)
    ax.plot((low, low + shown), (2.0, 2.0), color="black", linewidth=1.6)
    words = f"critical difference {distance:.2f}" + (
        ", more than the whole axis" if distance > high - low else ""
    )
    ax.text(low, 2.15, words, ha="left", va="bottom", fontsize=canvas.FONT)
    for place, (first, last) in enumerate(bars):
        y = -0.45 - 0.45 * place
        ends = (mean[order[first]] - 0.03 * side, mean[order[last]] + 0.03 * side)
        ax.plot(ends, (y, y), color="black", linewidth=2.4, solid_capstyle="butt")
    below = -0.45 * (len(bars) + 1) - 0.3
    for place, model in enumerate(order):
        left = place < half
        step = place if left else models - 1 - place
        y = below - 0.75 * step
        x = low - side if left else high + side
        colour = canvas.GREY if found.models[model] in labels.floors else "black"
        ax.plot((mean[model], mean[model], x), (0, y, y), color=colour, linewidth=0.7)
        ax.text(
            x + (-0.1 if left else 0.1) * side,
            y,
            canvas.plain(f"{labels.model(found.models[model])}  {mean[model]:.2f}"),
            ha="right" if left else "left",
            va="center",
            fontsize=canvas.FONT,
            color=colour,
        )
    ax.set_ylim(below - 0.75 * half, 3.2)
    title = f"Mean ranks over {tasks} tasks, {probing}"
    if labels.synthetic & set(found.tasks):
        title = f"SYNTHETIC: {title}"
    ax.set_title(f"{title}\nbars join models that ranks do not tell apart", fontsize=canvas.FONT)
    return canvas.files(figure, name)


def cliques(mean: np.ndarray, distance: float) -> list[tuple[int, int]]:
    """Longest runs (first, last) of models closer than `distance`; mean ranks [M], ascending."""
    runs: list[tuple[int, int]] = []
    for first in range(len(mean)):
        last = int(np.flatnonzero(mean - mean[first] <= distance)[-1])
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
