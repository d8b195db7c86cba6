"""Ours beside the published: verdicts right, protocols never mixed, every hole with its reason."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from latex import check_latex
from made_cells import cell, control, failure, results
from matplotlib.figure import Figure
from test_cli import ubench

from ultrabench_eval.cells import Cell, Cells, Coordinates
from ultrabench_eval.protocol import PAPER, TUNED
from ultrabench_eval.report import write
from ultrabench_eval.report.drawings import figures
from ultrabench_eval.report.drawings.marks import marks
from ultrabench_eval.report.paper import against, published
from ultrabench_eval.report.results.entries import Entry

PROTOCOL = PAPER.id("linear")
SIZES = {"train": 529, "validation": 59, "test": 147}  # of AUL, as published


def ours(
    model: str,
    task: str,
    score: float,
    low: float,
    high: float,
    at: dict[str, object] | None = None,
    **changes: object,
) -> Cell:
    """A cell of five seeds around a score in percent, by the paper's protocol."""
    seeds = [score / 100 + step for step in (-0.01, -0.005, 0, 0.005, 0.01)]
    where = {"protocol": PROTOCOL, **(at or {})}
    return cell(model, task, *seeds).model_copy(
        update={
            "coordinates": Coordinates(model, task, **where),  # type: ignore[arg-type]
            "intervals": {"macro_f1": (low / 100, high / 100)},
            "images": SIZES,
            **changes,
        }
    )


def compare(*entries: Entry) -> against.Against:
    return against.compare(list(entries), published.load())


def pair(found: against.Against, model: str, task: str) -> against.Pair:
    (one,) = [p for p in found.models[model] if p.task == task]
    return one


# Published on AUL: USFM 61.6, URFM 71.5, US-JEPA 69.6.
PLANTED = (
    ours("usfm", "aul", 62.0, 58.0, 66.0),
    ours("urfm", "aul", 65.0, 61.0, 69.0),
    ours("us-jepa", "aul", 75.0, 71.0, 79.0),
)


def test_differences_and_verdicts_of_a_planted_run() -> None:
    found = compare(*PLANTED)
    told = {m: (pair(found, m, "aul").difference, pair(found, m, "aul").verdict) for m in
            ("usfm", "urfm", "us-jepa")}  # fmt: skip
    assert told["usfm"] == (pytest.approx(0.4), "inside")
    assert told["urfm"] == (pytest.approx(-6.5), "above")
    assert told["us-jepa"] == (pytest.approx(5.4), "below")
    assert "ours: 3; inside our 95 % interval 1, above it 1, below it 1" in against.summary(found)
    assert found.notes == []
    assert found.left_out == []


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(61.64, 70, "inside"), (61.66, 70, "below"), (50, 61.56, "inside"), (50, 61.54, "above")],
)
def test_the_verdict_is_of_the_numbers_as_printed(low: float, high: float, verdict: str) -> None:
    found = compare(ours("usfm", "aul", 62, low, high))
    assert pair(found, "usfm", "aul").verdict == verdict


def test_all_models_and_tasks_have_a_place_and_holes_say_why() -> None:
    found = compare(*PLANTED, control("pixels", "aul", 0.3))
    assert list(found.models) == list(published.US_JEPA.models)  # pixels: another protocol
    assert all([p.task for p in pairs] == list(published.US_JEPA.tasks) for pairs in
               found.models.values())  # fmt: skip
    assert pair(found, "dinov3", "aul").hole == "not in this run"
    assert pair(found, "usfm", "mmotu").hole == "not in this run"
    page = against.markdown(found)
    (row,) = [line for line in page.splitlines() if line.startswith("| usfm ")]
    assert [text.strip() for text in row.split("|")[2:6]] == ["ours", "62.0 ± 0.8", "–", "–"]
    assert "–: not in this run" in page
    assert "58.0 to 66.0" in page
    assert "another protocol: 1 cell (pixels on aul)" in page


def test_our_own_models_stand_below_without_a_published_line() -> None:
    mine = ours("mine", "aul", 50, 45, 55)
    control = ours("a-control", "aul", 40, 35, 45, random_weights=True)
    found = compare(mine, control, *PLANTED)
    assert list(found.models)[-2:] == ["mine", "a-control"]
    assert pair(found, "mine", "aul").hole == "not in the paper"
    assert pair(found, "mine", "aul").verdict is None
    page = against.markdown(found)
    lines = page.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| mine"))
    assert "95 % interval" in lines[start + 1]
    assert lines[start + 2].startswith("| a-control [random weights] (control)")
    assert 'without a line "published" are not in the paper' in page


