"""Split files: what a check writes down splits a task again, and what contradicts it is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from fake_releases import aul_release, busbra_release

import tasks
from tasks import split_files
from tasks.check import check
from tasks.split_files import SplitRow
from tasks.task import SPLITS, Task
from ultrabench_eval.core.errors import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    busbra_release(root / "busbra")
    return root


def named(task: Task) -> dict[str, list[str]]:
    return {name: [i.name for i in split.images] for name, split in task.splits.items()}


def edited(path: Path, **changes: str) -> None:
    """Change cells of the first training row."""
    rows = list(csv.reader(path.open()))
    row = next(i for i, row in enumerate(rows) if row[2] == "train")
    for column, value in changes.items():
        rows[row][split_files.COLUMNS.index(column)] = value
    csv.writer(path.open("w", newline="")).writerows(rows)


def test_a_task_split_by_its_own_file_is_the_same(root: Path, tmp_path: Path) -> None:
    task = tasks.load("busbra", root)
    split_files.write(check(task).rows, tmp_path / "own.csv")
    again = tasks.load(f"busbra@{tmp_path / 'own.csv'}", root)
    assert again.fingerprint == task.fingerprint
    assert [i.image.name for i in again.unused] == [i.image.name for i in task.unused]
    assert again.notes == ("split by own.csv",)
    assert len(again.unused) == 40


def test_unused_images_can_be_used_and_others_left_out(root: Path, tmp_path: Path) -> None:
    task = tasks.load("busbra", root)
    path = tmp_path / "own.csv"
    rows = [row._replace(sha256="") for row in check(task).rows]
    taken = next(row for row in rows if row.split == "unused")
    left_out = next(row for row in rows if row.split == "train" and row.group != taken.group)
    side = next(row.split for row in rows if row.group == taken.group and row.split != "unused")
    split_files.write(
        [r._replace(split=side) if r is taken else r for r in rows if r is not left_out], path
    )
    changed = tasks.load(f"busbra@{path}", root)
    assert taken.image in named(changed)[side]
    assert not any(left_out.image in images for images in named(changed).values())
    assert "1 images are not named in own.csv: not used" in changed.notes
    assert left_out.image in {item.image.name for item in changed.unused}


def test_a_group_may_be_given_where_the_release_has_none(tmp_path: Path) -> None:
    aul_release(tmp_path / "root" / "aul")
    task = tasks.load("aul", tmp_path / "root")
    rows = list(check(task).rows)
    path = tmp_path / "patients.csv"
    split_files.write([r._replace(group=f"p{r.split}{i // 2}") for i, r in enumerate(rows)], path)
    grouped = tasks.load(f"aul@{path}", tmp_path / "root")
    assert grouped.train.groups is not None
    assert named(grouped) == named(task)
    split_files.write([row._replace(group=row.label) for row in rows], path)
    with pytest.raises(UserError, match="are in more than one split"):
        tasks.load(f"aul@{path}", tmp_path / "root")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"image": "Images/other.png"}, r"does not have \(first: Images/other\.png\)"),
        ({"label": "cyst"}, r"says that .* is 'cyst', but its release says '(benign|malignant)'"),
        ({"sha256": "0" * 64}, r"is not the image that .*own\.csv was made for"),
        ({"split": "holdout"}, r"own\.csv, line \d+: split 'holdout' is not one of train"),
    ],
)
def test_what_contradicts_the_release_is_refused(
    root: Path, tmp_path: Path, changes: dict[str, str], wanted: str
) -> None:
    path = tmp_path / "own.csv"
    split_files.write(check(tasks.load("busbra", root)).rows, path)
    edited(path, **changes)
    with pytest.raises(UserError, match=wanted):
        tasks.load(f"busbra@{path}", root)


def test_an_image_named_twice_is_refused(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    rows = check(tasks.load("busbra", root)).rows
    split_files.write([*rows, rows[0]], path)
    with pytest.raises(UserError, match=rf"line {len(rows) + 2}: .* is named a second time"):
        tasks.load(f"busbra@{path}", root)


def test_val_stands_for_validation_and_columns_may_be_left_out(root: Path, tmp_path: Path) -> None:
    task = tasks.load("busbra", root)
    path = tmp_path / "own.csv"
    lines = [
        f"{'val' if name == 'validation' else name},{image}"
        for name, images in named(task).items()
        for image in images
    ]
    path.write_text("split,image\n" + "\n".join(lines) + "\n")
    again = tasks.load(f"busbra@{path}", root)
    assert again.fingerprint == task.fingerprint  # groups and labels are the release's


def test_files_that_are_no_split_files(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read split file .*none\.csv"):
        tasks.load(f"busbra@{tmp_path / 'none.csv'}", root)
    (tmp_path / "x.csv").write_text("image,label\n")
    with pytest.raises(UserError, match=r"x\.csv lacks the column split"):
        tasks.load(f"busbra@{tmp_path / 'x.csv'}", root)
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read split file"):
        tasks.load(f"busbra@{tmp_path / 'x.csv'}", root)


def test_files_that_this_copy_lacks_are_counted(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    split_files.write(check(tasks.load("busbra", root)).rows, path)
    gone = next(row for row in split_files.read(path).values() if row.split == "train")
    (root / "busbra/BUSBRA" / gone.image).unlink()
    again = tasks.load(f"busbra@{path}", root)
    assert gone.image not in named(again)["train"]
    assert f"1 of 100 images of own.csv have no image file (first: {gone.image})" in again.notes


def test_names_of_splits() -> None:
    assert tasks.split_name("aul@rule") == ("aul", "rule")
    assert tasks.split_name("aul") == ("aul", None)
    assert tasks.split_name("my@scans.csv") == ("my@scans.csv", None)
    assert tasks.is_manifest("my@scans.csv")
    assert not tasks.is_manifest("aul@mine.csv")
    assert tasks.label("aul@/data/mine.csv") == "aul@mine"
    assert tasks.label("/data/scans.csv") == "scans"
    assert tasks.with_splits("aul", "rule") == "aul@rule"
    assert tasks.with_splits("aul@rule", "x.csv") == "aul@rule"
    assert tasks.with_splits("scans.csv", "rule") == "scans.csv"
    assert tasks.problem("aul@nothing") is not None
    assert "it has published, rule, or give aul@FILE.csv" in str(tasks.problem("aul@nothing"))
    assert tasks.problem("oul@rule") is not None
    assert tasks.problem("busbra@rule") is None
    for name in tasks.BUILT_IN:
        assert "rule" in tasks.ways_to_split(name)


def test_the_rule_is_the_default_where_nothing_else_is_said(root: Path) -> None:
    assert tasks.load("busbra@rule", root).fingerprint == tasks.load("busbra", root).fingerprint


def test_rows_say_what_the_task_says(root: Path) -> None:
    task = tasks.load("busbra", root)
    rows = [row for row, _ in split_files.rows(task)]
    assert rows[0] == SplitRow(
        task.train.images[0].name,
        task.classes[task.train.labels[0]],
        "train",
        (task.train.groups or ("",))[0],
        "",
    )
    assert [row.split for row in rows] == [
        *(name for name in SPLITS for _ in task.splits[name].images),
        *["unused"] * 40,
    ]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(UserError, match=r"own\.csv (is empty|lacks the column image)"):
        split_files.read(tmp_path / "own.csv")


def test_groups_of_the_file_are_words(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    task = tasks.load("busbra", root)
    split_files.write(check(task).rows, path)
    edited(path, group="nan")
    with pytest.raises(UserError, match=r"line \d+: group 'nan' is what programs write for a miss"):
        tasks.load(f"busbra@{path}", root)
    other = task.test.groups[0]  # type: ignore[index]
    edited(path, group=f"0{other}")
    with pytest.raises(UserError, match=r"groups .* are the same but for their spelling"):
        tasks.load(f"busbra@{path}", root)
