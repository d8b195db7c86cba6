"""Relative robustness is corrupted over clean of the same probes, and never a mean over holes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cells import failure, guesses, made_of, put, put_test, results

from ultrabench_eval.cells import Cells, Coordinates
from ultrabench_eval.report import write
from ultrabench_eval.report.results.entries import Probing
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.sections import robustness
from ultrabench_eval.test_set import TestSet

PAPER = Probing("linear", "paper-1")


def of(cells: Cells) -> robustness.Corrupted:
    return robustness.corrupted(Evidence(cells, cells.gather()))[PAPER]


def fail(cells: Cells, at: Coordinates) -> None:
    cells.fail(failure(at.model, at.task).model_copy(update={"coordinates": at}))


def test_the_ratio_is_that_of_the_scores(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, corruptions=("blur", "shadow"))
    write.write(cells)
    table = pd.read_csv(tmp_path / "robustness.csv")
    assert len(table) == 3 * 3 * 2 * 3
    frame = write.frame(cells.gather()).query("metric == 'macro_f1'")
    scores = frame.set_index(["model", "task", "corruption", "severity"])["mean"]
    for row in table.itertuples():
        clean = scores[row.model, row.task, "none", 0]
        assert row.relative == pytest.approx(100 * row.macro_f1 / clean, abs=1e-2)
        assert row.low <= row.relative <= row.high
    assert set(table.query("corruption == 'blur'").level) == {1, 2, 3}
    assert set(table.query("corruption == 'shadow'").family) == {"physics"}
    page = (tmp_path / "robustness.md").read_text()
    assert "2 px of 224" in page
    assert "paper (blur)" in page
    assert "physics (shadow)" in page


def test_the_interval_pairs_patients_and_seeds() -> None:
    labels = np.arange(60) % 2
    test = TestSet.of_labels(labels, 2, [str(row // 3) for row in range(60)])
    clean = np.stack([guesses(labels, a, 1, 1)[0] for a in (0.3, 0.6, 0.9)])
    (same,) = robustness.keep(clean, [clean], test, "aul")
    assert same.ratio == 100
    assert same.resampled == pytest.approx(100)  # the same draws of patients and of probes


def test_nothing_right_is_nothing_to_keep() -> None:
    labels = np.arange(8) % 2
    test = TestSet.of_labels(labels, 2)
    (kept,) = robustness.keep((1 - labels)[None], [labels[None]], test, "x")
    assert np.isnan(kept.ratio)
    assert kept.text() == ""


def test_the_mean_is_never_taken_over_holes(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, corruptions=("blur",))
    fail(cells, Coordinates("fair", "aul", "paper-1", corruption="blur", severity=2))
    (tmp_path / "cells/good/mmotu/linear-paper-1-100-blur-3.json").unlink()
    found = of(cells)
    conditions = list(found.corrupted)
    assert found.mean("fair", conditions) is None
    assert found.mean("good", conditions) is None
    whole = found.mean("pixels", conditions)
    assert whole is not None
    ratios = [found.ratios["pixels", task, one].ratio for task in found.tasks for one in conditions]
    assert len(ratios) == 9
    assert whole.ratio == pytest.approx(np.mean(ratios))
    write.write(cells)
    page = (tmp_path / "robustness.md").read_text()
    summary = page.split("### Mean relative")[1].split("###")[0]
    (row,) = [line for line in summary.splitlines() if line.startswith("| fair")]
    assert row.replace("|", "").split() == ["fair"]


def test_a_failed_condition_shows_as_error_and_never_as_a_number(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, tasks=("aul",), corruptions=("blur",), fractions=(10,))
    # Beside an older cell, which it hides.
    fail(cells, Coordinates("fair", "aul", "paper-1", corruption="blur", severity=2))
    fail(cells, Coordinates("good", "aul", "paper-1", fraction=10))
    fail(cells, Coordinates("pixels", "aul", "paper-1"))
    write.write(cells)
    page = (tmp_path / "robustness.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| fair") and "| 2 " in line]
    assert len(rows) == 2
    for row in rows:
        assert row.split("|")[-2].strip() == "error"
    relative = page.split("### Relative")[1].split("###")[0]
    for row in [line for line in relative.splitlines() if line.startswith("| pixels")]:
        assert row.split("|")[-2].strip() == "error"  # its clean score is not there
    table = pd.read_csv(tmp_path / "robustness.csv")
    failed = table.query("model == 'fair' and severity == 2").iloc[0]
    assert failed.status.startswith("error: image x.png is broken")
    assert np.isnan(failed.macro_f1)
    assert np.isnan(failed.relative)
    shots = (tmp_path / "fewshot.md").read_text()
    (row,) = [x for x in shots.splitlines() if x.startswith("| good") and "| 10 %" in x]
    assert row.split("|")[-2].strip() == "error"


def test_other_probes_have_no_ratio(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    labels = np.arange(30) % 2
    put_test(cells, "aul", labels)
    put(cells, "a", "aul", guesses(labels, 0.9, 1), labels)
    worse = {"corruption": "blur", "severity": 1}
    other = made_of("other weights", "taul", 3)
    put(cells, "a", "aul", guesses(labels, 0.5, 2), labels, at=worse, identity=other)
    assert not of(cells).ratios
