"""Drawings of the page: the run's figures inline, and scores against what encoders cost."""

from __future__ import annotations

from pathlib import Path

import pytest
from html_page import read
from made_cells import cell, failure, results

from ultrabench_eval.cells import Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report import write
from ultrabench_eval.report.drawings import html_drawings
from ultrabench_eval.report.sections import speeds
from ultrabench_eval.report.tables.board import boards


def test_an_inline_drawing_keeps_its_own_ids() -> None:
    svg = (
        '<?xml version="1.0"?>\n<!DOCTYPE svg>\n<svg xmlns:xlink="http://x" width="36pt" '
        'height="18pt" viewBox="0 0 36 18" xmlns="http://y">\n<metadata>no</metadata>'
        '<!-- <b>name</b> -->\n<defs><path id="m" d="M 1.23456 2 \nL 0.5 7.9999" '
        'transform="scale(0.0625)"/></defs>\n'
        '<use xlink:href="#m" clip-path="url(#p)"/>\n</svg>\n'
    )
    assert html_drawings.inline(svg, "f1", 'a "word"').split("\n") == [
        '<svg role="img" aria-label="a &#34;word&#34;" style="--width:48px" viewBox="0 0 36 18">',
        "",
        '<defs><path id="f1-m" d="M 1.23 2 L 0.5 7.99" transform="scale(0.0625)"/></defs>',
        '<use href="#f1-m" clip-path="url(#f1-p)"/>',
        "</svg>",
    ]


def test_the_cost_chart_has_a_place_for_models_without_parameters(tmp_path: Path) -> None:
    def sized(model: str, score: float, parameters: int | None) -> object:
        one = cell(model, "aul", score)
        return one.model_copy(update={"model": {**one.model, "parameters": parameters}})

    entries = [sized("a", 0.9, 86_000_000), sized("b", 0.8, 5_000_000), sized("c", 0.4, 0)]
    entries += [sized("unknown", 0.5, None), failure("broken", "aul")]
    (board,) = boards(entries, {})  # type: ignore[arg-type]
    (chart,) = html_drawings.costs(board)  # of parameters alone: no speed was measured
    assert [tick.text for tick in chart.x_ticks] == ["none", "1 M", "10 M", "100 M"]
    at = {point.row.model: point for point in chart.points}
    assert at["c"].x < chart.x_ticks[1].at < at["b"].x < at["a"].x
    assert at["a"].y < at["b"].y < at["c"].y  # y falls on a screen
    assert chart.missing == ("unknown", "broken")
    (alone,) = boards([sized("a", 0.9, 1)], {})  # type: ignore[list-item]
    assert html_drawings.costs(alone) == []


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
    assert "images/s" not in read(tmp_path).rows[0]
    measured = [timed("good", 1234.0), timed("fair", 87.65), timed("stranger", 5.0)]
    (tmp_path / speeds.FILE).write_bytes(speeds.table(measured))
    write.write(cells)
    page = read(tmp_path)
    assert page.rows[0][-1] == "images/s"
    shown = {row[0].split()[0]: row[-1] for row in page.rows[1:4]}
    assert shown == {"good": "1,234", "fair": "87.7", "pixels": ""}
    assert "Measured on: Some GPU, torch 2.0." in page.text
    assert "Not drawn, for a score or the number of images/s is missing: pixels." in page.text
    # Other weights under the same name: their speed says nothing about these.
    (tmp_path / speeds.FILE).write_bytes(speeds.table([timed("good", 9.0, fingerprint="other")]))
    write.write(cells)
    assert "images/s" not in read(tmp_path).rows[0]


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
