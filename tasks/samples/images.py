"""The kinds of image that a task can hold. Each is small, can be pickled, and reads when asked."""

from __future__ import annotations

import functools
import inspect
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import PIL.Image
import PIL.ImageOps

from tasks.samples import image_kinds
from tasks.samples.grey_levels import GreyLevels
from ultrabench_eval.core import hashing, names
from ultrabench_eval.core.errors import UserError

MAX_PIXELS = 50_000_000
"""More are refused before they are decoded: a few kilobytes can claim to be gigabytes of pixels."""
MAX_BYTES = 2**30
RELEASE, ELSEWHERE = "the release", "where it came from"

# `MAX_PIXELS` is far below the size at which Pillow warns.
warnings.filterwarnings("ignore", category=PIL.Image.DecompressionBombWarning)


class Image(Protocol):
    """One image, read when it is needed; `tasks.samples.video` has another kind."""

    @property
    def name(self) -> str:
        """Unique within its task and the same on every machine, e.g. "Benign/image/12.jpg"."""

    def read(self, digest: str | None = None) -> np.ndarray:
        """The decoded image, uint8 RGB [H, W, 3]; it may be shared, so don't write into it.

        Args:
            digest: what `digest` gave before; the bytes that are decoded must still have it.

        Raises:
            UserError: the file is damaged, of a kind that is not supported, or changed.
        """

    def digest(self) -> str:
        """SHA-256 of the content: equal exactly if the stored bytes (and frame) are equal."""


# Modes whose conversion to RGB keeps 8-bit values. 16-bit and float images would be clipped.
_EIGHT_BIT = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
_DEEP = {"I;16", "I;16B", "I;16L", "I", "F"}  # one channel of more than 8 bits
_BITS_PER_SAMPLE = 258  # TIFF tag
_ORIENTATION = 274  # EXIF tag
_EXIF = (b"Exif\0\0", b"eXIf", b"EXIF")  # before the tags in JPEG, PNG and WebP
_TIFF = (b"II*\0", b"MM\0*")


def decode(
    path: Path,
    digest: str | None = None,
    origin: str = ELSEWHERE,
    levels: GreyLevels | None = None,
    frame: int | None = None,
) -> np.ndarray:
    """Decode an image file to uint8 RGB [H, W, 3]; grey is repeated, transparency dropped.

    A photograph that is stored turned or mirrored (EXIF orientation) is decoded upright, as every
    viewer shows it.

    Args:
        path: a file of one of `image_kinds.FORMATS`.
        digest: that its bytes must have, by `digest_of`.
        origin: where a damaged file can be copied from again.
        levels: of one channel with more than 8 bits, which is refused if they are not stated.
        frame: of a file of several, from 0; such a file is refused if it is None.

    Raises:
        UserError: not an image, truncated, more than 8 bits per channel or `MAX_PIXELS`, several
            frames, or other bytes than those of `digest`.
    """
    data = read_bytes(path)
    if digest is not None and digest_of(data, levels, frame) != digest:
        raise changed("image", path)
    return decode_bytes(data, path, origin, levels, frame)


def decode_bytes(
    data: bytes,
    path: Path,
    origin: str = ELSEWHERE,
    levels: GreyLevels | None = None,
    frame: int | None = None,
) -> np.ndarray:
    """`decode` of what a file holds; `path` is for messages."""
    try:
        return _decode(data, levels, frame)
    except _Refused as error:
        raise UserError(f"cannot read image {path}: it {error}") from error
    except MemoryError as error:
        raise UserError(
            f"cannot read image {path}: there is not enough memory; use fewer threads or workers"
        ) from error
    except Exception as error:  # Pillow raises whatever its decoders come across in damaged files
        what = image_kinds.foreign(data, path.suffix)
        if what is None:
            what = f"is damaged or cut off ({_reason(error)}): copy it again from {origin}"
        raise UserError(f"cannot read image {path}: it {what}, or remove it") from error


