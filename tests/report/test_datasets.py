"""The table of data sets: counts of the run, beside the published ones."""

from __future__ import annotations

import io

import pandas as pd
from made_cells import cell, failure, made_of
from test_published import check_latex

from ultrabench_eval.report.paper import published
from ultrabench_eval.report.results.entries import Entry
from ultrabench_eval.report.sections import datasets
from ultrabench_eval.report.sections.datasets import Dataset

AUL = {"train": 529, "validation": 59, "test": 147}


def found(*entries: Entry) -> list[Dataset]:
    return datasets.datasets(list(entries), published.load())


def test_counts_stand_beside_the_published_ones() -> None:
    entries: list[Entry] = [
        cell("b", "my scans", 0.5),
        cell("a", "mmotu", 0.5),
        cell("a", "aul", 0.5, images=AUL),
        cell("b", "aul", 0.6, images=AUL),
        failure("a", "gbcu"),
    ]
    rows = found(*entries)
    told = {one.task: one.difference for one in rows}
    assert told == {"aul": "as published", "mmotu": "other images", "my scans": "not published"}
    assert list(told) == ["aul", "mmotu", "my scans"]
    assert rows[0].organ == "liver"
    assert rows[0].published == (529, 59, 147)
    files = datasets.pages(entries, published.load())
    page = files["datasets.md"].decode()
    assert "735" in page
    assert "Table 4 of US-JEPA" in page
    check_latex(files["datasets.tex"].decode())
    table = pd.read_csv(io.BytesIO(files["datasets.csv"]))
    assert table.total.tolist() == [735, 14, 14]
    assert table.published_train.tolist()[:2] == [529, 800]


def test_parts_of_the_training_images_are_no_data_set_and_versions_stand_apart() -> None:
    whole = cell("a", "aul", 0.5)
    part = whole.model_copy(
        update={
            "coordinates": whole.coordinates.__class__("a", "aul", "paper-1", fraction=10),
            "images": {"train": 1, "validation": 2, "test": 4},
        }
    )
    other = cell("b", "aul", 0.5, identity=made_of("mb", "other data", 1), images=AUL)
    rows = found(part, whole, other)
    assert sorted(sum(one.images) for one in rows) == [14, 735]
    assert datasets.pages([part], published.load()) == {}


def test_simulated_and_otherwise_split_tasks_are_not_compared() -> None:
    rows = found(cell("a", "aul", 0.5, synthetic=True), cell("a", "aul@rule", 0.5, images=AUL))
    assert {one.difference for one in rows} == {"not published"}
    page = datasets.pages([cell("a", "aul", 0.5, synthetic=True)], published.load())
    for name in ("datasets.md", "datasets.tex"):
        assert b"aul (SYNTHETIC)" in page[name]
    assert b"synthetic" in page["datasets.csv"]
