"""A check of a task's images: what it finds, and that it changes nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import PIL.Image
import pytest
from fake_releases import RELEASES, busbra_release, gbcu_release, pocus_release

import tasks
from tasks import split_files
from tasks.check import ImageSize, check
from ultrabench_eval.core import hashing


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    gbcu_release(root / "gbcu")
    return root


@pytest.mark.parametrize("name", RELEASES)
def test_a_whole_release_has_no_problems(tmp_path: Path, name: str) -> None:
    RELEASES[name](tmp_path / "root" / name)
    task = tasks.load(name, tmp_path / "root")
    seen: list[tuple[int, int]] = []
    report = check(task, progress=lambda done, total: seen.append((done, total)))
    assert report.problems == ()
    images = [i for split in task.splits.values() for i in split.images]
    images += [item.image for item in task.unused]
    assert [row.image for row in report.rows] == [image.name for image in images]
    assert [row.sha256 for row in report.rows] == [image.digest() for image in images]
    assert [size for size in report.sizes if size] == [
        ImageSize(*image.read().shape[:2]) for image in images
    ]
    assert seen == [(i + 1, len(images)) for i in range(len(images))]


def test_extremes(root: Path) -> None:
    folder = root / "gbcu/GBCU-Shared/imgs"
    PIL.Image.new("L", (3, 2)).save(folder / "im00003.jpg")
    PIL.Image.new("L", (20, 30)).save(folder / "im00004.jpg")
    PIL.Image.new("L", (90, 2)).save(folder / "im00005.jpg")
    assert check(tasks.load("gbcu", root)).extremes() == {
        "smallest": (ImageSize(2, 3), "imgs/im00003.jpg"),
        "largest": (ImageSize(30, 20), "imgs/im00004.jpg"),
        "longest side": (ImageSize(2, 90), "imgs/im00005.jpg"),
    }


def test_unreadable_images_are_named_and_the_rest_is_checked(root: Path) -> None:
    folder = root / "gbcu/GBCU-Shared/imgs"
    (folder / "im00003.jpg").write_bytes((folder / "im00003.jpg").read_bytes()[:50])
    (folder / "im00007.jpg").write_text("no image")
    report = check(tasks.load("gbcu", root))
    assert len(report.unreadable) == len(report.problems) == 2
    assert any("im00003.jpg" in sentence for sentence in report.unreadable)
    assert [r.image for r, s in zip(report.rows, report.sizes, strict=True) if s is None] == sorted(
        ["imgs/im00003.jpg", "imgs/im00007.jpg"],
        key=[row.image for row in report.rows].index,
    )
    assert sum(size is not None for size in report.sizes) == 118


def test_the_same_content_in_two_splits_or_with_two_labels_is_told(root: Path) -> None:
    folder = root / "gbcu/GBCU-Shared/imgs"
    task = tasks.load("gbcu", root)
    train = [Path(image.name).name for image in task.train.images]
    same = [name for name in train if int(name[2:7]) % 3 == 0]
    other = next(name for name in train if int(name[2:7]) % 3 == 1)
    shutil.copy(folder / same[0], folder / "im00099.jpg")  # a test image of the same class
    shutil.copy(folder / same[1], folder / other)
    shutil.copy(folder / same[2], folder / same[3])  # within a split, of one class: no problem
    told = check(tasks.load("gbcu", root)).repeated
    assert len(told) == 2
    assert any("im00099.jpg (test, normal)" in one and same[0] in one for one in told)
    assert any(f"{other} (train, benign)" in one and same[1] in one for one in told)


def test_missing_files_are_one_problem(tmp_path: Path) -> None:
    busbra_release(tmp_path / "busbra")
    for path in (tmp_path / "busbra/BUSBRA/Images").glob("*-r.png"):
        path.unlink()
    (problem,) = check(tasks.load("busbra", tmp_path)).problems
    assert "40 file(s) that the release lists are not in" in problem
    assert "bus_0001-r.png" in problem


def test_changes_since_the_record_are_told(root: Path, tmp_path: Path) -> None:
    task = tasks.load("gbcu", root)
    record = tmp_path / "splits.csv"
    assert check(task, record).changed == ()  # there is none yet
    split_files.write(check(task).rows, record)
    assert check(task, record).changed == ()
    folder = root / "gbcu/GBCU-Shared"
    PIL.Image.new("L", (5, 5), 77).save(folder / "imgs/im00005.jpg")
    (changed,) = check(tasks.load("gbcu", root), record).changed
    assert "imgs/im00005.jpg is not the image of" in changed
    lines = (folder / "test.txt").read_text().splitlines()
    (folder / "test.txt").write_text("\n".join(lines[1:]) + "\n")
    (folder / "train.txt").write_text((folder / "train.txt").read_text() + lines[0] + "\n")
    changed = check(tasks.load("gbcu", root), record).changed
    assert any("imgs/im00090.jpg is in" in one and "it was in test" in one for one in changed)
    (folder / "train.txt").write_text((folder / "train.txt").read_text() + "im00200.jpg,1\n")
    PIL.Image.new("L", (5, 5), 78).save(folder / "imgs/im00200.jpg")
    (folder / "imgs/im00006.jpg").unlink()
    changed = check(tasks.load("gbcu", root), record).changed
    assert any("imgs/im00006.jpg of" in one and "no longer there" in one for one in changed)
    assert any("1 image(s) are not in" in one and "im00200.jpg" in one for one in changed)


def test_a_truncated_video_is_a_problem_of_its_frames(tmp_path: Path) -> None:
    pocus_release(tmp_path / "pocus")
    task = tasks.load("pocus", tmp_path)
    clip = tmp_path / "pocus/data/pocus_videos/convex/pneu-(4).avi"
    before = hashing.digest_file(clip)
    data = bytearray(clip.read_bytes())
    clip.write_bytes(data[: len(data) * 2 // 3])  # after the frames were counted
    report = check(task)
    assert report.unreadable
    assert all("pneu-(4).avi" in sentence for sentence in report.unreadable)
    assert hashing.digest_file(clip) != before
