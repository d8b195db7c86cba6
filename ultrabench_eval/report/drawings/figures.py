"""OUT/figures: what the tables say, drawn where their conditions were measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ultrabench_eval import corrupt
from ultrabench_eval.core import drawing, files
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.drawings import agreement, canvas
from ultrabench_eval.report.drawings.marks import Marks
from ultrabench_eval.report.look import look
from ultrabench_eval.report.results.entries import (
    Entry,
    Labels,
    Probing,
    at_place,
    main_interval,
    main_metric,
    main_score,
    models_of,
    tasks_of,
)
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.sections import protocols
from ultrabench_eval.report.sections.fewshot import fewshot, with_several
from ultrabench_eval.report.sections.robustness import Corrupted
from ultrabench_eval.report.sections.significance import Ranking, ranking
from ultrabench_eval.stats import ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND = "{}, mean over seeds; band: 95 % interval (test patients and seeds)"


def figures(evidence: Evidence, found: Mapping[Probing, Corrupted]) -> dict[str, bytes]:
    """All figures: file name to content.

    Args:
        evidence: of the folder.
        found: its corrupted conditions.
    """
    labels = evidence.labels
    made = curves(evidence.entries, found)
    both = protocols.pairs_of_protocols(evidence)
    for a, b in both:
        changes = protocols.changes(evidence.main[a], evidence.main[b], a.type)
        name = f"protocols-{a.in_files}-{b.protocol}" if len(both) > 1 else "protocols"
        made |= _protocols(name, (a, b), changes, labels) if changes else {}
    for probing, comparisons in evidence.main.items():
        for task, one in comparisons.items():
            if one.type.predicts == "numbers":
                predicted = dict(zip(one.models, (x[..., 0] for x in one.answers), strict=True))
                made |= agreement.bland_altman(
                    f"agreement-{files.file_name(task)}{_suffix(probing, evidence.main)}",
                    *(probing, task, predicted, one.test.targets, one.test.unit, labels),
                )
        order = ranking(comparisons)
        if order and len(order.models) >= 3 and len(order.tasks) >= 3:
            made |= _ranks(f"ranks{_suffix(probing, evidence.main)}", probing, order, labels)
    return made


def curves(
    entries: Sequence[Entry], found: Mapping[Probing, Corrupted], marks: Marks | None = None
) -> dict[str, bytes]:
    """Few-shot and corruption curves of all tasks: file name to content.

    Args:
        entries: of a results folder.
        found: its corrupted conditions.
        marks: published scores to set beside ours, only in figures of their own probe and protocol.
    """
    labels = Labels.of(entries)
    made: dict[str, bytes] = {}
    shots = fewshot(entries)
    if marks is not None:
        shots = {probing: one for probing, one in shots.items() if probing == marks.probing}
        found = {probing: one for probing, one in found.items() if probing == marks.probing}
    prefix = "against_" if marks else ""
    for probing, by_fraction in shots.items():
        name = f"{prefix}fewshot{_suffix(probing, shots)}"
        made |= _fewshot(name, probing, by_fraction, labels, marks)
    for probing, one in found.items():
        for family in one.families():
            sheets = _sheets(one, family)
            for place, tasks in enumerate(sheets, 1):
                part = f"_{place}" if len(sheets) > 1 else ""
                name = f"{prefix}corruption_{family}{part}{_suffix(probing, found)}"
                made |= _corruption(name, probing, family, tasks, one, labels, marks)
    return made


def _suffix(probing: Probing, every: Mapping[Probing, object]) -> str:
    """Nothing for the only probe and protocol of a folder."""
    return f"-{probing.in_files}" if len(every) > 1 else ""


# ---- curves -------------------------------------------------------------------------------------


def _curve(
    ax: Axes, x: Sequence[float], entries: Sequence[Entry | None], style: Mapping[str, Any]
) -> None:
    """Mean over seeds and 95 % interval; a hole interrupts the line."""
    mean = np.array([main_score(entry)[0] for entry in entries])
    if np.isnan(mean).all():
        return
    low, high = np.array([main_interval(entry) for entry in entries]).T
    ax.plot(x, mean, **style)
    ax.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)


def _fewshot(
    name: str,
    probing: Probing,
    by_fraction: Mapping[int, Sequence[Entry]],
    labels: Labels,
    marks: Marks | None,
) -> dict[str, bytes]:
    """One panel per task, scores against percent of the training images."""
    every = [entry for group in by_fraction.values() for entry in group]
    tasks, models = tasks_of(every), sorted(with_several(by_fraction))
    if marks:  # a published score is drawn next to ours even where ours is a single point
        models = models_of(every)
    places = [at_place(group) for group in by_fraction.values()]
    x = list(by_fraction)
    styles = canvas.styles(models, labels)

    def draw(ax: Axes, task: str, row: str) -> None:
        for model, style in styles.items():
            _curve(ax, x, [at.get((model, task)) for at in places], style)
        if marks:
            _marks(ax, task, marks, styles, (140.0, 190.0))
        ax.set_xscale("log")
        ax.set_xticks(x, [f"{percent:g}" for percent in x], minor=False)
        ax.set_xticks([], minor=True)
        ax.set_xlabel("% of training images", fontsize=look().font)

    title, metric = f"Few-shot, {probing.words}", main_metric(every)
    note = BAND.format(metric.in_unit)
    return _task_panels(name, title, note, metric, tasks, labels, draw, marks)


def _marks(
    ax: Axes,
    task: str,
    marks: Marks,
    styles: Mapping[str, Mapping[str, Any]],
    places: tuple[float, float],
) -> None:
    """Published scores of the condition at the end of an axis.

    Args:
        places: on the x axis, beside that condition: of models of the run, and of others.
    """
    for model, style in styles.items():
        if score := marks.at.get((model, task)):
            ax.errorbar(
                [places[0]],
                [score.macro_f1_mean],
                yerr=[score.macro_f1_sd],
                **_HOLLOW,
                marker=style["marker"],
                color=style["color"],
            )
    others = [score.macro_f1_mean for score in marks.others.get(task, ())]
    ax.plot([places[1]] * len(others), others, **_DASH)


_HOLLOW: dict[str, Any] = {
    **{"markersize": 3.5, "markerfacecolor": "white", "markeredgewidth": 0.8, "zorder": 4},
    **{"linestyle": "none", "elinewidth": 0.6},
}
_DASH: dict[str, Any] = {
    **{"marker": "_", "markersize": 5, "markeredgewidth": 0.8, "linestyle": "none"},
    **{"color": "black", "alpha": 0.55, "zorder": 1},
}


def _marks_legend(ax: Axes, marks: Marks) -> None:
    """What the marks are, for the legend: nothing is seen of these lines."""
    own, others = map(drawing.plain, marks.words)
    if marks.at:
        ax.errorbar([], [], yerr=[], **_HOLLOW, marker="o", color="black", label=own)
    if any(marks.others.values()):
        ax.plot([], [], **_DASH, label=others)


def _task_panels(
    name: str,
    title: str,
    note: str,
    metric: Metric,
    tasks: Sequence[str],
    labels: Labels,
    draw: Callable[[Axes, str, str], None],
    marks: Marks | None = None,
    rows: Sequence[str] = ("",),
) -> dict[str, bytes]:
    """Small multiples: one column per task, at most four side by side, and below them the rest.

    Args:
        draw: called with each panel's axes, its task, and its row's name.
        rows: names of each task's panels, which share one scale.
    """
    columns = min(canvas.COLUMNS, len(tasks))
    blocks = -(-len(tasks) // columns)
    figure, axes = canvas.panels(blocks * len(rows), columns)
    for place, task in enumerate(tasks):
        block, column = divmod(place, columns)
        mine = [row[column] for row in axes[block * len(rows) :][: len(rows)]]
        star = " *" if marks and task in marks.other_images else ""
        mine[0].set_title(drawing.plain(labels.task(task) + star), fontsize=look().font)
        for row, ax in zip(rows, mine, strict=True):
            draw(ax, task, row)
            if column == 0:
                head = f"{row.replace('_', ' ')}\n" if row else ""
                words = f"{head}{metric.on_axis}{metric.direction}"
                ax.set_ylabel(words, fontsize=look().font)
        if len(mine) > 1:
            limits = [ax.get_ylim() for ax in mine]
            for ax in mine:
                ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for line in axes[(blocks - 1) * len(rows) :]:
        for ax in line[len(tasks) - (blocks - 1) * columns :]:
            ax.set_visible(False)
    if marks:
        _marks_legend(axes[0][0], marks)
        note += marks.note(tasks)
    synthetic = bool(labels.synthetic & set(tasks))
    flat = [ax for line in axes for ax in line]
    canvas.finish(figure, flat, title, columns, synthetic=synthetic, note=note)
    return canvas.files(figure, name)


def _names(one: Corrupted, family: str) -> list[str]:
    """The corruptions of a family that were measured."""
    return list(dict.fromkeys(corruption for corruption, _ in one.families()[family]))


def _sheets(one: Corrupted, family: str) -> list[Sequence[str]]:
    """The tasks of each sheet of corruption curves: all on one if that fits on a page."""
    tasks = one.tasks_under(one.families()[family][0])
    rows = len(_names(one, family))
    if rows * -(-len(tasks) // canvas.COLUMNS) <= canvas.PAGE:
        return [tasks]
    return [tasks[at : at + canvas.COLUMNS] for at in range(0, len(tasks), canvas.COLUMNS)]


def _corruption(
    name: str,
    probing: Probing,
    family: str,
    tasks: Sequence[str],
    one: Corrupted,
    labels: Labels,
    marks: Marks | None,
) -> dict[str, bytes]:
    """One row per corruption, one column per task, scores against severity."""
    styles = canvas.styles(sorted(one.models), labels)

    def draw(ax: Axes, task: str, corruption: str) -> None:
        known = corrupt.told(corruption)
        severities = (0, *known.severities)
        for model, style in styles.items():
            entries = [one.clean.get((model, task))] + [
                one.corrupted.get((corruption, severity), {}).get((model, task))
                for severity in known.severities
            ]
            _curve(ax, severities, entries, style)
        levels = [f"{known.level(severity):g}" for severity in known.severities]
        ax.set_xticks(severities, ["clean", *(levels if levels[1:] else [corruption])])
        ax.set_xlabel(drawing.plain(known.unit), fontsize=look().font - 0.5)
        if marks:
            _marks(ax, task, marks, styles, (-0.25, -0.5))

    title = f"Corrupted test images ({family}), {probing.words}"
    note = BAND.format(one.metric.in_unit)
    names = _names(one, family)
    return _task_panels(name, title, note, one.metric, tasks, labels, draw, marks, names)


def _protocols(
    name: str,
    both: tuple[Probing, Probing],
    changes: Sequence[protocols.Change],
    labels: Labels,
) -> dict[str, bytes]:
    """One panel per task, one line per model between two protocols: crossings change the order."""
    by_task = {change.task: change for change in changes}
    models = sorted({model for change in changes for model in change.models})

    def draw(ax: Axes, task: str, row: str) -> None:
        change = by_task[task]
        for model, style in canvas.styles(models, labels).items():
            if model in change.models:
                place = change.models.index(model)
                ax.plot((0, 1), [scores[place] for scores in change.scores], **style)
        ax.set_xticks((0, 1), protocols.short(both))
        ax.set_xlim(-0.25, 1.25)

    title = f"Protocols {' and '.join(protocols.short(both))}, {both[0].probe} probe"
    metric = changes[0].metric
    note = f"{metric.in_unit}, mean over seeds; lines that cross change the order"
    return _task_panels(name, title, note, metric, list(by_task), labels, draw)


# ---- ranks --------------------------------------------------------------------------------------


def _ranks(name: str, probing: Probing, found: Ranking, labels: Labels) -> dict[str, bytes]:
    """Critical-difference diagram (Demsar 2006, section 3.2.2): bars join ties."""
    models, tasks = found.scores.shape
    better, _ = found.better
    mean = ranks.average_ranks(better)
    distance = ranks.critical_difference(models, tasks)
    order = [int(m) for m in np.argsort(mean, kind="stable")]
    bars = cliques(mean[order], distance)
    half = -(-models // 2)
    height = 1.2 + 0.1 * len(bars) + 0.17 * half
    names = [
        drawing.plain(f"{labels.model(name)}  {rank:.2f}")
        for name, rank in zip(found.models, mean, strict=True)
    ]
    margin = 0.1 + 0.055 * max(map(len, names))  # inches that a name takes beside the axis
    width = look().width or max(canvas.WIDTH * 0.75, 2 * margin + max(2.0, 0.2 * models))
    figure = drawing.new(width, height)
    ax = figure.subplots()
    low, high = 1.0, float(models)
    side = 0.12 * (high - low)
    beside = side + margin * (high - low + 2 * side) / (width - 2 * margin)
    ax.set_xlim(low - beside, high + beside)
    ax.set_axis_off()
    line: dict[str, Any] = {"color": "black", "linewidth": 0.8}
    ax.plot((low, high), (0, 0), **line)
    for rank in range(1, models + 1):
        ax.plot((rank, rank), (0, 0.25), **line)
        if (rank - 1) % (1 + models // 13) == 0:  # so many that none touches the next
            ax.text(rank, 0.35, str(rank), ha="center", va="bottom", fontsize=look().font)
    shown = min(distance, high - low)
    ax.plot((low, low + shown), (2.0, 2.0), color="black", linewidth=1.6)
    words = f"critical difference {distance:.2f}" + (
        ", more than the whole axis" if distance > high - low else ""
    )
    ax.text(low, 2.15, words, ha="left", va="bottom", fontsize=look().font)
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
        colour = canvas.GREY if found.models[model] in labels.controls else "black"
        ax.plot((mean[model], mean[model], x), (0, y, y), color=colour, linewidth=0.7)
        ax.text(
            x + (-0.1 if left else 0.1) * side,
            y,
            names[model],
            ha="right" if left else "left",
            va="center",
            fontsize=look().font,
            color=colour,
        )
    ax.set_ylim(below - 0.75 * half, 3.2)
    synthetic = bool(labels.synthetic & set(found.tasks))
    title = canvas.marked(f"Mean ranks over {tasks} tasks, {probing.words}", synthetic)
    ax.set_title(f"{title}\nbars join models that ranks do not tell apart", fontsize=look().font)
    return canvas.files(figure, name)


def cliques(mean: np.ndarray, distance: float) -> list[tuple[int, int]]:
    """Longest runs (first, last) of models closer than `distance`; mean ranks [M], ascending."""
    runs: list[tuple[int, int]] = []
    for first in range(len(mean)):
        last = int(np.flatnonzero(mean - mean[first] <= distance)[-1])
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs
