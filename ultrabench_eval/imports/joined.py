"""Whose rows they are: a file's rows beside the images of a task, by key and never by order.

Every way in which keys and rows cannot be right is refused here, in a sentence. U is the number of
different images, D the feature width, S of seeds, N of test images, C of classes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tasks.samples.images import Image
from tasks.task import SPLITS, Task
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.imports.given import Given

SHOWN = 3  # images that a sentence names
_AS_ONE = 1e-3  # by which the probabilities of an image may miss a sum of 1
_HARDLY = 2.0  # grey levels between two images of one row, on average
_ENOUGH = 200  # rows of other images, after which no more pixels are compared
_SPLITS = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train"}


class Images:
    """The images of a task by their keys.

    Args:
        task: whose.
        wanted: splits of which there must be rows.
    """

    def __init__(self, task: Task, wanted: Sequence[str] = SPLITS) -> None:
        self.task = task
        self.names: dict[str, tuple[str, str]] = {}
        """Digest and split by name."""
        self.by_digest: dict[str, list[tuple[str, str]]] = {}
        """Names and splits; of equal files there are several."""
        self.images: dict[str, Image] = {}
        """An image by digest."""
        for split, part in task.splits.items():
            for image, digest in zip(part.images, part.digests, strict=True):
                self.names[image.name] = digest, split
                self.by_digest.setdefault(digest, []).append((image.name, split))
                self.images.setdefault(digest, image)
        self.wanted = [
            digest
            for digest, images in self.by_digest.items()
            if any(split in wanted for _, split in images)
        ]
        """Digests of which there must be rows, in the order of the task."""

    @cached_property
    def ends(self) -> dict[str, set[str]]:
        """Names of images by their ends: "12.jpg" and "image/12.jpg" of "Benign/image/12.jpg"."""
        found: dict[str, set[str]] = {}
        for name in self.names:
            for end in _ends(name)[1:]:
                found.setdefault(end, set()).add(name)
        return found

    def named(self, name: str) -> set[str]:
        """Names of the images that a file name may mean; none of a foreign one."""
        for end in _ends(name.replace("\\", "/")):
            if end in self.names:
                return {end}
        return self.ends.get(name.replace("\\", "/"), set())


def _ends(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


@dataclass(frozen=True)
class Joined:
    """Rows that have their image."""

    digests: list[str]
    """Of each of the N rows' images."""
    names: list[str]


def joined(given: Given, images: Images) -> Joined:
    """The image of each row.

    Raises:
        UserError: a key is foreign, ambiguous or empty, two keys of a row contradict each other,
            or a row's split is another than the task's.
    """
    path, task = given.path, images.task.name
    digests: list[str] = []
    names: list[str] = []
    ids, hashes = given.keys.get("id"), given.keys.get("sha256")
    foreign: list[str] = []
    ambiguous: dict[str, set[str]] = {}
    for row in range(len(given)):
        digest, name = "", ids[row] if ids else ""
        meant = images.named(name) if ids else set()
        if hashes:
            digest = hashes[row].lower()
            if not re.fullmatch(r"[0-9a-f]{64}", digest):
                raise UserError(
                    f"{path}, row {row + 1}: '{hashes[row][:80]}' is not a SHA-256; write the 64 "
                    "hexadecimal digits of the image file's, as `ubench embed` does"
                )
            known = images.by_digest.get(digest)
            if known is None:
                foreign.append(name or digest[:12])
                continue
            contents = {images.names[one][0] for one in meant}
            if meant and digest not in contents:
                raise UserError(
                    f"{path}, row {row + 1}: '{name}' is not the image with the sha256 "
                    f"{digest[:12]}..., which is '{known[0][0]}'; names or hashes are in the "
                    "wrong rows: write the file again"
                )
            name = name if name in {one for one, _ in known} else known[0][0]
        elif len(meant) == 1:
            (name,) = meant
            digest = images.names[name][0]
        elif meant:
            ambiguous[name] = meant
            continue
        else:
            foreign.append(name or "an empty name")
            continue
        digests.append(digest)
        names.append(name)
    if ambiguous:
        name, several = next(iter(ambiguous.items()))
        raise UserError(
            f"{path}: {_counted(len(ambiguous), 'file name is', 'file names are')} ambiguous: "
            f"'{name}' may be {_first(map(repr, sorted(several)), ' or ')}; write names with "
            "their folders, or the sha256"
        )
    if foreign:
        unused = {item.image.name for item in images.task.unused}
        more = ", but unused ones," if {*foreign} <= unused else ""
        raise UserError(
            f"{path}: {_counted(len(foreign), 'row is', 'rows are')} foreign, of no image of the "
            f"three splits of task '{task}'{more} ({_first(foreign)}); remove them, or name the "
            "task and copy of the release that they are of"
        )
    _check_splits(given, images, digests, names)
    return Joined(digests, names)


