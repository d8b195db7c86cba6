"""The wide table: a row a model, a column a task, for one probe and protocol.

Only of the main condition: all training images, test images as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ultrabench_eval.cells import Coordinates
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import (
    NOT_VERIFIED,
    Entry,
    Labels,
    Probing,
    at_place,
    by_probing,
    is_doubted,
    is_main,
    main_metric,
    main_score,
    number,
    score_text,
    tasks_of,
)
from ultrabench_eval.report.results.standing import Letters, mean_at, mean_title, placed


@dataclass(frozen=True)
class Wide:
    """Main metric of one probe and protocol, ready to be set: text cells, and which are best."""

    condition: str
    metric: Metric
    """What the numbers are."""
    header: list[str]
    rows: list[list[str]]
    """Models from best to worst, then the floors."""
    best: set[tuple[int, int]]
    """Places of what is set in bold: see `standing.placed`."""
    synthetic: bool
    floors: int
    """How many rows at the end are floors: controls and models with random weights."""
    letters: str
    """How the letters that tell ties are read; "" without any."""
    without: tuple[str, ...] = ()
    """Tasks that take no bold, no letters and no part in the mean."""

    def marked(self, mark: str) -> list[list[str]]:
        """The rows, with `mark` (a format such as "**{}**") around the best of each column."""
        return [
            [mark.format(text) if (r, c) in self.best else text for c, text in enumerate(row)]
            for r, row in enumerate(self.rows)
        ]


def wide(
    entries: Sequence[Entry],
    letters: Mapping[Coordinates, str] | None = None,
    without: Collection[str] = (),
) -> list[Wide]:
    """One table a (probe, protocol), of the main condition.

    The last column is the mean over tasks, of models that have all of them: a mean is never
    taken over holes. Models are ordered by it; those with holes follow by name, floors stand last.

    Args:
        entries: of a results folder; other conditions are passed over.
        letters: for cells that were compared, and for means over tasks, the letters they share
            with their ties (`standing.letters`). Without them nothing is bold.
        without: tasks that have no part in the mean (`degenerate.unranked`).
    """
    labels = Labels.of(entries)
    groups = by_probing(entry for entry in entries if is_main(entry))
    return [
        _wide(probing, group, labels, letters or {}, without) for probing, group in groups.items()
    ]


def _wide(
    probing: Probing,
    entries: list[Entry],
    labels: Labels,
    letters: Mapping[Coordinates, str],
    without: Collection[str],
) -> Wide:
    tasks = tasks_of(entries)
    counted = [task for task in tasks if task not in without]
    places = at_place(entries)
    models = sorted({e.coordinates.model for e in entries})
    # NaN for a hole, which makes the mean over tasks NaN
    overall = {
        model: float(np.mean([main_score(places.get((model, t)))[0] for t in counted or tasks]))
        for model in models
    }
    doubted = {
        model: {task for task in tasks if is_doubted(places.get((model, task)))} for model in models
    }
    metric = main_metric(entries)
    models.sort(
        key=lambda m: (
            *(m in labels.floors, np.isnan(overall[m])),
            *(-metric.sign * np.nan_to_num(overall[m]), m),
        )
    )

    columns = [_column(places, models, task, letters) for task in tasks]
    marks = [{model for model in models if task in doubted[model]} for task in tasks]
    if title := mean_title(tasks, without):
        shared = {model: letters.get(mean_at(model, probing), "") for model in models}
        columns.append((overall, shared))
        marks.append({model for model in models if doubted[model] & {*counted}})
    best = {
        (models.index(model), c)
        for c, (column, mark) in enumerate(zip(columns, marks, strict=True), 1)
        for model, place in placed(*column, mark, metric.sign).items()
        if place == "best"
    }
    rows = []
    for model in models:
        row = [labels.model(model), *(_text(places.get((model, task)), letters) for task in tasks)]
        if title:
            mark = f" [{NOT_VERIFIED}]" if model in marks[-1] else ""
            text = number(overall[model], metric.places)
            row.append(f"{text}{mark} {columns[-1][1][model]}".rstrip() if text else "")
        rows.append(row)
    return Wide(
        condition=str(probing),
        metric=metric,
        header=["model", *map(labels.task, tasks), *([title] if title else [])],
        rows=rows,
        best=best,
        synthetic=bool(labels.synthetic & set(tasks)),
        floors=sum(model in labels.floors for model in models),
        letters=_reading(letters) if any(e.coordinates in letters for e in entries) else "",
        without=tuple(task for task in tasks if task in without),
    )


def _reading(letters: Mapping[Coordinates, str]) -> str:
    return letters.reading if isinstance(letters, Letters) else "Letters: of ties."


def _column(
    places: Mapping[tuple[str, str], Entry],
    models: Sequence[str],
    task: str,
    letters: Mapping[Coordinates, str],
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores and letters of a task."""
    mine = {model: entry for model in models if (entry := places.get((model, task)))}
    return (
        {model: main_score(entry)[0] for model, entry in mine.items()},
        {model: letters.get(entry.coordinates, "") for model, entry in mine.items()},
    )


def _text(entry: Entry | None, letters: Mapping[Coordinates, str]) -> str:
    tie = letters.get(entry.coordinates, "") if entry else ""
    return f"{score_text(entry)} {tie}".rstrip()
