"""Masks by how good each image is: Dice, IoU, or areas, as the statistics of segmentation.

F is the number of structures, K of statistics per image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ultrabench_eval.compare.table import AREAS, PredictionTable
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.task_types import segmentation

ONE = "structure"
"""Of masks without names of structures."""
_AS_ONE = 1e-3  # by which Dice may miss that of its areas


def of_column(column: str) -> tuple[str, str] | None:
    """What a column tells of masks, and of which structure; None of other columns."""
    for what in ("dice", "iou", *AREAS):
        if column == what:
            return what, ONE
        if column.startswith(f"{what}_"):
            return what, column.removeprefix(f"{what}_")
    return None


def structures_of(sheets: Sequence[PredictionTable]) -> tuple[str, ...]:
    """Of masks, the same in all files."""
    every = {
        sheet.path: sorted({found[1] for name in sheet.columns if (found := of_column(name))})
        for sheet in sheets
    }
    (first, wanted), *others = every.items()
    for path, some in others:
        if some != wanted:
            raise UserError(
                f"{first} has the structures {', '.join(wanted)}, and {path} has "
                f"{', '.join(some)}; name them alike in all files"
            )
    return tuple(wanted)


def statistics(sheet: PredictionTable, structures: Sequence[str]) -> tuple[np.ndarray, set[str]]:
    """Statistics of all rows, float32 [rows, K] as `segmentation.COLUMNS` has them, and which
    metrics they suffice for.

    An empty cell of Dice or IoU: the structure does not count in that image. Of areas, where both
    are 0 the Dice is 1 if it is the only structure, else it does not count, as everywhere here.
    """
    parts: list[dict[str, np.ndarray]] = []
    metrics = {"dice", "iou"} | _OF_AREAS
    for structure in structures:
        there = {
            found[0]: column
            for column in sheet.columns
            if (found := of_column(column)) and found[1] == structure
        }
        if there.keys() & {*AREAS}:
            part = _of_areas(*_areas(sheet, there), alone=len(structures) == 1)
        else:
            what = "dice" if "dice" in there else "iou"
            value = sheet.numbers(there[what], 0, 1, empty=True)
            value = value if what == "dice" else 2 * value / (1 + value)
            part = {"dice": np.nan_to_num(value), "counted": ~np.isnan(value)}
            metrics -= _OF_AREAS
        _check_agree(sheet, there, part)
        parts.append({**part, "iou": part["dice"] / (2 - part["dice"])})
    zero = np.zeros(len(sheet.items))
    columns = [part.get(name, zero) for part in parts for name in segmentation.COLUMNS]
    return np.stack(columns, axis=1).astype(np.float32), metrics


_OF_AREAS = frozenset(
    ("dice_pooled", "iou_pooled", "precision", "recall", "dice_present", "one_empty")
)


def _of_areas(
    both: np.ndarray, called: np.ndarray, truth: np.ndarray, alone: bool
) -> dict[str, np.ndarray]:
    """What areas [rows] of one structure tell of each image; `alone`: it is the only one."""
    # Of several structures, one that is empty in both does not count; of the only one it does.
    areas = [np.stack([one] if alone else [one, one], axis=-1) for one in (truth, called, both)]
    dice, counted = (one[:, 0] for one in segmentation.dice_of_areas(*areas))
    return {
        **{"truth": truth, "called": called, "both": both, "dice": dice, "counted": counted},
        "precision": both / np.maximum(called, 1),
        "precision_counted": called > 0,
        "recall": both / np.maximum(truth, 1),
        "dice_present": dice * (truth > 0),
        "present": truth > 0,
        "one_empty": (called > 0) ^ (truth > 0),
    }


def _areas(
    sheet: PredictionTable, there: Mapping[str, str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels in both, in the predicted and in the true structure, [rows] each."""
    lacking = [one for one in AREAS if one not in there]
    if lacking:
        raise UserError(
            f"{sheet.path} has some of the areas but no column '{lacking[0]}'; write all of "
            f"{', '.join(AREAS)}"
        )
    both, called, truth = (sheet.numbers(there[one], 0, 2**53) for one in AREAS)
    if len(wrong := np.flatnonzero(both > np.minimum(called, truth))):
        raise UserError(
            f"{sheet.where(int(wrong[0]))}: the intersection is larger than one of the two areas; "
            "correct them"
        )
    return both, called, truth


def _check_agree(
    sheet: PredictionTable, there: Mapping[str, str], part: Mapping[str, np.ndarray]
) -> None:
    """See that Dice, IoU and areas in one row tell the same."""
    of_dice: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "dice": lambda dice: dice,
        "iou": lambda dice: dice / (2 - dice),
    }
    for what, expected in of_dice.items():
        if what in there:
            value = sheet.numbers(there[what], 0, 1, empty=True)
            off = np.abs(value - expected(part["dice"])) > _AS_ONE
            off |= np.isnan(value) & part["counted"].astype(bool)
            if len(wrong := np.flatnonzero(off)):
                raise UserError(
                    f"{sheet.where(int(wrong[0]))}: the {what} is not that of the other columns of "
                    "this row; leave out the wrong one"
                )
