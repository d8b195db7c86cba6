"""Frames of DICOM files; needs pydicom, which is an extra."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tasks.samples import grey_levels
from tasks.samples.grey_levels import GreyLevels
from tasks.samples.images import MAX_PIXELS, changed
from ultrabench_eval.core import hashing, names
from ultrabench_eval.core.errors import UserError, not_installed

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm",)


def check_installed(path: Path) -> None:
    """Raise a UserError if pydicom, which `path` is to be read by, is not installed."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise not_installed(path, "a DICOM file", "pydicom") from error


def sample(path: Path, rate: float, limit: int) -> range:
    """Positions of the frames to take: about `rate` a second, at most `limit`; of a still, 0.

    A clip that is slower or does not state its speed gives every frame.

    Raises:
        UserError: no DICOM file, or one without an image.
    """
    header = _header(path)
    try:
        count = int(header.get("NumberOfFrames") or 1)
        speed = float(header.get("CineRate") or header.get("RecommendedDisplayFrameRate") or 0)
        if not speed and header.get("FrameTime"):
            speed = 1000 / float(header.FrameTime)
        _check_size(header)
        if count < 1:
            raise ValueError("it holds no image")
        return range(0, count, max(1, int(speed / rate)))[:limit]
    except Exception as error:
        raise _damaged(path, error) from error


class DicomFacts(NamedTuple):
    """What a DICOM file's header tells of its frames."""

    frames: int
    bits: int
    """That are stored per channel."""
    plain: bool
    """Whether the stored values are grey levels or colours already: 8 bits, and neither rescaled
    nor windowed."""
    window: str
    """The window that it states, in words; "" if none."""
    inverted: bool
    """MONOCHROME1: small is bright."""
    patient: str
    """PatientID; "" if there is none."""


def facts(path: Path) -> DicomFacts:
    """What the header of a file tells, without its pixels.

    Raises:
        UserError: no DICOM file, or one without an image.
    """
    header = _header(path)
    try:
        _check_size(header)
        count = int(header.get("NumberOfFrames") or 1)
        if count < 1:
            raise ValueError("it holds no image")
        return DicomFacts(
            count,
            int(header.BitsStored),
            _is_plain(header),
            _window(header),
            header.PhotometricInterpretation == "MONOCHROME1",
            str(header.get("PatientID") or "").strip(),
        )
    except Exception as error:
        raise _damaged(path, error) from error


def is_dicom(path: Path) -> bool:
    """Whether a file of whatever name has the mark of a DICOM file: four letters at byte 128."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False  # reported where it is read


@dataclass(frozen=True)
class DicomFrame:
    """One frame of a DICOM file; a kind of `tasks.samples.images.Image`."""

    path: Path
    name: str
    index: int
    """Position in the file, from 0."""
    levels: GreyLevels | None = None
    """How values of more than 8 bits are shown; None: by the file's window if it has one, then
    from smallest to largest onto 0 to 255."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", names.printable(self.name))

    def read(self, digest: str | None = None) -> np.ndarray:
        """The frame, uint8 RGB [H, W, 3]: see `levels` for what more than 8 bits become.

        MONOCHROME1 is inverted, so that large is bright.

        Args:
            digest: what `digest` gave before; the bytes that are decoded must still have it.

        Raises:
            UserError: the file is damaged, in an encoding that no installed decoder reads, of
                colours that contradict its header, or changed.
        """
        content = self._content()
        if digest is not None and self._digest(content.digest) != digest:
            raise changed("DICOM file", self.path)
        try:
            pixels = _pixels(content.data, self.index, self.levels)
        except Exception as error:  # pydicom raises whatever it comes across in damaged files
            raise _damaged(self.path, error) from error
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        return np.ascontiguousarray(pixels)

    def digest(self) -> str:
        """SHA-256 over the file's bytes, the position, and the levels where they are stated."""
        return self._digest(self._content().digest)

    def _digest(self, file: str) -> str:
        shown = {} if self.levels is None else {"window": str(self.levels)}
        return hashing.digest({"file": file, "frame": self.index, **shown})

    def _content(self) -> _FileContent:
        try:
            stat = self.path.stat()
            return _content(self.path, stat.st_size, stat.st_mtime_ns)
        except (OSError, MemoryError) as error:
            raise _damaged(self.path, error) from error


class _FileContent(NamedTuple):
    """A file in memory, and its SHA-256."""

    data: bytes
    digest: str


@lru_cache(maxsize=4)
def _content(path: Path, size: int, changed: int) -> _FileContent:
    """A file's content, read once for all its frames; size and time tell a changed file."""
    data = path.read_bytes()
    return _FileContent(data, hashing.digest_bytes(data))


