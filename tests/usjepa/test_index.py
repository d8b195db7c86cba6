"""Folders become an index: what is taken, what is left out and why, what is not made again."""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import pydicom
import pytest
from dicom_files import save_dicom
from pydicom.uid import DeflatedExplicitVRLittleEndian
from scipy import ndimage

import tasks
from tasks.phantom import clip
from tasks.samples import dicom
from tasks.samples.images import ImageFile
from tasks.scan import scan_mask
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from usjepa.frames import index as indexing
from usjepa.frames import preprocess
from usjepa.frames.index import build, sources_of
from usjepa.frames.store import Frames, Settings, open_index
from usjepa.frames.writer import Writer


def texture(number: int, height: int = 40, width: int = 56) -> np.ndarray:
    """Something like speckle, uint8 [H, W]."""
    noise = np.random.default_rng(number).normal(size=(height, width))
    smooth = ndimage.gaussian_filter(noise, 1.5)
    return np.interp(smooth, (smooth.min(), smooth.max()), (20, 230)).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)
    return path


def save_video(path: Path, frames: int, number: int = 0, rate: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [np.repeat(texture(number + i)[..., None], 3, 2) for i in range(frames)]
    path.write_bytes(clip.encode(images, path.suffix, rate))
    return path


def names(index: Frames) -> list[str]:
    return [index.name(i) for i in range(len(index))]


def removed(folder: Path) -> list[list[str]]:
    return list(csv.reader((folder / "removed.csv").open(encoding="utf-8")))[1:]


def test_folders_are_sets(tmp_path: Path) -> None:
    root = tmp_path / "all"
    save(root / "top.png", texture(0))
    save(root / "hearts" / "b.png", texture(1))
    save(root / "hearts" / "deep" / "A.JPG", texture(2))
    save(root / "livers" / "c.bmp", texture(3, 50, 33))
    save(root / ".hidden" / "d.png", texture(4))
    (root / "empty").mkdir()
    (root / "empty" / "labels.csv").touch()
    (root / "elsewhere").symlink_to(tmp_path / "linked")
    save(tmp_path / "linked" / "e.png", texture(5))
    (tmp_path / "linked" / "round").symlink_to(tmp_path / "linked")

    index = build(root, tmp_path / "index")
    assert index.sets == ("all", "elsewhere", "hearts", "livers")
    assert names(index) == [
        "all/top.png",
        "elsewhere/e.png",
        "hearts/b.png",
        "hearts/deep/A.JPG",
        "livers/c.bmp",
    ]
    np.testing.assert_array_equal(index.read(0).pixels, texture(0))
    assert index.read(0).region is None
    assert index.read(4).pixels.shape == (50, 33)
    assert len(np.unique(index.groups("hearts"))) == 2


def test_one_folder_of_images_is_one_set(tmp_path: Path) -> None:
    save(tmp_path / "scans" / "a.png", texture(0))
    assert build(tmp_path / "scans", tmp_path / "index").sets == ("scans",)


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "breasts"
    save(folder / "benign (1).png", texture(0))
    save(folder / "benign (1)_mask.png", texture(1))
    save(folder / "benign (1)_mask_1.png", texture(1))
    save(folder / "x_SEG.png", texture(2))
    save(folder / "copy.png", texture(0))
    save(folder / "black.png", np.zeros((40, 50), np.uint8))
    save(folder / "._benign (1).png", texture(3))
    (folder / "broken.png").write_bytes((folder / "copy.png").read_bytes()[:300])
    (folder / "video.mp4").write_bytes(b"no video")
    (folder / "list.xml").touch()

    index = build(tmp_path / "root", tmp_path / "index")
    assert names(index) == ["breasts/benign (1).png"]
    rows = {name: (reason, detail) for name, reason, detail in removed(tmp_path / "index/breasts")}
    assert {name: reason for name, (reason, _) in rows.items()} == {
        "._benign (1).png": "hidden",
        "benign (1)_mask.png": "mask",
        "benign (1)_mask_1.png": "mask",
        "x_SEG.png": "mask",
        "black.png": "no contrast",
        "broken.png": "corrupt",
        "copy.png": "duplicate",
        "list.xml": "neither image nor video",
        "video.mp4": "corrupt",
    }
    assert "cannot read image" in rows["broken.png"][1]
    told = json.loads((tmp_path / "index/breasts/set.json").read_text())
    assert told["removed"] == dict(Counter(reason for reason, _ in rows.values()))


def test_a_set_without_a_good_frame_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "root" / "a" / "fine.png", texture(0))
    (tmp_path / "root" / "b").mkdir()
    for i in range(3):
        (tmp_path / "root" / "b" / f"{i}.png").write_bytes(b"?")
    with pytest.raises(UserError, match=r"no frame of .*b can be used \(corrupt 3; .*0\.png"):
        build(tmp_path / "root", tmp_path / "index")
    assert open_index(tmp_path / "index").sets == ("a",)  # and is not made again


