"""The kinds of `tasks.targets.LabelMask`: image files, polygons, outlines, volumes, empty masks.

Each is small, can be pickled, and reads when asked. H and W are the sides of its image.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from tasks.samples import ellipses, image_kinds, polygons, volumes
from tasks.samples.clip_files import ClipFrame
from tasks.samples.clips import is_clip
from tasks.samples.ellipses import Ellipse
from tasks.samples.hdf5 import Hdf5Frame
from tasks.samples.images import MAX_PIXELS, RELEASE, Image, ImageFile, changed, read_bytes
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

Size = tuple[int, int]
"""H and W."""
Level = int | tuple[int, int, int]
"""What a file holds at a pixel: a grey level or code, or the colour red, green, blue."""
Codes = Mapping[Level, int]
"""The class code of each level that a file may hold; keys are of one kind."""

_PLACES = np.array([1 << 16, 1 << 8, 1])  # by which a colour becomes one number

Content = TypeVar("Content")
"""What a file holds before it is decoded."""

BINARY: Codes = {0: 0, 1: 1, 255: 1}
"""Of one structure: 0 is background, and 1 or 255 is the structure."""


def size_of(image: Image) -> Size:
    """H and W of an image; of a file its header tells, so that nothing is decoded.

    Raises:
        UserError: the file is damaged.
    """
    if isinstance(image, ImageFile) and image.frame is None:
        try:
            with PIL.Image.open(image.path, formats=image_kinds.FORMATS) as opened:
                upright = opened.getexif().get(PIL.ExifTags.Base.Orientation, 1) < 5
                return opened.size[::-1] if upright else opened.size
        except Exception:  # `read` tells what is wrong
            pass
    if isinstance(image, ClipFrame) or is_clip(image):
        return image.size
    if isinstance(image, volumes.VolumeFrame):
        return volumes.facts(image.path).size
    height, width = image.read().shape[:2]
    return height, width


@dataclass(frozen=True, eq=False)
class _OfImage(ABC):
    """A mask whose size must be that of its image."""

    image: Image
    """Only its size is looked at."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Says which file it is of."""

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres between the rows and between the columns; None where they are not known."""
        return None

    @abstractmethod
    def read(self) -> np.ndarray:
        """Class codes, uint8 [H, W].

        Raises:
            UserError: a file is missing or damaged, has another size than its image, or holds what
                stands for no class.
        """

    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of all that the mask is made from."""


@dataclass(frozen=True, eq=False)
class EmptyMask(_OfImage):
    """All background: an image that shows nothing of what is looked for."""

    @property
    def name(self) -> str:
        """The image's name."""
        return self.image.name

    def read(self) -> np.ndarray:
        """Zeros, uint8 [H, W]."""
        return np.zeros(size_of(self.image), np.uint8)

    def digest(self) -> str:
        """SHA-256 over the size."""
        return hashing.digest({"empty": size_of(self.image)})


@dataclass(frozen=True, eq=False)
class PolygonMask(_OfImage):
    """Polygons that are filled with class 1 as UltraBench does; see `polygons.filled`."""

    points: Sequence[np.ndarray]
    """Of one or more polygons, [x, y] in pixels of the image, float64 [N, 2] each."""
    path: Path
    """Where they come from."""

    @property
    def name(self) -> str:
        """The file and the image, because one file may hold polygons of several images."""
        return f"{self.path} of {self.image.name}"

    def read(self) -> np.ndarray:
        """The polygons' insides and borders, uint8 [H, W].

        Raises:
            UserError: they reach out of the image, so that they are of another size.
        """
        size = size_of(self.image)
        codes = np.zeros(size, np.uint8)
        for one in self.points:
            if not polygons.within(one, size):
                raise UserError(
                    f"mask {self.path} reaches to {one.max(axis=0).round().tolist()}, but its "
                    f"image {self.image.name} has {size[1]} x {size[0]} pixels; use image and mask "
                    "of one copy of the release"
                )
            codes[polygons.filled(one, size)] = 1
        return codes

    def digest(self) -> str:
        """SHA-256 over points and size."""
        parts = [str(size_of(self.image)).encode(), *(one.tobytes() for one in self.points)]
        return hashing.digest_parts(parts)


