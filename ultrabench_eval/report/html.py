"""leaderboard.html: a run as one page to sort, filter, compare, print and pass on.

It needs nothing else, no network and no server: style, script, data and figures are inside, and its
own policy forbids it to load anything. The template writes what is read first (verdict, intervals,
the main table); all data are in the page once, as JSON, from which the script draws the rest when
it is asked for. Equal results of one day, in folders of one name, give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

import tasks as task_zoo
from ultrabench_eval.cells import CLASSES, Cell
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.drawings import html_drawings
from ultrabench_eval.report.results import degenerate, standing
from ultrabench_eval.report.results.about import about
from ultrabench_eval.report.results.degenerate import Finding
from ultrabench_eval.report.results.entries import (
    NOT_VERIFIED,
    SYNTHETIC_WORDS,
    Probing,
    cells_of,
    main_cells,
    models_of,
    tasks_of,
    tasks_of_kind,
)
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.results.notes import errors, mixtures, warnings
from ultrabench_eval.report.sections import choose, html_cards, html_confusion, html_origin
from ultrabench_eval.report.sections.html_examples import examples
from ultrabench_eval.report.sections.page import how_to_read, model_notes
from ultrabench_eval.report.sections.significance import Section, mean_of
from ultrabench_eval.report.tables.board import MAIN, Board, BoardScore, boards
from ultrabench_eval.report.tables.wide import wide

_TEMPLATES = resources("ultrabench_eval.report") / "templates"
_DECIMALS = 6
_SYNTHETIC = SYNTHETIC_WORDS.format("tasks marked so")
BEST, SEEN, DOUBTED = 1, 2, 4
"""Flags of a score in the page's data."""
Data = dict[str, Any]


def page(
    evidence: Evidence,
    sections: Mapping[str, Section],
    drawn: Mapping[str, bytes],
    letters: standing.Letters,
    found: Sequence[Finding],
    data: Path | None = None,
    verdict: Sequence[str] = (),
) -> str:
    """The page of a run.

    Args:
        evidence: of the results folder.
        sections: of the statistics, by the name of their CSV file.
        drawn: the run's figures, content by file name.
        letters: that models share with their ties (`standing.letters`).
        found: what is degenerate (`degenerate.find`).
        data: data root to take small pictures of test images from; None: their names are listed.
        verdict: who leads, and what that means (`verdict.verdict`).
    """
    without, entries, labels = degenerate.unranked(found), evidence.entries, evidence.labels
    made = boards(entries, letters, evidence.speeds, without)
    cells, mains = cells_of(entries), main_cells(entries)
    known = _known(evidence, made, sections)
    known["sections"] = _sections(evidence, sections, drawn, made, data)
    script = (_TEMPLATES / "leaderboard.js").read_text("utf-8")
    text: str = (
        _environment()
        .get_template("leaderboard.html.j2")
        .render(
            style=Markup((_TEMPLATES / "leaderboard.css").read_text("utf-8")),
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            about=about(evidence.cells, entries),
            versions=html_origin.versions(cells),
            data=known,
            json=_json(known),
            css=_css,
            first=known["views"][0] if made else None,
            synthetic=_SYNTHETIC if labels.synthetic else "",
            verdict=verdict,
            missing=_missing_controls(evidence, mains),
            unsure=evidence.unsure,
            findings=degenerate.sentences(found),
            findings_title=degenerate.TITLE,
            seeds=sorted({int(cell.identity["seeds"]) for cell in cells}),
            how_to_read=how_to_read(wide(entries, letters, without), mains),
            mixed=mixtures(cells),
            errors=errors(entries),
        )
    )
    return text


