"""Test images by what is drawn as one (patients, videos), and what predictions add up to in them.

H is the number of seeds, N of images, G of clusters, C of classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clusters:
    """The test images by the unit that is drawn."""

    member: np.ndarray
    """int64 [N]: the cluster of each image, 0 ... count - 1."""
    count: int

    @classmethod
    def of(cls, groups: Sequence[str] | None, images: int) -> Clusters:
        """One cluster a group name; without groups each of the N = `images` is its own."""
        if groups is None:
            return cls(np.arange(images), images)
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        return cls(member, len(names))

    def sums(self, predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
        """What `metrics.OF_SUMS` are made of, by cluster: float64 [G, H, 3, C].

        Args:
            predicted: class codes [H, N].
            labels: class codes [N].
            classes: C.
        """
        seeds, _ = predicted.shape
        shape = (self.count, seeds, 3, classes)
        place = (self.member * seeds + np.arange(seeds)[:, None]) * 3 * classes  # [H, N]
        hit = predicted == labels
        found = np.bincount((place + predicted)[hit], minlength=np.prod(shape))
        found += np.bincount((place + classes + labels).ravel(), minlength=np.prod(shape))
        found += np.bincount((place + 2 * classes + predicted).ravel(), minlength=np.prod(shape))
        return found.reshape(shape).astype(np.float64)

    def holding(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Which classes have images in which cluster, bool [G, C]."""
        held = np.zeros((self.count, classes), bool)
        held[self.member, labels] = True
        return held