@dataclass(frozen=True, eq=False)
class _OfFiles(_OfImage, Generic[Content]):
    """A mask that is decoded from files."""

    paths: tuple[Path, ...]
    """One file, or several whose structures are united."""
    told_spacing: tuple[float, float] | None = None
    """Where something beside the files tells it."""

    @property
    def name(self) -> str:
        """The path of the first file."""
        return str(self.paths[0])

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres between the rows and between the columns; None where they are not known."""
        return self.told_spacing

    def read(self, digest: str | None = None) -> np.ndarray:
        """Class codes, uint8 [H, W].

        Args:
            digest: what `digest` gave before; the bytes that are decoded must still have it.

        Raises:
            UserError: a file is missing, damaged or changed, has another size than its image, or
                holds what stands for no class.
        """
        contents = [self._content(path) for path in self.paths]
        if digest is not None and self._digest(contents) != digest:
            raise changed("mask", self.name)
        size = size_of(self.image)
        united = np.zeros(size, np.uint8)
        for path, content in zip(self.paths, contents, strict=True):
            codes = self._codes(content, path)
            if codes.shape != size:
                raise UserError(
                    f"mask {path} has {codes.shape[1]} x {codes.shape[0]} pixels, but its image "
                    f"{self.image.name} has {size[1]} x {size[0]}; give the mask of this very image"
                )
            np.maximum(united, codes, out=united)
        return united

    def digest(self) -> str:
        """SHA-256 over the files' bytes, and all that changes what becomes of them."""
        return self._digest([self._content(path) for path in self.paths])

    def _digest(self, contents: Sequence[Content]) -> str:
        files = [self._digest_of(content) for content in contents]
        return hashing.digest({"files": files, "spacing": self.spacing, **self._settings()})

    def _settings(self) -> dict[str, object]:
        return {"kind": type(self).__name__}

    @abstractmethod
    def _content(self, path: Path) -> Content: ...

    @abstractmethod
    def _digest_of(self, content: Content) -> str: ...

    @abstractmethod
    def _codes(self, content: Content, path: Path) -> np.ndarray: ...


class _OfImageFiles(_OfFiles[bytes]):
    def _content(self, path: Path) -> bytes:
        return read_bytes(path, "mask")

    def _digest_of(self, content: bytes) -> str:
        return hashing.digest_bytes(content)


@dataclass(frozen=True, eq=False)
class CodeImage(_OfImageFiles):
    """Image files whose grey levels or colours stand for classes."""

    codes: Codes = field(default_factory=lambda: BINARY)

    def _settings(self) -> dict[str, object]:
        return {**super()._settings(), "codes": _told(self.codes)}

    def _codes(self, content: bytes, path: Path) -> np.ndarray:
        return coded(_levels(content, path, _of_colours(self.codes)), self.codes, path)


@dataclass(frozen=True, eq=False)
class FilledEllipse(_OfImageFiles):
    """An image file with an ellipse drawn on black, whose inside is class 1.

    Its border is the middle of the line, which may be cut off where the image ends.
    """

    def ellipse(self) -> Ellipse:
        """The ellipse that is drawn.

        Raises:
            UserError: the file is missing or damaged, or shows no ellipse.
        """
        (path,) = self.paths
        return self._ellipse(self._content(path), path)[0]

    def _codes(self, content: bytes, path: Path) -> np.ndarray:
        ellipse, size = self._ellipse(content, path)
        return ellipse.filled(size).astype(np.uint8)

    def _ellipse(self, content: bytes, path: Path) -> tuple[Ellipse, Size]:
        drawn = _levels(content, path, colours=True)[..., 0] > 127
        ellipse = ellipses.through(drawn)
        if ellipse is None:
            raise UserError(f"outline {path} shows no ellipse; copy it again from {RELEASE}")
        height, width = drawn.shape
        return ellipse, (height, width)


@dataclass(frozen=True, eq=False)
class Hdf5Mask(_OfImage):
    """One frame of a data set of an HDF5 file, whose values stand for classes."""

    frame: Hdf5Frame
    codes: Codes = field(default_factory=lambda: BINARY)

    @property
    def name(self) -> str:
        """The frame's name."""
        return self.frame.name

    def read(self) -> np.ndarray:
        """Class codes, uint8 [H, W].

        Raises:
            UserError: the file is damaged, or holds what stands for no class or has another size.
        """
        codes = coded(self.frame.stored(), self.codes, self.frame.path)
        if codes.shape != (size := size_of(self.image)):
            raise UserError(
                f"mask {self.name} in {self.frame.path} has {codes.shape[1]} x {codes.shape[0]} "
                f"pixels, but its image {size[1]} x {size[0]}; copy the file again from {RELEASE}"
            )
        return codes

    def digest(self) -> str:
        """SHA-256 over the values and what they stand for."""
        return hashing.digest({"frame": self.frame.digest(), "codes": _told(self.codes)})