def test_video_frames_are_one_group(tmp_path: Path) -> None:
    save_video(tmp_path / "root" / "lungs" / "a.mp4", 20)
    save_video(tmp_path / "root" / "lungs" / "b.AVI", 16, number=50)
    save(tmp_path / "root" / "lungs" / "c.png", texture(99))
    shutil.copy(tmp_path / "root" / "lungs" / "b.AVI", tmp_path / "root" / "lungs" / "copy.avi")
    index = build(tmp_path / "root", tmp_path / "index")
    at_three_a_second = [f"lungs/a.mp4#{i}" for i in range(1, 20, 3)]
    assert names(index)[:7] == at_three_a_second
    _, sizes = np.unique(index.groups("lungs"), return_counts=True)
    assert sorted(sizes.tolist()) == [1, 5, 7]
    assert Counter(reason for _, reason, _ in removed(tmp_path / "index/lungs")) == {"duplicate": 5}

    index = build(tmp_path / "root", tmp_path / "slow", rate=1, limit=1)
    assert names(index) == ["lungs/a.mp4#1", "lungs/b.AVI#1", "lungs/c.png"]


def test_a_damaged_video_does_not_end_the_run(tmp_path: Path) -> None:
    whole = save_video(tmp_path / "root" / "lungs" / "a.avi", 30)
    content = bytearray(whole.read_bytes())
    content[2000:-1000] = bytes(len(content) - 3000)
    (whole.parent / "b.avi").write_bytes(content)
    index = build(tmp_path / "root", tmp_path / "index")
    assert {name.partition("#")[0] for name in names(index)} == {"lungs/a.avi"}
    assert {reason for _, reason, _ in removed(tmp_path / "index/lungs")} == {"corrupt"}


def test_frames_are_made_grey_and_small(tmp_path: Path) -> None:
    image = np.repeat(texture(0, 300, 500)[..., None], 3, 2)
    image[100:110, 200:260] = (230, 220, 60)
    save(tmp_path / "root" / "a" / "large.png", image)
    index = build(tmp_path / "root", tmp_path / "index", Settings(size=100))
    frame = index.read(0)
    assert frame.pixels.shape == (100, 167)
    smaller = PIL.Image.fromarray(preprocess.grey(image, 0.05)).resize(
        (167, 100), PIL.Image.Resampling.BICUBIC
    )
    np.testing.assert_array_equal(frame.pixels, smaller)

    colour = build(tmp_path / "root", tmp_path / "colour", Settings(grey=False, size=300))
    np.testing.assert_array_equal(colour.read(0).pixels, image)


def test_the_region_goes_with_the_frame(tmp_path: Path) -> None:
    image = np.zeros((300, 400), np.uint8)
    image[60:240, 80:320] = texture(0, 180, 240)
    save(tmp_path / "root" / "a" / "screen.png", image)
    frame = build(tmp_path / "root", tmp_path / "index", Settings(size=150)).read(0)
    assert frame.region is not None
    assert frame.region.shape == frame.pixels.shape == (150, 200)
    np.testing.assert_array_equal(frame.region, scan_mask.estimate(image)[1::2, 1::2])


def test_odd_shapes_do_not_end_the_run(tmp_path: Path) -> None:
    shapes = [(1, 1), (1, 70_000), (70_000, 2), (3, 3), (2, 900), (40, 56)]
    for number, shape in enumerate(shapes):
        pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
        save(tmp_path / "root" / "a" / f"{number}.png", pixels)
    index = build(tmp_path / "root", tmp_path / "index")
    assert names(index) == ["a/3.png", "a/4.png", "a/5.png"]
    assert [row[:2] for row in removed(tmp_path / "index/a")] == [
        ["0.png", "no contrast"],
        ["1.png", "too long"],
        ["2.png", "too long"],
    ]


