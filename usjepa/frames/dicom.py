"""Frames of DICOM files, for pretraining; needs pydicom, which is an extra."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tasks.samples.images import MAX_PIXELS, changed
from ultrabench_eval.core import hashing, names
from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm",)

# What pydicom raises for damaged files and for encodings that no installed decoder reads.
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    EOFError,
    RuntimeError,
    MemoryError,
)


def check_installed(path: Path) -> None:
    """Raise a UserError if pydicom, which `path` is to be read by, is not installed."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{path} is a DICOM file, for which pydicom is needed; "
            "`pip install 'ultrabench-eval[dicom]'`, or remove it"
        ) from error


def sample(path: Path, rate: float, limit: int) -> range:
    """Positions of the frames to take: about `rate` a second, at most `limit`; of a still, 0.

    A clip that is slower or does not tell its speed gives every frame.

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
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def is_dicom(path: Path) -> bool:
    """Whether a file of whatever name has the mark of a DICOM file: four letters at byte 128."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False  # which is told where it is read


@dataclass(frozen=True)
class DicomFrame:
    """One frame of a DICOM file; a kind of `tasks.samples.images.Image`."""

    path: Path
    name: str
    index: int
    """Position in the file, from 0."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", names.printable(self.name))

    def read(self, digest: str | None = None) -> np.ndarray:
        """The frame, uint8 RGB [H, W, 3]: see `_grey` for what more than 8 bits become.

        Args:
            digest: what `digest` gave before; the bytes that are decoded must still have it.

        Raises:
            UserError: the file is damaged, in an encoding that no installed decoder reads, of
                colours that contradict its header, or changed.
        """
        content = self._content()
        if digest is not None and _digest_frame(content.digest, self.index) != digest:
            raise changed("DICOM file", self.path)
        try:
            pixels = _pixels(content.data, self.index)
        except (*_DAMAGED, pydicom_error()) as error:
            raise _damaged(self.path, error) from error
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        return np.ascontiguousarray(pixels)

    def digest(self) -> str:
        """SHA-256 over the file's bytes and the position."""
        return _digest_frame(self._content().digest, self.index)

    def _content(self) -> _Content:
        try:
            stat = self.path.stat()
            return _content(self.path, stat.st_size, stat.st_mtime_ns)
        except (OSError, MemoryError) as error:
            raise _damaged(self.path, error) from error


class _Content(NamedTuple):
    """A file in memory, and its SHA-256."""

    data: bytes
    digest: str


@lru_cache(maxsize=4)
def _content(path: Path, size: int, changed: int) -> _Content:
    """A file's content, read once for all its frames; size and time tell a changed file."""
    data = path.read_bytes()
    return _Content(data, hashing.digest_bytes(data))


def _digest_frame(file: str, index: int) -> str:
    return hashing.digest({"file": file, "frame": index})


def _pixels(data: bytes, index: int) -> np.ndarray:
    """A frame of a file's content, uint8 [H, W] or RGB [H, W, 3]."""
    import pydicom
    from pydicom.pixels.utils import pixel_array
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    _check_size(header)
    syntax = header.file_meta.get("TransferSyntaxUID")
    # A frame cannot be found in a deflated file by its place, so that is read whole.
    deflated = syntax == DeflatedExplicitVRLittleEndian

    def stored(raw: bool = False) -> np.ndarray:
        source = pydicom.dcmread(io.BytesIO(data)) if deflated else io.BytesIO(data)
        return pixel_array(source, index=index, raw=raw)

    kind = str(header.PhotometricInterpretation)
    if kind.startswith("YBR") and syntax is not None and not syntax.is_compressed:
        _check_ybr(header, kind, stored(raw=True))
    pixels = stored()  # YBR comes as RGB
    if pixels.ndim == 2:
        pixels = _colours(pixels, header) if "PALETTE" in kind else _grey(pixels, header)
    if pixels.dtype != np.uint8:
        raise ValueError(f"colours of {pixels.dtype} are not supported")
    return pixels


def _check_size(header: Dataset) -> None:
    """Refuse a header without an image, or with one so large that it cannot be true."""
    if "Rows" not in header or "Columns" not in header:
        raise ValueError("it holds no image")
    size = int(header.Rows), int(header.Columns)
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"its header claims {size[0]} x {size[1]} pixels")


def _check_ybr(header: Dataset, kind: str, stored: np.ndarray) -> None:
    """Refuse values that are no YBR: machines write RGB under such a header, in false colours.

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


def _grey(pixels: np.ndarray, header: Dataset) -> np.ndarray:
    """Stored values as shown on a screen, uint8 [H, W].

    Values of 8 bits stay; others go through the file's rescale and window, and then from smallest
    to largest onto 0 to 255. MONOCHROME1 is inverted, so that large is bright.
    """
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    if pixels.dtype != np.uint8:
        shown = apply_voi_lut(apply_modality_lut(pixels, header), header).astype(np.float64)
        low, high = shown.min(), shown.max()
        pixels = np.rint((shown - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    return 255 - pixels if header.PhotometricInterpretation == "MONOCHROME1" else pixels


def _colours(pixels: np.ndarray, header: Dataset) -> np.ndarray:
    """Colours of palette numbers, uint8 [H, W, 3]."""
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(pixels, header)
    return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours


def _header(path: Path) -> Dataset:
    import pydicom

    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except (*_DAMAGED, pydicom_error()) as error:
        raise _damaged(path, error) from error


def pydicom_error() -> type[Exception]:
    """What pydicom raises for files that are not DICOM."""
    from pydicom.errors import InvalidDicomError

    return InvalidDicomError


def _damaged(path: Path, why: Any) -> UserError:
    return UserError(
        f"cannot read DICOM file {path} ({why}); export its frames to PNG, copy it again or "
        "remove it"
    )