@dataclass(frozen=True, eq=False)
class ArrayFileMask(_OfFiles[volumes.VolumeValues]):
    """One frame of a NIfTI or MetaImage file whose values stand for classes.

    Axes are those of `tasks.samples.volumes`. A header's spacing of exactly 1 is a placeholder.
    """

    codes: Codes = field(default_factory=lambda: BINARY)
    index: int = 0
    """Position of the frame in the file, from 0."""
    mirrored: bool = False
    """Whether left and right are swapped after reading, as CAMUS is shown."""

    @property
    def spacing(self) -> tuple[float, float] | None:
        """What is stated beside the file, else in its header."""
        if self.told_spacing is not None:
            return self.told_spacing
        column, row = volumes.facts(self.paths[0]).spacing
        known = min(row, column) > 0 and np.isfinite([row, column]).all()
        return (row, column) if known and (row, column) != (1, 1) else None

    def _settings(self) -> dict[str, object]:
        turned = {"index": self.index, "mirrored": self.mirrored, "codes": _told(self.codes)}
        return {**super()._settings(), **turned}

    def _content(self, path: Path) -> volumes.VolumeValues:
        return volumes.values(path)

    def _digest_of(self, content: volumes.VolumeValues) -> str:
        return content.digest

    def _codes(self, content: volumes.VolumeValues, path: Path) -> np.ndarray:
        if self.index >= len(content.frames):
            raise UserError(
                f"mask {path} has {len(content.frames)} frame(s), but the image is number "
                f"{self.index + 1}; give the masks of all frames"
            )
        codes = coded(content.frames[self.index], self.codes, path)
        return np.ascontiguousarray(codes[:, ::-1]) if self.mirrored else codes


def levels(path: Path, colours: bool = False) -> np.ndarray:
    """What an image file holds, as it is stored: int64 [H, W], or uint8 RGB [H, W, 3] of `colours`.

    Images of 1 bit have the levels 0 and 255. With a palette, the levels are its greys, or the
    indices into it if any of its entries has a colour. Transparency is dropped.

    Raises:
        UserError: the file is missing, damaged or no image, or has colours without a palette.
    """
    return _levels(read_bytes(path, "mask"), path, colours)


def _levels(data: bytes, path: Path, colours: bool = False) -> np.ndarray:
    """As `levels`, or uint8 RGB [H, W, 3] of `colours`."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=image_kinds.FORMATS) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise ValueError(f"it has {opened.width} x {opened.height} pixels")
            if (frames := getattr(opened, "n_frames", 1)) > 1:
                raise ValueError(f"it holds {frames} images")
            image = PIL.ImageOps.exif_transpose(opened)
            if not colours and image.mode in ("I", "I;16", "I;16B"):
                return np.asarray(image).astype(np.int64)
            rgb = np.asarray(image.convert("RGB"))
            if colours:
                return rgb
            if image.mode == "P" and _has_colours(image.getpalette("RGB") or []):
                return np.asarray(image).astype(np.int64)
            if (rgb == rgb[..., :1]).all():
                return rgb[..., 0].astype(np.int64)
    except Exception as error:  # Pillow raises whatever its decoders come across in damaged files
        what = image_kinds.foreign(data, path.suffix)
        what = what or f"is damaged ({' '.join(str(error).split())}): copy it again"
        raise UserError(f"cannot read mask {path}: it {what}, or remove its image") from error
    raise UserError(
        f"mask {path} has colours where grey levels stand for classes; say which colour is which "
        "class, or save it as a grey image of class codes"
    )


def coded(values: np.ndarray, codes: Codes, path: Path) -> np.ndarray:
    """Class codes uint8 [H, W] of the levels [H, W], or colours [H, W, 3], of a file.

    Raises:
        UserError: a level stands for no class.
    """
    if values.ndim == (2 if _of_colours(codes) else 3):
        raise UserError(f"mask {path} must hold {'colours' if values.ndim == 2 else 'grey levels'}")
    keys = values @ _PLACES if values.ndim == 3 else values
    found = np.zeros(keys.shape, np.uint8)
    known = np.zeros(keys.shape, bool)
    for level, code in codes.items():
        here = keys == (level if isinstance(level, int) else level @ _PLACES)
        found[here] = code
        known |= here
    if known.all():
        return found
    other = values[~known]
    blurred = "; JPEG blurs masks, so keep them as PNG" if _is_jpeg(path) else ""
    raise UserError(
        f"mask {path} holds {_shown(other[0])} at {len(other)} of {known.size} pixels, but only "
        f"{', '.join(_shown(level) for level in codes)} stand for classes{blurred}; correct the "
        "mask, or say what its levels stand for"
    )


def _of_colours(codes: Codes) -> bool:
    return isinstance(next(iter(codes)), tuple)


def _has_colours(palette: list[int]) -> bool:
    return any(len(set(palette[at : at + 3])) > 1 for at in range(0, len(palette), 3))


def _told(codes: Codes) -> list[tuple[Level, int]]:
    return sorted(codes.items(), key=str)


def _shown(level: object) -> str:
    return (
        str(tuple(int(x) for x in level)) if isinstance(level, tuple | np.ndarray) else str(level)
    )


def _is_jpeg(path: Path) -> bool:
    return path.suffix.lower() in (".jpg", ".jpeg")
