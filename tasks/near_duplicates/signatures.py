"""What is remembered of an image: a few kilobytes by which a copy of it is met again.

Pure functions of pixels, and the file in which signatures are kept by content.

That is a small grey image without the plain borders, and where it lies in the whole; all else that
is compared (`textures`, `align`) is made of these two.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import PIL.Image
import scipy.fft

from tasks.samples.clips import still
from tasks.samples.images import Image
from ultrabench_eval.core import hashing, parallel
from ultrabench_eval.core.errors import UserError

FORMAT = 2  # raised when signatures on disk must be made again
ORIENTATIONS = (
    ("", False, False, False),
    ("horizontal", False, False, True),
    ("vertical", False, True, False),
    ("turned 180", False, True, True),
    ("turned 90", True, True, False),
    ("turned 270", True, False, True),
    ("horizontal, turned 90", True, False, False),
    ("horizontal, turned 270", True, True, True),
)
"""How the second image of a pair is flipped, then turned (counterclockwise) to match the first: as
reports name it; and whether its axes are swapped, then its rows and its columns reversed."""
THUMBNAIL = 64  # pixels a side

_MIDDLE = 128  # pixels a side of what borders are looked for in
_PLAIN = 16  # grey levels by which a border may differ from its commonest level
_BUSY = 0.05  # a line with more than this share of other pixels is not a border
_LINES = 16  # looked at together: most borders are narrow
_SMALLEST = 0.3  # part of height and width below which trimming is not believed
_BATCH = 256  # images after which what was made is written


class Signature(NamedTuple):
    """Signature of one image."""

    pixels: str
    """SHA-256 over height, width and RGB pixels: equal exactly for equal decoded images."""
    box: np.ndarray
    """float32 [4]: left, top, right, bottom of the trimmed view in parts of width and height."""
    thumbnail: np.ndarray
    """uint8 [64, 64]: grey of the trimmed view."""


class Signed(NamedTuple):
    """What is known of one image that could be read."""

    digest: str
    """SHA-256 of the stored content, as the image gives it."""
    signature: Signature


@dataclass(frozen=True)
class Signatures:
    """Signatures of N images, stacked.

    Args:
        pixels: N digests.
        boxes: float32 [N, 4].
        thumbnails: uint8 [N, 64, 64].
    """

    pixels: tuple[str, ...]
    boxes: np.ndarray
    thumbnails: np.ndarray

    @classmethod
    def of(cls, signatures: Sequence[Signature]) -> Signatures:
        """Stack signatures; there may be none."""
        n = len(signatures)
        return cls(
            tuple(s.pixels for s in signatures),
            np.array([s.box for s in signatures], np.float32).reshape(n, 4),
            np.array([s.thumbnail for s in signatures], np.uint8).reshape(n, THUMBNAIL, THUMBNAIL),
        )

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, rows: np.ndarray) -> Signatures:
        """The signatures at `rows`."""
        return Signatures(
            tuple(self.pixels[row] for row in rows),
            *(getattr(self, field.name)[rows] for field in fields(self)[1:]),
        )


def signature(pixels: np.ndarray) -> Signature:
    """The signature of an image, uint8 RGB [H, W, 3]."""
    pixels = np.ascontiguousarray(pixels)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    middle = PIL.Image.fromarray(grey).resize((_MIDDLE, _MIDDLE), PIL.Image.Resampling.BOX)
    small = np.asarray(middle)
    left, top, right, bottom = box = trim(small)
    return Signature(
        hashing.digest_parts([repr(pixels.shape).encode(), pixels.data]),
        np.array(box, np.float32) / _MIDDLE,
        cv2.resize(
            small[top:bottom, left:right], (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA
        ),
    )


def phash(small: np.ndarray) -> np.ndarray:
    """Perceptual hashes in the usual form: which low DCT frequencies lie above their median.

    Zauner 2010 ("Implementation and benchmarking of perceptual image hash functions"), as the
    library `imagehash` has it: the grey image at 32 x 32, 8 x 8 frequencies with the constant one,
    first row of frequencies in the highest bits.

    Args:
        small: uint8 [..., 32, 32].

    Returns:
        uint64 [...].
    """
    frequencies = scipy.fft.dct(scipy.fft.dct(small.astype(np.float64), axis=-2), axis=-1)
    low = frequencies[..., :8, :8].reshape(*small.shape[:-2], 64)
    bits = low > np.median(low, axis=-1, keepdims=True)
    return np.packbits(bits, axis=-1).view(">u8")[..., 0].astype(np.uint64)


def trim(grey: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of an image without its plain borders.

    A border is made of lines with nearly one grey level, of whatever brightness: padding in black
    or white, the dark around a fan. Little things in it (a letter, a mark) don't hold it.

    Args:
        grey: uint8 [H, W].
    """
    height, width = grey.shape
    grey = grey.astype(np.int16)
    left, top, right, bottom = 0, 0, width, height
    for _ in range(3):  # a white border around a black one
        inside = grey[top:bottom, left:right]
        above, below = _border(inside), _border(inside[::-1])
        before, after = _border(inside.T), _border(inside.T[::-1])
        smaller = (left + before, top + above, right - after, bottom - below)
        if smaller == (left, top, right, bottom):
            break
        if (smaller[2] - smaller[0]) < _SMALLEST * width:
            break
        if (smaller[3] - smaller[1]) < _SMALLEST * height:
            break
        left, top, right, bottom = smaller
    return left, top, right, bottom


