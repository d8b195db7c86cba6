"""Masks that were predicted elsewhere, at the size of their images: no grid, no threshold.

S is the number of seeds, N of images, C of classes, K of statistics an image.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tasks.targets import LabelMask
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.task_types import segmentation
from ultrabench_eval.task_types.segmentation import COLUMNS, GridMasks
from ultrabench_eval.task_types.task_type import Scored
from ultrabench_eval.test_set import TestSet

_OF_GRIDS = [
    place
    for place, name in enumerate(COLUMNS)
    if name.split("_")[0] in ("ceiling", "14") or name == "dice_14"
]
"""Statistics that say something of a map's grid, of which there is none."""


def score(masks: Sequence[Sequence[LabelMask]], test: TestSet, truth: GridMasks) -> Scored:
    """Scores of masks [S][N], without those of grids; one image after the other is in memory.

    Args:
        masks: codes below C, of the size of their image.
        test: the N samples.
        truth: their masks.

    Raises:
        UserError: a mask cannot be read, has another size or a code that stands for no class.
    """
    classes, seeds = len(test.classes), len(masks)
    unknown = np.full(seeds, np.nan)
    found = []
    for place in range(len(truth)):
        right, _ = truth.read(place, classes)
        codes = [mine[place].read() for mine in masks]
        for mask, one in zip((mine[place] for mine in masks), codes, strict=True):
            if one.shape != right.shape or one.max() >= classes:
                raise UserError(
                    f"the predicted mask {mask.name} has {one.shape[1]} x {one.shape[0]} pixels "
                    f"and codes up to {one.max()}; that image's has {right.shape[1]} x "
                    f"{right.shape[0]} and codes below {classes}: write class codes at its size"
                )
        called = np.stack(codes)[:, None] == np.arange(classes, dtype=np.uint8)[:, None, None]
        logits = called[:, None].astype(np.float32)  # [S, 1, C, H, W]
        found.append(segmentation.statistics(logits, truth[np.array([place])], unknown))
    statistics = np.concatenate(found, axis=1)
    by_structure = statistics.reshape(*statistics.shape[:2], -1, len(COLUMNS))
    by_structure[..., _OF_GRIDS] = 0
    stored = {"statistics": statistics, "thresholds": unknown, "extents": truth.extents}
    return Scored(segmentation.TYPE.again(stored, test), stored)
