"""The files that hold a clip: videos, DICOM cines, arrays, stacks and folders of images.

Each is a sample, small, can be pickled, and streams: a video is decoded from its start to the last
of the frames that are asked for, and the others are let go.

T, H and W are the number of frames, rows and columns.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tasks.samples import dicom, image_kinds, images, volumes
from tasks.samples.clips import Clip
from tasks.samples.dicom import CineFacts
from tasks.samples.grey_levels import RANGE, GreyLevels
from tasks.samples.images import changed, read_bytes
from ultrabench_eval.core import hashing, names
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key

CINES = (
    *(".mp4", ".m4v", ".mov", ".avi", ".mpeg", ".mpg", ".mkv", ".webm", ".wmv", ".flv", ".ogv"),
    *(".ts", ".mjpeg", ".gif", ".apng"),
)
"""Of videos."""
STACKS = (".tif", ".tiff", ".webp")
"""Of images that may hold several frames."""
SUFFIXES = frozenset((*CINES, *STACKS, *dicom.SUFFIXES, *volumes.SUFFIXES))
"""Suffixes of files that hold a clip, in small letters."""

IN_MEMORY = 2**28
"""Bytes of a file that are read at once, so that what is decoded is what was hashed; a larger file
is decoded from the disk and hashed before and after."""


def of(
    path: Path,
    name: str,
    *,
    at: int | None = None,
    levels: GreyLevels | None = None,
    told_rate: float | None = None,
    mirrored: bool = False,
) -> Clip:
    """The clip in a file or folder; nothing is opened but, without a known suffix, its start.

    Args:
        path: of a video, DICOM, NIfTI, MetaImage, TIFF or WebP file, or a folder of frames.
        name: see `Clip.name`.
        at: see `Clip.at`.
        levels: how values that are not of 8 bits are shown; None: by the file's own window.
        told_rate: frames a second, where something other than the file tells it.
        mirrored: whether left and right change places.

    Raises:
        UserError: of a kind that is not read.
    """
    kind = _kind(path)
    return kind(path, name, at, levels or GreyLevels(), told_rate, mirrored)


def _kind(path: Path) -> type[_Clip]:
    suffix = volumes.suffix(path) or path.suffix.lower()
    if path.is_dir():
        return FolderOfFrames
    if suffix in volumes.SUFFIXES:
        return ArrayClip
    if suffix in dicom.SUFFIXES:
        return DicomClip
    if suffix in CINES:
        return CineClip
    if suffix in STACKS:
        return ImageStack
    if dicom.is_dicom(path):
        return DicomClip
    raise UserError(
        f"{path} is not a video that is read ({suffix or 'without a suffix'}); give a video, "
        "DICOM, NIfTI or MetaImage file, or a folder of frames"
    )


class _Content:
    """The files of a clip: those in memory that have at most `limit` bytes."""

    def __init__(self, paths: Sequence[Path], limit: int) -> None:
        self.sources: list[bytes | Path] = [
            path if path.stat().st_size > limit else path.read_bytes() for path in paths
        ]

    @functools.cached_property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each file."""
        return tuple(map(_digest_of, self.sources))

    def check(self) -> None:
        """Refuse files that were decoded from the disk and are no longer what was hashed."""
        for source, before in zip(self.sources, self.digests, strict=True):
            if isinstance(source, Path) and _digest_of(source) != before:
                raise changed("video", source)


def _digest_of(source: bytes | Path) -> str:
    if isinstance(source, Path):
        return hashing.digest_file(source)
    return hashing.digest_bytes(source)


