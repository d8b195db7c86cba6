"""The eight readers on tiny fake releases: layout, labels, splits, and what they note."""

from __future__ import annotations

import json
import re
from pathlib import Path

import fake_releases
import numpy as np
import pytest
import scipy.io
from fake_releases import (
    RELEASES,
    aul_release,
    busbra_release,
    butterfly_release,
    fatty_liver_release,
    gbcu_release,
    mmotu_release,
    picture,
    pocus_release,
    tn5000_release,
    write,
)
from sklearn.model_selection import train_test_split

import tasks
from tasks import aul, fatty_liver, release
from tasks.task import Split
from ultrabench_eval.core.errors import UserError


def names(split: Split) -> list[str]:
    return [image.name for image in split.images]


def labels(split: Split) -> dict[str, int]:
    return dict(zip(names(split), split.labels.tolist(), strict=True))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.mark.parametrize("name", RELEASES)
def test_read_alike_however_nested_and_among_leftovers(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks_read = []
    for sub in ("", "unpacked here/again"):
        monkeypatch.setattr(fake_releases, "_pixels", np.random.default_rng(1))
        home = root.parent / f"case {len(tasks_read)}" / "root"
        RELEASES[name](home / name / sub)
        if sub:
            for directory in {p.parent for p in (home / name).rglob("*") if p.is_file()}:
                for suffix in (".png", ".jpg", ".JPG", ".avi", ".txt", ".mat"):
                    (directory / f"._x{suffix}").write_bytes(b"\0\5\x16\7")
                (directory / ".DS_Store").write_bytes(b"\0")
            leftover = home / name / "__MACOSX/OTU_2d/images/._1.JPG"
            write(leftover, "")
        tasks_read.append(tasks.load(name, home))
    plain, nested = tasks_read
    assert plain.fingerprint == nested.fingerprint
    assert plain.notes == nested.notes
    assert not plain.synthetic
    for split in plain.splits.values():
        assert split.images[0].read().dtype == np.uint8
        assert split.images[0].read().shape[2] == 3
        assert len(set(split.digests)) == len(split)
    every = [n for split in plain.splits.values() for n in names(split)]
    assert len(set(every)) == len(every)


def test_synthetic_marker(root: Path) -> None:
    gbcu_release(root / "gbcu")
    write(root / "gbcu" / release.SYNTHETIC_MARKER, "{}")
    assert tasks.load("gbcu", root).synthetic


def test_aul(root: Path) -> None:
    aul_release(root / "aul")
    (root / "aul/Benign/image/1.jpg").rename(root / "aul/Benign/image/777.jpg")
    task = tasks.load("aul", root)
    assert [len(s) for s in task.splits.values()] == [64, 8, 17]  # Benign/1 was of the test
    for split in task.splits.values():
        for name, label in labels(split).items():
            assert name.startswith(aul.FOLDERS[label] + "/image/")
    published = json.loads((root / "ultrabench_splits/aul_mass/test.json").read_text())
    assert [f"images/{n.replace('/image/', '_').lower()}" for n in names(task.test)] == [
        row["image"] for row in published if row["image"] != "images/benign_1.jpg"
    ]
    assert task.train.groups is None
    assert any("1 of 90 images of the splits have no image file" in n for n in task.notes)
    assert "1 images are named by no published split: not used (first: Benign/image/777.jpg)" in (
        task.notes
    )


def test_aul_takes_the_outlines_of_the_release_but_the_wrong_ones(root: Path) -> None:
    aul_release(root / "aul")
    for name in ("2", "229"):
        picture(root / f"aul/Benign/image/{name}.jpg")
        write(
            root / f"aul/Benign/segmentation/outline/{name}.json",
            "[[1, 1], [6, 1], [6, 5], [1, 5]]",
        )
    task = tasks.load("aul@rule", root)
    kinds = {
        item.image.name: type(item.scan_mask).__name__
        for split in task.splits.values()
        for item in split.items
    }
    assert kinds.pop("Benign/image/2.jpg") == "OutlineMask"
    assert set(kinds.values()) == {"EstimatedMask"}  # that of 229 is really the liver
    masks = [
        m for s in task.splits.values() for m in s.scan_masks or () if "Benign/image/2." in m.name
    ]
    assert masks[0].read().shape == (8, 9)
    assert masks[0].read().sum() == 6 * 5


def test_a_missing_file_moves_no_other(root: Path) -> None:
    aul_release(root / "aul")
    before = tasks.load("aul", root)
    gone = before.train.images[3].name
    (root / "aul" / gone).unlink()
    after = tasks.load("aul", root)
    assert names(after.train) == [n for n in names(before.train) if n != gone]
    assert names(after.validation) == names(before.validation)


def test_aul_refuses_foreign_rows(root: Path) -> None:
    aul_release(root / "aul")
    path = root / "ultrabench_splits/aul_mass/test.json"
    path.write_text(path.read_text().replace("normal_1.jpg", "cyst_1.jpg"))
    with pytest.raises(UserError, match=r"names 'images/cyst_1\.jpg'"):
        tasks.load("aul", root)


def test_mmotu(root: Path) -> None:
    mmotu_release(root / "mmotu")
    task = tasks.load("mmotu", root)
    assert [len(s) for s in task.splits.values()] == [64, 16, 40]
    assert task.counts()["validation"] == [2] * 8
    assert names(task.test) == [f"images/{n}.JPG" for n in range(81, 121)]  # the file's order
    for split in task.splits.values():
        assert all(int(re.sub(r"\D", "", n)) % 8 == label for n, label in labels(split).items())


@pytest.mark.parametrize("row", ["7.JPG", "7.JPG  8", "7.JPG  x", "7.JPG  -1"])
def test_mmotu_names_the_bad_line(root: Path, row: str) -> None:
    mmotu_release(root / "mmotu")
    path = root / "mmotu/OTU_2d/train_cls.txt"
    path.write_text(path.read_text().replace("7.JPG  7", row, 1))
    with pytest.raises(UserError, match=r"train_cls\.txt, line 7: .*from 0 to 7"):
        tasks.load("mmotu", root)


def test_busbra(root: Path) -> None:
    busbra_release(root / "busbra")
    for path in (root / "busbra/BUSBRA/Images").glob("*-r.png"):
        path.unlink()
    task = tasks.load("busbra", root)
    assert [len(s) for s in task.splits.values()] == [43, 5, 12]
    assert task.counts()["test"] == [6, 6]
    for split in task.splits.values():
        for (name, label), group in zip(labels(split).items(), split.groups or (), strict=True):
            assert re.fullmatch(rf"Images/bus_{int(group):04d}-[ls]\.png", name)
            assert label == int(group) % 2
    assert "40 of 100 rows of bus_data.csv have no image file (first: Images/bus_0001-r.png)" in (
        task.notes
    )
    assert "40 of 100 rows are further views of a patient: not used" in task.notes
    assert any("its members may differ" in note for note in task.notes)


def test_busbra_names_the_bad_line(root: Path) -> None:
    busbra_release(root / "busbra")
    path = root / "busbra/BUSBRA/bus_data.csv"
    path.write_text(path.read_text().replace("bus_0001-r,1,x,malignant", "bus_0001-r,1,x,unknown"))
    with pytest.raises(UserError, match=r"bus_data\.csv, line 3: .*Pathology"):
        tasks.load("busbra", root)


def test_butterfly(root: Path) -> None:
    butterfly_release(root / "butterfly")
    picture(root / "butterfly/butterfly_mini_dataset/training/3/ivc/001.png")
    picture(root / "butterfly/butterfly_dataset_test/26/logo.png")
    task = tasks.load("butterfly", root)
    assert [len(s) for s in task.splits.values()] == [20 * 9, 5 * 9, 6 * 9]
    assert set(task.test.groups or ()) == {str(p) for p in range(26, 32)}
    # GroupShuffleSplit(test_size=0.2, random_state=42) over patients 1 ... 25.
    held_out = np.random.RandomState(42).permutation(25)[:5] + 1
    assert set(task.validation.groups or ()) == {str(p) for p in held_out}
    for split in task.splits.values():
        for name, label in labels(split).items():
            assert name.split("/")[-2] == task.classes[label]
    assert any(note.startswith("2 png files lie outside") for note in task.notes)


def test_butterfly_without_test_set(root: Path) -> None:
    picture(root / "butterfly/butterfly_dataset_training1/1/ivc/001.png")
    with pytest.raises(UserError, match="has 1 training and 0 test images; unpack"):
        tasks.load("butterfly", root)


def test_fatty_liver_has_the_published_patients(root: Path) -> None:
    fatty_liver_release(root / "fatty_liver")
    task = tasks.load("fatty_liver", root)
    assert [len(s) for s in task.splits.values()] == [390, 50, 110]
    test = {3, 5, 12, 27, 31, 33, 34, 41, 44, 46, 47}
    validation = {7, 14, 35, 38, 49}
    assert {int(g) for g in task.test.groups or ()} == test
    assert {int(g) for g in task.validation.groups or ()} == validation
    assert {int(g) for g in task.train.groups or ()} == set(range(1, 56)) - test - validation
    stored = scipy.io.loadmat(root / "fatty_liver" / fatty_liver.FILE)["data"][0]
    for split in task.splits.values():
        for image, label, group in zip(split.images, split.labels, split.groups or (), strict=True):
            record = stored[int(group) - 1]
            frame = int(image.name.split("_")[1])
            assert (image.read() == record[3][frame][..., None]).all()
            assert label == record[1][0, 0]
    assert not any("in the paper" in note for note in task.notes)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(64), "cannot read"),
        (b"\x89HDF\r\n\x1a\n" + bytes(600), "cannot read"),
        (b"", "cannot read"),
        (b"x" * 1000, "cannot read"),
    ],
)
def test_fatty_liver_of_another_format(root: Path, content: bytes, wanted: str) -> None:
    path = root / "fatty_liver" / fatty_liver.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UserError, match=wanted):
        tasks.load("fatty_liver", root)


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("id", 2, "record 1 is not as released|patient 2 a second time"),
        ("id", 1.5, "record 1 .*not an integer"),
        ("class", 2, "record 1 .*class 2"),
        ("images", np.full((10, 4, 6), 0.5), "record 1 .*not integers"),
        ("images", np.zeros((4, 6), np.uint8), r"record 1 .*shape \(4, 6\)"),
    ],
)
def test_fatty_liver_of_another_content(root: Path, field: str, value: object, wanted: str) -> None:
    fatty_liver_release(root / "fatty_liver")
    path = root / "fatty_liver" / fatty_liver.FILE
    data = scipy.io.loadmat(path)["data"]
    data[0, 0][field] = value
    scipy.io.savemat(path, {"data": data})
    with pytest.raises(UserError, match=wanted):
        tasks.load("fatty_liver", root)


