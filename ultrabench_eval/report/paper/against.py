"""against.md, .csv, .tex, figures: our measurements beside published ones, never mixed with them.

A published number is compared with the 95 % interval of ours as both are printed, to one decimal.
The interval is of our measurement alone: other test patients, other seeds of the probe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import pandas as pd

from ultrabench_eval.cells import Cell
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.report.drawings.figures import curves
from ultrabench_eval.report.drawings.marks import marks
from ultrabench_eval.report.paper.published import Published, PublishedScore
from ultrabench_eval.report.results.comparable import (
    NOT_RUN,
    PROBE,
    PROTOCOL,
    closest,
    left_out,
    other_images,
    printed_model,
    why_not,
)
from ultrabench_eval.report.results.entries import (
    Entry,
    Labels,
    applicable,
    bullets,
    is_main,
    listed,
    main_interval,
    main_score,
    models_of,
    score_text,
    synthetic_words,
)
from ultrabench_eval.report.sections import robustness
from ultrabench_eval.report.tables.frame import csv_of
from ultrabench_eval.report.tables.table import NEEDS, Table

NOT_PUBLISHED = "not in the paper"
Verdict = Literal["inside", "above", "below"]
"""Where the published number lies, seen from our interval."""


@dataclass(frozen=True)
class Pair:
    """A model on a task: ours, theirs, or both."""

    model: str
    """Our name of it."""
    task: str
    ours: Cell | None
    published: PublishedScore | None
    hole: str
    """A short reason why one of the two is missing; "" if none is."""

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Of ours, in percent; None without ours."""
        return main_interval(self.ours) if self.ours else None

    @property
    def difference(self) -> float | None:
        """Ours - published, in points."""
        if self.ours is None or self.published is None:
            return None
        return main_score(self.ours)[0] - self.published.macro_f1_mean

    @property
    def verdict(self) -> Verdict | None:
        """None if there is nothing to compare."""
        if self.interval is None or self.published is None:
            return None
        low, high = (round(bound, 1) for bound in self.interval)
        if self.published.macro_f1_mean < low:
            return "below"
        return "above" if self.published.macro_f1_mean > high else "inside"


@dataclass(frozen=True)
class Against:
    """All models of a run beside all published ones."""

    published: Published
    models: Mapping[str, Sequence[Pair]]
    """A pair a task in the paper's order: published models in the order of its rows, then ours."""
    labels: Labels
    notes: Sequence[str]
    """What is not as in the paper, in sentences."""
    left_out: Sequence[str]
    synthetic: bool

    @property
    def pairs(self) -> list[Pair]:
        """Of all models."""
        return [pair for pairs in self.models.values() for pair in pairs]


def compare(entries: Sequence[Entry], published: Published) -> Against:
    """Set a results folder beside published figures.

    Only the linear probe by the paper's protocol, on all training images and uncorrupted test
    images, is compared; the reason is said for all that is not.
    """
    mains = list(filter(is_main, entries))
    ours: dict[tuple[str, str], Cell] = {}
    holes: dict[tuple[str, str], str] = {}
    for entry in mains:
        at = entry.coordinates
        place = (at.model, at.task.partition("@")[0])
        if reason := why_not(entry, published):
            holes[place] = closest(reason, holes.get(place))
        elif isinstance(entry, Cell):
            ours[place] = entry
    labels = Labels.of(entries)
    others = sorted({model for model, _ in ours}, key=lambda m: (m in labels.controls, m))
    models = {
        model: [_pair(model, task, ours, holes, published) for task in published.source.tasks]
        for model in dict.fromkeys([*_published_models(models_of(mains), published), *others])
    }
    return Against(
        published=published,
        models=models,
        labels=labels,
        notes=_notes(list(ours.values()), published),
        left_out=left_out(entries, published, main=True),
        synthetic=any(entry.synthetic for entry in entries),
    )


def _published_models(measured: Sequence[str], published: Published) -> list[str]:
    """In the order of the paper's rows, each by the names it was measured under, or by its own."""
    mine = by_key((printed_model(name, published), name) for name in measured)
    return [name for model in published.source.models for name in mine.get(model, [model])]


