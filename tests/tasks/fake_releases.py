"""Tiny fake releases of the eight tasks, in the layouts that the original archives unpack to."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import PIL.Image
import scipy.io

from tasks import butterfly, fatty_liver

_pixels = np.random.default_rng(0)


def picture(path: Path) -> None:
    """Write a small random image; every call another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(_pixels.integers(0, 256, (8, 9), np.uint8)).save(path)


def clip(path: Path, frames: int, fps: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="avi") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(fps))
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            pixels = _pixels.integers(0, 256, (32, 32, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# Each writes below `base` what the original archive unpacks to.


def aul_release(base: Path) -> None:
    rows = []
    for code, (folder, count) in enumerate([("Normal", 20), ("Benign", 30), ("Malignant", 40)]):
        for n in range(1, count + 1):
            picture(base / folder / "image" / f"{n}.jpg")
            rows.append({"image": f"images/{folder.lower()}_{n}.jpg", "label": code})
    write(base / "Malignant/segmentation/mass/1.json", "[]")
    # Beside the release, wherever that is nested: ROOT/ultrabench_splits.
    root = next(parent for parent in base.parents if parent.name == "root")
    for part, chosen in (
        ("test", rows[::5]),
        ("train_val", [r for r in rows if r not in rows[::5]]),
    ):
        write(root / f"ultrabench_splits/aul_mass/{part}.json", json.dumps(chosen))


def mmotu_release(base: Path) -> None:
    for part, numbers in (("train", range(1, 81)), ("val", range(81, 121))):
        for n in numbers:
            picture(base / "OTU_2d/images" / f"{n}.JPG".replace("JPG", "jpg"))
            (base / f"OTU_2d/images/{n}.jpg").rename(base / f"OTU_2d/images/{n}.JPG")
        rows = [f"{n}.JPG  {n % 8}\n" for n in numbers]
        write(base / f"OTU_2d/{part}_cls.txt", "".join(rows))


def busbra_release(base: Path) -> None:
    rows = ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    for case in range(1, 61):
        for view in "lr" if case % 3 else "s":
            name = f"bus_{case:04d}-{view}"
            pathology = "malignant" if case % 2 else "benign"
            rows.append(f'{name},{case},x,{pathology},4,"GE, old",9,8,left,"[1,2,3,4]"')
            picture(base / "BUSBRA/Images" / f"{name}.png")
    write(base / "BUSBRA/bus_data.csv", "\n".join(rows) + "\n")


def butterfly_release(base: Path) -> None:
    for patient in range(1, 32):
        part = "test" if patient > 25 else f"training{1 + patient % 2}"
        for class_name in butterfly.CARD.classes:
            picture(base / f"butterfly_dataset_{part}/{patient}/{class_name}/001.png")


def fatty_liver_release(base: Path) -> None:
    data = np.zeros((1, 55), dtype=[(n, object) for n in ("id", "class", "fat", "images")])
    for i in range(55):
        frames = _pixels.integers(0, 256, (10, 4, 6), np.uint8)
        data[0, i] = (i + 1, int(i % 3 > 0), 5 * (i % 3 > 0), frames)
    base.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(base / fatty_liver.FILE, {"data": data})


def gbcu_release(base: Path) -> None:
    for part, numbers in (("train", range(90)), ("test", range(90, 120))):
        for n in numbers:
            picture(base / f"GBCU-Shared/imgs/im{n:05d}.jpg")
        rows = [f"im{n:05d}.jpg,{n % 3}\n" for n in numbers]
        write(base / f"GBCU-Shared/{part}.txt", "".join(rows))
    write(base / "GBCU-Shared/bbox_annot.json", "{}")


def pocus_release(base: Path) -> None:
    for i in range(10):
        for prefix in ("Reg_", "pneu-", "COV+", "Vir_"):
            picture(base / f"data/pocus_images/convex/{prefix}a {i}.png")
            clip(base / f"data/pocus_videos/convex/{prefix}({i}).avi", 10 + i, 9)
    convex = base / "data/pocus_videos/convex"
    (convex / "Reg_(0).avi").rename(convex / "Reg_up.MP4")
    images = base / "data/pocus_images/convex"
    (images / "Reg_a 0.png").rename(images / "Reg_a 0.PNG")
    picture(base / "data/pocus_images/linear/Cov_x.png")


def tn5000_release(base: Path) -> None:
    base = base / "TN5000_forReview/TN5000_forReview"
    for part, numbers in (("train", range(30)), ("val", range(30, 40)), ("test", range(40, 60))):
        for n in numbers:
            picture(base / f"JPEGImages/{n:06d}.jpg")
            annotation = ElementTree.Element("annotation")
            ElementTree.SubElement(ElementTree.SubElement(annotation, "object"), "name").text = str(
                n % 2
            )
            write(
                base / f"Annotations/{n:06d}.xml",
                ElementTree.tostring(annotation, encoding="unicode"),
            )
        write(base / f"ImageSets/Main/{part}.txt", "".join(f"{n:06d}\n" for n in numbers))


RELEASES: dict[str, Callable[[Path], None]] = {
    "aul": aul_release,
    "busbra": busbra_release,
    "butterfly": butterfly_release,
    "fatty_liver": fatty_liver_release,
    "gbcu": gbcu_release,
    "mmotu": mmotu_release,
    "pocus": pocus_release,
    "tn5000": tn5000_release,
}
