"""table.md, .csv, .tex: a paper's table as it printed it, with models of a run below.

Three parts, a rule between them: the paper's rows; rows of the run that were measured as the paper
did, on as many images; and those that were not, each with the reason. No statistical test joins
published and measured rows, because nobody has predictions of the published ones; of the run's own
models `sentences` has the tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import model_zoo
import tasks as task_zoo
from tasks.task import DOWNSCALED
from ultrabench_eval.cells import Cell, Cells, Failure
from ultrabench_eval.core.errors import UserError, did_you_mean
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.report.paper.published import Published, scores_layout
from ultrabench_eval.report.results.comparable import SENTENCES, other_images, why_not
from ultrabench_eval.report.results.entries import (
    Entry,
    Labels,
    Probing,
    applicable,
    bullets,
    cells_of,
    is_downscaled,
    is_main,
    main_score,
    models_of,
    printed,
    probability,
    score_text,
    seen,
    synthetic_words,
)
from ultrabench_eval.report.sections.page import settings
from ultrabench_eval.report.sections.significance import mean_of
from ultrabench_eval.report.tables.table import NEEDS, Table, TableCell, best_two
from ultrabench_eval.report.tables.wide import SEEN


@dataclass(frozen=True)
class Added:
    """A row of the run: what one model has on the paper's tasks, all comparable or none."""

    model: str
    cells: Mapping[str, Entry]
    """By the paper's task."""
    reason: str = ""
    """Why it is not comparable, in words; "" if it is."""


def added(entries: Sequence[Entry], published: Published, models: Sequence[str]) -> list[Added]:
    """Rows of the run, comparable ones first.

    Args:
        entries: of a results folder.
        published: what they are set below.
        models: of the run, in this order; without any, all that learned something.

    Raises:
        UserError: a model is not in the run.
    """
    mains = list(filter(is_main, entries))
    measured = models_of(mains)
    for model in models:
        if model not in measured:
            raise UserError(
                f"the model '{model}' has no results in this run{did_you_mean(model, measured)} "
                f"it has {', '.join(measured)}"
            )
    controls = Labels.of(entries).controls
    found: dict[tuple[str, str], dict[str, Entry]] = {}
    for model in models or [name for name in measured if name not in controls]:
        for entry in mains:
            task = task_zoo.split_name(entry.coordinates.task)[0]
            if entry.coordinates.model == model and task in published.source.tasks:
                found.setdefault((model, _reason(entry, published)), {})[task] = entry
    rows = [Added(model, cells, reason) for (model, reason), cells in found.items()]
    return sorted(rows, key=lambda row: bool(row.reason))


def _reason(entry: Entry, published: Published) -> str:
    """Why an entry is not comparable with published ones, in words; "" if it is."""
    reason = why_not(entry, published)
    if reason == "error":
        return ""  # a hole of its row
    if reason in ("another probe", "another protocol"):
        return Probing.of(entry).words
    if reason:
        return f"{reason}: {SENTENCES[reason]}"
    task = entry.coordinates.task
    if counts := other_images(entry, published):
        ours, theirs = counts
        return f"other images of {printed(task)}: {ours} in train / validation / test, not {theirs}"
    known = task in published.sizes_of and is_downscaled(entry)
    return f"{DOWNSCALED} of {printed(task)}" if known else ""


def table(entries: Sequence[Entry], published: Published, models: Sequence[str] = ()) -> Table:
    """The paper's table with rows of a run; see `added` for the arguments.

    The best and the second best of a column are among the published and the comparable rows.
    """
    source, rows_added = published.source, added(entries, published, models)
    comparable = [row for row in rows_added if not row.reason]
    others = [row for row in rows_added if row.reason]
    labels = Labels.of(entries)
    texts: list[list[str]] = []
    values: list[list[float | None]] = []
    for model, name in source.models.items():
        saw = model_zoo.describe(model)["saw"] or ()
        known = {task: published.at.get((model, task)) for task in source.tasks}
        shown = [
            f"{score.text()}{SEEN if task in saw else ''}" if score else ""
            for task, score in known.items()
        ]
        texts.append([name, *shown])
        values.append([score.macro_f1_mean if score else None for score in known.values()])
    for row in comparable:
        texts.append([labels.model(row.model), *_texts(row, published)])
        values.append([_value(row.cells.get(task)) for task in source.tasks])
    marks = zip(*map(best_two, zip(*values, strict=True)), strict=True)
    marked: list[list[str | TableCell]] = [
        [name, *map(TableCell, scores, of)]
        for (name, *scores), of in zip(texts, marks, strict=True)
    ]
    numbers = {reason: n for n, reason in enumerate(dict.fromkeys(r.reason for r in others), 1)}
    marked += [
        [f"{labels.model(row.model)} [{numbers[row.reason]}]", *_texts(row, published)]
        for row in others
    ]
    above = len(source.models)
    return Table(
        scores_layout(published).header,
        marked,
        title=f"{source.scores_table} of {source.title}, and models of this run",
        notes=_notes(rows_added, numbers, entries, published),
        label=source.name,
        rules=[place for place in (above, above + len(comparable)) if place < len(marked)],
    )


def _texts(row: Added, published: Published) -> list[str]:
    return [_text(row.cells.get(task)) for task in published.source.tasks]


def _text(entry: Entry | None) -> str:
    if entry is None or isinstance(entry, Failure):
        return "–"
    return score_text(entry) + (SEEN if seen(entry) == "yes" else "")


