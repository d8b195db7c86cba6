"""The split rules of UltraBench, and its published split files.

The rules are those of UltraBench 1.0.1 (github.com/adamtupper/ultrabench): scikit-learn's
generators with fixed seeds, run over items in an order that does not depend on the machine.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.release import missing_note
from tasks.samples.clip_files import CineClip
from tasks.samples.images import ImageArray, ImageFile
from tasks.samples.label_masks import EmptyMask
from tasks.samples.volumes import VolumeFrame
from tasks.targets import LabelMask
from tasks.task import SPLITS, Item, Rule, Split, Task, TaskCard
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key

_NOTHING = np.zeros((1, 1), np.uint8)
PUBLISHED = "ultrabench_splits"  # ROOT/ultrabench_splits: data/splits of UltraBench's repository
ROW = ("image", "label")  # what a row of a published list has
PUBLISHED_FROM = (
    "`data/splits` of https://github.com/adamtupper/ultrabench at commit "
    "a795300b787afe6404f4eb5f547301d46891c921"
)


def stratified(
    labels: np.ndarray | None, fraction: float, seed: int, count: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (rest, held out) of a class-stratified draw of `fraction` of the items; without
    labels, of a plain draw of `count` items.

    The held-out part has ceil(fraction * N) items. Positions come in the shuffled order of
    scikit-learn, which a second draw from `rest` depends on.
    """
    from sklearn.model_selection import train_test_split  # here, because few runs draw one

    rest, held_out = train_test_split(
        np.arange(count if labels is None else len(labels)),
        test_size=fraction,
        random_state=seed,
        stratify=labels,
    )
    return rest, held_out


