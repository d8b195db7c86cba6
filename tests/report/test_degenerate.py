"""Degenerate results are reported above every table, and neither ranked nor averaged."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import make_manifest
from made_cells import guesses, marked, put, put_test, results

import ultrabench_eval
from ultrabench_eval import data_warnings
from ultrabench_eval.cells import Cells
from ultrabench_eval.cli import show
from ultrabench_eval.report import write
from ultrabench_eval.report.results import degenerate, kept, standing
from ultrabench_eval.report.results.entries import Probing
from ultrabench_eval.report.results.evidence import Evidence

PAPER = Probing("linear", "paper-1")
TWO = np.arange(60) % 2
FORMATS = ("leaderboard.md", "leaderboard.html", "leaderboard.tex", "leaderboard.csv")


def plain(text: str) -> str:
    """Without the escapes of HTML, with one blank between words."""
    for escape, sign in (("&#39;", "'"), ("&#34;", '"'), ("<code>", "`"), ("</code>", "`")):
        text = text.replace(escape, sign)
    return " ".join(text.split())


def told(cells: Cells, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What each format says before its first number, and what the terminal says."""
    write.write(cells)
    texts = {name: (cells.out / name).read_text("utf-8") for name in FORMATS}
    before = {
        "leaderboard.md": texts["leaderboard.md"].split("## Macro F1")[0],
        "leaderboard.html": texts["leaderboard.html"].split("<form")[0],
        "leaderboard.tex": texts["leaderboard.tex"].split(r"\begin{table")[0],
        "leaderboard.csv": texts["leaderboard.csv"],
        "statistics.md": (cells.out / "statistics.md").read_text("utf-8").split("## Which")[0],
    }
    capsys.readouterr()
    show.results(cells.out, 0)
    before["terminal of run"] = capsys.readouterr().err
    before["terminal of report"] = "\n".join(show.warnings(cells.out, cells.gather()))
    return {name: plain(text) for name, text in before.items()}


def column(cells: Cells, task: str) -> list[str]:
    """A column of leaderboard.md."""
    page = (cells.out / "leaderboard.md").read_text().split("## Macro F1")[1]
    rows = [[text.strip() for text in line.split("|")[1:-1]] for line in page.splitlines()[2:]]
    place = next(n for n, head in enumerate(rows[0]) if head.startswith(task))
    return [row[place] for row in rows[2:] if len(row) == len(rows[0])][: len(rows)]


def is_unranked(text: str) -> bool:
    """Neither bold nor with letters."""
    return "*" not in text and not re.search("[a-z]", text)


def put_models(cells: Cells, task: str, labels: np.ndarray, *accuracies: float) -> None:
    for place, accuracy in enumerate(accuracies):
        put(cells, "abcd"[place], task, guesses(labels, accuracy, 10 + place), labels)


def put_pair(cells: Cells, *labels: np.ndarray, groups: list[str] | None = None) -> None:
    """Task "bad" and two sound ones, each with a good and a poor model."""
    for task in ("aul", "busbra"):
        put_test(cells, task, TWO)
        put_models(cells, task, TWO, 0.95, 0.1)
    put_test(cells, "bad", labels[0], groups)
    put_models(cells, "bad", labels[0], 0.95, 0.1)


def test_a_class_without_a_test_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = Cells(tmp_path)
    put_pair(cells, np.ones(60, np.int64))  # of the classes '0' and '1'
    said = "task 'bad': the test split is of one class ('1'), with no test image of class '0';"
    for name, text in told(cells, capsys).items():
        assert said in text, name
        assert "add test images of every class, or merge or drop classes" in text, name
    check_unranked(cells)


def test_two_patients_of_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = Cells(tmp_path)
    labels = np.array([0] * 40 + [1] * 20)
    groups = [f"p{row // 4}" for row in range(40)] + [f"q{row % 2}" for row in range(20)]
    put_pair(cells, labels, groups=groups)
    said = "task 'bad': the test split has 2 patients (groups) of class '1', fewer than 5;"
    for name, text in told(cells, capsys).items():
        assert said in text, name
        assert "get more patients (groups) of such a class, or merge classes" in text, name
    check_unranked(cells)