@pytest.mark.parametrize(
    ("at", "changes", "reason"),
    [
        ({"protocol": TUNED.id("linear")}, {}, "another protocol"),
        ({"protocol": "paper-00000000"}, {}, "another protocol"),
        ({"protocol": PAPER.id("knn"), "probe": "knn"}, {}, "another probe"),
        ({}, {"synthetic": True}, "SYNTHETIC"),
        ({}, {"random_weights": True}, "random weights"),
    ],
)
def test_nothing_else_is_ever_compared(
    at: dict[str, object], changes: dict[str, object], reason: str
) -> None:
    found = compare(ours("usfm", "aul", 62, 58, 66, at, **changes))
    one = pair(found, "usfm", "aul")
    assert one.ours is None
    assert one.hole == reason
    assert not any(p.verdict for p in found.pairs)
    assert "Nothing of this run can be compared" in against.summary(found)
    page = against.markdown(found)
    assert "62.0" not in page
    assert f"({reason})" in page
    assert f"{reason}: 1 cell (usfm" in page
    assert ("SYNTHETIC: some results of this run are simulated" in page) == (reason == "SYNTHETIC")


def test_other_splits_tasks_conditions_and_errors_are_left_out_with_a_sentence() -> None:
    broken = failure("urfm", "aul").model_copy(
        update={"coordinates": Coordinates("urfm", "aul", PROTOCOL)}
    )
    found = compare(
        ours("usfm", "aul@rule", 62, 58, 66),
        ours("usfm", "shades", 62, 58, 66),
        ours("usfm", "mmotu", 33, 30, 36, {"fraction": 10}),
        ours("usfm", "mmotu", 33, 30, 36, {"corruption": "blur", "severity": 1}),
        broken,
        ours("urfm", "aul", 62, 58, 66, {"protocol": PAPER.id("knn"), "probe": "knn"}),
    )
    assert pair(found, "usfm", "aul").hole == "other splits"
    assert pair(found, "usfm", "mmotu").hole == "not in this run"
    assert pair(found, "urfm", "aul").hole == "error"  # closer to a number than another probe
    said = " ".join(found.left_out)
    for words in (
        *("not published: 1 cell (usfm on shades)", "other splits: 1 cell (usfm on aul@rule)"),
        *("another condition: 2 cells (usfm on mmotu)", "error: 1 cell (urfm on aul)"),
        "another probe: 1 cell",
    ):
        assert words in said
    assert not any(p.verdict for p in found.pairs)


def test_what_is_not_the_papers_is_noted() -> None:
    images = {"train": 500, "validation": 59, "test": 147}
    few = ours("usfm", "aul", 62, 58, 66, images=images)
    few = few.model_copy(update={"scores": {"macro_f1": [0.61, 0.63]}})
    found = compare(few)
    assert found.notes == [
        "aul: not the paper's images: 500 / 59 / 147 for train, validation and test, the paper "
        "has 529 / 59 / 147",
        "ours are means over 2 seeds, the published ones over 5",
    ]
    assert found.notes[0] in against.markdown(found)


def test_another_pooling_is_a_row_of_its_own() -> None:
    found = compare(ours("usfm", "aul", 62, 58, 66), ours("usfm/cls", "aul", 50, 45, 55))
    assert list(found.models)[6:8] == ["usfm", "usfm/cls"]
    assert pair(found, "usfm/cls", "aul").verdict == "above"
    assert "NAME/POOLING" in against.markdown(found)


def test_csv_reads_back_and_latex_is_sound() -> None:
    found = compare(*PLANTED, ours("my_model", "aul", 50, 45, 55))
    frame = against.frame(found)
    again = pd.read_csv(io.StringIO(against.csv(found)))
    assert list(again) == against.COLUMNS
    assert len(again) == 11 * 8
    for column in ("ours_mean", "low", "high", "published_mean", "difference"):
        assert np.allclose(
            again[column].astype(float), frame[column].astype(float), atol=5e-5, equal_nan=True
        )
    row = again[(again.model == "urfm") & (again.task == "aul")].iloc[0]
    assert (row.published_is, row.status, row.n_seeds) == ("above", "compared", 5)
    assert (row.published_mean, row.published_n_test) == (71.5, 147)
    assert set(again[again.model == "dinov3"].status) == {"not in this run"}
    check_latex(against.latex(found))


# ---- the command --------------------------------------------------------------------------------


def planted(out: Path, **changes: object) -> Cells:
    cells = Cells(out)
    results(cells, tasks=("aul",), models=("usfm", "pixels"), protocols=(PROTOCOL,), **changes)  # type: ignore[arg-type]
    return cells


def test_a_report_gives_the_bytes_of_the_run_and_touches_no_cell(tmp_path: Path) -> None:
    cells = planted(tmp_path / "run")
    before = {p: p.read_bytes() for p in cells.out.rglob("*") if p.is_file()}
    done = ubench("report", str(cells.out), "--out", str(tmp_path / "elsewhere"))
    assert done.returncode == 0, done.stderr
    assert before == {p: p.read_bytes() for p in cells.out.rglob("*") if p.is_file()}
    assert ubench("report", str(cells.out)).returncode == 0
    write.write(cells)
    for path in (tmp_path / "elsewhere").rglob("*"):
        if path.is_file():
            name = path.relative_to(tmp_path / "elsewhere")
            assert path.read_bytes() == (cells.out / name).read_bytes(), name
    assert (tmp_path / "elsewhere" / "leaderboard.tex").exists()


