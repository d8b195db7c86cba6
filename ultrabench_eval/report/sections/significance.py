"""Statistics of the main conditions: which models differ, how sure their order is, and whether a
task separates encoders from controls at all.

Everything is of one probe and protocol at a time. A section that cannot be made says so in one
sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ultrabench_eval.cells import CLASSES, IMPORTED
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.degenerate import can_rank
from ultrabench_eval.report.results.entries import (
    Labels,
    Probing,
    between,
    number,
    probability,
    tasks_of_kind,
)
from ultrabench_eval.report.results.evidence import Comparison, Evidence, compared
from ultrabench_eval.report.tables.table import Table
from ultrabench_eval.stats import informativeness, paired, ranks

LEVEL = 0.95
MEAN = "mean of tasks"


def mean_of(kind: str) -> str:
    """In place of a task's name: the mean over the tasks of a kind."""
    return MEAN if kind == CLASSES else f"mean of {tasks_of_kind(kind)}"


Row = dict[str, Any]
"""Of a CSV file."""


@dataclass
class Section:
    """A section of the page and the rows of its CSV file.

    Args:
        title: of the section.
        answers: the sentence that says what it answers and how to read it.
        csv: name of the file.
    """

    title: str
    answers: str
    csv: str
    parts: list[str] = field(default_factory=list)
    rows: list[tuple[Probing, Row]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    """Of the parts, for the HTML page; only of sections that it shows as they are."""

    @property
    def anchor(self) -> str:
        """Of links to it."""
        return self.csv.removesuffix(".csv")

    def table(self) -> pd.DataFrame:
        """The rows of the CSV file; what kind of task each is of, where not all are of classes."""
        frame = pd.DataFrame([row for _, row in self.rows])
        kinds = [probing.type for probing, _ in self.rows]
        return frame if {*kinds} <= {CLASSES} else frame.assign(kind=kinds)

    def text(self) -> str:
        """As Markdown."""
        return "\n".join([f"## {self.title}\n", f"{self.answers}\n", *self.parts])


def sections(evidence: Evidence) -> list[Section]:
    """The sections that look at one protocol at a time."""
    return [pairs(evidence), rankings(evidence), informative(evidence)]


# ---- pairs --------------------------------------------------------------------------------------


def pairs(evidence: Evidence) -> Section:
    """Which two models differ on one task, and by their mean over tasks?"""
    section = Section(
        "Which models differ on a task?",
        "Tests whether two models differ by more than the choice of test patients and seeds would "
        "explain. A pair differs significantly if its p-value is below 0.05, "
        "Holm-corrected over the task's pairs of encoders (pairs with a control are corrected "
        f"separately and cost encoders no power). The {MEAN}, of those that all models have, "
        "counts as one more task: another choice of tasks is not part of its p-values. All "
        "pairs with intervals are in pairs.csv.",
        "pairs.csv",
    )
    for probing, comparisons in evidence.main.items():
        some = [c for c in comparisons.values() if len(c.models) > 1 and can_rank(c.test)]
        if lacking := [c.task for c in some if evidence.reference not in (None, *c.models)]:
            why = f"the reference {evidence.reference} has no result there"
            section.parts.append(f"Not compared, because {why}: {', '.join(lacking)}.\n")
        section.parts.append(f"### {probing}\n")
        if not some:
            section.parts.append(f"Left out: {_no_pairs(comparisons)}.\n")
            continue
        metric, labels = some[0].metric, evidence.labels
        rows = []
        for one in some:
            at, of = where(probing, one.task, labels), (one.models, one.scores, one.pairs)
            summary = _compare(section, probing, at, *of, metric, labels)
            rows.append([labels.task(one.task), *summary])
        found = ranking(comparisons)
        if found is not None and len(found.tasks) > 1:
            at = where(probing, mean_of(probing.type), labels, found.tasks)
            of = (found.models, found.scores.mean(1), over_tasks(found, comparisons))
            summary = _compare(section, probing, at, *of, metric, labels)
            rows.append([mean_of(probing.type), *summary])
        header = ["task", "best model", "not significantly different", "pairs that differ"]
        section.parts.append(Table(header, rows).markdown())
    return section


def _no_pairs(comparisons: Mapping[str, Comparison]) -> str:
    if any(len(one.models) > 1 for one in comparisons.values()):
        return f"no test set has {enough(comparisons.values())} to compare models on"
    return "no task was measured with two models"


def enough(some: Iterable[Comparison]) -> str:
    """What a test set needs for models to be compared on it."""
    return "enough patients" + (
        " of each class" if any(one.test.kind == "class" for one in some) else ""
    )


def over_tasks(found: Ranking, comparisons: Mapping[str, Comparison]) -> paired.Pairs:
    """Every model against every other by the mean over tasks."""
    return compared([comparisons[task] for task in found.tasks], found.models)


def _compare(
    section: Section,
    probing: Probing,
    at: Row,
    models: Sequence[str],
    scores: np.ndarray,
    found: paired.Pairs,
    metric: Metric,
    labels: Labels,
) -> list[str]:
    """Add the rows of all pairs, better models first; return what the page says of them."""
    order = np.argsort(-metric.sign * scores, kind="stable")
    different = found.p_holm < 1 - LEVEL
    for place, a in enumerate(order):
        for b in order[place + 1 :]:
            if found.compared[a, b]:
                row: Row = {
                    **{"model_a": models[a], "model_b": models[b]},
                    **found.row(a, b),
                    "told_apart": bool(different[a, b]),
                }
                section.rows.append((probing, at | row))
    best, *others = order
    level = found.compared & ~different
    ties = [labels.model(models[m]) for m in others if level[best, m]]
    count = int(np.triu(found.compared, k=1).sum())
    return [
        f"{labels.model(models[best])}, {number(scores[best], metric.places)}",
        ", ".join(ties) or "none",
        f"{int(different.sum()) // 2} of {count}",
    ]


# ---- ranks --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """Models on the tasks that all of them have. M models, T tasks, R resamples."""

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    scores: np.ndarray
    """[M, T], percent."""
    resampled: np.ndarray
    """[M, T, R], percent."""
    metric: Metric
    """What the scores are."""

    @property
    def better(self) -> tuple[np.ndarray, np.ndarray]:
        """`scores` and `resampled`, negated where less is better."""
        return self.metric.sign * self.scores, self.metric.sign * self.resampled


def ranking(comparisons: Mapping[str, Comparison]) -> Ranking | None:
    """The models of a probe and protocol over tasks; None if no task has all of them.

    Tasks whose test set cannot rank models are left out.
    """
    models = sorted({model for one in comparisons.values() for model in one.models})
    whole = {
        task: one
        for task, one in comparisons.items()
        if set(one.models) == set(models) and can_rank(one.test)
    }
    if not whole:
        return None
    rows = {task: one.rows(models) for task, one in whole.items()}
    return Ranking(
        tuple(models),
        tuple(whole),
        np.stack([one.scores[rows[task]] for task, one in whole.items()], axis=1),
        np.stack([one.resampled[rows[task]] for task, one in whole.items()], axis=1),
        next(iter(whole.values())).metric,
    )


def rankings(evidence: Evidence) -> Section:
    """Who is first over tasks, and how sure is it?"""
    section = Section(
        "Who is first over tasks?",
        "Answers how sure the order of the models is: ranks are averaged over the tasks that all "
        "models have, and `first` is the share of resamples (of test patients and seeds) in which "
        "a model comes first. Ranks on single tasks are in ranks.csv.",
        "ranks.csv",
    )
    for probing, comparisons in evidence.main.items():
        if probing.derived:
            continue
        section.parts.append(f"### {probing}\n")
        found = ranking(comparisons)
        if found is None or len(found.models) < 2:
            section.parts.append(f"Left out: {_no_ranking(comparisons, found)}.\n")
            continue
        _rank(section, probing, found, evidence.labels)
        kind = (probing.probe, probing.type)
        alone = sum((other.probe, other.type) == kind for other in evidence.main) == 1
        if alone and probing.probe != IMPORTED:
            more = " Add `--protocol paper,tuned`." if probing.type == CLASSES else ""
            section.parts.append(
                "This is an order under one protocol, not yet a ranking: another protocol may turn "
                f"it round.{more}\n"
            )
        passed = [task for task in comparisons if task not in found.tasks]
        if some := [task for task in passed if can_rank(comparisons[task].test)]:
            section.parts.append(
                f"Not counted, because not all models have it: {', '.join(some)}.\n"
            )
        if few := [task for task in passed if task not in some]:
            lack = "a class has" if probing.type == CLASSES else "there are"
            why = f"because {lack} too few test patients"
            section.parts.append(f"Not counted, {why}: {', '.join(few)}.\n")
    return section


def _no_ranking(comparisons: Mapping[str, Comparison], found: Ranking | None) -> str:
    if found is not None:
        return "there are fewer than two models"
    if comparisons and not any(can_rank(one.test) for one in comparisons.values()):
        return f"no test set has {enough(comparisons.values())} to rank models on"
    return "no task has all models"


def _rank(section: Section, probing: Probing, found: Ranking, labels: Labels) -> None:
    better, resampled = found.better
    first = ranks.first_share(resampled)
    mean_rank = ranks.average_ranks(better)
    mean = found.scores.mean(1)
    on_task = ranks.ranks(better)
    at = where(probing, mean_of(probing.type), labels, found.tasks)
    overall = []
    for m, model in enumerate(found.models):
        for t, task in enumerate(found.tasks):
            row: Row = {
                **where(probing, task, labels),
                "model": model,
                "score": found.scores[m, t],
                "rank": on_task[m, t],
                "first": first.on_task[m, t],
            }
            section.rows.append((probing, row))
        row = {
            **at,
            "model": model,
            "score": mean[m],
            "rank": mean_rank[m],
            **{"rank_low": first.rank_low[m], "rank_high": first.rank_high[m]},
            "first": first.by_mean_score[m],
            "first_by_mean_rank": first.by_mean_rank[m],
        }
        overall.append(row)
        section.rows.append((probing, row))
    rows = [
        [
            *rank_cells(overall[m], found.metric, labels),
            *(f"{100 * share:.0f} %" for share in first.on_task[m]),
        ]
        for m in np.lexsort((-better.mean(1), mean_rank))
    ]
    header = [*RANKS, *(f"first on {labels.task(task)}" for task in found.tasks)]
    section.parts += [Table(header, rows).markdown(), _overall_test(found) + "\n"]


RANKS = ("model", MEAN, "mean rank (95 %)", f"first by {MEAN}", "first by mean rank")


def rank_cells(row: Row, metric: Metric, labels: Labels) -> list[str]:
    """A row of a mean over tasks under the heads `RANKS`."""
    return [
        labels.model(row["model"]),
        number(row["score"], metric.places),
        between(row["rank"], row["rank_low"], row["rank_high"]),
        *(f"{100 * row[name]:.0f} %" for name in ("first", "first_by_mean_rank")),
    ]


def _overall_test(found: Ranking) -> str:
    """Friedman's test and the critical difference, in a sentence."""
    models, tasks = found.scores.shape
    if models < 3 or tasks < 2:
        return "Friedman's test is left out: it needs three models and two tasks."
    better, _ = found.better
    if (ranks.ranks(better) == (models + 1) / 2).all():
        return "Friedman's test is left out: all models tie on all tasks."
    test = ranks.friedman(better)
    distance = ranks.critical_difference(models, tasks)
    verdict = "differ" if test.p < 1 - LEVEL else "are not shown to differ"
    return (
        f"Over {tasks} tasks the {models} models {verdict} (Friedman's p {probability(test.p)}). "
        f"Nemenyi's critical difference is {distance:.2f} ranks: only models whose mean ranks lie "
        "further apart differ significantly by ranks alone. So few tasks give these tests little "
        "power: finding no difference does not prove equality."
    )


# ---- informativeness ----------------------------------------------------------------------------


def informative(evidence: Evidence) -> Section:
    """Does a task separate encoders from what has learned nothing?"""
    unit = _points(evidence)
    errors = dict.fromkeys(m.title for m in _metrics(evidence) if not m.higher_is_better)
    section = Section(
        "Does a task separate encoders from controls?",
        "Answers whether a task can show anything about encoders: the best model minus the best "
        f"control (trivial methods and random weights), in {unit} and corrected for having "
        "picked the best model, and how many independent images its test set is worth (N_eff)."
        + (f" Of {' and '.join(errors)} it is the control minus the model." if errors else ""),
        "informativeness.csv",
    )
    for probing, comparisons in evidence.main.items():
        section.parts.append(f"### {probing}\n")
        if not comparisons:
            section.parts.append("Left out: no task has predictions that can be compared.\n")
            continue
        rows, without = [], []
        for task, one in comparisons.items():
            row, gap = _informative_row(probing, one, evidence.labels)
            section.rows.append((probing, row))
            rows.append(_informative_cells(row, gap, one.metric, evidence.labels))
            without += [] if gap else [task]
        section.parts.append(Table(_INFORMATIVE, rows).markdown())
        if without:
            section.parts.append(
                "Without a control and a model above it, nothing can be said on "
                f"{', '.join(without)}: add `--model ...,{probing.controls}`.\n"
            )
    section.parts.append(
        "N_eff: images of one patient (frames of one video) are right or wrong together, so ten "
        "of them are worth less than ten images of ten patients. It is estimated from the errors "
        "of these models; with few patients it is rough.\n"
    )
    return section


_INFORMATIVE = [
    *("task", "best model", "best control", "difference", "corrected (95 %)", "the task"),
    *("test images", "patients or videos", "N_eff"),
]


_GAP = (
    *("best_model", "best_control", "difference", "optimism", "gain", "low", "high"),
    "tells_apart",
)


def _informative_row(
    probing: Probing, one: Comparison, labels: Labels
) -> tuple[Row, informativeness.Informativeness | None]:
    controls = [model for model in one.models if model in labels.controls]
    gap = None
    if 0 < len(controls) < len(one.models):
        sign = one.metric.sign
        gap = informativeness.informativeness(
            dict(zip(one.models, (sign * one.scores).tolist(), strict=True)),
            dict(zip(one.models, sign * one.resampled, strict=True)),
            controls,
        )
    found = (*astuple(gap), gap.informative) if gap else [None] * len(_GAP)
    size = one.effective
    row: Row = {
        **where(probing, one.task, labels),
        **dict(zip(_GAP, found, strict=True)),
        "images": size.images,
        "groups": None if one.test.groups is None else size.clusters,
        "design_effect": size.design_effect,
        "n_eff": size.size,
    }
    return row, gap


def _informative_cells(
    row: Row, gap: informativeness.Informativeness | None, metric: Metric, labels: Labels
) -> list[str]:
    named = [""] * 5
    if gap:
        named = [
            labels.model(gap.model),
            labels.model(gap.control),
            f"{gap.difference:+.{metric.places}f}",
            between(gap.gain, gap.low, gap.high, metric.places),
            "separates them" if gap.informative else "does not",
        ]
    return [
        labels.task(row["task"]),
        *named,
        str(row["images"]),
        "not known" if row["groups"] is None else str(row["groups"]),
        independent(row),
    ]


def independent(row: Row) -> str:
    """How many independent images a test set is worth; "" where nobody knows."""
    # Without groups nobody knows which images belong together.
    least = "" if row["groups"] else "at most "
    return "" if np.isnan(row["n_eff"]) else f"{least}{row['n_eff']:.0f}"


def _points(evidence: Evidence) -> str:
    """What differences are in: "points of macro F1"."""
    metrics = _metrics(evidence)
    units = [f"points of {m.title}" if m.unit == "%" else m.in_unit for m in metrics]
    return " or ".join(dict.fromkeys(units)) or "points"


def _metrics(evidence: Evidence) -> list[Metric]:
    return [one.metric for _, one in evidence.comparisons]


def where(probing: Probing, task: str, labels: Labels, of: Iterable[str] = ()) -> Row:
    """The first columns of CSV files.

    Args:
        probing: of the row.
        task: or the name of a mean.
        labels: of the page.
        of: the tasks of a mean.
    """
    return {
        **{"probe": probing.probe, "protocol": probing.protocol, "task": task},
        "synthetic": not labels.synthetic.isdisjoint((task, *of)),
    }
