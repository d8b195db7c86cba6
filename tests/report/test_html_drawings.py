"""Drawings of the page: the run's figures inline, and scores against what encoders cost."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from html_page import read
from made_cells import cell, failure, results

from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report import write
from ultrabench_eval.report.drawings import figures, html_drawings
from ultrabench_eval.report.results.entries import Labels, Probing
from ultrabench_eval.report.sections import speeds
from ultrabench_eval.report.sections.significance import Ranking
from ultrabench_eval.report.tables.board import boards
from ultrabench_eval.task_types.classification import METRICS


def sized(model: str, score: float, parameters: int | None) -> Cell:
    one = cell(model, "aul", score)
    return one.model_copy(update={"model": {**one.model, "parameters": parameters}})


def test_the_cost_chart_has_a_place_for_models_without_parameters() -> None:
    entries = [sized("a", 0.9, 86_000_000), sized("b", 0.8, 5_000_000), sized("c", 0.4, 0)]
    every = [*entries, sized("unknown", 0.5, None), failure("broken", "aul")]
    (board,) = boards(every, {})
    chart = html_drawings.cost(board, html_drawings.PARAMETERS)
    assert chart is not None
    assert [tick.text for tick in chart.x_ticks] == ["none", "1 M", "10 M", "100 M"]
    at = {point.row.model: point for point in chart.points}
    assert at["c"].x < chart.x_ticks[1].at < at["b"].x < at["a"].x
    assert at["a"].y < at["b"].y < at["c"].y  # y falls on a screen
    (part,) = html_drawings.costs(board)  # of parameters alone: no speed was measured
    assert "missing: unknown, broken." in part["notes"][0]
    assert [">a</text>" in part["svg"], ">broken</text>" in part["svg"]] == [True, False]
    (alone,) = boards([sized("a", 0.9, 1)], {})
    assert html_drawings.costs(alone) == []


def test_names_in_the_cost_chart_do_not_cover_each_other() -> None:
    (board,) = boards([sized(f"m{n}", 0.5 + n / 1000, 10**6) for n in range(40)], {})
    chart = html_drawings.cost(board, html_drawings.PARAMETERS)
    assert chart is not None
    places = sorted(point.name_y for point in chart.points)
    assert min(b - a for a, b in pairwise(places)) >= 15 - 1e-6
    assert 0 < places[0] < places[-1] <= chart.height
    order = sorted(chart.points, key=lambda point: point.name_y)
    assert [one.y for one in order] == sorted(one.y for one in order)


def test_numbers_of_the_diagram_of_ranks_do_not_touch() -> None:
    models = tuple(f"us-jepa-variant-{n}/mean_prenorm" for n in range(18))
    scores = np.random.default_rng(0).normal(60, 8, (18, 4))
    found = Ranking(models, ("a", "b", "c", "d"), scores, scores[..., None], METRICS[0])
    labels = Labels(frozenset(), frozenset(models[:4]), frozenset())
    svg = figures._ranks("ranks", Probing("linear", "p-1"), found, labels)["figures/ranks.svg"]
    marked = [int(n) for n in re.findall(rb"<!-- (\d+) -->", svg)]
    assert marked == [*range(1, 18, 2)]


def timed(model: str, rate: float, **changes: object) -> speeds.Speed:
    """A speed of the model that `made_cells.cell` makes."""
    return speeds.Speed(
        model=model,
        fingerprint=f"m{model}",
        numerics="float32",
        device="Some GPU",
        threads=4,
        batch=32,
        images_per_second=rate,
        slowest=rate - 1,
        fastest=rate + 1,
        torch="2.0",
    ).model_copy(update=changes)


def test_measured_speeds_are_shown_beside_their_models_alone(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells)
    write.write(cells)

    def speeds_of() -> dict[str, str | None]:
        known = read(tmp_path).data["models"]
        return {one["name"]: one["speed"] and one["speed"][1] for one in known}

    assert speeds_of() == {"good": None, "fair": None, "pixels": None}
    measured = [timed("good", 1234.0), timed("fair", 87.65), timed("stranger", 5.0)]
    (tmp_path / speeds.FILE).write_bytes(speeds.table(measured))
    write.write(cells)
    assert speeds_of() == {"good": "1,234", "fair": "87.7", "pixels": None}
    page = read(tmp_path)
    assert "Measured on: Some GPU, torch 2.0." in page.said
    assert "because a score or the number of images/s is missing: pixels." in page.said
    # Other weights under the same name: their speed says nothing about these.
    (tmp_path / speeds.FILE).write_bytes(speeds.table([timed("good", 9.0, fingerprint="other")]))
    write.write(cells)
    assert speeds_of() == {"good": None, "fair": None, "pixels": None}


def test_a_damaged_speed_file_is_one_sentence(tmp_path: Path) -> None:
    kept = [timed("good", 12.0), timed("a,b", 3.5)]
    (tmp_path / speeds.FILE).write_bytes(speeds.table(kept))
    assert speeds.read(tmp_path) == kept
    for wrong in (
        "",
        "garbage\n",
        "model,fast\na,1\n",
        speeds.table(kept).decode().replace("3.5", "quick"),
    ):
        (tmp_path / speeds.FILE).write_text(wrong)
        with pytest.raises(UserError, match=r"speed\.csv is damaged; `ubench speed"):
            speeds.read(tmp_path)
