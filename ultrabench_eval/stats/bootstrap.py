"""Resampling of whole patients (or videos) and of seeds, the same patients for every model.

H is the number of seeds, N of images, C of classes, M of models, R of resamples.

Two things make a score uncertain: which patients happened to be in the test set, and which seeds
the probes were trained with. Each resample draws both with replacement, patients and seeds apart
from each other (the bootstrap for crossed factors; Owen 2007, Ann. Appl. Stat. 1:386). It counts
the part that depends on patient and seed together more than once, so errs on the wide side there.
Of H seeds H - 1 are drawn, for their mean then varies as the mean over seeds does; H draws would
show (H - 1) / H of it. Two equal models whose 5 seeds scatter far more than their test sets still
differ at the 5 % level in 9 % of simulations (in 3 to 5 % where seeds scatter less). One seed shows
no variance between seeds at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse

from ultrabench_eval import metrics
from ultrabench_eval.core import hashing

RESAMPLES = 10_000
_BLOCK_BYTES = 32_000_000  # of the larger of a block's arrays, to bound the memory


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


def intervals(
    predicted: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str] | None,
    classes: int,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the mean over seeds, for the metrics that counts determine.

    Test groups are drawn with replacement (the cluster bootstrap; Field & Welsh 2007, J. R. Stat.
    Soc. B 69:369); without groups, images are. Seeds are drawn with them (see the module), so the
    interval tells of the test set and of the probe's training.

    Args:
        predicted: class codes [H, N] of H seeds.
        labels: class codes [N].
        groups: N group names, or None.
        classes: C.
        level: coverage.

    Returns:
        (low, high) in the metric's own unit, for each of `metrics.FROM_COUNTS`.
    """
    resampled = resample([predicted], labels, groups, classes, names=list(metrics.FROM_COUNTS))
    result = {}
    for name, values in resampled.items():
        low, high = interval(values[0], level)
        result[name] = (float(low), float(high))
    return result


def resample(
    predicted: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: Sequence[str] | None,
    classes: int,
    *,
    names: Sequence[str] = (metrics.MAIN,),
    purpose: str = "",
    same_probes: bool = False,
    resamples: int | None = None,
) -> dict[str, np.ndarray]:
    """Scores of several models in R resamples, paired: column r is one draw of the test set.

    The draws depend on nothing but the number of clusters and `purpose`, so models of different
    calls are paired, too. Seeds are drawn anew for each model, by its place in the list: seed 3 of
    one model has nothing in common with seed 3 of another but its number.

    Args:
        predicted: for each model, class codes [H, N] (H may differ).
        labels: class codes [N].
        groups: N group names, or None for single images.
        classes: C.
        names: which of `metrics.FROM_COUNTS`.
        purpose: what sets these draws apart, e.g. a task's name. Without it two tasks with the
            same number of clusters get the same draws, which results over tasks must not have.
        same_probes: the entries are one model's probes on other versions of the images (all of H
            seeds): the same seeds are drawn for all.
        resamples: R; `RESAMPLES` by default.

    Returns:
        For each name, means over the drawn seeds, float64 [M, R].
    """
    resamples = RESAMPLES if resamples is None else resamples
    clusters = Clusters.of(groups, len(labels))
    counts = _cluster_counts(predicted, labels, clusters, classes)
    heads = [len(p) for p in predicted]
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for drawn in _draws(clusters.count, purpose, resamples, width=counts.shape[0]):
        block = (counts @ drawn).T.astype(np.float64).reshape(-1, sum(heads), classes, classes)
        for name in names:
            blocks[name].append(metrics.FROM_COUNTS[name](block))
    weights = [
        _seed_weights(count, f"{purpose}/model {0 if same_probes else model}", resamples)
        for model, count in enumerate(heads)
    ]
    ends = np.cumsum(heads)[:-1]
    return {
        name: np.stack(
            [
                (scores * weight).sum(-1)
                for scores, weight in zip(
                    np.split(np.concatenate(parts), ends, axis=1), weights, strict=True
                )
            ]
        )
        for name, parts in blocks.items()
    }


def observe(
    predicted: Sequence[np.ndarray], labels: np.ndarray, classes: int, name: str = metrics.MAIN
) -> np.ndarray:
    """The scores that `resample` varies: means over seeds on the test set as it is, [M]."""
    of: Callable[[np.ndarray], np.ndarray] = metrics.FROM_COUNTS[name]
    return np.array(
        [
            of(np.stack([metrics.confusion(codes, labels, classes) for codes in model])).mean()
            for model in predicted
        ]
    )


def interval(resampled: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval over the last axis; [..., R] -> low and high [...]."""
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=-1)
    return low, high


def _draws(clusters: int, purpose: str, resamples: int, width: int) -> Iterator[np.ndarray]:
    """How often each cluster is drawn: float32 [clusters, block], blocks until R are reached.

    float32 holds such counts exactly (below 2 to the 24) and is the faster half of float64. The
    stream of draws does not depend on the size of the blocks, which `width`, the number of counts
    that are summed, bounds.
    """
    generator = np.random.default_rng(hashing.seed_for(0, f"bootstrap/test groups/{purpose}"))
    block = max(1, _BLOCK_BYTES // (8 * max(clusters, width)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = np.empty((clusters, size), np.float32)
        for column, picks in enumerate(generator.integers(0, clusters, (size, clusters))):
            drawn[:, column] = np.bincount(picks, minlength=clusters)
        yield drawn


def _seed_weights(seeds: int, purpose: str, resamples: int) -> np.ndarray:
    """What part of each resample's H - 1 drawn seeds is which seed: [R, H], rows sum to 1."""
    generator = np.random.default_rng(hashing.seed_for(0, f"bootstrap/seeds/{purpose}"))
    drawn = max(1, seeds - 1)
    return generator.multinomial(drawn, np.full(seeds, 1 / seeds), size=resamples) / drawn


def _cluster_counts(
    predicted: Sequence[np.ndarray], labels: np.ndarray, clusters: Clusters, classes: int
) -> scipy.sparse.csr_array:
    """Confusion counts of each cluster: float32 [all models' H * C * C, clusters].

    Sparse, for clusters are many and small.
    """
    codes = np.concatenate([np.asarray(p) for p in predicted])  # [sum of H, N]
    row = (np.arange(len(codes))[:, None] * classes + labels) * classes + codes
    return scipy.sparse.csr_array(
        (
            np.ones(row.size, np.float32),
            (row.ravel(), np.tile(clusters.member, len(codes))),
        ),
        shape=(len(codes) * classes * classes, clusters.count),
    )
