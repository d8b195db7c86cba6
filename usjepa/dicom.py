"""Frames of DICOM files, for pretraining; needs pydicom, which is an extra."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ultrabench_eval.core import hashing
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
        if "Rows" not in header or count < 1:
            raise ValueError("it holds no image")
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    return range(0, count, max(1, int(speed / rate)))[:limit]


@dataclass(frozen=True)
class DicomFrame:
    """One frame of a DICOM file; a kind of `tasks.images.Image`."""

    path: Path
    name: str
    index: int
    """Position in the file, from 0."""

    def read(self) -> np.ndarray:
        """The frame, uint8 RGB [H, W, 3]: see `_grey` for what more than 8 bits become.

        Raises:
            UserError: the file is damaged, or in an encoding that no installed decoder reads.
        """
        from pydicom.pixels.utils import pixel_array

        header = _header(self.path)
        try:
            pixels = pixel_array(self.path, index=self.index)  # YBR comes as RGB
            kind = str(header.PhotometricInterpretation)
            if pixels.ndim == 2:
                pixels = _colours(pixels, header) if "PALETTE" in kind else _grey(pixels, header)
            if pixels.dtype != np.uint8:
                raise ValueError(f"colours of {pixels.dtype} are not supported")
        except _DAMAGED as error:
            raise _damaged(self.path, error) from error
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        return np.ascontiguousarray(pixels)

    def digest(self) -> str:
        """SHA-256 over the file's bytes and the position."""
        try:
            stat = self.path.stat()
            file = _digest_file(self.path, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise _damaged(self.path, error) from error
        return hashing.digest({"file": file, "frame": self.index})


@lru_cache(maxsize=64)
def _digest_file(path: Path, size: int, changed: int) -> str:
    """Digest of a file, once for all its frames; size and time tell a changed file."""
    return hashing.digest_file(path)


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
    except (*_DAMAGED, pydicom.errors.InvalidDicomError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, why: Any) -> UserError:
    return UserError(f"cannot read DICOM file {path} ({why}); copy it again or remove it")
