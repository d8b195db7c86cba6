"""Evaluation images are met among frames, however stored; other frames pass."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from scenes import scene

import tasks
from tasks.near_duplicates import duplicates
from tasks.near_duplicates.duplicates import near_duplicates
from tasks.samples.images import ImageArray, decode
from tasks.task import Task
from ultrabench_eval.core.errors import UserError
from usjepa.frames import guard
from usjepa.frames.guard import Guard, Match

NAMES = ("aul", "mmotu")


@pytest.fixture(scope="module")
def root(phantom_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SYNTHETIC; not to be written into."""
    folder = tmp_path_factory.mktemp("root")
    for name in (*NAMES, "ultrabench_splits"):
        (folder / name).symlink_to(phantom_root / name, target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def loaded(root: Path) -> list[Task]:
    return [tasks.load(name, root) for name in NAMES]


@pytest.fixture(scope="module")
def known(loaded: list[Task]) -> Guard:
    return Guard.of(loaded)


def of_split(loaded: list[Task], split: str) -> tuple[list[tuple[str, str]], list[np.ndarray]]:
    """Task and name of each image, and its pixels."""
    images = [(task.name, image) for task in loaded for image in task.splits[split].images]
    return [(name, image.name) for name, image in images], [image.read() for _, image in images]


def jpeg(pixels: np.ndarray) -> np.ndarray:
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "JPEG", quality=60)
    return np.asarray(PIL.Image.open(data).convert("RGB"))


def resized(pixels: np.ndarray) -> np.ndarray:
    image = PIL.Image.fromarray(pixels)
    size = round(0.7 * image.width), round(0.7 * image.height)
    return np.asarray(image.resize(size, PIL.Image.Resampling.BICUBIC))


def mirrored(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, ::-1])


def test_copies_of_the_same_pixels_are_identical(known: Guard, loaded: list[Task]) -> None:
    names, frames = of_split(loaded, "test")
    assert known.tasks == NAMES
    assert known.count == len(names)
    assert known.check(frames) == [Match(*name, "identical", 1.0) for name in names]


@pytest.mark.parametrize("change", [jpeg, resized, mirrored])
def test_changed_copies_are_met(
    change: Callable[[np.ndarray], np.ndarray], known: Guard, loaded: list[Task]
) -> None:
    names, frames = of_split(loaded, "test")
    matches = [match for match in known.check([change(frame) for frame in frames]) if match]
    assert [match[:2] for match in matches] == names
    assert {match.grade for match in matches} == {"near duplicate"}
    assert all(duplicates.NEAR_DUPLICATE <= match.correlation <= 1 for match in matches)


def test_other_images_pass(known: Guard, loaded: list[Task]) -> None:
    frames = [*of_split(loaded, "train")[1], *(scene(seed) for seed in range(8))]
    frames += [np.zeros((40, 50, 3), np.uint8), np.full((1, 1, 3), 90, np.uint8)]
    assert known.check(frames) == [None] * len(frames)
    assert known.check([]) == []


def test_verdicts_are_those_of_the_audit(known: Guard, loaded: list[Task]) -> None:
    names, frames = of_split(loaded, "test")
    frames = [*map(jpeg, frames), *of_split(loaded, "train")[1]]
    expected: list[Match | None] = [None] * len(frames)
    a = [ImageArray(frame, "") for frame in frames]
    b = [image for task in loaded for image in task.test.images]
    for pair in near_duplicates(a, b):
        expected[pair.first] = Match(*names[pair.second], pair.grade, pair.correlation)
    assert known.check(frames) == expected


def test_the_batch_does_not_matter(known: Guard, loaded: list[Task]) -> None:
    test, train = (of_split(loaded, split)[1] for split in ("test", "train"))
    frames = [*map(jpeg, test), *train, *map(mirrored, test)]
    order = np.random.default_rng(0).permutation(len(frames))
    at_once = known.check([frames[row] for row in order])
    for size in (1, 7, 64):
        parts = [order[start : start + size] for start in range(0, len(order), size)]
        assert [m for part in parts for m in known.check([frames[i] for i in part])] == at_once


def test_the_best_match_is_told(loaded: list[Task]) -> None:
    task = loaded[0]
    frame = task.test.images[0].read()
    images = [("a", "flat"), ("a", "jpeg"), ("b", "copy"), ("b", "again")]
    pixels = [np.zeros_like(frame), jpeg(frame), frame, frame]
    signed = duplicates.Signatures.of([guard.signatures.signature(one) for one in pixels])
    (match,) = Guard(images, signed).check([frame])
    assert match == Match("b", "copy", "identical", 1.0)
    (match,) = Guard(images, signed, ("near duplicate",)).check([frame])
    assert match is not None
    assert match[:3] == ("a", "jpeg", "near duplicate")


