"""Where frames and clips come from: data sets as folders, and the images and videos in them.

A folder that is named as a task, in whatever letters, or that holds its release is read as that
task and gives only its training images: the others are what encoders are tested on.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

import tasks
from tasks import recognise
from tasks.recognise import Release
from tasks.samples import clip_files, clips, dicom, image_kinds, video, volumes
from tasks.samples.clips import Clip
from tasks.samples.images import Image, ImageFile, count
from tasks.samples.volumes import VolumeFrame
from tasks.scan import scan_mask
from tasks.task import Item, ScanMask, Split, Task
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError, not_found
from ultrabench_eval.core.names import printable

Clips = Literal["files", "folders"]
"""Where clips are looked for: "folders", also in folders of images, which are its frames."""
STILL, NEITHER = "a still", "neither image nor video"

_SPLIT = "save the frames that you mean as files of their own, or all as a video"


class Listed(NamedTuple):
    """A frame to be read."""

    image: Image
    group: str
    """Its video or patient; else its own name."""
    mask: ScanMask | None
    """The region, where it is not estimated from the image alone."""


class ListedClip(NamedTuple):
    """A video to be read."""

    clip: Clip
    group: str
    """Its patient; else its own name."""
    mask: ScanMask
    """The region, the same for all its frames."""


class LeftOut(NamedTuple):
    """A file or frame that does not come into the index."""

    name: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class FrameSource:
    """One data set.

    Args:
        name: of the set in the index.
        folder: where it is.
        task: the task that it was read as, if any.
        deep: False: only the files directly in the folder.
        without: real paths of folders that are not entered, should links lead there.
    """

    name: str
    folder: Path
    task: Task | None = None
    deep: bool = True
    without: frozenset[str] = frozenset()

    def splits(self, names: Sequence[str]) -> dict[str, Split]:
        """The splits of its task that give frames; none if it is not a task."""
        return {} if self.task is None else {name: self.task.splits[name] for name in names}

    def about(
        self, splits: Sequence[str], rate: float, limit: int, clips: Clips | None = None
    ) -> dict[str, Any]:
        """What tells its content, as plain data: equal for equal frames or clips to be read.

        Also "files", how many there are to go through. Of a folder, names, sizes and times of its
        files are looked at; of a task, the content.
        """
        if self.task is not None:
            chosen = self.splits(splits)
            content = {
                name: [split.fingerprint, split.mask_fingerprint] for name, split in chosen.items()
            }
            return {
                "task": self.task.name,
                "splits": list(splits),
                "files": sum(len(split) for split in chosen.values()),
                "content": hashing.digest(content),
            }
        listing, count = hashlib.sha256(), 0
        for path, name in _files(self.folder, self.deep, self.without):
            stat = path.stat()
            line = f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n"
            listing.update(line.encode("utf-8", "surrogateescape"))
            count += 1
        how = {"rate": rate, "limit": limit} if clips is None else {"clips": clips}
        return {**how, "files": count, "content": listing.hexdigest()}

    def frames(
        self, splits: Sequence[str], rate: float, limit: int
    ) -> Iterator[tuple[int, Listed | LeftOut]]:
        """Its frames in a fixed order, each with how many files were begun before it.

        Args:
            splits: of a task, those that give frames.
            rate: frames a second of a video.
            limit: frames of a video at most.
        """
        if self.task is not None:
            for number, item in enumerate(self._items(splits)):
                group, image = item.group or item.image.name, item.image
                if not clips.is_clip(image):
                    yield number, Listed(image, group, item.scan_mask)
                    continue
                for one in _frames_of(image, rate, limit):
                    yield number, Listed(one, group, item.scan_mask)
            return
        for number, (path, name) in enumerate(_files(self.folder, self.deep, self.without)):
            for frame in _frames(path, name, rate, limit):
                yield number, frame

    def cines(
        self, splits: Sequence[str], kind: Clips
    ) -> Iterator[tuple[int, ListedClip | LeftOut]]:
        """Its clips in a fixed order, each with how many files were begun before it.

        Of a task, each video once, whole, however many of its frames the task takes.

        Args:
            splits: of a task, those that give clips.
            kind: whether a folder of images is a clip.
        """
        seen: set[Path] = set()
        if self.task is not None:
            for number, item in enumerate(self._items(splits)):
                cine = _cine_of(item)
                place = getattr(cine, "path", None)
                if place is None or place not in seen:
                    yield number, cine if isinstance(cine, LeftOut) else _listed(cine, item)
                if place is not None:
                    seen.add(place)
            return
        for number, (path, name) in enumerate(_files(self.folder, self.deep, self.without)):
            found = _cine(path, name, kind)
            if isinstance(found, LeftOut):
                yield number, found
            elif (place := Path(getattr(found, "path", path))) not in seen:
                seen.add(place)
                yield number, ListedClip(found, found.name, scan_mask.CineMask(found))

    def _items(self, splits: Sequence[str]) -> list[Item]:
        return [item for split in self.splits(splits).values() for item in split.items]


def sources_of(root: Path | str, cines: bool = False) -> list[FrameSource]:
    """The data sets in a folder: each folder in it, and the files directly in it, named after it.

    A folder (or `root` itself) that is named as a task, in whatever letters, or that holds a task's
    release is that task; one without images is ignored.

    Args:
        root: the folder.
        cines: whether clips are looked for, which are in some files that hold no frames else.

    Raises:
        UserError: no such folder, nothing in it, a folder that seems to be a task and cannot be
            read as it, or a release among other frames.
    """
    root = Path(root)
    if not root.is_dir():
        raise not_found("folder of frames", root, "give one with images or videos in it")
    if part := recognise.around(root, tasks.names()):
        raise UserError(
            f"{root} is a part of the release of task '{part.task}' in {part.place}, of which only "
            f"the training images may be taken; give {part.place} instead"
        )
    releases = _distinct(root, recognise.releases(root, tasks.names()))
    if any(release.place == root for release in releases):
        if len(releases) > 1 or _strangers(root, releases[0]):
            raise _mixed(root, releases)
        return [_as_task(root.resolve(), releases[0])]
    taken = frozenset(os.path.realpath(release.place) for release in releases)
    found = []
    for folder in sorted(root.iterdir()):
        if folder.is_dir() and not _hidden(folder.name) and not recognise.is_prepared(folder):
            inside = [release for release in releases if release.place.is_relative_to(folder)]
            found.append(_source(folder, inside, taken))
    name = printable(root.resolve().name)
    if any(source.name == name for source in found):
        name = f"{name} (files)"
    found.append(FrameSource(name, root, deep=False))
    found = [source for source in found if source.task is not None or _has_any(source, cines)]
    if not found:
        raise UserError(f"no images, videos or DICOM files in {root}; give another folder")
    return found


def _distinct(root: Path, releases: Sequence[Release]) -> list[Release]:
    """The releases, each once, should links lead to it by several ways.

    Raises:
        UserError: two folders may both be one task; which of them is, only the user knows.
    """
    # A folder of lists that is called as a task, deeper down, gives no frames.
    releases = [r for r in releases if r.held or r.place.parent == root or _gives(r.place)]
    chosen: dict[str, Release] = {}
    for release in sorted(releases, key=lambda one: (len(one.place.parts), one.place)):
        first = chosen.setdefault(release.task, release)
        if os.path.realpath(first.place) != os.path.realpath(release.place):
            raise UserError(
                f"{first.place} and {release.place} may both be task '{release.task}', of which "
                "only the training images may be taken; keep one of them among the frames"
            )
    return list(chosen.values())


def _strangers(root: Path, release: Release) -> bool:
    """Whether beside the subsets of BUTTERFLY in `root` there are folders with other frames."""
    return (
        release.task == "butterfly"
        and not release.named
        and any(
            folder.is_dir() and not recognise.is_subset(folder.name) and _gives(folder)
            for folder in root.iterdir()
            if not _hidden(folder.name)
        )
        and "butterfly" not in root.resolve().name.lower()
    )


def _source(folder: Path, inside: Sequence[Release], taken: frozenset[str]) -> FrameSource:
    """A folder as the task whose release it is, or as a data set of its own.

    Args:
        folder: beside others.
        inside: the releases in it.
        taken: where all releases are, for links that lead there.

    Raises:
        UserError: it holds releases and other frames.
    """
    if not inside:
        return FrameSource(printable(folder.name), folder, without=taken)
    only = inside[0].place
    if len(inside) == 1 and (only == folder or not _gives(folder, but=only)):
        return _as_task(folder, inside[0])
    raise _mixed(folder, inside)


def _mixed(folder: Path, releases: Sequence[Release]) -> UserError:
    there = ", ".join(f"'{release.task}' in {release.place}" for release in releases)
    return UserError(
        f"{folder} holds tasks, of which only the training images may be taken, together with "
        f"other frames: {there}; move each into a folder of its own beside the other data sets"
    )


def _as_task(folder: Path, release: Release) -> FrameSource:
    name = release.task
    try:
        return FrameSource(name, folder, tasks.read_release(name, folder.absolute()))
    except UserError as error:
        if release.named:
            why, remedy = f"has the name of task '{name}'", "rename the folder"
        else:
            why, remedy = f"holds what the release of task '{name}' holds", "rename those files"
        raise UserError(
            f"{release.place} {why}, of which only the training images may be taken, but cannot be "
            f"read as it: {error}; fix it, or {remedy} if it is something else"
        ) from error


def _has_any(source: FrameSource, cines: bool) -> bool:
    files = _files(source.folder, source.deep, source.without)
    return any(
        _why_not(path, name) is None or (cines and volumes.suffix(path) in volumes.SUFFIXES)
        for path, name in files
    )


def _gives(folder: Path, but: Path | None = None) -> bool:
    """Whether a folder has frames, not counting those in its sub-folder `but`."""
    return any(
        _why_not(path, name) is None
        for path, name in _files(folder, deep=True)
        if but is None or not path.is_relative_to(but)
    )


def _files(
    folder: Path, deep: bool, without: frozenset[str] = frozenset()
) -> Iterator[tuple[Path, str]]:
    """Files of a folder with their names in it, in a fixed order; links are followed once."""
    seen = set()
    for place, folders, names in os.walk(folder, onerror=recognise.unlisted, followlinks=True):
        real = os.path.realpath(place)
        if real in seen or real in without:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        if not deep:
            folders.clear()
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file():  # no broken link
                yield path, path.relative_to(folder).as_posix()


def _frames(path: Path, name: str, rate: float, limit: int) -> list[Listed | LeftOut]:
    """The frames of a file, or why it has none."""
    shown = printable(name)
    if reason := _why_not(path, name):
        return [LeftOut(shown, reason)]
    suffix = path.suffix.lower()
    is_dicom = suffix in dicom.SUFFIXES or (suffix not in _SUFFIXES and dicom.is_dicom(path))
    if is_dicom:
        dicom.check_installed(path)  # ends the run, because no file of the kind could be read
    try:
        if suffix in video.SUFFIXES or (suffix == ".gif" and count(path) > 1):
            positions = video.sample(path, rate, limit)
            return _clip([video.VideoFrame(path, f"{name}#{i}", i, positions) for i in positions])
        if is_dicom:
            positions = dicom.sample(path, rate, limit)
            if len(positions) == 1:
                return [Listed(dicom.DicomFrame(path, name, 0), shown, None)]
            return _clip([dicom.DicomFrame(path, f"{name}#{i}", i) for i in positions])
        if suffix in image_kinds.STACKS and (held := count(path)) > 1:
            return [LeftOut(shown, "several images", f"{path} holds {held} images: {_SPLIT}")]
    except UserError as error:
        return [LeftOut(shown, "corrupt", str(error))]
    return [Listed(ImageFile(path, name), shown, None)]


def _frames_of(clip: Clip, rate: float, limit: int) -> list[Image]:
    """Frames of a video that is one sample of a task, as many as of a video that is none."""
    step = max(1, int((clip.rate or rate) / rate))
    return [clip.frame(index) for index in range(0, clip.count, step)[:limit]]


def _cine_of(item: Item) -> Clip | LeftOut:
    """The whole video that a task's sample is, or is a frame of."""
    image = item.image
    if clips.is_clip(image):
        return replace(image, at=None) if is_dataclass(image) else image
    name = image.name.rpartition("#")[0] or image.name
    if isinstance(image, video.VideoFrame | dicom.DicomFrame):
        return clip_files.of(image.path, name, levels=getattr(image, "levels", None))
    if isinstance(image, VolumeFrame):
        return clip_files.of(image.path, name, levels=image.levels, mirrored=image.mirrored)
    return LeftOut(image.name, STILL)


