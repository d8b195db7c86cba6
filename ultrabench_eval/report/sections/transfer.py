"""Does it hold on another set? Trained on A and tested on B, compared with each alone.

Of a pair A:B three results of a model are looked at, with the classes that the sets share: A to A
and A to B, which are scores of the same probes on two test sets of different patients, and B to B,
whose test images are those of A to B.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ultrabench_eval.cells import TRANSFER, Cell
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.results.entries import (
    Labels,
    Probing,
    between,
    capitalised,
    cells_of,
    main_cells,
    mean_sd,
    number,
    probability,
)
from ultrabench_eval.report.results.evidence import Comparison, Evidence
from ultrabench_eval.report.sections.significance import Row, Section
from ultrabench_eval.report.tables.table import Table
from ultrabench_eval.stats import contrasts, paired
from ultrabench_eval.stats.contrasts import Side
from ultrabench_eval.stats.permutation import Contest
from ultrabench_eval.task_types.classification import METRICS
from ultrabench_eval.test_set import TestSet

CSV = "transfer.csv"
_NAMELESS = re.compile(r"image \d+")
_NAN = float("nan")
_ECE = ("ece", "ece_calibrated")
_NOWHERE = (_NAN, _NAN, _NAN)


class Drop(NamedTuple):
    """Of two scores, as tables show them; NaN where it is not known."""

    value: float = _NAN
    low: float = _NAN
    high: float = _NAN
    p: float = _NAN


@dataclass(frozen=True)
class Moved:
    """One model on one pair."""

    model: str
    home: float
    """A to A."""
    away: float
    """A to B."""
    native: float
    """B to B; NaN where it was not measured."""
    lost: Drop
    """How much worse A to B is than A to A."""
    missed: Drop
    """How much worse A to B is than B to B, paired by test patients."""
    ece: dict[str, tuple[float, float, float]]
    """ECE at home, away, and the sd over seeds of their difference, in percent, by `_ECE`."""


@dataclass(frozen=True)
class Moves:
    """All models of a probe and protocol on one pair."""

    probing: Probing
    task: str
    """The pair's label."""
    trained: str
    tested: str
    """The tasks that it is compared with."""
    metric: Metric
    models: list[Moved]
    why: list[str]
    """What is not given, a sentence each."""
    controls: frozenset[str]
    """Those of the models that learned nothing about ultrasound."""


def section(evidence: Evidence) -> Section | None:
    """The section; None if nothing was trained on one set and tested on another."""
    found = list(_all(evidence))
    if not found:
        return None
    made = Section(
        "Does it hold on another set?",
        "Answers how much a score keeps when probes that were trained and tuned on one set are "
        "tested on another one, of which nothing but test images and their labels is used. `Lost`: "
        "how much worse the same probes are there than on the test set of their own; the two test "
        "sets are of different patients, so it also holds how much harder the other set is. "
        "`Missed`: how much worse they are than probes trained on the other set itself, on the "
        "same test images and paired by patients. Intervals are of 95 % over test patients and "
        "seeds; more than 0 is worse away. No mean over tasks holds any of these numbers.",
        CSV,
    )
    for one in found:
        made.parts.append(f"### {one.task}: {one.probing.probe} probe, {one.probing.protocol}\n")
        for table in _tables(one, evidence.labels):
            made.parts.append(table.markdown())
            made.tables.append(table)
        made.parts += [f"{capitalised(sentence)}.\n" for sentence in one.why]
        made.rows += [(one.probing, _row(one, model, evidence.labels)) for model in one.models]
    return made