def _check_splits(
    given: Given, images: Images, digests: Sequence[str], names: Sequence[str]
) -> None:
    if given.splits is None:
        return
    wrong: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for said, digest, name in zip(given.splits, digests, names, strict=True):
        split = _SPLITS.get(said.lower(), said.lower())
        right = [one for _, one in images.by_digest[digest]]
        if split not in right:
            wrong[said, right[0]] += 1
            first.setdefault((said, right[0]), name)
    if wrong:
        (said, true), count = wrong.most_common(1)[0]
        raise UserError(
            f"{given.path}: {_counted(count, 'row says', 'rows say')} '{said}' of images that task "
            f"'{images.task.name}' has in {true} ({first[said, true]}); the rows are of other "
            "splits: write them for the splits of this task (`ubench embed` lists them)"
        )


# ---- features ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FeatureTable:
    """A row for each image of a task."""

    digests: list[str]
    """U of them."""
    rows: np.ndarray
    """Float32 [U, D]."""
    odd: list[str]
    """Images whose row is constant, or that of another image: only their model can tell whether
    that is right."""
    oddity: str
    """What is odd, as a sentence."""


def features_of(given: Given, images: Images) -> FeatureTable:
    """One row for each image of the three splits.

    Raises:
        UserError: see `joined`; rows are missing, doubled, or not finite; all are the same.
    """
    found = joined(given, images)
    path, values = given.path, given.values
    place: dict[str, int] = {}
    counts: Counter[str] = Counter(found.digests)
    for row, digest in enumerate(found.digests):
        before = place.setdefault(digest, row)
        allowed = len(images.by_digest[digest])
        if counts[digest] > allowed or not np.array_equal(
            values[before], values[row], equal_nan=True
        ):
            twice = sum(counts[one] > len(images.by_digest[one]) for one in counts) or 1
            raise UserError(
                f"{path}: {_counted(twice, 'image has', 'images have')} doubled rows "
                f"({found.names[row]}); leave one row for each image"
            )
    _check_missing(given, images, place)
    order = [place[digest] for digest in images.wanted]
    names = [images.by_digest[digest][0][0] for digest in images.wanted]
    rows: np.ndarray = values if order == [*range(len(values))] else values[order]
    bad = ~np.isfinite(rows).all(1)
    if bad.any():
        wrong = [name for name, is_bad in zip(names, bad, strict=True) if is_bad]
        raise UserError(
            f"{path}: {_counted(len(wrong), 'row is', 'rows are')} not finite (NaN or infinite, or "
            f"too large for float32: {_first(wrong)}); encode these images again"
        )
    if len(rows) > 1 and (rows == rows[0]).all():
        raise UserError(
            f"{path}: all {len(rows)} rows are the same, so that they tell nothing of the images; "
            "look at how they were made"
        )
    odd, oddity = _odd(path, images, rows, names)
    return FeatureTable([*images.wanted], rows, odd, oddity)


