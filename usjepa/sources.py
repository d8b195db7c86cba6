"""Where frames come from: data sets as folders, and the images, videos and DICOM files in them.

A folder that is named as a task is read as that task and gives only its training images: the
others are what encoders are tested on.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import PIL.Image

import tasks
from tasks import scan_mask, video
from tasks.images import Image, ImageFile
from tasks.task import ScanMask, Split, Task
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError, not_found
from usjepa import dicom

# Masks that stand beside their images, as BUSI's "benign (1)_mask_1.png".
_MASK = re.compile(r"_(mask|seg)(_\d+)?$", re.IGNORECASE)
# What Pillow has names for, but no pictures.
_NO_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"}


class Found(NamedTuple):
    """A frame to be read."""

    image: Image
    group: str
    """Its video or patient; else its own name."""
    mask: ScanMask | None
    """The region, where it is not estimated from the image alone."""


class LeftOut(NamedTuple):
    """A file or frame that does not come into the index."""

    name: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Source:
    """One data set.

    Args:
        name: of the set in the index.
        folder: where it is.
        task: the task that it was read as, if any.
        deep: False: only the files directly in the folder.
    """

    name: str
    folder: Path
    task: Task | None = None
    deep: bool = True

    def splits(self, names: Sequence[str]) -> dict[str, Split]:
        """The splits of its task that give frames; none if it is no task."""
        return {} if self.task is None else {name: self.task.splits[name] for name in names}

    def about(self, splits: Sequence[str], rate: float, limit: int) -> dict[str, Any]:
        """What tells its content, as plain data: equal for equal frames to be read.

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
        for path, name in _files(self.folder, self.deep):
            stat = path.stat()
            listing.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
            count += 1
        return {"rate": rate, "limit": limit, "files": count, "content": listing.hexdigest()}

    def frames(
        self, splits: Sequence[str], rate: float, limit: int
    ) -> Iterator[tuple[int, Found | LeftOut]]:
        """Its frames in a fixed order, each with how many files were begun before it.

        Args:
            splits: of a task, those that give frames.
            rate: frames a second of a video.
            limit: frames of a video at most.
        """
        if self.task is not None:
            items = [item for split in self.splits(splits).values() for item in split.items]
            for number, item in enumerate(items):
                yield number, Found(item.image, item.group or item.image.name, item.scan_mask)
            return
        for number, (path, name) in enumerate(_files(self.folder, self.deep)):
            for frame in _frames(path, name, rate, limit):
                yield number, frame


def sources_of(root: Path | str) -> list[Source]:
    """The data sets in a folder: each folder in it, and the files directly in it, named after it.

    A folder (or `root` itself) with the name of a task is that task; one without images is passed
    over.

    Raises:
        UserError: no such folder, nothing in it, or a folder that has the name of a task and
            cannot be read as it.
    """
    root = Path(root)
    if not root.is_dir():
        raise not_found("folder of frames", root, "give one with images or videos in it")
    name = root.resolve().name
    if name in tasks.names():
        return [_as_task(root.resolve(), name)]
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not _hidden(path.name))
    found = [
        _as_task(path, path.name) if path.name in tasks.names() else Source(path.name, path)
        for path in folders
    ]
    taken = any(source.name == name for source in found)
    found.append(Source(f"{name} (files)" if taken else name, root, deep=False))
    found = [source for source in found if source.task is not None or _has_frames(source)]
    if not found:
        raise UserError(f"no images, videos or DICOM files in {root}; give another folder")
    return found


def _as_task(folder: Path, name: str) -> Source:
    try:
        return Source(name, folder, tasks.load(name, folder.absolute().parent))
    except UserError as error:
        raise UserError(
            f"{folder} has the name of task '{name}', of which only the training images may be "
            f"taken, but cannot be read as it: {error}; mend it, or rename the folder if it is "
            "something else"
        ) from error


def _has_frames(source: Source) -> bool:
    return any(_why_not(name) is None for _, name in _files(source.folder, source.deep))


def _files(folder: Path, deep: bool) -> Iterator[tuple[Path, str]]:
    """Files of a folder with their names in it, in a fixed order; links are followed once."""
    seen = set()
    for place, folders, names in os.walk(folder, onerror=_unlisted, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
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


def _unlisted(error: OSError) -> None:
    raise UserError(
        f"cannot list {error.filename} ({error.strerror}); make it readable or remove it"
    ) from error


def _frames(path: Path, name: str, rate: float, limit: int) -> list[Found | LeftOut]:
    """The frames of a file, or why it has none."""
    if reason := _why_not(name):
        return [LeftOut(name, reason)]
    suffix = path.suffix.lower()
    if suffix in dicom.SUFFIXES:
        dicom.check_installed(path)  # ends the run, for no file of the kind could be read
    try:
        if suffix in video.SUFFIXES:
            positions = video.sample(path, rate, limit)
            return _clip([video.VideoFrame(path, f"{name}#{i}", i, positions) for i in positions])
        if suffix in dicom.SUFFIXES:
            positions = dicom.sample(path, rate, limit)
            if len(positions) == 1:
                return [Found(dicom.DicomFrame(path, name, 0), name, None)]
            return _clip([dicom.DicomFrame(path, f"{name}#{i}", i) for i in positions])
    except UserError as error:
        return [LeftOut(name, "corrupt", str(error))]
    return [Found(ImageFile(path, name), name, None)]


def _clip(frames: Sequence[Image]) -> list[Found | LeftOut]:
    name = frames[0].name.rpartition("#")[0]
    mask = scan_mask.ClipMask(tuple(frames), name)
    return [Found(frame, name, mask) for frame in frames]


def _why_not(name: str) -> str | None:
    """Why a file is passed over by its name; None if it isn't."""
    path = Path(name)
    if any(_hidden(part) for part in path.parts):
        return "hidden"
    if path.suffix.lower() not in _SUFFIXES:
        return "neither image nor video"
    return "mask" if _MASK.search(path.stem) else None


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _picture_suffixes() -> set[str]:
    known = PIL.Image.registered_extensions()  # loads all of Pillow's formats
    readable = set(PIL.Image.OPEN) - _NO_PICTURES
    return {suffix for suffix, form in known.items() if form in readable}


_SUFFIXES = {*_picture_suffixes(), *video.SUFFIXES, *dicom.SUFFIXES}
