"""Tasks that are made of others: trained on one and tested on another, or with some classes only.

A task of a pair takes training and validation images of the first and test images of the second, so
that everything which is learnt or chosen (probe, temperature, thresholds, standardisation) comes
from the first, and of the second nothing but test images and their labels is used.
"""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import derived_names
from tasks.task import Item, Split, Task, TaskCard
from ultrabench_eval.core import yaml_file
from ultrabench_eval.core.errors import UserError, not_found

if TYPE_CHECKING:
    from tasks.near_duplicates.signatures import SignatureStore

Load = Callable[[str], Task]
Classes = Mapping[str, tuple[str, ...]]
"""Names of classes, each with those of a task that count as it."""


def load(
    name: str, of: Load, labels: Path | None = None, store: SignatureStore | None = None
) -> Task:
    """The task of a derived name (`derived_names`).

    Args:
        name: of a pair or a selection.
        of: reads a task by its name.
        labels: file that says which class of the tested task is which of the trained one.
        store: where signatures of images are kept, to find those that both have.

    Raises:
        UserError: the two do not fit, or what `of` raises.
    """
    both = derived_names.pair(name)
    if both is not None:
        trained, tested = (_in_three(of(one)) for one in both)
        return _transfer(trained, tested, read_labels(labels), store)
    some = derived_names.selected(name)
    if some is None:
        raise ValueError(f"{name} is not the name of a derived task")
    return _select(_in_three(of(some.task)), some)


def _in_three(task: Task) -> Task:
    """A task with three splits.

    Raises:
        UserError: it is one of cross-validation.
    """
    if task.folds:
        raise UserError(
            f"{task.name} is judged by cross-validation, of which no other task can be made; name "
            f"one of its folds, e.g. {task.folds[0].name}"
        )
    return task


def references(
    both: derived_names.SetPair, trained: TaskCard, tested: TaskCard, labels: Mapping[str, str]
) -> tuple[str, str]:
    """Names of the tasks that a pair is compared with: trained and tested on the first, and on the
    second, each with the classes that they share.

    Args:
        both: the pair.
        trained: card of the first.
        tested: card of the second.
        labels: `read_labels`.

    Raises:
        UserError: the two do not fit.
    """
    if "classification" not in (trained.type, tested.type):
        return both.trained, both.tested
    shared = _shared(trained, tested, labels)
    return (
        _named(both.trained, trained, {name: (name,) for name in shared}),
        _named(both.tested, tested, shared),
    )


def _named(name: str, card: TaskCard, classes: Classes) -> str:
    whole = [*classes.items()] == [(one, (one,)) for one in card.classes]
    return name if whole else derived_names.selection(name, classes)


def read_labels(path: Path | None) -> dict[str, str]:
    """Which class of the tested task (key) is which of the trained one; "" for none.

    Raises:
        UserError: the file is not there, or is neither YAML `class of B: class of A` nor a CSV of
            two such columns.
    """
    if path is None:
        return {}
    if path.suffix.lower() in (".yaml", ".yml"):
        found = yaml_file.read(path, "file of labels")
        return {str(key): "" if one is None else str(one) for key, one in found.items()}
    if path.suffix.lower() != ".csv":
        raise UserError(f"--labels {path} is neither .yaml nor .csv; write it as one of them")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [[one.strip() for one in row] for row in csv.reader(file) if any(row)]
    except FileNotFoundError as error:
        raise not_found("file of labels", path, "name an existing file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read file of labels {path} ({error}); save it as CSV") from error
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != 2), None)
    keys = [row[0] for row in rows]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if wrong or twice is not None:
        what = f"row {wrong} has not two columns" if wrong else f"class '{twice}' is there twice"
        raise UserError(f"cannot read file of labels {path} ({what}); write class of B,class of A")
    return dict(rows)


def _shared(trained: TaskCard, tested: TaskCard, labels: Mapping[str, str]) -> Classes:
    """The classes of the first that the second has, each with those of the second that count as it.

    Raises:
        UserError: fewer than two, or labels that neither has.
    """
    if trained.type != tested.type:
        raise UserError(
            f"{trained.name} is {trained.type} and {tested.name} {tested.type}; name two of a kind"
        )
    for key, name in labels.items():
        if key not in tested.classes or (name and name not in trained.classes):
            lacking, card = (key, tested) if key not in tested.classes else (name, trained)
            raise UserError(
                f"the file of labels names '{lacking}', a class that {card.name} does not have; "
                f"it has {', '.join(card.classes)}"
            )
    shared: dict[str, list[str]] = {name: [] for name in trained.classes}
    for name in tested.classes:
        same = labels.get(name, name)
        if same in shared:
            shared[same].append(name)
    found = {name: tuple(some) for name, some in shared.items() if some}
    if len(found) < 2:
        count = "one class" if found else "no class"
        raise UserError(
            f"{trained.name} and {tested.name} share {count} ({trained.name}: "
            f"{', '.join(trained.classes)}; {tested.name}: {', '.join(tested.classes)}), "
            f"and two are needed; say with --labels FILE which class of {tested.name} "
            f"is which of {trained.name}"
        )
    return found


