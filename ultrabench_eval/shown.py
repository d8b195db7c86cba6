"""What an encoder is shown of a sample: an image as it is; of a video, frames in an order.

An encoder of clips is shown the frames that its own rule names. One of images is shown the frames
of `POOLED` one by one, and what it gives for them is averaged: the mean has no order, so a video
whose frames are shuffled gives the very same bytes. Of a video with a mask it is shown the frame
that the mask is of, and nothing else.

T is the number of frames.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from model_zoo import Encoder
from model_zoo.clip_rule import ClipRule
from tasks.samples.clips import Clip, is_clip
from tasks.samples.images import Image, changed
from ultrabench_eval import corrupt
from ultrabench_eval.cells import FRAMES_POOLED, STILL_REPEATED
from ultrabench_eval.core import hashing

POOLED = ClipRule()
"""Which frames of a video an encoder of images is shown."""
Takes = Literal["image", "clip"]


@dataclass(frozen=True)
class ShownFrames:
    """Frames of a video as an encoder is shown them, read when they are needed.

    Args:
        clip: the video.
        positions: T of its frames in the order in which they are shown.
        weights: T, how often each counts in the mean of an encoder of images; empty for an encoder
            of clips, which is shown all at once.
        place: of the labelled frame among `positions`, whose map is wanted; None without one.
    """

    clip: Clip
    positions: tuple[int, ...]
    weights: tuple[int, ...] = ()
    place: int | None = None

    @property
    def name(self) -> str:
        """The video's."""
        return self.clip.name

    def read(self, digest: str | None = None) -> np.ndarray:
        """The frames, uint8 RGB [T, H, W, 3].

        Args:
            digest: what `digest` gave before; what is decoded must still have it.

        Raises:
            UserError: the video is damaged, or changed.
        """
        if digest is not None and self.digest() != digest:
            raise changed("video", self.name)
        return self.clip.read(self.clip.digest(), self.positions)

    def digest(self) -> str:
        """SHA-256 of the video's content and of what is shown of it, however that came about."""
        how = {"positions": self.positions, "weights": self.weights, "place": self.place}
        return hashing.digest({"clip": self.clip.digest(), **how})


Sample = Image | ShownFrames
"""What a store keeps a row of."""


class EncoderInputs(NamedTuple):
    """What goes through a network for one sample."""

    tensors: list[Tensor]
    """Prepared images [3, S, S], or one prepared clip [T, 3, S, S]."""
    weights: Sequence[int]
    """Of each in the mean over them."""
    place: int | None
    """See `ShownFrames`."""


def of(
    sample: Image | Clip,
    takes: Takes,
    rule: ClipRule | None,
    kind: str = "pooled",
    corruption: str = "none",
    severity: int = 0,
    seed: int = 0,
) -> Sample:
    """What an encoder is shown of a sample.

    Args:
        sample: an image, which is shown as it is; or a video.
        takes: what the encoder takes.
        rule: of an encoder of clips.
        kind: of features (`features.Kind`).
        corruption: a temporal one, or "none".
        severity: of it.
        seed: of corrupted test sets.
    """
    if not is_clip(sample):
        return sample
    at = sample.at
    if takes == "image" and kind == "maps" and at is not None:
        return ShownFrames(sample, (at,), (1,))
    rule = rule if takes == "clip" and rule is not None else POOLED
    positions = rule.positions(sample.count, sample.rate, at)
    if corruption != "none":
        own = hashing.seed_for(seed, f"image/{sample.digest()}")
        positions = corrupt.reordered(positions, corruption, severity, at=at, seed=own)
    if takes == "image":
        counted = Counter(positions)
        distinct = tuple(sorted(counted))
        return ShownFrames(sample, distinct, tuple(counted[position] for position in distinct))
    place = None
    if at is not None:
        middle = len(positions) // 2
        same = [n for n, position in enumerate(positions) if position == at]
        place = min(same, key=lambda n: abs(n - middle))
    return ShownFrames(sample, tuple(positions), (), place)


def inputs(encoder: Encoder, sample: Sample, digest: str | None = None) -> EncoderInputs:
    """What goes through an encoder for a sample that was made for it by `of`.

    Raises:
        UserError: it cannot be read, or is not what `digest` was made of.
    """
    pixels = sample.read(digest)
    if not isinstance(sample, ShownFrames):
        return EncoderInputs([encoder.prepare(pixels)], (1,), None)
    if sample.weights:
        return EncoderInputs([encoder.prepare(frame) for frame in pixels], sample.weights, None)
    return EncoderInputs([encoder.prepare(pixels)], (1,), sample.place)


def parts(sample: Sample) -> int:
    """How many inputs of an encoder there are of a sample."""
    return len(sample.weights) or 1 if isinstance(sample, ShownFrames) else 1


def frames(sample: Image | Clip) -> list[Image]:
    """The images that a sample is made of: itself, or the frames of `POOLED`, each once."""
    if not is_clip(sample):
        return [sample]
    positions = POOLED.positions(sample.count, sample.rate, sample.at)
    return [sample.frame(position) for position in dict.fromkeys(positions)]


def told(takes: Takes, clips: bool) -> str:
    """What tables say where an encoder is not shown what it takes; "" where it is."""
    if clips == (takes == "clip"):
        return ""
    return FRAMES_POOLED if clips else STILL_REPEATED