def _all(evidence: Evidence) -> Iterator[Moves]:
    cells = by_key(
        ((Probing.of(cell), cell.coordinates.task), cell)
        for cell in main_cells(evidence.entries)
        if TRANSFER[0] in cell.task
    )
    for (probing, task), mine in cells.items():
        away = evidence.main.get(probing, {}).get(task)
        if away is None:
            continue
        trained, tested = (mine[0].task[key] for key in TRANSFER)
        home, native = (_comparison(evidence, probing, one) for one in (trained, tested))
        why = [
            f"{name} alone was not measured: `ubench run --transfer` does that"
            for name, one in ((trained, home), (tested, native))
            if one is None
        ]
        models = [
            _moved(evidence, cell, away, home, native, why)
            for cell in mine
            if cell.coordinates.model in away.models
        ]
        yield Moves(
            probing,
            task,
            trained,
            tested,
            away.metric,
            models,
            list(dict.fromkeys(why)),
            away.controls,
        )


def _comparison(evidence: Evidence, probing: Probing, task: str) -> Comparison | None:
    """The models on a task with the same probe and protocol."""
    wanted = (probing.probe, probing.protocol, task)
    every = (one for at, one in evidence.comparisons if (at.probe, at.protocol, one.task) == wanted)
    return next(every, None)


def _moved(
    evidence: Evidence,
    cell: Cell,
    away: Comparison,
    home: Comparison | None,
    native: Comparison | None,
    why: list[str],
) -> Moved:
    model, metric = cell.coordinates.model, away.metric
    mine = away.models.index(model)
    at_home, lost, ece = _NAN, Drop(), dict.fromkeys(_ECE, _NOWHERE)
    if home is not None and model in home.models:
        place = home.models.index(model)
        at_home = float(home.scores[place])
        cell_at_home = _cell(evidence, cell, home.task)
        if cell_at_home is None or _probes(cell_at_home) != _probes(cell):
            why.append(
                f"what {model} lost is not given: its probes on {home.task} are not those of "
                f"{away.task}; run both again with one command"
            )
        else:
            found = contrasts.between_sets(
                Side.of(home.statistics[place], home.clusters, away.of),
                Side.of(away.statistics[mine], away.clusters, away.of),
            )
            lost = _worse(metric, found)
            ece = {name: _calibration(cell_at_home, cell, name) for name in _ECE}
    natively, missed = _NAN, Drop()
    if native is not None and model in native.models:
        place = native.models.index(model)
        rows = _rows(native.test, away.test)
        if rows is None:
            why.append(
                f"{native.task} and {away.task} are not paired, because their test images cannot "
                "be matched; measure own data with --identifiers"
            )
        else:
            test = native.test.only(rows).model_copy(update={"groups": away.test.groups})
            both = [
                native.type.statistics(native.answers[place][:, rows], test),
                away.statistics[mine],
            ]
            contest = Contest.of(both, away.clusters, away.of, away.task, metric.higher_is_better)
            natively = metric.scale * float(contest.scores[0])
            of = paired.compare([contest]).row(0, 1)
            found = contrasts.Contrast(of["difference"], of["low"], of["high"])
            missed = _worse(metric, found, of["p"])
    return Moved(model, at_home, float(away.scores[mine]), natively, lost, missed, ece)


def _worse(metric: Metric, found: contrasts.Contrast, p: float = _NAN) -> Drop:
    """A difference in a metric's own unit as tables show it, above 0 where the second is worse."""
    shown = found.times(metric.scale * metric.sign)
    return Drop(shown.value, shown.low, shown.high, p)


def _cell(evidence: Evidence, cell: Cell, task: str) -> Cell | None:
    """The cell of another task that is else of the same coordinates."""
    wanted = replace(cell.coordinates, task=task)
    return next((one for one in cells_of(evidence.entries) if one.coordinates == wanted), None)


def _probes(cell: Cell) -> object:
    """By which two cells of the same probes are known."""
    return cell.identity["model"], cell.identity["dtype"], cell.identity["protocol"], cell.heads


def _calibration(home: Cell, away: Cell, name: str) -> tuple[float, float, float]:
    """A calibration error on both sets, and the sd over seeds of the difference; NaN where it was
    not measured."""
    if None in home.scores.get(name, [None]) or name not in away.scores:
        return _NOWHERE
    scale = next(metric.scale for metric in METRICS if metric.name == name)
    both = [scale * np.array(one.scores[name], float) for one in (home, away)]
    return float(both[0].mean()), float(both[1].mean()), mean_sd(list(both[1] - both[0]))[1]


