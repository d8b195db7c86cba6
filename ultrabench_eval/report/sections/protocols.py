"""Would another protocol have ranked the models differently?

Only where one probe was trained by two protocols or more, or networks were fine-tuned beside probes
on frozen ones. M is the number of models, R of resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ultrabench_eval.cells import CLASSES
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.degenerate import can_rank
from ultrabench_eval.report.results.entries import Labels, Probing, between, number
from ultrabench_eval.report.results.evidence import Comparison, Evidence
from ultrabench_eval.report.sections.significance import LEVEL, Row, Section, mean_of
from ultrabench_eval.report.tables.table import Table
from ultrabench_eval.stats import contrasts, ranks

_SHOWN = 6  # pairs that change order are listed up to so many a row of the page


@dataclass(frozen=True)
class Change:
    """One task (or the mean over tasks) under two protocols, for the models that both have."""

    task: str
    models: tuple[str, ...]
    scores: tuple[np.ndarray, np.ndarray]
    """[M] each, percent."""
    resampled: tuple[np.ndarray, np.ndarray]
    """[M, R] each, percent."""
    metric: Metric
    apart: np.ndarray
    """Whether a pair differs significantly by one protocol at least, [M, M]; none for a mean."""

    def only(self, models: Sequence[str]) -> Change:
        """For some of the models."""
        rows = [self.models.index(model) for model in models]
        return Change(
            self.task,
            tuple(models),
            (self.scores[0][rows], self.scores[1][rows]),
            (self.resampled[0][rows], self.resampled[1][rows]),
            self.metric,
            self.apart[np.ix_(rows, rows)],
        )

    @property
    def agreement(self) -> ranks.RankAgreement:
        """Kendall's tau of the two orders, with an interval."""
        return ranks.agreement(*self.scores, *self.resampled)

    @property
    def swapped(self) -> list[tuple[int, int]]:
        """Pairs in the order of the first protocol that stand the other way in the second."""
        first, second = (self.metric.sign * scores for scores in self.scores)
        return [
            (a, b) if first[a] > first[b] else (b, a)
            for a, b in combinations(range(len(self.models)), 2)
            if (first[a] - first[b]) * (second[a] - second[b]) < 0
        ]

    def pair(self, a: int, b: int) -> str:
        """A swapped pair in words."""
        return f"{self.models[a]} > {self.models[b]}" + ("*" if self.apart[a, b] else "")


def section(evidence: Evidence) -> Section | None:
    """The section; None if no probe has two protocols, and nothing is fine-tuned."""
    both = pairs_of_protocols(evidence)
    if not both:
        return None
    made = Section(
        "Does the order depend on the protocol?",
        "Answers whether another way to train the probe would have ranked the models differently: "
        "Kendall's tau is 1 if both protocols give the same order, 0 if one says nothing about "
        "the other, -1 if one reverses the other. Controls are expected last in any order, "
        "so tau is given without them too.",
        "protocols.csv",
    )
    for a, b in both:
        made.parts.append(f"### {words(a, b.probe, b.protocol)}\n")
        found = changes(evidence.main[a], evidence.main[b], a.type)
        if not found:
            made.parts.append("Left out: no two models were measured with both on one task.\n")
            continue
        made.parts += [
            _scores(found, (a, b), evidence.labels),
            _taus(made, found, (a, b), evidence.labels),
        ]
    if made.rows:
        made.parts.append(
            "The interval of tau is of resamples, which disturb close models further: it lies "
            "below the measured tau where models are close. A pair with * differs significantly "
            "under at least one of the two protocols; the other changes of order may be chance.\n"
        )
    return made


def pairs_of_protocols(evidence: Evidence) -> list[tuple[Probing, Probing]]:
    """Every two protocols of one probe, and of fine-tuning with each probe on frozen networks."""
    return [
        (a, b)
        for a, b in combinations(evidence.main, 2)
        if a.type == b.type and (a.probe == b.probe or a.fine_tuned != b.fine_tuned)
    ]


def words(a: Probing, probe: str, protocol: str) -> str:
    """Two protocols in words.

    Args:
        a: the first.
        probe: of the second.
        protocol: of the second.
    """
    if a.probe == probe:
        return f"{a.of_probe}: {a.protocol} and {protocol}"
    return f"{a.of_probe} ({a.protocol}) and {probe} ({protocol})"