def _pair(
    model: str,
    task: str,
    ours: Mapping[tuple[str, str], Cell],
    holes: Mapping[tuple[str, str], str],
    published: Published,
) -> Pair:
    cell = ours.get((model, task))
    score = published.at.get((printed_model(model, published) or "", task))
    missing = "" if score else NOT_PUBLISHED
    hole = missing if cell else holes.get((model, task), NOT_RUN)
    return Pair(model, task, cell, score, hole)


def _notes(cells: Sequence[Cell], published: Published) -> list[str]:
    """Where what was measured is not what the paper measured."""
    notes = [
        f"{cell.coordinates.task}: not the paper's images: {counts[0]} for train, validation and "
        f"test, the paper has {counts[1]}"
        for cell in cells
        if (counts := other_images(cell, published))
    ]
    printed = {score.seeds for score in published.scores}
    if odd := {len(cell.scores[cell.main]) for cell in cells} - printed:
        seeds = f"{_or(odd)} seeds, the published ones over {_or(printed)}"
        notes.append(f"ours are means over {seeds}")
    return list(dict.fromkeys(notes))


def _or(numbers: set[int]) -> str:
    return " or ".join(map(str, sorted(numbers)))


# ---- as files -----------------------------------------------------------------------------------


def pages(against: Against) -> dict[str, bytes]:
    """against.md, against.csv and against.tex, by file name."""
    return {
        "against.md": markdown(against).encode(),
        "against.csv": csv(against).encode(),
        "against.tex": latex(against).encode(),
    }


def figures(entries: Sequence[Entry], published: Published) -> dict[str, bytes]:
    """Few-shot and corruption curves of a run with the published scores in them, by file name.

    Published is only the end of each curve: all training images, uncorrupted test images.
    """
    found = marks(entries, published)
    return curves(entries, robustness.measured(entries), found) if found else {}


def summary(against: Against) -> str:
    """How many numbers agree, in a sentence."""
    verdicts = Counter(pair.verdict for pair in against.pairs if pair.verdict)
    if not verdicts:
        return (
            f"Nothing of this run can be compared with {_table(against)}: no published model was "
            f"measured on a published task by the linear probe and the paper's protocol "
            f"({PROTOCOL})."
        )
    return (
        f"Published numbers beside ours: {verdicts.total()}; inside our 95 % interval "
        f"{verdicts['inside']}, above it {verdicts['above']}, below it {verdicts['below']}."
    )


_LINES = ("ours", "95 % interval", "published", "ours − published", "published is")


def _lines(against: Against) -> Table:
    """Of each model some rows: what it is, and a place a task."""
    rows: list[list[str]] = []
    rules = []
    for model, pairs in against.models.items():
        rules.append(len(rows))
        for n, line in enumerate(_lines_of(pairs)):
            name = against.labels.model(model) if n == 0 else ""
            rows.append([name, line, *(_cell(pair, line) for pair in pairs)])
    header = ["model", "", *against.published.source.tasks.values()]
    return Table(header, rows, rules=rules, right=range(2, len(header)))


def _lines_of(pairs: Sequence[Pair]) -> Sequence[str]:
    """The lines that say something."""
    if any(pair.verdict for pair in pairs):
        return _LINES
    ours = [line for line in _LINES[:2] if line == "ours" or any(pair.ours for pair in pairs)]
    return [*ours, "published"] if any(pair.published for pair in pairs) else ours


def _cell(pair: Pair, line: str) -> str:
    if line == "ours":
        hole = "–" if pair.hole == NOT_RUN else f"({pair.hole})"
        return score_text(pair.ours) if pair.ours else hole
    if line == "published":
        return pair.published.text() if pair.published else ""
    if line == "95 % interval":
        return "" if pair.interval is None else "{:.1f} to {:.1f}".format(*pair.interval)
    if pair.difference is None or pair.verdict is None:
        return ""
    return f"{pair.difference:+.1f}" if line == "ours − published" else pair.verdict


