"""Scores of masks: against plain computations, and with what goes wrong planted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from array_masks import ArrayMask, discs, exact, grid_masks, made_set
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from torch.nn import functional

from tasks.task import Split
from ultrabench_eval import task_types
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.task_types.segmentation import (
    THRESHOLDS,
    GridMasks,
    by_structure,
    chosen_threshold,
    column,
)
from ultrabench_eval.test_set import TestSet

TYPE = task_types.get("segmentation")
THRESHOLD = SimpleNamespace(decision="threshold")


def scored(
    logits: np.ndarray, truth: GridMasks, validation=None, settings=None, thorough=True
) -> dict[str, float]:
    """Scores of one seed's logits [N, C, h, w]."""
    found = TYPE.score_as(
        logits[None],
        made_set(truth, logits.shape[1]),
        None if validation is None else [validation],
        settings,
        thorough,
    )
    return {name: float(value[0]) for name, value in found.scores.items()}


def several(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, GridMasks]:
    """Logits on 7 x 9 places, and masks of 50 x 70 pixels that they have something to do with."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes, 7, 9)).astype(np.float16)
    noisy = torch.from_numpy(logits + rng.normal(0, 0.7, logits.shape))
    codes = functional.interpolate(noisy, (50, 70), mode="bicubic").argmax(1).numpy()
    codes[:, 10:14, 5:30] = 255
    return logits, grid_masks(list(codes))


@pytest.mark.parametrize("classes", [2, 4])
def test_scores_are_those_of_scikit_learn(classes: int) -> None:
    logits, truth = several(6, classes)
    full = functional.interpolate(torch.from_numpy(logits).float(), (50, 70), mode="bilinear")
    called = full.argmax(1).numpy()
    plain = {"dice": f1_score, "iou": jaccard_score}
    plain |= {"precision": precision_score, "recall": recall_score}
    found = scored(logits, truth)
    masks = [mask.read() for mask in truth.masks]
    for name, of in plain.items():
        by_image = [
            of(mask[mask < 255], guess[mask < 255], average=None, labels=range(1, classes))
            for mask, guess in zip(masks, called, strict=True)
        ]
        assert found[name] == pytest.approx(np.mean(by_image), abs=1e-6), name
    every, guesses = np.stack(masks), called
    pooled = {"dice_pooled": f1_score, "iou_pooled": jaccard_score}
    for name, of in pooled.items():
        wanted = of(
            every[every < 255], guesses[every < 255], average="macro", labels=range(1, classes)
        )
        assert found[name] == pytest.approx(wanted, abs=1e-6), name
    assert found["dice_argmax"] == found["dice"] == found["dice_present"] == found["dice_14"]
    assert found["ceiling"] > found["dice"]
    assert "dice_threshold" not in found


@pytest.mark.parametrize("classes", [2, 4])
def test_the_threshold_is_the_best_of_all(classes: int) -> None:
    logits, truth = several(5, classes)
    logits[:, 0] += 2  # too sure of background
    full = functional.interpolate(torch.from_numpy(logits).float(), (50, 70), mode="bilinear")
    structure = 1 - full.softmax(1)[:, 0].numpy()
    likeliest = full[:, 1:].argmax(1).numpy() + 1
    by_threshold = []
    for threshold in THRESHOLDS:
        called = np.where(structure > threshold, likeliest, 0)
        seen = [(mask.read(), guess) for mask, guess in zip(truth.masks, called, strict=True)]
        dice = [
            f1_score(
                m[m < 255], g[m < 255], average=None, labels=range(1, classes), zero_division=1
            )
            for m, g in seen
        ]
        by_threshold.append(np.mean(dice))
    best = THRESHOLDS[np.argmax(by_threshold)]
    assert chosen_threshold(logits, truth) == best
    by_argmax = scored(logits, truth, (logits, truth))
    by_threshold_first = scored(logits, truth, (logits, truth), settings=THRESHOLD)
    assert by_argmax["dice_threshold"] == pytest.approx(max(by_threshold), abs=1e-4)
    assert by_argmax["dice"] == by_argmax["dice_argmax"] < by_argmax["dice_threshold"]
    assert by_threshold_first["dice"] == by_threshold_first["dice_threshold"]
    assert by_threshold_first["dice_argmax"] == by_argmax["dice_argmax"]
    for name in ("ceiling", "ceiling_14", "dice_threshold"):
        assert by_threshold_first[name] == by_argmax[name]


def test_a_threshold_that_nothing_depends_on_is_one_half() -> None:
    codes = discs(2, 20, 30)
    sure = np.stack([exact(one) for one in codes]) * 100
    assert chosen_threshold(sure, grid_masks(codes)) == 0.5
    assert np.isnan(chosen_threshold(sure[:0], grid_masks([])))


def test_empty_masks() -> None:
    some, none = discs(1)[0], np.zeros((60, 90), np.uint8)
    truth = grid_masks([some, some, none, none])
    logits = np.stack([exact(one) for one in (some, none, none, some)])
    found = scored(logits, truth)
    assert found["dice"] == found["iou"] == found["boundary_f"] == 0.5  # 1, 0, 1, 0
    assert found["dice_present"] == found["recall"] == found["precision"] == 0.5
    assert found["dice_pooled"] == 0.5
    assert found["one_empty"] == 0.5
    assert found["hd95_px"] == found["assd_px"] == 0  # of the one image in which both have it
    remark, *_ = TYPE.remarks(made_set(truth))
    assert "both empty, 0 where only one is (2 of 4 test masks are empty)" in remark
    kept = TestSet.model_validate_json(made_set(truth).model_dump_json())  # without masks
    assert "test masks" not in TYPE.remarks(kept)[0]


def test_structures_that_an_image_lacks_are_left_out() -> None:
    one, two = discs(2)
    truth = grid_masks([one, two * 2, np.zeros_like(one)])
    logits = np.stack([exact(one, 4), exact(two * 3, 4), exact(one * 2, 4)])
    test = made_set(truth, 4)
    result = TYPE.score(logits[None], test)
    statistics = result.stored["statistics"]
    found = {name: float(value[0]) for name, value in result.scores.items()}
    # 1 is in one image; 2 in two, missed in one and wrongly seen in another; 3 is a false alarm.
    dice = by_structure(statistics.sum(1), "dice")
    np.testing.assert_array_equal(dice, [[1, 0, 0]])
    np.testing.assert_array_equal(column(statistics.sum(1), "counted"), [[1, 2, 1]])
    assert found["dice"] == pytest.approx(1 / 3)
    assert found["dice_present"] == 0.5  # nothing to say of 3
    np.testing.assert_array_equal(TYPE.good(statistics, test), [[1, 0, 0]])
    assert "left out" in TYPE.remarks(test)[0]


@pytest.mark.shared
def test_the_reference_set_under_our_rule(shared: Path) -> None:
    """Where both are empty the reference lists several rules; ours is "both empty = 1"."""
    folder = shared / "conformance" / "segmentation-metrics"
    expected = json.loads((folder / "expected.json").read_text())
    averaging = expected["averaging"]
    shape = tuple(expected["shape"])
    with np.load(folder / "masks.npz") as stored:
        called, truth = (
            [
                np.unpackbits(stored[f"{kind}_{name}"])[: np.prod(shape)].reshape(shape)
                for name in averaging["images"]
            ]
            for kind in "pg"
        )
        camus = {kind: stored[f"camus_{kind}"] for kind in ("prediction", "truth")}
    found = scored(np.stack([exact(one) for one in called]), grid_masks(truth))
    assert found["dice"] == pytest.approx(0.5224, abs=5e-5)
    assert found["dice_pooled"] == pytest.approx(0.7036, abs=5e-5)
    logits = exact(camus["prediction"], 4)[None]
    found = scored(logits, grid_masks([camus["truth"]]))
    assert found["dice"] == pytest.approx(0.6153, abs=5e-5)


def test_distances_and_their_unit() -> None:
    near = discs(3)
    moved = [np.roll(one, 3, axis=1) for one in near]
    logits = np.stack([exact(one) for one in moved])
    pixels = scored(logits, grid_masks(near))
    in_mm = scored(logits, grid_masks(near, spacing=(0.5, 0.5)))
    assert 2 <= pixels["hd95_px"] <= 3
    assert in_mm["hd95_mm"] == pytest.approx(pixels["hd95_px"] / 2)
    assert in_mm["assd_mm"] == pytest.approx(pixels["assd_px"] / 2)
    assert in_mm["boundary_f"] == pixels["boundary_f"]  # its tolerance is a part of the diagonal
    assert not any(name.endswith("_px") for name in in_mm)
    mixed = grid_masks(near, spacing=(0.5, 0.5))
    without = ArrayMask(mixed.masks[0].read())
    mixed = dataclasses.replace(mixed, masks=(without, *mixed.masks[1:]))
    assert scored(logits, mixed)["hd95_px"] == pixels["hd95_px"]
    quick = scored(logits, grid_masks(near), thorough=False)
    assert quick == {k: v for k, v in pixels.items() if k not in ("hd95_px", "assd_px")}


def test_what_is_stored_tells_all_scores_with_intervals() -> None:
    logits, truth = several(8, 3)
    seeds = np.stack([logits, logits + np.float16(0.3), logits[:, ::-1]])
    test = made_set(truth, 3, "aabbccdd")
    result = TYPE.score(seeds, test, [(logits, truth)] * 3)
    compact = TYPE.compact(result.stored)
    again = TYPE.again(compact, test)
    assert set(compact) == {"statistics", "thresholds"}
    for name, values in result.scores.items():
        np.testing.assert_array_equal(again[name], values)
    answers = TYPE.answers(compact)
    assert answers.shape[:2] == (3, 8)
    intervals = TYPE.intervals(answers, test)
    assert set(intervals) == set(result.scores)
    for name, (low, high) in intervals.items():
        assert low <= result.scores[name].mean() <= high, name
    assert intervals["dice"][1] - intervals["dice"][0] > 0.01
    alone = TYPE.intervals(answers, made_set(truth, 3))
    assert alone["dice"] != intervals["dice"]
    # Sums of some images are the scores of those images.
    rows = np.array([5, 1, 1])
    some = TYPE.score(seeds[:, rows], made_set(truth[rows], 3))
    total = TYPE.statistics(answers[:, rows], test).total()
    for metric in TYPE.metrics:
        if metric.name in some.scores and metric.of is not None:
            np.testing.assert_allclose(metric.of(total), some.scores[metric.name], rtol=1e-6)
    assert result.stored["logits"].dtype == np.float16


def test_intervals_of_what_is_never_right_are_open_upwards() -> None:
    codes = discs(12)
    test = made_set(grid_masks(codes))
    never = TYPE.score(np.stack([[exact(0 * one) for one in codes]] * 2), test)
    always = TYPE.score(np.stack([[exact(one) for one in codes]] * 2), test)
    for name in ("dice", "iou", "dice_pooled", "recall"):
        low, high = TYPE.intervals(TYPE.answers(never.stored), test)[name]
        assert low == 0 < high < 0.5
        low, high = TYPE.intervals(TYPE.answers(always.stored), test)[name]
        assert 0.5 < low < high == 1
    assert "precision" not in never.scores  # nothing was called
    low, high = TYPE.intervals(TYPE.answers(always.stored), test)["one_empty"]
    assert low == 0 < high < 0.5


def test_bad_input_is_told() -> None:
    logits, truth = several(2, 3)
    with pytest.raises(UserError, match="mask m0 has the code 2, but the task has the classes 0 t"):
        scored(logits[:, :2], truth)
    with pytest.raises(UserError, match="NaN or infinite"):
        scored(np.where(logits > 2, np.nan, logits), truth)
    with pytest.raises(ValueError, match="for a task of 2 classes"):
        TYPE.score(logits[None], made_set(truth, 2))
    with pytest.raises(ValueError, match="for 2 masks"):
        scored(logits[:1], truth)
    with pytest.raises(ValueError, match="masks need the extents"):
        TYPE.truth(Split.of([]))
    with pytest.raises(ValueError, match="needs validation images"):
        scored(logits, truth, settings=THRESHOLD)
    with pytest.raises(ValueError, match="2 masks, but extents of shape"):
        dataclasses.replace(truth, extents=np.ones((1, 2)))


# ---- a head that knows the truth, and what may go wrong -----------------------------------------


def oracle(truth: GridMasks, grid: tuple[int, int] = (10, 15)) -> np.ndarray:
    """Logits of a head that knows the share of each class at each place."""
    return TYPE.taught(truth, (2, *grid))


def test_an_oracle_scores_the_ceiling() -> None:
    for extent in ((1.0, 1.0), (1.0, 0.64)):
        truth = grid_masks(discs(6), extent=extent)
        found = scored(oracle(truth), truth)
        assert 0.9 < found["ceiling"] < 1
        assert found["dice"] == pytest.approx(found["ceiling"], abs=0.005)
    fine, coarse = (scored(oracle(truth, grid), truth) for grid in ((28, 28), (14, 14)))
    assert fine["ceiling"] > coarse["ceiling"] + 0.01
    assert fine["ceiling_14"] == pytest.approx(coarse["ceiling"], abs=1e-6)
    assert fine["dice_14"] == pytest.approx(coarse["dice"], abs=0.002)


@pytest.mark.parametrize("fault", ["shifted", "swapped", "transposed", "padding", "nearest"])
def test_planted_faults_cost_far_more_than_rounding(fault: str) -> None:
    codes = discs(6)
    wrong = codes
    extent = (0.7, 1.0)
    if fault == "shifted":
        wrong = [np.roll(one, 6, axis=1) for one in codes]  # 90 pixels, 15 places
    elif fault == "swapped":
        wrong = codes[::-1]
    elif fault == "transposed":
        wrong = [one.T for one in codes]
    elif fault == "nearest":
        wrong = [np.kron(one[3::6, 3::6], np.ones((6, 6))) for one in codes]
    taught = grid_masks(wrong, extent=(1.0, 1.0) if fault == "padding" else extent)
    right = grid_masks(codes, extent=extent)
    grid = (10, 15)
    if fault == "nearest":  # places of whole labels, on the grid of the labels
        taught, right = (
            dataclasses.replace(one, extents=np.ones((6, 2))) for one in (taught, right)
        )
    found = scored(oracle(taught, grid), right)
    assert found["dice"] < found["ceiling"] - 0.02
    assert scored(oracle(right, grid), right)["dice"] > found["ceiling"] - 0.005
