"""The answer in sentences: who leads, by how much, and on which tasks that means anything.

All numbers are those of statistics.md; nothing is computed here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tasks.task import DOWNSCALED
from ultrabench_eval.cells import CLASSES
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import (
    Labels,
    Probing,
    capitalised,
    is_downscaled,
    number,
    probability,
    tasks_of,
    tasks_of_kind,
)
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.sections.significance import Row, Section, enough, mean_of, ranking

TITLE = "Verdict"
_NAMED = 4  # models that one sentence names


@dataclass(frozen=True)
class Standings:
    """All pairs of one probe, protocol and task, or mean over tasks."""

    where: str
    metric: Metric
    labels: Labels
    pairs: Sequence[Row]
    """Rows of pairs.csv, better models first."""
    scores: Mapping[str, float]

    @property
    def leader(self) -> str:
        """The model with the best score."""
        return str(self.pairs[0]["model_a"])

    def sentence(self) -> str:
        """Who leads, by how much, and who is level with it."""
        mine = [row for row in self.pairs if row["model_a"] == self.leader]
        level = [row for row in mine if not row["told_apart"]]
        score = number(self.scores[self.leader], self.metric.places)
        name = self.labels.model(self.leader)
        title = self.metric.title
        if level:
            best = "highest" if self.metric.sign > 0 else "lowest"
            lead = f"{self.where}, {name} has the {best} {title}, {score}{self._unit}"
            first = f"{self.labels.model(level[0]['model_b'])} ({self._behind(level[0])})"
            names = [first, *(self.labels.model(row["model_b"]) for row in level[1:])]
            verb = "are" if level[1:] else "is"
            return f"{lead}; {_listed(names)} {verb} not significantly different (5 %, Holm)"
        lead = f"{self.where}, {name} leads with {title} {score}{self._unit}"
        all_others = "all others" if mine[1:] else "the other"
        p = probability(mine[0]["p_holm"])
        return (
            f"{lead}, significantly better than {all_others}; next is "
            f"{self.labels.model(mine[0]['model_b'])} ({self._behind(mine[0])}, p {p} after "
            "Holm)"
        )

    def against(self, reference: str) -> str:
        """Who is better or worse than one model, the only one that all were compared with."""
        found: dict[str, list[str]] = {"better": [], "worse": [], "not significantly different": []}
        for row in self.pairs:
            a, b = row["model_a"], row["model_b"]
            other, word = (a, "better") if b == reference else (b, "worse")
            place = word if row["told_apart"] else "not significantly different"
            found[place].append(self.labels.model(other))
        parts = [f"{words}: {_listed(names)}" for words, names in found.items() if names]
        return f"beside {reference}, {self.where}: {'; '.join(parts)}"

    @property
    def _unit(self) -> str:
        return "" if self.metric.unit in ("", "%") else f" {self.metric.unit}"

    def _behind(self, row: Row) -> str:
        """How far a model is behind the leader, with an interval."""
        sign, places = self.metric.sign, self.metric.places
        low, high = sorted(sign * row[end] for end in ("low", "high"))
        by = sign * row["difference"]
        points = " points" if self.metric.unit == "%" else self._unit
        return (
            f"{by:.{places}f}{points} behind, 95 % interval {low:.{places}f} to {high:.{places}f}"
        )


def verdict(evidence: Evidence, sections: Mapping[str, Section]) -> list[str]:
    """Sentences, the paper's probe first; of a model by itself, which controls to add.

    Args:
        evidence: of the results folder.
        sections: of statistics.md, by the name of their CSV file.
    """
    found = _standings(evidence, sections)
    told, others, shown = [], [], set()
    for probing, by_task in found.items():
        overall = [by_task[mean_of(probing.type)]] if mean_of(probing.type) in by_task else []
        if evidence.reference:
            told += [one.against(evidence.reference) for one in (overall or by_task.values())]
        elif probing.type not in shown:
            rest = [one for one in by_task.values() if one not in overall]
            first, *more = [one.sentence() for one in [*overall, *rest]]
            told += [first if overall else f"{probing.adverb}, {first}", *more]
        else:
            others += [f"{evidence.labels.model(one.leader)} ({probing})" for one in overall]
        shown.add(probing.type)
    if others:
        told.append(f"by other probes and protocols the best mean is that of {'; '.join(others)}")
    some = [one for _, one in evidence.comparisons]
    if not found and any(len(one.models) > 1 for one in some):
        told.append(f"no two models can be compared: no test set has {enough(some)}")
    else:
        told += _controls(sections["informativeness.csv"], evidence)
    if evidence.labels.synthetic:
        names = ", ".join(sorted(evidence.labels.synthetic))
        told.append(f"SYNTHETIC, so without meaning for real ultrasound: {names}")
    if small := tasks_of(entry for entry in evidence.entries if is_downscaled(entry)):
        told.append(f"of {', '.join(small)} the images are {DOWNSCALED}: see the notes on the data")
    return [f"{capitalised(sentence)}." for sentence in told]


def _standings(
    evidence: Evidence, sections: Mapping[str, Section]
) -> dict[Probing, dict[str, Standings]]:
    """By probe and protocol, then by task."""
    labels = evidence.labels
    pairs = by_key(((probing, row["task"]), row) for probing, row in sections["pairs.csv"].rows)
    found: dict[Probing, dict[str, Standings]] = {}
    for (probing, task), rows in pairs.items():
        comparisons = evidence.main[probing]
        order = ranking(comparisons) if task == mean_of(probing.type) else None
        if order is not None:
            names = ", ".join(map(labels.task, order.tasks))
            where, metric = f"{probing.adverb}, by the mean of {names}", order.metric
            scores = dict(zip(order.models, order.scores.mean(1).tolist(), strict=True))
        else:
            one = comparisons[task]
            where, metric = f"on {labels.task(task)}", one.metric
            scores = dict(zip(one.models, one.scores.tolist(), strict=True))
        found.setdefault(probing, {})[task] = Standings(where, metric, labels, rows, scores)
    return found


def _controls(section: Section, evidence: Evidence) -> list[str]:
    """On which tasks no encoder is shown to be better than what has learned nothing."""
    labels, told = evidence.labels, []
    for kind, mine in by_key((one[0].type, one) for one in section.rows).items():
        if not any(row["best_control"] for _, row in mine):
            told.append(_without(kind, evidence))
            continue
        (first, rows), *others = by_key(mine).items()
        here = [f"{task} ({row['best_control']})" for task, row in _not_better(rows, labels)]
        counts = Counter(task for _, some in others for task, _ in _not_better(some, labels))
        elsewhere = [f"{task} ({count} of {len(others)})" for task, count in counts.items()]
        for sentence, named in (
            (first.adverb, here),
            ("by other probes and protocols", elsewhere),
        ):
            if named:
                told.append(
                    f"{sentence}, no encoder is shown to be better than the best control on "
                    f"{', '.join(named)}"
                )
    return told


def _not_better(rows: Iterable[Row], labels: Labels) -> list[tuple[str, Row]]:
    """Of a probe and protocol, the tasks where no encoder is better than the best control."""
    return [
        (labels.task(row["task"]), row)
        for row in rows
        if row["best_control"] and not row["tells_apart"]
    ]


def _without(kind: str, evidence: Evidence) -> str:
    """What is missing where no encoder is listed next to a control."""
    mine = [(probing, one) for probing, one in evidence.comparisons if probing.type == kind]
    models = {model for _, one in mine for model in one.models}
    where = "" if kind == CLASSES else f" on {tasks_of_kind(kind)}"
    if models <= evidence.labels.controls:
        return f"all models{where} are controls or have random weights: add an encoder"
    controls = mine[0][0].controls
    these = "these models" if len(models) > 1 else "this model"
    return f"no control was measured beside {these}{where}: add `--model ...,{controls}`"


def _listed(names: Sequence[str]) -> str:
    """The first of them."""
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    *front, last = [*names[:_NAMED], *more]
    return f"{', '.join(front)} and {last}" if front else last
