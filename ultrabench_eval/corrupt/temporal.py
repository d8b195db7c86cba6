"""What goes wrong with the time of a video: other positions, of frames that stay as they are.

Each function takes (positions, at, level, rng): the T positions of the frames that an encoder is
shown, in order; the one of them that is labelled, or None; a level; and a generator, whose draws do
not depend on the level. It gives T positions, the labelled one among them, and none outside of the
first and the last.

The first three are controls, without a level: a model that loses nothing under them looks at frames
and not at their order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def shuffled(
    positions: Sequence[int], at: int | None, level: float, rng: np.random.Generator
) -> list[int]:
    """The same frames in a random order."""
    return [positions[place] for place in rng.permutation(len(positions))]


def reversed(
    positions: Sequence[int], at: int | None, level: float, rng: np.random.Generator
) -> list[int]:
    """The same frames backwards."""
    return list(positions[::-1])


def repeated(
    positions: Sequence[int], at: int | None, level: float, rng: np.random.Generator
) -> list[int]:
    """One frame all the time: the labelled one, or the one in the middle."""
    return [_middle(positions, at)] * len(positions)


def dropped(
    positions: Sequence[int], at: int | None, level: float, rng: np.random.Generator
) -> list[int]:
    """Each frame is lost with a probability of `level` percent, and the one before it stays.

    The first frame and the labelled one are never lost.
    """
    lost = 100 * rng.random(len(positions)) < level
    found = list(positions[:1])
    for position, gone in zip(positions[1:], lost[1:], strict=True):
        found.append(found[-1] if gone and position != at else position)
    return found


def jitter(
    positions: Sequence[int], at: int | None, level: float, rng: np.random.Generator
) -> list[int]:
    """Each frame is of another moment, off by a normal error whose sd is `level` times the spacing.

    The labelled frame stays.
    """
    low, high = min(positions), max(positions)
    spacing = (high - low) / max(1, len(positions) - 1)
    moved = np.asarray(positions) + level * spacing * rng.standard_normal(len(positions))
    kept = np.where(np.asarray(positions) == at, positions, np.rint(moved).clip(low, high))
    return [int(position) for position in kept]


def speed(
    positions: Sequence[int], at: int | None, level: float, rng: np.random.Generator
) -> list[int]:
    """The video runs `level` times as slowly, about the labelled frame or the middle."""
    centre = _middle(positions, at)
    return [centre + round((position - centre) / level) for position in positions]


def _middle(positions: Sequence[int], at: int | None) -> int:
    return positions[len(positions) // 2] if at is None else at
