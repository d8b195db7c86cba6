"""Figures and speeds that the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from html_page import read
from made_cells import results

from ultrabench_eval.cells import Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report import write
from ultrabench_eval.report.drawings import figures
from ultrabench_eval.report.results.entries import Labels, Probing
from ultrabench_eval.report.sections import speeds
from ultrabench_eval.report.sections.significance import Ranking
from ultrabench_eval.task_types.classification import METRICS


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
    assert "Some GPU, torch 2.0" in read(tmp_path).said
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
