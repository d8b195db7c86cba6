"""What a Task refuses, and what its fingerprint depends on."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import tasks
from tasks import phantom
from tasks.samples.images import ImageArray, ImageFile, decode
from tasks.task import Item, Split, Task, TaskCard
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

CARD = TaskCard("toy", "TOY", "none", "nothing", classes=("a", "b"), groups="patient")


@dataclass(frozen=True)
class Dot:
    """An image that is its own name."""

    name: str

    def read(self) -> np.ndarray:
        return np.zeros((1, 1, 3), np.uint8)

    def digest(self) -> str:
        return hashing.digest(self.name)


def split(prefix: str, labels: list[int], groups: list[str] | None = None) -> Split:
    return Split.of(
        [
            Item(Dot(f"{prefix}{i}"), label, groups[i] if groups else None)
            for i, label in enumerate(labels)
        ]
    )


def toy(**changes: object) -> Task:
    parts = {
        "train": split("t", [0, 1, 1], ["p1", "p1", "p2"]),
        "validation": split("v", [0, 1], ["p3", "p4"]),
        "test": split("e", [1, 0], ["p5", "p5"]),
        "card": CARD,
        "origin": "/data/toy",
    }
    return Task(**{**parts, **changes})  # type: ignore[arg-type]


def test_counts_and_types() -> None:
    task = toy()
    assert task.counts() == {"train": [1, 2], "validation": [1, 1], "test": [1, 1]}
    assert task.train.labels.dtype == np.int64
    assert task.train.groups == ("p1", "p1", "p2")
    assert split("t", [0, 1]).groups is None


@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_empty_split_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"no {name} images in /data/toy"):
        toy(**{name: Split.of([])})


def test_class_without_training_image_is_refused() -> None:
    with pytest.raises(UserError, match=r"class 'b' .* although validation and test have some"):
        toy(train=split("t", [0, 0]))


def test_label_out_of_range_is_refused() -> None:
    with pytest.raises(UserError, match=r"test labels \[2\]"):
        toy(test=split("e", [0, 2]))
    with pytest.raises(UserError, match=r"test labels \[-1\]"):
        toy(test=split("e", [0, -1]))


def test_a_group_in_two_splits_is_refused_and_named() -> None:
    with pytest.raises(UserError, match=r"1 of its groups \(patient\).*'p2' in train and test"):
        toy(test=split("e", [1, 0], ["p2", "p5"]))


def test_leakage_between_validation_and_test_shows_without_training_groups() -> None:
    with pytest.raises(UserError, match="'p3' in validation and test"):
        toy(train=split("t", [0, 1]), test=split("e", [1, 0], ["p3", "p5"]))


@pytest.mark.parametrize(
    "changes",
    [{"targets": np.array([0, 1])}, {"groups": ("p1",)}, {"groups": ()}, {"scan_masks": ()}],
)
def test_lengths_must_agree(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="differ in length"):
        toy(train=dataclasses.replace(toy().train, **changes))  # type: ignore[arg-type]


def test_labels_must_be_int64() -> None:
    with pytest.raises(TypeError, match="float32"):
        toy(train=dataclasses.replace(toy().train, targets=np.array([0, 1, 1], np.float32)))
    with pytest.raises(ValueError, match="class codes"):
        toy(train=dataclasses.replace(toy().train, targets=np.array([0.0, 1.0, 1.0])))


def test_numbers_are_told_with_their_unit_and_must_be_finite() -> None:
    def numbers(values: list[float], factor: float = 1.0) -> Split:
        images = split("n", [0] * len(values)).images
        items = [Item(i, v, factor=factor) for i, v in zip(images, values, strict=True)]
        return Split.of(items)

    card = dataclasses.replace(toy().card, type="regression", classes=(), unit="mm")
    three = {name: numbers([1.5, 20.0]) for name in ("train", "validation", "test")}
    task = toy(card=card, **three)
    assert task.targets == "number"
    assert task.counts()["test"] == [2]
    assert [task.told(item) for item in task.test.items] == ["1.5 mm", "20 mm"]
    scaled = toy(card=card, **{**three, "test": numbers([1.5, 20.0], 3.0)})
    assert [item.factor for item in scaled.test.items] == [3.0, 3.0]
    assert scaled.fingerprint != task.fingerprint
    with pytest.raises(UserError, match="validation targets that are not finite"):
        toy(card=card, **{**three, "validation": numbers([1.0, float("nan")])})
    with pytest.raises(ValueError, match="another kind than in training"):
        toy(card=card, **{**three, "validation": split("v", [0, 1])})


def test_fingerprint_is_stable() -> None:
    assert toy().fingerprint == toy().fingerprint
    assert toy(origin="/elsewhere", notes=("n",)).fingerprint == toy().fingerprint


@pytest.mark.parametrize(
    "changes",
    [
        {"train": split("x", [0, 1, 1], ["p1", "p1", "p2"])},  # content
        {"train": split("t", [1, 0, 1], ["p1", "p1", "p2"])},  # labels
        {"train": split("t", [0, 1, 1], ["p1", "p2", "p2"])},  # groups
        {"train": split("t", [0, 1, 1])},  # no groups
        {"test": split("e", [1, 0, 0], ["p5", "p5", "p5"])},  # one image more
        {"card": dataclasses.replace(CARD, classes=("a", "c"))},
        {  # the same images in other splits
            "validation": split("e", [1, 0], ["p5", "p5"]),
            "test": split("v", [0, 1], ["p3", "p4"]),
        },
    ],
)
def test_fingerprint_changes_with_the_data(changes: dict[str, object]) -> None:
    assert toy(**changes).fingerprint != toy().fingerprint


def test_order_counts_but_file_names_do_not(tmp_path: Path) -> None:
    for name, value in (("a", 1), ("b", 1), ("c", 2)):
        PIL.Image.new("L", (4, 4), value).save(tmp_path / f"{name}.png")
    a, b, c = (ImageFile(tmp_path / f"{name}.png", name) for name in "abc")
    prints = [Split.of([Item(x, 0), Item(y, 0)]).fingerprint for x, y in ((a, c), (b, c), (c, a))]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
def test_decode_gives_rgb(tmp_path: Path, mode: str) -> None:
    PIL.Image.new("L", (5, 3), 255).convert(mode).save(tmp_path / "x.png")
    pixels = decode(tmp_path / "x.png")
    assert pixels.shape == (3, 5, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == 255).all()


def test_decode_refuses_sixteen_bits(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="has 16 bits per channel"):
        decode(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "gif"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.3, 0.6, 0.9])
def test_a_truncated_image_shows_when_read_not_before(
    tmp_path: Path, suffix: str, kept: float
) -> None:
    path = tmp_path / f"x.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    PIL.Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    image = ImageFile(path, "x")
    assert image.digest() == hashing.digest_bytes(path.read_bytes())
    with pytest.raises(UserError, match=rf"cannot read image {path}"):
        image.read()


def test_missing_image_is_named(tmp_path: Path) -> None:
    image = ImageFile(tmp_path / "x.png", "x")
    with pytest.raises(UserError, match=r"x\.png is missing"):
        image.read()
    with pytest.raises(UserError, match=r"x\.png"):
        image.digest()


def test_image_array() -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = pickle.loads(pickle.dumps(ImageArray(grey, "g")))
    assert image.read().shape == (3, 4, 3)
    assert (image.read()[..., 2] == grey).all()
    assert image.digest() == ImageArray(grey.copy(), "h").digest()
    assert image.digest() != ImageArray(grey.reshape(4, 3), "g").digest()


def test_load_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no data folder given for task 'aul'"):
        tasks.load("aul")
    with pytest.raises(UserError, match="data of task 'aul' not found"):
        tasks.load("aul", tmp_path)
    with pytest.raises(UserError, match="did you mean 'busbra'"):
        tasks.load("busbar", tmp_path)


@pytest.mark.parametrize("name", tasks.RELEASED)
def test_every_reader_names_the_release_it_does_not_find(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=r"unpack .* there"):
        tasks.load(name, tmp_path)


@pytest.mark.parametrize("name", tasks.BUILT_IN)
def test_every_card_is_filled_in(name: str) -> None:
    card = tasks.card(name)
    assert card.name == name
    assert (card.paper_counts is not None) == (name in tasks.OF_THE_PAPER)
    assert "not stated" not in (card.paper, card.source, card.organ, card.target)
    assert (card.type == "regression") == (card.classes == ())
    assert (card.type == "segmentation") == (card.classes[:1] == ("background",))
    assert tasks.home(name) in phantom.TASKS
