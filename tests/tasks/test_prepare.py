"""From a download to a task: archives are unpacked once, and what is written down is right."""

from __future__ import annotations

import csv
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from fake_releases import RELEASES, busbra_release, butterfly_release, gbcu_release

import tasks
from tasks import prepare
from tasks.obtain import archives
from ultrabench_eval.core.errors import UserError


def zipped(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder))
    return archive


@pytest.mark.parametrize("name", RELEASES)
def test_a_zip_becomes_a_task_that_can_be_traced(tmp_path: Path, name: str) -> None:
    RELEASES[name](tmp_path / "root" / name)
    plain = tasks.load(name, tmp_path / "root")
    archive = zipped(tmp_path / "root" / name, tmp_path / "download.zip")
    root = tmp_path / "data"
    if name == "aul":
        shutil.copytree(tmp_path / "root/ultrabench_splits", root / "ultrabench_splits")
    made = prepare.prepare(name, root, [archive])
    assert made.report.problems == ()
    assert [path.name for path in made.files] == ["report.md", "splits.csv", "scan_masks.png"]
    assert tasks.load(name, root).fingerprint == plain.fingerprint

    rows = list(csv.DictReader((root / "prepared" / name / "splits.csv").open()))
    for part, split in plain.splits.items():
        named = [row for row in rows if row["split"] == part]
        assert [row["image"] for row in named] == [image.name for image in split.images]
        assert [row["sha256"] for row in named] == list(split.digests)
        assert [row["label"] for row in named] == [plain.classes[i] for i in split.labels]
        assert [row["group"] for row in named] == list(split.groups or [""] * len(split))
    own = tasks.load(f"{name}@{root / 'prepared' / name / 'splits.csv'}", root)
    assert own.fingerprint == plain.fingerprint

    report = (root / "prepared" / name / "report.md").read_text()
    assert plain.fingerprint in report
    assert all(note in report for note in plain.notes)
    with PIL.Image.open(root / "prepared" / name / "scan_masks.png") as sheet:
        assert sheet.width > 300
        assert sheet.height > 300
    # The same again changes nothing, and the archive is no longer needed.
    before = {path: path.read_bytes() for path in made.files}
    archive.unlink()
    assert {path: path.read_bytes() for path in prepare.prepare(name, root).files} == before


def test_archives_that_lie_in_the_data_root_are_unpacked_there(tmp_path: Path) -> None:
    butterfly_release(tmp_path / "release")
    root = tmp_path / "root"
    (root / "butterfly").mkdir(parents=True)
    for part in sorted((tmp_path / "release").iterdir()):
        with tarfile.open(root / f"butterfly/{part.name}.tar.gz", "w:gz") as file:
            file.add(part, part.name)
    with pytest.raises(UserError, match=r"0 training and 0 test images; .*ubench data prepare but"):
        tasks.load("butterfly", root)
    made = prepare.prepare("butterfly", root)
    assert made.report.problems == ()
    assert len(made.report.task.train) == 180
    assert (root / "butterfly/unpacked/butterfly_dataset_test").is_dir()
    names = [image.name for image in made.report.task.test.images]
    assert names[0] == "butterfly_dataset_test/26/2ch/001.png"  # however it was unpacked


def test_an_archive_with_a_way_out_writes_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as file:
        file.writestr("imgs/im1.jpg", b"x")
        file.writestr("../outside.txt", b"x")
    root = tmp_path / "root"
    with pytest.raises(UserError, match=r"evil\.zip"):
        prepare.prepare("gbcu", root, [tmp_path / "evil.zip"])
    assert not (tmp_path / "outside.txt").exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "evil.zip"]


def test_a_folder_and_a_single_file_are_copied(tmp_path: Path) -> None:
    gbcu_release(tmp_path / "download")
    prepare.prepare("gbcu", tmp_path / "root", [tmp_path / "download/GBCU-Shared"])
    assert (tmp_path / "root/gbcu/GBCU-Shared/test.txt").is_file()
    RELEASES["fatty_liver"](tmp_path / "liver")
    (mat,) = (tmp_path / "liver").iterdir()
    made = prepare.prepare("fatty_liver", tmp_path / "root", [mat])
    assert len(made.report.rows) == 550
    assert mat.is_file()