# Tasks


def test_of_a_task_only_training_images_are_taken(phantom_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("aul", "pocus", "ultrabench_splits"):
        if (phantom_root / name).exists():
            (root / name).symlink_to(phantom_root / name)
    save(root / "hearts" / "a.png", texture(0))
    index = build(root, tmp_path / "index")
    assert index.sets == ("aul", "hearts", "pocus")
    for name in ("aul", "pocus"):
        task = tasks.load(name, root)
        first, count = index.first(name), int(index.counts[index.sets.index(name)])
        taken = {index.name(i) for i in range(first, first + count)}
        assert taken == {f"{name}/{image.name}" for image in task.train.images}
        told = json.loads((tmp_path / "index" / name / "set.json").read_text())["source"]
        assert told["task"] == name
        assert told["splits"] == ["train"]
        assert len(np.unique(index.groups(name))) == len(
            set(task.train.groups or task.train.images)
        )

    item = tasks.load("aul", root).train.items[0]
    assert item.scan_mask is not None
    frame = index.read(index.first("aul"))
    assert frame.pixels.shape[0] <= 288
    if frame.pixels.shape == item.image.read().shape[:2]:
        wanted = item.scan_mask.read()
        np.testing.assert_array_equal(wanted if frame.region is None else frame.region, wanted)

    # The folder of the task itself does not count as another data set.
    alone = sources_of(root / "aul")
    assert [source.task is not None for source in alone] == [True]
    more = build(alone, tmp_path / "more", splits=("train", "validation"))
    assert len(more) > int(index.counts[0])


def test_a_folder_named_as_a_task_must_be_one(tmp_path: Path) -> None:
    save(tmp_path / "root" / "aul" / "a.png", texture(0))
    with pytest.raises(UserError, match=r"has the name of task 'aul'.*rename the folder"):
        sources_of(tmp_path / "root")


def test_an_empty_region_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(2):
        save(tmp_path / "root" / "a" / f"{i}.png", texture(i))
    monkeypatch.setattr(
        scan_mask, "estimate", lambda image: np.full((40, 56), image[0, 0, 0] == texture(0)[0, 0])
    )
    index = build(tmp_path / "root", tmp_path / "index")
    assert names(index) == ["a/0.png"]
    assert removed(tmp_path / "index/a") == [["1.png", "empty region", ""]]


# The guard


class Matched(NamedTuple):
    task: str = "aul"
    image: str = "Benign/image/7.jpg"
    grade: str = "near duplicate"
    correlation: float = 0.968


@dataclass
class Watch:
    """Takes the images with these digests for test images."""

    known: set[str]
    tasks: tuple[str, ...] = ("aul",)
    digest: str = "f" * 64
    seen: list[int] = field(default_factory=list)

    def check(self, images: list[np.ndarray]) -> list[Matched | None]:
        self.seen.append(len(images))
        assert all(image.ndim == 3 and image.dtype == np.uint8 for image in images)
        return [Matched() if digest(image[..., 0]) in self.known else None for image in images]


def digest(pixels: np.ndarray) -> str:
    return hashing.digest_bytes(pixels.tobytes())


def test_test_images_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "CHUNK", 4)
    for i in range(10):
        save(tmp_path / "root" / "a" / f"{i}.png", texture(i))
    (tmp_path / "root" / "a" / "3x.png").write_bytes(b"?")
    guard = Watch({digest(texture(i)) for i in (2, 7)})
    index = build(tmp_path / "root", tmp_path / "index", guard=guard)
    assert names(index) == [f"a/{i}.png" for i in (0, 1, 3, 4, 5, 6, 8, 9)]
    detail = "aul test image Benign/image/7.jpg (near duplicate, 0.97)"
    assert [row for row in removed(tmp_path / "index/a") if row[1] != "corrupt"] == [
        ["2.png", "evaluation image", detail],
        ["7.png", "evaluation image", detail],
    ]
    assert max(guard.seen) <= 4
    assert sum(guard.seen) == 10
    assert index.guard == {"tasks": ["aul"], "digest": "f" * 64}


