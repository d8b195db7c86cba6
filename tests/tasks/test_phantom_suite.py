"""The phantom suite as files: eight release layouts, the same bytes, never over foreign data."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import av
import numpy as np
import PIL.Image
import pytest
import scipy.io

import tasks
from tasks import phantom, splits
from tasks.phantom import picture, shapes, suite
from tasks.phantom.machine import Machine, Style
from tasks.phantom.picture import Motion, Study
from tasks.phantom.plan import SIZES, Size
from tasks.phantom.releases import aul, pocus
from tasks.phantom.scene import FLUID, Scene
from tasks.phantom.shapes import Blob
from ultrabench_eval.core.errors import UserError

FOLDERS = [*phantom.TASKS, "ultrabench_splits/aul_mass"]


@pytest.fixture
def root(phantom_root: Path) -> Path:
    """The whole suite at `tiny`."""
    return phantom_root


@pytest.fixture(autouse=True)
def _offer_tiny(tiny: Size) -> None:
    """The size is on offer in every test."""


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_folder_is_complete_and_says_what_it_is(root: Path) -> None:
    for name in FOLDERS:
        marker = json.loads((root / name / "SYNTHETIC.json").read_text())
        assert marker["version"] == phantom.VERSION
        assert (marker["size"], marker["seed"]) == ("tiny", 3)
        assert "imulated" in marker["what"]
    assert not list(root.rglob(suite.INCOMPLETE_MARKER))


def test_layout_of_aul(root: Path) -> None:
    base = root / "aul"
    for name in aul.FOLDERS:
        numbers = sorted(int(path.stem) for path in (base / name / "image").glob("*.jpg"))
        assert numbers == list(range(1, len(numbers) + 1))
        kinds = {"outline", "liver"} | ({"mass"} if name != "Normal" else set())
        assert {path.name for path in (base / name / "segmentation").iterdir()} == kinds
        for kind in kinds:
            polygon = np.array(
                json.loads((base / name / f"segmentation/{kind}/1.json").read_text())
            )
            assert polygon.shape[1] == 2
            with PIL.Image.open(base / name / "image/1.jpg") as image:
                assert image.mode == "RGB"
                middle = polygon.mean(axis=0)
                assert 0 < middle[0] < image.width
                assert 0 < middle[1] < image.height
    rows = {
        part: json.loads((root / f"ultrabench_splits/aul_mass/{part}.json").read_text())
        for part in ("train_val", "test")
    }
    named = Counter(row["image"] for part in rows.values() for row in part)
    on_disk = {
        f"images/{name.lower()}_{path.stem}.jpg"
        for name in aul.FOLDERS
        for path in (base / name / "image").iterdir()
    }
    assert set(named) == on_disk
    assert set(named.values()) == {1}
    assert list(rows["test"][0]) == [
        "pathology",
        "label",
        "image",
        "scan_mask",
        "liver_mask",
        "mass_mask",
    ]


def test_mass_polygons_fit_the_picture() -> None:
    """A cyst is black inside of its polygon and grey around it."""
    study = Study(0, "cyst", Style(depth=(120, 120), frequency=(3, 3), gain=(0, 0)))

    def build(scene: Scene, _: np.random.Generator) -> np.ndarray:
        blob = Blob(10, 60, 20, 12, 0.3)
        scene.paint(blob.level(scene.x, scene.z), FLUID)
        return blob.polygon()

    shifted = study.take(build, Motion(1, (6.0, -4.0)))
    inside = shifted.mask(shifted.finding)
    left, top, right, bottom = shifted.box(shifted.finding)
    grey = picture.grey(shifted.image)
    around = np.zeros_like(inside)
    around[top - 12 : bottom + 12, left - 12 : right + 12] = True
    assert np.median(grey[inside]) < 20
    assert np.median(grey[around & ~inside]) > 70
    assert not inside[:top].any()
    assert not inside[:, :left].any()


def test_layout_of_busbra(root: Path) -> None:
    base = root / "busbra/BUSBRA"
    with (base / "bus_data.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert ",".join(rows[0]) == "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"
    views: dict[str, str] = {}
    for row in rows:
        with PIL.Image.open(base / f"Images/{row['ID']}.png") as image:
            assert image.mode == "L"
            assert image.size == (int(row["Width"]), int(row["Height"]))
        with PIL.Image.open(base / f"Masks/{row['ID'].replace('bus', 'mask')}.png") as mask:
            x, y, width, height = json.loads(row["BBOX"])
            found = np.argwhere(np.asarray(mask.convert("L")))
            np.testing.assert_allclose(found.min(axis=0), (y, x), atol=2)
            np.testing.assert_allclose(found.max(axis=0), (y + height, x + width), atol=2)
        views[row["Case"]] = views.get(row["Case"], "") + row["ID"][-1]
    assert set(views.values()) == {"lr", "s"}
    assert len(list((base / "Images").iterdir())) == len(rows)
    assert "NaN" in (base / "5-fold-cv.csv").read_text()


def test_layout_of_butterfly(root: Path) -> None:
    classes: dict[str, set[str]] = {}
    for path in (root / "butterfly").glob("*/*/*/*.png"):
        part, patient, name, _ = path.relative_to(root / "butterfly").parts
        assert ("training" in part) == (int(patient) < 26)
        classes.setdefault(name, set()).add(part)
    assert len(classes) == 9
    assert all("butterfly_dataset_test" in parts for parts in classes.values())


def test_layout_of_fatty_liver(root: Path) -> None:
    data = scipy.io.loadmat(
        str(root / "fatty_liver/dataset_liver_bmodes_steatosis_assessment_IJCARS.mat")
    )["data"]
    assert data.shape == (1, 55)
    assert data.dtype.names == ("id", "class", "fat", "images")
    for patient, (number, label, fat, images) in enumerate(data[0], 1):
        assert int(number.item()) == patient
        assert int(label.item()) == int(fat.item() >= 5) == int(patient > 17)
        assert images.dtype == np.uint8
        assert images.ndim == 3
    first, second = data[0, 0]["images"][:2].astype(float)
    other = data[0, 1]["images"][0].astype(float)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.9  # near copies
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] < 0.9


def test_layout_of_gbcu(root: Path) -> None:
    base = root / "gbcu"
    boxes = json.loads((base / "bbox_annot.json").read_text())
    listed = {}
    for part in ("train", "test"):
        for line in (base / f"{part}.txt").read_text().splitlines():
            name, label = line.split(",")
            listed[name] = int(label)
    assert set(listed.values()) == {0, 1, 2}
    assert set(listed) == set(boxes) == {path.name for path in (base / "imgs").iterdir()}
    for name, label in listed.items():
        kind, (x0, y0, x1, y1) = boxes[name]["bbs"][0]
        assert kind == ("nml", "abn", "malg")[label]
        with PIL.Image.open(base / "imgs" / name) as image:
            assert list(image.size) == boxes[name]["dim"]
            assert 0 <= x0 < x1 < image.width
            assert 0 <= y0 < y1 < image.height
    assert (base / "roi_pred.json").is_file()


def test_layout_of_mmotu(root: Path) -> None:
    base = root / "mmotu/OTU_2d"
    listed = []
    for part in ("train", "val"):
        names = (base / f"{part}.txt").read_text().splitlines()
        rows = (base / f"{part}_cls.txt").read_text().splitlines()
        assert [row.split("  ")[0] for row in rows] == [f"{name}.JPG" for name in names]
        assert {int(row.split("  ")[1]) for row in rows} == set(range(8))
        listed += names
    assert sorted(map(int, listed)) == list(range(1, len(listed) + 1))
    for name in listed:
        with PIL.Image.open(base / f"images/{name}.JPG") as image:
            size = image.size
        with PIL.Image.open(base / f"annotations/{name}.PNG") as mask:
            assert (mask.mode, mask.size) == ("RGB", size)
        with PIL.Image.open(base / f"annotations/{name}_binary.PNG") as binary:
            assert set(np.unique(np.asarray(binary))) == {0, 1}


def test_layout_of_pocus(root: Path) -> None:
    base = root / "pocus/data"
    videos = [path.name for path in (base / "pocus_videos/convex").iterdir()]
    assert any(name.startswith("Vir_") for name in videos)
    assert any(name.startswith("pneu-") for name in videos)
    assert any(name.endswith(".MP4") for name in videos)
    assert {name[:3].lower() for name in videos} == {"reg", "pne", "cov", "vir"}
    assert (base / "dataset_metadata.csv").is_file()
    for name in videos:
        with av.open(str(base / "pocus_videos/convex" / name)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            rate = float(stream.average_rate or 0)
        assert len(range(1, len(frames), int(rate / 3))[:30]) >= 3, name


def test_layout_of_tn5000(root: Path) -> None:
    base = root / "tn5000/TN5000_forReview"
    parts = {
        part: (base / f"ImageSets/Main/{part}.txt").read_text().splitlines()
        for part in ("train", "val", "trainval", "test")
    }
    assert parts["trainval"] == parts["train"] + parts["val"]
    names = parts["trainval"] + parts["test"]
    assert sorted(names) == sorted(path.stem for path in (base / "JPEGImages").iterdir())
    for name in names:
        tree = ElementTree.parse(base / f"Annotations/{name}.xml")
        assert tree.findtext("object/name") in {"0", "1"}
        with PIL.Image.open(base / f"JPEGImages/{name}.jpg") as image:
            assert image.size == (
                int(tree.findtext("size/width") or 0),
                int(tree.findtext("size/height") or 0),
            )


@pytest.mark.parametrize("size", sorted(phantom.SIZES))
def test_pocus_splits_hold_all_classes(size: str) -> None:
    """Names alone decide the draw, so this can be seen without making a picture."""
    kinds = list(pocus.KINDS.values())
    names, labels = [], []
    for source in sorted(pocus.sources(SIZES[size]), key=lambda source: Path(source.path).name):
        frames = 1 if "images" in source.path else 3
        if source.is_taken:
            names += [Path(source.path).name] * frames
            labels += [kinds.index(source.kind)] * frames
    held = np.array(labels)
    pool, test = splits.grouped(names, 0.2, 42)
    train, validation = splits.grouped([names[i] for i in pool], 0.1, 42)
    assert np.bincount(held[test], minlength=3).min() >= 2
    assert np.bincount(held[pool[validation]], minlength=3).min() >= 2
    assert np.bincount(held[pool[train]], minlength=3).min() >= 3


# Writing


def test_bytes_do_not_depend_on_subset_order_or_workers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "_processors", lambda: 1)
    calls: list[tuple[str, int, int]] = []
    phantom.write(
        tmp_path,
        size="tiny",
        seed=3,
        tasks=["pocus", "aul", "fatty_liver"],
        progress=lambda *call: calls.append(call),
    )
    for name in ("pocus", "aul", "fatty_liver", "ultrabench_splits/aul_mass"):
        assert digests(tmp_path / name) == digests(root / name), name
    assert not (tmp_path / "mmotu").exists()
    last = {task: (done, total) for task, done, total in calls}
    assert list(last) == ["pocus", "aul", "fatty_liver"]
    assert all(done == total for done, total in last.values())


def test_another_seed_gives_other_pictures(root: Path, tmp_path: Path) -> None:
    phantom.write(tmp_path, size="tiny", seed=4, tasks=["tn5000"])
    ours, theirs = digests(tmp_path / "tn5000"), digests(root / "tn5000")
    assert set(ours) == set(theirs)
    pictures = [name for name in ours if name.endswith(".jpg")]
    assert all(ours[name] != theirs[name] for name in pictures)
    assert len({ours[name] for name in pictures}) == len(pictures)


KILLED = """
import os, sys
from pathlib import Path
from tasks import phantom
from tasks.phantom.plan import SIZES, Size
SIZES["tiny"] = Size("tiny", 0.3, 0.4)
def progress(task, done, total):
    if task == "gbcu" and done == 7:
        os._exit(9)