def _transfer(
    trained: Task, tested: Task, labels: Mapping[str, str], store: SignatureStore | None
) -> Task:
    """Training and validation images of the first, test images of the second."""
    a, b = trained.card, tested.card
    classes, notes = a.classes, list[str]()
    parts = {**trained.splits, "test": tested.test}
    items: dict[str, list[Item]] = {name: split.items for name, split in parts.items()}
    if a.type == b.type == "classification":
        shared = _shared(a, b, labels)
        classes = tuple(shared)
        own: Classes = {name: (name,) for name in shared}
        for name, part in items.items():
            here, there, which = (b, a, shared) if name == "test" else (a, b, own)
            items[name], left_out = _with_classes(part, here.classes, which)
            notes += [
                f"left out: {count} {name} images of {here.name} of class '{one}', which "
                f"{there.name} does not have"
                for one, count in left_out.items()
            ]
    else:
        _check_alike(trained, tested, labels)
    test, double = _unseen(items, a.name, b.name, store)
    items["test"] = [
        item._replace(group=None if item.group is None else f"{b.name}/{item.group}")
        for item in test  # a patient 7 of the one set is not patient 7 of the other
    ]
    card = TaskCard(
        name=f"{a.name}:{b.name}",
        title=f"{a.title} to {b.title}",
        organ=b.organ,
        target=a.target,
        classes=classes,
        type=a.type,
        unit=a.unit,
        groups=b.groups,
        transfer=references(derived_names.SetPair(a.name, b.name), a, b, labels),
    )
    return Task(
        card,
        train=Split.of(items["train"]),
        validation=Split.of(items["validation"]),
        test=Split.of(items["test"]),
        notes=(
            f"trained on {a.name}, tested on {b.name}: probe, temperature, thresholds and "
            f"standardisation are those of {a.name}; of {b.name} nothing but test images and their "
            "labels is used",
            *notes,
            f"left out: {double} test images of {b.name} that show the same as a training or "
            f"validation image of {a.name}; {len(test)} are left",
            *(f"{note} ({one.name})" for one in (trained, tested) for note in one.notes),
        ),
        synthetic=trained.synthetic or tested.synthetic,
        origin=f"{trained.origin} and {tested.origin}",
    )


def _unseen(
    items: Mapping[str, Sequence[Item]], trained: str, tested: str, store: SignatureStore | None
) -> tuple[list[Item], int]:
    """Test items that no training or validation item shows as well, and how many others there are.

    Raises:
        UserError: there are none.
    """
    from tasks.near_duplicates.duplicates import near_duplicates  # here, because it imports torch

    learnt = [item.image for name in ("train", "validation") for item in items[name]]
    test = items["test"]
    double = {one.first for one in near_duplicates([item.image for item in test], learnt, store)}
    if len(double) == len(test):
        raise UserError(
            f"every test image of {tested} shows the same as a training or validation image of "
            f"{trained}, so that nothing is left to test on; name another pair"
        )
    return [item for place, item in enumerate(test) if place not in double], len(double)


def _with_classes(
    items: Sequence[Item], known: Sequence[str], classes: Classes
) -> tuple[list[Item], dict[str, int]]:
    """Items of these classes with their new codes, and how many of which others are left out.

    Args:
        items: of a task.
        known: its classes.
        classes: the new ones.
    """
    code = {name: place for place, some in enumerate(classes.values()) for name in some}
    kept = [item._replace(target=code[c]) for item in items if (c := known[item.label]) in code]
    others = Counter(c for item in items if (c := known[item.label]) not in code)
    return kept, {name: others[name] for name in known if others[name]}


def _check_alike(trained: Task, tested: Task, labels: Mapping[str, str]) -> None:
    """See that masks or numbers of one task mean the same as those of the other.

    Raises:
        UserError: they do not, or not as far as can be told.
    """
    a, b = trained.card, tested.card
    names = f"{a.name} and {b.name}"
    wrong = ""
    if a.type != b.type:
        wrong = f"{a.name} is {a.type} and {b.name} {b.type}"
    elif labels:
        wrong = f"--labels is for tasks of classes, and {names} are {a.type}"
    elif a.unit != b.unit:
        wrong = (
            f"the numbers of {names} have different units ({a.unit or 'none'}, {b.unit or 'none'})"
        )
    elif (trained.train.factors is None) != (tested.test.factors is None):
        wrong = f"only one of {names} predicts its numbers in parts of the image's width"
    elif a.classes != b.classes and not len(a.classes) == len(b.classes) == 2:
        classes = (", ".join(card.classes) for card in (a, b))
        wrong = f"the masks of {names} have different classes ({'; '.join(classes)})"
    if wrong:
        raise UserError(f"{wrong}; name two tasks that ask for the same")


def _select(task: Task, some: derived_names.Selection) -> Task:
    """A task with some of its classes.

    Raises:
        UserError: it has no classes, or not these.
    """
    if task.targets != "class":
        raise UserError(f"{task.name} has no classes to choose from; name it without [...]")
    classes = dict(some.classes)
    for name in [one for others in classes.values() for one in others]:
        if name not in task.classes:
            raise UserError(f"{task.name} has no class '{name}'; it has {', '.join(task.classes)}")
    parts, left_out = {}, Counter[str]()
    for name, split in task.splits.items():
        items, others = _with_classes(split.items, task.classes, classes)
        parts[name] = Split.of(items)
        left_out += Counter(others)
    card = dataclasses.replace(
        task.card,
        name=str(some._replace(task=task.name)),
        classes=tuple(classes),
        images=None,
        patients=None,
        paper_counts=None,
        ultrabench_counts=None,
        splits={},
    )
    words = ", ".join(f"{count} of '{name}'" for name, count in left_out.items())
    notes = ([f"left out: images of other classes ({words})"] if words else []) + [*task.notes]
    return dataclasses.replace(
        task,
        card=card,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        notes=tuple(notes),
        unused=(),
        missing=(),
    )
