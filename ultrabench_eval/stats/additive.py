"""What predictions add up to: K numbers a sample, of whose sums metrics are functions.

Bootstrap, tests, intervals and subsets need nothing else of a task. H is the number of seeds, N of
samples, G of clusters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ultrabench_eval.stats.clusters import Clusters


@dataclass(frozen=True)
class Additive:
    """Statistics of N samples by H seeds, K numbers each; only those that are not 0 are kept.

    Args:
        shape: H, N and K.
        seed: of each of E numbers, int64 [E].
        sample: the same.
        place: which of the K it is; several numbers of one place add up.
        value: float64 [E]; None if all are 1.
    """

    shape: tuple[int, int, int]
    seed: np.ndarray
    sample: np.ndarray
    place: np.ndarray
    value: np.ndarray | None = None

    @classmethod
    def dense(cls, statistics: np.ndarray) -> Additive:
        """That of an array [H, N, K]."""
        seed, sample, place = np.nonzero(statistics)
        shape = statistics.shape
        return cls(
            (shape[0], shape[1], shape[2]),
            *(seed, sample, place),
            statistics[seed, sample, place].astype(np.float64),
        )

    def by_cluster(self, clusters: Clusters) -> np.ndarray:
        """Sums over the samples of each cluster: float64 [G, H, K]."""
        seeds, _, width = self.shape
        row = clusters.member[self.sample] * seeds + self.seed
        size = clusters.count * seeds * width
        found = np.bincount(row * width + self.place, self.value, minlength=size)
        return found.astype(np.float64, copy=False).reshape(clusters.count, seeds, width)

    def total(self) -> np.ndarray:
        """Sums over all samples: float64 [H, K]."""
        seeds, _, width = self.shape
        flat = self.seed * width + self.place
        found = np.bincount(flat, self.value, minlength=seeds * width)
        return found.astype(np.float64, copy=False).reshape(seeds, width)

    def columns(self, member: np.ndarray, count: int) -> scipy.sparse.csr_array:
        """Sums over samples that are members of one of `count` columns: [H * K, count].

        float32 where all numbers are counts, which it holds exactly below 2 to the 24.

        Args:
            member: the column of each sample, int64 [N].
            count: of columns.
        """
        seeds, _, width = self.shape
        value: np.ndarray = np.ones(len(self.seed), np.float32)
        if self.value is not None:
            value = self.value
        return scipy.sparse.csr_array(
            (value, (self.seed * width + self.place, member[self.sample])),
            shape=(seeds * width, count),
        )
