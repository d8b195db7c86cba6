"""What is right for a sample: a class, a number, or a mask of its size.

N is the number of samples, H and W the sides of an image in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

IGNORED = 255
"""The code of pixels that no score looks at."""
Kind = Literal["class", "number", "mask"]


class LabelMask(Protocol):
    """The class of each pixel of one image; `tasks.samples.label_masks` has the kinds there are."""

    @property
    def name(self) -> str:
        """Says which file it is of, for messages."""

    @property
    def spacing(self) -> tuple[float, float] | None:
        """Millimetres between the rows and between the columns; None where they are not known."""

    def read(self) -> np.ndarray:
        """Class codes, uint8 [H, W], of the size of its image; 0 is background.

        Raises:
            UserError: a file is missing or damaged, or holds a code that is none.
        """

    def digest(self) -> str:
        """SHA-256 of all that the mask is made from, its spacing too."""


Target = int | float | LabelMask
Targets = np.ndarray | tuple[LabelMask, ...]
"""Class codes int64 [N], numbers float64 [N], or N masks."""


def of(targets: Sequence[Target]) -> Targets:
    """Those of N samples, all of one kind.

    Raises:
        TypeError: they are of several kinds.
    """
    if all(isinstance(one, int | np.integer) for one in targets):
        return np.array(targets, dtype=np.int64)
    if all(isinstance(one, float) for one in targets):
        return np.array(targets, dtype=np.float64)
    if any(isinstance(one, int | float | np.integer) for one in targets):
        raise TypeError("some targets are classes, some numbers or masks; give one kind")
    return tuple(targets)  # type: ignore[arg-type]


def kind(targets: Targets) -> Kind:
    """What they are.

    Raises:
        TypeError: an array of neither int64 nor float64.
    """
    if isinstance(targets, tuple):
        return "mask"
    if targets.dtype == np.int64:
        return "class"
    if targets.dtype == np.float64:
        return "number"
    raise TypeError(f"targets are {targets.dtype}; give int64 for classes, float64 for numbers")


def identity(targets: Targets) -> list[int] | list[float] | list[str]:
    """What tells these targets from others, for a fingerprint."""
    if isinstance(targets, tuple):
        return [mask.digest() for mask in targets]
    found: list[int] | list[float] = targets.tolist()
    return found