@cache
def _environment() -> Any:
    """Kept, because it remembers the compiled template; jinja2 is imported for reports alone."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ultrabench_eval.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = code
    return environment


def code(sentence: str) -> Markup:
    """A sentence of the Markdown pages, with what stands between backticks set as code."""
    parts = [
        Markup("<code>{}</code>").format(part) if place % 2 else Markup("{}").format(part)
        for place, part in enumerate(sentence.split("`"))
    ]
    return Markup("").join(parts)


def _json(known: Data) -> Markup:
    """As the content of a script element, which no text in it can end."""
    text = json.dumps(known, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.translate({ord(one): f"\\u{ord(one):04x}" for one in "<>&\u2028\u2029"}))


def _css(text: str) -> Markup:
    """As the content of a string in a style sheet: all but letters and digits by their numbers."""
    return Markup("".join(one if one.isalnum() else f"\\{ord(one):06x}" for one in text))


def _missing_controls(evidence: Evidence, mains: Iterable[Cell]) -> list[str]:
    """Which of the usual controls were not measured, a sentence per kind of task."""
    told = []
    by_kind = by_key((Probing.of(cell).type, cell) for cell in mains)
    for kind, cells in by_kind.items():
        measured = {*models_of(cells)}
        names = {name.partition("/")[0] for name in measured}
        random = bool(measured & evidence.labels.random)
        lacking = [
            one
            for one in Probing.of(cells[0]).controls.split(",")
            if one not in names and not (random and one.startswith("random"))
        ]
        where = "" if kind == CLASSES else f" on {tasks_of_kind(kind)}"
        if lacking and measured - evidence.labels.controls:
            told.append(
                f"Controls that were not measured{where}: {', '.join(lacking)}. This page cannot "
                "say whether an encoder is better than these; add "
                f"`--model ...,{','.join(lacking)}`."
            )
    return told


# ---- numbers ------------------------------------------------------------------------------------


def _known(evidence: Evidence, made: Sequence[Board], sections: Mapping[str, Section]) -> Data:
    """All numbers: models, tasks, a view per probe, protocol and condition, and pairs of models."""
    tasks = tasks_of(evidence.entries)
    rows = {row.model: row for board in made for row in board.rows}
    models = [*rows]
    places = {task: place for place, task in enumerate(tasks)}
    return {
        "models": [
            {
                "name": row.model,
                "marks": row.marks,
                "control": row.control,
                "saw": row.saw,
                "parameters": row.parameters,
                "licence": choose.licence(row.model),
                "speed": [row.speed.images_per_second, row.speed.text, row.speed.where]
                if row.speed
                else None,
            }
            for row in rows.values()
        ],
        "tasks": [
            {
                "name": task,
                "synthetic": task in evidence.labels.synthetic,
                "source": task_zoo.home(task_zoo.split_name(task)[0]),
            }
            for task in tasks
        ],
        "views": [_view(board, models, places) for board in made],
        "pairs": _pairs(sections["pairs.csv"], models, places),
    }


def _view(board: Board, models: Sequence[str], tasks: Mapping[str, int]) -> Data:
    columns = [*(task.name for task in board.tasks), *([board.mean] if board.mean else [])]
    ends = [
        [end for row in board.rows for end in (row.scores[c].value, *row.scores[c].interval)]
        for c in range(len(columns))
    ]
    return {
        "probing": str(board.probing),
        "kind": tasks_of_kind(board.probing.type),
        "condition": board.words,
        "main": board.condition == MAIN,
        "metric": f"{board.metric.in_unit}{board.metric.direction}",
        "title": board.metric.title,
        "unit": " points" if board.metric.unit == "%" else f" {board.metric.unit}".rstrip(),
        "places": board.metric.places,
        "rising": not board.metric.higher_is_better,
        "tasks": [tasks[task.name] for task in board.tasks],
        "without": [tasks[task.name] for task in board.tasks if task.name in board.without],
        "mean": board.mean,
        "axes": [_axis(values, board.metric) for values in ends],
        "rows": [
            [models.index(row.model), [_score(one) for one in row.scores]] for row in board.rows
        ],
    }


def _score(one: BoardScore) -> list[Any] | str | None:
    """[mean, sd, low, high, letters, flags]; the reason of a failure; None for a hole."""
    if one.value is None:
        return f"{one.text}: {one.why}" if one.why else None
    flags = one.best * BEST + one.seen * SEEN + (NOT_VERIFIED in one.text) * DOUBTED
    return [*map(_rounded, (one.value, one.sd, *one.interval)), one.letters, flags]


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(value, _DECIMALS)


def _axis(values: Iterable[float | None], metric: Metric) -> list[float]:
    """First and last mark of a scale around the values, and the step between marks."""
    some = [value for value in values if value is not None and not math.isnan(value)]
    low, high, step = html_drawings.round_range(some or [0.0, 1.0], metric)
    least, most = (metric.scale * end for end in metric.within)
    return [round(max(low, least), 9), round(min(high, most), 9), round(step, 9)]


def _pairs(section: Section, models: Sequence[str], tasks: Mapping[str, int]) -> Data:
    """By probe and protocol: [task (-1 for the mean), models a and b, difference a - b, low, high,
    Holm's p, whether they differ significantly]."""
    numbers = ("difference", "low", "high", "p_holm")
    return by_key(
        (
            str(probing),
            [
                -1 if row["task"] == mean_of(probing.type) else tasks[row["task"]],
                *(models.index(row[name]) for name in ("model_a", "model_b")),
                *(_rounded(row[name]) for name in numbers),
                int(row["told_apart"]),
            ],
        )
        for probing, row in section.rows
    )


# ---- what is opened -----------------------------------------------------------------------------


def _sections(
    evidence: Evidence,
    statistics: Mapping[str, Section],
    drawn: Mapping[str, bytes],
    made: Sequence[Board],
    data: Path | None,
) -> list[Data]:
    """Sections that the script builds when they are opened: title, lead and parts.

    A part has a "table", "svg", "list", "card", "confusion", "images" or "chart"; of one probe and
    protocol alone also "probing", of one task "task". A new section is a new line here.
    """
    labels = evidence.labels
    metrics = {board.probing: board.metric for board in made}
    titles = " or ".join(dict.fromkeys(metric.title for metric in metrics.values()))
    figures = html_drawings.drawings(drawn, evidence.main, titles)
    ranks = html_origin.rankings(statistics["ranks.csv"], labels, metrics)
    changed = html_origin.agreements(statistics.get("protocols.csv"))
    noted = warnings(main_cells(evidence.entries))
    every = [
        ("warnings", "Warnings", "", [{"table": noted}] if noted.rows else []),
        (
            *("ranks", "Ranks over tasks"),
            "How sure the order is: “first” is the share of resamples of test patients and seeds "
            "in which a model comes first. statistics.md has the tests, pairs.csv every pair of "
            "models.",
            [*({"table": t, "probing": str(p)} for p, t in ranks.items()), *figures["ranks"]],
        ),
        (
            *("cost", "Score against cost"),
            "Of the models, tasks and conditions chosen above. Images per second are of prepared "
            "images, the median of several rounds in which the encoders took turns; "
            "`ubench speed RUN` measures them.",
            [{"chart": "parameters"}, {"chart": "images/s"}],
        ),
        (
            *("fewshot", "Few-shot: scores on training subsets"),
            "Training subsets are nested and identical for all models; the test set is always "
            "complete. fewshot.md has the numbers.",
            figures["fewshot"],
        ),
        (
            *("corruption", "Corruption of the test images"),
            "Probes are trained on clean images. robustness.md has the numbers.",
            figures["corruption"],
        ),
        (
            *("protocols", "Sensitivity to the protocol"),
            "Kendall's tau is 1 if both protocols give the same order of the models, 0 if one says "
            "nothing about the other, -1 if one reverses the other. A pair with * differs "
            "significantly by one of the two protocols at least.",
            [{"table": changed}, *figures["protocols"]] if changed else [],
        ),
        *(
            (one.anchor, one.title, one.answers, [{"table": table} for table in one.tables])
            for one in statistics.values()
        ),
        ("figures", "Further figures", "", figures[""]),
        ("tasks", "Tasks", "", html_cards.cards(evidence, statistics["informativeness.csv"])),
        (
            *("confusion", "Confusion matrices"),
            "Rows: the true class; columns: the answer; percent of the true class, mean over "
            "seeds. All training images, clean test images.",
            html_confusion.confusions(evidence),
        ),
        (
            *("images", "Images on which models agree and disagree"),
            "By each model's majority vote over seeds, with the first probe and protocol that has "
            "any. If all models are wrong but predict different classes, the image counts as a "
            "disagreement as well."
            + (
                ""
                if data
                else " Only names are listed, because images have licences of their own; "
                "`ubench report RUN --data DATA` puts small pictures in."
            ),
            examples(evidence, data),
        ),
        ("origin", "Where the numbers come from", "", _origin(evidence)),
    ]
    return [
        {"id": name, "title": title, "lead": lead, "parts": [_part(one) for one in parts]}
        for name, title, lead, parts in every
        if parts
    ]


def _part(part: Data) -> Data:
    """With its table as plain data, and its figure compressed (zlib, base64)."""
    made = dict(part)
    if table := part.get("table"):
        made["table"] = {
            "title": table.title,
            "head": list(table.header),
            "rows": table.texts,
            "right": sorted(table.on_right),
            "code": sorted(table.code),
        }
    if svg := part.get("svg"):
        made["svg"] = base64.b64encode(zlib.compress(svg.encode(), 9)).decode()
    return made


def _origin(evidence: Evidence) -> list[Data]:
    cells, labels = cells_of(evidence.entries), evidence.labels
    told = (
        ("Notes on the models", model_notes(cells, labels)),
        ("Left out of the statistics", evidence.left_out),
    )
    return [
        {"table": html_origin.models(cells, labels)},
        *({"title": title, "list": list(some)} for title, some in told if some),
        *({"table": table} for table in html_origin.provenance(evidence.entries, labels)),
    ]
