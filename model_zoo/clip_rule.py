"""Which frames of a video a clip encoder looks at: declared as data, applied by one function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Spacing = Literal["spread", "stride", "rate"]
Short = Literal["last", "wrap"]


@dataclass(frozen=True)
class ClipRule:
    """How many frames a network sees, and which ones; part of the encoder's fingerprint.

    Raises:
        ValueError: a count or a rate that is not positive.
    """

    frames: int = 16
    """T, the length of a clip."""
    spacing: Spacing = "spread"
    """"spread": evenly from the video's first frame to its last, `round(linspace(0, n - 1, T))`.
    "stride": every `step`-th frame from the first one on. "rate": as near to `rate` frames a second
    as whole steps allow and not fewer, `ceil(video's rate) // rate` as in V-JEPA 2; every `step`-th
    frame of a video whose rate is not known."""
    step: int = 1
    rate: float = 0.0
    short: Short = "last"
    """What follows when a video ends before the clip does: "last", its last frame again and again;
    "wrap", the video from its start. Of no account where frames are spread."""

    def __post_init__(self) -> None:
        if self.frames < 1 or self.step < 1 or (self.spacing == "rate" and not self.rate > 0):
            raise ValueError(f"a clip rule needs at least one frame and a step above 0; got {self}")

    def positions(self, count: int, rate: float | None = None, at: int | None = None) -> list[int]:
        """The frames of a video, exactly `frames` of them, each from 0 to `count` - 1.

        They never go back in time, unless a short video starts again. Frames repeat where there are
        fewer than are wanted; a video of one frame is that frame throughout.

        Args:
            count: frames of the video.
            rate: its frames a second, None where that is not known.
            at: a frame that must be among them, such as one that has a mask. A clip that does not
                take in the whole video lies around it, and the frame nearest to it moves onto it.

        Raises:
            ValueError: no frames, or `at` is not one of them.
        """
        if count < 1:
            raise ValueError(f"a video must have at least one frame; got {count}")
        if at is not None and not 0 <= at < count:
            raise ValueError(f"frame {at} is not in a video of {count} frames")
        found = self._spread(count) if self.spacing == "spread" else self._steps(count, rate, at)
        if at is not None and at not in found:
            nearest = min(range(len(found)), key=lambda place: abs(found[place] - at))
            found[nearest] = at
        return found

    def _spread(self, count: int) -> list[int]:
        last = max(1, self.frames - 1)
        return [round(place * (count - 1) / last) for place in range(self.frames)]

    def _steps(self, count: int, rate: float | None, at: int | None) -> list[int]:
        step = self.step
        if self.spacing == "rate" and rate:
            step = max(1, int(math.ceil(rate) // self.rate))
        wanted = [place * step for place in range(self.frames)]
        start = 0
        if at is not None:
            start = max(0, min(at - self.frames // 2 * step, count - 1 - wanted[-1]))
        if self.short == "wrap":
            return [(start + place) % count for place in wanted]
        return [min(start + place, count - 1) for place in wanted]

    def __str__(self) -> str:
        """In words, such as "16 frames, every 4th"."""
        if self.spacing == "spread":
            return f"{self.frames} frames over the whole video"
        if self.spacing == "rate":
            return f"{self.frames} frames, {self.rate:g} a second"
        return f"{self.frames} frames, " + (
            "one after the other" if self.step == 1 else f"one of {self.step}"
        )
