"""Which frames a step sees: sets drawn by their capped size, frames uniformly within a set (eq. 6).

    P(D) = min(|D|, N_t) / sum of the same over all sets

Draws are with replacement, and a pure function of (seed, step): no position need be stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.hashing import seed_for


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