def test_unreadable_images_make_no_record(tmp_path: Path) -> None:
    gbcu_release(tmp_path / "gbcu")
    image = tmp_path / "gbcu/GBCU-Shared/imgs/im00003.jpg"
    image.write_bytes(image.read_bytes()[:40])
    made = prepare.prepare("gbcu", tmp_path)
    assert [path.name for path in made.files] == ["report.md"]
    assert "im00003.jpg" in made.files[0].read_text()
    assert not prepare.record("gbcu", tmp_path).exists()


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no release of 'gbcu': .*--from"):
        prepare.prepare("gbcu", tmp_path)
    with pytest.raises(UserError, match=r"release of 'gbcu' not found: .*none\.zip"):
        prepare.prepare("gbcu", tmp_path, [tmp_path / "none.zip"])
    assert list(tmp_path.iterdir()) == []


def test_other_splits_are_prepared_apart(tmp_path: Path) -> None:
    busbra_release(tmp_path / "busbra")
    plain = prepare.prepare("busbra", tmp_path)
    whole = prepare.prepare("busbra@all-images", tmp_path)
    assert plain.files[0].parent != whole.files[0].parent
    assert len(whole.report.task.test) > len(plain.report.task.test)


def test_overview(tmp_path: Path) -> None:
    assert {line.state for line in prepare.overview(None)} == {"no data root"}
    gbcu_release(tmp_path / "gbcu")
    prepare.prepare("gbcu", tmp_path)
    (tmp_path / "tn5000").mkdir()
    (tmp_path / "tn5000/TN5000_forReview.zip").write_bytes(b"")
    lines = {line.name: line for line in prepare.overview(tmp_path)}
    assert set(lines) == {*tasks.RELEASED, "ultrabench_splits"}
    assert (lines["gbcu"].state, lines["gbcu"].prepared) == ("there", True)
    assert (lines["tn5000"].state, lines["tn5000"].prepared) == (
        "packed: TN5000_forReview.zip",
        False,
    )
    assert lines["aul"].state == "nothing"
    assert lines["gbcu"].how.startswith("by hand")
    assert lines["aul"].how == "yes"
    assert lines["pocus"].how == "with --accept-license"


def test_two_that_prepare_the_same_both_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one ends while this one unpacks."""
    gbcu_release(tmp_path / "release")
    archive = zipped(tmp_path / "release", tmp_path / "GBCU.zip")
    root = tmp_path / "root"
    fill, entered = archives._fill, []

    def overtaken(*arguments: Any) -> None:
        fill(*arguments)
        if not entered:
            entered.append(True)
            archives.unpack([archive], root / "gbcu", nested=True)

    monkeypatch.setattr(archives, "_fill", overtaken)
    assert prepare.prepare("gbcu", root, [archive]).report.problems == ()
    assert entered
    assert sorted(path.name for path in root.iterdir()) == ["gbcu", "prepared"]


def test_differences_from_the_record(tmp_path: Path) -> None:
    gbcu_release(tmp_path / "gbcu")
    assert prepare.differences(tasks.load("gbcu", tmp_path), tmp_path) == []
    prepare.prepare("gbcu", tmp_path)
    assert prepare.differences(tasks.load("gbcu", tmp_path), tmp_path) == []
    PIL.Image.new("L", (5, 5), 77).save(tmp_path / "gbcu/GBCU-Shared/imgs/im00005.jpg")
    (told,) = prepare.differences(tasks.load("gbcu", tmp_path), tmp_path)
    assert "imgs/im00005.jpg is not the image of" in told
    (tmp_path / "prepared/gbcu/splits.csv").write_text("")
    (told,) = prepare.differences(tasks.load("gbcu", tmp_path), tmp_path)
    assert "splits.csv is empty" in told


def test_images_that_are_not_used_are_no_difference(tmp_path: Path) -> None:
    busbra_release(tmp_path / "busbra")
    prepare.prepare("busbra", tmp_path)
    task = tasks.load("busbra", tmp_path)
    assert task.unused
    assert prepare.differences(task, tmp_path) == []


def test_a_release_under_another_name_is_prepared(tmp_path: Path) -> None:
    busbra_release(tmp_path / "BUSBRA")
    assert prepare.prepare("busbra", tmp_path).report.problems == ()
    assert not (tmp_path / "busbra").exists()