def test_fatty_liver_without_data(root: Path) -> None:
    path = root / "fatty_liver" / fatty_liver.FILE
    path.parent.mkdir(parents=True)
    scipy.io.savemat(path, {"other": 1})
    with pytest.raises(UserError, match="no variable 'data'"):
        tasks.load("fatty_liver", root)
    scipy.io.savemat(path, {"data": np.zeros(3)})
    with pytest.raises(UserError, match="not a struct array"):
        tasks.load("fatty_liver", root)


def test_gbcu(root: Path) -> None:
    gbcu_release(root / "gbcu")
    task = tasks.load("gbcu", root)
    assert [len(s) for s in task.splits.values()] == [81, 9, 30]
    assert task.counts()["validation"] == [3, 3, 3]
    assert names(task.test) == [f"imgs/im{n:05d}.jpg" for n in range(90, 120)]
    assert all(int(n[7:12]) % 3 == label for n, label in labels(task.train).items())
    _, held_out = train_test_split(
        range(90), test_size=0.1, random_state=42, stratify=[n % 3 for n in range(90)]
    )
    assert names(task.validation) == [f"imgs/im{n:05d}.jpg" for n in held_out]


def test_gbcu_with_an_image_in_both_lists(root: Path) -> None:
    gbcu_release(root / "gbcu")
    with (root / "gbcu/GBCU-Shared/test.txt").open("a") as file:
        file.write("im00003.jpg,0\n")
    with pytest.raises(UserError, match=r"listed more than once \(first: imgs/im00003\.jpg\)"):
        tasks.load("gbcu", root)


