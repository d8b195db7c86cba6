"""Segmentation: a class for each pixel.

H is the number of seeds, N of images, C of classes, of which the first is background; F = C - 1 are
the others, the structures. h x w is the grid of the encoder's map, K = F x `COLUMNS` the number of
statistics of an image.

Probes give logits on the grid. They are brought to the mask's own size, where each pixel is called
one class: by "argmax" the likeliest, or by "threshold" the likeliest structure wherever the
probability of background is low enough. The threshold of each seed is chosen on validation images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tasks.targets import IGNORED, LabelMask
from tasks.task import Split
from ultrabench_eval.core import parallel
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.metrics import Metric, of_sums
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.intervals import intervals
from ultrabench_eval.task_types.label_grid import Extent, Size, coarsened, shares, upsampled
from ultrabench_eval.task_types.surfaces import TOLERANCE, Outline, Spacing, compared
from ultrabench_eval.task_types.task_type import (
    FoldPredictions,
    Scored,
    TaskType,
    Validation,
)
from ultrabench_eval.test_set import TestSet

COMMON = 14
"""Places a side of the grid on which encoders of any stride are compared: a ViT's with patches of
16 pixels at 224."""
THRESHOLDS = np.arange(1, 20) / 20
"""Probabilities of structure that are tried on validation images. The best is about half the Dice
that it reaches (Lipton et al. 2014, ECML PKDD, for F1), so the lowest serves a Dice of 0.1."""

# ---- from sums ----------------------------------------------------------------------------------

MEANS = {
    "dice": "counted",
    "iou": "counted",
    "boundary_f": "counted",
    "one_empty": "counted",
    "precision": "precision_counted",
    "recall": "present",
    "dice_present": "present",
    # By either decision, and on other grids.
    "dice_argmax": "argmax_counted",
    "dice_threshold": "threshold_counted",
    "dice_14": "14_counted",
    "ceiling": "ceiling_counted",
    "ceiling_14": "ceiling_14_counted",
}
"""What is a mean over images: sums, and how many images they are of."""
COLUMNS = (
    # Pixels of the structure in the truth, in what is called so, in both.
    *("truth", "called", "both"),
    *MEANS,
    *dict.fromkeys(MEANS.values()),
    # Sums of distances, and how many there are in millimetres and in pixels.
    *("hd95", "assd", "mm_counted", "px_counted"),
)
"""The statistics of one structure in one image."""
_AT = {name: place for place, name in enumerate(COLUMNS)}


def column(sums: np.ndarray, name: str) -> np.ndarray:
    """One of `COLUMNS` for each structure; sums [..., K] -> [..., F]."""
    return sums.reshape(*sums.shape[:-1], -1, len(COLUMNS))[..., _AT[name]]


def by_structure(sums: np.ndarray, name: str) -> np.ndarray:
    """One of `MEANS` for each structure, [..., K] -> [..., F]; NaN where no image counts."""
    return _ratio(column(sums, name), column(sums, MEANS[name]))


def _mean(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Over images, then over structures; one that no image counts for is left out."""
    return lambda sums: _over_structures(by_structure(sums, name))


def _dice_pooled(sums: np.ndarray) -> np.ndarray:
    """Of the pixels of all images together, then over structures."""
    every = column(sums, "truth") + column(sums, "called")
    return _over_structures(_ratio(2 * column(sums, "both"), every))


def _iou_pooled(sums: np.ndarray) -> np.ndarray:
    """The same for pixels in both of pixels in either."""
    both = column(sums, "both")
    return _over_structures(_ratio(both, column(sums, "truth") + column(sums, "called") - both))


def _over_structures(values: np.ndarray) -> np.ndarray:
    """Means [...] of [..., F] that leave out NaN, or NaN."""
    known = ~np.isnan(values)
    return _ratio(np.where(known, values, 0).sum(-1), known.sum(-1))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0))


def _distance(name: str, title: str, unit: str) -> Metric:
    def of(sums: np.ndarray) -> np.ndarray:
        return _over_structures(_ratio(column(sums, name), column(sums, f"{unit}_counted")))

    return Metric(
        f"{name}_{unit}",
        title,
        "mm" if unit == "mm" else "pixels",
        of=of,
        higher_is_better=False,
        within=(0.0, np.inf),
    )


