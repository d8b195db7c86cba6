"""The contract of a sample that is a video, and what to do with any sample, image or video.

A clip takes the place of an image in `Split.images`; `tasks.samples.clip_files` has the kinds there
are. Only the frames that are asked for are ever held.

T, H and W are the number of frames, rows and columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeGuard

import numpy as np

from tasks.samples.images import Image


class Clip(Protocol):
    """One sample that is a video."""

    @property
    def name(self) -> str:
        """Unique within its task and the same on every machine."""

    @property
    def count(self) -> int:
        """Frames there are.

        Raises:
            UserError: the file is damaged.
        """

    @property
    def rate(self) -> float | None:
        """Frames a second, on average where they are shown for different times; None if nothing
        tells."""

    @property
    def at(self) -> int | None:
        """The frame (0 to count - 1) that a mask is of; None: the target is of the whole clip."""

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres between the rows and between the columns; None where nothing tells."""

    @property
    def size(self) -> tuple[int, int]:
        """H and W, of all frames."""

    def read(self, digest: str | None = None, positions: Sequence[int] | None = None) -> np.ndarray:
        """Frames, uint8 RGB [T, H, W, 3]; nobody else has this array.

        Args:
            digest: what `digest` gave before; the bytes that are decoded must still have it.
            positions: of the frames, from 0, in any order; they may repeat. None: all.

        Raises:
            UserError: the file is damaged, cut off, of a kind that is not supported, or changed.
            IndexError: a position that is none.
        """

    def stream(
        self, digest: str | None = None, positions: Iterable[int] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """What `read` gives one frame at a time, from the first to the last, each once."""

    def digest(self) -> str:
        """SHA-256 of the content and of all that changes which frames are shown, and how: `at` and
        a rate that the file does not state."""

    def frame(self, index: int) -> Image:
        """One frame as an image."""


def is_clip(sample: object) -> TypeGuard[Clip]:
    """Whether a sample of `Split.images` is a video."""
    return hasattr(sample, "count") and hasattr(sample, "frame")


def still(sample: Image) -> Image:
    """What one picture shows of a sample: an image itself; of a video the frame that a mask is of,
    or the middle one."""
    if not is_clip(sample):
        return sample
    return sample.frame(sample.count // 2 if sample.at is None else sample.at)


def content(sample: Image) -> str:
    """SHA-256 of what a sample was made from: two masked frames of one video have it in common."""
    if is_clip(sample) and sample.at is not None and dataclasses.is_dataclass(sample):
        sample = dataclasses.replace(sample, at=None)
    return sample.digest()
