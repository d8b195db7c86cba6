"""POCUS: `data/pocus_images/convex` and `data/pocus_videos/convex`, with the original's traps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tasks.phantom import clip
from tasks.phantom.anatomy import lung
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Motion, Study, jpeg, png
from tasks.phantom.plan import PhantomPlan, Size, write, write_lines

KINDS = {"Reg": "regular", "Pneu": "pneumonia", "Cov": "covid"}
# Of each class. A reader draws its splits over file names, so these numbers also decide which
# classes the small suite's few validation files show; the tests hold it to all three.
VIDEOS, IMAGES = 16, 6
FRAMES = 10
_VIDEO_SUFFIXES = (".mp4", ".avi", ".mpeg", ".gif", ".mov")
_IMAGE_SUFFIXES = (".jpg", ".png", ".JPG")
STYLE = Style(
    depth=(70, 150),
    frequency=(2.5, 5),
    radius=(35, 60),
    half_angle=(26, 38),
    height=(200, 280),
    margin=(0.0, 0.06),
    zoom=(1.0, 1.35),
    gain=(-13, 2),
    tints=((1, 1, 1), (1, 1, 1), (0.94, 0.96, 1), (1, 0.95, 0.98)),
    words=("LUNG", "R1", "L3", "PLAPS"),
    clutter={"text": 0.2, "calipers": 0.03, "bar": 0.2, "ticks": 0.4},
)

LINEAR = replace(STYLE, half_width=(19, 25), depth=(50, 70))


@dataclass(frozen=True)
class PocusFile:
    """One file: its path below `data/`, what it shows, and whether a reader takes it."""

    path: str
    kind: str
    is_taken: bool = True

    @property
    def suffix(self) -> str:
        """With its dot, in its own case."""
        return Path(self.path).suffix


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item a file."""
    listed = sources(size)
    items = [partial(_write_source, folder / "data", size, seed, source) for source in listed]
    return PhantomPlan(items, lambda _: _write_metadata(folder / "data", listed))


def sources(size: Size) -> list[PocusFile]:
    """All files. Names don't depend on the seed: a reader's split is drawn over names."""
    listed = []
    for prefix, kind in KINDS.items():
        for number in range(1, size.count(VIDEOS) + 1):
            suffix = _VIDEO_SUFFIXES[number % len(_VIDEO_SUFFIXES)]
            path = f"pocus_videos/convex/{prefix}_phantom_{number:03d}_vid{suffix}"
            listed.append(PocusFile(path, kind))
        for number in range(1, size.count(IMAGES) + 1):
            suffix = _IMAGE_SUFFIXES[number % len(_IMAGE_SUFFIXES)]
            path = f"pocus_images/convex/{prefix}_phantom_{number:03d}_img{suffix}"
            listed.append(PocusFile(path, kind))
    # As in the original: a lower-case prefix and odd characters count; viral pneumonia, videos
    # with an upper-case suffix and linear probes do not.
    listed += [
        PocusFile("pocus_videos/convex/pneu-phantom (crop).mp4", "pneumonia"),
        PocusFile("pocus_videos/convex/Cov-Phantom+(43).gif", "covid"),
        PocusFile("pocus_videos/convex/Vir_phantom_whitelung.mp4", "covid", is_taken=False),
        PocusFile("pocus_videos/convex/Reg_phantom_lung-sliding.MP4", "regular", is_taken=False),
        PocusFile("pocus_images/linear/Reg_phantom_linear.jpg", "regular", is_taken=False),
    ]
    return listed


def _write_source(base: Path, size: Size, seed: int, source: PocusFile) -> None:
    style = LINEAR if "linear" in source.path else STYLE
    study = Study(seed, f"pocus/{source.path}", style, size.pixels)
    if "images" in source.path:
        image = _frame(study, source.kind, 0, 0.0)
        write(base / source.path, png(image) if source.suffix == ".png" else jpeg(image))
        return
    rng = generator(seed, f"pocus/{source.path}/breath")
    start, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 0.5)
    rate = int(rng.choice([6, 9, 10, 12]))
    frames = [
        _frame(study, source.kind, number, start + speed * number) for number in range(FRAMES)
    ]
    if source.suffix == ".mpeg":  # slow scanner, fast video: every frame is shown three times
        rate, frames = clip.TELEVISION, [frame for frame in frames for _ in range(3)]
    write(base / source.path, clip.encode(frames, source.suffix, rate))


def _frame(study: Study, kind: str, number: int, phase: float) -> np.ndarray:
    picture = study.take(
        lambda scene, rng: lung.lung(scene, rng, kind, phase), Motion(number, keep=0.9)
    )
    return picture.image


def _write_metadata(base: Path, listed: list[PocusFile]) -> None:
    lines = ["Current location,Filename,Label,License,Type,Probe"]
    for source in listed:
        location, probe, name = source.path.split("/")
        kind = "image" if "images" in location else "video"
        lines.append(f"{location},{Path(name).stem},{source.kind},simulated,{kind},{probe}")
    write_lines(base / "dataset_metadata.csv", lines)