def test_pocus(root: Path) -> None:
    pocus_release(root / "pocus")
    task = tasks.load("pocus", root)
    # 30 images and 29 videos of the three classes; 12 sources of 59 in test, 5 of 47 in validation
    sources = [set(split.groups or ()) for split in task.splits.values()]
    assert [len(s) for s in sources] == [42, 5, 12]
    assert not any(source.startswith("Vir_") for s in sources for source in s)
    assert "Reg_a 0.PNG" in set.union(*sources)
    frames: dict[str, list[int]] = {}
    for split in task.splits.values():
        for name, label in labels(split).items():
            assert Path(name).name[:3].lower() == ("reg", "pne", "cov")[label]
            if "#" in name:
                video, _, index = name.partition("#")
                frames.setdefault(Path(video).name, []).append(int(index))
    assert frames["pneu-(4).avi"] == [1, 4, 7, 10, 13]  # 14 frames at 9 Hz, every third
    assert len(frames) == 29
    for wanted in (
        "10 files of pocus_images/convex show viral pneumonia",
        "10 files of pocus_videos/convex show viral pneumonia",
        "1 files of pocus_videos/convex are ignored, as in UltraBench",
        "59 source files here, none of them among the 148 behind UltraBench's documented counts",
    ):
        assert any(note.startswith(wanted) for note in task.notes), wanted