def _rows(whole: TestSet, part: TestSet) -> list[int] | None:
    """The rows of another test set that hold the images of one; None where that cannot be told."""
    places = {name: row for row, name in enumerate(whole.names)}
    # Numbers instead of names say nothing where some images are left out.
    nameless = all(map(_NAMELESS.fullmatch, part.names)) and len(whole) != len(part)
    if nameless or not set(part.names) <= places.keys():
        return None
    rows = [places[name] for name in part.names]
    same = whole.only(rows)
    return rows if (same.labels, same.values) == (part.labels, part.values) else None


# ---- tables -------------------------------------------------------------------------------------


def _tables(one: Moves, labels: Labels) -> list[Table]:
    first, second = (
        one.task.split(":", 1) if one.task.count(":") == 1 else (one.trained, one.tested)
    )
    metric, places = one.metric, one.metric.places
    models = sorted(
        one.models, key=lambda m: (m.model in one.controls, -metric.sign * m.away, m.model)
    )
    synthetic = " (SYNTHETIC)" if one.task in labels.synthetic else ""
    rows = [
        [
            labels.model(m.model),
            number(m.home, places),
            number(m.away, places),
            _text(m.lost, places),
            number(m.native, places),
            _text(m.missed, places),
            "" if np.isnan(m.missed.p) else probability(m.missed.p).removeprefix("= "),
        ]
        for m in models
    ]
    above = sum(m.model not in one.controls for m in models)
    rules = [above] if 0 < above < len(models) else []
    home, away = f"{first} to {first}", f"{first} to {second}"
    header = ["model", home, away, "lost (95 %)"]
    header += [f"{second} to {second}", "missed (95 %)", "p"]
    where = f"{one.task}{synthetic}, {one.probing.probe} probe, {one.probing.protocol}"
    title = f"{metric.heading}: {where}"
    tables = [Table(header, rows, title, rules=rules)]
    if not all(np.isnan(m.ece[name][0]) for m in models for name in _ECE):
        rows = [
            [labels.model(m.model), *(text for name in _ECE for text in _changed(*m.ece[name]))]
            for m in models
        ]
        header = ["model", f"ECE, {home}", away, "change ± sd"]
        header += [f"calibrated on {first}: {home}", away, "change ± sd"]
        tables.append(Table(header, rows, f"Calibration error (%) ↓: {where}", rules=rules))
    return tables


def _text(one: Drop, places: int) -> str:
    """With its interval; nothing is written as -0.0."""
    value, low, high = (round(value, places) + 0.0 for value in one[:3])
    return between(value, low, high, places)


def _changed(home: float, away: float, sd: float) -> tuple[str, str, str]:
    change = "" if np.isnan(home) else f"{away - home:+.1f}"
    return number(home), number(away), change + ("" if np.isnan(sd) else f" ± {sd:.1f}")


def _row(one: Moves, m: Moved, labels: Labels) -> Row:
    row: Row = {
        "probe": one.probing.probe,
        "protocol": one.probing.protocol,
        "task": one.task,
        "trained": one.trained,
        "tested": one.tested,
        "synthetic": one.task in labels.synthetic,
        "model": m.model,
        "control": m.model in one.controls,
        "metric": one.metric.name,
        "home": m.home,
        "away": m.away,
        "lost": m.lost.value,
        "lost_low": m.lost.low,
        "lost_high": m.lost.high,
        "native": m.native,
        "missed": m.missed.value,
        "missed_low": m.missed.low,
        "missed_high": m.missed.high,
        "missed_p": m.missed.p,
    }
    for name in _ECE:
        home, away, sd = m.ece[name]
        row |= {f"{name}_home": home, f"{name}_away": away, f"{name}_change_sd": sd}
    return row
