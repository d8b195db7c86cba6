"""Our tables go through a LaTeX compiler, where there is one, and fit on the page."""

from __future__ import annotations

from pathlib import Path

from latex import compiled
from made_cells import cell, control, failure

from ultrabench_eval.cells import Coordinates
from ultrabench_eval.report.paper import against, published
from ultrabench_eval.report.paper.published import US_JEPA
from ultrabench_eval.report.results.entries import Entry
from ultrabench_eval.report.sections import datasets
from ultrabench_eval.report.tables.latex import latex
from ultrabench_eval.report.tables.table import Table


def a_run() -> tuple[list[Entry], dict[Coordinates, str]]:
    """As wide as it gets: eight tasks, long names, letters, a hole."""
    entries: list[Entry] = []
    for row, model in enumerate([*US_JEPA.models, "hf/some_org/their-model_b", "random-vit-tiny"]):
        for task in US_JEPA.tasks:
            one = cell(model, task, 0.5 + row / 100, 0.6, synthetic=task == "tn5000")
            entries.append(one.model_copy(update={"random_weights": model == "random-vit-tiny"}))
    entries += [control("pixels", task, 0.4, 0.5) for task in US_JEPA.tasks]
    letters = {entry.coordinates: "abcd" for entry in entries}
    return [*entries, failure("border", "aul")], letters


def test_published_tables_compile(tmp_path: Path) -> None:
    paper = published.load()
    layouts = (published.scores_layout(paper), published.sizes_layout(paper))
    log = compiled(tmp_path, *(layout.latex() for layout in layouts))
    assert "Overfull" not in log


def test_tables_of_a_run_compile_and_fit(tmp_path: Path) -> None:
    entries, letters = a_run()
    paper = published.load()
    files = datasets.pages(entries, paper) | against.pages(against.compare(entries, paper))
    tables = [latex(entries, letters), latex(entries[:1])]
    tables += [content.decode() for name, content in files.items() if name.endswith(".tex")]
    log = compiled(tmp_path, *tables)
    assert "Overfull" not in log


def test_awkward_text_compiles(tmp_path: Path) -> None:
    text = r"50% & more_ {a} \c ~ ^ # $ < > ± − – [b] * '\""
    awkward = Table(["a", text, "c", "d"], [[text] * 4] * 2, text, [text])
    compiled(tmp_path, awkward.latex())


def test_letters_of_ties_are_raised() -> None:
    entries, letters = a_run()
    made = latex(entries, letters)
    assert r"$\pm$ 7.1\textsuperscript{abcd}" in made
    assert "& error " in made
