"""Hostile copies of releases: splits never depend on how a copy came about; defects are reported.

The releases are those of the phantom suite, which writes the layouts of the originals.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

import tasks
from tasks import targets
from tasks.check import check
from tasks.splits import PUBLISHED
from tasks.task import Task
from ultrabench_eval.core.errors import UserError

IMAGES = {".png", ".jpg", ".jpeg"}


@pytest.fixture(scope="module")
def plain(phantom_root: Path) -> dict[str, Task]:
    return {name: tasks.load(name, phantom_root) for name in tasks.RELEASED}


@pytest.fixture
def copy(phantom_root: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one release in a root of its own, its files made in a shuffled order."""

    def copied(name: str) -> Path:
        root = tmp_path / "a root (1)"
        for part in (tasks.home(name), PUBLISHED):
            files = [path for path in sorted((phantom_root / part).rglob("*")) if path.is_file()]
            random.Random(1).shuffle(files)
            for path in files:
                target = root / path.relative_to(phantom_root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        return root

    return copied


def content(task: Task) -> dict[str, Any]:
    """All that a probe could see, and the names."""
    return {
        name: ([i.name for i in s.images], targets.identity(s.targets), s.groups, s.digests)
        for name, s in task.splits.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", tasks.RELEASED)
def test_the_order_of_the_file_system_does_not_matter(
    copy: Callable[[str], Path],
    plain: dict[str, Task],
    name: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = copy(name)
    listdir, scandir = os.listdir, os.scandir
    for seed in (1, 2):
        rng = random.Random(seed)

        def shuffled_names(path: Any = ".", rng: random.Random = rng) -> list[Any]:
            return rng.sample(entries := listdir(path), len(entries))

        class Shuffled:
            def __init__(self, path: Any = ".", rng: random.Random = rng) -> None:
                with scandir(path) as entries:
                    listed = list(entries)
                self._entries = iter(rng.sample(listed, len(listed)))

            def __enter__(self) -> Iterator[Any]:
                return self._entries

            def __exit__(self, *_: object) -> None:
                pass

            def __iter__(self) -> Iterator[Any]:
                return self._entries

            def close(self) -> None:
                pass

        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", shuffled_names)
            patch.setattr(os, "scandir", Shuffled)
            assert content(tasks.load(name, root)) == content(plain[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [n for n in tasks.RELEASED if n not in ("pocus", "pocus-clips", "ddti", "ddti-seg")]
)
def test_names_in_capitals_are_the_same_release(
    copy: Callable[[str], Path], plain: dict[str, Task], name: str
) -> None:
    """But of POCUS, where UltraBench tells .MP4 from .mp4, and DDTI, whose .xml are looked for."""
    root = copy(name)
    base = root / tasks.home(name)
    for path in sorted(base.rglob("*"), reverse=True):  # the deepest first
        path.rename(path.with_name(path.name.upper()))
    for path in base.rglob("SYNTHETIC.JSON"):
        path.rename(path.with_name("SYNTHETIC.json"))
    assert content(tasks.load(name, root)) == content(plain[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in tasks.RELEASED if n not in ("busi", "busi-seg")])
def test_leftovers_and_masks_beside_images_are_no_images(
    copy: Callable[[str], Path], phantom_root: Path, name: str
) -> None:
    """But of BUSI, whose own masks have such names."""
    root = copy(name)
    base = root / tasks.home(name)
    for path in sorted(base.rglob("*")):
        if path.suffix.lower() in IMAGES:
            (path.parent / f"._{path.name}").write_bytes(b"\0\5\x16\7")
            PIL.Image.new("1", (8, 8)).save(path.with_name(f"{path.stem}_mask.png"))
    (base / "__MACOSX").mkdir()
    (base / ".hidden").mkdir()
    for how in tasks.ways_to_split(name):
        read = tasks.load(f"{name}@{how}", root)
        assert content(read) == content(tasks.load(f"{name}@{how}", phantom_root))
        assert not [item for item in read.unused if "_mask" in item.image.name]


# But those whose images are parts of files, and POCUS, whose test files stand alone.
# DDTI's reader keeps the same content in one split.
PARTS = ("camus", "ddti", "fatty_liver", "pocus", "stanford-thyroid")


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in tasks.RELEASED if tasks.home(n) not in PARTS])
def test_an_image_that_stands_in_test_too_is_told(
    copy: Callable[[str], Path], plain: dict[str, Task], name: str
) -> None:
    root = copy(name)
    task = tasks.load(name, root)
    assert check(task).repeated == ()
    original, other = task.train.images[0], task.test.images[-1]
    shutil.copyfile(original.path, other.path)  # type: ignore[attr-defined]
    (told,) = check(tasks.load(name, root)).repeated
    assert original.name in told
    assert f"{other.name} (test" in told


DEFECTS: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "aul: a class folder is missing": (
        "aul",
        lambda base: shutil.rmtree(base / "Benign"),
        r"no folder at or below it has .*Benign/image",
    ),
    "busbra: no table": (
        "busbra",
        lambda base: next(base.rglob("bus_data.csv")).unlink(),
        r"has bus_data\.csv and Images; unpack BUS-BRA",
    ),
    "butterfly: a class folder is missing everywhere": (
        "butterfly",
        lambda base: [shutil.rmtree(path) for path in base.rglob("ivc")],
        r"class 'ivc' of task 'butterfly' has no training image",
    ),
    "fatty_liver: cut short": (
        "fatty_liver",
        lambda base: _cut(next(base.rglob("*.mat"))),
        r"cannot read .*\.mat",
    ),
    "gbcu: no test list": (
        "gbcu",
        lambda base: next(base.rglob("test.txt")).unlink(),
        r"has imgs and train\.txt and test\.txt; unpack",
    ),
    "mmotu: no image folder": (
        "mmotu",
        lambda base: shutil.rmtree(next(base.rglob("images"))),
        "has images and train_cls.txt",
    ),
    "pocus: a truncated video": (
        "pocus",
        lambda base: _cut(next(base.rglob("pneu*.mp4"))),
        r"cannot read video .*pneu.*\.mp4",
    ),
    "tn5000: an annotation is missing": (
        "tn5000",
        lambda base: sorted(base.rglob("*.xml"))[0].unlink(),
        r"cannot read .*\.xml \(No such file",
    ),
    "tn5000: every image is missing": (
        "tn5000",
        lambda base: [path.unlink() for path in base.rglob("*.jpg")],
        "task 'tn5000' has no train images in",
    ),
}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_one_clear_sentence(copy: Callable[[str], Path], defect: str) -> None:
    name, spoil, wanted = DEFECTS[defect]
    root = copy(name)
    spoil(root / name)
    with pytest.raises(UserError, match=wanted) as caught:
        check(tasks.load(name, root))
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)  # which file, or at least where
