"""Predictions per item of several models, one table each (CSV, Excel, Parquet): read and verified.

    image,group,label,prediction            patient-7 has label benign, and was called malignant

- id, image, path or file: which item the row is of. Rows are joined by it, never by their order.
- group: patient or video; items of one are resampled together. The same in all files.
- seed: of several trained models under one name; each must have a row for every item.
- what is right, the same in all files, or in one table for all of them (`truth`): `label` of
  classes, `target` of numbers (with a unit in brackets, "target (mm)"). Masks have none.
- what is predicted: of classes `prediction`, or probabilities `p_<class>`, whose largest counts;
  of numbers `prediction` (or `number`); of masks how well each image was done: `dice`, `iou`, or
  the pixels `intersection`, `predicted_area` and `true_area`. Several structures: `dice_<name>`.

H is the number of seeds, N of items, F of structures in masks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.targets import Kind
from ultrabench_eval.compare import masks
from ultrabench_eval.compare.table import AREAS, PredictionTable
from ultrabench_eval.compare.truth import Right, check_same, check_truth, joined
from ultrabench_eval.core import names
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.test_set import TestSet

_AS_ONE = 1e-3  # by which probabilities may miss a sum of 1
_TYPES = {"class": "classification", "number": "regression", "mask": "segmentation"}


@dataclass(frozen=True)
class Predicted:
    """Models on the same items."""

    test: TestSet
    models: tuple[str, ...]
    answers: tuple[np.ndarray, ...]
    """Of each model, as its `task_types.TaskType` has them: [H, N, ...]."""
    measured: tuple[str, ...] | None = None
    """Names of the metrics that the columns suffice for; None: all of the task type."""


def read(
    files: Sequence[Path | str] | Mapping[str, Path | str],
    truth: Path | str | None = None,
    name: str = "compare",
) -> Predicted:
    """Predictions of several models.

    Args:
        files: a table per model. A sequence: the models are called as their files are.
        truth: a table with what is right, and groups, for all of them. If it has a column `split`,
            only its test rows count.
        name: of the test set. It sets the random draws apart, so that the name of a task, and the
            predictions of a run on it, give the p-values of that run.

    Raises:
        UserError: a file cannot be read, or files are not of the same items with the same truth.
    """
    paths = _named(files)
    sheets = {model: PredictionTable.read(path) for model, path in paths.items()}
    first, *others = sheets.values()
    told = None if truth is None else PredictionTable.read(Path(truth))
    kind = _kind([first, *others], told)
    right = Right.of(first, kind) if told is None else Right.of(told, kind, test=True)
    places = {model: joined(sheet, right) for model, sheet in sheets.items()}
    if told is None:
        for sheet in others:
            check_same(Right.of(sheet, kind), right)
    else:
        for sheet in sheets.values():
            check_truth(sheet, right)
    classes: tuple[str, ...] = ()
    measured: set[str] | None = None
    answers = []
    if kind == "class":
        classes = _classes([*sheets.values()], right)
    elif kind == "mask":
        structures = masks.structures_of([*sheets.values()])
        classes = ("background", *structures)
    for model, sheet in sheets.items():
        if kind == "class":
            answers.append(_codes(sheet, classes)[places[model]])
        elif kind == "number":
            answers.append(_numbers(sheet)[places[model]])
        else:
            found, these = masks.statistics(sheet, classes[1:])
            answers.append(found[places[model]])
            measured = these if measured is None else measured & these
    test = TestSet(
        fingerprint="",
        task=name,
        type=_TYPES[kind],
        kind=kind,
        classes=classes,
        synthetic=False,
        names=right.items,
        labels=tuple(classes.index(label) for label in right.labels),
        values=right.values,
        unit=right.unit,
        groups=right.groups,
    )
    return Predicted(
        test, tuple(sheets), tuple(answers), None if measured is None else tuple(sorted(measured))
    )


def _named(files: Sequence[Path | str] | Mapping[str, Path | str]) -> dict[str, Path]:
    if isinstance(files, Mapping):
        pairs = [(str(model), Path(path)) for model, path in files.items()]
    else:
        pairs = [(names.printable(Path(path).stem), Path(path)) for path in files]
    if len(pairs) < 2:
        raise UserError("one model alone is compared with nothing; give the files of two or more")
    for model, path in pairs:
        if other := [p for m, p in pairs if m == model and p is not path]:
            raise UserError(
                f"{path} and {other[0]} would both be called '{model}'; name them: "
                f"{model}-1={path} {model}-2={other[0]}"
            )
    return dict(pairs)


def _kind(sheets: Sequence[PredictionTable], truth: PredictionTable | None) -> Kind:
    """What is predicted, of all files the same."""
    found: dict[Kind, Path] = {}
    kind: Kind
    for sheet in sheets:
        there = sheet.columns
        if any(masks.of_column(name) for name in there):
            kind = "mask"
        elif _probabilities(there):
            kind = "class"
        elif "number" in there:
            kind = "number"
        elif "prediction" in there:
            right = there if truth is None else truth.columns
            if "label" in right and "target" in right:
                raise UserError(
                    f"{(truth or sheet).path} has the columns 'label' and 'target'; remove the one "
                    "that is not predicted"
                )
            kind = "number" if "target" in right else "class"
        else:
            raise UserError(
                f"{sheet.path} does not say what was predicted; add a column 'prediction' (a "
                "class or a number), p_<class>, or of masks 'dice', 'iou' or "
                f"{', '.join(map(repr, AREAS))}"
            )
        found.setdefault(kind, sheet.path)
    if len(found) > 1:
        (one, a), (other, b), *_ = found.items()
        raise UserError(
            f"{a} tells of {_PLURAL[one]} and {b} of {_PLURAL[other]}; compare files of one kind"
        )
    return next(iter(found))


_PLURAL = {"class": "classes", "number": "numbers", "mask": "masks"}


def _probabilities(columns: Iterable[str]) -> list[str]:
    return [name for name in columns if name.startswith("p_")]


def _classes(sheets: Sequence[PredictionTable], right: Right) -> tuple[str, ...]:
    """The classes: of the truth, and of probabilities; numbers in their order."""
    every = {*right.labels}
    for sheet in sheets:
        every |= {name.removeprefix("p_") for name in _probabilities(sheet.columns)}
    if same := names.alike(sorted(every)):
        one, other = same[0]
        raise UserError(
            f"the classes '{one}' and '{other}' differ only in how they are written; write them "
            "alike in all files"
        )
    if len(every) < 2:
        raise UserError(f"all items of {right.path} are of one class; add those of the others")
    whole = all(re.fullmatch(r"-?\d+", name) for name in every)
    return tuple(sorted(every, key=int) if whole else sorted(every))


def _codes(sheet: PredictionTable, classes: Sequence[str]) -> np.ndarray:
    """Class codes of all rows, int64: those of `prediction`, else the most probable."""
    if "prediction" in sheet.columns:
        code = {name: place for place, name in enumerate(classes)}
        cells = sheet.words("prediction")
        for row, cell in enumerate(cells):
            if cell not in code:
                raise UserError(
                    f"{sheet.where(row)}: the prediction '{cell}' is not one of the labels "
                    f"({', '.join(classes[:8])}); correct it, or name a class without items by a "
                    "column p_<class>"
                )
        return np.array([code[cell] for cell in cells])
    there = _probabilities(sheet.columns)
    lacking = [name for name in classes if f"p_{name}" not in there]
    if lacking:
        raise UserError(
            f"{sheet.path} has no column 'p_{lacking[0]}'; write the probability of every class, "
            "or a column 'prediction'"
        )
    found = np.stack([sheet.numbers(f"p_{name}", 0, 1 + _AS_ONE) for name in classes], axis=1)
    sums = found.sum(1)
    if len(wrong := np.flatnonzero(np.abs(sums - 1) > _AS_ONE)):
        raise UserError(
            f"{sheet.where(int(wrong[0]))}: the probabilities sum to {sums[wrong[0]]:.3f}; they "
            "must sum to 1"
        )
    return np.asarray(found.argmax(1))


def _numbers(sheet: PredictionTable) -> np.ndarray:
    """Predictions of all rows, float64 [rows, 3]; see `Regression.answers`."""
    column = "number" if "number" in sheet.columns else "prediction"
    if column not in sheet.columns:
        raise UserError(f"{sheet.path} lacks the column 'prediction'; add it")
    found = np.full((len(sheet.items), 3), np.nan)
    found[:, 0] = sheet.numbers(column, -np.inf, np.inf)
    return found
