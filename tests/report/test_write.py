"""The files of a results folder: equal bytes, none stale, figures only of what was measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from made_cells import cell, results
from test_imports import HEAVIEST, command, loaded_by

from ultrabench_eval.cells import Cells
from ultrabench_eval.core import drawing
from ultrabench_eval.report import write
from ultrabench_eval.report.drawings import figures

EVERYTHING = {
    "protocols": ("paper-1", "tuned-2"),
    "fractions": (10,),
    "corruptions": ("blur", "shadow"),
}


def made(out: Path) -> dict[str, bytes]:
    """All that was written, but cells and tasks."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.relative_to(out).parts[0] not in ("cells", "tasks")
    }


@pytest.mark.usefixtures("every_format")
def test_two_writes_give_equal_bytes(tmp_path: Path) -> None:
    first, second = Cells(tmp_path / "a" / "run"), Cells(tmp_path / "b" / "run")
    results(first, **EVERYTHING)  # type: ignore[arg-type]
    shutil.copytree(first.out, second.out)
    write.write(first)
    write.write(second)
    files = made(first.out)
    assert files == made(second.out)
    suffixes = {Path(name).suffix for name in files}
    assert suffixes == {".md", ".csv", ".tex", ".html", ".svg", ".png", ".pdf", ".json"}
    page = files["leaderboard.md"].decode()
    for name in files:
        if name.endswith((".svg", ".csv")) or name in ("statistics.md", "fewshot.md"):
            assert f"]({name})" in page or name == "leaderboard.csv"


def test_nothing_is_made_again_unless_something_changed(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells)
    write.write(cells)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}
    write.write(cells)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.*")}
    wanted = (tmp_path / "statistics.md").read_bytes()
    (tmp_path / "statistics.md").write_text("edited")
    (tmp_path / "leaderboard.tex").unlink()
    write.write(cells)
    assert (tmp_path / "statistics.md").read_bytes() == wanted
    assert (tmp_path / "leaderboard.tex").exists()


@pytest.mark.parametrize("spoilt", ["", "[]", '{"made_of": 1}', "{"])
def test_a_spoilt_list_of_files_is_made_again(tmp_path: Path, spoilt: str) -> None:
    cells = Cells(tmp_path)
    results(cells, tasks=("aul",))
    (tmp_path / ".report.json").write_text(spoilt)
    write.write(cells)
    assert "leaderboard.md" in json.loads((tmp_path / ".report.json").read_text())["files"]


def test_stale_files_are_removed_and_others_stay(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "out")
    results(cells, **EVERYTHING)  # type: ignore[arg-type]
    write.write(cells)
    assert (cells.out / "protocols.csv").exists()
    assert (cells.out / "figures").is_dir()
    mine = cells.out / "notes.md"
    mine.write_text("my own")
    outside = tmp_path / "outside.md"
    outside.write_text("not ours")
    kept = cells.out / ".report.json"
    stored = json.loads(kept.read_text())
    stored["files"] |= {"../outside.md": "0", "cells/good": "0"}
    kept.write_text(json.dumps(stored))

    shutil.rmtree(cells.out / "cells")
    results(cells, tasks=("aul",))
    write.write(cells)
    assert sorted(made(cells.out)) == [
        *(".report.json", "choose.md", "informativeness.csv", "leaderboard.csv"),
        *(
            "leaderboard.html",
            "leaderboard.md",
            "leaderboard.tex",
            "notes.md",
            "pairs.csv",
            "ranks.csv",
        ),
        "statistics.md",
    ]
    assert outside.exists()
    assert not (cells.out / "figures").exists()


