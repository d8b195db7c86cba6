"""MMOTU: `OTU_2d/{images,annotations}`, `train*.txt`, and `val*.txt`, which is the test set."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from tasks.phantom.anatomy import ovary
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Study, jpeg, png
from tasks.phantom.plan import PhantomPlan, Size, shuffled, write, write_lines

TRAIN, TEST = (26, 18, 26, 13, 12, 22, 14, 12), (10, 7, 10, 5, 5, 9, 6, 5)
_COLOURS = (
    *((64, 0, 0), (0, 64, 0), (0, 0, 64), (64, 0, 64)),
    *((64, 64, 0), (64, 64, 64), (0, 128, 0), (0, 0, 128)),
)
STYLE = Style(
    depth=(70, 120),
    frequency=(4, 7),
    radius=(11, 20),
    half_angle=(42, 62),
    height=(200, 300),
    margin=(0.0, 0.05),
    zoom=(1.0, 1.9),
    gain=(-16, -1),
    words=("CY", "L", "ROV", "LOV", "Right Ovary"),
    clutter={"text": 0.6, "calipers": 0.5, "bar": 0.5, "ticks": 0.6, "box": 0.12},
)


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item an image. Numbers are scattered over train and test, as in the original."""
    base = folder / "OTU_2d"
    parts = {
        part: shuffled(seed, f"mmotu/{part}", [size.count(n) for n in counts])
        for part, counts in (("train", TRAIN), ("val", TEST))
    }
    total = sum(len(codes) for codes in parts.values())
    numbers = [int(n) for n in generator(seed, "mmotu/numbers").permutation(total) + 1]
    listed = {
        "train": list(zip(numbers[: len(parts["train"])], parts["train"], strict=True)),
        "val": list(zip(numbers[len(parts["train"]) :], parts["val"], strict=True)),
    }
    items = [
        partial(_write_image, base, size, seed, number, code)
        for rows in listed.values()
        for number, code in rows
    ]
    return PhantomPlan(items, lambda _: _write_lists(base, listed))


def _write_image(base: Path, size: Size, seed: int, number: int, code: int) -> None:
    study = Study(seed, f"mmotu/{number}", STYLE, size.pixels)
    picture = study.take(lambda scene, rng: ovary.ovary(scene, rng, code))
    write(base / f"images/{number}.JPG", jpeg(picture.image))
    mask = picture.mask(picture.finding)
    coloured = mask[..., None] * np.array(_COLOURS[code], np.uint8)
    write(base / f"annotations/{number}.PNG", png(coloured))
    write(base / f"annotations/{number}_binary.PNG", png(mask.astype(np.uint8)))


def _write_lists(base: Path, listed: dict[str, list[tuple[int, int]]]) -> None:
    for part, rows in listed.items():
        write_lines(base / f"{part}.txt", [str(number) for number, _ in rows])
        write_lines(base / f"{part}_cls.txt", [f"{number}.JPG  {code}" for number, code in rows])