def short(both: tuple[Probing, Probing]) -> tuple[str, str]:
    """Names of two protocols, without the digits of their settings where they differ anyway; with
    the probes where these are two."""
    a, b = (one.protocol.rsplit("-", 1)[0] for one in both)
    if both[0].probe != both[1].probe:
        return f"{both[0].probe}, {a}", f"{both[1].probe}, {b}"
    return (a, b) if a != b else (both[0].protocol, both[1].protocol)


def changes(
    first: dict[str, Comparison], second: dict[str, Comparison], kind: str = CLASSES
) -> list[Change]:
    """A change a task, and last that of the mean over the tasks that all these models have.

    Args:
        first: comparisons by task, under one protocol.
        second: the same under the other one.
        kind: of the tasks, `Probing.type`.
    """
    found = []
    for task in [task for task in first if task in second]:
        a, b = first[task], second[task]
        models = [model for model in a.models if model in b.models]
        if len(models) < 2:
            continue
        rows_a, rows_b = a.rows(models), b.rows(models)
        apart = (a.pairs.p_holm[np.ix_(rows_a, rows_a)] < 1 - LEVEL) | (
            b.pairs.p_holm[np.ix_(rows_b, rows_b)] < 1 - LEVEL
        )
        found.append(
            Change(
                task,
                tuple(models),
                (a.scores[rows_a], b.scores[rows_b]),
                (a.resampled[rows_a], b.resampled[rows_b]),
                a.metric,
                apart,
            )
        )
    every = {model for one in found for model in one.models}
    whole = [one for one in found if set(one.models) == every and can_rank(first[one.task].test)]
    if len(whole) > 1:
        found.append(_mean(mean_of(kind), whole, sorted(every)))
    return found


def _mean(name: str, whole: Sequence[Change], models: Sequence[str]) -> Change:
    aligned = [one.only(models) for one in whole]
    (a, b), (resampled_a, resampled_b) = (
        np.mean(some, axis=0)
        for some in ([one.scores for one in aligned], [one.resampled for one in aligned])
    )
    apart = np.zeros((len(models), len(models)), bool)
    resampled = resampled_a, resampled_b
    return Change(name, tuple(models), (a, b), resampled, whole[0].metric, apart)


def _scores(found: Sequence[Change], both: tuple[Probing, Probing], labels: Labels) -> str:
    """Models against tasks, the two protocols side by side."""
    names = short(both)
    overall = {
        model: score
        for change in found
        for model, score in zip(change.models, change.scores[0], strict=True)
    }  # the last one is the mean, if there is one
    metric = found[0].metric
    models = sorted(overall, key=lambda m: (m in labels.controls, -metric.sign * overall[m], m))
    header = ["model", *(f"{labels.task(c.task)}: {name}" for c in found for name in names)]
    rows = []
    for model in models:
        row = [labels.model(model)]
        for change in found:
            known = dict(zip(change.models, zip(*change.scores, strict=True), strict=True))
            row += [number(score, metric.places) for score in known.get(model, (np.nan, np.nan))]
        rows.append(row)
    return Table(header, rows).markdown()


def _taus(
    made: Section, found: Sequence[Change], both: tuple[Probing, Probing], labels: Labels
) -> str:
    """Tau and the pairs that change order, one row per task."""
    rows = []
    for change in found:
        encoders = [model for model in change.models if model not in labels.controls]
        subsets = {"all": change}
        if 2 <= len(encoders) < len(change.models):
            subsets["encoders"] = change.only(encoders)
        cells = []
        for which, one in subsets.items():
            agreement = one.agreement
            cells.append(between(agreement.tau, agreement.low, agreement.high, 2) or "all tie")
            row: Row = {
                "probe": "; ".join(dict.fromkeys(probing.probe for probing in both)),
                "protocol_a": both[0].protocol,
                "protocol_b": both[1].protocol,
                "task": change.task,
                "synthetic": change.task in labels.synthetic
                or (
                    change.task == mean_of(both[0].type)
                    and bool(labels.synthetic & {c.task for c in found})
                ),
                "models": which,
                "n_models": len(one.models),
                "tau": agreement.tau,
                "low": agreement.low,
                "high": agreement.high,
                "n_changed": len(one.swapped),
                "changed": "; ".join(one.pair(a, b) for a, b in one.swapped),
            }
            made.rows.append((both[0], row))
        swapped = change.swapped
        shown = [change.pair(a, b) for a, b in swapped[:_SHOWN]]
        if len(swapped) > _SHOWN:
            shown.append(f"and {len(swapped) - _SHOWN} more (protocols.csv)")
        count = len(change.models) * (len(change.models) - 1) // 2
        rows.append(
            [
                labels.task(change.task),
                cells[0],
                cells[1] if len(cells) > 1 else "",
                f"{len(swapped)} of {count}",
                "; ".join(shown),
            ]
        )
    header = ["task", "tau of all models (95 %)", "tau without controls (95 %)"]
    header += ["pairs that change order", f"order by {short(both)[0]}, reversed by the other"]
    return Table(header, rows).markdown()


