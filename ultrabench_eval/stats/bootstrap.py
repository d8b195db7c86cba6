"""Confidence intervals by resampling whole patients (or videos), not images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse

from ultrabench_eval import metrics
from ultrabench_eval.core import hashing

RESAMPLES = 2000
_BLOCK = 200  # resamples at a time, to bound the memory


def intervals(
    predicted: np.ndarray,
    labels: np.ndarray,
    groups: Sequence[str] | None,
    classes: int,
    level: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the mean over seeds, for the metrics that counts determine.

    Test groups are drawn with replacement (the cluster bootstrap; Field & Welsh 2007, J. R. Stat.
    Soc. B 69:369); without groups, images are. The same resamples serve every seed and, since their
    generator depends on nothing but the number of groups, every model. Seeds are not resampled:
    the interval tells of the test set, the standard deviation over seeds of the probe.

    Args:
        predicted: class codes [H, N] of H seeds.
        labels: class codes [N].
        groups: N group names, or None.
        classes: C.
        level: coverage.

    Returns:
        (low, high) in the metric's own unit, for each of `metrics.FROM_COUNTS`.
    """
    names = range(len(labels)) if groups is None else groups
    _, member = np.unique(np.asarray(names), return_inverse=True)
    clusters, heads = int(member.max()) + 1, len(predicted)
    # One column a (seed, true, predicted), one row a group: sparse, for groups are many and small.
    column = (np.arange(heads)[:, None] * classes + labels) * classes + predicted  # [H, N]
    counts = scipy.sparse.csr_array(
        (np.ones(column.size), (np.tile(member, heads), column.ravel())),
        shape=(clusters, heads * classes * classes),
    )
    generator = np.random.default_rng(hashing.seed_for(0, "bootstrap/test groups"))
    blocks = []
    for _ in range(RESAMPLES // _BLOCK):
        drawn = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=_BLOCK)
        blocks.append((counts.T @ drawn.T.astype(np.float64)).T)  # [block, H * C * C]
    resampled = np.concatenate(blocks).reshape(RESAMPLES, heads, classes, classes)

    tail = (1 - level) / 2
    result = {}
    for name, of in metrics.FROM_COUNTS.items():
        low, high = np.quantile(of(resampled).mean(-1), [tail, 1 - tail])
        result[name] = (float(low), float(high))
    return result
