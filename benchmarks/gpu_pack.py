"""What `benchmarks/gpu.sh` takes to a machine with a GPU: images, and packages it may lack.

    python benchmarks/gpu_pack.py IMAGES

IMAGES is a folder of classes. As many of each class as fit into 14 MiB, in the order of their
names, are copied to .gpu/images and listed in .gpu/images.csv; wheels of pydantic for Python 3.11
to 3.13 go to .gpu/wheels.
"""

from __future__ import annotations

import csv
import importlib.metadata
import shutil
import subprocess
import sys
from itertools import chain, zip_longest
from pathlib import Path

HERE = Path(__file__).resolve().parents[1] / ".gpu"
AT_MOST = 14 << 20
PACKAGES = ("pydantic", "pydantic-core", "annotated-types", "typing-inspection")
PYTHONS = ("3.11", "3.12", "3.13")
SUFFIXES = {".png", ".jpg", ".jpeg"}
SPLITS = ("train", "train", "train", "validation", "test")  # in turn, class by class


def images(source: Path) -> int:
    """Copy images of all classes in turn, and say how many."""
    target = HERE / "images"
    shutil.rmtree(target, ignore_errors=True)
    classes = [
        sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        for folder in sorted(source.iterdir())
        if folder.is_dir()
    ]
    size = 0
    rows = []
    for turn, path in enumerate(chain.from_iterable(zip_longest(*classes))):
        if path is None:
            continue
        size += path.stat().st_size
        if size > AT_MOST:
            break
        label = path.relative_to(source).parts[0]
        copy = target / label / path.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        split = SPLITS[turn // len(classes) % len(SPLITS)]
        rows.append((copy.relative_to(HERE).as_posix(), label, split))
    if not rows:
        sys.exit(f"{source} has no folders with .png or .jpg images; name a folder of classes")
    with (HERE / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "split"), *rows])
    return len(rows)


def wheels() -> None:
    """Download what may be missing there, in the versions that are installed here."""
    target = HERE / "wheels"
    shutil.rmtree(target, ignore_errors=True)
    for package in PACKAGES:
        version = importlib.metadata.version(package)
        for python in PYTHONS:
            subprocess.run(
                [
                    *(sys.executable, "-m", "pip", "download", "-q", "--no-deps"),
                    *("--only-binary=:all:", "--implementation=cp", f"--python-version={python}"),
                    *("--platform=manylinux2014_x86_64", "--platform=manylinux_2_17_x86_64"),
                    *("-d", str(target), f"{package}=={version}"),
                ],
                check=True,
            )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(f"{images(Path(sys.argv[1]))} images in {HERE / 'images'}")
    wheels()
    print(f"wheels in {HERE / 'wheels'}")
