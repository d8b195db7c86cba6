"""PSFHS: `image_mha` and `label_mha`, and UltraBench's published split of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.phantom.anatomy import fetus
from tasks.phantom.array_files import metaimage
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Study, fitted, grey
from tasks.phantom.plan import PhantomPlan, Size, write, write_json

COUNT = 60
TEST_SHARE = 0.2
FIRST = 3744  # number of the original's first image
SIDE = 256
_STYLE = Style(
    depth=(110, 150),
    frequency=(3, 5),
    half_angle=(34, 40),
    height=(240, 256),
    gain=(-12, 0),
)


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item an image with its mask."""
    items = [partial(_write_image, folder, size, seed, name) for name in _names(size)]
    return PhantomPlan(items, finish=lambda _: None)


def plan_split(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """`train_val.json` and `test.json`, a fifth for test."""

    def finish(_: list[Any]) -> None:
        names = generator(seed, "psfhs/split").permutation(_names(size)).tolist()
        held_out = round(TEST_SHARE * len(names))
        for part, listed in (("test", names[:held_out]), ("train_val", names[held_out:])):
            write_json(folder / f"{part}.json", [_row(name) for name in listed], indent=4)

    return PhantomPlan([], finish)


def _names(size: Size) -> list[str]:
    return [f"{number:05}" for number in range(FIRST, FIRST + size.count(COUNT))]


def _row(name: str) -> dict[str, str]:
    masks = {f"{kind}_mask": f"masks/{kind}/{name}.png" for kind in ("scan", "psfh")}
    return {"image": f"images/{name}.png", **masks}


def _write_image(folder: Path, size: Size, seed: int, name: str) -> None:
    study = Study(seed, f"psfhs/{name}", _STYLE, size.pixels)
    picture = study.take(fetus.labour)
    shape = (round(SIDE * size.pixels),) * 2
    image = fitted(grey(picture.image), shape)
    codes = np.zeros(picture.image.shape[:2], np.uint8)
    codes[picture.mask(picture.finding.head)] = 2
    codes[picture.mask(picture.finding.symphysis)] = 1
    write(folder / f"image_mha/{name}.mha", metaimage(np.stack([image] * 3)))
    write(folder / f"label_mha/{name}.mha", metaimage(fitted(codes, shape)))
