"""The ultrasound region of an image: without border, text, bars, logos and thumbnails.

An image shows a sector, a rectangle, or, cropped, nothing but ultrasound. Around it the screen has
one flat level, and what stands there is small. A copy of at most 256 pixels tells where the large
things are that stand out; `scan_geometry` finds the shape of their edges, which is drawn at full
size. Tissue too dark to stand out is thus inside, as long as enough of the edges shows.

H, W are the image's size, h, w that of the copy, N the number of edge points.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageDraw
from scipy import ndimage

from tasks.samples.clips import Clip
from tasks.samples.images import RELEASE, Image, decode
from tasks.scan.scan_geometry import BEYOND, Edges, fit
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

VERSION = "1"
"""Raised whenever `estimate` or `of_frames` would give another mask for some image."""

WORKING_SIZE = 256
STEP = 5.0  # grey levels by which ultrasound stands out from the screen
DARK = 64  # the screen is darker
LIT = 50  # grey levels by which the better part of the foreground stands out, at most
BRIGHT = 40  # grey levels by which text stands out from the screen, at least


class Region(NamedTuple):
    """Where the ultrasound is.

    Args:
        mask: bool [H, W], never empty.
        kind: "sector" (curved or phased array, trapezoid), "linear" (rectangle), "full" (the whole
            image), or "unknown" (a constant image; the mask is all True).
    """

    mask: np.ndarray
    kind: str


def estimate(image: np.ndarray) -> np.ndarray:
    """The ultrasound region of an image, bool [H, W]; all True where nothing tells it apart.

    Args:
        image: uint8 [H, W, 3] or [H, W].
    """
    return find(image).mask


def find(image: np.ndarray) -> Region:
    """`estimate`, with the kind of region; a pure function of the pixels."""
    grey = _grey(image)
    everything = np.ones(grey.shape, bool)
    copy = _reduced(grey)
    level = _screen_level(copy)
    if level is None:
        return Region(everything, "full" if np.ptp(copy) > STEP else "unknown")
    foreground = _foreground(grey, level)
    if not foreground.any():
        return Region(everything, "unknown")
    shape = fit(_edges(copy, level, foreground), foreground)
    mask = shape.draw(copy.shape, grey.shape)
    if not mask.any():
        return Region(everything, "unknown")
    if shape.sector is not None:
        return Region(mask, "sector")
    return Region(everything, "full") if mask.mean() > 0.97 else Region(mask, "linear")


def of_frames(frames: Sequence[np.ndarray]) -> np.ndarray:
    """One region for the frames of a clip, bool [H, W]; of one frame, its `estimate`.

    It is that of the mean frame, in which passing shadows are lit. What is bright but never changes
    (text, bars) is taken away first, unless it lies at moving tissue, as the skin does.

    Args:
        frames: uint8 [H, W, 3] or [H, W], one or more, all of one size; at most 16
            of them, evenly spread, are looked at.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, 16).round().astype(int))
    greys = np.stack([_grey(frames[i]) for i in chosen])
    mean = greys.mean(axis=0).astype(np.uint8)
    changes = _reduced((np.ptp(greys, axis=0) > 2 * STEP).astype(np.uint8) * np.uint8(255))
    still = ndimage.uniform_filter(changes, 2 * _window(changes) + 1) < 0.05 * 255
    level = _screen_level(_reduced(mean))
    if level is not None and still.mean() < 0.8:  # else a frozen clip
        still = np.asarray(PIL.Image.fromarray(still).resize(mean.shape[::-1]))
        mean = np.where(still & (mean > level + BRIGHT), np.uint8(level), mean)
    return find(mean).mask


# From pixels to edge points


def _grey(image: np.ndarray) -> np.ndarray:
    """Luma, uint8 [H, W]."""
    return np.asarray(PIL.Image.fromarray(np.ascontiguousarray(image)).convert("L"))


def _reduced(grey: np.ndarray) -> np.ndarray:
    """Means over the cells of a copy of at most WORKING_SIZE pixels, float32 [h, w]."""
    scale = min(1.0, WORKING_SIZE / max(grey.shape))
    width, height = (max(1, round(side * scale)) for side in grey.shape[::-1])
    picture = PIL.Image.fromarray(grey)
    return np.asarray(picture.resize((width, height), PIL.Image.Resampling.BOX), np.float32)