# What is there already


def test_only_what_changed_is_made_again(tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "index"
    for name in ("a", "b"):
        save(root / name / "0.png", texture(0))

    def made(**options: Any) -> set[str]:
        """The sets that `build` makes again."""
        for name in ("a", "b"):
            if (out / name).exists():
                (out / name / "old").touch()
        build(root, out, **options)
        return {name for name in ("a", "b") if not (out / name / "old").exists()}

    assert made() == {"a", "b"}
    assert made() == set()
    save(root / "b" / "1.png", texture(1))
    assert made() == {"b"}
    assert made(settings=Settings(size=100)) == {"a", "b"}
    assert made(settings=Settings(size=100), guard=Watch(set())) == {"a", "b"}
    assert made(settings=Settings(size=100), guard=Watch(set())) == set()
    assert made(settings=Settings(size=100), guard=Watch(set(), digest="0")) == {"a", "b"}
    assert made() == {"a", "b"}
    assert made(rate=1) == {"a", "b"}
    (out / "a" / "pixels-00000.bin").unlink()
    assert made(rate=1) == {"a"}


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "set.json": lambda folder: flipped(folder / "set.json"),
    "json": lambda folder: (folder / "set.json").write_text("[]"),
    "no set.json": lambda folder: (folder / "set.json").unlink(),
    "records.npy": lambda folder: flipped(folder / "records.npy"),
    "frames.csv": lambda folder: flipped(folder / "frames.csv"),
    "removed.csv": lambda folder: (folder / "removed.csv").unlink(),
    "pixels": lambda folder: flipped(folder / "pixels-00000.bin"),
    "another set": lambda folder: shutil.copytree(folder.parent / "b", folder, dirs_exist_ok=True),
    "earlier version": lambda folder: (folder / "set.json").write_text(
        json.dumps({**json.loads((folder / "set.json").read_text()), "format": 1})
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_set_is_made_again_by_itself(
    damage: Callable[[Path], object], tmp_path: Path
) -> None:
    root, out = tmp_path / "root", tmp_path / "index"
    for number, name in enumerate(("a", "b")):
        save(root / name / "0.png", texture(number))
    right = build(root, out).fingerprint
    damage(out / "a")
    (out / "b" / "old").touch()
    with pytest.raises(UserError, match=r"index/a.* run `usjepa index") as caught:
        open_index(out).read(0)
    assert "\n" not in str(caught.value)
    told: list[str] = []
    assert build(root, out, tell=told.append).fingerprint == right
    assert told == [f"{out / 'a'} is damaged or of an earlier version; it is made again"]
    open_index(out).read(0)
    assert (out / "b" / "old").exists()
    build(root, out, tell=told.append)
    assert len(told) == 1


def test_a_frame_that_memory_does_not_hold_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        save(tmp_path / "root" / "a" / f"{i}.png", texture(i))
    plain = ImageFile.read

    def read(image: ImageFile, digest: str | None = None) -> np.ndarray:
        if image.name == "0.png":
            raise MemoryError("cannot allocate 12 GiB")
        return plain(image, digest)

    monkeypatch.setattr(ImageFile, "read", read)
    assert names(build(tmp_path / "root", tmp_path / "index")) == ["a/1.png"]
    assert removed(tmp_path / "index/a") == [
        ["0.png", "too large", "it does not fit into memory: cannot allocate 12 GiB"]
    ]


def test_an_image_that_changes_while_it_is_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(2):
        save(tmp_path / "root" / "a" / f"{i}.png", texture(i))
    monkeypatch.setattr(ImageFile, "digest", lambda image: f"{image.name[0]:>064}")
    plain = ImageFile.read
    monkeypatch.setattr(
        ImageFile,
        "read",
        lambda image, digest: plain(image, digest if image.name == "0.png" else None),
    )
    index = build(tmp_path / "root", tmp_path / "index")
    assert names(index) == ["a/1.png"]
    ((name, reason, detail),) = removed(tmp_path / "index/a")
    assert (name, reason) == ("0.png", "corrupt")
    assert "changed while it was being read" in detail


def test_waiting_for_another_process_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "root" / "a" / "0.png", texture(0))
    monkeypatch.setattr(indexing, "_PATIENCE", 0.05)
    told: list[str] = []
    held = files.locked(tmp_path / "index" / ".index")
    held.__enter__()

    def tell(text: str) -> None:
        told.append(text)
        held.__exit__(None, None, None)

    build(tmp_path / "root", tmp_path / "index", tell=tell)
    assert told == [
        f"another process makes the index {tmp_path / 'index'}; waiting until it is done"
    ]


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = tmp_path / "root", tmp_path / "index"
    for name in ("a", "b"):
        for i in range(3):
            save(root / name / f"{i}.png", texture(i))

    def stop(name: str, done: int, total: int) -> None:
        assert total == 3
        if name == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(root, out, progress=stop)
    assert [path.name for path in sorted(out.iterdir()) if path.is_dir()] == ["a"]
    (out / "a" / "old").touch()
    assert len(build(root, out)) == 6
    assert (out / "a" / "old").exists()


def test_sets_that_stay_must_agree(tmp_path: Path) -> None:
    save(tmp_path / "root" / "a" / "0.png", texture(0))
    with Writer(tmp_path / "index", "z", Settings()) as writer:
        writer.add("0", "0", "0" * 64, texture(0), None)
    assert build(tmp_path / "root", tmp_path / "index").sets == ("a", "z")
    with pytest.raises(UserError, match=r"z was made with other settings"):
        build(tmp_path / "root", tmp_path / "index", Settings(size=100))


def test_what_is_no_source_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="folder of frames not found"):
        build(tmp_path / "nowhere", tmp_path / "index")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.csv").touch()
    with pytest.raises(UserError, match=r"no images, videos or DICOM files in .*root"):
        build(tmp_path / "root", tmp_path / "index")
    save(tmp_path / "root" / "a.png", texture(0))
    with pytest.raises(UserError, match="no such splits: testing"):
        build(tmp_path / "root", tmp_path / "index", splits=("testing",))
    with pytest.raises(UserError, match=r"a\.png is a file"):
        build(tmp_path / "root", tmp_path / "root" / "a.png")
    assert not (tmp_path / "index").exists()


