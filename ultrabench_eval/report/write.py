"""All that a results folder shows: leaderboard, conditions, statistics and figures.

Nothing here differs between two runs of the same thing (no durations, and no date but the day and
the name of the folder at the top of leaderboard.html), so the files are equal byte for byte.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from ultrabench_eval.cells import Cells
from ultrabench_eval.core.errors import UserError, did_you_mean
from ultrabench_eval.report import html
from ultrabench_eval.report.drawings import figures
from ultrabench_eval.report.results import about, degenerate, kept, standing
from ultrabench_eval.report.results.degenerate import Finding
from ultrabench_eval.report.results.entries import (
    HOLE,
    SYNTHETIC,
    Entry,
    by_probing,
    listed,
    main_metric,
    models_of,
    synthetic_words,
)
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.results.notes import doubts
from ultrabench_eval.report.sections import (
    choose,
    fewshot,
    imported,
    protocols,
    robustness,
    significance,
    speeds,
    subgroups,
    transfer,
    verdict,
)
from ultrabench_eval.report.sections.page import markdown
from ultrabench_eval.report.sections.speeds import Speed
from ultrabench_eval.report.tables.board import boards
from ultrabench_eval.report.tables.frame import COLUMNS, csv_of, frame
from ultrabench_eval.report.tables.latex import latex
from ultrabench_eval.report.tables.wide import Wide, wide

__all__ = [
    "COLUMNS",
    "HOLE",
    "SYNTHETIC",
    "Entry",
    "Wide",
    "frame",
    "latex",
    "markdown",
    "wide",
    "write",
]


def write(
    cells: Cells,
    out: Path | None = None,
    pictures: Path | None = None,
    reference: str | None = None,
    parquet: bool = False,
    entries: Sequence[Entry] | None = None,
) -> pd.DataFrame:
    """Write all pages, tables and figures of cells; return leaderboard.csv's frame.

    Files of sections that no longer exist are removed. If no cell has changed, nothing is made.

    Args:
        cells: of a run.
        out: where to; None for the folder of the cells.
        pictures: data root to take small pictures of test images from, for leaderboard.html; None:
            it names them only. A later call without it makes the page without pictures again.
        reference: model that all others are compared with; None: all pairs.
        parquet: whether each CSV file gets one of Parquet beside it. A later call without it
            removes them, so that none is older than its CSV file.
        entries: what `cells.gather` has just read; None: it is read here.

    Raises:
        UserError: the reference has no results, or Parquet files need a package that is missing.
    """
    out = out or cells.out
    entries = cells.gather() if entries is None else list(entries)
    timed, unsure = _speeds(cells.out)
    unsure = [*doubts(entries, cells.gone(entries)), *unsure]
    models = models_of(entries)
    if reference is not None and reference not in models:
        hint = did_you_mean(reference, models)
        raise UserError(f"the reference '{reference}' has no results in {cells.out}{hint}")
    parts = [*unsure, str(about.about(cells, entries))]
    if parquet:
        parts.append("parquet")
        if importlib.util.find_spec("pyarrow") is None:
            raise UserError("Parquet files need the package pyarrow; run: pip install pyarrow")
    key = kept.key(entries, parts, timed, pictures=pictures is not None, reference=reference)
    # With pictures always: the data root may hold others than before.
    if pictures is None and kept.holds(out, key):
        return frame(entries, kept.findings(out))
    evidence = Evidence(cells, entries, timed, unsure, reference)
    found = degenerate.find(evidence)
    letters = standing.letters(evidence)
    table = frame(entries, found)
    more = (protocols.section, protocols.places, transfer.section, subgroups.section)
    every = [*significance.sections(evidence), *(one(evidence) for one in more)]
    sections = {one.csv: one for one in [*every, imported.section(evidence)] if one}
    told = verdict.verdict(evidence, sections)
    made = _files(evidence, sections, told, table, letters, found, pictures, parquet)
    kept.replace(out, made, key, kept.PageNotes(found, letters, letters.reading, tuple(told)))
    return table


def _files(
    evidence: Evidence,
    by_name: Mapping[str, significance.Section],
    told: Sequence[str],
    table: pd.DataFrame,
    letters: standing.Letters,
    found: Sequence[Finding],
    pictures: Path | None,
    parquet: bool,
) -> dict[str, bytes]:
    """All files by name."""
    entries, sections = evidence.entries, [*by_name.values()]
    made = {"statistics.md": _statistics(evidence, sections, found).encode()}
    frames = {"leaderboard.csv": table} | {one.csv: one.table() for one in sections if one.rows}
    csv_links = ", ".join(_link(one.csv) for one in sections if one.rows) or "no tables"
    links = [
        f"{_link('leaderboard.html')}: one page to sort, filter, print and share, with figures, "
        "task cards, confusion matrices and where each number comes from",
        f"{_link('statistics.md')}: which models differ, how sure their order is, which tasks "
        f"separate encoders from controls ({csv_links})",
    ]
    if shots := fewshot.page(entries):
        made["fewshot.md"] = shots.encode()
        made["fewshot.tex"] = fewshot.latex(entries).encode()
        links.append(f"{_link('fewshot.md')}: scores on training subsets")
    corrupted = robustness.corrupted(evidence)
    if corrupted:
        made["robustness.md"] = robustness.page(corrupted, evidence.labels).encode()
        frames["robustness.csv"] = pd.DataFrame(robustness.rows(corrupted))
        links.append(
            f"{_link('robustness.md')}: scores on corrupted test images, and retained performance "
            f"({_link('robustness.csv')})"
        )
    made |= {name: _csv(one) for name, one in frames.items()}
    if parquet:
        made |= {f"{Path(name).stem}.parquet": _parquet(one) for name, one in frames.items()}
    drawn = figures.figures(evidence, corrupted)
    if pictures is not None:
        from ultrabench_eval.report.drawings import overlays  # here, because it imports torch

        made |= overlays.overlays(evidence, pictures)
        if masks := [name for name in made if name.startswith("figures/masks-")]:
            shown = [f"[{Path(name).stem}]({name})" for name in masks if name.endswith(".png")]
            links.append(f"masks over test images: {', '.join(shown)}")
    if drawn:
        shown = [f"[{Path(name).stem}]({name})" for name in drawn if name.endswith(".svg")]
        links.append(f"figures, also as .png and .pdf: {', '.join(shown)}")

    mains = boards(entries, letters, evidence.speeds, degenerate.unranked(found), only_main=True)
    mains = [one for one in mains if not one.probing.derived]
    if some := choose.tables(mains, entries, evidence.labels):
        made["choose.md"] = choose.page(some).encode()
        links.append(f"{_link('choose.md')}: which encoder? Score, speed, size and licence")
    board = markdown(entries, letters, links, evidence.unsure, found, told)
    page = html.page(evidence, by_name, drawn, letters, found, pictures, told)
    made |= {"leaderboard.md": board.encode(), "leaderboard.html": page.encode()}
    return made | drawn | {"leaderboard.tex": latex(entries, letters, found).encode()}


def _speeds(out: Path) -> tuple[list[Speed], list[str]]:
    """Speeds of a folder's encoders, and what is wrong with their file."""
    try:
        return speeds.read(out), []
    except UserError as error:
        return [], [str(error)]