def _window(grey: np.ndarray) -> int:
    """Odd width of the filter that is wider than strokes and bars."""
    height, width = grey.shape
    return 2 * int(min(max(height, width) / 64, min(height, width) / 16) + 0.5) + 1


def _screen_level(grey: np.ndarray) -> int | None:
    """The level of the screen around the region: that of the most dark, flat places, if any."""
    inner = grey[1:-1, 1:-1]
    beside = grey[:-2, 1:-1], grey[2:, 1:-1], grey[1:-1, :-2], grey[1:-1, 2:]
    flat = np.all([np.abs(inner - other) < STEP / 2 for other in beside], axis=0)
    levels = np.rint(inner[flat & (inner < DARK)]).astype(int)
    return int(np.bincount(levels).argmax()) if len(levels) > 0.004 * grey.size else None


def _foreground(grey: np.ndarray, level: int) -> np.ndarray:
    """Large connected areas that stand out from the screen, bool [h, w], without strokes."""
    # Counted before reducing: cells of small text are grey all over, but half of its pixels aren't.
    darker, brighter = level - STEP, level + STEP
    stands_out = _reduced(((grey <= darker) | (grey >= brighter)).view(np.uint8) * np.uint8(255))
    dense = ndimage.uniform_filter(stands_out, _window(stands_out), mode="nearest") > 127
    labels, _ = ndimage.label(dense)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    large = areas > 0.05 * max(areas.max(), 1)
    return ndimage.binary_fill_holes(large[labels])


def _edges(grey: np.ndarray, level: int, foreground: np.ndarray) -> Edges:
    outside = np.pad(~foreground, 1, constant_values=True)
    beside = outside[:-2, 1:-1] | outside[2:, 1:-1] | outside[1:-1, :-2] | outside[1:-1, 2:]
    rows, columns = np.nonzero(foreground & beside)
    height, width = foreground.shape
    at_end = (rows % (height - 1) == 0) | (columns % (width - 1) == 0)
    mean = ndimage.uniform_filter(grey, _window(grey), mode="nearest") - level
    sharpness = mean[rows, columns] / np.clip(float(np.median(mean[foreground])), 1, LIT)
    votes = np.where(at_end, 0, np.clip((sharpness - 0.1) / 0.25, 0.05, 1))
    # From the light to the dark over five pixels.
    padded = np.pad(ndimage.uniform_filter(foreground.astype(np.float32), 5), 1, mode="edge")
    x = padded[1 + rows, columns] - padded[1 + rows, columns + 2]
    y = padded[rows, 1 + columns] - padded[rows + 2, 1 + columns]
    facing = np.stack([x, y], axis=1) / np.maximum(np.hypot(x, y), 1e-6)[:, None]
    points = np.stack([columns, rows], axis=1) + 0.5
    return Edges(points, facing, votes, BEYOND * np.where(at_end, 1, votes))


# What tasks hand out as `Split.scan_masks`


@dataclass(frozen=True)
class EstimatedMask:
    """The estimated region of an image."""

    image: Image

    @property
    def name(self) -> str:
        """The image's name."""
        return self.image.name

    def read(self) -> np.ndarray:
        """The mask, bool [H, W]; see `estimate`."""
        return estimate(self.image.read())

    def digest(self) -> str:
        """SHA-256 over the image's digest and the estimator's version."""
        return hashing.digest({"estimated": VERSION, "image": self.image.digest()})


@dataclass(frozen=True)
class ClipMask:
    """The estimated region of a clip, the same for all its frames."""

    frames: tuple[Image, ...]
    name: str

    def read(self) -> np.ndarray:
        """The mask, bool [H, W], read-only; see `of_frames`. The last few clips' are kept."""
        return _clip_mask(self.frames)

    def digest(self) -> str:
        """SHA-256 over the frames' digests and the estimator's version."""
        frames = [frame.digest() for frame in self.frames]
        return hashing.digest({"estimated": VERSION, "frames": frames})


