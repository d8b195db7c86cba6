"""leaderboard.html: a run as one page to sort, filter, print and pass on.

It needs nothing else, no network and no server: style, script, figures and pictures are inside, and
its own policy forbids it to load anything. What it shows is prepared here and in the modules
`html_...`; the template sets it, and escapes every text. Equal cells give equal bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files as resources
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ultrabench_eval.cells import CLASSES, Cell
from ultrabench_eval.report.drawings import html_drawings
from ultrabench_eval.report.results import degenerate, standing
from ultrabench_eval.report.results.degenerate import Finding
from ultrabench_eval.report.results.entries import (
    SYNTHETIC_WORDS,
    Labels,
    is_main,
    task_order,
    tasks_of,
)
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.results.notes import errors, mixtures, warnings
from ultrabench_eval.report.sections import html_cards, html_confusion, html_origin
from ultrabench_eval.report.sections.html_examples import Examples, examples
from ultrabench_eval.report.sections.page import how_to_read, model_notes
from ultrabench_eval.report.sections.significance import Section
from ultrabench_eval.report.tables.board import MAIN, Board, boards, words
from ultrabench_eval.report.tables.wide import Wide, wide

_TEMPLATES = resources("ultrabench_eval.report") / "templates"


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
    without = degenerate.unranked(found)
    made = boards(evidence.entries, letters, evidence.speeds, without)
    metrics = [board.metric for board in made]
    titles = " or ".join(dict.fromkeys(metric.title for metric in metrics))
    drawings = html_drawings.drawings(drawn, evidence.main, titles)
    style, script = _text("leaderboard.css"), _text("leaderboard.js")
    return _render(
        style=Markup(style),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        **_top(evidence, made, wide(evidence.entries, letters, without)),
        **_troubles(evidence),
        findings=degenerate.sentences(found),
        findings_title=degenerate.TITLE,
        verdict=verdict,
        rankings=html_origin.rankings(
            sections["ranks.csv"], evidence.labels, {board.probing: board.metric for board in made}
        ),
        costs=[
            chart
            for board in made
            if board.condition == MAIN
            for chart in html_drawings.costs(board)
        ],
        chart_size=(html_drawings.WIDTH, html_drawings.HEIGHT),
        drawings=drawings,
        further=[one for one in sections.values() if one.tables],
        agreements=html_origin.agreements(sections.get("protocols.csv"), evidence.labels),
        cards=html_cards.cards(evidence, sections["informativeness.csv"]),
        confusions=_by_task(html_confusion.confusions(evidence)),
        shades=html_confusion.SHADES,
        examples=_examples(evidence, data),
        with_data=data is not None,
        models=html_origin.models(_cells(evidence), evidence.labels),
        provenance=html_origin.provenance(evidence.entries, evidence.labels),
    )


def _render(**content: Any) -> str:
    """The template, filled."""
    text: str = _environment().get_template("leaderboard.html.j2").render(**content)
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


def _text(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _cells(evidence: Evidence) -> list[Cell]:
    return [entry for entry in evidence.entries if isinstance(entry, Cell)]


# ---- parts --------------------------------------------------------------------------------------


def _top(evidence: Evidence, made: Sequence[Board], tables: Sequence[Wide]) -> dict[str, Any]:
    """The leaderboards, and what to know before one reads them."""
    entries, labels = evidence.entries, evidence.labels
    mains = [cell for cell in _cells(evidence) if is_main(cell)]
    tasks = tasks_of(entries)
    probings = list(dict.fromkeys(board.probing for board in made))
    conditions = list(dict.fromkeys(board.condition for board in made))
    return {
        "boards": made,
        "scores_are": " or ".join(dict.fromkeys(board.metric.in_unit for board in made)),
        "probings": {probing: f"p{place}" for place, probing in enumerate(probings)},
        "conditions": {one: (f"c{place}", words(one)) for place, one in enumerate(conditions)},
        "tasks": [(task, task in labels.synthetic) for task in tasks],
        "model_names": sorted({entry.coordinates.model for entry in entries}),
        "tell_metrics": any(board.probing.type != CLASSES for board in made),
        "seeds": sorted({int(cell.identity["seeds"]) for cell in _cells(evidence)}),
        "synthetic": _synthetic(labels),
        "any_seen": any(s.seen for b in made for row in b.rows for s in row.scores),
        "timed": any(board.timed for board in made),
        "any_letters": any(s.letters for b in made for row in b.rows for s in row.scores),
        "how_to_read": how_to_read(tables, labels, mains),
    }


def _synthetic(labels: Labels) -> str:
    if not labels.synthetic:
        return ""
    return SYNTHETIC_WORDS.strip("*\n").removeprefix("SYNTHETIC: ").replace("columns", "tasks")


def _troubles(evidence: Evidence) -> dict[str, Any]:
    """What failed, what to know before a number is believed, and what is not comparable."""
    cells = _cells(evidence)
    return {
        "errors": errors(evidence.entries),
        "warnings": warnings(filter(is_main, cells)),
        "mixed": mixtures(cells),
        "unsure": evidence.unsure,
        "left_out": evidence.left_out,
        "rounding": model_notes(cells, evidence.labels),
    }


def _by_task(
    found: Sequence[html_confusion.Confusion],
) -> list[tuple[str, list[html_confusion.Confusion]]]:
    return [(task, list(group)) for task, group in groupby(found, key=lambda one: one.task)]


def _examples(evidence: Evidence, data: Path | None) -> list[Examples]:
    """Of the first probe and protocol that has any: another one would show much the same."""
    for probing, comparisons in evidence.main.items():
        run = evidence.cells.out
        found = [examples(probing, one, evidence.labels, data, run) for one in comparisons.values()]
        if any(found):
            return sorted(filter(None, found), key=lambda one: task_order(one.task))
    return []
