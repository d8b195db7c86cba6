"""Leaderboards of the HTML page: one table a probe, protocol and condition, ready to be set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

import tasks as task_zoo
from ultrabench_eval import corrupt
from ultrabench_eval.cells import Cell, Coordinates, Failure
from ultrabench_eval.report.entries import (
    NOT_VERIFIED,
    Entry,
    Labels,
    Probing,
    at_place,
    is_doubted,
    main_score,
    number,
    score_text,
    tasks_of,
)
from ultrabench_eval.report.speeds import Speed

Condition = tuple[int, str, int]
"""Percent of the training images, corruption of the test images, its severity."""
MAIN: Condition = (100, "none", 0)
NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Head:
    """A task as the head of a column."""

    name: str
    synthetic: bool


@dataclass(frozen=True)
class Score:
    """One number of the table."""

    text: str
    value: float | None
    """What it is sorted by; None for a hole."""
    place: str
    """"best", "second" or "": of the printed numbers of its column."""
    letters: str = ""
    """Shared with its ties."""
    seen: bool = False
    """Whether the model's statement says that it was trained on images of this task."""
    why: str = ""
    """The reason of a failure."""


@dataclass(frozen=True)
class Row:
    """A model."""

    model: str
    marks: tuple[str, ...]
    """"floor", "random weights"."""
    scores: tuple[Score, ...]
    """One a task, then the mean over tasks if there are several."""
    saw: str
    """Tasks whose images it was trained on."""
    parameters: int | None
    speed: Speed | None = None
    """If it was measured."""

    @property
    def floor(self) -> bool:
        """Whether it learned nothing about ultrasound."""
        return "floor" in self.marks


@dataclass(frozen=True)
class Board:
    """All models of one probe, protocol and condition."""

    probing: Probing
    condition: Condition
    tasks: tuple[Head, ...]
    rows: tuple[Row, ...]
    """From best to worst mean, then those with holes, then the floors."""

    @property
    def words(self) -> str:
        """The condition in words."""
        return words(self.condition)

    @property
    def mean(self) -> str:
        """Head of the mean's column; "" where there is one task only."""
        if len(self.tasks) < 2:
            return ""
        return f"mean of {len(self.tasks)} tasks"

    @property
    def timed(self) -> bool:
        """Whether the speed of any model is known."""
        return any(row.speed for row in self.rows)

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
    known = corrupt.find(corruption)
    level = f"{known.level(severity):g} {known.unit}"
    return f"{train}, test images with {corruption} of severity {severity} ({level})"


class Known(NamedTuple):
    """What is known of a model besides its scores."""

    saw: str = NOT_KNOWN
    parameters: int | None = None
    speed: Speed | None = None


def boards(
    entries: Sequence[Entry], letters: Mapping[Coordinates, str], speeds: Iterable[Speed] = ()
) -> list[Board]:
    """All boards of a folder: by probe and protocol, of each the main condition first.

    Args:
        entries: of the folder.
        letters: of compared cells, those they share with their ties.
        speeds: of encoders; those of others than the folder's are not shown.
    """
    labels = Labels.of(entries)
    groups: dict[tuple[Probing, Condition], list[Entry]] = {}
    for entry in entries:
        at = entry.coordinates
        condition = (at.fraction, at.corruption, at.severity)
        groups.setdefault((Probing.of(entry), condition), []).append(entry)
    known = _models(entries, speeds)
    ordered = sorted(groups, key=lambda key: (key[0], _order(key[1])))
    return [_board(*key, groups[key], labels, letters, known) for key in ordered]


def _order(condition: Condition) -> tuple[int, int, int]:
    """The main condition, then smaller parts of the training images, then corruptions."""
    fraction, corruption, severity = condition
    rank = 0 if corruption == "none" else 1 + list(corrupt.CORRUPTIONS).index(corruption)
    return rank, -fraction, severity


