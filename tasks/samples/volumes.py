"""Frames of NIfTI and MetaImage files: slices of a volume or times of a clip, as they are stored.

The first axis of a file is taken for columns (left to right), the second for rows (top to bottom),
the third for frames, as SimpleITK gives them. Orientations that a header states (the affine of
NIfTI) are not applied, because ultrasound files seldom state true ones.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.samples.grey_levels import HINT, GreyLevels
from tasks.samples.images import MAX_BYTES, MAX_PIXELS, changed
from ultrabench_eval.core import hashing, names
from ultrabench_eval.core.errors import UserError

NIFTI, META = (".nii", ".nii.gz"), (".mha", ".mhd")
SUFFIXES = (*NIFTI, *META)

_RGB = ("R", "G", "B")
_HEADER = 64 * 1024  # bytes at most of a MetaImage header
_TYPES = {
    "MET_UCHAR": "u1",
    "MET_CHAR": "i1",
    "MET_USHORT": "u2",
    "MET_SHORT": "i2",
    "MET_UINT": "u4",
    "MET_INT": "i4",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


class VolumeFacts(NamedTuple):
    """What the header of a file tells of its frames."""

    frames: int
    plain: bool
    """Whether its values are grey levels or colours of 8 bits."""
    spacing: tuple[float, float]
    """Of columns and rows, in the file's unit, which is mostly millimetres."""
    size: tuple[int, int]
    """Rows and columns."""


@dataclass(frozen=True)
class VolumeFrame:
    """One frame of a NIfTI or MetaImage file; a kind of `tasks.samples.images.Image`."""

    path: Path
    name: str
    index: int
    """Position in the file, from 0."""
    levels: GreyLevels = field(default_factory=GreyLevels)
    """How values that are not of 8 bits are shown. Neither format states a window."""
    mirrored: bool = False
    """Whether left and right change places. `np.rot90(a, axes=(1, 0))` of values that are stored
    as [x, y] is the frame as it is read here, mirrored."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", names.printable(self.name))

    def read(self, digest: str | None = None) -> np.ndarray:
        """The frame, uint8 RGB [H, W, 3].

        Args:
            digest: what `digest` gave before; the bytes that are decoded must still have it.

        Raises:
            UserError: the file is damaged, needs a window that nobody named, or changed.
        """
        volume = values(self.path)
        if digest is not None and self._digest(volume.digest) != digest:
            raise changed("file", self.path)
        if self.index >= len(volume.frames):
            raise _damaged(self.path, f"it holds {len(volume.frames)} frames")
        pixels = volume.frames[self.index]
        if pixels.dtype != np.uint8:
            if self.levels.own:
                raise no_window(self.path, pixels.dtype)
            pixels = self.levels.of(pixels)
        if self.mirrored:
            pixels = pixels[:, ::-1]
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        return np.ascontiguousarray(pixels)

    def digest(self) -> str:
        """SHA-256 over the bytes of header and data, the position and how they are shown."""
        return self._digest(values(self.path).digest)

    def _digest(self, file: str) -> str:
        shown = {"frame": self.index, "window": str(self.levels)}
        mirrored = {"mirrored": True} if self.mirrored else {}
        return hashing.digest({"file": file, **shown, **mirrored})


def suffix(path: Path) -> str:
    """The suffix of `SUFFIXES` that a file has, in small letters; "" if none."""
    return next((one for one in SUFFIXES if path.name.lower().endswith(one)), "")


def facts(path: Path) -> VolumeFacts:
    """What a file's header tells; of MetaImage without the data.

    Raises:
        UserError: it is damaged, or has more dimensions than are read.
    """
    if suffix(path) in META:
        head, _ = _meta_header(path)
        raw = _raw_of(path)
        if raw is not None and not raw.is_file():
            raise _damaged(path, f"its data file {head.data} is missing")
        frames, plain, spacing = head.frames, head.dtype.str == "|u1", head.spacing
        size = head.rows, head.columns
    else:
        nibabel = _nibabel()
        try:
            image = nibabel.load(path)  # reads no values
            shape, dtype = image.shape, image.get_data_dtype()
            slope, shift = image.dataobj.slope, image.dataobj.inter
            zooms = image.header.get_zooms()
            spacing = float(zooms[0]), float(zooms[1])
        except Exception as error:  # nibabel raises whatever it comes across in damaged files
            raise _damaged(path, error) from error
        if any(side > 1 for side in shape[3:]) or len(shape) < 2:
            raise _damaged(path, f"it has {len(shape)} dimensions")
        frames = shape[2] if len(shape) > 2 else 1
        size = shape[1], shape[0]
        plain = dtype.names == _RGB or (dtype == np.uint8 and (slope, shift) == (1, 0))
    if frames < 1:
        raise _damaged(path, "it holds no image")
    return VolumeFacts(frames, plain, spacing, size)


def no_window(path: Path, dtype: object) -> UserError:
    """The sentence for values that are not grey levels."""
    return UserError(
        f"cannot read image {path}: its values are {dtype}, not grey levels from 0 to 255; {HINT}"
    )


class VolumeValues(NamedTuple):
    """What a file holds."""

    frames: np.ndarray
    """[T, H, W] or [T, H, W, 3]."""
    digest: str


def values(path: Path) -> VolumeValues:
    """A file's content, decoded once for all its frames.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        stats = [one.stat() for one in (path, _raw_of(path)) if one is not None]
        key = tuple((stat.st_size, stat.st_mtime_ns) for stat in stats)
        return _decoded(path, key)
    except OSError as error:
        raise _damaged(path, error.strerror or error) from error