def test_a_clip_of_pocus_has_one_mask(root: Path) -> None:
    pocus_release(root / "pocus")
    task = tasks.load("pocus", root)
    split = task.train
    assert split.scan_masks is not None
    of_source: dict[str, set[str]] = {}
    for image, mask, group in zip(split.images, split.scan_masks, split.groups or (), strict=True):
        of_source.setdefault(group, set()).add(mask.digest())
        assert mask.read().shape == image.read().shape[:2]
    assert all(len(digests) == 1 for digests in of_source.values())


def test_pocus_names_a_damaged_video(root: Path) -> None:
    pocus_release(root / "pocus")
    (root / "pocus/data/pocus_videos/convex/Reg_x.mp4").write_bytes(b"x")
    with pytest.raises(UserError, match=r"cannot read video .*Reg_x\.mp4"):
        tasks.load("pocus", root)


def test_tn5000(root: Path) -> None:
    tn5000_release(root / "tn5000")
    (next(root.rglob("000050.xml"))).write_text(
        "<annotation><object><name>0</name></object><object><name>1</name></object></annotation>"
    )
    task = tasks.load("tn5000", root)
    assert [len(s) for s in task.splits.values()] == [30, 10, 20]
    wanted = {f"JPEGImages/{n:06d}.jpg": int(n % 2 or n == 50) for n in range(40, 60)}
    assert labels(task.test) == wanted
    assert any("1 images have benign and malignant nodules" in note for note in task.notes)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ("<annotation", "000031.xml is not valid XML"),
        ("<annotation/>", r"000031\.xml names its nodules \[\]"),
        ("<a><object><name>nodule</name></object></a>", r"names its nodules \['nodule'\]"),
        (None, r"cannot read .*000031\.xml \(No such file"),
    ],
)
def test_tn5000_names_a_bad_annotation(root: Path, content: str | None, wanted: str) -> None:
    tn5000_release(root / "tn5000")
    path = next(root.rglob("000031.xml"))
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=wanted):
        tasks.load("tn5000", root)
