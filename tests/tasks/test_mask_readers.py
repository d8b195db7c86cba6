"""Readers with masks: the splits of their siblings, each mask on its own image, faults told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib.path
import numpy as np
import PIL.Image
import pytest

import tasks
from tasks import mmotu
from tasks.check import check
from tasks.splits import PUBLISHED
from tasks.task import Task
from ultrabench_eval.core.errors import UserError

SIBLINGS = {"aul-mass": "aul", "busbra-seg": "busbra", "mmotu-seg": "mmotu"}
NAMES = (*SIBLINGS, "aul-liver", "busi-seg", "ddti-seg")


@pytest.fixture
def root(phantom_root: Path, tmp_path: Path) -> Path:
    """The releases with masks of the phantom suite, to be changed."""
    for name in ("aul", "busbra", "busi", "ddti", "mmotu", PUBLISHED):
        shutil.copytree(phantom_root / name, tmp_path / "root" / name)
    return tmp_path / "root"


def members(task: Task) -> list[list[str]]:
    return [[image.name for image in split.images] for split in task.splits.values()]


def areas(task: Task) -> dict[str, int]:
    return {
        item.image.name: int((item.target.read() > 0).sum())  # type: ignore[union-attr]
        for split in task.splits.values()
        for item in split.items
    }


def recolour(path: Path, colour: tuple[int, int, int]) -> None:
    """Give what is not black another colour."""
    pixels = np.array(PIL.Image.open(path).convert("RGB"))
    pixels[pixels.any(axis=-1)] = colour
    PIL.Image.fromarray(pixels).save(path)


# ---- whole releases ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_each_mask_is_of_its_image_and_no_problem_is_found(phantom_root: Path, name: str) -> None:
    task = tasks.load(name, phantom_root)
    assert task.targets == "mask"
    assert task.card.type == "segmentation"
    assert task.synthetic
    for split in task.splits.values():
        for image, mask in zip(split.images, split.masks, strict=True):
            codes = mask.read()
            assert codes.shape == image.read().shape[:2]
            assert codes.max() <= 1
            assert mask.spacing is None
    report = check(task)
    assert report.problems == ()
    (shown,) = report.shown()
    assert shown.startswith(f"{task.classes[1]}: in ")
    assert task.fingerprint == tasks.load(name, phantom_root).fingerprint


@pytest.mark.parametrize("name", SIBLINGS)
def test_members_are_those_of_the_classification_task(phantom_root: Path, name: str) -> None:
    task, sibling = tasks.load(name, phantom_root), tasks.load(SIBLINGS[name], phantom_root)
    assert members(task) == members(sibling)
    assert [split.groups for split in task.splits.values()] == [
        split.groups for split in sibling.splits.values()
    ]
    assert task.fingerprint != sibling.fingerprint
    assert tasks.folder_of(name, phantom_root) == phantom_root / SIBLINGS[name]


def test_normal_livers_have_an_empty_mass(phantom_root: Path) -> None:
    found = areas(tasks.load("aul-mass", phantom_root))
    assert {name.split("/")[0] for name, area in found.items() if not area} == {"Normal"}
    assert {name.split("/")[0] for name, area in found.items() if area} == {"Benign", "Malignant"}


def test_lesions_of_busi_are_united_and_normal_ones_empty(phantom_root: Path) -> None:
    task = tasks.load("busi-seg", phantom_root)
    found = areas(task)
    base = phantom_root / "busi/Dataset_BUSI_with_GT"
    several = 0
    for name, area in found.items():
        paths = sorted(base.glob(f"{name[:-4]}_mask*.png"))
        united = np.any([np.array(PIL.Image.open(p).convert("L")) > 0 for p in paths], axis=0)
        assert area == united.sum()
        assert (area == 0) == name.startswith("normal")
        several += len(paths) > 1
    assert several > 0
    assert any("no split is published" in note for note in task.notes)


def test_ddti_keeps_equal_images_together_and_leaves_broken_outlines_out(
    phantom_root: Path,
) -> None:
    task = tasks.load("ddti-seg", phantom_root)
    group = {item.image.name: item.group for s in task.splits.values() for item in s.items}
    assert group["6_1.jpg"] == group["7_1.jpg"] == "6"  # equal files of two cases
    assert group["3_1.jpg"] == group["3_3.jpg"] == "3"
    assert {"4_1.jpg", "5_1.jpg"}.isdisjoint(group)  # empty, and cut off
    assert any(note.startswith("left out: 2 of ") for note in task.notes)


# ---- planted faults ------------------------------------------------------------------------------


def test_the_colour_of_another_class_is_refused(root: Path) -> None:
    task = tasks.load("mmotu-seg", root)
    name = Path(task.test.images[0].name).stem
    path = root / f"mmotu/OTU_2d/annotations/{name}.PNG"
    code = int(tasks.load("mmotu", root).test.labels[0])
    recolour(path, mmotu.COLOURS[(code + 1) % 8])
    with pytest.raises(UserError, match=rf"{name}\.PNG holds .*only \(0, 0, 0\), "):
        task.test.masks[0].read()
    (problem,) = check(tasks.load("mmotu-seg", root)).problems
    assert f"{name}.PNG" in problem
    path.unlink()  # then the binary one is read, which is the same
    assert (task.test.masks[1].read() > 0).any()
    assert areas(tasks.load("mmotu-seg", root))[f"images/{name}.JPG"] > 0


def test_a_transposed_mask_and_one_of_another_image_are_told(root: Path) -> None:
    masks = root / "busbra/BUSBRA/Masks"
    task = tasks.load("busbra-seg", root)
    first, *others = (Path(image.name).stem.replace("bus", "mask") for image in task.train.images)
    pixels = np.array(PIL.Image.open(masks / f"{first}.png"))
    PIL.Image.fromarray(np.ascontiguousarray(pixels.T)).save(masks / f"{first}.png")
    height, width = pixels.shape
    assert height != width
    (problem,) = check(tasks.load("busbra-seg", root)).problems
    assert f"{first}.png has {height} x {width} pixels, but its image" in problem
    PIL.Image.fromarray(pixels).save(masks / f"{first}.png")
    other = next(
        name for name in others if PIL.Image.open(masks / f"{name}.png").size != (width, height)
    )
    (masks / f"{other}.png").rename(masks / "kept.png")  # two names are swapped
    (masks / f"{first}.png").rename(masks / f"{other}.png")
    (masks / "kept.png").rename(masks / f"{first}.png")
    assert len(check(tasks.load("busbra-seg", root)).unreadable) == 2


def test_a_test_mask_in_training_is_told(root: Path) -> None:
    task = tasks.load("busi-seg", root)
    base = root / "busi/Dataset_BUSI_with_GT"
    train, test = (
        next(image.name[:-4] for image in split.images if not image.name.startswith("normal"))
        for split in (task.train, task.test)
    )
    for path in base.glob(f"{train}_mask*.png"):
        path.unlink()
    for suffix in (".png", "_mask.png"):
        shutil.copyfile(base / f"{test}{suffix}", base / f"{train}{suffix}")
    image, mask = check(tasks.load("busi-seg", root)).repeated
    assert image.startswith("the same content is ")
    assert mask.startswith("the same mask belongs to ")
    for problem in (image, mask):
        assert f"{train}.png (train)" in problem
        assert f"{test}.png (test)" in problem


def test_masks_that_are_missing_are_counted_and_most_of_them_refused(root: Path) -> None:
    masks = sorted((root / "busbra/BUSBRA/Masks").iterdir())
    masks[0].unlink()
    task = tasks.load("busbra-seg", root)
    assert any(note.startswith("left out: 1 of ") for note in task.notes)
    assert masks[0].stem.replace("mask", "bus") not in {
        Path(name).stem for part in members(task) for name in part
    }
    for path in masks[1:]:
        path.unlink()
    with pytest.raises(UserError, match=r"have no mask \(first: .*unpack the whole release there"):
        tasks.load("busbra-seg", root)


def test_polygons_that_are_damaged_or_of_another_copy_are_told(root: Path) -> None:
    task = tasks.load("aul-liver", root)
    folder, _, file = task.train.images[0].name.split("/")
    path = root / f"aul/{folder}/segmentation/liver/{Path(file).stem}.json"
    points = json.loads(path.read_text())
    path.write_text(json.dumps([[2 * x, 2 * y] for x, y in points]))
    (problem,) = check(tasks.load("aul-liver", root)).problems
    assert "reaches to" in problem
    path.write_text("[[1, 2], [3, 4]]")
    with pytest.raises(UserError, match=rf"{path.name} \(not a list of three or more \[x, y\]\)"):
        tasks.load("aul-liver", root)
    path.unlink()
    assert len(tasks.load("aul-liver", root).train) == len(task.train) - 1


def test_ddti_is_found_in_capitals(root: Path) -> None:
    plain = tasks.load("ddti-seg", root).fingerprint
    for path in [*(root / "ddti").glob("*.xml"), *(root / "ddti").glob("*.jpg")]:
        path.rename(path.with_name(path.name.upper()))
    assert tasks.load("ddti-seg", root).fingerprint == plain


def test_a_damaged_case_of_ddti_is_told(root: Path) -> None:
    path = root / "ddti/3.xml"
    whole = path.read_text()
    for damaged in (whole[:300], whole.replace('"points"', '"point"'), whole.replace("}]", "}")):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"cannot read the outlines in .*3\.xml"):
            tasks.load("ddti-seg", root)


# ---- the real releases ---------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "own", "counts", "empty"),
    [
        ("aul-liver", "aul_liver", (528, 59, 147), 0),
        ("aul-mass", "aul_mass", (529, 59, 147), 100),
        ("mmotu-seg", "mmotu", (800, 200, 469), 0),
    ],
)
def test_real_members_are_the_published_ones(
    real_data: Path, name: str, own: str, counts: tuple[int, int, int], empty: int
) -> None:
    task = tasks.load(name, real_data)
    assert tuple(len(split) for split in task.splits.values()) == counts
    assert task.card.ultrabench_counts == counts
    for part, splits in (("test", [task.test]), ("train_val", [task.train, task.validation])):
        rows = json.loads((real_data / PUBLISHED / own / f"{part}.json").read_text())
        ours = [
            Path(image.name.lower().replace("/image/", "_")).stem
            for split in splits
            for image in split.images
        ]
        assert sorted(ours) == sorted(Path(row["image"]).stem for row in rows)
    if name != "mmotu-seg":  # whose masks take seconds
        assert sum(area == 0 for area in areas(task).values()) == empty


@pytest.mark.shared
def test_real_livers_by_another_way_of_filling(real_data: Path) -> None:
    """Matplotlib tells which pixel centres are inside; of those on the border it does not say."""
    task = tasks.load("aul-liver", real_data)
    names = [image.name for image in (*task.train.images, *task.test.images)]
    assert "Malignant/image/374.jpg" not in names
    for item in task.test.items:
        folder, _, file = item.image.name.split("/")
        number = Path(file).stem
        kind = "outline" if folder == "Malignant" and number in ("229", "306") else "liver"
        text = (real_data / f"aul/{folder}/segmentation/{kind}/{number}.json").read_text()
        ours = item.target.read() > 0  # type: ignore[union-attr]
        centres = np.argwhere(np.ones_like(ours))[:, ::-1]
        theirs = matplotlib.path.Path(json.loads(text)).contains_points(centres)
        assert (ours.ravel() != theirs).sum() <= 2


@pytest.mark.shared
def test_real_masks_of_busbra_busi_and_ddti(real_data: Path) -> None:
    task = tasks.load("busbra-seg", real_data)
    assert members(task) == members(tasks.load("busbra", real_data))
    for name, area in list(areas(task).items())[::9]:
        path = real_data / "busbra/BUSBRA/Masks" / f"{Path(name).stem.replace('bus', 'mask')}.png"
        assert area == sum(PIL.Image.open(path).convert("1").histogram()[128:])

    task = tasks.load("busi-seg", real_data)
    found = areas(task)
    assert len(found) == 519
    assert sum(area == 0 for area in found.values()) == 88
    assert len(task.missing) == 261
    base = real_data / "busi/Dataset_BUSI_with_GT"
    united = np.any(
        [np.array(PIL.Image.open(p)) > 0 for p in base.glob("benign/benign (93)_mask*")], 0
    )
    assert found["benign/benign (93).png"] == united.sum()

    task = tasks.load("ddti-seg", real_data)
    assert sum(len(split) for split in task.splits.values()) == 374
    assert any(note.startswith("left out: 11 of 385 images") for note in task.notes)
    group = {item.image.name: item.group for s in task.splits.values() for item in s.items}
    assert {group[f"{name}.jpg"] for name in ("233_2", "323_1", "326_1", "349_1")} == {"233"}
    digests = [set(split.digests) for split in task.splits.values()]
    assert sum(map(len, digests)) == len(set.union(*digests))
