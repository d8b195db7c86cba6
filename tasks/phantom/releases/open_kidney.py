"""Open Kidney: `images/`, `labels/` of two sonographers, and UltraBench's published split."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.phantom.anatomy import kidney
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Study, grey, png
from tasks.phantom.plan import PhantomPlan, Size, shuffled, write, write_json
from ultrabench_eval.core import files

COUNTS = {"Longitudinal": 32, "Other": 10, "Transverse": 16}
FEWEST = 0.5  # of those, at any size: validation needs an image of each view
TWICE = 2  # images that the table lists under a second name too
TEST_SHARE = 0.2
EMPTY = 9  # every ninth capsule could not be drawn
QUALITIES = ("Unsatisfactory", "Poor", "Fair", "Good")
_STYLE = Style(
    depth=(110, 170),
    frequency=(2.5, 4.5),
    half_angle=(30, 38),
    height=(220, 300),
    gain=(-14, -2),
    words=("RK", "LK", "KIDNEY"),
    clutter={"text": 0.3, "calipers": 0.2, "ticks": 0.3},
)
_COLUMNS = (
    *("filename", "file_size", "file_attributes", "region_count", "region_id"),
    *("region_shape_attributes", "region_attributes"),
)


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item an image with its masks."""
    listed = _listed(size, seed)
    items = [partial(_write_image, folder, size, seed, *row) for row in listed]

    def finish(sizes: list[int]) -> None:
        for sonographer in (1, 2):
            rows: list[list[object]] = [[*_COLUMNS]]
            for (name, view, number), length in zip(listed, sizes, strict=True):
                about = {"Quality": QUALITIES[number % 4], "View": view, "Comments": "n/a"}
                for region in range(2):
                    shape = {"name": "polygon", "all_points_x": [], "all_points_y": []}
                    anatomy = {"Anatomy": ("Capsule", "Central Echo Complex")[region]}
                    texts = [json.dumps(one) for one in (about, shape, anatomy)]
                    rows.append([name, length, texts[0], 2, region, *texts[1:]])
            write(folder / f"labels/reviewed_labels_{sonographer}.csv", files.csv_text(rows))

    return PhantomPlan(items, finish)


def plan_split(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """`train_val.json` and `test.json`, a fifth of each view for test."""

    def finish(_: list[Any]) -> None:
        once = _listed(size, seed)[:-TWICE]
        rng = generator(seed, "open_kidney/split")
        rows: dict[str, list[dict[str, str]]] = {"test": [], "train_val": []}
        for view in COUNTS:
            names = rng.permutation([name for name, of, _ in once if of == view]).tolist()
            held_out = round(TEST_SHARE * len(names))
            rows["test"] += [_row(name, view) for name in names[:held_out]]
            rows["train_val"] += [_row(name, view) for name in names[held_out:]]
        for part, listed in rows.items():
            write_json(folder / f"{part}.json", listed, indent=4)

    return PhantomPlan([], finish)


def _row(name: str, view: str) -> dict[str, str]:
    masks = {f"{kind}_mask": f"masks/{kind}/{name}" for kind in ("scan", "capsule", "regions")}
    return {"filename": name, "view": view, "image": f"images/{name}", **masks}


def _listed(size: Size, seed: int) -> list[tuple[str, str, int]]:
    """Name, view and number of each image; the last ones are the first ones again."""
    views = list(COUNTS)
    codes = shuffled(seed, "open_kidney/views", [_count(size, view) for view in views])
    once = [
        (f"{number}_IM-{number:04}-0059_anon.png", views[code], number)
        for number, code in enumerate(codes, 1)
    ]
    again = [(name.replace("_", "0_", 1), view, number) for name, view, number in once[:TWICE]]
    return [*once, *again]


def _count(size: Size, view: str) -> int:
    return max(size.count(COUNTS[view]), math.ceil(FEWEST * COUNTS[view]))


def _write_image(folder: Path, size: Size, seed: int, name: str, view: str, number: int) -> int:
    study = Study(seed, f"open_kidney/{number}", _STYLE, size.pixels)
    picture = study.take(lambda scene, rng: kidney.kidney(scene, rng, view))
    image = png(grey(picture.image))
    write(folder / f"images/{name}", image)
    capsule = picture.mask(picture.finding.capsule) & (number % EMPTY > 0)
    regions = np.where(capsule, np.uint8(3), np.uint8(0))
    regions[picture.mask(picture.finding.sinus) & capsule] = 1
    for sonographer in (1, 2):
        base = folder / f"labels/reviewed_masks_{sonographer}"
        write(base / f"capsule/{name}", png(capsule.astype(np.uint8)))
        write(base / f"regions/{name}", png(regions))
    return len(image)
