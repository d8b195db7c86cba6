"""Which encoder? Ties, size, speed and licence in one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_cells import cell, guesses, put, put_test
from test_cli import ubench

from ultrabench_eval.cells import Cells
from ultrabench_eval.report import write
from ultrabench_eval.report.sections import speeds
from ultrabench_eval.report.sections.speeds import Speed

LABELS = np.array([0, 1] * 60)


def folder(out: Path, accuracies: dict[str, float], sizes: dict[str, int]) -> Cells:
    cells = Cells(out)
    put_test(cells, "aul", LABELS)
    for place, (model, accuracy) in enumerate(accuracies.items()):
        status = {"status": "control"} if model == "pixels" else {}
        known = cell(model, "aul").model | status | {"parameters": sizes.get(model, 10**6)}
        put(cells, model, "aul", guesses(LABELS, accuracy, place), LABELS, model=known)
    return cells


def test_the_smallest_and_the_fastest_of_the_ties_are_named(tmp_path: Path) -> None:
    accuracies = {"urfm": 0.95, "usfm": 0.94, "usf-mae": 0.1, "pixels": 0.96}
    cells = folder(tmp_path, accuracies, {"urfm": 86_000_000, "usfm": 5_000_000, "usf-mae": 10})
    rates = {"urfm": 900.0, "usfm": 30.0, "usf-mae": 5000.0}
    (tmp_path / speeds.FILE).write_bytes(
        speeds.table(
            Speed(
                model=model, fingerprint=f"m{model}", numerics="float32", device="cpu", threads=1,
                batch=8, images_per_second=rate, slowest=rate, fastest=rate, torch="2",
            )
            for model, rate in rates.items()
        )
    )  # fmt: skip
    write.write(cells)
    page = (tmp_path / "choose.md").read_text()
    assert "pixels" not in page  # nobody chooses a control
    assert "Not significantly different from urfm, the highest: usfm." in page
    assert "The smallest of them is usfm (5,000,000 parameters)." in page
    assert "The fastest of them is urfm (900 images/s; cpu, 1 threads, torch 2)." in page
    rows = [line for line in page.splitlines() if line.startswith("| us")]
    assert "86,000,000" in page
    assert len(rows) == 2


def test_a_clear_winner_and_missing_speeds_are_told(tmp_path: Path) -> None:
    cells = folder(tmp_path, {"a": 0.98, "b": 0.2}, {})
    done = ubench("report", str(cells.out), "--choose")
    assert done.returncode == 0, done.stderr
    assert "a is significantly better than all other encoders here." in done.stdout
    assert "Speeds were not measured: `ubench speed RUN` measures them." in done.stdout
    assert "| not known" in done.stdout  # the licence of a model of somebody's own


def test_controls_alone_make_no_page(tmp_path: Path) -> None:
    cells = folder(tmp_path, {"pixels": 0.9}, {})
    write.write(cells)
    assert not (tmp_path / "choose.md").exists()