# ---- figures ------------------------------------------------------------------------------------


def with_conditions(tmp_path: Path, **changes: object) -> list[Entry]:
    """A run of few-shot and corrupted conditions of USFM, a model of ours and a control."""
    cells = Cells(tmp_path)
    results(
        cells,
        models=("usfm", "good", "pixels"),
        tasks=("aul", "mmotu"),
        protocols=(PROTOCOL, "tuned-2"),
        fractions=(10,),
        corruptions=("blur", "shadow"),
        **changes,
    )
    return cells.gather()


def test_published_scores_stand_at_the_end_of_the_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[tuple[list[float], list[float]]]] = {}

    def files(figure: Figure, name: str) -> dict[str, bytes]:
        lines = [line for ax in figure.axes for line in ax.get_lines()]
        seen[name] = [(list(line.get_xdata()), list(line.get_ydata())) for line in lines]
        assert "published, not measured here: Table 2 of US-JEPA" in figure.get_suptitle()
        return {name: b""}

    monkeypatch.setattr(figures.canvas, "files", files)
    entries = with_conditions(tmp_path)
    against.figures(entries, published.load())
    assert set(seen) == {
        *("against_fewshot", "against_corruption_paper", "against_corruption_physics")
    }
    for name, own, others in (
        ("against_fewshot", 140.0, 190.0),
        ("against_corruption_paper", -0.25, -0.5),
    ):
        marked = [y[0] for x, y in seen[name] if x == [own]]
        assert marked == [61.6, 33.8]  # USFM on AUL and MMOTU
        rest = [y for x, y in seen[name] if others in x]
        assert [len(y) for y in rest] == [9, 9]
        assert 71.5 in rest[0]  # URFM on AUL


def test_marks_are_of_the_tasks_that_were_published(tmp_path: Path) -> None:
    found = marks(with_conditions(tmp_path), published.load())
    assert found is not None
    assert set(found.at) == {("usfm", "aul"), ("usfm", "mmotu")}
    assert found.other_images == {"aul", "mmotu"}
    assert marks([ours("usfm", "aul", 62, 60, 64)], published.load()).other_images == frozenset()  # type: ignore[union-attr]
    random = ours("usfm", "aul", 62, 60, 64, random_weights=True)
    assert marks([random], published.load()).at == {}  # type: ignore[union-attr]
    for none in (
        ours("usfm", "aul", 62, 60, 64, synthetic=True),
        ours("usfm", "aul@rule", 62, 60, 64),
        ours("usfm", "my scans", 62, 60, 64),
        ours("usfm", "aul", 62, 60, 64, {"protocol": "tuned-2"}),
    ):
        assert marks([none], published.load()) is None


def test_without_curves_or_published_tasks_there_is_no_figure(tmp_path: Path) -> None:
    assert against.figures(list(PLANTED), published.load()) == {}
    assert against.figures(with_conditions(tmp_path, synthetic=True), published.load()) == {}


def test_the_command_sets_ours_beside_the_published(tmp_path: Path) -> None:
    cells = planted(tmp_path)
    done = ubench("report", str(cells.out), "--against", "us-jepa")
    assert done.returncode == 0, done.stderr
    for name in ("leaderboard.md", "against.md", "against.csv", "against.tex"):
        assert str(tmp_path / name) in done.stdout
        assert (tmp_path / name).is_file()
    assert "Published numbers beside ours: 1;" in done.stdout


def test_a_synthetic_run_says_so_and_compares_nothing(tmp_path: Path) -> None:
    cells = planted(tmp_path, synthetic=True)
    done = ubench("report", str(cells.out), "--against", "us-jepa")
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    assert "Nothing of this run can be compared" in done.stdout


def test_the_published_tables_need_no_run(tmp_path: Path) -> None:
    done = ubench("report", "--published", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "USrc-JEPA" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        f"published_{what}.{suffix}"
        for what in ("scores", "sizes")
        for suffix in ("md", "tex", "csv")
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("RUN", "--against", "usjepa"), "no published figures 'usjepa'; did you mean 'us-jepa'?"),
        ((), "no run to report"),
        (("--against", "us-jepa"), "no run to report"),
        (("EMPTY",), "holds no cells; name a folder"),
        (("NOWHERE", "--claims"), "holds no cells; name a folder"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    planted(tmp_path / "RUN")
    (tmp_path / "EMPTY").mkdir()
    before = sorted(tmp_path.rglob("*"))
    places = [str(tmp_path / word) if word.isupper() else word for word in words]
    done = ubench("report", *places)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert said in line
    assert before == sorted(tmp_path.rglob("*"))