def grouped(groups: Sequence[Any], fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (rest, held out) of a draw of `fraction` of the groups, whole; in input order."""
    from sklearn.model_selection import GroupShuffleSplit

    splitter = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    # Of objects, because numpy's own strings lose zero characters at their end.
    rest, held_out = next(
        splitter.split(np.zeros(len(groups)), groups=np.array(groups, dtype=object))
    )
    return rest, held_out


def draw(
    items: Sequence[Item], rule: Rule | None, folder: Path
) -> tuple[list[Item], list[Item], list[Item]]:
    """Items (train, validation, test) by a rule that draws the test set too.

    Raises:
        UserError: too few items of a class, or too few groups.
    """
    if rule is None or rule.test is None:
        raise ValueError("a rule that draws a test set is needed")
    pool, test = _hold_out(items, rule.test, rule, folder)
    return *draw_validation(pool, rule, folder), test


def draw_validation(
    pool: Sequence[Item], rule: Rule | None, folder: Path
) -> tuple[list[Item], list[Item]]:
    """Items (train, validation) of those that are not test; `folder` is for messages.

    Raises:
        UserError: too few items of a class, or too few groups.
    """
    if rule is None:
        raise ValueError("a rule is needed")
    return _hold_out(pool, rule.validation, rule, folder)


def sides(groups: Collection[str], rule: Rule | None, folder: Path) -> dict[str | None, str]:
    """The split of each group by a rule that draws whole groups.

    The images in a group do not matter to such a draw, so it can be made over groups of
    which some are not there.

    Raises:
        UserError: too few groups.
    """
    if rule is None or rule.by != "group":
        raise ValueError("a rule that draws groups is needed")
    # The draw looks at nothing but the group.
    items = [Item(ImageArray(_NOTHING, group), 0, group) for group in sorted(groups)]
    parts = draw(items, rule, folder)
    return {item.group: name for name, part in zip(SPLITS, parts, strict=True) for item in part}


def _hold_out(
    items: Sequence[Item], fraction: float, rule: Rule, folder: Path
) -> tuple[list[Item], list[Item]]:
    try:
        if rule.by == "class":
            labels = np.array([item.label for item in items], dtype=np.int64)
            rest, held_out = stratified(labels, fraction, rule.seed)
        elif rule.by == "image":
            rest, held_out = stratified(None, fraction, rule.seed, len(items))
        else:
            groups = _sortable([item.group for item in items])
            rest, held_out = grouped(groups, fraction, rule.seed)
    except ValueError as error:
        if rule.by == "class":
            rarest = min(Counter(item.label for item in items).values(), default=0)
            have = f"the rarest class has {rarest}"
        elif rule.by == "image":
            have = "they are too few"
        else:
            have = f"they are of {len({item.group for item in items})} groups"
        raise UserError(
            f"cannot hold out {fraction:.0%} of the {len(items)} images in {folder} by {rule.by}: "
            f"{have}; unpack the whole release there"
        ) from error
    return [items[i] for i in rest], [items[i] for i in held_out]


class Parts(NamedTuple):
    """The images of a release in splits, as `assemble` takes them."""

    train: Sequence[Item]
    validation: Sequence[Item]
    test: Sequence[Item]
    unused: Sequence[Item] = ()
    notes: Sequence[str] = ()


def in_folds(
    items: Sequence[Item], number: int, seed: int, together: Callable[[Item], str]
) -> list[list[Item]]:
    """Items of classes in `number` parts of about the same size and the same share of each class.

    From the most to the least items, groups go whole to the part that has the smallest share of
    their classes, then the fewest items. The draw depends on names, classes and the seed, not on
    the order of items.

    Args:
        items: to draw.
        number: of parts.
        seed: by which groups of one size are put in order.
        together: what an item's group is called.
    """
    ordered = sorted(items, key=lambda one: one.image.name)
    groups = by_key((together(item), item) for item in ordered)
    order = sorted(groups, key=lambda g: (-len(groups[g]), hashing.seed_for(seed, f"fold/{g}")))
    in_all = Counter(item.label for item in items)
    held = [Counter[int]() for _ in range(number)]
    parts: list[list[Item]] = [[] for _ in range(number)]
    for group in order:
        labels = Counter(item.label for item in groups[group])

        def filled(part: int, labels: Counter[int] = labels) -> tuple[float, int, int]:
            share = sum(held[part][label] / in_all[label] for label in labels)
            return share, len(parts[part]), part

        place = min(range(number), key=filled)
        held[place] += labels
        parts[place] += groups[group]
    return [sorted(part, key=lambda one: one.image.name) for part in parts]


def cross_validated(
    card: TaskCard,
    folder: Path,
    parts: Sequence[Sequence[Item]],
    *,
    missing: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Task:
    """The task in which each part is tested once; the part after it is for validation, and the
    others are learnt from.

    Fold k is called `<task>@fold<k>`, from 1.

    Raises:
        UserError: a class has no item to learn from in some fold, or a part is empty.
    """
    folds = []
    for k, part in enumerate(parts):
        after = (k + 1) % len(parts)
        rest = [item for n, one in enumerate(parts) if n not in (k, after) for item in one]
        called = dataclasses.replace(card, name=f"{card.name}@fold{k + 1}", folds=0)
        learnt, chosen, tested = (Split.of(list(one)) for one in (rest, parts[after], part))
        folds.append(Task(called, learnt, chosen, tested, notes=tuple(notes), origin=str(folder)))
    return Task.of_folds(
        card, folds, notes=tuple(notes), missing=tuple(missing), origin=str(folder)
    )


def assemble(
    card: TaskCard,
    folder: Path,
    *,
    train: Sequence[Item],
    validation: Sequence[Item],
    test: Sequence[Item],
    unused: Sequence[Item] = (),
    missing: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Task:
    """The task of three lists of items, and those that are in none.

    Items whose image file is missing are left out here, after the splits are drawn, so that a
    missing file never moves another one; they are counted in the task's notes. `missing` names
    others that this copy lacks.

    Raises:
        UserError: an image is listed twice, or the rest is not a valid `Task`.
    """
    every = Counter(item.image.name for item in (*train, *validation, *test))
    twice = [name for name, times in every.items() if times > 1]
    if twice:
        raise UserError(
            f"{len(twice)} image(s) of {folder} are listed more than once (first: {twice[0]}); "
            "copy the lists again from the release"
        )
    absent: list[str] = []
    task = Task(
        card,
        train=Split.of(_present(train, absent)),
        validation=Split.of(_present(validation, absent)),
        test=Split.of(_present(test, absent)),
        origin=str(folder),
    )
    of_splits = tuple(absent)
    return dataclasses.replace(
        task,
        unused=tuple(_present(unused, absent)),
        missing=(*absent, *missing),
        notes=(
            *missing_note("images of the splits", of_splits, len(every)),
            *_counts_note(task),
            *notes,
        ),
    )


def assemble_masks(
    card: TaskCard,
    folder: Path,
    mask_of: Callable[[Item], LabelMask | None],
    *,
    what: str,
    train: Sequence[Item],
    validation: Sequence[Item],
    test: Sequence[Item],
    unused: Sequence[Item] = (),
    notes: Sequence[str] = (),
) -> Task:
    """`assemble`, with a mask for each item instead of its class; items without one are left out.

    Args:
        card: as `assemble` takes it, like all that is not named here.
        folder: as above.
        mask_of: the mask of an item whose image is there, or None if the release has none.
        what: is in the mask, e.g. "liver polygon".
        train: items whose class the splits were drawn by, like those that follow.
        validation: as above.
        test: as above.
        unused: as above.
        notes: as above.

    Raises:
        UserError: what `assemble` raises, or more than half of the images have no mask.
    """
    without: list[str] = []

    def masked(items: Sequence[Item]) -> Iterator[Item]:
        for item in items:
            mask = EmptyMask(item.image) if is_missing(item) else mask_of(item)
            if mask is None:
                without.append(item.image.name)
            else:
                yield item._replace(target=mask)

    parts = [list(masked(part)) for part in (train, validation, test, unused)]
    there = sum(not is_missing(item) for item in (*train, *validation, *test, *unused))
    if len(without) > there / 2:
        raise UserError(
            f"{len(without)} of {there} images in {folder} have no {what} (first: {without[0]}); "
            "unpack the whole release there"
        )
    left_out = (
        f"left out: {len(without)} of {there} images that have no {what} (first: {without[0]})"
        for _ in without[:1]
    )
    return assemble(
        card,
        folder,
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        unused=parts[3],
        notes=(*left_out, *notes),
    )


def is_missing(item: Item) -> bool:
    """Whether an image or video is a file of its own that is not there."""
    image = item.image
    return isinstance(image, ImageFile | VolumeFrame | CineClip) and not image.path.is_file()


def file_of(item: Item) -> Path:
    """The file of an item's image.

    Raises:
        TypeError: the image is not a file of its own.
    """
    if not isinstance(item.image, ImageFile | VolumeFrame):
        raise TypeError(f"{item.image.name} is not a file of its own")
    return item.image.path


def _present(items: Sequence[Item], missing: list[str]) -> list[Item]:
    """Items whose file is there; names of the others go to `missing`."""
    present = []
    for item in items:
        if is_missing(item):
            missing.append(item.image.name)
        else:
            present.append(item)
    return present


def _counts_note(task: Task) -> tuple[str, ...]:
    """A note if the counts are not the paper's, with the reason where a whole copy has one."""
    ours = tuple(len(split) for split in task.splits.values())
    paper = task.card.paper_counts
    if paper is None or ours == paper:
        return ()
    counts = ["/".join(map(str, triple)) for triple in (ours, paper)]
    why = f": {task.card.differs}" if task.card.differs and sum(ours) == task.card.images else ""
    return (f"train/validation/test have {counts[0]} images here, {counts[1]} in the paper{why}",)


def _sortable(groups: list[str | None]) -> list[Any]:
    """Group ids as integers if all of them are.

    The draw depends on the order of ids, and UltraBench's patients are integers: 2 before 10.
    """
    if all(group is not None and group.isdecimal() for group in groups):
        numbers = [int(group) for group in groups if group is not None]
        if len(set(numbers)) == len(set(groups)):  # "1" and "01" may be two patients
            return numbers
    return list(groups)


def published(
    folder: Path, task: str, part: str, columns: Collection[str] = ROW
) -> list[dict[str, Any]]:
    """Rows of UltraBench's split file `<task>/<part>.json`, each with "image" and "label", or
    with what else `columns` names.

    It is looked for in `ultrabench_splits/` beside or in the task's folder.

    Args:
        folder: the task's data folder, ROOT/<name>.
        task: UltraBench's own name of the task, e.g. "aul_mass".
        part: "train_val" or "test".

    Raises:
        UserError: there is no such file, or it is not a JSON list of such rows.
    """
    path = find_published(folder, task, part)
    if path is None:
        raise UserError(
            f"published split of {folder.name} not found: "
            f"{folder.parent / PUBLISHED / task / part}.json; copy {PUBLISHED_FROM} to "
            f"{folder.parent / PUBLISHED}, or let `ubench data download {PUBLISHED}` do it"
        )
    return rows(path, PUBLISHED_FROM, columns)


def find_published(folder: Path, task: str, part: str) -> Path | None:
    """The file that `published` reads, or None."""
    places = [base / PUBLISHED / task / f"{part}.json" for base in (folder.parent, folder)]
    return next((place for place in places if place.is_file()), None)


def rows(path: Path, source: str, columns: Collection[str] = ROW) -> list[dict[str, Any]]:
    """Rows of one of UltraBench's lists, each with "image" and "label" or what `columns` names.

    Raises:
        UserError: it is not a JSON list of such rows; `source` says where to copy it from again.
    """
    try:
        listed = json.loads(path.read_bytes())
        if not isinstance(listed, list) or not all(set(columns) <= x.keys() for x in listed):
            raise ValueError(f"no list of rows with {' and '.join(columns)}")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); copy it again from {source}") from error
    return listed
