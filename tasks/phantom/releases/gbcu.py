"""GBCU: `imgs/imNNNNN.jpg`, `train.txt`, `test.txt`, `bbox_annot.json`, `roi_pred.json`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tasks.phantom.anatomy import gallbladder
from tasks.phantom.machine import Style
from tasks.phantom.picture import Study, jpeg
from tasks.phantom.plan import PhantomPlan, Size, shuffled, write, write_json, write_lines

KINDS = ("normal", "benign", "malignant")
TRAIN, TEST = (44, 54, 38), (9, 12, 9)
_BOX_LABELS = ("nml", "abn", "malg")
STYLE = Style(
    depth=(110, 165),
    frequency=(2.5, 4.5),
    half_angle=(28, 38),
    margin=(0.0, 0.08),
    zoom=(1.0, 1.2),
    gain=(-16, 0),
    words=("GB", "GALL BLADDER", "RUQ", "ABD"),
    clutter={"text": 0.5, "calipers": 0.2, "bar": 0.5, "ticks": 0.5},
)


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item an image; the lists and boxes are written at the end."""
    rows = []
    for part, counts in (("train", TRAIN), ("test", TEST)):
        codes = shuffled(seed, f"gbcu/{part}", [size.count(n) for n in counts])
        rows += [(part, code) for code in codes]
    items = [
        partial(_write_image, folder, size, seed, part, f"im{number:05d}.jpg", code)
        for number, (part, code) in enumerate(rows)
    ]
    return PhantomPlan(items, partial(_write_tables, folder))


def _write_image(
    folder: Path, size: Size, seed: int, part: str, name: str, code: int
) -> dict[str, Any]:
    study = Study(seed, f"gbcu/{name}", STYLE, size.pixels)
    picture = study.take(lambda scene, rng: gallbladder.gallbladder(scene, rng, KINDS[code]))
    write(folder / "imgs" / name, jpeg(picture.image))
    box = list(picture.box(picture.finding))
    dim = [picture.canvas.width, picture.canvas.height]
    return {"part": part, "name": name, "code": code, "dim": dim, "box": box}


def _write_tables(folder: Path, rows: list[dict[str, Any]]) -> None:
    for part in ("train", "test"):
        listed = [f"{row['name']},{row['code']}" for row in rows if row["part"] == part]
        write_lines(folder / f"{part}.txt", listed)
    boxes = {
        row["name"]: {"dim": row["dim"], "bbs": [[_BOX_LABELS[row["code"]], row["box"]]]}
        for row in rows
    }
    write_json(folder / "bbox_annot.json", boxes)
    # The inside of the original's file is not known to us; no reader needs it.
    write_json(folder / "roi_pred.json", {row["name"]: {"Boxes": [row["box"]]} for row in rows})