def _pixels(data: bytes | Path, index: int, levels: GreyLevels | None) -> np.ndarray:
    """A frame of a file or its content, uint8 [H, W] or RGB [H, W, 3]."""
    header = read_header(data)
    pixels = _stored(data, header, index)
    if pixels.ndim == 2:
        kind = str(header.PhotometricInterpretation)
        pixels = _colours(pixels, header) if "PALETTE" in kind else _grey(pixels, header, levels)
    if pixels.dtype != np.uint8:
        raise ValueError(f"colours of {pixels.dtype} are not supported")
    return pixels


def read_header(source: bytes | Path) -> Dataset:
    """What a file's content, or the file, states before its pixels."""
    import pydicom

    header = pydicom.dcmread(_to_read(source), stop_before_pixels=True)
    _check_size(header)
    return header


def _to_read(source: bytes | Path) -> io.BytesIO | Path:
    return source if isinstance(source, Path) else io.BytesIO(source)


def _stored(source: bytes | Path, header: Dataset, index: int) -> np.ndarray:
    """A frame's values as they are stored, [H, W] or RGB uint8 [H, W, 3] of YBR too."""
    import pydicom
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    syntax = header.file_meta.get("TransferSyntaxUID")
    # A frame cannot be found in a deflated file by its place, so that is read whole.
    deflated = syntax == DeflatedExplicitVRLittleEndian

    def stored(raw: bool = False) -> np.ndarray:
        content = pydicom.dcmread(_to_read(source)) if deflated else _to_read(source)
        return pixel_array(content, index=index, raw=raw)

    kind = str(header.PhotometricInterpretation)
    if kind.startswith("YBR") and syntax is not None and not syntax.is_compressed:
        _check_ybr(header, kind, stored(raw=True))
    return stored()


class CineFacts(NamedTuple):
    """What is known of the frames of a video or DICOM cine before they are decoded."""

    frames: int
    rate: float | None
    """Frames a second, on average over the video; None where the file does not say."""
    size: tuple[int, int]
    """Rows and columns, upright."""
    deep: bool
    """Whether its values need a window and the file states none."""
    spacing: tuple[float, float] | None = None
    """Millimetres between the rows and between the columns; None where nothing tells."""


def cine_facts(source: bytes | Path, path: Path) -> CineFacts:
    """What the header of a file tells, without its pixels.

    Args:
        source: the file's content, or where it lies.
        path: the file, for messages.

    Raises:
        UserError: no DICOM file, or one without an image.
    """
    check_installed(path)
    try:
        header = read_header(source)
        count = int(header.get("NumberOfFrames") or 1)
        if count < 1:
            raise ValueError("it holds no image")
        times = [float(time) for time in header.get("FrameTimeVector") or ()][1:]
        rate = 1000 / float(header.FrameTime) if header.get("FrameTime") else 0.0
        if not rate and sum(times) > 0:
            rate = 1000 * len(times) / sum(times)
        shown = header.get("CineRate") or header.get("RecommendedDisplayFrameRate")
        rate = rate or float(shown or 0)
        deep = not _is_plain(header) and not _window(header)
        return CineFacts(count, rate or None, (int(header.Rows), int(header.Columns)), deep)
    except Exception as error:  # pydicom raises whatever it comes across in damaged files
        raise _damaged(path, error) from error


