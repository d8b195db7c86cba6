"""The kinds of image a task can hold. Each is small, can be pickled, and reads when asked."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import PIL.Image

from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError


class Image(Protocol):
    """One image, read when it is needed; `tasks.video` has another kind."""

    @property
    def name(self) -> str:
        """Unique within its task and the same on every machine, e.g. "Benign/image/12.jpg"."""

    def read(self) -> np.ndarray:
        """The decoded image, uint8 RGB [H, W, 3]; it may be shared, so don't write into it.

        Raises:
            UserError: the file is damaged or of a kind that is not supported.
        """

    def digest(self) -> str:
        """SHA-256 of the content: equal exactly if the stored bytes (and frame) are equal."""


# Modes whose conversion to RGB keeps 8-bit values. 16-bit and float images would be clipped.
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
# What Pillow raises for damaged files of the common formats.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    PIL.Image.DecompressionBombError,
)


def decode(path: Path) -> np.ndarray:
    """Decode an image file to uint8 RGB [H, W, 3]; grey is repeated, transparency dropped.

    Raises:
        UserError: not an image, truncated, or more than 8 bits a channel.
    """
    try:
        with PIL.Image.open(path) as image:
            if image.mode not in _EIGHT_BIT:
                raise UserError(
                    f"image {path} has pixel mode {image.mode}; convert it to 8 bits a channel"
                )
            return np.asarray(image.convert("RGB"))
    except FileNotFoundError as error:
        raise UserError(f"image {path} is missing; restore it or remove its row") from error
    except _DAMAGED as error:
        raise UserError(
            f"cannot read image {path} ({error}); copy it again from the release or remove its row"
        ) from error


@dataclass(frozen=True)
class ImageFile:
    """An image in a file of its own."""

    path: Path
    name: str

    def read(self) -> np.ndarray:
        """The decoded image, uint8 RGB [H, W, 3]; see `decode`."""
        return decode(self.path)

    def digest(self) -> str:
        """SHA-256 of the file's bytes."""
        try:
            return hashing.digest_file(self.path)
        except OSError as error:
            raise UserError(
                f"cannot read image {self.path} ({error.strerror}); restore it or remove its row"
            ) from error


@dataclass(frozen=True, eq=False)
class ImageArray:
    """A grey image [H, W] or colour image [H, W, 3] that is already in memory, uint8."""

    pixels: np.ndarray
    name: str

    def read(self) -> np.ndarray:
        """The image as uint8 RGB [H, W, 3]; grey is repeated. Shares memory with `pixels`."""
        if self.pixels.ndim == 3:
            return self.pixels
        return np.broadcast_to(self.pixels[..., None], (*self.pixels.shape, 3))

    def digest(self) -> str:
        """SHA-256 over shape and pixels."""
        return hashing.digest_parts([str(self.pixels.shape).encode(), self.pixels.tobytes()])
