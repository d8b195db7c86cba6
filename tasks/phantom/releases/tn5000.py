"""TN5000: PASCAL VOC folders in `TN5000_forReview`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from tasks.phantom.anatomy import breast
from tasks.phantom.machine import Style
from tasks.phantom.picture import Study, jpeg
from tasks.phantom.plan import PhantomPlan, Size, shuffled, write, write_lines

PARTS = {"train": (60, 110), "val": (9, 16), "test": (20, 40)}  # benign, malignant
STYLE = Style(
    depth=(30, 45),
    frequency=(8, 13),
    half_width=(18, 24),
    height=(230, 300),
    margin=(0.0, 0.1),
    gain=(-15, 0),
    words=("DER", "IZQ", "THYROID", "LEFT LOBE"),
    clutter={"text": 0.4, "calipers": 0.35, "bar": 0.4, "ticks": 0.5},
)


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item an image with its annotation."""
    base = folder / "TN5000_forReview"
    codes = {
        part: shuffled(seed, f"tn5000/{part}", [size.count(n) for n in counts])
        for part, counts in PARTS.items()
    }
    labelled = [(part, code) for part, listed in codes.items() for code in listed]
    names: dict[str, list[str]] = {part: [] for part in PARTS}
    items = []
    for number, (part, code) in enumerate(labelled, 1):
        name = f"{number:06d}"
        names[part].append(name)
        items.append(partial(_write_image, base, size, seed, name, code))
    names["trainval"] = names["train"] + names["val"]

    def finish(_: list[None]) -> None:
        for part, listed in names.items():
            write_lines(base / f"ImageSets/Main/{part}.txt", listed)

    return PhantomPlan(items, finish)


def _write_image(base: Path, size: Size, seed: int, name: str, code: int) -> None:
    study = Study(seed, f"tn5000/{name}", STYLE, size.pixels)
    picture = study.take(lambda scene, rng: breast.thyroid(scene, rng, malignant=code == 1))
    write(base / f"JPEGImages/{name}.jpg", jpeg(picture.image))
    left, top, right, bottom = picture.box(picture.finding)
    annotation = f"""<annotation>
\t<folder>JPEGImages</folder>
\t<filename>{name}.jpg</filename>
\t<size>
\t\t<width>{picture.canvas.width}</width>
\t\t<height>{picture.canvas.height}</height>
\t\t<depth>3</depth>
\t</size>
\t<segmented>0</segmented>
\t<object>
\t\t<name>{code}</name>
\t\t<pose>Unspecified</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>0</difficult>
\t\t<bndbox>
\t\t\t<xmin>{left}</xmin>
\t\t\t<ymin>{top}</ymin>
\t\t\t<xmax>{right}</xmax>
\t\t\t<ymax>{bottom}</ymax>
\t\t</bndbox>
\t</object>
</annotation>
"""
    write(base / f"Annotations/{name}.xml", annotation)
