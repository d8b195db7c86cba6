"""POCUS: lung ultrasound, images and videos of convex probes; healthy, pneumonia, COVID."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tasks import release, splits
from tasks.samples import clip_files, video
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

FOLDS = 5
CARDS = {
    "pocus": CARD,
    "pocus-clips": dataclasses.replace(
        CARD,
        name="pocus-clips",
        title="POCUS clips",
        samples="clip",
        folds=FOLDS,
        dataset="pocus",
        images=122,
        defects=(
            "Groups are videos: only some names state the patient or the examination, "
            "and only those are in one fold together. Others may share a patient too.",
            "The classes come from different sources and machines, so that a model can tell them "
            "apart without looking at the lung.",
            "UltraBench's published test list has 15 of the 78 videos that were at hand, none of "
            "them COVID, so each clip is tested once by cross-validation instead.",
        ),
        paper_counts=None,
        ultrabench_counts=None,
        differs="",
        rule=None,
        splits={
            "folds": f"ours: {FOLDS}-fold cross-validation over the convex videos that are there, "
            "stratified by class; what names tell to be one patient or examination stays together. "
            "Validation is the part after the tested one",
            **{f"fold{k}": f"fold {k} of these alone" for k in range(1, FOLDS + 1)},
        },
    ),
}

PREFIXES = ("reg", "pne", "cov")  # in any case; the position is the class code
# UltraBench's lists, which are case-sensitive: .MP4 is ignored.
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".PNG")
VIDEO_SUFFIXES = (".mpeg", ".gif", ".mp4", ".m4v", ".avi", ".mov")
FOLD_SEED = 42
RATE, LIMIT = 3, 30  # frames per second, frames per video
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


def read_clips(folder: Path, how: str = "folds") -> Task:
    """Read the whole videos of POCUS, one sample each, in folds; or one fold of them.

    Unlike UltraBench, videos with a suffix in capitals (.MP4) are taken.

    Raises:
        UserError: release not found, or so few videos that a fold lacks a class.
    """
    base = release.find(
        folder, *release.MARKS["pocus"], source="`data` of the covid19_ultrasound repository"
    )
    notes: list[str] = []
    at = "pocus_videos/convex"
    items = [
        Item(clip_files.of(path, f"{at}/{path.name}"), label, path.name)
        for path, label in _files(release.inside(base, at), None, notes)
    ]
    there = {item.group for item in items}
    listed = {source for source in SOURCES if source.endswith(VIDEO_SUFFIXES)}
    missing = sorted(listed - there) if listed & there else []
    notes += release.missing_note("documented videos", missing, len(listed), "file here")
    task = splits.cross_validated(
        CARDS["pocus-clips"],
        folder,
        splits.in_folds(items, FOLDS, FOLD_SEED, _person),
        missing=[_path(source) for source in missing],
        notes=notes,
    )
    return task if how == "folds" else task.folds[int(how.removeprefix("fold")) - 1]


def _person(item: Item) -> str:
    """What tells that videos are of one patient or examination: a part of their names."""
    name = str(item.group).lower()
    if name.startswith("pneu_avi_video_002"):  # shows Pneu_northumbria_1009_vid1 (`ubench audit`)
        return "northumbria_1009"
    found = re.search(r"pat\d+|northumbria_\d+(_set\d+)?|case\d+", name)
    return found[0] if found else name


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


def _files(
    directory: Path, suffixes: tuple[str, ...] | None, notes: list[str]
) -> list[tuple[Path, int]]:
    """Files of the three classes with their codes, by name; those ignored go to `notes`.

    Args:
        directory: of the files.
        suffixes: of those that are taken; None: those of videos, in any case.
        notes: see above.
    """
    why = "as in UltraBench, " if suffixes else ""
    where = f"{directory.parent.name}/{directory.name}"
    taken, viral, other = [], [], []
    for path in release.without_masks(sorted(directory.iterdir())):
        prefix = path.name[:3].lower()
        name = path.name if suffixes else path.name.lower()
        if prefix in PREFIXES and name.endswith(suffixes or VIDEO_SUFFIXES):
            taken.append((path, PREFIXES.index(prefix)))
        elif prefix == "vir":
            viral.append(path.name)
        elif not path.name.startswith("."):
            other.append(path.name)
    notes += release.unused_note(f"files of {where} show viral pneumonia, no class here", viral)
    notes += release.unused_note(
        f"files of {where} are ignored, {why}for their prefix or suffix", other
    )
    return taken


def _frames(path: Path) -> list[video.VideoFrame]:
    positions = video.sample(path, RATE, LIMIT)
    name = f"pocus_videos/convex/{path.name}"
    return [video.VideoFrame(path, f"{name}#{index}", index, positions) for index in positions]