def _value(entry: Entry | None) -> float | None:
    """As printed; None for a hole, and for what is not verified."""
    if not isinstance(entry, Cell) or entry.doubt:
        return None
    return round(main_score(entry)[0], 1)


def _notes(
    rows: Sequence[Added],
    numbers: Mapping[str, int],
    entries: Sequence[Entry],
    published: Published,
) -> list[str]:
    source = published.source
    comparable = [cell for row in rows if not row.reason for cell in row.cells.values()]
    how = "; or ".join(dict.fromkeys(settings(cell.protocol) for cell in cells_of(comparable)))
    seeds = " or ".join(
        map(str, sorted({len(cell.scores[cell.main]) for cell in cells_of(comparable)}))
    )
    reasons = "; ".join(f"[{n}] {reason}" for reason, n in numbers.items())
    away = sorted(
        {
            printed(entry.coordinates.task)
            for entry in entries
            if is_main(entry) and task_zoo.split_name(entry.coordinates.task)[0] not in source.tasks
        }
    )
    return applicable(
        (True, "Linear probe on frozen features, macro F1 in percent, mean ± sd over seeds."),
        (True, f"Above the first rule: as printed in {source.scores_table}, not measured here."),
        (
            comparable,
            f"Below it: measured here by the paper's protocol ({how}; {seeds} seeds), on splits as "
            "large as the paper's.",
        ),
        (not comparable, "No result of this run was measured as the paper did."),
        (reasons, f"Below the last rule, not comparable with the rows above: {reasons}."),
        (
            True,
            "Bold: highest of a column, underlined: second, both without a test and without the "
            "rows that are not comparable.",
        ),
        (
            True,
            f"{SEEN}: the model was trained on images of this data set, as its authors state. –: "
            "not measured.",
        ),
        (away, f"Not in this table, because the paper has no such task: {', '.join(away)}."),
    )


Pair = Mapping[str, Any]
"""A row of pairs.csv."""


def sentences(
    cells: Cells, entries: Sequence[Entry], pairs: Sequence[Pair], models: Sequence[str]
) -> list[str]:
    """Sentences to paste: each model beside the best other encoder of the run, task by task.

    Of one probe and protocol, the paper's if the run has it; pairs.csv has all.

    Args:
        cells: the results folder.
        entries: its content.
        pairs: rows of its pairs.csv.
        models: of the run.
    """
    controls = Labels.of(entries).controls
    by_probing = by_key((Probing(row["probe"], row["protocol"]), row) for row in pairs)
    probing = min(by_probing, default=None)
    found = by_key(
        (row["task"], row)
        for row in (by_probing[probing] if probing else ())
        if controls.isdisjoint((row["model_a"], row["model_b"]))
    )
    told = []
    for model in models:
        for task, rows in found.items():
            # Rows are ordered by the better model, so the first is of the best other one.
            mine = [row for row in rows if model in (row["model_a"], row["model_b"])]
            if probing and mine:
                where = _where(cells, entries, task, probing)
                told.append(_sentence(model, mine[0], where, len(rows)))
    return told


def _where(cells: Cells, entries: Iterable[Entry], task: str, probing: Probing) -> str:
    """Such as: On aul (linear probe, protocol paper; 147 test images of 147 patients)."""
    if task == mean_of(probing.type):
        return f"By the mean of tasks ({probing.words})"
    for entry in entries:
        if isinstance(entry, Cell) and entry.coordinates.task == task and is_main(entry):
            test = cells.test_set(str(entry.identity["task"]))
            images = f"{len(test)} test images"
            if test.groups is not None:
                kind = entry.task["groups"]
                images += f" of {len(set(test.groups))} {kind}s"
            return f"On {printed(task)} ({probing.words}; {images})"
    raise KeyError(task)


def _sentence(model: str, row: Pair, where: str, tests: int) -> str:
    ahead = row["model_a"] == model
    other = printed(row["model_b"] if ahead else row["model_a"])
    verb = "was significantly" if row["told_apart"] else "was not significantly"
    return (
        f"{where}, {printed(model)} {verb} {'better' if ahead else 'worse'} than {other} "
        f"(difference {row['difference']:.1f} points, 95 % CI {row['low']:.1f} to "
        f"{row['high']:.1f}; two-sided permutation test, whole patients swapped between the two "
        f"models, Holm-corrected over {tests} {'pairs' if tests > 1 else 'pair'} of encoders, "
        f"p {probability(row['p_holm'])})."
    )


def pages(
    cells: Cells,
    entries: Sequence[Entry],
    published: Published,
    models: Sequence[str],
    pairs: Sequence[Pair] = (),
) -> dict[str, bytes]:
    """table.md, table.csv and table.tex, by file name; see `table` and `sentences`."""
    made = table(entries, published, models)
    names = list(dict.fromkeys(row.model for row in added(entries, published, models)))
    told = sentences(cells, entries, pairs, names)
    simulated = any(entry.synthetic for entry in entries)
    parts = [
        f"# {made.title}\n",
        *synthetic_words(simulated, "some results of this run"),
        made.markdown(),
        bullets(made.notes),
        "## Sentences on significance\n",
        bullets(told)
        if told
        else "None: no two encoders of this run were compared. Add another with `--model`, or see "
        "statistics.md for why.\n",
    ]
    return {
        "table.md": "\n".join(parts).encode(),
        "table.csv": made.csv().encode(),
        "table.tex": f"{NEEDS}\n{made.latex()}".encode(),
    }