DICE = Metric("dice", "Dice", of=_mean("dice"))
METRICS = (
    DICE,
    Metric("iou", "IoU", of=_mean("iou")),
    Metric("precision", "precision", of=_mean("precision")),
    Metric("recall", "recall", of=_mean("recall")),
    Metric("boundary_f", "boundary F", of=_mean("boundary_f")),
    Metric("dice_present", "Dice where present", of=_mean("dice_present")),
    Metric("dice_pooled", "Dice, pixels pooled", of=_dice_pooled),
    Metric("iou_pooled", "IoU, pixels pooled", of=_iou_pooled),
    Metric("dice_argmax", "Dice by argmax", of=_mean("dice_argmax")),
    Metric("dice_threshold", "Dice by threshold", of=_mean("dice_threshold")),
    Metric("dice_14", "Dice at 14 x 14", of=_mean("dice_14")),
    Metric("ceiling", "ceiling of the grid", of=_mean("ceiling")),
    Metric("ceiling_14", "ceiling at 14 x 14", of=_mean("ceiling_14")),
    _distance("hd95", "HD95", "mm"),
    _distance("assd", "ASSD", "mm"),
    _distance("hd95", "HD95", "px"),
    _distance("assd", "ASSD", "px"),
    Metric(
        "one_empty",
        "missed or false alarm",
        of=_mean("one_empty"),
        higher_is_better=False,
    ),
)
"""In the order of tables. Distances are of images where both masks have the structure; `one_empty`
is the part of those counted for Dice in which only one has it."""


# ---- from logits --------------------------------------------------------------------------------


@dataclass(frozen=True)
class GridMasks:
    """N masks, and where their images lie in the input of the encoder.

    Args:
        masks: of N images.
        extents: float64 [N, 2] or [N, 4], `Encoder.extent` of each.

    Raises:
        ValueError: as many masks as extents are needed.
    """

    masks: tuple[LabelMask, ...]
    extents: np.ndarray

    def __post_init__(self) -> None:
        if self.extents.shape not in ((len(self.masks), 2), (len(self.masks), 4)):
            raise ValueError(
                f"{len(self.masks)} masks, but extents of shape {self.extents.shape}; "
                f"give [{len(self.masks)}, 2] or [{len(self.masks)}, 4]"
            )

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, rows: np.ndarray) -> GridMasks:
        """Those of some images."""
        rows = np.arange(len(self))[rows]
        return GridMasks(tuple(self.masks[row] for row in rows.tolist()), self.extents[rows])

    @cached_property
    def empty(self) -> int:
        """How many masks are background throughout."""
        return sum(not np.any(mask.read() % IGNORED) for mask in self.masks)

    def read(self, place: int, classes: int) -> tuple[np.ndarray, Extent]:
        """The codes of a mask, uint8 [H, W], and its extent.

        Args:
            place: of the image.
            classes: C; codes are below it, or `IGNORED`.

        Raises:
            UserError: the mask cannot be read, or has codes of no class.
        """
        mask = self.masks[place]
        codes = mask.read()
        wrong = codes[(codes >= classes) & (codes != IGNORED)]
        if wrong.size:
            raise UserError(
                f"mask {mask.name} has the code {wrong.max()}, but the task has the classes 0 to "
                f"{classes - 1}; {IGNORED} marks pixels to be ignored"
            )
        return codes, tuple(self.extents[place].tolist())


def bound(threshold: float) -> float:
    """The log odds that a probability of structure must exceed: a float32."""
    return float(np.float32(np.log(threshold / (1 - threshold))))


