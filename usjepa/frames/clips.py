"""Clips: which frames of a video one is made of, and videos on their way into an index.

A video is decoded twice, frame by frame: once to see that all of it can be read and that no frame
of it is a test image, and once to be written. So a video is there whole or not at all, and nobody
holds more of it than a few frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

import numpy as np

from model_zoo.clip_rule import ClipRule
from tasks.samples.clips import Clip
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.parallel import ordered
from usjepa.config import Video
from usjepa.frames import preprocess
from usjepa.frames.sources import LeftOut, ListedClip
from usjepa.frames.store import LONGEST_SIDE, Settings
from usjepa.frames.writer import Packed, Writer, pack

CHUNK = 32  # frames that are decoded together at most
CHUNK_BYTES = 2**27

Draw = Callable[[int, int], int]
"""A whole number from the first to below the second, at random."""


# ---- which frames


def positions(
    count: int, rate: float | None, video: Video, draw: Draw | None = None
) -> Sequence[int]:
    """The frames of a video that a clip is made of; as many as `video.frames`.

    Args:
        count: frames of the video.
        rate: its frames a second; None where nothing tells.
        video: how clips are made.
        draw: for a random start; None: from the first frame.
    """
    if video.spacing == "spread":
        return ClipRule(video.frames, "spread").positions(count)
    step = video.step
    if video.spacing == "rate" and rate is not None:
        step = max(1, int(np.ceil(rate) // video.rate))  # as V-JEPA 2's loader
    (window,) = windows(count, video.frames, step, draw=draw if video.random_start else None)
    return window


def windows(
    count: int,
    frames: int,
    step: int,
    clips: int = 1,
    overlap: bool = False,
    draw: Draw | None = None,
) -> list[list[int]]:
    """Frames of the clips of a video as the official loader takes them.

    That is V-JEPA's `VideoDataset.loadvideo_decord` (facebookresearch/jepa 51c59d5): the video is
    cut into as many parts as there are clips, and each gives a window of `frames` x `step` frames,
    in which a little more than `step` lie between two. A part that is no longer than a window gives
    one frame of `step`, from first to last, and then its last frame again and again: a short video
    is mostly a still.

    Args:
        count: frames of the video.
        frames: of a clip.
        step: frames of the video for one of the clip.
        clips: how many are wanted.
        overlap: whether clips of a short video may share frames; else its parts are short.
        draw: for windows that start at random; None: at the start of each part.
    """
    window, part = frames * step, count // clips
    found = []
    for clip in range(clips):
        if part > window:
            end = window if draw is None else draw(window, part)
            places = np.linspace(end - window, end, frames).clip(end - window, end - 1)
            offset = clip * part
        else:
            length = part if not overlap else min(window, count) - 1
            places = np.linspace(0, length, length // step)
            places = np.append(places, np.full(frames - len(places), length)).clip(0, length - 1)
            apart = (count - window) // (clips - 1) if overlap and count > window else 0
            offset = clip * (apart if overlap else part)
        found.append((places.astype(np.int64) + offset).tolist())
    return found


# ---- into an index


class FrameMatch(Protocol):
    """An evaluation image that a frame equals or nearly equals."""

    @property
    def task(self) -> str:
        """Name of its task."""

    @property
    def image(self) -> str:
        """Its name in the task."""

    @property
    def grade(self) -> str:
        """How near the two are."""

    @property
    def correlation(self) -> float:
        """Of the texture; 1 for equal pixels."""


class FrameGuard(Protocol):
    """Finds the images of test sets among frames; see `usjepa.frames.guard`."""

    @property
    def tasks(self) -> Sequence[str]:
        """Names of the tasks that it knows."""

    @property
    def digest(self) -> str:
        """SHA-256 over their test images."""

    def check(self, images: list[np.ndarray]) -> Sequence[FrameMatch | None]:
        """For each image, uint8 RGB [H, W, 3], the test image that it is, if any."""


def evaluation_image(name: str, match: FrameMatch) -> LeftOut:
    """A frame or clip that shows a test image."""
    detail = f"{match.task} test image {match.image} ({match.grade}, {match.correlation:.2f})"
    return LeftOut(name, "evaluation image", detail)


def write(
    writer: Writer,
    cines: Iterator[tuple[int, ListedClip | LeftOut]],
    settings: Settings,
    guard: FrameGuard | None,
    report: Callable[[int], None],
) -> None:
    """Write videos to a set, each whole, or note why one is left out.

    Args:
        writer: of the set.
        cines: what there is, each with how many files were begun before it.
        settings: what to do to the frames.
        guard: looks for test images; a video that has one is left out.
        report: told how many files are done.
    """
    seen: set[str] = set()
    for number, cine in cines:
        report(number)
        known = cine if isinstance(cine, LeftOut) else _examined(cine, settings, guard)
        if isinstance(known, _Sound) and known.digest in seen:
            known = LeftOut(known.clip.name, "duplicate", f"digest {known.digest}")
        if isinstance(known, LeftOut):
            writer.remove(*known)
            continue
        seen.add(known.digest)
        name = known.clip.name
        writer.begin_clip(name, known.clip.count, known.clip.rate)
        for index, packed in _packed(known, settings):
            digest = hashing.digest({"clip": known.digest, "frame": index})
            writer.add_packed(f"{name}#{index}", known.group, digest, packed)


class _Sound(NamedTuple):
    """A video that can be written."""

    clip: Clip
    group: str
    digest: str
    region: np.ndarray
    """bool [H, W], at the video's own size."""