@lru_cache(maxsize=2)
def _decoded(path: Path, key: tuple[tuple[int, int], ...]) -> VolumeValues:
    """Args: sizes and times, which tell a changed file."""
    try:
        frames, parts = (_meta if suffix(path) in META else _nifti)(path)
    except UserError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error
    if frames.shape[1] * frames.shape[2] > MAX_PIXELS:
        raise _damaged(path, f"its header claims {frames.shape[2]} x {frames.shape[1]} pixels")
    frames.flags.writeable = False
    return VolumeValues(frames, hashing.digest_parts(parts))


def _nifti(path: Path) -> tuple[np.ndarray, list[bytes]]:
    nibabel = _nibabel()
    facts(path)  # refuses what has more dimensions
    data = path.read_bytes()
    plain = data
    if data.startswith(b"\x1f\x8b"):
        with gzip.open(io.BytesIO(data)) as file:
            plain = file.read(MAX_BYTES + 1)
        if len(plain) > MAX_BYTES:
            raise ValueError("it has more than 1 GB")
    kind = nibabel.Nifti2Image if plain[:2] in (b"\x1c\2", b"\0\0") else nibabel.Nifti1Image
    image = kind.from_bytes(plain)
    values = np.asanyarray(image.dataobj)
    if values.dtype.names == _RGB:
        values = np.stack([values[name] for name in values.dtype.names], axis=-1)
    elif values.dtype.names or values.dtype.kind not in "uif":
        raise ValueError(f"values of {values.dtype} are not supported")
    colours = values.shape[len(image.shape) :]
    columns, rows, frames = (*image.shape, 1)[:3]
    shaped = values.reshape(columns, rows, frames, *colours)
    return np.ascontiguousarray(np.moveaxis(shaped, (0, 1, 2), (2, 1, 0))), [data]


class _MetaHeader(NamedTuple):
    columns: int
    rows: int
    frames: int
    channels: int
    dtype: np.dtype
    spacing: tuple[float, float]
    compressed: bool
    skipped: int
    """Bytes before the data."""
    data: str
    """"LOCAL", or the name of the file with the data."""


def _meta_header(path: Path) -> tuple[_MetaHeader, int]:
    """What a MetaImage file states, and where its header ends.

    The format: https://itk.org/Wiki/ITK/MetaIO/Documentation.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER)
        fields: dict[str, str] = {}
        end = 0
        while "elementdatafile" not in fields:
            line_end = start.index(b"\n", end) + 1 if b"\n" in start[end:] else len(start)
            key, equals, value = start[end:line_end].decode("latin-1").partition("=")
            if not equals:
                raise ValueError("its header is damaged or states no data file")
            fields[key.strip().lower()] = value.strip()
            end = line_end
        shape = [int(side) for side in fields["dimsize"].split()]
        if any(side > 1 for side in shape[3:]) or len(shape) < 2 or min(shape) < 1:
            raise ValueError(f"it has the size {fields['dimsize']}")
        channels = int(fields.get("elementnumberofchannels", 1))
        if channels not in (1, 3):
            raise ValueError(f"it has {channels} channels")
        if fields.get("binarydata", "True").lower() != "true":
            raise ValueError("its values are written as text")
        kind = fields["elementtype"].upper().removesuffix("_ARRAY")
        if kind not in _TYPES:
            raise ValueError(f"values of {kind} are not supported")
        big = fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb", "False"))
        spacing = [float(x) for x in fields.get("elementspacing", "1 1").split()]
    except Exception as error:
        raise _damaged(path, error) from error
    columns, rows, frames = (*shape, 1)[:3]
    head = _MetaHeader(
        columns,
        rows,
        frames,
        channels,
        np.dtype((">" if big.lower() == "true" else "<") + _TYPES[kind]),
        (spacing[0], spacing[1]),
        fields.get("compresseddata", "False").lower() == "true",
        int(fields.get("headersize", 0)),
        fields["elementdatafile"],
    )
    if head.data.upper() == "LIST" or "%" in head.data:
        raise _damaged(path, "its data lie in several files")
    if os.path.dirname(head.data):
        raise _damaged(path, f"its data lie in another folder ({head.data})")
    return head, end


def _raw_of(path: Path) -> Path | None:
    """The file of the data, where they lie in one of their own."""
    if suffix(path) not in META:
        return None
    data = _meta_header(path)[0].data
    return None if data.upper() == "LOCAL" else path.parent / data


def _meta(path: Path) -> tuple[np.ndarray, list[bytes]]:
    head, end = _meta_header(path)
    parts = [path.read_bytes()]
    raw = _raw_of(path)
    if raw is not None:
        parts.append(raw.read_bytes())
    data = parts[0][end:] if raw is None else parts[1]
    size = head.columns * head.rows * head.frames * head.channels * head.dtype.itemsize
    if size > MAX_BYTES:
        raise ValueError("it has more than 1 GB")
    if head.compressed:
        data = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, size + 1)
    elif head.skipped:
        data = data[len(data) - size if head.skipped == -1 else head.skipped :]
    if len(data) != size:
        raise ValueError(f"it holds {len(data)} bytes of values where its header says {size}")
    shape = (head.frames, head.rows, head.columns, *([3] if head.channels == 3 else []))
    values = np.frombuffer(data, head.dtype).reshape(shape)
    return values.astype(head.dtype.newbyteorder("="), copy=False), parts


def _nibabel() -> Any:
    import nibabel  # here, because it is slow

    return nibabel


def _damaged(path: Path, why: object) -> UserError:
    kind = "MetaImage" if suffix(path) in META else "NIfTI"
    reason = " ".join(str(why).split())
    return UserError(
        f"cannot read {kind} file {path} ({reason}); export its frames to PNG, copy it again "
        "or remove it"
    )
