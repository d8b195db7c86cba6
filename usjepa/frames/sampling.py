"""Which frames are trained on, and which of them a step sees.

Some are held out, by whole groups. Of the others, sets are drawn by their capped size and frames
uniformly within a set (eq. 6):

    P(D) = min(|D|, N_t) / sum of the same over all sets

Draws are with replacement, and a pure function of (seed, step): no position need be stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.hashing import seed_for
from usjepa.frames.store import Frames


class CappedSampler:
    """Draws frames for training steps.

    Args:
        sets: the numbers of the frames of each set, int64 [n] each; sets without any are left out.
        cap: N_t, the most frames of a set that count.
        batch_size: frames of a step, over all processes.
        seed: of the run.

    Raises:
        UserError: the sets together count for less than one batch.
    """

    def __init__(self, sets: Sequence[np.ndarray], cap: int, batch_size: int, seed: int) -> None:
        self.sets = [numbers for numbers in sets if len(numbers)]
        self.batch_size = batch_size
        self.seed = seed
        counted = np.array([min(len(numbers), cap) for numbers in self.sets], dtype=np.int64)
        self.epoch_frames = int(counted.sum())
        """Draws of an epoch, the sum of eq. 6."""
        self.steps_per_epoch = self.epoch_frames // batch_size
        """A last partial batch is dropped."""
        if not self.steps_per_epoch:
            raise UserError(
                f"{self.epoch_frames} training frames do not fill one batch of {batch_size}; give "
                "more frames, or a smaller train.batch_size"
            )
        self.probabilities = counted / self.epoch_frames
        """P(D) of each set that has frames, float64."""

    def numbers(self, step: int) -> np.ndarray:
        """Numbers of the frames of a step, int64 [batch_size].

        Args:
            step: from 0.
        """
        generator = np.random.default_rng(seed_for(self.seed, f"frames, step {step}"))
        draws = generator.random((2, self.batch_size))
        bounds = self.probabilities.cumsum()[:-1]
        chosen = np.searchsorted(bounds, draws[0], side="right")
        lengths = np.array([len(numbers) for numbers in self.sets])[chosen]
        places = (draws[1] * lengths).astype(np.int64)
        pairs = zip(chosen.tolist(), places.tolist(), strict=True)
        return np.array([self.sets[one][place] for one, place in pairs], dtype=np.int64)


def hold_out(frames: Frames, share: float, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Split each set by whole groups (videos, patients, single stills).

    A set's split depends on its own frames and the seed only. At least one group is held out of a
    set with two or more if `share` is above 0, and never all of them. Groups of more than twice
    the wanted frames stay in training if there are smaller ones.

    Args:
        frames: an index of S sets.
        share: of each set's frames that are held out, in [0, 1).
        seed: of the run.

    Returns:
        Numbers of the training frames, int64 [n], of each of the S sets; likewise of those that
        are held out. All ascending.
    """
    train, held = [], []
    for name in frames.sets:
        out = _held_out(frames.groups(name), share, seed)
        numbers = np.arange(len(out), dtype=np.int64) + frames.first(name)
        train.append(numbers[~out])
        held.append(numbers[out])
    return train, held


def _held_out(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which frames are held out, bool [n], by their groups, uint64 [n]."""
    known, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if share <= 0 or len(known) < 2:
        return np.zeros(len(groups), bool)
    wanted = share * len(groups)
    order = np.argsort(_mixed(known, seed_for(seed, "held-out groups")), kind="stable")
    small = sizes[order] <= max(2 * wanted, sizes.min())
    order = order[small]
    # Groups in order until taking the next would bring the count no nearer to what is wanted.
    count = 1 + int(np.abs(sizes[order].cumsum() - wanted).argmin())
    chosen = np.zeros(len(known), bool)
    chosen[order[: min(count, len(known) - 1)]] = True
    return np.asarray(chosen[member])


def _mixed(values: np.ndarray, seed: int) -> np.ndarray:
    """Hashes of 64-bit values that a seed changes throughout, uint64 [n]: SplitMix64's mixer."""
    mixed = values ^ np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