@dataclass(frozen=True)
class _Clip(ABC):
    """A video in a file or folder."""

    path: Path
    name: str
    at: int | None = None
    levels: GreyLevels = field(default_factory=GreyLevels)
    told_rate: float | None = None
    mirrored: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", names.printable(self.name))

    @property
    def count(self) -> int:
        """Frames there are."""
        return self._facts.frames

    @property
    def rate(self) -> float | None:
        """Frames a second; None if nothing tells."""
        return self._facts.rate if self.told_rate is None else self.told_rate

    @property
    def size(self) -> tuple[int, int]:
        """H and W."""
        return self._facts.size

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres between the rows and between the columns; None where nothing tells."""
        return self._facts.spacing

    @property
    def deep(self) -> bool:
        """Whether its values are not grey levels, and the file states no window for them."""
        return self._facts.deep

    def read(self, digest: str | None = None, positions: Sequence[int] | None = None) -> np.ndarray:
        """Frames, uint8 RGB [T, H, W, 3]; see `Clip.read`."""
        wanted = enumerate(range(self.count) if positions is None else positions)
        places = by_key((int(one), place) for place, one in wanted)
        frames = np.empty((sum(map(len, places.values())), *self.size, 3), np.uint8)
        for index, pixels in self.stream(digest, places):
            frames[places[index]] = pixels
        return frames

    def stream(
        self, digest: str | None = None, positions: Iterable[int] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Frames one at a time, from the first to the last: position and uint8 RGB [H, W, 3]; each
        of `positions` once. Otherwise as `Clip.read`."""
        content = self._content()
        if digest is not None and self._digest(content.digests) != digest:
            raise changed("video", self.path)
        facts = self._facts
        wanted = sorted(set(range(facts.frames) if positions is None else positions))
        if wanted and not 0 <= wanted[0] <= wanted[-1] < facts.frames:
            raise IndexError(f"{self.name} has the frames 0 to {facts.frames - 1}, not {wanted}")
        if self.at is not None and not 0 <= self.at < facts.frames:
            raise UserError(
                f"{self.path} has {facts.frames} frame(s), but a mask is of number {self.at + 1}; "
                "give video and mask of one copy"
            )
        shape = (*facts.size, 3)
        for index, pixels in self._frames(content, wanted, self._levels()) if wanted else ():
            if pixels.shape != shape:
                raise UserError(
                    f"cannot read video {self.path}: frame {index + 1} has {pixels.shape[1]} x "
                    f"{pixels.shape[0]} pixels, but the first {shape[1]} x {shape[0]}; "
                    "export it with frames of one size, or remove it"
                )
            yield index, pixels[:, ::-1] if self.mirrored else pixels
        if digest is not None:
            content.check()

    def digest(self) -> str:
        """SHA-256 of the files' bytes and all that changes what is shown; see `Clip.digest`."""
        paths = self._paths()
        files = (
            _digest_file(path, *stamp) for path, stamp in zip(paths, _stamps(paths), strict=True)
        )
        return self._digest(tuple(files))

    def frame(self, index: int) -> ClipFrame:
        """One frame as an image."""
        name = self.name if self.at is None else self.name.removesuffix(f"#{self.at + 1}")
        return ClipFrame(dataclasses.replace(self, at=None, name=name), index)

    def _digest(self, files: Sequence[str]) -> str:
        settings = {
            "at": self.at,
            "rate": self.told_rate,
            "window": None if self.levels.own else str(self.levels),
            "mirrored": self.mirrored or None,
        }
        told = {key: value for key, value in settings.items() if value is not None}
        return hashing.digest({"clip": list(files), "kind": type(self).__name__, **told})

    def _content(self) -> _Content:
        try:
            return _Content(self._paths(), IN_MEMORY)
        except OSError as error:
            raise _unreadable(self.path, error) from error

    @property
    def _facts(self) -> CineFacts:
        return _facts(type(self), self.path, _stamps(self._paths()))

    def _levels(self) -> GreyLevels:
        """The levels that count; of "range", by the range of the whole clip, so that a bright frame
        does not darken the next."""
        if not self.levels.of_range or not self._facts.deep:
            return self.levels
        return GreyLevels.between(*_extent(type(self), self.path, _stamps(self._paths())))

    def _paths(self) -> tuple[Path, ...]:
        """All files that it is made of."""
        return (self.path,)

    @abstractmethod
    def _look(self, content: _Content) -> CineFacts: ...

    @abstractmethod
    def _ends(self, content: _Content, count: int) -> tuple[float, float]:
        """The smallest and the largest value of all frames."""

    @abstractmethod
    def _frames(
        self, content: _Content, wanted: list[int], levels: GreyLevels
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Positions and uint8 RGB [H, W, 3] of the wanted frames, from small to large."""


class CineClip(_Clip):
    """A video file of any kind that FFmpeg reads, upright as its display matrix says."""

    def _look(self, content: _Content) -> CineFacts:
        from tasks.samples import video  # here and below, because PyAV is slow to import

        return video.cine_facts(content.sources[0], self.path)

    def _ends(self, content: _Content, count: int) -> tuple[float, float]:
        from tasks.samples import video

        return video.cine_extent(content.sources[0], self.path, count)

    def _frames(
        self, content: _Content, wanted: list[int], levels: GreyLevels
    ) -> Iterator[tuple[int, np.ndarray]]:
        from tasks.samples import video

        return video.cine_frames(content.sources[0], self.path, wanted, levels)


class DicomClip(_Clip):
    """A DICOM cine; needs pydicom."""

    def _look(self, content: _Content) -> CineFacts:
        return dicom.cine_facts(content.sources[0], self.path)

    def _ends(self, content: _Content, count: int) -> tuple[float, float]:
        return dicom.cine_extent(content.sources[0], self.path, count)

    def _frames(
        self, content: _Content, wanted: list[int], levels: GreyLevels
    ) -> Iterator[tuple[int, np.ndarray]]:
        return dicom.cine_frames(content.sources[0], self.path, wanted, levels)


class ArrayClip(_Clip):
    """A NIfTI or MetaImage sequence, turned as `tasks.samples.volumes` says."""

    def _paths(self) -> tuple[Path, ...]:
        return volumes.data_files(self.path)

    def _look(self, content: _Content) -> CineFacts:
        facts = volumes.sequence_facts(content.sources[0], self.path)
        row, column = facts.spacing
        known = min(row, column) > 0 and np.isfinite([row, column]).all()
        told = (row, column) if known and (row, column) != (1, 1) else None
        return CineFacts(facts.frames, facts.rate, facts.size, facts.deep, told)

    def _ends(self, content: _Content, count: int) -> tuple[float, float]:
        facts = volumes.sequence_facts(content.sources[0], self.path)
        frames = volumes.sequence_frames(content.sources, self.path, facts, range(count))
        ends = [(float(values.min()), float(values.max())) for _, values in frames]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def _frames(
        self, content: _Content, wanted: list[int], levels: GreyLevels
    ) -> Iterator[tuple[int, np.ndarray]]:
        facts = volumes.sequence_facts(content.sources[0], self.path)
        if facts.deep and levels.own:
            raise volumes.no_window(self.path, facts.dtype)
        for index, values in volumes.sequence_frames(content.sources, self.path, facts, wanted):
            pixels = levels.of(values) if facts.deep else values
            yield index, np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


class _OfImages(_Clip):
    """A clip of images that Pillow decodes."""

    @abstractmethod
    def _image(self, content: _Content, index: int) -> tuple[bytes, int | None]:
        """What the file of a frame holds, and its place there, if it may hold several."""

    def _ends(self, content: _Content, count: int) -> tuple[float, float]:
        ends = [images.extent(*self._image(content, index)) or (0, 255) for index in range(count)]
        return min(low for low, _ in ends), max(high for _, high in ends)

    def _facts_of(self, content: _Content, count: int) -> CineFacts:
        first, place = self._image(content, 0)
        deep = images.extent(first, place) is not None
        levels = GreyLevels(RANGE) if deep else None
        height, width = images.decode_bytes(first, self.path, levels=levels, frame=place).shape[:2]
        return CineFacts(count, None, (height, width), deep)

    def _frames(
        self, content: _Content, wanted: list[int], levels: GreyLevels
    ) -> Iterator[tuple[int, np.ndarray]]:
        told, paths = None if levels.own else levels, self._paths()
        for index in wanted:
            data, place = self._image(content, index)
            where = paths[index] if place is None else self.path
            yield index, images.decode_bytes(data, where, levels=told, frame=place)


class ImageStack(_OfImages):
    """A TIFF or WebP file with several frames."""

    def _image(self, content: _Content, index: int) -> tuple[bytes, int | None]:
        (source,) = content.sources
        return _bytes_of(source), index

    def _look(self, content: _Content) -> CineFacts:
        return self._facts_of(content, images.count(self.path))


class FolderOfFrames(_OfImages):
    """A folder of image files, in the order of the numbers in their names: 2 before 10."""

    def _paths(self) -> tuple[Path, ...]:
        return frames_in(self.path)

    def _content(self) -> _Content:
        return _Content(self._paths(), limit=0)  # one file is read at a time

    def _image(self, content: _Content, index: int) -> tuple[bytes, int | None]:
        return _bytes_of(content.sources[index]), None

    def _look(self, content: _Content) -> CineFacts:
        return self._facts_of(content, len(content.sources))


def _bytes_of(source: bytes | Path) -> bytes:
    return read_bytes(source) if isinstance(source, Path) else source


def frames_in(folder: Path) -> tuple[Path, ...]:
    """The image files of a folder by the numbers in their names, without masks and hidden files.

    Raises:
        UserError: it cannot be listed, or holds none.
    """
    try:
        files = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in image_kinds.SUFFIXES
            and not path.name.startswith(".")
            and not image_kinds.is_mask(path.stem)
        ]
    except OSError as error:
        raise _unreadable(folder, error) from error
    if not files:
        raise UserError(
            f"folder {folder} holds no image, so it is not a clip; put its frames there, or remove "
            "its row"
        )

    def by_number(path: Path) -> tuple[list[str | int], str]:
        # Texts and numbers take turns, so that like is compared with like.
        parts = re.split(r"(\d+)", path.name)
        return [int(one) if n % 2 else one for n, one in enumerate(parts)], path.name

    return tuple(sorted(files, key=by_number))


@dataclass(frozen=True)
class ClipFrame:
    """One frame of a clip; a kind of `tasks.samples.images.Image`."""

    clip: Clip
    index: int
    """From 0; its name has it from 1."""

    @property
    def name(self) -> str:
        """The clip's name and the number of the frame."""
        return f"{self.clip.name}#{self.index + 1}"

    @property
    def size(self) -> tuple[int, int]:
        """H and W."""
        return self.clip.size

    def read(self, digest: str | None = None) -> np.ndarray:
        """The frame, uint8 RGB [H, W, 3]; see `Image.read`."""
        whole = self.clip.digest() if digest is not None else None
        if whole is not None and self._digest(whole) != digest:
            raise changed("video", self.clip.name)
        pixels: np.ndarray = self.clip.read(whole, [self.index])[0]
        return pixels

    def digest(self) -> str:
        """SHA-256 over the clip's digest and the position."""
        return self._digest(self.clip.digest())

    def _digest(self, clip: str) -> str:
        return hashing.digest({"clip": clip, "frame": self.index})


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot read video {error.filename or path} ({error.strerror or error}); restore it or "
        "remove its row"
    )


_Stamps = tuple[tuple[int, int], ...]
"""Size and time of files, which tell one that changed."""


def _stamps(paths: Sequence[Path]) -> _Stamps:
    try:
        stats = [path.stat() for path in paths]
    except OSError as error:
        raise _unreadable(paths[0], error) from error
    return tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)


@functools.lru_cache(maxsize=1 << 14)
def _facts(kind: type[_Clip], path: Path, stamps: _Stamps) -> CineFacts:
    """What is known of a clip, looked for once."""
    clip = kind(path, path.name)
    return clip._look(clip._content())


@functools.lru_cache(maxsize=1 << 10)
def _extent(kind: type[_Clip], path: Path, stamps: _Stamps) -> tuple[float, float]:
    """The smallest and the largest value of a clip, looked for once."""
    clip = kind(path, path.name)
    return clip._ends(clip._content(), clip.count)


@functools.lru_cache(maxsize=1 << 14)
def _digest_file(path: Path, size: int, changed: int) -> str:
    """Digest of a file, once for all samples that are made of it."""
    return hashing.digest_file(path)