def check_unranked(cells: Cells) -> None:
    """Task "bad" takes no bold, no letters and no part in the mean of `put_pair`'s tasks."""
    entries = cells.gather()
    evidence = Evidence(cells, entries)
    found = degenerate.find(evidence)
    assert degenerate.unranked(found) == {"bad"}
    letters = standing.letters(evidence)
    assert not [at for at in letters if at.task == "bad"]
    table = write.wide(entries, letters, {"bad"})[0].table
    assert table.header == ["model", "aul", "busbra", "bad", "mean of 2 of 3 tasks"]
    assert marked(table) == {(0, 1), (0, 2), (0, 4)}
    for row in table.texts:
        assert is_unranked(row[3])
        known = [float(text.split()[0]) for text in row[1:3]]
        assert float(row[4].split()[0]) == pytest.approx(np.mean(known), abs=0.1)
        assert row[4].split()[1] == ("a" if row[0] == "a" else "b")
    for suffix in ("md", "tex"):
        text = (cells.out / f"leaderboard.{suffix}").read_text()
        assert "mean of 2 of 3 tasks" in text
    assert "Not ranked and not in the mean: bad" in (cells.out / "leaderboard.tex").read_text()
    page = (cells.out / "leaderboard.html").read_text()
    assert "mean of 2 of 3 tasks" in page
    assert "Not ranked and left out of the mean: bad" in page
    pairs = pd.read_csv(cells.out / "pairs.csv")
    assert set(pairs.task) == {"aul", "busbra", "mean of tasks"}
    assert (
        "because a class has too few test patients: bad"
        in (cells.out / "statistics.md").read_text()
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_images_are_counted_where_a_task_has_no_groups(tmp_path: Path, grouped: bool) -> None:
    labels = np.array([0] * 30 + [1] * 4)
    cells = Cells(tmp_path)
    groups = [str(row // 2) for row in range(34)] if grouped else None
    put_test(cells, "bad", labels, groups)
    kind = {"title": "bad", "groups": "patient" if grouped else "none"}
    put(cells, "a", "bad", guesses(labels, 0.9, 1), labels, task=kind)
    (one,) = degenerate.find(Evidence(cells, cells.gather()))
    assert ("2 patients of class" if grouped else "4 images of class") in one.sentence
    assert "get more " + ("patients" if grouped else "images") in one.sentence


def test_several_classes_with_few_patients_are_one_sentence(tmp_path: Path) -> None:
    labels = np.array([0] * 30 + [1] * 4 + [2])
    put_test(cells := Cells(tmp_path), "bad", labels)
    put(cells, "a", "bad", guesses(labels, 0.9, 1), labels)
    (one,) = degenerate.find(Evidence(cells, cells.gather()))
    assert "has 4 images of class '1', 1 of '2', fewer than 5 each;" in one.sentence


def test_five_patients_are_enough(tmp_path: Path) -> None:
    labels = np.array([0] * 30 + [1] * 5)
    put_test(cells := Cells(tmp_path), "aul", labels)
    put(cells, "a", "aul", guesses(labels, 0.9, 1), labels)
    assert not degenerate.find(Evidence(cells, cells.gather()))


def test_all_models_tied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = Cells(tmp_path)
    put_test(cells, "aul", TWO)
    codes = guesses(TWO, 0.8, 1)
    for model in "abc":
        put(cells, model, "aul", codes, TWO)
    said = (
        "task 'aul' (linear probe, protocol paper-1): all 3 models tie: no two differ "
        "significantly and all have the same score; nothing is bold"
    )
    for name, text in told(cells, capsys).items():
        assert said in text, name
    assert all(text.endswith(" a") and "*" not in text for text in column(cells, "aul"))
    assert r"\textbf" not in (cells.out / "leaderboard.tex").read_text()
    assert "<strong>" not in (cells.out / "leaderboard.html").read_text().split("<tbody>")[1]


def test_a_probe_that_always_says_one_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = Cells(tmp_path)
    put_test(cells, "aul", TWO)
    put(cells, "good", "aul", guesses(TWO, 0.95, 1), TWO)
    put(cells, "flat", "aul", np.zeros((3, 60), np.int64), TWO)
    once = np.stack([*guesses(TWO, 0.5, 2)[:2], np.ones(60, np.int64)])
    put(cells, "once", "aul", once, TWO)
    for name, text in told(cells, capsys).items():
        assert (
            "the probe of flat gives one answer for all test images (class '0') with 3 of 3 seeds"
        ) in text, name
        assert (
            "the probe of once gives one answer for all test images (class '1') with 1 of 3 seeds"
        ) in text, name
    with (cells.out / "leaderboard.csv").open() as file:
        rows = {row["model"]: row["warnings"] for row in csv.DictReader(file)}
    assert rows["good"] == ""
    assert "flat" in rows["flat"]
    assert "once" not in rows["flat"]


def test_a_test_image_in_training_and_an_empty_validation_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UBENCH_CACHE", str(tmp_path / "cache"))
    manifest = make_manifest(tmp_path / "shades.csv", count=180)
    rows = [line.split(",") for line in manifest.read_text().splitlines()]
    rows = [row for row in rows if row[1:3] != ["bright", "val"]]
    train = next(row for row in rows if row[2] == "train")
    test = next(row for row in rows if row[2] == "test" and row[1] == train[1])
    (tmp_path / test[0]).write_bytes((tmp_path / train[0]).read_bytes())
    manifest.write_text("".join(",".join(row) + "\n" for row in rows))
    frame = ultrabench_eval.run(
        "pixels,image-stats", manifest, seeds=1, probe="ridge", out=tmp_path / "out"
    )
    for name, text in told(Cells(tmp_path / "out"), capsys).items():
        assert "1 of 36 test images are training images as well, byte for byte" in text, name
        assert "remove them from one of the splits" in text, name
        assert "no validation image of class 'bright', so probes, thresholds and" in text, name
    assert frame.warnings.str.contains("byte for byte").all()
    assert set(frame.status) == {"ok"}


def test_images_that_differ_from_their_record_are_told(tmp_path: Path) -> None:
    put_test(cells := Cells(tmp_path), "aul", TWO)
    (note,) = data_warnings.changed(["1.png of splits.csv is no longer there; restore it"] * 2)
    put(cells, "a", "aul", guesses(TWO, 0.9, 1), TWO, notes=["as released", note])
    (one,) = degenerate.find(Evidence(cells, cells.gather()))
    assert "differ from the record of `ubench data prepare` in 2 place(s)" in one.sentence
    assert data_warnings.changed([]) == []


# ---- bold and letters ---------------------------------------------------------------------------


def test_bold_and_letters_never_contradict_each_other(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, models=("good", "fair", "pixels", "other"))
    evidence = Evidence(cells, cells.gather())
    letters = standing.letters(evidence)
    table = write.wide(evidence.entries, letters)[0].table
    assert table.header[-1] == "mean of tasks"
    for place in range(1, len(table.header)):
        shared = [set(row[place].rpartition(" ")[2]) for row in table.texts]
        assert all(shared)  # the mean has them as well
        top = max(range(len(shared)), key=lambda r: float(table.texts[r][place].split()[0]))
        alone = not any(shared[top] & one for r, one in enumerate(shared) if r != top)
        bold = {r for r, c in marked(table) if c == place}
        assert bold == ({top} if alone else set())
    assert marked(table)


def test_the_letters_of_the_mean_are_those_of_its_pairs(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, models=("good", "fair", "pixels"))
    write.write(cells)
    letters = standing.letters(Evidence(cells, cells.gather()))
    pairs = pd.read_csv(tmp_path / "pairs.csv").query("task == 'mean of tasks'")
    assert len(pairs) == 3
    for row in pairs.itertuples():
        a, b = (set(letters[standing.mean_at(str(m), PAPER)]) for m in (row.model_a, row.model_b))
        assert row.told_apart == (not a & b)


def test_a_mean_over_other_tasks_than_the_pairs_has_no_letters(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, models=("good", "pixels"))
    for path in (tmp_path / "cells" / "pixels" / "aul").iterdir():
        path.unlink()
    letters = standing.letters(Evidence(cells, cells.gather()))
    assert not [at for at in letters if at.task == standing.OVER_TASKS]


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ({"x": "a", "y": "b", "z": "c"}, "x"),
        ({"x": "a", "y": "b", "z": "b"}, "x"),
        ({"x": "a", "y": "b", "z": "a"}, None),
        ({"x": "a", "y": "ab", "z": "b"}, None),
        ({"x": "(53)", "y": "(54)", "z": "(55)"}, "x"),
        ({"x": "a", "y": "b"}, None),
        ({}, None),
    ],
)
def test_only_what_shares_no_letter_is_best(letters: dict[str, str], expected: str | None) -> None:
    scores = {"z": 1.0, "x": 3.0, "y": 2.0, "hole": float("nan")}
    assert standing.best(scores, letters) == expected
    assert standing.best(scores, letters, {"x"}) is None  # not verified


def test_what_was_found_is_kept_with_the_pages(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    put_pair(cells, np.ones(60, np.int64))
    first = write.write(cells)
    found = kept.findings(tmp_path)
    assert found == degenerate.find(Evidence(cells, cells.gather()))
    assert write.write(cells).equals(first)  # nothing is computed again
    assert first[first.task == "bad"].warnings.str.contains("no test image of class '0'").all()