def test_figures_exist_only_where_their_conditions_do(tmp_path: Path) -> None:
    def drawn(name: str, **conditions: object) -> set[str]:
        cells = Cells(tmp_path / name)
        results(cells, **conditions)  # type: ignore[arg-type]
        write.write(cells)
        found = list((cells.out / "figures").glob("*"))
        assert all(path.stat().st_size > 2000 for path in found)
        stems = {path.stem for path in found}
        assert {path.name for path in found} == {
            f"{stem}.{suffix}" for stem in stems for suffix in drawing.SUFFIXES
        }
        return stems

    two = ("aul", "busbra")
    assert drawn("few tasks", tasks=two) == set()
    assert drawn("few models", models=("good", "pixels")) == set()
    assert drawn("main") == {"ranks"}
    assert drawn("shots", tasks=two, fractions=(10,)) == {"fewshot"}
    assert drawn("blur", tasks=two, corruptions=("blur",)) == {"corruption_paper"}
    assert drawn("shadow", tasks=two, corruptions=("shadow",)) == {"corruption_physics"}
    five = ("aul", "busbra", "gbcu", "mmotu", "pocus")
    many = ("shadow", "gain", "attenuation", "dynamic_range")
    assert drawn("more than a page", tasks=five, models=("good", "pixels"), corruptions=many) == {
        *("corruption_physics_1", "corruption_physics_2"),
    }
    assert drawn("protocols", tasks=two, protocols=("paper-1", "tuned-2")) == {"protocols"}
    assert drawn("both", tasks=two, protocols=("paper-1", "tuned-2"), fractions=(10,)) == {
        *("fewshot-linear-paper-1", "fewshot-linear-tuned-2", "protocols"),
    }


def test_figures_of_simulated_images_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []

    def finish(figure: object, axes: object, title: str, *rest: object, **how: object) -> None:
        titles.append(("SYNTHETIC: " if how["synthetic"] else "") + title)

    monkeypatch.setattr(figures.canvas, "finish", finish)
    cells = Cells(tmp_path)
    results(cells, synthetic=True, **EVERYTHING)  # type: ignore[arg-type]
    write.write(cells)
    assert len(titles) == 7
    assert all(title.startswith("SYNTHETIC") for title in titles)
    for name in ("robustness.md", "fewshot.md", "statistics.md", "leaderboard.md"):
        assert "**SYNTHETIC: " in (tmp_path / name).read_text()
    assert "ok (synthetic)" in (tmp_path / "robustness.csv").read_text()


def test_few_shot_tables_say_how_many_images_and_how_many_were_needed(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    images = {"train": 77, "validation": 2, "test": 60}
    warning = "at 10 % a class has at least one image"
    results(cells, tasks=("aul",), fractions=(10,), images=images, warnings=[warning])
    write.write(cells)
    page = (tmp_path / "fewshot.md").read_text()
    in_use = page.split("### Training images in use")[1].split("###")[0]
    assert "| 10 %   | 77    |" in in_use
    needed = page.split("### Labels needed")[1].split("###")[0]
    (row,) = [line for line in needed.splitlines() if line.startswith("| good")]
    scores = write.frame(cells.gather()).query("metric == 'macro_f1'")
    bar = scores.query("model == 'pixels' and fraction == 100")["mean"].iloc[0]
    few = scores.query("model == 'good' and fraction == 10")["mean"].iloc[0]
    assert row.split("|")[2].strip() == ("10 %" if few >= bar else "100 %")
    assert "at least one image" in page.split("### Warnings")[1]


def test_few_shot_scores_are_of_models_that_have_more_than_one(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, models=("good", "pixels"), tasks=("aul",))
    results(cells, models=("fair",), tasks=("aul",), fractions=(10,))
    write.write(cells)
    page = (tmp_path / "fewshot.md").read_text()
    scores = page.split("### Training images in use")[0]
    assert [line.split("|")[1].strip() for line in scores.splitlines() if " % " in line] == [
        "fair",
        "fair",
    ]
    assert "| good" not in page  # nor is it told how many labels it needs
    drawn = (tmp_path / "figures" / "fewshot.svg").read_text()
    assert "<!-- fair -->" in drawn
    assert "<!-- good -->" not in drawn


def test_cliques_are_the_longest_runs_within_the_distance() -> None:
    assert figures.cliques(np.array([1.0, 1.5, 2.2, 4.0]), 1.0) == [(0, 1), (1, 2)]
    assert figures.cliques(np.array([1.0, 2.0, 3.0]), 5.0) == [(0, 2)]
    assert figures.cliques(np.array([1.0, 3.0]), 1.0) == []


def test_an_empty_folder_and_cells_without_predictions_are_no_error(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    assert write.write(cells).empty
    one = cell("a", "aul", 0.5, 0.6)
    cells.put(one, {"probabilities": np.zeros((2, 4, 2), np.float32)})
    write.write(cells)
    assert "taul.json is missing; run the same" in (tmp_path / "statistics.md").read_text()


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    results(Cells(tmp_path))
    assert loaded_by(command("ubench", "report", str(tmp_path)), HEAVIEST) == "[]"
    assert (tmp_path / "leaderboard.html").is_file()