def _border(lines: np.ndarray) -> int:
    """How many of the first lines are border; 0 if all are."""
    level = np.sort(lines[0])[lines.shape[1] // 2]
    for start in range(0, len(lines), _LINES):
        some = lines[start : start + _LINES]
        busy = (np.abs(some - level) > _PLAIN).sum(axis=1) > _BUSY * lines.shape[1]
        if busy.any():
            return start + int(busy.argmax())
    return 0


# ---- kept by content ----------------------------------------------------------------------------


class SignatureStore:
    """Signatures by the content digest of their image, in one SQLite file.

    Several processes may use it at once; a killed one loses its last few images.

    Args:
        path: the file; need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def look(
        self,
        images: Sequence[Image],
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> list[Signed | UserError]:
        """Digest and signature of each image; each content is decoded once and ever.

        Args:
            images: they may hold the same content several times.
            advance: called with the number of contents decoded and of all that must be.

        Returns:
            One entry per image; for an image that cannot be read, the error.
        """
        digests = [_digest(image) for image in images]
        wanted = {d: i for d, i in zip(digests, images, strict=True) if isinstance(d, str)}
        with closing(self._open()) as database:
            found: dict[str, Signature | UserError] = dict(self._get(database, wanted))
            missing = {digest: image for digest, image in wanted.items() if digest not in found}
            made: dict[str, Signature | UserError] = {}
            signed = parallel.ordered(_attempt, missing.items())
            for done, ((digest, _), result) in enumerate(signed, 1):
                made[digest] = result
                if len(made) == _BATCH or done == len(missing):
                    self._put(database, made)
                    found |= made
                    made = {}
                advance(done, len(missing))
        results: list[Signed | UserError] = []
        for content in digests:
            one = content if isinstance(content, UserError) else found[content]
            results.append(one if isinstance(one, UserError) else Signed(str(content), one))
        return results

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            database = sqlite3.connect(self.path, timeout=600)
            with database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS signatures (digest TEXT PRIMARY KEY, pixels TEXT, "
                    "box BLOB, thumbnail BLOB) WITHOUT ROWID"
                )
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error
        return database

    def _get(
        self, database: sqlite3.Connection, digests: Iterable[str]
    ) -> Iterator[tuple[str, Signature]]:
        query = "SELECT pixels, box, thumbnail FROM signatures WHERE digest = ?"
        try:
            for digest in digests:
                row = database.execute(query, (digest,)).fetchone()
                if row is not None:
                    yield digest, _unpack(*row)
        except (sqlite3.DatabaseError, ValueError) as error:
            raise self._damaged(error) from error

    def _put(self, database: sqlite3.Connection, made: dict[str, Signature | UserError]) -> None:
        rows = [
            (digest, one.pixels, *(_little_endian(array).tobytes() for array in one[1:]))
            for digest, one in made.items()
            if not isinstance(one, UserError)
        ]
        with database:
            database.executemany("INSERT OR REPLACE INTO signatures VALUES (?, ?, ?, ?)", rows)

    def _damaged(self, error: Exception) -> UserError:
        return UserError(
            f"signature file {self.path} is damaged ({error}); delete it and run again"
        )


def store(cache: Path) -> SignatureStore:
    """The store of a cache folder."""
    return SignatureStore(cache / "audit" / f"signatures-{FORMAT}.sqlite")


def _digest(image: Image) -> str | UserError:
    try:
        return image.digest()
    except UserError as error:
        return error


def _attempt(wanted: tuple[str, Image]) -> Signature | UserError:
    try:
        return signature(still(wanted[1]).read())
    except UserError as error:
        return error


def _unpack(pixels: str, box: bytes, thumbnail: bytes) -> Signature:
    return Signature(
        pixels,
        np.frombuffer(box, "<f4").reshape(4),
        np.frombuffer(thumbnail, np.uint8).reshape(THUMBNAIL, THUMBNAIL),
    )


def _little_endian(array: np.ndarray) -> np.ndarray:
    return array.astype(array.dtype.newbyteorder("<"))