def _odd(
    path: object, images: Images, rows: np.ndarray, names: Sequence[str]
) -> tuple[list[str], str]:
    """Images with a constant row, or with the row of another one, and a sentence on them."""
    constant: list[int] = []
    if rows.shape[1] > 1:  # of one number alone nobody can tell
        constant = np.flatnonzero((rows == rows[:, :1]).all(1)).tolist()
    if constant:
        wrong = [names[row] for row in constant]
        return [images.wanted[row] for row in constant], (
            f"{path}: {_counted(len(wrong), 'row is', 'rows are')} constant, one number throughout "
            f"({_first(wrong)}); encode these images again"
        )
    if rows.shape[1] < 2:  # one number may well be that of another image
        return [], ""
    contents = (np.ascontiguousarray(row).data.cast("B") for row in rows)
    same = by_key((hashing.digest_parts([one]), row) for row, one in enumerate(contents))
    wrong_rows: list[int] = []
    for members in same.values():
        first, *others = members
        for other in others:
            mine, its = (images.images[images.wanted[row]].read() for row in (first, other))
            if not _alike(mine, its):  # two frames may well be the same after rounding
                wrong_rows += [first, other]
            if len(wrong_rows) > _ENOUGH:
                break
    wrong = [names[row] for row in dict.fromkeys(wrong_rows)]
    return [images.wanted[row] for row in dict.fromkeys(wrong_rows)], (
        f"{path}: {len(wrong)} images have the row of another image ({_first(wrong)}); encode "
        "them again: a row was copied, or a buffer was not cleared"
        if wrong
        else ""
    )


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two images, uint8 [H, W, 3], differ so little that their features may be equal."""
    if one.shape != other.shape:
        return False
    return float(np.abs(one.astype(np.int16) - other).mean()) < _HARDLY


def _check_missing(given: Given, images: Images, there: Iterable[str]) -> None:
    known = {*there}
    missing = [digest for digest in images.wanted if digest not in known]
    if not missing:
        return
    places = Counter(images.by_digest[digest][0][1] for digest in missing)
    where = ", ".join(f"{count} of {split}" for split, count in places.items())
    names = [images.by_digest[digest][0][0] for digest in missing]
    raise UserError(
        f"{given.path}: {_counted(len(missing), 'image has', 'images have')} no row ({where}; "
        f"{_first(names)}); add them"
    )


# ---- predictions ---------------------------------------------------------------------------------


def predictions_of(given: Given, images: Images) -> list[list[int]]:
    """Places of the rows of each seed, in the order of the N test images: [S][N].

    Raises:
        UserError: see `joined`; rows are of other splits; missing or doubled in a seed.
    """
    found = joined(given, images)
    others = [
        (name, images.by_digest[digest][0][1])
        for digest, name in zip(found.digests, found.names, strict=True)
        if "test" not in {split for _, split in images.by_digest[digest]}
    ]
    if others:
        name, split = others[0]
        raise UserError(
            f"{given.path}: {_counted(len(others), 'row is', 'rows are')} of {split} images "
            f"({name}), and predictions are scored on test images; remove them"
        )
    test = images.task.test
    seeds = given.seeds or [""] * len(given)
    ordered = []
    for seed in dict.fromkeys(seeds):
        mine = [row for row, one in enumerate(seeds) if one == seed]
        of = f" of seed {seed}" if given.seeds else ""
        by_digest = by_key((found.digests[row], row) for row in mine)
        by_name = {found.names[row]: row for row in mine}
        copies = Counter(test.digests)
        doubled = [rows for digest, rows in by_digest.items() if len(rows) > copies[digest]]
        if doubled:
            raise UserError(
                f"{given.path}: {_counted(len(doubled), 'image has', 'images have')} doubled rows"
                f"{of} ({found.names[doubled[0][0]]}); leave one row for each image"
            )
        _check_missing(given, images, by_digest)
        ordered.append(
            [
                by_name.get(image.name, by_digest[digest][0])
                for image, digest in zip(test.images, test.digests, strict=True)
            ]
        )
    return ordered


def probabilities(given: Given, order: Sequence[Sequence[int]], task: Task) -> np.ndarray:
    """Float32 [S, N, C], in the order of the task's classes; rows sum to 1.

    Raises:
        UserError: classes are lacking or foreign; values are not probabilities, or all the same.
    """
    classes, path = given.classes, given.path
    if sorted(classes) != sorted(task.classes):
        listed = ", ".join(map(repr, task.classes))
        said = ", ".join(map(repr, classes)) or "classes without names"
        raise UserError(
            f"{path} has probabilities of {said}; task '{task.name}' has the classes {listed}: "
            "name them so (columns p_<class>, or an array 'classes')"
        )
    if given.values.shape[1] != len(classes):
        raise UserError(
            f"{path} has {given.values.shape[1]} probabilities for {len(classes)} classes; write "
            "one for each"
        )
    columns = [classes.index(name) for name in task.classes]
    found = np.stack([given.values[rows][:, columns] for rows in order])
    _check_finite(given, found, task)
    if found.min() < 0 or found.max() > 1 + _AS_ONE:
        raise UserError(f"{path} has values below 0 or above 1; write probabilities, not logits")
    sums = found.sum(-1)
    if np.abs(sums - 1).max() > _AS_ONE:
        raise UserError(
            f"{path} has rows whose probabilities sum to {sums.flat[np.abs(sums - 1).argmax()]:.3f}"
            "; they must sum to 1"
        )
    return np.asarray(found / sums[..., None], np.float32)


def numbers(given: Given, order: Sequence[Sequence[int]], task: Task) -> np.ndarray:
    """Float64 [S, N], in the unit of the task.

    Raises:
        UserError: they are not finite, or all the same.
    """
    found = np.stack([given.values[rows] for rows in order])
    _check_finite(given, found, task)
    return found


def _check_finite(given: Given, found: np.ndarray, task: Task) -> None:
    bad = ~np.isfinite(found.reshape(*found.shape[:2], -1)).all((0, 2))
    if bad.any():
        wrong = [image.name for image, one in zip(task.test.images, bad, strict=True) if one]
        raise UserError(
            f"{given.path}: {_counted(len(wrong), 'row is', 'rows are')} not finite (NaN or "
            f"infinite: {_first(wrong)}); predict these images again"
        )
    if len(task.test) > 1 and (found == found[:, :1]).all():
        raise UserError(
            f"{given.path}: the predictions are constant, the same for all {len(task.test)} test "
            "images; look at how they were made"
        )


# ---- words ---------------------------------------------------------------------------------------


def _counted(count: int, one: str, several: str) -> str:
    return f"1 {one}" if count == 1 else f"{count} {several}"


def _first(names: Iterable[str], between: str = ", ") -> str:
    every = [*names]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return between.join(every[:SHOWN]) + more


def check_maker(given: Given, model: str, task: Task) -> None:
    """See that a file of `ubench embed` is of the model and the data that are named.

    Raises:
        UserError: it says otherwise.
    """
    said: Mapping[str, object] = given.made_by
    if (maker := said.get("model")) not in (None, model):
        raise UserError(
            f"{given.path} says that it holds features of '{maker}', not '{model}'; give "
            f"--model {maker}, or the other file"
        )
    if said.get("task") == task.name and said.get("task_fingerprint") != task.fingerprint:
        raise UserError(
            f"{given.path} was made of another version of the data of task '{task.name}' (other "
            "images, labels or splits); embed them again, or name that version"
        )