# ---- pairs that change places -------------------------------------------------------------------


def places(evidence: Evidence) -> Section | None:
    """Which two models change places between two protocols, and whether that is more than chance.

    None if there are no two protocols.
    """
    both = pairs_of_protocols(evidence)
    made = Section(
        "Which models change places?",
        "Answers whether models whose order differs between two protocols really change places. "
        "`Change` is how much further the first is ahead of the "
        "second under the first protocol than under the second, on the same test patients (95 % "
        "over patients and seeds, not corrected for the number of pairs). It is marked * where its "
        "interval excludes 0: the two protocols then treat these models differently. An order is "
        "shown to reverse only if, besides, the two differ significantly under each protocol "
        "(pairs.csv); otherwise either order may be the true one.",
        "places.csv",
    )
    for a, b in both:
        rows = []
        for task, first in evidence.main[a].items():
            if second := evidence.main[b].get(task):
                for text, row in _turned((a, b), first, second, evidence.labels):
                    rows.append(text)
                    made.rows.append((a, row))
        if rows:
            name, other = short((a, b))
            header = ["task", "models", f"ahead by {name}", f"ahead by {other}", "change (95 %)"]
            table = Table(header, rows, words(a, b.probe, b.protocol), right=range(2, 5))
            made.parts += table.section(3)
            made.tables.append(table)
    if both and not made.parts:
        made.parts.append("None: every pair of models stands the same way round in both.\n")
    return made if both else None


def _turned(
    both: tuple[Probing, Probing], first: Comparison, second: Comparison, labels: Labels
) -> Iterator[tuple[list[str], Row]]:
    """Two models on one task that stand the other way round, the better one by the first protocol
    first: a row of the page and one of the CSV file."""
    models = [model for model in first.models if model in second.models]
    one, other = _sides(first, models), _sides(second, models)
    digits, unit = first.metric.places, first.metric.sign * first.metric.scale
    for x, y in combinations(models, 2):
        ahead = [unit * float(s[x].scores.mean() - s[y].scores.mean()) for s in (one, other)]
        if ahead[0] * ahead[1] >= 0:
            continue
        a, b = (x, y) if ahead[0] > 0 else (y, x)
        ahead = [abs(ahead[0]), -abs(ahead[1])]
        change = contrasts.interaction((one[a], one[b]), (other[a], other[b])).times(unit)
        sure = change.low > 0 or change.high < 0
        apart = [_apart(by, a, b) for by in (first, second)]
        text = [
            *(labels.task(first.task), f"{labels.model(a)} and {labels.model(b)}"),
            *(
                f"{by:+.{digits}f}{'*' if far else ''}"
                for by, far in zip(ahead, apart, strict=True)
            ),
            between(change.value, change.low, change.high, digits) + ("*" if sure else ""),
        ]
        row: Row = {
            **{"task": first.task, "synthetic": first.task in labels.synthetic},
            **{"probe_a": both[0].probe, "protocol_a": both[0].protocol},
            **{"probe_b": both[1].probe, "protocol_b": both[1].protocol},
            **{"model_1": a, "model_2": b, "ahead_a": ahead[0], "ahead_b": ahead[1]},
            **{"change": change.value, "low": change.low, "high": change.high},
            **{"sure": sure, "apart_a": apart[0], "apart_b": apart[1]},
        }
        yield text, row


def _sides(one: Comparison, models: Sequence[str]) -> dict[str, contrasts.Side]:
    return {
        model: contrasts.Side.of(
            one.type.statistics(one.answers[one.models.index(model)], one.test),
            one.clusters,
            one.of,
        )
        for model in models
    }


def _apart(one: Comparison, a: str, b: str) -> bool:
    return bool(one.pairs.p_holm[one.models.index(a), one.models.index(b)] < 1 - LEVEL)