def digest_of(data: bytes, levels: GreyLevels | None = None, frame: int | None = None) -> str:
    """SHA-256 of a file's bytes; another one where they are not decoded as they lie.

    That is an image that is decoded upright (features that an earlier version made of the same
    bytes are thus not taken for it), values that become grey levels, and a frame of several.
    """
    digest = _digest_as_it_lies(data)
    settings: dict[str, object] = {} if frame is None else {"frame": frame}
    if _states(levels) and _is_deep(data):
        settings["window"] = str(levels)
    return hashing.digest({"file": digest, **settings}) if settings else digest


def _digest_as_it_lies(data: bytes) -> str:
    digest = hashing.digest_bytes(data)
    if not any(mark in data for mark in _EXIF) and not data.startswith(_TIFF):
        return digest
    try:
        with PIL.Image.open(io.BytesIO(data), formats=image_kinds.FORMATS) as image:
            turned = _is_turned(image)
    except Exception:  # `decode` tells what is wrong
        return digest
    return hashing.digest_parts([digest.encode(), b"upright"]) if turned else digest


def _states(levels: GreyLevels | None) -> bool:
    return levels is not None and not levels.own  # none of these formats has a window of its own


def _is_deep(data: bytes) -> bool:
    try:
        with PIL.Image.open(io.BytesIO(data), formats=image_kinds.FORMATS) as image:
            return image.mode in _DEEP
    except Exception:  # `decode` tells what is wrong
        return False


def extent(data: bytes, frame: int | None = None) -> tuple[float, float] | None:
    """The smallest and the largest value of an image whose one channel has more than 8 bits; None
    of others, and of what cannot be decoded, which `decode` tells."""
    try:
        with PIL.Image.open(io.BytesIO(data), formats=image_kinds.FORMATS) as image:
            if image.mode not in _DEEP or image.width * image.height > MAX_PIXELS:
                return None
            image.seek(frame or 0)
            values = np.asarray(image)
            return float(values.min()), float(values.max())
    except Exception:  # damaged in whatever way
        return None


def count(path: Path) -> int:
    """How many images or frames are in a file; 1 if that cannot be known, which `decode` says."""
    data = read_bytes(path)
    try:
        with PIL.Image.open(io.BytesIO(data), formats=image_kinds.FORMATS) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # damaged in whatever way
        return 1


def read_bytes(path: Path, what: str = "image") -> bytes:
    """A file's content.

    Raises:
        UserError: it is not there, cannot be read, or is too large for an image.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise UserError(f"{what} {path} is missing; restore it or remove its row") from error
    except OSError as error:
        raise UserError(
            f"cannot read {what} {path} ({error.strerror or error}); make it readable or remove "
            "its row"
        ) from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{what} {path} has more than 1 GB; export it as PNG or remove its row")
    return data


def changed(what: str, path: Path | str) -> UserError:
    """The sentence for a file whose bytes are others than those that were hashed."""
    return UserError(
        f"{what} {path} changed while it was being read: its content is not the one that was "
        "hashed before; run again"
    )


class _Refused(Exception):
    """What is wrong with an image that is whole, and what to do: the end of a sentence."""


def _decode(data: bytes, levels: GreyLevels | None, frame: int | None) -> np.ndarray:
    depth = image_kinds.bits(data)
    if not _states(levels):
        _check_depth(depth)
    try:
        image = PIL.Image.open(io.BytesIO(data), formats=image_kinds.FORMATS)
    except (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning) as error:
        raise _too_large() from error
    with image:
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(image.width, image.height)
        if frame is not None:
            image.seek(frame)
        elif (frames := getattr(image, "n_frames", 1)) > 1:
            raise _Refused(
                f"holds {frames} images where one is meant: save the frames that you mean as files "
                "of their own, or say which with --frames"
            )
        if levels is not None and not levels.own and image.mode in _DEEP:
            grey = PIL.Image.fromarray(levels.of(np.asarray(image)))
            return np.asarray(_upright(grey.convert("RGB"), image))
        _check_depth(depth)
        if image.format == "TIFF":
            samples = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, (8,))
            _check_depth(max(samples if isinstance(samples, tuple) else (samples,)))
        if image.mode not in _EIGHT_BIT:
            raise _Refused(
                f"has pixel mode {image.mode}, more than 8 bits per channel: scale its values to "
                "0 to 255 and save it with 8 bits per channel, or say --window"
            )
        return np.asarray(_upright(image.convert("RGB"), image))


def _upright(pixels: PIL.Image.Image, stored: PIL.Image.Image) -> PIL.Image.Image:
    """Pixels of a stored image, turned as it says."""
    if not _is_turned(stored):
        return pixels
    pixels.getexif()[_ORIENTATION] = stored.getexif()[_ORIENTATION]
    return PIL.ImageOps.exif_transpose(pixels)


def _is_turned(image: PIL.Image.Image) -> bool:
    try:
        return bool(image.getexif().get(_ORIENTATION, 1) != 1)
    except Exception:  # damaged metadata, which viewers ignore too
        return False


def _check_depth(depth: int | None) -> None:
    if depth is not None and depth > 8:
        raise _Refused(
            f"has {depth} bits per channel, of which only 8 could be used: scale its values to "
            "0 to 255 and save it with 8 bits per channel, or, if it is grey, say --window"
        )


def _too_large(*sides: int) -> _Refused:
    size = f"{sides[0]} x {sides[1]} pixels" if sides else "far too many pixels"
    return _Refused(
        f"has {size}, more than the {MAX_PIXELS // 10**6} million that are read: make it smaller"
    )


def _reason(error: Exception) -> str:
    """Pillow's reason, without the address of the bytes in memory that it names."""
    if isinstance(error, PIL.UnidentifiedImageError):
        return "it is in no image format that is read, or its header is damaged"
    return str(error) or type(error).__name__


