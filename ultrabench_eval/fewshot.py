"""Training subsets for few-shot probes (US-JEPA, section 5.3).

A seed has one order of each class's images, and a part is the beginning of every order. So the
parts of a seed are nested, each class keeps its share, and every model gets the same draws. Where
images belong to patients or videos, the order goes through one group after the other: a small
part comes from few of them, as it would if few had been labelled.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ultrabench_eval.core import hashing

VERSION = 1  # raised when a draw changes; part of every few-shot cell's identity


def subset(
    labels: np.ndarray, groups: Sequence[str] | None, percent: int, seed: int, purpose: str
) -> np.ndarray:
    """Rows of one part, int64, ascending.

    Of each class it holds `percent` of the images, rounded to the nearest number and at least one
    image.

    Args:
        labels: class codes [N].
        groups: N group names, or None.
        percent: 1 to 100.
        seed: of the draw.
        purpose: "train" or "validation"; their draws are independent.
    """
    generator = np.random.default_rng(hashing.seed_for(seed, f"few-shot/{purpose}"))
    order = _order(len(labels), groups, generator)
    kept = [
        (of_class := order[labels[order] == label])[: _count(len(of_class), percent)]
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(kept)).astype(np.int64)


def bent(labels: np.ndarray, classes: Sequence[str], percent: int) -> str:
    """What the rule of at least one image does to the percentage, in a sentence; "" if nothing."""
    counts = np.bincount(labels, minlength=len(classes))
    raised = [
        name
        for name, count in zip(classes, counts.tolist(), strict=True)
        if count and round(count * percent / 100) == 0
    ]
    if not raised:
        return ""
    kept = sum(_count(count, percent) for count in counts.tolist() if count)
    return (
        f"at {percent} % a class has at least one image ({', '.join(raised)}), so the part is "
        f"{kept} of {len(labels)} images, {100 * kept / len(labels):.1f} %"
    )


def _count(images: int, percent: int) -> int:
    return max(1, round(images * percent / 100))


def _order(count: int, groups: Sequence[str] | None, generator: np.random.Generator) -> np.ndarray:
    """Rows [N] in random order, group after group."""
    within = generator.permutation(count)
    if groups is None:
        return within
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    rank = generator.permutation(len(names))
    return within[np.argsort(rank[member[within]], kind="stable")]
