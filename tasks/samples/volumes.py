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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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


# ---- frame by frame, for sequences that are clips ------------------------------------------------


class SequenceFacts(NamedTuple):
    """What the header of a file tells of its frames as a video, and where they lie."""

    frames: int
    rate: float | None
    """Frames a second, of NIfTI with a fourth axis in seconds; else None."""
    size: tuple[int, int]
    """Rows and columns."""
    deep: bool
    """Whether its values are not grey levels or colours of 8 bits."""
    spacing: tuple[float, float]
    """Of rows and columns, in the file's unit."""
    dtype: np.dtype
    """As the values are stored."""
    channels: int
    start: int
    """Bytes before the frames in the file of the data; -1: they are its last bytes."""
    slope: float = 1.0
    shift: float = 0.0
    """What stored values are multiplied by, and what is added then."""
    packed: bool = False
    """Whether the values of a MetaImage are compressed."""


def data_files(path: Path) -> tuple[Path, ...]:
    """The file, and the one with its data where that is another.

    Raises:
        UserError: the header of a MetaImage is damaged.
    """
    raw = _raw_of(path)
    return (path,) if raw is None else (path, raw)


def sequence_facts(source: bytes | Path, path: Path) -> SequenceFacts:
    """What the header of a file tells. A NIfTI of [x, y, 1, t] has t frames, like one of [x, y, t].

    Args:
        source: the file's content, or where it lies.
        path: the file, for messages; by its suffix the format is known.

    Raises:
        UserError: it is damaged, or has more dimensions than are read.
    """
    if suffix(path) in META:
        head, end = _meta_header(path, None if isinstance(source, Path) else source[:_HEADER])
        return SequenceFacts(
            frames=head.frames,
            rate=None,
            size=(head.rows, head.columns),
            deep=head.dtype.str != "|u1",
            spacing=(head.spacing[1], head.spacing[0]),
            dtype=head.dtype,
            channels=head.channels,
            start=end if head.data.upper() == "LOCAL" else head.skipped,
            packed=head.compressed,
        )
    try:
        with _unpacked(source) as file:
            header = _nifti_header(file)
        shape = [int(side) for side in header.get_data_shape()]
        dtype, zooms = header.get_data_dtype(), [float(zoom) for zoom in header.get_zooms()]
        slope, shift = (float(x or 0) for x in header.get_slope_inter())
        several = [side for side in shape[2:] if side > 1]
        if len(shape) < 2 or len(several) > 1 or min(shape) < 1:
            raise ValueError(f"it has the size {shape}: one clip is [x, y, t] or [x, y, 1, t]")
        colours = dtype.names == _RGB
        if not colours and (dtype.names or dtype.kind not in "uif"):
            raise ValueError(f"values of {dtype} are not supported")
        seconds = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}.get(header.get_xyzt_units()[1], 0.0)
        step = zooms[3] * seconds if len(zooms) > 3 else 0.0
        return SequenceFacts(
            several[0] if several else 1,
            round(1 / step, 4) if step > 0 and len(shape) > 3 and shape[3] > 1 else None,
            (shape[1], shape[0]),
            not colours and (dtype.str != "|u1" or (slope, shift) not in ((1, 0), (0, 0))),
            (zooms[1], zooms[0]),
            np.dtype("u1") if colours else dtype,
            3 if colours else 1,
            int(header.get_data_offset()),
            slope or 1.0,
            shift if slope else 0.0,
        )
    except Exception as error:  # nibabel raises whatever it comes across in damaged files
        raise _damaged(path, error) from error


def sequence_frames(
    sources: Sequence[bytes | Path], path: Path, facts: SequenceFacts, wanted: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames of a file, one at a time: position and values [H, W] or uint8 [H, W, 3].

    The file is read from its start to the last of them, and each frame that is not wanted is let
    go.

    Args:
        sources: contents of `data_files`, or where they lie.
        path: the file, for messages.
        facts: of the file.
        wanted: positions from 0, from small to large, each once.

    Raises:
        UserError: the file is damaged or cut off.
    """
    shape = (*facts.size, *([3] if facts.channels == 3 else []))
    length = int(np.prod(shape)) * facts.dtype.itemsize
    among, start = set(wanted), facts.start
    try:
        if facts.size[0] * facts.size[1] > MAX_PIXELS:
            raise ValueError(f"its header claims {facts.size[1]} x {facts.size[0]} pixels")
        of_meta = suffix(path) in META
        with (_to_read if of_meta else _unpacked)(sources[-1]) as file:
            if start < 0:
                start = file.seek(0, os.SEEK_END) - length * facts.frames
            file.seek(start)
            if of_meta and facts.packed:
                file = io.BufferedReader(_Inflated(file))  # type: ignore[assignment]
            for index in range(wanted[-1] + 1):
                data = file.read(length)
                if len(data) < length:
                    raise ValueError(f"it is cut off: {index} of {facts.frames} frames are there")
                if index in among:
                    values = np.frombuffer(data, facts.dtype).reshape(shape)
                    if (facts.slope, facts.shift) != (1, 0):
                        values = values * facts.slope + facts.shift
                    yield index, values
    except UserError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


class _Inflated(io.RawIOBase):
    """What a packed file reads from here on when unpacked; its data are never whole in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._unpacker = file, zlib.decompressobj(zlib.MAX_WBITS | 32)

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Unpack as much as fits."""
        while True:
            packed = self._unpacker.unconsumed_tail or self._file.read(1 << 16)
            data = self._unpacker.decompress(packed, len(buffer))
            if data or not packed:
                buffer[: len(data)] = data
                return len(data)


def _to_read(source: bytes | Path) -> BinaryIO:
    return source.open("rb") if isinstance(source, Path) else io.BytesIO(source)


def _unpacked(source: bytes | Path) -> BinaryIO:
    """A NIfTI file, which may be packed as a whole."""
    file = _to_read(source)
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[return-value]


def _nifti_header(file: BinaryIO) -> Any:
    nibabel = _nibabel()
    start = file.read(2)
    file.seek(0)
    kind = nibabel.Nifti2Header if start in (b"\x1c\2", b"\0\0") else nibabel.Nifti1Header
    return kind.from_fileobj(file)


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


def _meta_header(path: Path, start: bytes | None = None) -> tuple[_MetaHeader, int]:
    """What a MetaImage file states, and where its header ends.

    Args:
        path: of the file.
        start: what it begins with; None: it is read.

    The format: https://itk.org/Wiki/ITK/MetaIO/Documentation.
    """
    try:
        if start is None:
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
