"""BUSI: `Dataset_BUSI_with_GT/<class>/<class> (n).png` with masks of several modes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tasks.phantom.anatomy import breast
from tasks.phantom.machine import Style
from tasks.phantom.picture import Study, png
from tasks.phantom.plan import PhantomPlan, Size, write

# Few enough at every size that the reader draws over these files, not over all of the release.
COUNTS = {"benign": 36, "malignant": 24, "normal": 16}
SEVERAL = 6  # every sixth benign image shows two lesions, with a mask file each
_STYLE = Style(
    depth=(30, 48),
    frequency=(7, 11),
    half_width=(16, 24),
    height=(230, 320),
    margin=(0, 0.05),
    gain=(-15, 2),
    words=("BREAST", "R", "L", "UOQ"),
    clutter={"text": 0.5, "calipers": 0.3, "ticks": 0.3},
)


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item an image with its masks."""
    items = [
        partial(_write_image, folder / f"Dataset_BUSI_with_GT/{kind}", size, seed, kind, number)
        for kind, count in COUNTS.items()
        for number in range(1, size.count(count) + 1)
    ]
    return PhantomPlan(items, finish=lambda _: None)


def _write_image(base: Path, size: Size, seed: int, kind: str, number: int) -> None:
    study = Study(seed, f"busi/{kind}/{number}", _STYLE, size.pixels)
    lesions = 0 if kind == "normal" else 2 if kind == "benign" and number % SEVERAL == 0 else 1
    malignant = [kind == "malignant"] * lesions
    picture = study.take(lambda scene, rng: breast.masses(scene, rng, malignant))
    write(base / f"{kind} ({number}).png", png(picture.image))
    masks = [picture.mask(border) for border in picture.finding]
    for at, mask in enumerate(masks or [np.zeros(picture.image.shape[:2], bool)]):
        name = f"{kind} ({number})_mask{f'_{at}' if at else ''}.png"
        write(base / name, png(_stored(mask, number if lesions else 3)))


def _stored(mask: np.ndarray, mode: int) -> np.ndarray:
    """A mask in one of the modes of the release: 1 bit, grey, with transparency, or colour."""
    if mode % 4 == 0:
        return mask
    grey = np.uint8(255) * mask
    opaque = np.full_like(grey, 255)
    channels = {1: [grey], 2: [grey, grey, grey, opaque], 3: [grey, grey, grey]}[mode % 4]
    return np.stack(channels, axis=-1).squeeze()