def _listed(cine: Clip, item: Item) -> ListedClip:
    mask = item.scan_mask if clips.is_clip(item.image) else None
    return ListedClip(cine, item.group or cine.name, mask or scan_mask.CineMask(cine))


def _cine(path: Path, name: str, kind: Clips) -> Clip | LeftOut:
    """The video that a file is, or a part of, or why it is none."""
    shown, suffix = printable(name), path.suffix.lower()
    reason = _why_not(path, name)
    if suffix in clip_files.SUFFIXES and reason == NEITHER:  # videos of which no frames are taken
        reason = None
    if volumes.suffix(path) in volumes.SUFFIXES and reason != "hidden":
        stem = PurePath(name).name.partition(".")[0]
        # "_gt" is how CAMUS calls its masks.
        reason = "mask" if image_kinds.is_mask(stem) or stem.lower().endswith("_gt") else None
    if reason:
        return LeftOut(shown, reason)
    if dicom.is_dicom(path):
        dicom.check_installed(path)
    elif suffix in image_kinds.SUFFIXES and suffix not in image_kinds.STACKS:
        if kind == "folders":
            folder = PurePath(name).parent.as_posix()
            return clip_files.of(path.parent, shown if folder == "." else folder)
        return LeftOut(shown, STILL)
    try:
        return clip_files.of(path, name)
    except UserError as error:
        return LeftOut(shown, "corrupt", str(error))


def _clip(frames: Sequence[Image]) -> list[Listed | LeftOut]:
    name = frames[0].name.rpartition("#")[0]
    mask = scan_mask.ClipMask(tuple(frames), name)
    return [Listed(frame, name, mask) for frame in frames]


def _why_not(path: Path, name: str) -> str | None:
    """Why a file is ignored, mostly by its name; None if it isn't."""
    parts = PurePath(name)
    if any(_hidden(part) for part in parts.parts):
        return "hidden"
    # Machines and archives write DICOM without a suffix, or with one of their own.
    if parts.suffix.lower() not in _SUFFIXES and not dicom.is_dicom(path):
        return NEITHER
    return "mask" if image_kinds.is_mask(parts.stem) else None


_hidden = recognise.is_hidden
_SUFFIXES = {*image_kinds.SUFFIXES, *video.SUFFIXES, *dicom.SUFFIXES}
