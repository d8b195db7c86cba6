"""Test samples by what is drawn as one: patients, videos, or single samples.

N is the number of samples, G of clusters, S of strata.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clusters:
    """The test samples by the unit that is drawn."""

    member: np.ndarray
    """int64 [N]: the cluster of each sample, 0 ... count - 1."""
    count: int
    """G."""
    held: np.ndarray
    """Which strata (classes, where a task has any) have samples in which cluster, bool [G, S]."""

    @property
    def stratum(self) -> np.ndarray:
        """Of each cluster its stratum, [G]; of one with several that which the fewest hold."""
        rank = np.argsort(np.argsort(self.held.sum(0), kind="stable"))
        return np.asarray(np.where(self.held, rank, self.held.shape[1]).argmin(1))

    @classmethod
    def of(
        cls, groups: Sequence[str] | None, strata: np.ndarray, count: int | None = None
    ) -> Clusters:
        """One cluster a group name; without groups each sample is its own.

        Args:
            groups: N names, or None.
            strata: the stratum of each sample, int64 [N]: class codes, or zeros.
            count: S; one more than the largest by default.
        """
        if groups is None:
            member, clusters = np.arange(len(strata)), len(strata)
        else:
            names, member = np.unique(np.asarray(groups), return_inverse=True)
            clusters = len(names)
        held = np.zeros((clusters, int(strata.max()) + 1 if count is None else count), bool)
        held[member, strata] = True
        return cls(member, clusters, held)