def _table(against: Against) -> str:
    return f"{against.published.source.scores_table} of {against.published.source.title}"


def markdown(against: Against) -> str:
    """against.md."""
    then = "\nThey are not compared.\n"
    return "\n".join(
        [
            f"# Ours beside the published: {_table(against)}\n",
            *synthetic_words(against.synthetic, "some results of this run", then),
            summary(against) + "\n",
            "## Macro F1 in percent, mean ± sd over seeds\n",
            _lines(against).markdown(),
            bullets(_how_to_read(against)),
            *listed("Not as in the paper", against.notes),
            *listed("Not compared", against.left_out),
        ]
    )


def _how_to_read(against: Against) -> list[str]:
    theirs = {name: printed_model(name, against.published) for name in against.models}
    pooled = any("/" in name for name, printed in theirs.items() if printed)
    return [
        f'Lines "published" are as printed in {_table(against)}; all others were measured in this '
        f"run, with the {PROBE} probe and protocol {PROTOCOL}.",
        '"published is" says whether the published number lies inside, above or below our 95 % '
        "interval (test patients and seeds resampled), both to one decimal. The published number "
        "is uncertain too: inside does not prove that the two are equal, and of 20 that are equal "
        "one or more may lie outside.",
        f"–: {NOT_RUN}. In brackets: why what this run has is not compared.",
        *applicable(
            (not all(theirs.values()), f'Models without a line "published" are {NOT_PUBLISHED}.'),
            (
                pooled,
                "NAME/POOLING is NAME with a pooling that was asked for; the paper does not say "
                "which it used.",
            ),
        ),
    ]


def latex(against: Against) -> str:
    """against.tex."""
    source = against.published.source
    caption = (
        f"Macro F1 (%), mean ± sd over seeds: ours ({PROBE} probe, protocol {PROTOCOL}) and the "
        f"published ({source.scores_table} of {source.title}), which lies inside, above or below "
        f"our 95 % interval. –: {NOT_RUN}; in brackets: why a number is missing."
    )
    if against.synthetic:
        caption += " SYNTHETIC results are not compared."
    return f"{NEEDS}\n{replace(_lines(against), notes=[caption], label='against').latex()}"


COLUMNS = [
    *("model", "published_model", "task", "ours_mean", "ours_sd", "low", "high", "n_seeds"),
    *("n_test", "published_mean", "published_sd", "published_n_seeds", "published_n_test"),
    *("difference", "published_is", "status"),
]


def frame(against: Against) -> pd.DataFrame:
    """Long form, one row per model and task, columns `COLUMNS`; scores in percent.

    `status` is "compared", or why one of the two is missing.
    """
    sizes = against.published.sizes_of
    rows: list[dict[str, object]] = []
    for pair in against.pairs:
        row: dict[str, object] = {
            "model": pair.model,
            "published_model": printed_model(pair.model, against.published),
            "task": pair.task,
            "difference": pair.difference,
            "published_is": pair.verdict,
            "status": pair.hole or "compared",
        }
        if pair.ours is not None and pair.interval is not None:
            numbers = (*main_score(pair.ours), *pair.interval)
            row |= dict(zip(("ours_mean", "ours_sd", "low", "high"), numbers, strict=True))
            row["n_seeds"] = len(pair.ours.scores[pair.ours.main])
            row["n_test"] = pair.ours.images["test"]
        if pair.published is not None:
            row |= {
                "published_mean": pair.published.macro_f1_mean,
                "published_sd": pair.published.macro_f1_sd,
                "published_n_seeds": pair.published.seeds,
                "published_n_test": sizes[pair.task].test if pair.task in sizes else None,
            }
        rows.append(row)
    counts = ("n_seeds", "n_test", "published_n_seeds", "published_n_test")
    return pd.DataFrame(rows, columns=COLUMNS).astype(dict.fromkeys(counts, "Int64"))


def csv(against: Against) -> str:
    """against.csv."""
    return csv_of(frame(against))
