"""HC18: `training_set/` with images and outlines, and the table of sizes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw

from tasks.phantom.anatomy import fetus
from tasks.phantom.machine import Style
from tasks.phantom.picture import Study, grey, png
from tasks.phantom.plan import PhantomPlan, Size, write, write_lines
from tasks.samples.ellipses import Ellipse

FETUSES = 50
AGAIN = 5  # every fifth fetus has a second image
_STYLE = Style(
    depth=(70, 170),
    frequency=(3, 6),
    half_angle=(32, 40),
    height=(220, 300),
    gain=(-12, 0),
    words=("HC", "BPD", "OFD"),
    clutter={"text": 0.2, "ticks": 0.3},
)
_COLUMNS = "filename,pixel size(mm),head circumference (mm)"


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item an image with its outline."""
    items = [
        partial(_write_image, folder / "training_set", size, seed, f"{fetus:03}_{again}HC")
        for fetus in range(size.count(FETUSES))
        for again in (("", "2") if fetus % AGAIN == 0 else ("",))
    ]

    def finish(rows: list[str]) -> None:
        write_lines(folder / "training_set_pixel_size_and_HC.csv", [_COLUMNS, *rows])

    return PhantomPlan(items, finish)


def _write_image(base: Path, size: Size, seed: int, name: str) -> str:
    """Write one; its line of the table comes back."""
    study = Study(seed, f"hc18/{name}", _STYLE, size.pixels, patient=f"hc18/{name[:3]}")
    picture = study.take(fetus.head)
    write(base / f"{name}.png", png(grey(picture.image)))
    outline = PIL.Image.new("L", (picture.canvas.width, picture.canvas.height))
    points = picture.pixels(picture.finding.polygon(720))
    closed = [(float(x), float(y)) for x, y in [*points, points[0]]]
    PIL.ImageDraw.Draw(outline).line(closed, fill=255, width=2)
    write(base / f"{name}_Annotation.png", png(np.asarray(outline)))
    head = picture.finding
    circumference = Ellipse(head.x, head.z, head.width, head.height, 0).perimeter
    return f"{name}.png,{picture.canvas.pixel!r},{circumference:.2f}"
