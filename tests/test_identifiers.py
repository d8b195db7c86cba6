"""Results of people's own data hold no names of images and patients, unless asked to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_cli import ubench

import tasks
import ultrabench_eval
from ultrabench_eval.cells import Cell, Cells


def measured(out: Path, manifest: Path, *, identifiers: bool) -> Cell:
    cache = out.parent / "cache"
    ultrabench_eval.run(
        "image-stats", str(manifest), seeds=2, out=out, cache=cache, identifiers=identifiers
    )
    (cell,) = Cells(out).gather()
    assert isinstance(cell, Cell)
    return cell


def words(out: Path) -> str:
    """All text that a run left, but the request, which names what was asked for."""
    parts = [p for p in sorted(out.rglob("*")) if p.is_file() and "requests" not in p.parts]
    return "\n".join(part.read_bytes().decode(errors="ignore") for part in parts)


def test_names_leave_the_results_and_nothing_else_changes(tmp_path: Path, manifest: Path) -> None:
    task = tasks.load(str(manifest))
    names = [image.name for image in task.test.images]
    groups = sorted({f'"{group}"' for group in task.test.groups or ()})
    assert groups
    kept = measured(tmp_path / "kept", manifest, identifiers=True)
    numbered = measured(tmp_path / "numbered", manifest, identifiers=False)
    text = words(tmp_path / "kept")
    assert all(name in text for name in [*names, *groups])
    text = words(tmp_path / "numbered")
    assert not [name for name in [*names, *groups] if name in text]
    assert (numbered.scores, numbered.intervals) == (kept.scores, kept.intervals)
    tables = [(tmp_path / d / "leaderboard.csv").read_bytes() for d in ("kept", "numbered")]
    assert tables[0] == tables[1]
    with_names, without = (
        Cells(tmp_path / d).test_set(task.fingerprint) for d in ("kept", "numbered")
    )
    same = [np.unique(np.asarray(t.groups), return_inverse=True)[1] for t in (with_names, without)]
    assert same[0].tolist() == same[1].tolist()

    done = ubench("report", str(tmp_path / "kept"), "--strip")
    assert done.returncode == 0, done.stderr
    assert "names of images and patients of shades are taken out" in done.stdout
    text = words(tmp_path / "kept")
    assert not [name for name in [*names, *groups] if name in text]
    assert (tmp_path / "kept" / "leaderboard.csv").read_bytes() == tables[0]
    again = ubench("report", str(tmp_path / "kept"), "--strip")
    assert "taken out" not in again.stdout


def test_a_page_takes_pictures_of_own_data_from_its_table(tmp_path: Path, manifest: Path) -> None:
    out, cache = tmp_path / "run", tmp_path / "cache"
    ultrabench_eval.run("image-stats,border", str(manifest), seeds=1, out=out, cache=cache)
    for data in (manifest, tmp_path):  # the table, or any root: the request names the table
        done = ubench("report", str(out), "--data", str(data))
        assert done.returncode == 0, done.stderr
        page = (out / "leaderboard.html").read_text()
        assert "data:image/jpeg" in page
        figure = (out / "figures" / "regions.svg").read_text()
        names = [image.name.rpartition("/")[2] for image in tasks.load(str(manifest)).test.images]
        assert not [name for name in names if name in figure + page]


def test_published_releases_keep_their_names(tmp_path: Path, phantom_root: Path) -> None:
    task = tasks.load("aul", phantom_root)
    cells = Cells(tmp_path)
    cells.put_task(task, identifiers=False)
    assert cells.test_set(task.fingerprint).names == tuple(i.name for i in task.test.images)
    assert cells.strip() == []


@pytest.mark.parametrize("words", [["--strip"]])
def test_strip_needs_a_run(words: list[str]) -> None:
    done = ubench("report", *words)
    assert done.returncode == 2
