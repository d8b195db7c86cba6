"""Folders of classes, rules for patients, and splits that are drawn by patients."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from dicom_files import save_dicom
from hypothesis import given
from hypothesis import strategies as st

import tasks
from tasks.own_data import draw, manifest
from tasks.own_data.manifest import OwnData
from tasks.own_data.own_sample import OwnSample
from tasks.own_data.reading import Reading, columns_of
from tasks.samples.images import ImageArray
from tasks.task import SPLITS
from ultrabench_eval.core.errors import UserError

NOTHING = np.zeros((1, 1), np.uint8)


def fill(folder: Path, names: str, shade: int = 0) -> None:
    """Small images of these names, each of another content."""
    for n, name in enumerate(names.split()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((4, 5), shade + n, np.uint8)).save(path)


# ---- folders -------------------------------------------------------------------------------------


def test_a_folder_with_parts_is_a_task(tmp_path: Path) -> None:
    for n, part in enumerate(("train", "Valid", "test")):
        fill(tmp_path / "scans" / part, "cyst/a.png cyst/deep/b.png tumour/c.png", 10 * n)
    task = tasks.load(f"{tmp_path}/scans/")
    assert task.name == "scans"
    assert task.classes == ("cyst", "tumour")
    assert task.counts() == {name: [2, 1] for name in SPLITS}
    assert [image.name for image in task.validation.images] == [
        "Valid/cyst/a.png",
        "Valid/cyst/deep/b.png",
        "Valid/tumour/c.png",
    ]
    assert task.train.groups is None
    assert any("a patient of its own; if patients have several" in note for note in task.notes)


def test_what_is_left_out_of_a_folder_is_told(tmp_path: Path) -> None:
    for n, part in enumerate(("train", "val", "test")):
        fill(tmp_path / "busi" / part, "benign/x.png benign/x_mask.png normal/y.png", 10 * n)
    fill(tmp_path / "busi" / "train", "benign/.hidden.png stray.png", 90)
    (tmp_path / "busi" / "train" / "benign" / "notes.txt").write_text("nothing")
    task = tasks.load(f"{tmp_path}/busi", reading=Reading.of(groups="image"))
    assert task.notes == (
        "3 file(s) are left out: masks (first: test/benign/x_mask.png)",
        "1 file(s) are left out: not images (first: train/benign/notes.txt)",
        "1 file(s) are left out: in no folder of a class (first: train/stray.png)",
    )


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("a/1.png b/1.png", "lacks the column split.*`ubench data split` draws one"),
        ("a/1.png", r"has 1 sub-folder\(s\); a task needs one for each class"),
        (
            "train/a/1.png test/a/1.png",
            "sub-folders test, train; give it one each for train, valid",
        ),
        ("train/a/1.png val/a/1.png valid/a/2.png test/a/1.png", "one each for train, valid"),
        ("train/a/1.png val/a/1.png test/a/1.png extra/a/1.png", "and no others"),
        ("train/a/1.png val/a/1.png test/b/1.png", "class 'b' .* has no training image"),
        ("train/a/1.png train/A/2.png val/a/3.png test/a/4.png", "same but for their spelling"),
    ],
)
def test_folders_that_are_refused(tmp_path: Path, names: str, told: str) -> None:
    fill(tmp_path / "f", names)
    with pytest.raises(UserError, match=told) as caught:
        tasks.load(f"{tmp_path}/f")
    assert "\n" not in str(caught.value)


def test_a_folder_is_written_with_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "aul", "a/1.png b/1.png")
    fill(tmp_path / "scans", "a/1.png b/1.png")
    assert not tasks.is_manifest("aul")
    assert tasks.is_manifest("./aul")
    assert tasks.label("./scans/") == tasks.label(f"{tmp_path}/scans") == "scans"
    assert (tasks.problem("scans") or "").endswith("the folder is written ./scans")
    with pytest.raises(UserError, match=r"folder not found: nowhere/x; give one with a sub-folder"):
        tasks.load("nowhere/x")
    with pytest.raises(UserError, match=r"--columns is for tables, and .* is a folder"):
        tasks.load("./scans", reading=Reading.of(columns={"label": "x"}))


# ---- patients by a rule --------------------------------------------------------------------------


def groups_of(path: Path, rule: str) -> list[str | None]:
    own = manifest.listed(path, Reading.of(groups=rule), split=False)
    return [one.group for one in own.samples]


def test_rules_for_patients(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    fill(folder, "a/p1_1.png a/p1_2.png a/p2_1.png b/p3_1.png")
    assert groups_of(folder, r"(p\d+)_") == ["p1", "p1", "p2", "p3"]
    assert groups_of(folder, "folder") == ["a", "a", "a", "b"]
    assert groups_of(folder, "image") == [None] * 4
    with pytest.raises(UserError, match=r"4 bad row.*image 'a/p1_1.png' has no group by --groups"):
        groups_of(folder, r"(q\d+)_")
    for wrong in ("p1", r"(a)(b)", "("):
        with pytest.raises(UserError, match=r"--groups .* is not valid"):
            Reading.of(groups=wrong)


def test_patients_of_dicom_files(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    for n, label in enumerate("aabb"):
        pixels = np.full((4, 5), n, np.uint8)
        save_dicom(folder / label / f"{n}.dcm", pixels, PatientID=f"ID{n // 2}")
    assert groups_of(folder, "dicom") == ["ID0", "ID0", "ID1", "ID1"]
    save_dicom(folder / "b" / "9.dcm", np.zeros((4, 5), np.uint8))
    with pytest.raises(UserError, match=r"image file 'b/9\.dcm' states no PatientID"):
        groups_of(folder, "dicom")


def test_a_rule_beside_a_column_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "1.png 2.png")
    (tmp_path / "t.csv").write_text("image,label,group\n1.png,a,x\n2.png,b,y\n")
    with pytest.raises(UserError, match="has the column group, and --groups gives another rule"):
        groups_of(tmp_path / "t.csv", "folder")


# ---- the draw ------------------------------------------------------------------------------------


def own_of(patients: list[tuple[str, str, int]], order: int = 0) -> OwnData:
    """Data of patients, each with a name, the letters of its classes and so many images of each."""
    samples = [
        OwnSample(ImageArray(NOTHING, f"{name}/{label}{n}"), Path("x"), None, label, "", name)
        for name, labels, count in patients
        for label in labels
        for n in range(count)
    ]
    random.Random(order).shuffle(samples)
    classes = tuple(sorted({one.label for one in samples}))
    return OwnData(Path("mine.csv"), tuple(samples), classes, "column group", ())


PATIENTS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "ab"]), st.integers(1, 4)), min_size=0, max_size=40
)


@given(PATIENTS, st.integers(0, 99), st.sampled_from([(0.2, 0.2), (0.1, 0.3), (0.33, 0.33)]))
def test_patients_stay_together_and_classes_are_in_each_part(
    drawn: list[tuple[str, int]], seed: int, shares: tuple[float, float]
) -> None:
    patients = [(f"p{n}", labels, count) for n, (labels, count) in enumerate(drawn)]
    patients += [(f"{label}{n}", label, 1) for label in "abc" for n in range(3)]
    validation, test = shares
    made = draw.draw(own_of(patients), seed=seed, validation=validation, test=test)
    splits = defaultdict(set)
    for sample in made.own.samples:
        splits[sample.group].add(sample.split)
    assert all(len(places) == 1 for places in splits.values())
    assert len(made.own.samples) == sum(len(labels) * count for _, labels, count in patients)
    for label in "abc":
        assert all(images >= patients > 0 for images, patients in made.counts[label].values())
        alone = [name for name, labels, _ in patients if labels == label]
        held = Counter(next(iter(splits[name])) for name in alone)
        assert held["test"] == max(1, int(len(alone) * test + 0.5))
        assert held["validation"] == max(1, int(len(alone) * validation + 0.5))
    again = draw.draw(own_of(patients, order=1), seed=seed, validation=validation, test=test)
    assert {one.image.name: one.split for one in again.own.samples} == {
        one.image.name: one.split for one in made.own.samples
    }


def test_another_seed_draws_other_patients() -> None:
    own = own_of([(f"p{n}", "ab"[n % 2], 2) for n in range(40)])
    kept = [draw.draw(own, seed=s, validation=0.2, test=0.2).own.samples for s in (0, 0, 1)]
    assert kept[0] == kept[1] != kept[2]
    assert [one.split for one in kept[0]].count("test") == 16


@pytest.mark.parametrize(
    ("patients", "shares", "told"),
    [
        (
            [("p", "a", 9), ("q", "a", 1), ("r", "b", 1)],
            (0.2, 0.2),
            r"'a' of mine.csv has 2 patient",
        ),
        (
            [
                *((f"{label}{n}", label, 1) for label in "ac" for n in range(3)),
                *((f"{labels}{n}", labels, 1) for labels in ("ab", "bc") for n in range(2)),
            ],
            (0.2, 0.2),
            "class 'b' of mine.csv has no patient left for validation, because",
        ),
        ([(f"p{n}", "ab"[n % 2], 1) for n in range(20)], (0.5, 0.5), "leave no patients to train"),
        ([(f"p{n}", "ab"[n % 2], 1) for n in range(20)], (0.2, 0), "or none for one of them"),
    ],
)
def test_what_cannot_be_split_is_told(
    patients: list[tuple[str, str, int]], shares: tuple[float, float], told: str
) -> None:
    with pytest.raises(UserError, match=told) as caught:
        draw.draw(own_of(patients), seed=0, validation=shares[0], test=shares[1])
    assert "\n" not in str(caught.value)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    for n in range(18):
        pixels = np.full((3, 4, 5), n, np.uint8) + np.arange(3, dtype=np.uint8)[:, None, None] * 40
        save_dicom(tmp_path / "dicom" / f"{n}.dcm", pixels)
    rows = [f"{n}.dcm,{'ab'[n % 2]},P {n // 2}" for n in range(18)]
    (tmp_path / "list.csv").write_text("\n".join(["file,class,patient", *rows]))
    reading = Reading.of(
        columns=columns_of(["image=file,label=class,group=patient"]),
        images=tmp_path / "dicom",
        frames="all",
    )
    own = manifest.listed(tmp_path / "list.csv", reading, split=False)
    assert own.groups == "column patient"
    made = draw.draw(own, seed=0, validation=0.2, test=0.2)
    (tmp_path / "elsewhere").mkdir()
    out = tmp_path / "elsewhere" / "split.csv"
    draw.write(made.own, out)
    assert out.read_text().splitlines()[:2] == [
        "image,label,split,group,frame",
        f"../dicom/0.dcm,a,{made.own.samples[0].split},P 0,1",
    ]
    task = tasks.load(str(out))
    expected = {one.image.digest(): (one.label, one.split, one.group) for one in made.own.samples}
    found = {
        digest: (task.classes[label], name, group)
        for name, split in task.splits.items()
        for digest, label, group in zip(
            split.digests, split.labels, split.groups or (), strict=True
        )
    }
    assert found == expected
