"""POCUS: lung ultrasound, images and video frames of convex probes; healthy, pneumonia, COVID."""

from __future__ import annotations

from pathlib import Path

from tasks import release, splits, video
from tasks.images import ImageFile
from tasks.task import Item, Task, TaskCard

CARD = TaskCard(
    name="pocus",
    title="POCUS",
    organ="lung",
    target="pneumonia, COVID-19",
    classes=("regular", "pneumonia", "covid"),
    paper="Born et al., Applied Sciences 2021, doi 10.3390/app11020672",
    source="https://github.com/jannisborn/covid19_ultrasound "
    "(data/pocus_images/convex, data/pocus_videos/convex)",
    licence="per file: column License of dataset_metadata.csv",
    groups="video",
    defects=(
        "Groups are files, not patients: one patient can stand on both sides of a split.",
        "Adding or removing one file reshuffles the splits.",
        "Three POCUS sets exist: the repository's files (148 sources), UltraBench's published list "
        "(188, with web data of no licence) and the paper's 2064 images; this is the first, by "
        "published counts 2099 images, 1468/177/454. Why the paper has fewer is not known.",
    ),
    paper_counts=(1444, 177, 443),
)

PREFIXES = ("reg", "pne", "cov")  # in any case; the position is the class code
# UltraBench's lists, which are case-sensitive: .MP4 is passed over.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG")
VIDEO_SUFFIXES = (".mpeg", ".gif", ".mp4", ".m4v", ".avi", ".mov")
RATE, LIMIT = 3, 30  # frames a second, frames a video
SOURCES = 148  # files of the repository on which UltraBench's documented counts rest


def read(folder: Path) -> Task:
    """Read POCUS: splits are drawn by source file, 0.2 then 0.1, seed 42.

    Raises:
        UserError: release not found, or a video is damaged.
    """
    base = release.find(
        folder,
        "pocus_images/convex",
        "pocus_videos/convex",
        source="`data` of the covid19_ultrasound repository",
    )
    items: list[Item] = []
    notes: list[str] = []
    for path, label in _files(base / "pocus_images/convex", IMAGE_SUFFIXES, notes):
        image = ImageFile(path, f"pocus_images/convex/{path.name}")
        items.append(Item(image, label, path.name))
    for path, label in _files(base / "pocus_videos/convex", VIDEO_SUFFIXES, notes):
        items += [Item(frame, label, path.name) for frame in _frames(path)]

    pool, test = splits.hold_out(items, 0.2, seed=42, by="group", folder=folder)
    train, validation = splits.hold_out(pool, 0.1, seed=42, by="group", folder=folder)
    return splits.assemble(
        CARD,
        folder,
        train=train,
        validation=validation,
        test=test,
        notes=(*notes, *_difference(items)),
    )


def _files(directory: Path, suffixes: tuple[str, ...], notes: list[str]) -> list[tuple[Path, int]]:
    """Files of the three classes with their codes, by name; those passed over go to `notes`."""
    where = f"{directory.parent.name}/{directory.name}"
    taken, viral, other = [], [], []
    for path in sorted(directory.iterdir()):
        prefix = path.name[:3].lower()
        if prefix in PREFIXES and path.name.endswith(suffixes):
            taken.append((path, PREFIXES.index(prefix)))
        elif prefix == "vir":
            viral.append(path.name)
        elif not path.name.startswith("."):
            other.append(path.name)
    notes += release.unused_note(f"files of {where} show viral pneumonia, no class here", viral)
    notes += release.unused_note(
        f"files of {where} are passed over, as UltraBench does, for their prefix or suffix", other
    )
    return taken


def _frames(path: Path) -> list[video.VideoFrame]:
    positions = video.sample(path, RATE, LIMIT)
    name = f"pocus_videos/convex/{path.name}"
    return [video.VideoFrame(path, f"{name}#{index}", index, positions) for index in positions]


def _difference(items: list[Item]) -> tuple[str, ...]:
    """A note if this copy is not the one that UltraBench documents."""
    sources = len({item.group for item in items})
    if sources == SOURCES:
        return ()
    return (
        f"{sources} source files here, {SOURCES} behind UltraBench's documented counts: the draw "
        "depends on which files there are, so its members differ",
    )
