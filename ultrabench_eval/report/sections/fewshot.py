"""fewshot.md: scores on training subsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, product

import numpy as np

from ultrabench_eval.cells import CLASSES
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.report.results.entries import (
    Entry,
    Labels,
    Probing,
    at_place,
    by_probing,
    capitalised,
    cells_of,
    is_clean,
    main_metric,
    main_score,
    score_text,
    synthetic_words,
    tasks_of,
)
from ultrabench_eval.report.results.notes import warnings
from ultrabench_eval.report.tables.table import NEEDS, Table


def fewshot(entries: Sequence[Entry]) -> dict[Probing, dict[int, list[Entry]]]:
    """Entries by percent of the training images, of probings that have more than one."""
    found: dict[Probing, dict[int, list[Entry]]] = {}
    for probing, group in by_probing(filter(is_clean, entries)).items():
        by_fraction = by_key((entry.coordinates.fraction, entry) for entry in group)
        if len(by_fraction) > 1:
            found[probing] = dict(sorted(by_fraction.items()))
    return found


def with_several(by_fraction: Mapping[int, Sequence[Entry]]) -> set[str]:
    """Models that were measured with more than one fraction; the others have no curve."""
    fractions = by_key((e.coordinates.model, f) for f, group in by_fraction.items() for e in group)
    return {model for model, some in fractions.items() if len({*some}) > 1}


def _all(by_fraction: Mapping[int, Sequence[Entry]]) -> list[Entry]:
    return list(chain(*by_fraction.values()))


def page(entries: Sequence[Entry]) -> str | None:
    """The page; None if nothing was measured on a training subset."""
    labels, found = Labels.of(entries), fewshot(entries)
    if not found:
        return None
    metrics = [main_metric(_all(one)) for one in found.values()]
    kinds = {probing.type for probing in found}
    where = ", where a task has classes," if len(kinds) > 1 else ""
    share = f", keep each class's share{where}" if CLASSES in kinds else ""
    shown = " or ".join(dict.fromkeys(metric.in_unit for metric in metrics))
    parts = [
        "# Few-shot: scores on training subsets\n",
        "Answers how much of a score remains with fewer labelled images. Subsets are nested"
        f"{share} and are drawn once per seed, the same for every model; the test set is "
        f"always complete. {capitalised(shown)}, mean ± sd over seeds.\n",
        *synthetic_words(labels.synthetic),
    ]
    for probing, by_fraction in found.items():
        parts += [
            f"## {probing}\n",
            _scores(probing, by_fraction, labels).markdown(),
            "### Training images in use\n",
            _images(by_fraction, labels),
            *_needed(by_fraction, labels),
            *_warnings(by_fraction),
        ]
    return "\n".join(parts)


def latex(entries: Sequence[Entry]) -> str:
    """The scores of `page` in LaTeX; "" if there are none."""
    labels, found = Labels.of(entries), fewshot(entries)
    tables = [_scores(probing, group, labels).latex() for probing, group in found.items()]
    return "\n".join([NEEDS, *tables]) if tables else ""


def _scores(probing: Probing, by_fraction: dict[int, list[Entry]], labels: Labels) -> Table:
    """Rows model x fraction; encoders first, none that was measured with one fraction alone."""
    tasks, metric = tasks_of(_all(by_fraction)), main_metric(_all(by_fraction))
    models = sorted(with_several(by_fraction), key=lambda m: (m in labels.controls, m))
    places = {fraction: at_place(group) for fraction, group in by_fraction.items()}
    rows = [
        [
            labels.model(model),
            f"{fraction} %",
            *(score_text(places[fraction].get((model, task))) for task in tasks),
        ]
        for model in models
        for fraction in by_fraction
    ]
    notes = [
        f"{metric.heading}, mean ± sd over seeds, with a part of "
        f"the training images (of each seed its own, the same for every model); {probing.words}.",
    ]
    if labels.synthetic & {*tasks}:
        notes.append("SYNTHETIC columns are simulated images.")
    return Table(
        ["model", "training images", *map(labels.task, tasks)],
        rows,
        notes=notes,
        label=f"fewshot-{probing.in_files}",
        rules=range(len(by_fraction), len(rows), len(by_fraction)),
        right=range(2, len(tasks) + 2),
    )


def _images(by_fraction: dict[int, list[Entry]], labels: Labels) -> str:
    """How many images each percentage is."""
    tasks = tasks_of(_all(by_fraction))
    rows = [
        [f"{fraction} %", *(_count(group, task) for task in tasks)]
        for fraction, group in by_fraction.items()
    ]
    return Table(["part", *map(labels.task, tasks)], rows).markdown()


def _count(entries: Sequence[Entry], task: str) -> str:
    """Numbers of training images; several only where versions of a task are mixed."""
    counts = {c.images["train"] for c in cells_of(entries) if c.coordinates.task == task}
    return " or ".join(map(str, sorted(counts)))


def _needed(by_fraction: dict[int, list[Entry]], labels: Labels) -> list[str]:
    """The smallest part with which an encoder is at the best control's score with all images."""
    whole = at_place(by_fraction.get(100, []))
    tasks, metric = tasks_of(_all(by_fraction)), main_metric(_all(by_fraction))
    sign = metric.sign
    bars: dict[str, float] = {}  # of the tasks that any control has
    for task, control in product(tasks, labels.controls):
        score = sign * main_score(whole.get((control, task)))[0]
        if not np.isnan(score):
            bars[task] = max(score, bars.get(task, -np.inf))
    models = sorted(with_several(by_fraction) - labels.controls)
    if not models or not bars:
        return []
    places = {fraction: at_place(group) for fraction, group in by_fraction.items()}
    rows = [
        [
            labels.model(model),
            *(
                _first_at(
                    {f: sign * main_score(at.get((model, task)))[0] for f, at in places.items()},
                    bars.get(task),
                )
                for task in tasks
            ),
        ]
        for model in models
    ]
    reached = "score is at least" if metric.higher_is_better else f"{metric.title} is at most"
    return [
        "### Labels needed to match the best control with all images\n",
        f"The smallest subset whose mean {reached} that of the best control (trivial "
        "methods and random weights) trained on everything; it compares means, without a test.\n",
        Table(["model", *map(labels.task, tasks)], rows).markdown(),
    ]


def _first_at(scores: dict[int, float], bar: float | None) -> str:
    """The first part at or above the bar; nothing where a score before it is missing."""
    if bar is None:
        return ""
    for fraction, score in scores.items():
        if np.isnan(score):
            return ""
        if score >= bar:
            return f"{fraction} %"
    return "never"


def _warnings(by_fraction: dict[int, list[Entry]]) -> list[str]:
    """Those of the parts; of all images they stand on the leaderboard."""
    cells = [cell for cell in cells_of(_all(by_fraction)) if cell.coordinates.fraction < 100]
    return warnings(cells).section(3)