@dataclass(frozen=True)
class ImageFile:
    """An image in a file of its own."""

    path: Path
    name: str
    origin: str = ELSEWHERE
    """Where a damaged file can be copied from again."""
    levels: GreyLevels | None = None
    """See `decode`."""
    frame: int | None = None
    """See `decode`."""

    def __post_init__(self) -> None:
        # Names are hashed and written as UTF-8; those of old archives may be in other encodings.
        object.__setattr__(self, "name", names.printable(self.name))

    def read(self, digest: str | None = None) -> np.ndarray:
        """The decoded image, uint8 RGB [H, W, 3]; see `decode`."""
        return decode(self.path, digest, self.origin, self.levels, self.frame)

    def digest(self) -> str:
        """SHA-256 of the file's bytes and the settings that count; see `digest_of`."""
        return digest_of(read_bytes(self.path), self.levels, self.frame)


@dataclass(frozen=True, eq=False)
class ImageArray:
    """A grey image [H, W] or colour image [H, W, 3] that is already in memory, uint8."""

    pixels: np.ndarray
    name: str

    def read(self, digest: str | None = None) -> np.ndarray:
        """The image as uint8 RGB [H, W, 3]; grey is repeated. Shares memory with `pixels`."""
        if self.pixels.ndim == 3:
            return self.pixels
        return np.broadcast_to(self.pixels[..., None], (*self.pixels.shape, 3))

    def digest(self) -> str:
        """SHA-256 over shape and pixels."""
        return hashing.digest_parts([str(self.pixels.shape).encode(), self.pixels.tobytes()])


def verifiable(image: Any) -> Image:
    """The image, or, if its `read` takes no digest, one that looks at it after reading."""
    return image if _takes_digest(type(image).read) else _Unaware(image)


@functools.lru_cache(maxsize=64)
def _takes_digest(read: Callable[..., np.ndarray]) -> bool:
    return len(inspect.signature(read).parameters) > 1


@dataclass(frozen=True)
class _Unaware:
    """An image of a reader that knows only `read()`."""

    image: Any

    @property
    def name(self) -> str:
        """The image's name."""
        return str(self.image.name)

    def read(self, digest: str | None = None) -> np.ndarray:
        """The image's pixels; its digest is taken again, should it have changed."""
        pixels: np.ndarray = self.image.read()
        if digest is not None and self.image.digest() != digest:
            raise changed("image", self.name)
        return pixels

    def digest(self) -> str:
        """The image's digest."""
        return str(self.image.digest())