def cine_frames(
    source: bytes | Path, path: Path, wanted: Iterable[int], levels: GreyLevels
) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames of a file, one at a time: position and uint8 RGB [H, W, 3].

    Args:
        source: as of `cine_facts`.
        path: as of `cine_facts`.
        wanted: positions from 0.
        levels: see `DicomFrame.levels`.

    Raises:
        UserError: see `DicomFrame.read`.
    """
    for index in wanted:
        try:
            pixels = _pixels(source, index, levels)
        except Exception as error:
            raise _damaged(path, error) from error
        yield index, np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def cine_extent(source: bytes | Path, path: Path, count: int) -> tuple[float, float]:
    """The smallest and the largest value of a file of so many frames, rescaled as it says.

    Raises:
        UserError: the file is damaged.
    """
    from pydicom.pixels.processing import apply_modality_lut

    try:
        header = read_header(source)
        frames = (apply_modality_lut(_stored(source, header, n), header) for n in range(count))
        ends = [(float(values.min()), float(values.max())) for values in frames]
    except Exception as error:
        raise _damaged(path, error) from error
    return min(low for low, _ in ends), max(high for _, high in ends)


def _check_size(header: Dataset) -> None:
    """Refuse a header without an image, or with one so large that it cannot be true."""
    if "Rows" not in header or "Columns" not in header:
        raise ValueError("it holds no image")
    size = int(header.Rows), int(header.Columns)
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"its header claims {size[0]} x {size[1]} pixels")


def _check_ybr(header: Dataset, kind: str, stored: np.ndarray) -> None:
    """Refuse values that are not YBR: machines write RGB under such a header, in false colours.

    Grey is (v, v, v) in RGB and (v, 128, 128) in YBR, and most of an ultrasound image is grey.

    Args:
        header: of the file.
        kind: its photometric interpretation.
        stored: values of a frame as they are stored, uint8 [H, W, 3].
    """
    grey_rgb = np.ptp(stored, axis=2).mean() if stored.ndim == 3 else 255.0
    grey_ybr = np.abs(stored[..., 1:].astype(np.int16) - 128).mean() if stored.ndim == 3 else 0.0
    if grey_rgb < grey_ybr and grey_rgb < 16:
        raise ValueError(f"its header says {kind}, but its values are RGB: correct the header")


def _grey(pixels: np.ndarray, header: Dataset, levels: GreyLevels | None) -> np.ndarray:
    """Stored values as shown on a screen, uint8 [H, W]; see `DicomFrame.levels`."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    if levels is None and pixels.dtype != np.uint8:
        pixels = grey_levels.stretched(apply_voi_lut(apply_modality_lut(pixels, header), header))
    elif levels is not None and not _is_plain(header):
        values = apply_modality_lut(pixels, header)
        pixels = _windowed(values, header) if levels.own else levels.of(values)
    return 255 - pixels if header.PhotometricInterpretation == "MONOCHROME1" else pixels


def _is_plain(header: Dataset) -> bool:
    """Whether the stored values are what a screen shows: 8 bits that nothing in the file changes.

    A window that moves no value by more than one level, such as 127/255, changes nothing.
    """
    if int(header.SamplesPerPixel) != 1 or "PALETTE" in header.PhotometricInterpretation:
        return True  # of colours: no window applies to them
    if int(header.BitsStored) > 8 or int(header.PixelRepresentation):
        return False
    rescaled = header.get("RescaleSlope", 1) != 1 or header.get("RescaleIntercept", 0) != 0
    if rescaled or "ModalityLUTSequence" in header or "VOILUTSequence" in header:
        return False
    if not header.get("WindowWidth"):
        return True
    values = np.arange(256)
    return bool(abs(_windowed(values, header).astype(int) - values).max() <= 1)


def _window(header: Dataset) -> str:
    """The window that a header states, in words."""
    if "VOILUTSequence" in header:
        return "a lookup table"
    if not header.get("WindowWidth"):
        return ""
    centre, width, count = *_first_window(header), _several(header.WindowWidth)
    return f"{centre:g}/{width:g}" + (f" (the first of {count})" if count > 1 else "")


def _several(value: Any) -> int:
    from pydicom.multival import MultiValue

    return len(value) if isinstance(value, MultiValue) else 1


def _first_window(header: Dataset) -> tuple[float, float]:
    """Centre and width; of several, which are alternatives, the first."""
    centre, width = (
        float(value[0] if _several(value) > 1 else value)
        for value in (header.WindowCenter, header.WindowWidth)
    )
    return centre, width


def _windowed(values: np.ndarray, header: Dataset) -> np.ndarray:
    """Levels uint8 of rescaled values by the file's own window (DICOM PS3.3, C.11.2.1).

    Raises:
        ValueError: it states none.
    """
    from pydicom.pixels.processing import apply_voi

    if "VOILUTSequence" in header:
        bits = int(header.VOILUTSequence[0].LUTDescriptor[2])
        return grey_levels.rounded(apply_voi(values, header) / (2**bits - 1))
    if not header.get("WindowWidth"):
        raise ValueError(f"it has {header.BitsStored} bits and states no window")
    centre, width = _first_window(header)
    function = header.get("VOILUTFunction", "LINEAR")
    values = values.astype(np.float64)
    if function == "SIGMOID":
        return grey_levels.rounded(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if function == "LINEAR":
        centre, width = centre - 0.5, width - 1
    return grey_levels.rounded((values - centre) / max(width, 1e-9) + 0.5)


def _colours(pixels: np.ndarray, header: Dataset) -> np.ndarray:
    """Colours of palette numbers, uint8 [H, W, 3]."""
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(pixels, header)
    return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours


def _header(path: Path) -> Dataset:
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except Exception as error:  # pydicom raises whatever it comes across in damaged files
        raise _damaged(path, error) from error


def _damaged(path: Path, why: Any) -> UserError:
    reason = " ".join(str(why).split())
    return UserError(
        f"cannot read DICOM file {path} ({reason}); export its frames to PNG, copy it again "
        "or remove it"
    )
