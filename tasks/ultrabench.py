"""UltraBench's processed format: read it, write it, and compare splits with its published ones.

A processed task is a folder (github.com/adamtupper/ultrabench):

    images/<name>                     images
    masks/scan/<name>.png             the ultrasound region, 0 or 1
    train.json, validation.json, test.json     lists of rows, as UltraBench 1.0.1 writes them;
    train_val.json, test.json                  as later versions do

A row has at least "image" (path) and "label" (code), mostly "scan_mask", and "patient" or "source"
where images belong together. Some releases are turned to grey by UltraBench, so that features of a
processed folder and of the original release differ.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

import tasks
from tasks import release, splits
from tasks.samples.images import ImageFile
from tasks.scan.scan_mask import MaskFile
from tasks.task import SPLITS, Item, Task
from ultrabench_eval.core import files, parallel
from ultrabench_eval.core.errors import UserError

Progress = Callable[[int, int], None]


class Form(NamedTuple):
    """How UltraBench names a task's folder and images."""

    folder: str
    rename: Callable[[str], str]
    """From an image's name in the original release to its file in `images/`."""
    group: str = ""
    """The column that tells which images belong together."""


def _stem(suffix: str) -> Callable[[str], str]:
    return lambda name: PurePosixPath(name).stem + suffix


def _aul(name: str) -> str:
    folder, _, file = name.split("/")
    return f"{folder.lower()}_{file}"


def _butterfly(name: str) -> str:
    return "_".join(name.split("/")[-3:])


def _pocus(name: str) -> str:
    # UltraBench numbers the frames that it takes, we keep their position: `_numbered` counts.
    path, _, frame = name.partition("#")
    return PurePosixPath(path).stem + (f"_{frame}" if frame else "") + ".png"


FORMS = {
    "aul": Form("aul_mass", _aul),
    "busbra": Form("busbra", _stem(".png"), "patient"),
    "butterfly": Form("butterfly", _butterfly, "patient"),
    "fatty_liver": Form("fatty_liver", lambda name: f"{name}.png", "patient"),
    "gbcu": Form("gbcu", _stem(".jpg")),
    "mmotu": Form("mmotu", _stem(".png")),
    "pocus": Form("pocus", _pocus, "source"),
    "tn5000": Form("tn5000", _stem(".jpg")),
}


# ---- reading ------------------------------------------------------------------------------------


def find(name: str, folder: Path) -> Path | None:
    """The processed folder at most two levels below `folder`, or None.

    Raises:
        UserError: there are several.
    """
    if name not in FORMS:
        return None
    found = [
        *release.candidates(folder, ("images", "test.json", "train_val.json"), depth=2),
        *release.candidates(folder, ("images", "test.json", "train.json"), depth=2),
    ]
    found = list(dict.fromkeys(found))
    own = [path for path in found if path.name.startswith(FORMS[name].folder)]
    if len(own or found) > 1:
        raise UserError(
            f"{folder} holds {len(own or found)} processed folders of UltraBench: "
            f"{', '.join(path.name for path in own or found)}; keep one"
        )
    return next(iter(own or found), None)


def read(name: str, folder: Path, how: str | None = None) -> Task:
    """Read a processed task, of either generation.

    Args:
        name: the task's name.
        folder: what `find` found.
        how: only "published" and "rule", which are the same here.

    Raises:
        UserError: a list is damaged, or the rest is not a valid `Task`.
    """
    card = tasks.card(name)
    if how not in (None, "published", "rule"):
        raise UserError(
            f"{folder} is UltraBench's processed folder, which has its own splits; "
            f"for {name}@{how} put the original release there"
        )
    given = [part for part in SPLITS if (folder / f"{part}.json").is_file()]
    test = _items(name, folder, "test", len(card.classes))
    if given == list(SPLITS):
        train, validation = (
            _items(name, folder, part, len(card.classes)) for part in ("train", "validation")
        )
        note = "its own train.json, validation.json and test.json"
    else:
        pool = _items(name, folder, "train_val", len(card.classes))
        train, validation = splits.draw_validation(pool, card.rule, folder)
        note = "its own train_val.json and test.json, validation by the rule of UltraBench 1.0.1"
    return splits.assemble(
        card,
        folder,
        train=train,
        validation=validation,
        test=test,
        notes=(f"read from UltraBench's processed folder {folder.name}: {note}",),
    )


def _items(name: str, folder: Path, part: str, n_classes: int) -> list[Item]:
    path = folder / f"{part}.json"
    rows = splits.rows(path, f"UltraBench's processed folder of {name}")
    form = FORMS[name]
    items = []
    for number, row in enumerate(rows, 1):
        label, image, mask = row["label"], row["image"], row.get("scan_mask")
        if not isinstance(label, int) or not 0 <= label < n_classes:
            raise UserError(
                f"{path}, row {number}: label {label!r} is not a class code from 0 to "
                f"{n_classes - 1}; process the release again with UltraBench"
            )
        if not _inside(image) or (mask is not None and not _inside(mask)):
            raise UserError(
                f"{path}, row {number}: '{image}' or '{mask}' is not a path below {folder.name}; "
                "process the release again with UltraBench"
            )
        if form.group and form.group not in row:
            raise UserError(
                f"{path}, row {number} lacks '{form.group}', without which splits cannot be kept "
                "apart; process the release again with UltraBench"
            )
        items.append(
            Item(
                release.image(folder / image, image),
                label,
                str(row[form.group]) if form.group else None,
                MaskFile(folder / mask, mask) if mask and (folder / mask).is_file() else None,
            )
        )
    return items


