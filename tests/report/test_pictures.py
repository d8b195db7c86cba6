"""Pictures of corruptions and regions: the images that a run measures, marked where simulated."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import Drawn
from made_cells import results
from test_cli import ubench

import tasks
from tasks.task import Task
from ultrabench_eval import corrupt
from ultrabench_eval.cells import Cells
from ultrabench_eval.core import drawing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report.drawings import pictures

pytestmark = pytest.mark.usefixtures("every_format")


@pytest.fixture
def aul(phantom_root: Path) -> Task:
    return tasks.load("aul", phantom_root)


def test_a_row_a_corruption_and_a_column_a_severity(aul: Task, drawn: Drawn) -> None:
    for family in ("paper", "physics"):
        made = pictures.corrupted(aul, family)
        assert {Path(name).name for name in made} == {
            f"corrupted_{family}-aul.{suffix}" for suffix in drawing.SUFFIXES
        }
        title, rows = drawn[-1]
        assert title[0].startswith("SYNTHETIC: ")
        assert aul.test.images[0].name in title[1]
        names = [c.name for c in corrupt.CORRUPTIONS.values() if c.family == family]
        assert [row.name.replace(" ", "_") for row in rows] == names
        for row in rows:
            clean, *worse = [tile.pixels for tile in row.tiles]
            assert np.array_equal(clean, aul.test.images[0].read())
            assert len({pixels.tobytes() for pixels in worse}) == 3
            assert all(pixels.shape == clean.shape for pixels in worse)


def test_the_pictures_are_the_images_that_a_run_measures(aul: Task, drawn: Drawn) -> None:
    from ultrabench_eval import measure

    pictures.corrupted(aul, "paper")
    (row,) = [row for row in drawn[0][1] if row.name == "speckle"]
    image, mask = aul.test.images[0], (aul.test.scan_masks or [None])[0]
    measured = corrupt.CorruptedImage(image, mask, "speckle", 2, measure.CORRUPTION_SEED)
    assert np.array_equal(row.tiles[2].pixels, measured.read())


def test_regions_show_frame_border_and_where_it_is_from(phantom_root: Path, drawn: Drawn) -> None:
    names = ["aul", "busbra", "mmotu", "pocus", "gbcu"]
    loaded = [tasks.load(name, phantom_root) for name in names]
    made = pictures.regions(loaded)
    assert set(made) == {f"figures/regions.{suffix}" for suffix in drawing.SUFFIXES}
    (_, rows) = drawn[0]
    assert [len(row.tiles) for row in rows] == [4, 4, 1, 1]
    for tile in (tile for row in rows[::2] for tile in row.tiles):
        assert "(SYNTHETIC)" in tile.caption
    origins = [tile.caption.rpartition(", ")[2] for row in rows[1::2] for tile in row.tiles]
    assert set(origins) == {"estimated", "of the release"}
    frame, region = rows[0].tiles[0], rows[1].tiles[0]
    ((mask, _),) = region.outlines
    assert np.array_equal(frame.pixels[mask], region.pixels[mask])
    assert region.pixels[~mask].max() <= 127


def test_equal_data_give_equal_bytes_without_a_mark_where_nothing_is_simulated(
    phantom_root: Path, tmp_path: Path, drawn: Drawn
) -> None:
    shutil.copytree(phantom_root / "busbra", tmp_path / "busbra")
    for marker in tmp_path.rglob("*SYNTHETIC*"):
        marker.unlink()
    loaded, missing = pictures.load(tmp_path)
    assert [task.name for task in loaded] == ["busbra"]
    assert missing == []
    told: list[str] = []
    made = pictures.pictures(loaded, told.append)
    assert told == ["regions", "busbra, corrupted (paper)", "busbra, corrupted (physics)"]
    again = pictures.corrupted(loaded[0], "paper") | pictures.regions(loaded)
    assert again == {name: made[name] for name in again}
    assert len(made) == 9
    assert not any("SYNTHETIC" in line for title, _ in drawn for line in title)


def test_tasks_that_are_not_there_are_told_and_the_others_shown(phantom_root: Path) -> None:
    loaded, missing = pictures.load(phantom_root, ["aul@rule", "their scans", "gbcu"])
    assert [task.name for task in loaded] == ["aul@rule", "gbcu"]
    (sentence,) = missing
    assert sentence.startswith("no pictures of their scans: ")
    with pytest.raises(UserError, match="no pictures of their scans"):
        pictures.load(phantom_root, ["their scans"])


# ---- the command --------------------------------------------------------------------------------


def test_the_command_draws_the_tasks_of_a_run(tmp_path: Path, phantom_root: Path) -> None:
    cells = Cells(tmp_path / "run")
    results(cells, tasks=("busbra",), models=("good", "pixels"))
    done = ubench("report", str(cells.out), "--data", str(phantom_root))
    assert done.returncode == 0, done.stderr
    folder = cells.out / "figures"
    assert {path.stem for path in folder.iterdir()} == {
        *("regions", "corrupted_paper-busbra", "corrupted_physics-busbra"),
    }
    assert f"{folder / 'regions.svg'}, .png, .pdf" in done.stdout
    assert "SYNTHETIC images are in these pictures" in done.stdout
    shown = PIL.Image.open(io.BytesIO((folder / "regions.png").read_bytes()))
    assert min(shown.size) > 200


def test_the_command_needs_no_run(tmp_path: Path, phantom_root: Path) -> None:
    one = tmp_path / "data"
    shutil.copytree(phantom_root / "gbcu", one / "gbcu")
    done = ubench("report", "--data", str(one), "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out/figures").iterdir())) == 9


@pytest.mark.parametrize("spoil", ["no folder", "no task", "an image"])
def test_without_images_nothing_is_written(tmp_path: Path, phantom_root: Path, spoil: str) -> None:
    cells = Cells(tmp_path / "run")
    results(cells, tasks=("gbcu",), models=("good", "pixels"))
    root = tmp_path / "data"
    if spoil == "no task":
        root.mkdir()
    elif spoil == "an image":
        shutil.copytree(phantom_root / "gbcu", root / "gbcu")
        name = tasks.load("gbcu", root).test.images[0].name
        next(iter(root.rglob(Path(name).name))).write_bytes(b"no image")
    before = sorted(tmp_path.rglob("*"))
    done = ubench("report", str(cells.out), "--data", str(root))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    said = {"no folder": "data folder not found", "no task": "no task is in"}
    assert said.get(spoil, "cannot read image") in line
    assert before == sorted(tmp_path.rglob("*"))
