"""`ubench report`: tables and figures of a finished run, also beside published figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ultrabench_eval.cli import data as data_root
from ultrabench_eval.cli import options, show
from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    from ultrabench_eval.report.results.entries import Entry


def report(
    run: Annotated[
        Path | None, typer.Argument(help="Results folder of `ubench run`.", show_default=False)
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Published figures to set beside the run: us-jepa, vjepa-localised."),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            help="Table of a paper with models of this run below, to paste: us-jepa. Writes "
            "table.md, .csv and .tex."
        ),
    ] = None,
    add: Annotated[
        str | None,
        typer.Option(help="Models for --table, with commas; default: all but the controls."),
    ] = None,
    names: Annotated[
        Path | None,
        typer.Option(help='Printed names of models and tasks: YAML lines `name: "In Print"`.'),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Figures: WIDTH or WIDTHxHEIGHT in inches, of a row of panels."),
    ] = None,
    font: Annotated[float | None, typer.Option(help="Figures: size of letters in points.")] = None,
    choose: Annotated[
        bool, typer.Option("--choose", help="Which encoder for me? Score, speed, size, licence.")
    ] = False,
    claims: Annotated[
        bool, typer.Option("--claims", help="Test what the US-JEPA paper says of its numbers.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="The paper's tables in their own layout.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="Data root, or 'phantom': also pictures of its images, corrupted and with their "
            "regions."
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="Compare all models with this one, and only with it: fewer tests, more power."
        ),
    ] = None,
    model_card: Annotated[
        str | None,
        typer.Option(
            "--model-card",
            metavar="MODEL",
            help="A model's results for its card on the Hugging Face hub (model-index, section).",
        ),
    ] = None,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Also write a Parquet file per CSV file.")
    ] = False,
    strip: Annotated[
        bool,
        typer.Option(
            "--strip", help="First remove the names of your own images and patients from RUN."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; default: RUN itself, without RUN runs/published or "
            "runs/pictures."
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Write tables and figures again from the stored results; nothing is encoded or trained.

    --published and --data need no run. Exit code 2: nothing was written.
    """
    if run is None and (against or not (published or claims or data)):
        raise UserError(
            "no run to report: write `ubench report RUN`, RUN being the --out of `ubench run`, or "
            "`ubench report --published`, or `ubench report --data DATA`"
        )
    if (table or add) and not (table and run):
        raise UserError("write `ubench report RUN --table us-jepa --add MODEL`: it needs all three")
    needing = {
        **{"--strip": strip, "--reference MODEL": reference},
        **{"--model-card MODEL": model_card, "--parquet": parquet},
    }
    for option, asked in needing.items():
        if asked and run is None:
            raise UserError(f"{option.split()[0]} needs a run: write `ubench report RUN {option}`")
    from ultrabench_eval.cells import Cells
    from ultrabench_eval.report import look as looks
    from ultrabench_eval.report import model_card as cards
    from ultrabench_eval.report import regenerate
    from ultrabench_eval.report.paper import against as beside
    from ultrabench_eval.report.paper import claims as ledger
    from ultrabench_eval.report.paper import mine as rows
    from ultrabench_eval.report.paper import published as paper
    from ultrabench_eval.report.paper import vjepa_localised
    from ultrabench_eval.report.results import kept
    from ultrabench_eval.report.sections import datasets

    words: list[str] = []
    look = looks.read(names, size, font)
    masks = against == vjepa_localised.NAME
    if masks and table:
        raise UserError(f"--against {against} takes no --table; write two commands")
    source = paper.find(table or (not masks and against) or paper.US_JEPA.name)
    if against and not masks and paper.find(against) != source:
        raise UserError("--table and --against must name the same paper")
    figures = paper.load(source.name) if run or claims or published else None
    cells = Cells(run) if run else None
    if strip and cells:
        for task in cells.strip():
            words.append(f"names of images and patients of {task} are taken out of {run}")
    entries = regenerate.read(cells) if cells else []
    out = out or run or Path("runs/published" if published or claims else "runs/pictures")
    made: dict[str, bytes] = {}
    models = [name.strip() for name in add.split(",")] if add else []
    with looks.looking(look):
        if figures and run:
            made |= datasets.pages(entries, figures)
        if figures and published:
            made |= paper.pages(figures)
        if cells and masks:
            side = vjepa_localised.beside(cells, entries)
            made |= vjepa_localised.pages(side)
            words.append(vjepa_localised.summary(side))
        elif figures and against:
            compared = beside.compare(entries, figures)
            made |= beside.pages(compared) | beside.figures(entries, figures)
            words += [beside.summary(compared), *compared.notes]
        if figures and claims:
            tested = ledger.judge_all(entries, figures)
            made |= ledger.pages(tested, entries, figures)
            words += ledger.summary(tested, figures, run=bool(entries))
        root = data_root.root_folder(data) if data else None
        if root:
            drawn, sentences = _pictures(root, entries, run)
            made |= drawn
            words += sentences

        if cells:
            if figures and table:
                rows.table(entries, figures, models)  # reports a mistyped model before anything
            if model_card:  # a mistyped model, too
                cards.eval_results(entries, model_card)
            regenerate.regenerate(cells, out, root, reference, parquet, entries)
            if model_card:
                made |= cards.pages(entries, model_card, kept.told(out).letters)
            if figures and table:
                pairs = regenerate.pairs(out)
                made |= rows.pages(cells, entries, figures, models, pairs)
        written = regenerate.write_files(out, made)
    if as_json:
        pages = [*show.pages(out), *written] if run else written
        told = show.results_data(out, run) if run else {"out": str(out)}
        show.json({**told, "notes": words, "files": list(dict.fromkeys(pages))})
        return
    if any(entry.synthetic for entry in entries):
        print("SYNTHETIC images are among these: they say nothing about real ultrasound")
    if figures and published:
        layout = paper.scores_layout(figures)
        print(layout.title)
        show.table(layout.header, layout.texts)
    for path in [out / "leaderboard.md", *written] if run else written:
        if path.suffix not in (".png", ".pdf"):  # a figure's three files are one line
            print(f"{path}, .png, .pdf" if path.suffix == ".svg" else path)
    for line in words:
        print(line)
    if run:
        for warning in show.warnings(out, entries, run):
            show.say(f"warning: {warning}", err=True)
        show.verdict(out)
        if choose:
            show.page(out / "choose.md")


def _pictures(
    root: Path, entries: Sequence[Entry], run: Path | None
) -> tuple[dict[str, bytes], list[str]]:
    """Pictures of a run's tasks, or of all at a data root; files by name, and what to say."""
    from rich.console import Console

    from ultrabench_eval.report.drawings import pictures
    from ultrabench_eval.report.results.entries import tasks_of

    names = tasks_of(entries) if run else None
    with Console(stderr=True).status("reading the tasks") as status:
        tasks, words = pictures.load(root, names, run)
        made = pictures.pictures(tasks, lambda what: status.update(f"drawing {what}"))
    if any(task.synthetic for task in tasks):
        words.append("SYNTHETIC images are in these pictures")
    words.append(
        "the pictures show images of the data sets: their terms hold for them (`ubench tasks NAME`)"
    )
    words.append(f"masks of region-conditioned training: usjepa figure --data {root} --out DIR")
    return made, words