def _inside(path: Any) -> bool:
    return (
        isinstance(path, str)
        and not PurePosixPath(path).is_absolute()
        and ".." not in PurePosixPath(path).parts
        and "\\" not in path
    )


# ---- writing ------------------------------------------------------------------------------------


def export(task: Task, out: Path, progress: Progress = lambda done, total: None) -> Path:
    """Write a task in the processed format, for both generations of UltraBench's tools.

    Images are copied byte for byte where UltraBench's suffix is theirs, else written as PNG with
    the pixels that the release decodes to: they are never turned to grey. Of the masks there is
    the scan mask only.

    Args:
        task: one of the eight, from its original release.
        out: folder in which the task's folder is made.
        progress: called with images done and in all.

    Returns:
        The folder.

    Raises:
        UserError: not one of the eight, the folder is there already, or an image is damaged.
    """
    name, _ = tasks.split_name(task.name)
    if name not in FORMS:
        raise UserError(
            f"task '{task.name}' has no form in UltraBench; these have: {', '.join(FORMS)}"
        )
    target = out / FORMS[name].folder
    if target.exists():
        raise UserError(f"{target} is there already; remove it or give another --out")
    with files.atomic_folder(target) as folder:
        for part in ("images", "masks/scan"):
            (folder / part).mkdir(parents=True)
        rows = {part: list(_rows(task, part, FORMS[name])) for part in SPLITS}
        every = list(chain.from_iterable(rows.values()))
        _check_unique([row["image"] for _, _, row in every], task)
        written = parallel.ordered(partial(_write_image, folder), every)
        for done, _ in enumerate(written, 1):
            progress(done, len(every))
        lists = {part: [row for _, _, row in listed] for part, listed in rows.items()}
        for part, listed in {**lists, "train_val": lists["train"] + lists["validation"]}.items():
            files.write_text(folder / f"{part}.json", json.dumps(listed, indent=4) + "\n")
        files.write_text(folder / "version.txt", _about(task))
        if task.synthetic:
            files.write_text(folder / release.SYNTHETIC_MARKER, "{}\n")
    return target


Row = tuple[Item, Any, dict[str, Any]]


def _rows(task: Task, part: str, form: Form) -> Iterator[Row]:
    split = task.splits[part]
    names = _numbered([item.image.name for item in split.items])
    for item, name, mask in zip(split.items, names, split.scan_masks or (), strict=True):
        file = form.rename(name)
        row: dict[str, Any] = {
            "image": f"images/{file}",
            "scan_mask": f"masks/scan/{PurePosixPath(file).stem}.png",
            "pathology": task.classes[item.label],
            "label": item.label,
        }
        if form.group and item.group is not None:
            row[form.group] = int(item.group) if item.group.isdecimal() else item.group
        yield item, mask, row


def _numbered(names: Sequence[str]) -> list[str]:
    """Names in which the frames of a video, `clip.mp4#31`, are counted from 0: `clip.mp4#1`."""
    counts: dict[str, int] = {}
    numbered = []
    for name in names:
        path, mark, _ = name.partition("#")
        number = counts.get(path, 0)
        counts[path] = number + 1
        numbered.append(f"{path}#{number}" if mark else name)
    return numbered


def _check_unique(names: Iterable[str], task: Task) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise UserError(
            f"{len(twice)} names of task '{task.name}' in {task.origin} are the same in "
            f"UltraBench's format (first: {min(twice)}); rename one of the files"
        )


def _write_image(folder: Path, listed: Row) -> None:
    item, mask, row = listed
    target = folder / row["image"]
    image = item.image
    if isinstance(image, ImageFile) and image.path.suffix.lower() == target.suffix:
        _ = image.read()  # a damaged file is not handed on
        shutil.copyfile(image.path, target)
    else:
        PIL.Image.fromarray(image.read()).save(target, "PNG" if target.suffix == ".png" else None)
    PIL.Image.fromarray(mask.read().astype(np.uint8)).save(folder / row["scan_mask"])


def _about(task: Task) -> str:
    notes = "".join(f"- {note}\n" for note in task.notes)
    synthetic = "SYNTHETIC images: simulated, they say nothing about real ultrasound\n"
    return (
        f"Written by ultrabench_eval {version('ultrabench-eval')} in UltraBench's format; not by "
        f"UltraBench.\n{synthetic if task.synthetic else ''}"
        f"Task fingerprint: {task.fingerprint}\n{notes}"
    )


# ---- comparing ----------------------------------------------------------------------------------


class SplitAgreement(NamedTuple):
    """How a part of a task compares with UltraBench's published list."""

    part: str
    """"train_val" or "test"."""
    ours: int
    published: int
    common: int

    def __str__(self) -> str:
        return (
            f"{self.part}: {self.common} of our {self.ours} images are in UltraBench's published "
            f"list of {self.published}"
        )


def agreement(task: Task, folder: Path) -> list[SplitAgreement]:
    """Compare test, and train with validation, with the published lists that are there.

    Args:
        task: from its original release.
        folder: the task's data folder, ROOT/<name>.
    """
    name, _ = tasks.split_name(task.name)
    if name not in FORMS:
        return []
    ours = {
        part: {row["image"] for split in of for _, _, row in _rows(task, split, FORMS[name])}
        for part, of in {"train_val": ("train", "validation"), "test": ("test",)}.items()
    }
    results = []
    for part, names in ours.items():
        if splits.find_published(folder, FORMS[name].folder, part) is None:
            continue
        theirs = {row["image"] for row in splits.published(folder, FORMS[name].folder, part)}
        results.append(SplitAgreement(part, len(names), len(theirs), len(names & theirs)))
    return results


__all__ = ["FORMS", "Form", "SplitAgreement", "agreement", "export", "find", "read"]
