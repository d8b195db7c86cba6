"""The wide table: a row a model, a column a task, for one probe and protocol.

Only of the main condition: all training images, test images as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ultrabench_eval.cells import Coordinates
from ultrabench_eval.report.entries import (
    NOT_VERIFIED,
    Entry,
    Labels,
    Probing,
    at_place,
    by_probing,
    is_doubted,
    is_main,
    main_score,
    number,
    score_text,
    tasks_of,
)


@dataclass(frozen=True)
class Wide:
    """Main metric of one probe and protocol, ready to be set: text cells, and which are best."""

    condition: str
    header: list[str]
    rows: list[list[str]]
    """Models from best to worst, then the floors."""
    best: set[tuple[int, int]]
    synthetic: bool
    floors: int
    """How many rows at the end are floors: controls and models with random weights."""
    letters: bool
    """Whether the numbers carry letters that tell ties."""

    def marked(self, mark: str) -> list[list[str]]:
        """The rows, with `mark` (a format such as "**{}**") around the best of each column."""
        return [
            [mark.format(text) if (r, c) in self.best else text for c, text in enumerate(row)]
            for r, row in enumerate(self.rows)
        ]


def wide(entries: Sequence[Entry], letters: Mapping[Coordinates, str] | None = None) -> list[Wide]:
    """One table a (probe, protocol), of the main condition.

    The last column is the mean over tasks, of models that have all of them: a mean is never
    taken over holes. Models are ordered by it; those with holes follow by name, floors stand last.

    Args:
        entries: of a results folder; other conditions are passed over.
        letters: for cells that were compared, the letters they share with their ties.
    """
    labels = Labels.of(entries)
    groups = by_probing(entry for entry in entries if is_main(entry))
    return [_wide(probing, group, labels, letters or {}) for probing, group in groups.items()]


def _wide(
    probing: Probing, entries: list[Entry], labels: Labels, letters: Mapping[Coordinates, str]
) -> Wide:
    tasks = tasks_of(entries)
    places = at_place(entries)
    models = sorted({e.coordinates.model for e in entries})
    means = {
        model: [main_score(places.get((model, task)))[0] for task in tasks] for model in models
    }
    # NaN for a hole, which makes the mean over tasks NaN
    overall = {model: float(np.mean(values)) for model, values in means.items()}
    doubted = {model: [is_doubted(places.get((model, task))) for task in tasks] for model in models}
    models.sort(
        key=lambda m: (m in labels.floors, np.isnan(overall[m]), -np.nan_to_num(overall[m]), m)
    )

    header = ["model", *map(labels.task, tasks)]
    header += ["mean of tasks"] if len(tasks) > 1 else []
    rows, values = [], []
    for model in models:
        row = [labels.model(model)]
        row += [_text(places.get((model, task)), letters) for task in tasks]
        mark = f" [{NOT_VERIFIED}]" if any(doubted[model]) and not np.isnan(overall[model]) else ""
        row += [number(overall[model]) + mark] if len(tasks) > 1 else []
        rows.append(row)
        known = [*means[model], *([overall[model]] if len(tasks) > 1 else [])]
        doubts = [*doubted[model], any(doubted[model])]
        values.append(
            [np.nan, *(np.nan if d else v for v, d in zip(known, doubts, strict=False))]
        )  # what is not verified is not the best of anything
    return Wide(
        condition=str(probing),
        header=header,
        rows=rows,
        best=_best(np.array(values)),
        synthetic=bool(labels.synthetic & set(tasks)),
        floors=sum(model in labels.floors for model in models),
        letters=any(entry.coordinates in letters for entry in entries),
    )


def _text(entry: Entry | None, letters: Mapping[Coordinates, str]) -> str:
    tie = letters.get(entry.coordinates, "") if entry else ""
    return f"{score_text(entry)} {tie}".rstrip()


def _best(values: np.ndarray) -> set[tuple[int, int]]:
    """Places of the highest printed number of each column, ties included; [R, C] with NaN."""
    best: set[tuple[int, int]] = set()
    if len(values) < 2:
        return best
    printed = np.round(values, 1)
    for column in range(1, printed.shape[1]):
        if not np.isnan(printed[:, column]).all():
            top = np.nanmax(printed[:, column])
            best |= {(int(row), column) for row in np.flatnonzero(printed[:, column] == top)}
    return best
