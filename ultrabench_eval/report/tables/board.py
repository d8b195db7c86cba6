"""Leaderboards: one for each probe, protocol and condition, of which all formats are made."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

import tasks as task_zoo
from ultrabench_eval import corrupt
from ultrabench_eval.cells import Coordinates, Failure
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import (
    NOT_VERIFIED,
    ROWS_NOT_VERIFIED,
    Entry,
    Labels,
    Probing,
    at_place,
    cells_of,
    is_doubted,
    is_main,
    main_interval,
    main_metric,
    main_score,
    models_of,
    number,
    score_text,
    seen,
    tasks_of,
)
from ultrabench_eval.report.results.standing import OVER_TASKS, best, mean_at, mean_title
from ultrabench_eval.report.sections.speeds import Speed
from ultrabench_eval.stats.intervals import of_mean

Condition = tuple[int, str, int]
"""Percent of the training images, corruption of the test images, its severity."""
MAIN: Condition = (100, "none", 0)
NOT_KNOWN = "not known"


@dataclass(frozen=True)
class ColumnHead:
    """A task as the head of a column."""

    name: str
    synthetic: bool


@dataclass(frozen=True)
class BoardScore:
    """One number of the table."""

    text: str
    value: float | None
    """What it is sorted by; None for a hole."""
    best: bool
    """Of its column, significantly: see `standing.best`."""
    letters: str = ""
    """Shared with its ties."""
    seen: bool = False
    """Whether the model's statement, or `--seen`, says that it was trained on images of this
    task."""
    why: str = ""
    """The reason of a failure."""
    sd: float = np.nan
    """Over seeds; NaN for a mean over tasks."""
    interval: tuple[float, float] = (np.nan, np.nan)
    """95 %, NaN where there is none."""


@dataclass(frozen=True)
class BoardRow:
    """A model."""

    model: str
    marks: tuple[str, ...]
    """"control", "random weights", "rows not verified"."""
    scores: tuple[BoardScore, ...]
    """One a task, then the mean over tasks if there are several."""
    saw: str
    """Tasks whose images it was trained on."""
    parameters: int | None
    speed: Speed | None = None
    """If it was measured."""

    @property
    def control(self) -> bool:
        """Whether it learned nothing about ultrasound."""
        return "control" in self.marks


@dataclass(frozen=True)
class Board:
    """All models of one probe, protocol and condition."""

    probing: Probing
    condition: Condition
    metric: Metric
    """What the numbers are."""
    tasks: tuple[ColumnHead, ...]
    rows: tuple[BoardRow, ...]
    """From best to worst mean, then those with holes, then the controls."""
    without: frozenset[str] = frozenset()
    """Tasks that have no part in the mean."""

    @property
    def words(self) -> str:
        """The condition in words."""
        return words(self.condition)

    @property
    def mean(self) -> str:
        """Head of the mean's column; "" where it would be of one task only."""
        names = [task.name for task in self.tasks]
        title = mean_title(names, self.without)
        return f"mean of {len(names)} tasks" if title and not self.without & {*names} else title

    @property
    def synthetic(self) -> int:
        """How many of the tasks are simulated."""
        return sum(task.synthetic for task in self.tasks)


def words(condition: Condition) -> str:
    """A condition in words."""
    fraction, corruption, severity = condition
    train = "all training images" if fraction == 100 else f"{fraction} % of the training images"
    if corruption == "none":
        return f"{train}, clean test images"
    known = corrupt.told(corruption)
    if len(known.levels) == 1:
        return f"{train}, test videos {corruption}"
    level = f"{known.level(severity):g} {known.unit}"
    return f"{train}, test images with {corruption} of severity {severity} ({level})"


class KnownOfModel(NamedTuple):
    """What is known of a model besides its scores."""

    saw: str = NOT_KNOWN
    parameters: int | None = None
    speed: Speed | None = None


def boards(
    entries: Sequence[Entry],
    letters: Mapping[Coordinates, str],
    speeds: Iterable[Speed] = (),
    without: Collection[str] = (),
    *,
    only_main: bool = False,
) -> list[Board]:
    """All boards of a folder: by probe and protocol, of each the main condition first.

    Args:
        entries: of the folder.
        letters: of compared cells and of means over tasks, those they share with their ties.
        speeds: of encoders; those of others than the folder's are not shown.
        without: tasks that have no part in the mean.
        only_main: whether the main condition is all that is wanted.
    """
    labels = Labels.of(entries)
    groups = by_key(
        ((Probing.of(entry), (at.fraction, at.corruption, at.severity)), entry)
        for entry in entries
        if is_main(entry) or not only_main
        for at in [entry.coordinates]
    )
    known = _models(entries, speeds)
    ordered = sorted(groups, key=lambda key: (key[0], _order(key[1])))
    left_out = frozenset(without)
    return [_board(*key, groups[key], labels, letters, known, left_out) for key in ordered]


