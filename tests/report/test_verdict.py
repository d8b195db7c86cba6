"""The answer in sentences, which agrees with statistics.md."""

from __future__ import annotations

from pathlib import Path

from made_cells import cell, guesses, put, put_test, results
from test_cli import ubench

from ultrabench_eval.cells import Cells
from ultrabench_eval.report import write
from ultrabench_eval.report.results import kept

LABELS = [0, 1] * 60


def verdict(cells: Cells, reference: str | None = None) -> list[str]:
    write.write(cells, reference=reference)
    told = list(kept.told(cells.out).verdict)
    page = (cells.out / "leaderboard.md").read_text()
    html = (cells.out / "leaderboard.html").read_text()
    for sentence in told:
        assert f"- {sentence}\n" in page
        assert sentence.split("`")[0].split("<")[0] in html
    return told


def folder(out: Path, accuracies: dict[str, float], tasks: tuple[str, ...] = ("aul",)) -> Cells:
    """Models that are right so often; "pixels" is a control."""
    import numpy as np

    cells, labels = Cells(out), np.array(LABELS)
    for task in tasks:
        put_test(cells, task, labels)
        for place, (model, accuracy) in enumerate(accuracies.items()):
            status = {"status": "control"} if model == "pixels" else {}
            made = cell(model, task).model | status
            put(cells, model, task, guesses(labels, accuracy, place), labels, model=made)
    return cells


def test_a_clear_leader_is_named_with_its_distance(tmp_path: Path) -> None:
    told = verdict(folder(tmp_path, {"good": 0.95, "poor": 0.2, "pixels": 0.1}))
    assert told[0].startswith("With the linear probe, protocol paper-1, on aul, good leads with ")
    assert "significantly better than all others; next is poor (" in told[0]
    assert "points behind, 95 % interval " in told[0]
    assert not any("no encoder is shown" in sentence for sentence in told)


def test_who_ties_with_the_leader_is_named(tmp_path: Path) -> None:
    told = verdict(folder(tmp_path, {"a": 0.9, "b": 0.88, "pixels": 0.87}))
    assert "not significantly different (5 %, Holm)." in told[0]
    assert "pixels (control)" in told[0]
    assert any(
        "no encoder is shown to be better than the best control on aul (pixels)" in sentence
        for sentence in told
    )


def test_a_mean_over_tasks_comes_first_and_other_protocols_are_named(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, protocols=("paper-1", "tuned-2"))
    told = verdict(cells)
    assert told[0].startswith("With the linear probe, protocol paper-1, by the mean of aul, ")
    assert [sentence.split(",")[0] for sentence in told[1:4]] == ["On aul", "On busbra", "On mmotu"]
    assert any(
        "protocol tuned-2" in s and "the best mean is that of pixels (control)" in s for s in told
    )


def test_without_a_control_the_command_that_adds_one_is_told(tmp_path: Path) -> None:
    told = verdict(folder(tmp_path, {"a": 0.9, "b": 0.5}))
    assert told[-1].startswith("No control was measured beside these models: add `--model ...,")


def test_beside_a_reference_only_what_was_compared_is_told(tmp_path: Path) -> None:
    cells = folder(tmp_path, {"good": 0.95, "same": 0.95, "poor": 0.2})
    told = verdict(cells, reference="good")
    assert told[0].startswith("Beside good, on aul: ")
    assert "worse: poor" in told[0]
    assert "leads" not in " ".join(told)


def test_nothing_is_said_of_nothing(tmp_path: Path) -> None:
    assert verdict(folder(tmp_path, {})) == []


def test_a_model_by_itself_is_told_to_add_controls(tmp_path: Path) -> None:
    (told,) = verdict(folder(tmp_path, {"a": 0.9}))
    assert told.startswith("No control was measured beside this model: add `--model ...,")


def test_synthetic_tasks_are_named(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, synthetic=True)
    told = verdict(cells)
    assert told[-1] == "SYNTHETIC, so without meaning for real ultrasound: aul, busbra, mmotu."


def test_downscaled_tasks_are_named(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, notes=["downscaled copies: the short side is at most 224 pixels"])
    told = verdict(cells)
    assert told[-1] == (
        "Of aul, busbra, mmotu the images are downscaled copies: see the notes on the data."
    )


def test_the_terminal_ends_with_it(tmp_path: Path) -> None:
    cells = folder(tmp_path, {"good": 0.95, "poor": 0.2, "pixels": 0.1})
    done = ubench("report", str(cells.out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == kept.told(cells.out).verdict[-1]