def _examined(cine: ListedClip, settings: Settings, guard: FrameGuard | None) -> _Sound | LeftOut:
    """Look at every frame of a video."""
    clip, name = cine.clip, cine.clip.name
    try:
        digest = clip.digest()
        if clip.count < 2:
            return LeftOut(name, "one frame")
        region = cine.mask.read()
        if region.shape != clip.size:
            detail = f"the region is {region.shape}, the frames {clip.size}"
            return LeftOut(name, "corrupt region", detail)
        small, inside = preprocess.reduced(np.zeros(clip.size, np.uint8), region, settings.size)
        if max(small.shape) > LONGEST_SIDE:
            return LeftOut(name, "too long", f"{clip.size[1]} x {clip.size[0]} pixels")
        if not inside.any():
            return LeftOut(name, "empty region")
        visible = False
        for frames in _chunks(clip, digest):
            visible = visible or any(preprocess.has_contrast(one, region) for one in frames)
            for match in guard.check(frames) if guard is not None else ():
                if match is not None:
                    return evaluation_image(name, match)
    except UserError as error:
        return LeftOut(name, "corrupt", str(error))
    except MemoryError as error:
        return LeftOut(name, "too large", f"a frame does not fit into memory: {error}")
    return _Sound(clip, cine.group, digest, region) if visible else LeftOut(name, "no contrast")


def _chunks(clip: Clip, digest: str) -> Iterator[list[np.ndarray]]:
    """All frames in order, a few at a time."""
    height, width = clip.size
    size = max(1, min(CHUNK, CHUNK_BYTES // (3 * height * width)))
    frames = (pixels for _, pixels in clip.stream(digest))
    while chunk := list(islice(frames, size)):
        yield chunk


def _packed(cine: _Sound, settings: Settings) -> Iterator[tuple[int, Packed]]:
    """The frames of a video as they are stored, with their positions."""

    def work(frame: tuple[int, np.ndarray]) -> Packed:
        image = frame[1]
        pixels = preprocess.grey(image, settings.inpaint_below) if settings.grey else image
        return pack(*preprocess.reduced(pixels, cine.region, settings.size))

    for (index, _), packed in ordered(work, cine.clip.stream(cine.digest)):
        yield index, packed
