"""Which of several models is better on the same items, and what the test set can show at all.

All statistics are those of the reports: `Comparison` of `report.results.evidence`, and what it is
made of in `stats`. M is the number of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Any

import numpy as np

from ultrabench_eval.compare.predictions import Predicted
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError, did_you_mean
from ultrabench_eval.metrics import Metric, of_sums, of_task
from ultrabench_eval.report.results.degenerate import FEWEST, can_rank
from ultrabench_eval.report.results.entries import (
    between,
    mean_sd,
    number,
    plus_minus,
    probability,
)
from ultrabench_eval.report.results.evidence import Comparison
from ultrabench_eval.report.tables.table import Table, TableCell, plain
from ultrabench_eval.stats import ranks
from ultrabench_eval.stats.power import POWER, Power

LEVEL = 0.95
FILES = ("compare.md", "compare.tex", "compare_scores.csv", "compare_pairs.csv")


@dataclass(frozen=True)
class Compared:
    """Models on the same items. `compare` makes one."""

    comparison: Comparison
    measured: tuple[Metric, ...]
    """All that can be measured, the one that models are compared by first."""
    effect: float | None
    """A difference that is wanted, in the unit of tables."""
    power: float

    # ---- numbers --------------------------------------------------------------------------------

    @property
    def metric(self) -> Metric:
        """What models are compared by."""
        return self.measured[0]

    @property
    def models(self) -> tuple[str, ...]:
        """Names, in the order that was given."""
        return self.comparison.models

    @property
    def can_rank(self) -> bool:
        """Whether there are enough patients of each class to compare models."""
        return can_rank(self.comparison.test)

    @cached_property
    def intervals(self) -> list[dict[str, tuple[float, float]]]:
        """Of each model, by metric; as tables show them."""
        one = self.comparison
        found = []
        for answers in one.answers:
            ends = one.type.intervals(answers, one.test)
            found.append(
                {
                    metric.name: (metric.scale * low, metric.scale * high)
                    for metric in self.measured
                    for low, high in [ends.get(metric.name, (np.nan, np.nan))]
                }
            )
        return found

    @cached_property
    def scores(self) -> list[dict[str, np.ndarray]]:
        """Of each model, by metric, of its seeds [H]; as tables show them."""
        totals = [one.total() for one in self.comparison.statistics]
        return [
            {metric.name: metric.scale * of_sums(metric)(total) for metric in self.measured}
            for total in totals
        ]

    @cached_property
    def first(self) -> ranks.First:
        """Ranks, and how often each model is first, over resamples."""
        return ranks.first_share(self.metric.sign * self.comparison.resampled[:, None])

    @cached_property
    def places(self) -> list[tuple[int, int]]:
        """The pairs that are compared, the better one first."""
        order, compared = self.order, self.comparison.pairs.compared
        return [
            (a, b) for n, a in enumerate(order) for b in order[n + 1 :] if compared[a, b]
        ]  # fmt: skip

    @property
    def order(self) -> list[int]:
        """Models from best to worst."""
        scores = self.metric.sign * self.comparison.scores
        return [int(place) for place in np.argsort(-scores, kind="stable")]

    @property
    def tests(self) -> int:
        """How many pairs are corrected together."""
        models = len(self.models)
        return models - 1 if self.comparison.reference else comb(models, 2)

    @cached_property
    def planned(self) -> Power:
        """Of `places`."""
        first, second = (np.array(one) for one in zip(*self.places, strict=True))
        contest = self.comparison.contest
        return Power.of(contest, first, second, tests=self.tests, level=LEVEL, power=self.power)

    @cached_property
    def detectable(self) -> np.ndarray:
        """Of `places`, as tables show it."""
        return np.asarray(self.metric.scale * self.planned.detectable())

    @cached_property
    def needed(self) -> np.ndarray | None:
        """Of `places`: patients for `effect`; None if none is wanted."""
        if self.effect is None:
            return None
        return self.planned.needed(self.effect / self.metric.scale)

    # ---- words ----------------------------------------------------------------------------------

    @property
    def unit(self) -> str:
        """What is resampled: groups of items, or single items."""
        return "patients or videos" if self.comparison.test.groups else "items"

    @property
    def summary(self) -> str:
        """What was compared, in a line."""
        test = self.comparison.test
        groups = f" of {self.comparison.clusters.count} groups" if test.groups else ""
        seeds = sorted({len(one) for one in self.comparison.answers})
        told = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
        plural = "" if seeds == [1] else "s"
        return (
            f"{len(self.models)} models, {len(test)} items{groups}, {told} seed{plural} per model"
        )

    @property
    def warnings(self) -> list[str]:
        """What makes these numbers worth less than they look."""
        one = self.comparison
        told = []
        if not self.can_rank:
            of_class = " of each class" if one.test.kind == "class" else ""
            told.append(
                f"the test set has fewer than {FEWEST} {self.unit}{of_class}, too few to compare "
                "models; get more of them"
            )
        if one.test.groups is None:
            told.append(
                "the files have no column 'group', so every item counts as a patient of its own; "
                "if several are of one patient or video, intervals are too narrow and p-values "
                "too small: add the column"
            )
        single = [m for m, answers in zip(one.models, one.answers, strict=True) if len(answers) < 2]
        if single:
            told.append(
                f"one seed of {', '.join(single)}: nothing is known of how much another training "
                "would change the score, and intervals and p-values are without it"
            )
        return told

    @property
    def notes(self) -> list[str]:
        """How the tables are read."""
        if not self.can_rank:
            return [f"Intervals: 95 %, over test {self.unit} and seeds."]
        pairs = f"{self.tests} pair{'' if self.tests == 1 else 's'}"
        reference = self.comparison.reference
        told = [
            f"Intervals: 95 %, over test {self.unit} and seeds; ranks: over 10,000 resamples of "
            "them.",
            f"Group r: not significantly different from {reference}"
            if reference
            else "Models that share a significance group (a, b, ...) are not significantly "
            "different",
        ]
        told[-1] += f" (whole {self.unit} swapped between two models, Holm over {pairs}, 5 %)."
        told.append(
            f"Detectable: the smallest true difference that the test of this pair finds with "
            f"{100 * self.power:.0f} % probability"
            + ("." if self.tests == 1 else f", at the level of Holm's first step (5 % / {pairs}).")
        )
        if self.effect is not None:
            told.append(
                f"Needed: {self.unit} like these, for a true difference of {self.effect:g} to be "
                "found as often. 'more seeds': no number is enough with so few seeds."
            )
        return told

    # ---- tables ---------------------------------------------------------------------------------

    @property
    def scores_table(self) -> Table:
        """A row per model, from best to worst."""
        metric = self.metric
        header = ["model", "mean ± sd", "95 % interval"]
        if self.can_rank:
            header += ["significance group", "rank (95 %)", "first"]
        rows: list[list[str | TableCell]] = []
        for m in self.order:
            text = plus_minus(*mean_sd(self.scores[m][metric.name].tolist()), metric.places)
            low, high = self.intervals[m][metric.name]
            row: list[str | TableCell] = [self.models[m], text]
            row.append(
                "" if np.isnan(low) else f"{low:.{metric.places}f} to {high:.{metric.places}f}"
            )
            if self.can_rank:
                lowest, highest = self.first.rank_low[m], self.first.rank_high[m]
                row += [
                    self.comparison.pairs.letters[m],
                    f"{self.ranks[m]:g} ({lowest:g} to {highest:g})",
                    f"{100 * self.first.by_mean_score[m]:.0f} %",
                ]
            rows.append(row)
        title = f"{metric.heading}: {self.summary}"
        return Table(header, rows, title, label="scores")

    @property
    def ranks(self) -> np.ndarray:
        """Of the models, [M]."""
        return ranks.average_ranks((self.metric.sign * self.comparison.scores)[:, None])

    @property
    def pairs_table(self) -> Table:
        """A row per pair, of better models first; none where models cannot be compared."""
        places, points = self.metric.places, self.metric.in_unit
        header = ["pair", "difference (95 %)", "p", "p (Holm)", "detectable"]
        if self.effect is not None:
            header.append(f"needed for {self.effect:g}")
        rows = []
        for n, (a, b) in enumerate(self.places if self.can_rank else ()):
            found = self.comparison.pairs.row(a, b)
            row = [
                f"{self.models[a]} - {self.models[b]}",
                between(found["difference"], found["low"], found["high"], places),
                *(probability(found[p]).removeprefix("= ") for p in ("p", "p_holm")),
            ]
            if not self.planned.variance[n]:
                row += ["same predictions"] * (len(header) - len(row))
            else:
                row.append(_finite(self.detectable[n], places, "none"))
                if self.needed is not None:
                    row.append(_finite(self.needed[n], 0, "more seeds"))
            rows.append(row)
        return Table(header, rows, f"Pairs, {points}", notes=self.notes, label="pairs")

    def scores_csv(self) -> str:
        """A row per model and metric, in full."""
        return Table(_SCORE, [list(map(_full, r.values())) for r in self.scores_data()]).csv()

    def pairs_csv(self) -> str:
        """A row per pair, in full."""
        return Table(_PAIR, [list(map(_full, r.values())) for r in self.pairs_data()]).csv()

    def pairs_data(self) -> list[dict[str, Any]]:
        """Of each pair what is known, by the columns of the CSV file."""
        of, found = self.comparison.pairs, []
        for n, (a, b) in enumerate(self.places if self.can_rank else ()):
            values = [
                *(self.models[a], self.models[b], self.metric.name),
                *of.row(a, b).values(),
                bool(of.p_holm[a, b] < 1 - LEVEL),
                *(float(self.detectable[n]), self.power),
                *((None, None) if self.needed is None else (self.effect, float(self.needed[n]))),
            ]
            found.append(dict(zip(_PAIR, values, strict=True)))
        return found

    def scores_data(self) -> list[dict[str, Any]]:
        """Of each model and metric what is known, by the columns of the CSV file."""
        one, found = self.comparison, []
        for m in self.order:
            for metric in self.measured:
                values = self.scores[m][metric.name]
                row = [
                    *(self.models[m], metric.name, *mean_sd(values.tolist())),
                    *(*self.intervals[m][metric.name], len(values), len(one.test)),
                    one.clusters.count if one.test.groups else None,
                ]
                if metric is self.metric and self.can_rank:
                    first = self.first
                    row += [one.pairs.letters[m], float(self.ranks[m])]
                    row += [float(v[m]) for v in (first.rank_low, first.rank_high)]
                    row.append(float(first.by_mean_score[m]))
                found.append(dict(zip(_SCORE, [*row, *[None] * 5], strict=False)))
        return found

    def data(self) -> dict[str, Any]:
        """All that is found, as plain data; NaN and infinity as None."""
        tables = {"scores": self.scores_data(), "pairs": self.pairs_data()}
        plain_rows = {
            name: [{key: _known(value) for key, value in row.items()} for row in rows]
            for name, rows in tables.items()
        }
        told = {"compared_by": self.metric.name, "higher_is_better": self.metric.higher_is_better}
        return {**told, **plain_rows, "notes": self.notes, "warnings": self.warnings}

    def markdown(self) -> str:
        """Both tables, and what is to be known of them."""
        parts = self.scores_table.section()
        parts += self.pairs_table.section()
        told = [*(f"Warning: {one}." for one in self.warnings), *self.notes]
        return "\n".join([*parts, *(f"- {plain(one)}" for one in told), ""])

    def latex(self) -> str:
        """Both tables."""
        made = [self.scores_table, *([self.pairs_table] if self.can_rank else [])]
        return "\n".join(one.latex() for one in made)

    def write(self, folder: Path) -> list[Path]:
        """Write `FILES` into a folder; returns their paths.

        Raises:
            UserError: nothing can be written there.
        """
        files.check_writable(folder, "the folder (--out)")
        texts = (self.markdown(), self.latex(), self.scores_csv(), self.pairs_csv())
        written = []
        for name, text in zip(FILES, texts, strict=True):
            files.write_text(folder / name, text)
            written.append(folder / name)
        return written


_SCORE = [
    *("model", "metric", "mean", "sd", "low", "high", "seeds", "items", "groups"),
    *("significance_group", "rank", "rank_low", "rank_high", "first"),
]
_PAIR = [
    *("model_a", "model_b", "metric", "difference", "low", "high", "p", "p_holm", "different"),
    *("detectable", "power", "effect", "groups_for_effect"),
]


def compare(
    given: Predicted,
    *,
    metric: str | None = None,
    reference: str | None = None,
    effect: float | None = None,
    power: float = POWER,
) -> Compared:
    """Compare models on the same items.

    Args:
        given: the models (`predictions.read`).
        metric: name of what to compare by; None: macro F1 of classes, MAE of numbers, Dice of
            masks. It must be a function of sums over items, as the tests need.
        reference: the model that all others are compared with, and nothing else.
        effect: a difference that is wanted, in the unit of tables (points where it is percent).
        power: probability with which it is to be found.

    Raises:
        UserError: no such metric or model, or an effect or power that cannot be.
    """
    if reference is not None and reference not in given.models:
        near = did_you_mean(reference, given.models)
        raise UserError(f"no model '{reference}'{near} there are {', '.join(given.models)}")
    if effect is not None and not 0 < effect < np.inf:
        raise UserError(f"--effect must be above 0, not {effect:g}")
    if not 0.5 <= power < 1:
        raise UserError("--power is a probability in percent, from 50 to below 100")
    one = Comparison(
        given.test.task, given.test, given.models, [*given.answers], reference=reference
    )
    sums = [statistics.total() for statistics in one.statistics]
    known = [
        of_task(each, given.test.unit)
        for each in one.type.of_sums
        if (given.measured is None or each.name in given.measured)
        and not any(np.isnan(of_sums(each)(total)).any() for total in sums)
    ]
    name = metric or one.type.main.name
    if name not in {each.name for each in known}:
        raise UserError(
            f"no metric '{name}' of these predictions{did_you_mean(name, [k.name for k in known])} "
            f"there are {', '.join(each.name for each in known) or 'none'}"
        )
    known.sort(key=lambda each: each.name != name)
    found = Comparison(one.task, one.test, one.models, one.answers, reference=reference, by=name)
    return Compared(found, tuple(known), effect, power)


def _finite(value: float, places: int, otherwise: str) -> str:
    return number(value, places) if np.isfinite(value) else otherwise


def _known(value: object) -> object:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _full(value: object) -> str:
    """For a CSV file: as many digits as it has; nothing for what is not known."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return repr(float(value)) if isinstance(value, float) else str(value)


def names_of(given: Sequence[str]) -> dict[str, Path] | list[Path]:
    """Files of a command line: paths, or NAME=PATH for those that are to be called otherwise."""
    if not any("=" in one and not Path(one).exists() for one in given):
        return [Path(one) for one in given]
    named = {}
    for one in given:
        name, found, path = one.partition("=")
        if Path(one).exists() or not found:
            name, path = Path(one).stem, one
        if not name or not path:
            raise UserError(f"'{one}' is not valid; write a file, or NAME=FILE")
        if name in named:
            raise UserError(f"two models are called '{name}'; give each a name of its own")
        named[name] = Path(path)
    return named
