"""POCUS: lung ultrasound, images and video frames of convex probes; healthy, pneumonia, COVID."""

from __future__ import annotations

from pathlib import Path

from tasks import release, splits
from tasks.samples import video
from tasks.scan.scan_mask import ClipMask
from tasks.task import SPLITS, Item, Rule, Task, TaskCard

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
    licence_kind="non-commercial",  # most files
    groups="video",
    defects=(
        "Groups are files, not patients: one patient can be on both sides of a split, and by "
        "`ubench audit` some files show the same clip (Pneu_Avi_Video_002 and "
        "Pneu_northumbria_1009_vid1).",
        "UltraBench draws over the files that are there, so one more or less reshuffles its splits "
        "(not the default ones here).",
        "Three POCUS sets exist: the repository's files (148 sources), UltraBench's published list "
        "(188, with web data of no licence) and the paper's 2064 images; this is the first, by "
        "published counts 2099 images, 1468/177/454. Why the paper has fewer is not known.",
    ),
    images=2099,
    paper_counts=(1444, 177, 443),
    ultrabench_counts=(1468, 177, 457),
    differs="UltraBench's rule over the repository's 148 files gives 1468/177/454 by its published "
    "frame counts (its code states 1468/177/457; its published lists, 2128 + 605, hold 40 more "
    "files from the web); the paper's validation agrees, its train and test have 24 and 11 images "
    "fewer, for a reason that is not known",
    rule=Rule("group", seed=42, validation=0.1, test=0.2),
    splits={
        "published": "UltraBench's rule drawn over the 148 files that it was documented with, so "
        "that a file that is absent or added moves no other one",
        "rule": "UltraBench's rule over the files that are there",
    },
)

PREFIXES = ("reg", "pne", "cov")  # in any case; the position is the class code
# UltraBench's lists, which are case-sensitive: .MP4 is ignored.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG")
VIDEO_SUFFIXES = (".mpeg", ".gif", ".mp4", ".m4v", ".avi", ".mov")
RATE, LIMIT = 3, 30  # frames a second, frames a video
# Names of the 148 files of the repository that UltraBench's published lists name. Drawn
# over them, its rule gives the documented 1468/177/454 images.
SOURCES = frozenset((Path(__file__).parent / "pocus_sources.txt").read_text().splitlines())


def read(folder: Path, how: str = "published") -> Task:
    """Read POCUS by one of `CARD.splits`: whole source files, 0.2 then 0.1, seed 42.

    Raises:
        UserError: release not found, or a video is damaged.
    """
    base = release.find(
        folder,
        *release.MARKS["pocus"],
        source="`data` of the covid19_ultrasound repository",
    )
    items: list[Item] = []
    notes: list[str] = []
    for path, label in _files(release.inside(base, "pocus_images/convex"), IMAGE_SUFFIXES, notes):
        image = release.image(path, f"pocus_images/convex/{path.name}")
        items.append(Item(image, label, path.name))
    for path, label in _files(release.inside(base, "pocus_videos/convex"), VIDEO_SUFFIXES, notes):
        frames = _frames(path)
        mask = ClipMask(tuple(frames), f"pocus_videos/convex/{path.name}")
        items += [Item(frame, label, path.name, mask) for frame in frames]

    there = {item.group for item in items if item.group is not None}
    drawn, note = _drawn_over(there, how)
    side = splits.sides(drawn, CARD.rule, folder)
    parts = {name: [item for item in items if side.get(item.group) == name] for name in SPLITS}
    return splits.assemble(
        CARD,
        folder,
        **parts,
        unused=[item for item in items if item.group not in side],
        missing=[_path(source) for source in sorted(drawn - there)],
        notes=(*notes, *note),
    )


def _path(source: str) -> str:
    kind = "videos" if source.endswith(VIDEO_SUFFIXES) else "images"
    return f"pocus_{kind}/convex/{source}"


def _drawn_over(there: set[str], how: str) -> tuple[set[str], tuple[str, ...]]:
    """The source files to draw over, and what to tell of them."""
    if how == "rule" or there == SOURCES:
        return there, ()
    if not there & SOURCES:
        return there, (
            f"{len(there)} source files here, none of them among the {len(SOURCES)} behind "
            "UltraBench's documented counts: the draw is over those that are here",
        )
    return set(SOURCES), (
        *release.unused_note("source files are not documented: not used", there - SOURCES),
        *release.missing_note("documented source files", sorted(SOURCES - there), len(SOURCES)),
    )


def _files(directory: Path, suffixes: tuple[str, ...], notes: list[str]) -> list[tuple[Path, int]]:
    """Files of the three classes with their codes, by name; those ignored go to `notes`."""
    where = f"{directory.parent.name}/{directory.name}"
    taken, viral, other = [], [], []
    for path in release.without_masks(sorted(directory.iterdir())):
        prefix = path.name[:3].lower()
        if prefix in PREFIXES and path.name.endswith(suffixes):
            taken.append((path, PREFIXES.index(prefix)))
        elif prefix == "vir":
            viral.append(path.name)
        elif not path.name.startswith("."):
            other.append(path.name)
    notes += release.unused_note(f"files of {where} show viral pneumonia, no class here", viral)
    notes += release.unused_note(
        f"files of {where} are ignored, as in UltraBench, for their prefix or suffix", other
    )
    return taken


def _frames(path: Path) -> list[video.VideoFrame]:
    positions = video.sample(path, RATE, LIMIT)
    name = f"pocus_videos/convex/{path.name}"
    return [video.VideoFrame(path, f"{name}#{index}", index, positions) for index in positions]