def _models(entries: Iterable[Entry], speeds: Iterable[Speed]) -> dict[str, Known]:
    """What is known of each model."""
    timed = {(one.model, one.fingerprint): one for one in speeds}
    found: dict[str, Known] = {}
    for entry in entries:
        if isinstance(entry, Cell):
            model = entry.coordinates.model
            saw = "none: random" if entry.random_weights else str(entry.model.get("saw") or "")
            size = entry.model.get("parameters")
            known = Known(
                saw or NOT_KNOWN,
                None if size is None else int(size),
                timed.get((model, str(entry.identity["model"]))),
            )
            found.setdefault(model, known)
    return found


def _board(
    probing: Probing,
    condition: Condition,
    entries: Sequence[Entry],
    labels: Labels,
    letters: Mapping[Coordinates, str],
    known: Mapping[str, Known],
) -> Board:
    tasks = tasks_of(entries)
    places = at_place(entries)
    models = sorted({entry.coordinates.model for entry in entries})
    values = np.array(
        [[main_score(places.get((model, task)))[0] for task in tasks] for model in models]
    )  # [M, T], NaN for a hole
    means = values.mean(1)  # NaN if there is any: a mean is never taken over holes
    if len(tasks) > 1:
        values = np.column_stack([values, means])
    doubted = np.array(
        [[is_doubted(places.get((model, task))) for task in tasks] for model in models]
    )
    if len(tasks) > 1:
        doubted = np.column_stack([doubted, doubted.any(1)])
    marked = _placed(np.where(doubted, np.nan, values))  # what is not verified is not the best
    order = sorted(
        range(len(models)),
        key=lambda m: (
            *(models[m] in labels.floors, bool(np.isnan(means[m]))),
            *(-np.nan_to_num(means[m]), models[m]),
        ),
    )
    rows = []
    for m in order:
        model = models[m]
        facts = known.get(model, Known())
        seen = {name.strip() for name in facts.saw.split(",")}
        scores = [
            _score(places.get((model, task)), values[m, t], marked[m][t], letters, task, seen)
            for t, task in enumerate(tasks)
        ]
        if len(tasks) > 1:
            mark = f" [{NOT_VERIFIED}]" if doubted[m, -1] and not np.isnan(means[m]) else ""
            scores.append(Score(number(means[m]) + mark, _value(means[m]), marked[m][-1]))
        rows.append(Row(model, marks(model, labels), tuple(scores), *facts))
    heads = tuple(Head(task, task in labels.synthetic) for task in tasks)
    return Board(probing, condition, heads, tuple(rows))


def marks(model: str, labels: Labels) -> tuple[str, ...]:
    """What must be said wherever a model's numbers show."""
    every = (("random weights", labels.random), ("floor", labels.floors))
    return tuple(word for word, models in every if model in models)


def _score(
    entry: Entry | None,
    value: float,
    place: str,
    letters: Mapping[Coordinates, str],
    task: str,
    seen: set[str],
) -> Score:
    return Score(
        score_text(entry),
        _value(value),
        place,
        letters.get(entry.coordinates, "") if entry else "",
        # Nobody was trained on what is simulated here under a task's name.
        task_zoo.split_name(task)[0] in seen and not (entry and entry.synthetic),
        " ".join(entry.reason.split()) if isinstance(entry, Failure) else "",
    )


def _value(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _placed(values: np.ndarray) -> list[list[str]]:
    """Which printed numbers are the highest and second highest of their column, ties included.

    `values` [R, C] with NaN. One number alone is not the best of anything, nor the lower of two
    the second.
    """
    printed = np.round(values, 1)
    placed = [[""] * values.shape[1] for _ in values]
    for column in range(values.shape[1]):
        mine = printed[:, column]
        known = mine[~np.isnan(mine)]
        levels = np.unique(known)[::-1]
        if len(known) > 1:
            for row in np.flatnonzero(mine == levels[0]):
                placed[row][column] = "best"
        if len(known) > 2 and len(levels) > 1:
            for row in np.flatnonzero(mine == levels[1]):
                placed[row][column] = "second"
    return placed
