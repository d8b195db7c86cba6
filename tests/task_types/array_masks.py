"""Masks that are arrays, and test sets of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ultrabench_eval.core import hashing
from ultrabench_eval.task_types.segmentation import GridMasks


@dataclass(frozen=True)
class ArrayMask:
    codes: np.ndarray
    spacing: tuple[float, float] | None = None
    name: str = "array"

    def read(self) -> np.ndarray:
        return self.codes

    def digest(self) -> str:
        return hashing.digest([self.codes.tobytes().hex(), str(self.spacing)])


@dataclass(frozen=True)
class MaskSet:
    """What a task type looks at of a `TestSet`."""

    targets: GridMasks
    groups: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(map(str, range(self.targets.classes)))


def grid_masks(
    codes: Sequence[np.ndarray],
    classes: int = 2,
    extent: tuple[float, float] = (1.0, 1.0),
    spacing: tuple[float, float] | None = None,
) -> GridMasks:
    masks = tuple(ArrayMask(one.astype(np.uint8), spacing, f"m{n}") for n, one in enumerate(codes))
    return GridMasks(masks, np.tile(extent, (len(masks), 1)), classes)


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