def test_grades_that_do_not_count_pass(loaded: list[Task]) -> None:
    frames = of_split(loaded, "test")[1]
    strict = Guard.of(loaded, grades=("identical",))
    assert strict.check([jpeg(frame) for frame in frames]) == [None] * len(frames)
    assert None not in strict.check(frames)


def test_validation_images_are_guarded_if_asked_for(known: Guard, loaded: list[Task]) -> None:
    frames = of_split(loaded, "validation")[1]
    assert known.check(frames) == [None] * len(frames)
    told: list[tuple[int, int]] = []
    both = Guard.of(loaded, ("validation", "test"), advance=lambda *done: told.append(done))
    assert both.count == len(frames) + known.count == len(told)
    assert told[-1] == (both.count, both.count)
    assert [match.grade for match in both.check(frames) if match] == ["identical"] * len(frames)


def test_the_digest_tells_what_is_guarded(
    known: Guard, loaded: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Guard.of(loaded[::-1])
    assert again.tasks == NAMES[::-1]
    assert again.digest == known.digest
    others = [
        Guard.of(loaded[:1]),
        Guard.of(loaded, ("validation",)),
        Guard.of(loaded, grades=("identical",)),
    ]
    monkeypatch.setitem(guard.THRESHOLDS, "like", 3)
    digests = [one.digest for one in (known, *others, Guard.of(loaded))]
    assert len(set(digests)) == len(digests)


# ---- data roots ---------------------------------------------------------------------------------


def test_every_task_of_a_root_is_guarded(root: Path, known: Guard, tmp_path: Path) -> None:
    assert Guard.at(root).digest == known.digest
    assert Guard.at(root, ["mmotu"]).tasks == ("mmotu",)
    (tmp_path / "mmotu").symlink_to(root / "mmotu", target_is_directory=True)
    (tmp_path / "notes").mkdir()
    assert Guard.at(tmp_path).tasks == ("mmotu",)


def test_a_task_that_cannot_be_read_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "mmotu").symlink_to(root / "mmotu", target_is_directory=True)
    (tmp_path / "aul").mkdir()
    with pytest.raises(UserError, match=r"aul does not hold the release"):
        Guard.at(tmp_path)
    with pytest.raises(UserError, match=r"data of task 'busbra' not found"):
        Guard.at(root, ["aul", "busbra"])


def test_an_image_that_cannot_be_read_is_told(root: Path, tmp_path: Path) -> None:
    for name in ("aul", "ultrabench_splits"):
        shutil.copytree(root / name, tmp_path / name)
    name = tasks.load("aul", tmp_path).test.images[0].name
    (file,) = (tmp_path / "aul").rglob(name)
    file.write_bytes(b"no image")
    with pytest.raises(UserError, match=rf"cannot read image .*{Path(name).name}"):
        Guard.at(tmp_path)


def test_no_task_is_told(tmp_path: Path, loaded: list[Task]) -> None:
    with pytest.raises(UserError, match=r"no task is in .* give the folder"):
        Guard.at(tmp_path)
    with pytest.raises(UserError, match=r"data folder not found: .*gone"):
        Guard.at(tmp_path / "gone")
    with pytest.raises(UserError, match=r"no evaluation image"):
        Guard.at(tmp_path, [])
    with pytest.raises(UserError, match=r"no split 'tset'; did you mean 'test'\? it knows train"):
        Guard.of(loaded, ("tset",))
    with pytest.raises(UserError, match=r"was given no split"):
        Guard.of(loaded, ())
    with pytest.raises(UserError, match=r"no grade 'same'"):
        Guard.of(loaded, grades=("same",))


# ---- real images --------------------------------------------------------------------------------


# Pairs of AUL's train and test images that results/audit/ counts; all right, seen by eye.
SEEN = {
    343: (353, "near duplicate"),
    241: (229, "near duplicate"),
}


@pytest.mark.shared
def test_real_images(real_data: Path) -> None:
    known = Guard.at(real_data, ["aul"])
    task = tasks.load("aul", real_data)
    assert known.count == len(task.test) == 147
    taken = task.test.images[::15][:10]
    matches = known.check([jpeg(image.read()) for image in taken])
    assert [match and match.image for match in matches] == [image.name for image in taken]
    images = {image.name: image for image in task.train.images}
    for name in SEEN:
        del images[f"Malignant/image/{name}.jpg"]
    others = list(images.values())[:: len(images) // 40][:40]
    assert known.check([image.read() for image in others]) == [None] * 40
    frames = [decode(real_data / f"aul/Malignant/image/{name}.jpg") for name in SEEN]
    found = [match and (match.image, match.grade) for match in known.check(frames)]
    assert found == [(f"Malignant/image/{name}.jpg", grade) for name, grade in SEEN.values()]