def _order(condition: Condition) -> tuple[tuple[int, str], int, int]:
    """The main condition, then smaller training subsets, then corruptions."""
    fraction, corruption, severity = condition
    rank = (-1, "") if corruption == "none" else corrupt.order(corruption)
    return rank, -fraction, severity


def _models(entries: Iterable[Entry], speeds: Iterable[Speed]) -> dict[str, KnownOfModel]:
    """What is known of each model."""
    timed = {(one.model, one.fingerprint): one for one in speeds}
    found: dict[str, KnownOfModel] = {}
    for cell in cells_of(entries):
        model, size = cell.coordinates.model, cell.model.get("parameters")
        known = KnownOfModel(
            "none: random" if cell.random_weights else str(cell.model.get("saw") or NOT_KNOWN),
            None if size is None else int(size),
            timed.get((model, str(cell.identity["model"]))),
        )
        found.setdefault(model, known)
    return found


def _board(
    probing: Probing,
    condition: Condition,
    entries: Sequence[Entry],
    labels: Labels,
    letters: Mapping[Coordinates, str],
    known: Mapping[str, KnownOfModel],
    without: frozenset[str],
) -> Board:
    metric, tasks, models = main_metric(entries), tasks_of(entries), models_of(entries)
    places = at_place(entries)
    counted = [t for t, task in enumerate(tasks) if task not in without] or [*range(len(tasks))]
    values = np.array(
        [[main_score(places.get((model, task)))[0] for task in tasks] for model in models]
    )  # [M, T], NaN for a hole
    means = values[:, counted].mean(1)  # NaN if there is any hole: a mean is never taken over them
    columns = {task: [_score(places.get((model, task))) for model in models] for task in tasks}
    if mean_title(tasks, without):
        columns[OVER_TASKS] = [
            _mean(mean, metric, [places.get((model, tasks[t])) for t in counted])
            for model, mean in zip(models, means.tolist(), strict=True)
        ]
    order = sorted(
        range(len(models)),
        key=lambda m: (
            *(models[m] in labels.controls, bool(np.isnan(means[m]))),
            *(-metric.sign * np.nan_to_num(means[m]), models[m]),
        ),
    )
    shown = []
    for name, scores in columns.items():
        tied = {one: letters.get(_at(one, name, probing, condition), "") for one in models}
        shown.append(_compared(dict(zip(models, scores, strict=True)), tied, metric))
    rows = tuple(
        BoardRow(model, marks(model, labels), tuple(scores[model] for scores in shown), *facts)
        for model in [models[m] for m in order]
        for facts in [known.get(model, KnownOfModel())]
    )
    heads = tuple(ColumnHead(task, task in labels.synthetic) for task in tasks)
    return Board(probing, condition, metric, heads, rows, without)


def _compared(
    scores: Mapping[str, BoardScore], letters: Mapping[str, str], metric: Metric
) -> dict[str, BoardScore]:
    """A column with the letters of ties and what is best."""
    values = {m: np.nan if one.value is None else one.value for m, one in scores.items()}
    doubted = {model for model, one in scores.items() if NOT_VERIFIED in one.text}
    leader = best(values, letters, doubted, metric.sign)
    return {
        model: replace(one, best=model == leader, letters=letters[model] if one.text else "")
        for model, one in scores.items()
    }


def _at(model: str, task: str, probing: Probing, condition: Condition) -> Coordinates:
    task = mean_at(model, probing).task if task == OVER_TASKS else task
    return Coordinates(model, task, probing.protocol, probing.probe, *condition)


def marks(model: str, labels: Labels) -> tuple[str, ...]:
    """What must be said wherever a model's numbers show."""
    every = (
        ("random weights", labels.random),
        (ROWS_NOT_VERIFIED, labels.unsure),
        ("control", labels.controls),
    )
    return tuple(word for word, models in every if model in models)


def _score(entry: Entry | None) -> BoardScore:
    value, sd = main_score(entry)
    return BoardScore(
        score_text(entry),
        None if np.isnan(value) else float(value),
        best=False,
        seen=entry is not None and seen(entry) == "yes",
        why=" ".join(entry.reason.split()) if isinstance(entry, Failure) else "",
        sd=sd,
        interval=main_interval(entry),
    )


def _mean(value: float, metric: Metric, of: Sequence[Entry | None]) -> BoardScore:
    """The mean over tasks, and its interval; blank with a hole."""
    if np.isnan(value):
        return BoardScore("", None, best=False)
    mark = f" [{NOT_VERIFIED}]" if any(map(is_doubted, of)) else ""
    scores = np.array([main_score(one)[0] for one in of])
    low, high = np.array([main_interval(one) for one in of]).T
    sources = [task_zoo.home(task_zoo.split_name(one.coordinates.task)[0]) for one in of if one]
    interval = of_mean(scores, low, high, sources)
    return BoardScore(number(value, metric.places) + mark, value, best=False, interval=interval)