phantom.write(Path(sys.argv[1]), "tiny", 3, ["tn5000", "gbcu", "mmotu"], progress)
"""


def test_a_killed_run_is_taken_up_again(root: Path, tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=Path(tasks.__file__).parents[1]
    )
    assert killed.returncode == 9
    assert (tmp_path / "tn5000/SYNTHETIC.json").exists()
    assert (tmp_path / "gbcu" / suite.INCOMPLETE_MARKER).exists()
    assert not (tmp_path / "gbcu/SYNTHETIC.json").exists()
    (tmp_path / "gbcu/imgs/im99999.jpg").write_bytes(b"left over")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "tn5000").rglob("*") if p.is_file()}

    phantom.write(tmp_path, "tiny", 3, ["tn5000", "gbcu", "mmotu"])
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name in ("tn5000", "gbcu", "mmotu"):
        assert digests(tmp_path / name) == digests(root / name)


def test_a_complete_suite_is_left_alone(root: Path) -> None:
    before = digests(root)
    phantom.write(root, "tiny", 3, progress=lambda *call: pytest.fail(f"worked on {call}"))
    assert digests(root) == before


@pytest.mark.parametrize("name", ["busbra", "ultrabench_splits/aul_mass"])
def test_foreign_data_is_never_touched(name: str, tmp_path: Path) -> None:
    precious = tmp_path / name / "precious.bin"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"real")
    with pytest.raises(UserError, match="not of the phantom suite"):
        phantom.write(tmp_path, "tiny", tasks=["tn5000", "busbra", "aul"])
    assert digests(tmp_path / name) == {"precious.bin": hashlib.sha256(b"real").hexdigest()}
    assert not (tmp_path / "tn5000").exists()  # refused before anything is written


@pytest.mark.parametrize("change", [{"seed": 4}, {"size": "small"}])
def test_another_suite_is_refused(root: Path, change: dict[str, object]) -> None:
    before = digests(root / "tn5000")
    arguments = {"size": "tiny", "seed": 3, "tasks": ["tn5000"], **change}
    with pytest.raises(UserError, match=r"another phantom suite .* delete it"):
        phantom.write(root, **arguments)  # type: ignore[arg-type]
    assert digests(root / "tn5000") == before


def test_another_version_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "VERSION", "0")
    with pytest.raises(UserError, match="another phantom suite"):
        phantom.write(root, "tiny", 3, ["tn5000"])


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": "1"}'])
def test_a_strange_marker_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "gbcu").mkdir()
    (tmp_path / "gbcu/SYNTHETIC.json").write_text(content)
    with pytest.raises(UserError, match="choose another folder"):
        phantom.write(tmp_path, "tiny", tasks=["gbcu"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": "huge"}, "unknown phantom size 'huge'"),
        ({"tasks": ["heart"]}, "no task 'heart'"),
    ],
)
def test_unknown_names_are_refused(
    arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        phantom.write(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        phantom.write(tmp_path / "file")
    (tmp_path / "gbcu").write_text("")
    with pytest.raises(UserError, match="is a file"):
        phantom.write(tmp_path, tasks=["gbcu"])


@pytest.mark.slow
def test_small_suite_reads_like_real_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All its images, each at a tenth of its height and width, and noise in place of echoes."""

    def noise(self: Study, scene: Scene, scanner: Machine, motion: Motion) -> np.ndarray:
        drawn = np.random.default_rng([*self.name.encode(), motion.frame])
        return scanner.canvas.convert(drawn.random(scene.x.shape, np.float32))

    monkeypatch.setattr(Study, "_grey", noise)
    plain = SimpleNamespace(
        gaussian_filter=lambda tile, *_, **__: tile,
        map_coordinates=lambda tile, place, **_: np.zeros_like(place[0]),
    )
    monkeypatch.setattr(shapes, "ndimage", plain)  # of texture that nobody sees
    assert SIZES["small"] == Size("small", 1.0, 1.0)
    monkeypatch.setitem(SIZES, "small", Size("small", 1.0, 0.1))
    phantom.write(tmp_path, tasks=tasks.OF_THE_PAPER)
    total = 0
    for name in tasks.OF_THE_PAPER:
        task = tasks.load(name, tmp_path)
        assert task.synthetic
        counts = task.counts()
        assert min(counts["train"]) >= 3, name
        assert min(counts["validation"]) >= 2, name
        assert min(counts["test"]) >= 2, name
        total += sum(len(split) for split in task.splits.values())
        for split in task.splits.values():
            image = split.images[0].read()
            assert image.dtype == np.uint8
            assert min(image.shape[:2]) >= 0.1 * 150
    assert 1200 <= total <= 1700
