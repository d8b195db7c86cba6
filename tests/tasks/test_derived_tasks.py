"""Tasks that are made of others: what they take of each, what they leave out, what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tasks
from tasks import derived
from tasks.samples.images import ImageArray
from tasks.task import Item, Split, Task, TaskCard
from ultrabench_eval.core.errors import UserError

SIDE = 40


def scene(seed: int) -> np.ndarray:
    """A picture of its own, uint8 [H, W, 3]."""
    coarse = np.random.default_rng(seed).integers(30, 220, (8, 8))
    return np.repeat(np.kron(coarse, np.ones((5, 5)))[..., None].astype(np.uint8), 3, axis=-1)


def made(name: str, classes: str, start: int, counts: tuple[int, int, int] = (6, 6, 12)) -> Task:
    """A task of images that no other one has, if `start` is far enough; patient n has image n."""
    parts, seed = [], start
    for part, count in zip(("train", "validation", "test"), counts, strict=True):
        items = []
        for n in range(count):
            seed += 1
            image = ImageArray(scene(seed), f"{name}-{part}-{n}")
            known = (("device", "old" if n % 2 else "new"),)
            code = n % len(classes.split())
            items.append(Item(image, code, f"{part} {n}", subgroups=known))
        parts.append(Split.of(items))
    card = TaskCard(name, name, "breast", "lesion", tuple(classes.split()), groups="patient")
    return Task(card, *parts, origin="memory")


def pair(trained: Task, tested: Task, labels: Path | None = None) -> Task:
    both = {trained.name: trained, tested.name: tested}
    return derived.load(f"{trained.name}:{tested.name}", both.__getitem__, labels)


def test_a_pair_takes_all_but_test_images_from_the_first() -> None:
    here, there = made("here", "benign malignant", 0), made("there", "normal malignant benign", 100)
    both = pair(here, there)
    assert both.name == "here:there"
    assert both.classes == here.classes
    for name in ("train", "validation"):
        assert both.splits[name].fingerprint == here.splits[name].fingerprint
    tested = dict(zip([i.name for i in there.test.images], there.test.labels, strict=True))
    names = {
        image.name: code for image, code in zip(both.test.images, both.test.labels, strict=True)
    }
    assert {n: there.classes[tested[n]] for n in names} == {
        n: here.classes[c] for n, c in names.items()
    }
    assert len(names) == 8  # a third of 12 is normal
    assert any("4 test images of there of class 'normal'" in note for note in both.notes)
    assert both.card.transfer == ("here", "there[benign+malignant]")
    assert both.test.groups is not None
    assert both.test.groups[0] == "there/test 1"
    assert set(both.test.subgroups["device"]) == {"old", "new"}


def test_both_directions_look_at_the_same_classes() -> None:
    here, there = made("here", "benign malignant", 0), made("there", "normal malignant benign", 100)
    back = pair(there, here)
    assert back.classes == ("malignant", "benign")
    assert back.card.transfer == ("there[malignant+benign]", "here[malignant+benign]")
    alone = derived.load("there[malignant+benign]", {"there": there}.__getitem__)
    for name in ("train", "validation"):
        assert back.splits[name].fingerprint == alone.splits[name].fingerprint
    assert len(alone.test) == 8
    assert "4 of 'normal'" not in alone.notes[0]


def test_images_that_both_sets_show_are_not_tested_on() -> None:
    here, there = made("here", "benign malignant", 0), made("there", "benign malignant", 100)
    items = there.test.items
    known = [here.train.images[0].read(), here.validation.images[1].read()]
    lighter = (0.9 * known[1] + 12).astype(np.uint8)
    items[3] = items[3]._replace(image=ImageArray(known[0], "equal"))
    items[5] = items[5]._replace(image=ImageArray(lighter, "processed"))
    items[7] = items[7]._replace(image=ImageArray(here.test.images[0].read(), "of test"))
    shared = Task(there.card, there.train, there.validation, Split.of(items))
    names = [image.name for image in pair(here, shared).test.images]
    assert len(names) == 10
    assert not {"equal", "processed"} & {*names}
    assert "of test" in names
    assert any(note.startswith("left out: 2 test images") for note in pair(here, shared).notes)
    copies = [item._replace(image=here.train.images[0]) for item in items]
    with pytest.raises(UserError, match="nothing is left to test on"):
        pair(here, Task(there.card, there.train, there.validation, Split.of(copies)))


@pytest.mark.parametrize("suffix", ["yaml", "csv"])
def test_labels_say_which_class_is_which(tmp_path: Path, suffix: str) -> None:
    here, there = made("here", "benign malignant", 0), made("there", "2 3 4a 5 x", 100)
    line = '"{}": {}\n' if suffix == "yaml" else "{},{}\n"
    file = tmp_path / f"labels.{suffix}"
    pairs = {"2": "benign", "3": "benign", "4a": "malignant", "5": "malignant"}
    file.write_text("".join(line.format(*one) for one in pairs.items()))
    both = pair(here, there, file)
    assert both.card.transfer == ("here", "there[benign=2|3+malignant=4a|5]")
    alone = derived.load(both.card.transfer[1], {"there": there}.__getitem__)
    assert alone.test.labels.tolist() == both.test.labels.tolist()
    assert any("'x'" in note for note in both.notes)
    other = pair(here, made("other", "benign malignant", 300))
    assert both.fingerprint != other.fingerprint
    pairs["3"] = "malignant"
    file.write_text("".join(line.format(*one) for one in pairs.items()))
    assert pair(here, there, file).fingerprint != both.fingerprint


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            '"2": benign\n"9": malignant\n',
            "names '9', a class that there does not have; it has 2, 3",
        ),
        ('"2": bad\n', "names 'bad', a class that here does not have"),
        ('"2": benign\n', "share one class"),
    ],
)
def test_labels_that_cannot_be_are_told(tmp_path: Path, text: str, sentence: str) -> None:
    here, there = made("here", "benign malignant", 0), made("there", "2 3", 100)
    file = tmp_path / "labels.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=sentence):
        pair(here, there, file)
    with pytest.raises(UserError, match=r"share no class .* --labels FILE"):
        pair(here, there)


def test_numbers_and_masks_need_to_mean_the_same(phantom_root: Path) -> None:
    both = tasks.load("busbra-seg:busi-seg", phantom_root)
    assert both.classes == ("background", "tumour")
    assert both.targets == "mask"
    assert both.card.transfer == ("busbra-seg", "busi-seg")
    for name, sentence in (
        ("hc18-hc:camus-ef", "different units"),
        ("camus:busi-seg", "masks .* have different classes"),
        ("busbra:busi-seg", "busbra is classification and busi-seg segmentation"),
    ):
        with pytest.raises(UserError, match=sentence):
            tasks.load(name, phantom_root)


@pytest.mark.parametrize(
    ("name", "called", "parts"),
    [
        ("busbra:busi", "busbra:busi", ("busbra", "busi")),
        ("busbra@rule:a/b.csv", "busbra@rule:b", ("busbra@rule", "a/b.csv")),
        ("busi[benign+malignant]", "busi[benign+malignant]", ("busi",)),
        ("a/b.csv[x=1|2+y%2Bz]", "b[x=1|2+y%2Bz]", ("a/b.csv",)),
    ],
)
def test_names(name: str, called: str, parts: tuple[str, ...]) -> None:
    assert tasks.label(name) == called
    assert tasks.parts(name) == parts
    assert tasks.problem(name) is None
    assert tasks.is_derived(name)
    assert not tasks.is_manifest(name)
    some = tasks.selected(name)
    assert some is None or str(some) == name
    assert tasks.parts("busbra") == ("busbra",)
    assert not tasks.is_derived("busbra@rule")


def test_names_that_cannot_be_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("busbra:busbra", "busbra:busi:aul"):
        assert "write TRAINED:TESTED" in str(tasks.problem(name))
    assert "unknown task 'bussi'" in str(tasks.problem("busbra:bussi"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "day:one.csv").write_text("image,label,split\n")
    assert tasks.is_manifest("day:one.csv")
    assert not tasks.is_derived("day:one.csv")


def test_classes_that_a_task_lacks_are_told() -> None:
    here = made("here", "benign malignant", 0)
    with pytest.raises(UserError, match="no class 'normal'; it has benign, malignant"):
        derived.load("here[benign+normal]", {"here": here}.__getitem__)


def test_busi_and_ddti_as_classes_have_the_splits_of_their_masks(phantom_root: Path) -> None:
    for name, classes in (("busi", 3), ("ddti", 2)):
        told, masks = tasks.load(name, phantom_root), tasks.load(f"{name}-seg", phantom_root)
        assert len(told.classes) == classes
        assert name not in tasks.OF_THE_PAPER
        for split in told.splits:
            one, other = ({i.name for i in t.splits[split].images} for t in (told, masks))
            assert len(one & other) > 0.8 * len(one | other)  # broken outlines are left out
            for rest in {*told.splits} - {split}:
                assert not one & {image.name for image in masks.splits[rest].images}


def test_ddti_is_coded_by_tirads_and_not_by_biopsy(phantom_root: Path, tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "data"
    shutil.copytree(phantom_root / "ddti", root / "ddti")
    task = tasks.load("ddti", root)
    for item in [item for split in task.splits.values() for item in split.items]:
        case = item.image.name.rpartition("_")[0]
        text = (root / f"ddti/{case}.xml").read_text()
        assert ("<tirads>2</tirads>" in text) == (item.label == 0)
    path = root / "ddti/3.xml"  # three images
    text = path.read_text()
    path.write_text(text.replace("<tirads>2<", "<tirads><").replace("<tirads>4b<", "<tirads><"))
    fewer = tasks.load("ddti", root)
    assert sum(map(len, fewer.splits.values())) == sum(map(len, task.splits.values())) - 3
    assert any("3 of" in note and "no TI-RADS" in note for note in fewer.notes)
    assert "not biopsy truth" in " ".join([*task.notes])
    assert "biopsy" in task.card.defects[0]
    path.write_text(text.replace("<tirads>", "<tirads>9"))
    with pytest.raises(UserError, match="TI-RADS category '9"):
        tasks.load("ddti", root)
