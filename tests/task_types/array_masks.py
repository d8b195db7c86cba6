"""Masks that are arrays, and test sets of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ultrabench_eval.core import hashing
from ultrabench_eval.task_types.segmentation import GridMasks
from ultrabench_eval.test_set import TestSet


@dataclass(frozen=True)
class ArrayMask:
    codes: np.ndarray
    spacing: tuple[float, float] | None = None
    name: str = "array"

    def read(self) -> np.ndarray:
        return self.codes

    def digest(self) -> str:
        return hashing.digest([self.codes.tobytes().hex(), str(self.spacing)])


def made_set(truth: GridMasks, classes: int = 2, groups: Sequence[str] | None = None) -> TestSet:
    return TestSet(
        fingerprint="",
        task="",
        type="segmentation",
        kind="mask",
        classes=tuple(map(str, range(classes))),
        synthetic=True,
        names=tuple(mask.name for mask in truth.masks),
        labels=(),
        groups=None if groups is None else tuple(groups),
        truth=truth,
    )


def grid_masks(
    codes: Sequence[np.ndarray],
    extent: tuple[float, float] = (1.0, 1.0),
    spacing: tuple[float, float] | None = None,
) -> GridMasks:
    masks = tuple(ArrayMask(one.astype(np.uint8), spacing, f"m{n}") for n, one in enumerate(codes))
    return GridMasks(masks, np.tile(extent, (len(masks), 1)))


def exact(codes: np.ndarray, classes: int = 2) -> np.ndarray:
    """Logits on a grid as fine as the mask, which call these codes: [C, H, W]."""
    return (codes == np.arange(classes)[:, None, None]).astype(np.float16) * 8


def discs(count: int, height: int = 60, width: int = 90, seed: int = 0) -> list[np.ndarray]:
    """Masks of one disc each, at random places; off the diagonal, so that turns show."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((height, width))
    found = []
    for _ in range(count):
        down, right = rng.uniform(0.25, 0.5) * height, rng.uniform(0.5, 0.8) * width
        radius = rng.uniform(8, 14)
        found.append(((rows - down) ** 2 + (columns - right) ** 2 < radius**2).astype(np.uint8))
    return found