# DICOM


def test_dicom_files_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "hearts"
    image = texture(0)
    save_dicom(folder / "0.dcm", image)
    save_dicom(folder / "1.dcm", 255 - image, "MONOCHROME1", PatientName="other")
    save_dicom(folder / "2.dcm", image.astype(np.uint16) * 16 + 7)
    window = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 128, "WindowWidth": 256}
    save_dicom(folder / "3.dcm", image.astype(np.uint16), **window)
    clip_frames = np.stack([texture(10 + i) for i in range(9)])
    save_dicom(folder / "4.DCM", clip_frames, CineRate=9)
    save_dicom(folder / "5.dcm", np.repeat(image[..., None], 3, 2), "RGB")
    (folder / "6.dcm").write_bytes(b"nothing")
    save_dicom(folder / "7.dcm", image).write_bytes((folder / "0.dcm").read_bytes()[:-500])

    index = build(tmp_path / "root", tmp_path / "index")
    assert names(index) == [
        *(f"hearts/{i}.dcm" for i in range(4)),
        *(f"hearts/4.DCM#{i}" for i in (0, 3, 6)),
        "hearts/5.dcm",
    ]
    np.testing.assert_array_equal(index.read(0).pixels, image)
    np.testing.assert_array_equal(index.read(1).pixels, image)
    full = (image.astype(float) - image.min()) * (255 / float(np.ptp(image)))
    np.testing.assert_array_equal(index.read(2).pixels, np.rint(full).astype(np.uint8))
    assert np.corrcoef(index.read(3).pixels.ravel(), image.ravel())[0, 1] > 0.95
    for i in range(3):
        np.testing.assert_array_equal(index.read(4 + i).pixels, clip_frames[3 * i])
    np.testing.assert_array_equal(index.read(7).pixels, image)
    assert len(np.unique(index.groups("hearts"))) == 6
    left = removed(tmp_path / "index/hearts")
    assert [(name, reason) for name, reason, _ in left] == [
        ("6.dcm", "corrupt"),
        ("7.dcm", "corrupt"),
    ]
    assert all("cannot read DICOM file" in detail for _, _, detail in left)