def chosen_threshold(logits: np.ndarray, truth: GridMasks) -> float:
    """The threshold of `THRESHOLDS` with the best mean Dice at the masks' own size.

    All are tried at once, by a histogram of each image's pixels. Of several that are equally good
    it is the one nearest to 0.5.

    Args:
        logits: of validation images, [N, C, h, w].
        truth: their masks.

    Returns:
        A probability; NaN without images.
    """
    if not len(truth):
        return float("nan")
    bounds = np.array([bound(t) for t in THRESHOLDS], np.float32)
    classes = logits.shape[1]
    structures = classes - 1

    def of_image(place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mask, extent = truth.read(place, classes)
        above = upsampled(_above_background(logits[place]), mask.shape, extent)
        top, likeliest = _likeliest(above)
        odds = _odds(above, top)
        counted = mask != IGNORED
        passed, likeliest, codes = (
            one[counted] for one in (np.searchsorted(bounds, odds), likeliest, mask)
        )
        cell = (passed * structures + likeliest - 1) * 2 + (codes == likeliest)
        size = (len(bounds) + 1) * structures * 2
        counts = np.bincount(cell, minlength=size).reshape(-1, structures, 2)
        passing = counts[:0:-1].cumsum(0)[::-1]  # pixels that pass each threshold: [T, F, 2]
        return _areas(mask, structures), passing.sum(-1), passing[..., 1]

    found = _each(of_image, len(truth))
    truths, called, both = (np.stack(parts) for parts in zip(*found, strict=True))
    dice, counted = dice_of_areas(truths[:, None], called, both)
    mean = _over_structures(_ratio(dice.sum(0), counted.sum(0)))  # [T]
    best = np.flatnonzero(mean >= mean.max() - 1e-12)
    return float(THRESHOLDS[best[np.abs(THRESHOLDS[best] - 0.5).argmin()]])


def statistics(
    logits: np.ndarray,
    truth: GridMasks,
    thresholds: np.ndarray,
    *,
    decision: str = "argmax",
    thorough: bool = True,
) -> np.ndarray:
    """What is known of each image: float32 [H, N, K], see `COLUMNS`.

    Args:
        logits: [H, N, C, h, w].
        truth: N masks.
        thresholds: of each seed, float64 [H]; NaN where none was chosen.
        decision: "argmax" or "threshold", for all that isn't named for the other one.
        thorough: with distances.

    Raises:
        UserError: logits are NaN or infinite; a mask is wrong.
        ValueError: N differs, the decision is none, or it needs thresholds that are not there.
    """
    if logits.shape[1] != len(truth):
        raise ValueError(f"logits of shape {logits.shape} for {len(truth)} masks")
    if decision not in ("argmax", "threshold"):
        raise ValueError(f"the decision '{decision}' is neither 'argmax' nor 'threshold'")
    known = not np.isnan(thresholds).any()
    if decision == "threshold" and not known:
        raise ValueError("the decision 'threshold' needs validation images to choose it on")
    if not np.isfinite(logits).all():
        raise UserError("the probe gives logits that are NaN or infinite")
    in_mm = all(mask.spacing is not None for mask in truth.masks)
    bounds = [bound(t) if known else None for t in thresholds]
    found = _each(
        lambda place: _of_image(logits[:, place], truth, place, bounds, decision, in_mm), len(truth)
    )
    truths, called, both, outlines = (np.stack(parts) for parts in zip(*found, strict=True))
    called, both = (np.moveaxis(one, 0, 2) for one in (called, both))  # [5, H, N, F]
    outlines = np.moveaxis(outlines, 0, 1)  # [H, N, F, 3]

    main = _RULES.index(decision)
    dice, counted = dice_of_areas(truths, called, both)
    present, some = np.broadcast_to(truths > 0, counted[main].shape), called[main] > 0
    agree = np.isfinite(outlines[..., 1])  # both masks have the structure
    measured = agree if thorough else np.zeros_like(agree)
    neither = counted[main] & ~present & ~some
    columns = {
        "truth": np.broadcast_to(truths, dice[main].shape),
        "called": called[main],
        "both": both[main],
        "dice": dice[main],
        "iou": dice[main] / (2 - dice[main]),
        "boundary_f": np.where(agree, outlines[..., 0], neither),
        "one_empty": present ^ some,
        "counted": counted[main],
        "precision": both[main] / np.maximum(called[main], 1),
        "precision_counted": some,
        "recall": both[main] / np.maximum(truths, 1),
        "dice_present": dice[main] * present,
        "present": present,
        "hd95": np.where(measured, outlines[..., 1], 0),
        "assd": np.where(measured, outlines[..., 2], 0),
        "mm_counted": measured & in_mm,
        "px_counted": measured & (not in_mm),
    }
    for rule, name in enumerate(_RULES):
        tried = counted[rule] & (name != "threshold" or known)
        columns[name if name.startswith("ceiling") else f"dice_{name}"] = dice[rule] * tried
        columns[f"{name}_counted"] = tried
    stacked = np.stack([columns[name] for name in COLUMNS], axis=-1, dtype=np.float32)
    return np.asarray(stacked.reshape(*stacked.shape[:2], -1))


_RULES = ("argmax", "threshold", "14", "ceiling", "ceiling_14")
"""How pixels are called: by the two decisions; by the chosen one from logits on the common grid;
and from the truth's own shares on both grids, by argmax."""


def _of_image(
    logits: np.ndarray,
    truth: GridMasks,
    place: int,
    bounds: list[float | None],
    decision: str,
    in_mm: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Areas, and how outlines compare, in one image.

    Args:
        logits: of this image, [H, C, h, w].
        truth: all masks.
        place: of the image.
        bounds: of each seed, None where no threshold was chosen.
        decision: the one that counts.
        in_mm: whether distances are in mm.

    Returns:
        Pixels of each structure in the truth [F], in what is called so [5, H, F] and in both
        [5, H, F] by `_RULES`; and `surfaces.compared` [H, F, 3], NaN where either is empty.
    """
    classes = logits.shape[1]
    mask, extent = truth.read(place, classes)
    structures, codes = classes - 1, range(1, classes)
    spacing: Spacing = (truth.masks[place].spacing if in_mm else None) or (1.0, 1.0)
    tolerance = TOLERANCE * float(np.hypot(*(np.array(mask.shape) * spacing)))
    right = {code: mask == code for code in codes}
    outline = {code: Outline(here, spacing) for code, here in right.items() if here.any()}
    ignored = mask == IGNORED
    some_ignored = ignored.any()
    called = np.zeros((len(_RULES), len(logits), structures), np.int64)
    both = np.zeros_like(called)
    outlines = np.full((len(logits), structures, 3), np.nan)

    def count(rule: str, seed: int | slice, chosen: np.ndarray) -> None:
        for code in codes:
            mine = chosen == code
            called[_RULES.index(rule), seed, code - 1] = np.count_nonzero(mine)
            both[_RULES.index(rule), seed, code - 1] = np.count_nonzero(mine & right[code])
            if rule == decision and code in outline and mine.any():
                own = Outline(mine, spacing)
                outlines[seed, code - 1] = compared(own, outline[code], tolerance)

    def decided(above: np.ndarray, *limits: float | None) -> list[np.ndarray]:
        """The codes by each limit."""
        found = _called(upsampled(above, mask.shape, extent), limits)
        if some_ignored:
            for codes in found:
                codes[ignored] = 0
        return found

    for seed, limit in enumerate(bounds):
        above = _above_background(logits[seed])
        limits = (None,) if limit is None else (None, limit)
        for rule, chosen in zip(_RULES, decided(above, *limits), strict=False):
            count(rule, seed, chosen)
        (chosen,) = decided(
            coarsened(above, COMMON, extent), limit if decision == "threshold" else None
        )
        count("14", seed, chosen)
    for rule, side in (("ceiling", None), ("ceiling_14", COMMON)):
        grid = tuple(min(side or n, n) for n in logits.shape[-2:])
        held = shares(mask, classes, (grid[0], grid[1]), extent)
        total = held.sum(0)
        known = np.divide(held, total, out=np.zeros_like(held), where=total > 0)
        (chosen,) = decided(_above_background(known), None)
        count(rule, slice(None), chosen)
    return _areas(mask, structures), called, both, outlines


def _above_background(logits: np.ndarray) -> np.ndarray:
    """By how much each structure's logit is above the background's: float32 [F, h, w].

    Upsampling is linear, so this may be taken before it, and is F maps instead of C.
    """
    logits = logits.astype(np.float32)
    above: np.ndarray = logits[1:] - logits[:1]
    return above


def _odds(above: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Log odds of any structure, float32 [H, W]; `top` is the highest of `above`."""
    if len(above) == 1:
        return top
    return np.asarray(top + np.log(np.exp(above - top).sum(0)))


def _likeliest(above: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The highest of each pixel [H, W], and its code, uint8 [H, W]; of equal ones the first.

    One structure after the other, which takes a fraction of the time of numpy's `argmax`.
    """
    top, codes = above[0].copy(), np.ones(above.shape[1:], np.uint8)
    for code, other in enumerate(above[1:], 2):
        np.copyto(codes, code, where=other > top)
        np.maximum(top, other, out=top)
    return top, codes


def _called(above: np.ndarray, limits: Sequence[float | None]) -> list[np.ndarray]:
    """The class of each pixel, uint8 [H, W], by each limit to the log odds; by argmax without."""
    top, codes = _likeliest(above)
    passed = [top > 0 if limit is None else _odds(above, top) > limit for limit in limits]
    return [one.view(np.uint8) * codes for one in passed]


def called(logits: np.ndarray, size: Size, extent: Extent) -> np.ndarray:
    """The likeliest class of each pixel, uint8 [H, W].

    Args:
        logits: [C, h, w].
        size: H and W.
        extent: see `GridMasks`.
    """
    return _called(upsampled(_above_background(logits), size, extent), [None])[0]


def _areas(mask: np.ndarray, structures: int) -> np.ndarray:
    """Pixels of each structure, int64 [F]."""
    return np.array([np.count_nonzero(mask == code) for code in range(1, structures + 1)])


def dice_of_areas(
    truth: np.ndarray, called: np.ndarray, both: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Dice from pixels [..., F], and whether it counts; 0 where it does not.

    Where neither has the structure it is 1 if that is the only structure (an image without any
    lesion, in which none is found), and does not count if there are several.
    """
    every = truth + called
    counted = (every > 0) | (every.shape[-1] == 1)
    dice = np.divide(2.0 * both, every, out=counted.astype(np.float64), where=every > 0)
    return dice, counted


def _each(of_image: Callable[[int], Any], count: int) -> list[Any]:
    """What a function gives for each image, in their order."""
    return [found for _, found in parallel.ordered(of_image, range(count))]


# ---- the task type ------------------------------------------------------------------------------


class Segmentation(TaskType):
    """A class for each pixel."""

    name = "segmentation"
    predicts = "masks"
    main = DICE
    metrics = METRICS
    details = (
        ("iou", "IoU"),
        ("boundary_f", "boundary F"),
        ("dice_14", "Dice at 14 x 14"),
        ("ceiling", "ceiling of the grid"),
    )

    def truth(self, split: Split, extents: np.ndarray | None = None) -> GridMasks:
        """The masks, and where their images lie in the input of the encoder.

        Raises:
            ValueError: extents are missing; without them padding would be taken for image.
        """
        if extents is None:
            raise ValueError("masks need the extents of their images in the encoder's input")
        return GridMasks(split.masks, extents)

    def taught(self, truth: GridMasks, shape: tuple[int, ...]) -> np.ndarray:
        """`label_grid.shares` of each image, float32 [N, C, h, w]; `shape` is (C, h, w)."""
        classes, rows, columns = shape
        found = np.zeros((len(truth), *shape), np.float32)

        def fill(place: int) -> None:
            mask, extent = truth.read(place, classes)
            found[place] = shares(mask, classes, (rows, columns), extent)

        _each(fill, len(truth))
        return found

    def score(
        self, predicted: np.ndarray, test: TestSet, validation: Validation | None = None
    ) -> Scored:
        """By argmax, with all metrics."""
        return self.score_as(predicted, test, validation, None, True)

    def score_as(
        self,
        predicted: np.ndarray,
        test: TestSet,
        validation: Validation | None,
        settings: Any,
        thorough: bool,
    ) -> Scored:
        """Scores of logits [H, N, C, h, w] by the settings' `decision`, "argmax" without one.

        Raises:
            UserError: logits are NaN or infinite; a mask is wrong.
            ValueError: C or N differ, or the decision needs thresholds that can't be chosen.
        """
        truth: GridMasks = test.targets
        if predicted.shape[2] != len(test.classes):
            raise ValueError(
                f"logits of shape {predicted.shape} for a task of {len(test.classes)} classes"
            )
        thresholds = np.full(len(predicted), np.nan)
        if validation is not None:
            thresholds = np.array([chosen_threshold(*of_seed) for of_seed in validation])
        found = statistics(
            predicted,
            truth,
            thresholds,
            decision=getattr(settings, "decision", "argmax"),
            thorough=thorough,
        )
        stored = {
            "statistics": found,
            "logits": predicted.astype(np.float16),
            "thresholds": thresholds,
            "extents": truth.extents,
        }
        return Scored(self.again(stored, test), stored)

    def joined(
        self, parts: Sequence[Scored], folds: Sequence[FoldPredictions], test: TestSet
    ) -> Scored:
        """See `TaskType.joined`. What is kept of thresholds is their mean over folds."""
        each = [part.stored for part in parts]
        stored = {
            name: np.concatenate([one[name] for one in each], axis=1)
            for name in ("statistics", "logits")
        }
        stored["thresholds"] = np.mean([one["thresholds"] for one in each], axis=0)
        stored["extents"] = test.targets.extents
        return Scored(self.again(stored, test), stored)

    def again(self, stored: Mapping[str, np.ndarray], test: TestSet) -> dict[str, np.ndarray]:
        """All of them. One that no seed has an image for, such as distances in another unit, is
        left out."""
        sums = stored["statistics"].sum(1, dtype=np.float64)
        found = {metric.name: of_sums(metric)(sums) for metric in METRICS}
        return {name: values for name, values in found.items() if not np.isnan(values).all()}

    def answers(self, stored: Mapping[str, np.ndarray]) -> np.ndarray:
        """The statistics [H, N, K]."""
        return stored["statistics"]

    def compact(self, stored: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All but the logits and where images lie."""
        return {name: stored[name] for name in ("statistics", "thresholds")}

    def only(self, stored: Mapping[str, np.ndarray], keep: np.ndarray) -> dict[str, np.ndarray]:
        """Thresholds are of seeds, and stay."""
        found = {name: stored[name][:, keep] for name in ("statistics", "logits") if name in stored}
        extents = {"extents": stored["extents"][keep]} if "extents" in stored else {}
        return {**found, **extents, "thresholds": stored["thresholds"]}

    def statistics(self, answers: np.ndarray, test: TestSet) -> Additive:
        """As they are."""
        return Additive.dense(answers)

    def good(self, answers: np.ndarray, test: TestSet) -> np.ndarray:
        """The Dice of each image; 1 where there is nothing to find and nothing was found."""
        return np.nan_to_num(of_sums(DICE)(answers.astype(np.float64)), nan=1.0)

    def intervals(self, answers: np.ndarray, test: TestSet) -> dict[str, tuple[float, float]]:
        """Of the metrics that every seed has a value of."""
        added = self.statistics(answers, test)
        total = added.total()
        known = [one for one in self.of_sums if not np.isnan(of_sums(one)(total)).any()]
        clusters = self.clusters(test)
        return intervals(added, clusters, known, _imagined(total.mean(0) / clusters.count))

    def remarks(self, test: TestSet) -> tuple[str, ...]:
        """The rule for empty masks, and how many there are."""
        if len(test.classes) > 2:
            rule = (
                "Dice and IoU are means over images for each structure, then over structures; "
                "a structure that neither the mask nor the prediction has in an image is left out"
            )
        else:
            rule = (
                "Dice and IoU are means over images: 1 where the mask and the prediction are both "
                "empty, 0 where only one is"
            )
        if test.truth is not None:
            rule += f" ({test.truth.empty} of {len(test)} test masks are empty)"
        distances = (
            "Distances are means over images where both have the structure; HD95 is the 95th "
            "percentile of both directions together, as in medpy"
        )
        boundary = f"Boundary F allows {100 * TOLERANCE:g} % of the image's diagonal"
        return tuple(f"{sentence}." for sentence in (rule, distances, boundary))


def _imagined(usual: np.ndarray) -> np.ndarray:
    """Statistics of two patients, one wholly right and one wholly wrong: [1, 2, K].

    What has no worst value, the distances, is as usual in both.

    Args:
        usual: statistics of a patient on average, [K].
    """
    right, wrong = (usual.reshape(-1, len(COLUMNS)).copy() for _ in range(2))
    for name, counted in MEANS.items():
        right[:, _AT[name]], wrong[:, _AT[name]] = right[:, _AT[counted]], 0
    right[:, _AT["called"]] = right[:, _AT["both"]] = right[:, _AT["truth"]]
    wrong[:, _AT["both"]] = 0
    return np.stack([right, wrong]).reshape(1, 2, -1)


TYPE = Segmentation()
