"""AUL: `<Class>/image/<n>.jpg` with polygons, and UltraBench's published split of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.phantom.anatomy import liver
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Study, jpeg
from tasks.phantom.plan import PhantomPlan, Size, write, write_json

FOLDERS = ("Normal", "Benign", "Malignant")  # the position is the class code
COUNTS = (36, 52, 88)
TEST_SHARE = 0.2
STYLE = Style(
    depth=(120, 190),
    frequency=(2.5, 4.5),
    half_angle=(28, 38),
    margin=(0.0, 0.14),
    dynamic_range=(52, 68),
    gain=(-16, 0),
    tints=((1, 1, 1), (1, 1, 1), (0.92, 0.95, 1), (0.97, 0.95, 1), (1, 0.97, 0.94)),
    words=("LIVER", "R LOBE", "ABD", "Hepar"),
    clutter={"text": 0.25, "calipers": 0.15, "bar": 0.15, "ticks": 0.3},
)


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """The images with their outline, liver and mass polygons."""
    items = [
        partial(_write_image, folder, size, seed, code, number)
        for code, count in enumerate(COUNTS)
        for number in range(1, size.count(count) + 1)
    ]
    return PhantomPlan(items, finish=lambda _: None)


def plan_split(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """`train_val.json` and `test.json`, drawn like UltraBench's: stratified, a fifth for test."""

    def finish(_: list[Any]) -> None:
        rng = generator(seed, "aul/split")
        rows: dict[str, list[dict[str, Any]]] = {"train_val": [], "test": []}
        for code, count in enumerate(COUNTS):
            numbers = rng.permutation(size.count(count)) + 1
            held_out = round(TEST_SHARE * len(numbers))
            rows["test"] += [_row(code, int(n)) for n in numbers[:held_out]]
            rows["train_val"] += [_row(code, int(n)) for n in numbers[held_out:]]
        for part, listed in rows.items():
            rng.shuffle(listed)  # type: ignore[arg-type]
            write_json(folder / f"{part}.json", listed, indent=4)

    return PhantomPlan([], finish)


def _row(code: int, number: int) -> dict[str, Any]:
    name = f"{FOLDERS[code].lower()}_{number}"
    return {
        "pathology": FOLDERS[code],
        "label": code,
        "image": f"images/{name}.jpg",
        "scan_mask": f"masks/scan/{name}.png",
        "liver_mask": f"masks/liver/{name}.png",
        "mass_mask": f"masks/mass/{name}.png",
    }


def _write_image(folder: Path, size: Size, seed: int, code: int, number: int) -> None:
    kind = FOLDERS[code].lower()
    study = Study(seed, f"aul/{kind}/{number}", STYLE, size.pixels)
    picture = study.take(lambda scene, rng: liver.focal(scene, rng, kind))
    base = folder / FOLDERS[code]
    write(base / f"image/{number}.jpg", jpeg(picture.image))
    found = picture.finding
    _write_polygon(base / f"segmentation/outline/{number}.json", picture.canvas.outline(6))
    for organ, border in (("liver", found.liver), ("mass", found.mass)):
        if border is not None:
            # Annotators cannot draw beside the picture.
            seen = np.clip(picture.pixels(border), 0, (picture.canvas.width, picture.canvas.height))
            _write_polygon(base / f"segmentation/{organ}/{number}.json", seen)


def _write_polygon(path: Path, points: np.ndarray) -> None:
    write_json(path, np.round(points, 3).tolist())