def test_dicom_needs_pydicom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_dicom(tmp_path / "root" / "a" / "0.dcm", texture(0))
    save(tmp_path / "root" / "a" / "1.png", texture(1))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match="pip install pydicom"):
        build(tmp_path / "root", tmp_path / "index")


# Releases under other names, and files of other kinds


@pytest.mark.parametrize("called", ["BUSBRA", "Bus-Bra (1)", "set 7", "data/BUSBRA"])
def test_a_release_under_another_name_gives_its_training_images(
    phantom_root: Path, tmp_path: Path, called: str
) -> None:
    root = tmp_path / "root"
    shutil.copytree(phantom_root / "busbra", root / called)
    save(root / "hearts" / "a.png", texture(0))
    sources = {source.name: source for source in sources_of(root)}
    assert sorted(sources) == ["busbra", "hearts"]
    task = sources["busbra"].task
    assert task is not None
    assert task.fingerprint == tasks.load("busbra", phantom_root).fingerprint
    assert task.synthetic


def test_a_release_among_other_frames_is_asked_about(phantom_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(phantom_root / "busbra", root / "clinic" / "old")
    save(root / "clinic" / "a.png", texture(0))
    with pytest.raises(UserError, match=r"clinic holds tasks, .* 'busbra' in .*move each into a"):
        sources_of(root)
    (root / "clinic" / "a.png").unlink()
    shutil.copytree(phantom_root / "busbra", root / "busbra")
    with pytest.raises(UserError, match=r"may both be task 'busbra'.*keep one of them"):
        sources_of(root)
    with pytest.raises(
        UserError, match=r"Images is a part of the release of task 'busbra'.*instea"
    ):
        sources_of(next((root / "busbra").rglob("Images")))


def test_links_do_not_lead_past_the_guard(phantom_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    save(root / "hearts" / "a.png", texture(0))
    for name in ("busbra", "BUSBRA", "hearts/link"):
        (root / name).symlink_to(phantom_root / "busbra")
    index = build(root, tmp_path / "index")
    test = set(tasks.load("busbra", phantom_root).test.digests)
    assert index.sets == ("busbra", "hearts")
    assert names(index)[-1] == "hearts/a.png"
    digests = [row[2] for row in csv.reader((tmp_path / "index/busbra/frames.csv").open())]
    assert not test & set(digests)


def test_what_seems_a_release_and_cannot_be_read_is_asked_about(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "set 7"
    save(folder / "Images" / "a.png", texture(0))
    (folder / "bus_data.csv").write_text("ID,Case\na,1\n")
    with pytest.raises(
        UserError, match=r"holds what the release of task 'busbra' holds.*rename th"
    ):
        sources_of(tmp_path / "root")
    (folder / "bus_data.csv").rename(folder / "list.csv")
    assert [source.name for source in sources_of(tmp_path / "root")] == ["set 7"]


def test_sheets_of_prepared_tasks_are_no_frames(tmp_path: Path) -> None:
    save(tmp_path / "root" / "hearts" / "a.png", texture(0))
    save(tmp_path / "root" / "prepared" / "gbcu" / "scan_masks.png", texture(1))
    (tmp_path / "root" / "prepared" / "gbcu" / "splits.csv").touch()
    assert [source.name for source in sources_of(tmp_path / "root")] == ["hearts"]


def test_clips_in_image_formats(tmp_path: Path) -> None:
    frames = [PIL.Image.fromarray(texture(k)) for k in range(12)]
    folder = tmp_path / "root" / "lungs"
    folder.mkdir(parents=True)
    for name in ("a.gif", "b.tif", "c.webp", "d.png"):
        frames[0].save(folder / name, save_all=True, append_images=frames[1:], duration=100)
    frames[0].save(folder / "still.gif")
    index = build(tmp_path / "root", tmp_path / "index")
    assert names(index) == [*(f"lungs/a.gif#{i}" for i in (1, 4, 7, 10)), "lungs/still.gif"]
    left = {name: (reason, detail) for name, reason, detail in removed(tmp_path / "index/lungs")}
    assert sorted(left) == ["b.tif", "c.webp", "d.png"]
    assert all("holds 12 images" in detail for _, detail in left.values())
    assert left["b.tif"][0] == "several images"


def test_file_names_in_other_encodings(tmp_path: Path) -> None:
    folder = tmp_path / "root" / os.fsdecode(b"k\xfcche")
    save(folder / "a.png", texture(0)).rename(folder / os.fsdecode(b"M\xfcller.png"))
    (folder / os.fsdecode(b"\xe9.txt")).touch()
    index = build(tmp_path / "root", tmp_path / "index")
    assert names(index) == ["k\\xfcche/M\\xfcller.png"]
    assert removed(tmp_path / "index" / "k\\xfcche")[0][0] == "\\xe9.txt"


def test_dicom_is_known_by_its_mark(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "hearts"
    for number, name in enumerate(("1.2.840.5", "IM_0001", "US000002.ima")):
        save_dicom(folder / name, texture(number))
    (folder / "README").write_text("nothing")
    index = build(tmp_path / "root", tmp_path / "index")
    assert names(index) == ["hearts/1.2.840.5", "hearts/IM_0001", "hearts/US000002.ima"]
    left = [row[:2] for row in removed(tmp_path / "index/hearts")]
    assert left == [["README", "neither image nor video"]]


def test_a_dicom_header_beyond_measure_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "hearts"
    save_dicom(folder / "a.dcm", texture(0))
    save_dicom(folder / "b.dcm", texture(1), Rows=65535, Columns=65535)
    index = build(tmp_path / "root", tmp_path / "index")
    assert names(index) == ["hearts/a.dcm"]
    ((name, reason, detail),) = removed(tmp_path / "index/hearts")
    assert (name, reason) == ("b.dcm", "corrupt")
    assert "claims 65535 x 65535 pixels" in detail


def test_a_deflated_dicom_file_is_read(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "root" / "hearts" / "a.dcm", texture(0))
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data.save_as(path, enforce_file_format=True)
    frame = dicom.DicomFrame(path, "a", 0)
    np.testing.assert_array_equal(frame.read(frame.digest())[..., 0], texture(0))


@pytest.mark.parametrize("kind", ["YBR_FULL", "YBR_FULL_422"])
def test_colours_that_contradict_the_header_are_told(tmp_path: Path, kind: str) -> None:
    grey = np.repeat(texture(0)[..., None], 3, 2)
    path = save_dicom(tmp_path / "rgb.dcm", grey, kind)
    with pytest.raises(UserError, match=r"cannot read DICOM file .*rgb\.dcm \("):
        dicom.DicomFrame(path, "a", 0).read()
    if kind == "YBR_FULL":
        grey[..., 1:] = 128
        path = save_dicom(tmp_path / "ybr.dcm", grey, kind)
        difference = dicom.DicomFrame(path, "a", 0).read()[..., 0].astype(int) - texture(0)
        assert abs(difference).max() <= 2


def test_a_dicom_file_that_changed_is_told(tmp_path: Path) -> None:
    path = save_dicom(tmp_path / "a.dcm", texture(0))
    frame = dicom.DicomFrame(path, "a", 0)
    known = frame.digest()
    save_dicom(path, texture(1, 60, 60))
    with pytest.raises(UserError, match=r"DICOM file .*a\.dcm changed while it was being read"):
        frame.read(known)


@pytest.mark.shared
def test_real_files(real_data: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    wanted = {
        "thyroids": sorted((real_data / "ddti").rglob("*.jpg"))[:3],
        "ovaries": sorted((real_data / "mmotu").rglob("*.JPG"))[:5],
        "lungs": sorted((real_data / "pocus").rglob("*.mp4"))[:1],
    }
    for name, paths in wanted.items():
        (root / name).mkdir(parents=True)
        for path in paths:
            (root / name / path.name).symlink_to(path)
    index = build(root, tmp_path / "index")
    assert index.sets == ("lungs", "ovaries", "thyroids")
    assert len(np.unique(index.groups("lungs"))) == 1
    for number in range(len(index)):
        frame = index.read(number)
        assert 100 <= min(frame.pixels.shape) <= 288
        inside = 1.0 if frame.region is None else frame.region.mean()
        assert 0.2 < inside <= 1
        assert preprocess.stretch(frame.pixels, (2, 98), frame.region).std() > 20
