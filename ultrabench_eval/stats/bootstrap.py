"""Resampling of whole patients (or videos) and of seeds, the same patients for every model.

H is the number of seeds, G of clusters, S of strata, K of statistics, M of models, R of resamples.

What orders of models and ratios of scores are made of: how often a model comes first, how far two
rankings agree, what corruption leaves of a score. Intervals of scores and differences are not: with
few patients the percentiles of resamples are too narrow (see `intervals`, `paired`).

Each resample draws patients and seeds with replacement, apart from each other (the bootstrap for
crossed factors; Owen 2007, Ann. Appl. Stat. 1:386). It counts the part that depends on patient and
seed together more than once, so errs on the wide side there. Of H seeds H - 1 are drawn, because
their mean then varies as the mean over seeds does; H draws would show (H - 1) / H of it. One seed
shows no variance between seeds at all. A resample that lacks a class of the test set gets one of
its patients in addition: otherwise its score would be a mean over fewer classes, and a useless
probe would seem to gain by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import scipy.sparse

from ultrabench_eval.core import hashing
from ultrabench_eval.metrics import OfSums
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters

RESAMPLES = 10_000
_BLOCK_BYTES = 32_000_000  # of the larger of a block's arrays, to bound the memory


def resample(
    statistics: Sequence[Additive],
    clusters: Clusters,
    metrics: Mapping[str, OfSums],
    *,
    purpose: str = "",
    models: Sequence[str] | None = None,
    resamples: int | None = None,
) -> dict[str, np.ndarray]:
    """Scores of several models in R resamples, paired: column r is one draw of the test set.

    The draws of patients depend on nothing but the test set and `purpose`, so models of different
    calls are paired too. Seeds are drawn for each name in `models`: seed 3 of one model has
    nothing in common with seed 3 of another but its number. No draw depends on which other models
    are in the list.

    Args:
        statistics: of each model's predictions, [H, N, K] (H may differ).
        clusters: what is drawn as one.
        metrics: what to score, by name.
        purpose: what sets these draws apart, e.g. a task's name. Without it two tasks with the
            same number of clusters get the same draws, which results over tasks must not have.
        models: what the draws of seeds are named by, one each. None: the entries are one model's
            probes on several versions of the images, and the same seeds are drawn for all.
        resamples: R; `RESAMPLES` by default.

    Returns:
        For each name, means over the drawn seeds, float64 [M, R].
    """
    resamples = RESAMPLES if resamples is None else resamples
    sums = scipy.sparse.vstack(
        [one.columns(clusters.member, clusters.count) for one in statistics], format="csr"
    )
    heads = [one.shape[0] for one in statistics]
    width = statistics[0].shape[-1]
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for drawn in _draws(clusters.held, purpose, resamples, width=sums.shape[0]):
        block = (sums @ drawn).T.astype(np.float64).reshape(-1, sum(heads), width)
        for name, metric in metrics.items():
            blocks[name].append(metric(block))
    named = models or [""] * len(statistics)
    weights = [
        _seed_weights(count, f"{purpose}/{model}", resamples)
        for count, model in zip(heads, named, strict=True)
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


def observe(statistics: Sequence[Additive], metric: OfSums) -> np.ndarray:
    """The scores that `resample` varies: means over seeds on the test set as it is, [M]."""
    return np.array([metric(one.total()).mean() for one in statistics])


def interval(resampled: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """The percentile interval over the last axis; [..., R] -> low and high [...]."""
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=-1)
    return low, high


def _draws(held: np.ndarray, purpose: str, resamples: int, width: int) -> Iterator[np.ndarray]:
    """How often each cluster is drawn: float32 [G, block], blocks until R are reached.

    float32 holds such counts exactly (below 2 to the 24) and is the faster half of float64. The
    stream of draws does not depend on the size of the blocks.

    Args:
        held: which strata have samples in which cluster, bool [G, S].
        purpose: what sets these draws apart.
        resamples: R.
        width: number of sums that are made of a draw, which bounds a block.
    """
    generator = np.random.default_rng(hashing.seed_for(0, f"bootstrap/test groups/{purpose}"))
    clusters = len(held)
    holders = [np.flatnonzero(column) for column in held.T if column.any()]
    block = max(1, _BLOCK_BYTES // (8 * max(clusters, width)))
    for start in range(0, resamples, block):
        drawn = np.empty((clusters, min(block, resamples - start)), np.float32)
        picks = generator.integers(0, clusters, drawn.shape[::-1])
        for column, row in enumerate(picks):
            drawn[:, column] = np.bincount(row, minlength=clusters)
        for some in holders:
            lacking = np.flatnonzero(~drawn[some].any(0))
            drawn[generator.choice(some, len(lacking)), lacking] += 1
        yield drawn


def _seed_weights(seeds: int, purpose: str, resamples: int) -> np.ndarray:
    """What part of each resample's H - 1 drawn seeds is which seed: [R, H], rows sum to 1."""
    generator = np.random.default_rng(hashing.seed_for(0, f"bootstrap/seeds/{purpose}"))
    drawn = max(1, seeds - 1)
    return generator.multinomial(drawn, np.full(seeds, 1 / seeds), size=resamples) / drawn


def __getattr__(name: str) -> Any:
    """`intervals`, whose place this once was: of class codes, as it was then."""
    if name == "intervals":  # by name, because nothing here may depend on a kind of task
        return import_module("ultrabench_eval.task_types.classification").intervals_of
    raise AttributeError(name)
