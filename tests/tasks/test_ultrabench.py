"""UltraBench's processed folders: both generations are read, and what we write is read again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from fake_releases import RELEASES, aul_release, busbra_release, gbcu_release, mmotu_release
from sklearn.model_selection import train_test_split

import tasks
from tasks import ultrabench
from tasks.release import SYNTHETIC_MARKER
from tasks.task import Task
from ultrabench_eval.core.errors import UserError


def exported(name: str, tmp_path: Path) -> tuple[Task, Path]:
    """A fake release and the root in which its export lies."""
    RELEASES[name](tmp_path / "root" / name)
    task = tasks.load(name, tmp_path / "root")
    other = tmp_path / "other"
    ultrabench.export(task, other / name)
    return task, other


@pytest.mark.parametrize("name", RELEASES)
def test_an_export_is_the_same_task(tmp_path: Path, name: str) -> None:
    task, other = exported(name, tmp_path)
    again = tasks.load(name, other)
    assert any("read from UltraBench's processed folder" in note for note in again.notes)
    for part, split in task.splits.items():
        copy = again.splits[part]
        assert copy.labels.tolist() == split.labels.tolist()
        assert copy.groups == split.groups
        for ours, theirs in zip(split.images, copy.images, strict=True):
            assert (ours.read() == theirs.read()).all()
        for ours, theirs in zip(split.scan_masks or (), copy.scan_masks or (), strict=True):
            assert (ours.read() == theirs.read()).all()
            assert ours.read().dtype == theirs.read().dtype == bool
    folder = next((other / name).iterdir())
    rows = json.loads((folder / "test.json").read_text())
    assert all((folder / row["image"]).is_file() for row in rows)
    assert all((folder / row["scan_mask"]).is_file() for row in rows)
    assert "not by UltraBench" in (folder / "version.txt").read_text()


def test_names_are_ultrabenchs(tmp_path: Path) -> None:
    for name, wanted in {
        "aul": ("aul_mass", r"images/normal_1.jpg"),
        "butterfly": ("butterfly", "images/26_carotid_001.png"),
        "fatty_liver": ("fatty_liver", "images/3_0.png"),
        "mmotu": ("mmotu", "images/81.png"),
        "pocus": ("pocus", "images/pneu-(4)_1.png"),
    }.items():
        _, other = exported(name, tmp_path / name)
        (folder,) = (other / name).iterdir()
        assert folder.name == wanted[0]
        rows = [
            row
            for part in ("train_val", "test")
            for row in json.loads((folder / f"{part}.json").read_text())
        ]
        assert wanted[1] in {row["image"] for row in rows}


def test_the_later_generation_is_split_by_the_rule_of_the_first(tmp_path: Path) -> None:
    task, other = exported("mmotu", tmp_path)
    folder = other / "mmotu/mmotu"
    for part in ("train", "validation"):
        (folder / f"{part}.json").unlink()
    again = tasks.load("mmotu", other)
    rows = json.loads((folder / "train_val.json").read_text())
    train, validation = train_test_split(
        rows, test_size=0.2, random_state=42, stratify=[row["label"] for row in rows]
    )
    assert [image.name for image in again.train.images] == [row["image"] for row in train]
    assert [image.name for image in again.validation.images] == [r["image"] for r in validation]
    assert any("by the rule of UltraBench 1.0.1" in note for note in again.notes)
    assert len(again.test) == len(task.test)


def test_rows_as_ultrabench_itself_writes_them(tmp_path: Path) -> None:
    """Absolute nothing of ours: the files are written here as its code does."""
    folder = tmp_path / "fatty_liver" / "fatty_liver_v1.1.0"
    rng = np.random.default_rng(0)
    rows = []
    for patient in range(1, 21):
        for frame in range(2):
            for kind, values in (("images", rng.integers(0, 256, (9, 8))), ("masks/scan", 1)):
                path = folder / kind / f"{patient}_{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                PIL.Image.fromarray(np.full((9, 8), values).astype(np.uint8)).save(path)
            rows.append(
                {
                    "patient": patient,
                    "image": f"images/{patient}_{frame}.png",
                    "scan_mask": f"masks/scan/{patient}_{frame}.png",
                    "steatosis": 2,
                    "label": patient % 2,
                    "pathology": "Normal",
                }
            )
    (folder / "train_val.json").write_text(json.dumps(rows[:30], indent=4))
    (folder / "test.json").write_text(json.dumps(rows[30:], indent=4))
    task = tasks.load("fatty_liver", tmp_path)
    assert set(task.test.groups or ()) == {str(n) for n in range(16, 21)}
    assert [len(split) for split in task.splits.values()] == [26, 4, 10]
    assert task.test.scan_masks is not None
    assert task.test.scan_masks[0].read().all()


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"label": 3}, r"test\.json, row 1: label 3 is not a class code from 0 to 2"),
        ({"label": "1"}, r"row 1: label '1' is not a class code"),
        ({"image": "../../secret.png"}, r"row 1: '\.\./\.\./secret\.png' .* is not a path below"),
        ({"image": "/etc/hostname"}, r"row 1: .* is not a path below"),
        ({"scan_mask": "..\\x.png"}, r"row 1: .* is not a path below"),
    ],
)
def test_damaged_rows_are_named(tmp_path: Path, change: dict[str, object], wanted: str) -> None:
    _, other = exported("gbcu", tmp_path)
    path = other / "gbcu/gbcu/test.json"
    rows = json.loads(path.read_text())
    rows[0] |= change
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=wanted):
        tasks.load("gbcu", other)


def test_rows_without_patients_are_refused(tmp_path: Path) -> None:
    _, other = exported("fatty_liver", tmp_path)
    path = other / "fatty_liver/fatty_liver/test.json"
    rows = json.loads(path.read_text())
    del rows[2]["patient"]
    path.write_text(json.dumps(rows))
    with pytest.raises(UserError, match=r"row 3 lacks 'patient'"):
        tasks.load("fatty_liver", other)


def test_images_that_are_missing_are_counted_and_move_no_other(tmp_path: Path) -> None:
    _, other = exported("gbcu", tmp_path)
    before = tasks.load("gbcu", other)
    (other / "gbcu/gbcu" / before.test.images[0].name).unlink()
    after = tasks.load("gbcu", other)
    assert len(after.test) == len(before.test) - 1
    assert len(after.missing) == 1
    assert after.train.fingerprint == before.train.fingerprint


def test_two_processed_folders_are_refused_unless_one_is_the_tasks(tmp_path: Path) -> None:
    _, other = exported("aul", tmp_path)
    shutil.copytree(other / "aul/aul_mass", other / "aul/aul_liver_v1.0.1")
    assert len(tasks.load("aul", other).test) == 18  # aul_mass is the classification task
    shutil.copytree(other / "aul/aul_mass", other / "aul/aul_mass_v1.0.1")
    with pytest.raises(UserError, match="holds 2 processed folders of UltraBench: aul_mass"):
        tasks.load("aul", other)


def test_a_processed_folder_has_its_own_splits_only(tmp_path: Path) -> None:
    _, other = exported("busbra", tmp_path)
    with pytest.raises(UserError, match="put the original release there"):
        tasks.load("busbra@all-images", other)


def test_export_refuses_and_leaves_nothing_half(tmp_path: Path) -> None:
    gbcu_release(tmp_path / "root/gbcu")
    task = tasks.load("gbcu", tmp_path / "root")
    out = tmp_path / "out"
    ultrabench.export(task, out)
    with pytest.raises(UserError, match="is there already"):
        ultrabench.export(task, out)
    damaged = tmp_path / "root/gbcu/GBCU-Shared/imgs/im00003.jpg"
    damaged.write_bytes(damaged.read_bytes()[:40])
    with pytest.raises(UserError, match=r"im00003\.jpg"):
        ultrabench.export(tasks.load("gbcu", tmp_path / "root"), tmp_path / "half")
    assert list((tmp_path / "half").iterdir()) == []


def test_synthetic_images_stay_synthetic(tmp_path: Path) -> None:
    busbra_release(tmp_path / "root/busbra")
    (tmp_path / "root/busbra" / SYNTHETIC_MARKER).write_text("{}")
    folder = ultrabench.export(tasks.load("busbra", tmp_path / "root"), tmp_path / "other")
    assert "SYNTHETIC" in (folder / "version.txt").read_text()
    (tmp_path / "again/busbra").mkdir(parents=True)
    folder.rename(tmp_path / "again/busbra/busbra")
    assert tasks.load("busbra", tmp_path / "again").synthetic


def test_agreement_with_published_lists(tmp_path: Path) -> None:
    aul_release(tmp_path / "root/aul")
    task = tasks.load("aul", tmp_path / "root")
    agree = ultrabench.agreement(task, tmp_path / "root/aul")
    assert [tuple(one) for one in agree] == [("train_val", 72, 72, 72), ("test", 18, 18, 18)]
    by_rule = ultrabench.agreement(tasks.load("aul@rule", tmp_path / "root"), tmp_path / "root/aul")
    assert by_rule[1].common < 18
    mmotu_release(tmp_path / "root/mmotu")
    no_list = ultrabench.agreement(tasks.load("mmotu", tmp_path / "root"), tmp_path / "root/mmotu")
    assert no_list == []