def _link(name: str) -> str:
    return f"[{name}]({name})"


def _statistics(
    evidence: Evidence, sections: Sequence[significance.Section], found: Sequence[Finding]
) -> str:
    """statistics.md."""
    shown = dict.fromkeys(
        m.in_unit for m in map(main_metric, by_probing(evidence.entries).values())
    )
    scores = f"Scores are {' or '.join(shown)}. " if shown else ""
    parts = [
        "# Statistics\n",
        f"Of the main conditions (all training images, test images as they are). {scores}The "
        "test patients or videos (images where a task names no groups) and the seeds are taken as "
        "random: differences are tested by 10,000 swaps of whole patients between "
        "two models, orders by 10,000 resamples of patients and seeds, the same patients for every "
        "model. docs/statistics.md says how, and how often that is right.\n",
    ]
    parts += synthetic_words(evidence.labels.synthetic, "tasks marked so")
    parts += listed("Not verified", evidence.unsure)
    parts += listed(degenerate.TITLE, degenerate.sentences(found))
    parts += [section.text() for section in sections]
    return "\n".join([*parts, *listed("Left out", evidence.left_out)])


def _csv(table: pd.DataFrame) -> bytes:
    """The file's content; a text that a spreadsheet would run as a formula begins with "'"."""
    table = table.apply(lambda column: column if column.dtype.kind in "fiub" else column.map(_cell))
    return csv_of(table).encode()


def _parquet(table: pd.DataFrame) -> bytes:
    """The same table with all digits; a column of mixed kinds becomes text."""
    table = table.replace({"": None}).convert_dtypes()
    mixed = [name for name in table if table[name].dtype == object]
    out = io.BytesIO()
    table.astype(dict.fromkeys(mixed, "string")).to_parquet(out, engine="pyarrow", index=False)
    return out.getvalue()


def _cell(value: object) -> object:
    formula = isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r")
    return f"'{value}" if formula else value
