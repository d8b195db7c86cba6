"""Own data with masks or numbers in place of labels: what is read, drawn, and refused."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import PIL.Image
import pytest

import tasks
from tasks.own_data import draw, manifest
from tasks.own_data.reading import Reading, classes_of
from tasks.task import SPLITS
from ultrabench_eval.core.errors import UserError

PARTS = ("train", "train", "train", "val", "test", "test")
CODES = np.zeros((6, 8), np.uint8)
CODES[1:3, 2:5], CODES[4, 1:7] = 1, 2
BINARY = (CODES > 0).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(pixels).save(path)


def table(folder: Path, masks: dict[int, np.ndarray] | np.ndarray, suffix: str = ".png") -> Path:
    """A table of six images, each with a mask: the given one, or one by number of row."""
    rows = ["image,mask,split"]
    for n, part in enumerate(PARTS):
        save(folder / f"im/{n}.png", np.full((6, 8), 20 * n, np.uint8))
        pixels = masks[n] if isinstance(masks, dict) else masks
        if suffix == ".png":
            save(folder / f"seg/{n}.png", pixels)
        else:
            (folder / "seg").mkdir(exist_ok=True)
            stored = nibabel.Nifti1Image(np.ascontiguousarray(pixels.T), np.diag([0.4, 0.3, 1, 1]))
            stored.to_filename(folder / f"seg/{n}{suffix}")
        rows.append(f"im/{n}.png,seg/{n}{suffix},{part}")
    path = folder / "mine.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def load(path: Path, **words: object) -> tasks.Task:
    return tasks.load(str(path), reading=Reading.of(**words))  # type: ignore[arg-type]


# ---- what is read --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixels", "classes", "note"),
    [
        (BINARY, ("background", "foreground"), "masks: 1 is the foreground"),
        (BINARY * np.uint8(255), ("background", "foreground"), "masks: 255 is the foreground"),
        (CODES, ("background", "class 1", "class 2"), "masks: 1 to 2 are classes"),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".nii.gz"])
def test_values_tell_the_classes(
    tmp_path: Path, pixels: np.ndarray, classes: tuple[str, ...], note: str, suffix: str
) -> None:
    task = load(table(tmp_path, pixels, suffix))
    assert task.card.type == "segmentation"
    assert task.classes == classes
    assert task.notes == (note,)
    assert [len(split) for split in task.splits.values()] == [3, 1, 2]
    wanted = CODES if len(classes) == 3 else BINARY
    for split in task.splits.values():
        for mask in split.masks:
            assert (mask.read() == wanted).all()
            assert mask.spacing == (None if suffix == ".png" else pytest.approx((0.3, 0.4)))


def test_255_is_ignored_beside_codes(tmp_path: Path) -> None:
    pixels = CODES.copy()
    pixels[0] = 255
    task = load(table(tmp_path, pixels))
    assert task.classes == ("background", "class 1", "class 2")
    assert task.notes == ("masks: 1 to 2 are classes; 255 is ignored",)
    assert (task.test.masks[0].read() == pixels).all()


def test_colours_and_values_have_the_names_that_are_told(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 0]], np.uint8)[CODES]
    path = table(tmp_path, colours)
    with pytest.raises(UserError, match=r"6 bad row.*line 2: mask .* has colours where grey"):
        load(path)
    told = classes_of(["#000000=tissue,#ff0000=cyst", "#008000=wall"])
    task = load(path, classes=told)
    assert task.classes == ("tissue", "cyst", "wall")
    assert (task.train.masks[0].read() == CODES).all()
    joined = load(path, classes={**told, "#008000": "cyst"})
    assert joined.classes == ("tissue", "cyst")
    assert (joined.train.masks[0].read() == BINARY).all()
    assert joined.fingerprint != task.fingerprint
    with pytest.raises(UserError, match=r"line 2: mask 'seg/0.png' holds \(0, 128, 0\), which"):
        load(path, classes={"#000000": "tissue", "#ff0000": "cyst"})
    greys = table(tmp_path / "grey", CODES * np.uint8(100))
    assert load(greys, classes=classes_of(["0=none,100=a,200=b"])).classes == ("none", "a", "b")


def test_numbers_and_their_unit(tmp_path: Path) -> None:
    for n in range(6):
        save(tmp_path / f"{n}.png", np.full((6, 8), 20 * n, np.uint8))
    rows = [f"{n}.png,{n / 2},{part}" for n, part in enumerate(PARTS)]
    path = tmp_path / "mine.csv"
    for column, unit in (("target (mm)", "mm"), ("Target [kPa]", "kPa"), ("target", "")):
        path.write_text("\n".join([f"image,{column},split", *rows]))
        task = load(path)
        assert (task.card.type, task.card.unit, task.classes) == ("regression", unit, ())
        assert np.array_equal(task.train.targets, [0.0, 0.5, 1.0])
    path.write_text("\n".join(["image,EF (%),split", *rows]))
    assert load(path, columns={"target": "EF (%)"}).card.unit == "%"
    for cell, told in (("3,5", "'3,5' is not a number (write it with a point)"), ("inf", "'inf'")):
        path.write_text("\n".join(["image;target;split", f"0.png;{cell};train"]))
        with pytest.raises(UserError) as caught:
            load(path)
        assert told in str(caught.value)
        assert "line 2: target" in str(caught.value)
    path.write_text("\n".join(["image,target,split", *(f"{n}.png,7.0,train" for n in range(3))]))
    with pytest.raises(UserError, match=r"all rows of .* have target '7.0'"):
        load(path)


def test_a_table_has_one_of_label_mask_and_target(tmp_path: Path) -> None:
    path = table(tmp_path, BINARY)
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},label", *(f"{row},{n % 2}" for n, row in enumerate(rows))]))
    with pytest.raises(UserError, match=r"has the columns label \(classes\) and mask \(masks\), "):
        load(path)
    assert load(path, columns={"mask": "mask"}).targets == "mask"
    assert load(path, columns={"label": "label"}).classes == ("0", "1")
    with pytest.raises(UserError, match="--classes is for masks"):
        load(path, columns={"label": "label"}, classes={"0": "a", "1": "b"})


# ---- what is refused -----------------------------------------------------------------------------


def without_file(folder: Path) -> None:
    (folder / "seg/3.png").unlink()


def damaged(folder: Path) -> None:
    (folder / "seg/3.png").write_bytes((folder / "seg/3.png").read_bytes()[:30])


def as_jpeg(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 8), np.uint8)
    PIL.Image.fromarray(noise).save(folder / "seg/3.png", "JPEG")


def nothing(folder: Path) -> None:
    pass


EMPTY = np.zeros_like(BINARY)


@pytest.mark.parametrize(
    ("masks", "change", "told"),
    [
        (BINARY, without_file, r"1 bad row.*line 5: mask file 'seg/3.png' not found"),
        (BINARY, damaged, r"1 bad row.*line 5: cannot read mask .*3\.png: it is damaged"),
        (
            {n: BINARY if n != 4 else np.ascontiguousarray(BINARY.T) for n in range(6)},
            nothing,
            r"line 6: mask 'seg/4.png' has 6 x 8 pixels, but its image 8 x 6",
        ),
        (
            BINARY,
            as_jpeg,
            r"hold 0, 1, .* more values \(first .* in seg/3.png, line 5\).*--classes",
        ),
        (
            CODES * np.uint8(2),
            nothing,
            r"hold 0, 2, 4 \(first 2 in seg/0.png, line 2\), and nothing",
        ),
        (EMPTY, nothing, r"all 6 masks of .* hold 0 alone \(first: seg/0.png, line 2\)"),
        (
            {n: EMPTY if n < 3 else BINARY for n in range(6)},
            nothing,
            r"all 3 training masks of .* are empty \(first: seg/0.png, line 2\)",
        ),
        (
            {n: BINARY if n < 3 else CODES for n in range(6)},
            nothing,
            r"class 'class 2' is in no training mask of",
        ),
        (
            {n: BINARY * np.uint8(255 if n else 1) for n in range(6)},
            nothing,
            r"as 1 \(first: seg/0.png, line 2\), others as 255 \(first: seg/1.png, line 3",
        ),
    ],
)
def test_masks_that_are_refused_in_a_sentence(
    tmp_path: Path,
    masks: dict[int, np.ndarray] | np.ndarray,
    change: Callable[[Path], None],
    told: str,
) -> None:
    path = table(tmp_path, masks)
    change(tmp_path)
    with pytest.raises(UserError, match=told) as caught:
        load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("0=a", "names a alone"),
        ("0=a,#ff0000=b", "are not valid"),
        ("0=a,256=b", "are not valid"),
        ("a", "is not valid; write VALUE=NAME"),
        ("0=a,0=b", "is not valid"),
    ],
)
def test_classes_that_are_not_understood(said: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        Reading.of(classes=classes_of([said]))


# ---- frames and splits ---------------------------------------------------------------------------


def test_masks_of_frames(tmp_path: Path) -> None:
    """A clip as NIfTI with a mask file of as many frames, or of the one that is taken."""
    generator = np.random.default_rng(0)
    shapes = {"clip": (8, 6, 4), "masks": (8, 6, 4), "one": (8, 6)}
    for name, shape in shapes.items():
        values = generator.integers(0, 256 if name == "clip" else 2, shape).astype(np.uint8)
        for part in SPLITS:
            nibabel.Nifti1Image(values, np.eye(4)).to_filename(tmp_path / f"{name}_{part}.nii.gz")
        shapes[name] = values  # type: ignore[assignment]

    def listed(mask: str) -> Path:
        rows = [f"clip_{part}.nii.gz,{mask}_{part}.nii.gz,{part}" for part in SPLITS]
        path = tmp_path / f"{mask}.csv"
        path.write_text("\n".join(["image,mask,split", *rows]))
        return path

    task = load(listed("masks"), frames="all")
    masks: np.ndarray = shapes["masks"]  # type: ignore[assignment]
    assert [len(split) for split in task.splits.values()] == [4, 4, 4]
    for n, mask in enumerate(task.train.masks):
        assert (mask.read() == masks[..., n].T).all()
    (one,) = load(listed("one"), frames="middle").train.masks
    assert (one.read() == shapes["one"].T).all()  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"has 1 frame\(s\), but frame 2 is taken"):
        load(listed("one"), frames="all")


def test_splits_are_drawn_over_empty_masks_and_quarters_of_numbers(tmp_path: Path) -> None:
    rows = ["image,mask,patient"]
    for n in range(40):
        save(tmp_path / f"in/{n}.png", np.full((6, 8), n, np.uint8))
        save(tmp_path / f"in/{n}_seg.png", BINARY * np.uint8(255 * (n % 4 > 0)))
        rows.append(f"in/{n}.png,in/{n}_seg.png,P{n}")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    reading = Reading.of(columns={"group": "patient"})
    own = manifest.listed(tmp_path / "list.csv", reading, split=False)
    made = draw.draw(own, seed=0, validation=0.2, test=0.2)
    assert {name: [n for n, _ in counts.values()] for name, counts in made.counts.items()} == {
        "empty masks": [6, 2, 2],
        "not empty": [18, 6, 6],
    }
    (tmp_path / "out").mkdir()
    draw.write(made.own, tmp_path / "out/split.csv")
    with (tmp_path / "out/split.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["image"], first["mask"], first["group"]) == (
        "../in/0.png",
        "../in/0_seg.png",
        "P0",
    )
    task = load(tmp_path / "out/split.csv")
    assert [len(split) for split in task.splits.values()] == [24, 8, 8]

    rows = [f"in/{n}.png,{n},P{n // 2}" for n in range(40)]
    (tmp_path / "list.csv").write_text("\n".join(["image,target (mm),patient", *rows]))
    own = manifest.listed(tmp_path / "list.csv", reading, split=False)
    made = draw.draw(own, seed=0, validation=0.2, test=0.2)
    assert list(made.counts) == [f"quarter {n}" for n in (1, 2, 3, 4)]
    assert all(count[1] >= 1 for parts in made.counts.values() for count in parts.values())
    draw.write(made.own, tmp_path / "out/split.csv")
    assert load(tmp_path / "out/split.csv").card.unit == "mm"