@dataclass(frozen=True)
class CineMask:
    """The estimated region of a clip that is one sample."""

    clip: Clip

    @property
    def name(self) -> str:
        """The clip's name."""
        return self.clip.name

    def read(self) -> np.ndarray:
        """The mask, bool [H, W], read-only; see `of_frames`. The last few clips' are kept."""
        return _cine_mask(self.clip, self.clip.digest())  # type: ignore[arg-type]

    def digest(self) -> str:
        """SHA-256 over the clip's digest and the estimator's version."""
        return hashing.digest({"estimated": VERSION, "clip": self.clip.digest()})


LOOKED_AT = 16
"""Frames of a video that its region is estimated from, spread evenly."""


@lru_cache(maxsize=8)
def _cine_mask(clip: Clip, digest: str) -> np.ndarray:
    count = clip.count
    places = np.linspace(0, count - 1, min(count, LOOKED_AT)).round().astype(int)
    mask = of_frames(list(clip.read(digest, places.tolist())))
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=8)
def _clip_mask(frames: tuple[Image, ...]) -> np.ndarray:
    mask = of_frames([frame.read() for frame in frames])
    mask.flags.writeable = False
    return mask


@dataclass(frozen=True)
class OutlineMask:
    """A polygon that AUL's annotators drew around the region: a JSON list of [x, y].

    Its coordinates are of the image as released, whose size it does not state. A copy of another
    size is noticed only if the polygon reaches out of it.
    """

    path: Path
    image: Image

    @property
    def name(self) -> str:
        """The image's name."""
        return self.image.name

    def read(self) -> np.ndarray:
        """The mask, bool [H, W]: the polygon's inside and border, drawn by Pillow.

        Raises:
            UserError: no polygon, or it reaches out of the image.
        """
        try:
            points = np.array(json.loads(self.path.read_text(encoding="utf-8")), np.float64)
        except (OSError, ValueError, TypeError) as error:
            raise _unreadable(self.path, error) from error
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
            raise _unreadable(self.path, "not a list of three or more [x, y]")
        height, width = self.image.read().shape[:2]
        if not (points.min() >= -1 and (points.max(axis=0) <= (width + 1, height + 1)).all()):
            raise UserError(
                f"outline {self.path} reaches to {points.max(axis=0).round().tolist()}, but its "
                f"image {self.image.name} has {width} x {height} pixels: it was resized; use the "
                "image as released, or remove the segmentation folder to have regions estimated"
            )
        canvas = PIL.Image.new("1", (width, height))
        PIL.ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in points], fill=1)
        return _marked(np.array(canvas), self.path)

    def digest(self) -> str:
        """SHA-256 over the polygon's file and the image's digest."""
        return hashing.digest({"file": _digest_file(self.path), "image": self.image.digest()})


@dataclass(frozen=True)
class MaskFile:
    """A mask in a grey image file of its own: 0 outside, 1 or 255 inside."""

    path: Path
    name: str

    def read(self) -> np.ndarray:
        """The mask, bool [H, W].

        Raises:
            UserError: not an image, of more than two levels, or all 0.
        """
        levels = decode(self.path, origin=RELEASE)[..., 0]
        if self.path.suffix.lower() in (".jpg", ".jpeg"):  # UltraBench's of GBCU are blurred so
            return _marked(levels > levels.max() // 2, self.path)
        if not set(np.unique(levels)) <= {0, 1, 255}:
            raise _unreadable(self.path, "a mask has the levels 0 and 1, or 0 and 255")
        return _marked(levels > 0, self.path)

    def digest(self) -> str:
        """SHA-256 over the file."""
        return _digest_file(self.path)


def _digest_file(path: Path) -> str:
    try:
        return hashing.digest_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _marked(mask: np.ndarray, path: Path) -> np.ndarray:
    if not mask.any():
        raise _unreadable(path, "it marks no pixel")
    return mask


def _unreadable(path: Path, why: object) -> UserError:
    return UserError(
        f"cannot read scan mask {path} ({why}); copy it again from the release or remove it"
    )
