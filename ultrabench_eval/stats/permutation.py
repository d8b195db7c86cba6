"""What the difference of two models would be if they were equal: whole patients swapped.

H is the number of seeds, G of clusters (patients, videos, or samples), K of statistics, M of
models, P of pairs, R of draws.

If two models are equally good, it does not matter which of them made which prediction: those of a
whole patient, of all seeds, may be swapped. Each draw swaps every patient's or not with even odds
(a randomisation test; Fisher 1935; for clusters Canay, Romano & Shaikh 2017, Econometrica 85:1013).
The draws are of the linear part: the sum over patients of +-d_g. Seeds are taken in pairs, the h-th
of one model and of the other. d_g is the mean over these of the derivative of the score in the
direction of what the two predict differently for patient g, at the sums of both together, which no
swap changes. The quadratic part cancels, because swapping all patients turns the difference round.

Swapping knows nothing of seeds: five seeds that scatter are five seeds for each draw. So each draw
gets a part for them in addition, normal with the variance v = s_a^2 / H_a + s_b^2 / H_b. Here s^2
is the variance over seeds less what each patient's scatter over seeds explains alone, which the
swaps hold already; at least 0. As few seeds know v badly, each draw is divided by the root of
chi^2 / k, as Student's t is, with Satterthwaite's k (1946, Biometrics Bulletin 2:110): the square
of the whole variance by the square of v, times H_a + H_b - 2. So without scatter of seeds the draws
are swaps alone, and without anything else they are Student's t.

All that is drawn is named by the task: a pair's draws do not depend on the other models. The sizes
and powers of these tests in simulations with a known truth are in docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import lcm

import numpy as np
from scipy import sparse

from ultrabench_eval.core import hashing
from ultrabench_eval.metrics import OfSums
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.influence import gradient, influence

DRAWS = 10_000
_GRAIN = 2.0**-36
_BLOCK_BYTES = 32_000_000  # of the larger arrays, to bound the memory
_MANY_DEGREES = 200  # of freedom; with more, Student's t is normal


@dataclass(frozen=True)
class Equal:
    """Differences of P pairs of models, as they would be drawn if the two were equal."""

    difference: np.ndarray
    """The linear part of the difference as it is, which the draws are compared with, [P]."""
    draws: np.ndarray
    """float64 [R, P]."""
    variance: np.ndarray
    """By patients and seeds, [P]."""
    degrees: np.ndarray
    """Degrees of freedom of that, [P]; infinite where seeds do not scatter."""


@dataclass(frozen=True)
class Entrant:
    """What is needed of one model."""

    parts: sparse.csr_array
    """The statistics of each patient, [G, H * K]."""
    total: np.ndarray
    """The sum of these over patients, [H, K]."""
    score: float
    """By the metric, mean over seeds."""
    of_seeds: float
    """Variance of that by seeds alone."""

    @classmethod
    def of(cls, statistics: Additive, clusters: Clusters, metric: OfSums) -> Entrant:
        """That of a model's predictions."""
        parts = statistics.by_cluster(clusters)
        total = parts.sum(0)
        scores, seeds = metric(total), len(total)
        variance = 0.0
        if seeds > 1:
            alone = influence(metric, total, parts).var(axis=1, ddof=1).sum()
            variance = max(0.0, float(scores.var(ddof=1) - alone)) / seeds
        flat = sparse.csr_array(parts.reshape(clusters.count, -1))
        return cls(flat, total, float(scores.mean()), variance)

    @property
    def seeds(self) -> int:
        """H."""
        return len(self.total)


@dataclass(frozen=True)
class Contest:
    """Models on the test samples of one task."""

    entrants: tuple[Entrant, ...]
    metric: OfSums
    clusters: int
    """G."""
    purpose: str
    """What sets these draws apart: the task's name."""
    higher_is_better: bool = True

    @classmethod
    def of(
        cls,
        statistics: Iterable[Additive],
        clusters: Clusters,
        metric: OfSums,
        purpose: str,
        higher_is_better: bool = True,
    ) -> Contest:
        """That of predictions.

        Args:
            statistics: of each model, [H, N, K] (H may differ).
            clusters: what is swapped as one.
            metric: what models are compared by.
            purpose: the task's name.
            higher_is_better: of the metric.
        """
        entrants = tuple(Entrant.of(one, clusters, metric) for one in statistics)
        return cls(entrants, metric, clusters.count, purpose, higher_is_better)

    def only(self, places: Sequence[int]) -> Contest:
        """For some of the models, in that order."""
        return replace(self, entrants=tuple(self.entrants[place] for place in places))

    @property
    def scores(self) -> np.ndarray:
        """On the test set as it is, means over seeds, [M]."""
        return np.array([one.score for one in self.entrants])

    def equal(self, first: np.ndarray, second: np.ndarray) -> Equal:
        """Draws of the difference of P pairs, if the two models of each were equal.

        Args:
            first: places of models, [P].
            second: the same.
        """
        pairs = [(self.entrants[a], self.entrants[b]) for a, b in zip(first, second, strict=True)]
        per_patient = _differences(pairs, self.metric)
        of_seeds = np.array([a.of_seeds + b.of_seeds for a, b in pairs])
        variance = np.square(per_patient).sum(1) + of_seeds
        draws = np.concatenate([signs @ per_patient.T for signs in self._swaps()])
        degrees = np.full(len(pairs), np.inf)
        scatter = of_seeds > 0
        if scatter.any():
            spare = np.array([a.seeds + b.seeds - 2 for a, b in pairs])[scatter]
            degrees[scatter] = spare * np.square(variance[scatter] / of_seeds[scatter])
            draws[:, scatter] += self._normal("seeds", 1).T * np.sqrt(of_seeds[scatter])
            few = np.flatnonzero(degrees < _MANY_DEGREES)
            whole = degrees[few].astype(int)
            normal = self._normal("degrees", max(whole, default=0))
            chi_square = np.cumsum(np.square(normal), axis=0)[whole - 1]
            draws[:, few] /= np.sqrt(chi_square / whole[:, None]).T
        return Equal(per_patient.sum(1), draws, variance, degrees)

    def _swaps(self) -> Iterator[np.ndarray]:
        """Signs +-1 of each draw and patient: float64 [block, G], R rows in all."""
        name = f"permutation/{self.purpose}"
        generator = np.random.default_rng(hashing.seed_for(0, name))
        count = self.clusters
        block = max(1, _BLOCK_BYTES // (8 * count))
        for start in range(0, DRAWS, block):
            size = min(block, DRAWS - start)
            yield generator.integers(0, 2, (size, count), np.int8) * 2.0 - 1

    def _normal(self, what: str, count: int) -> np.ndarray:
        """Standard normal numbers, [count, R]; the first are the same whatever the count."""
        seed = hashing.seed_for(0, f"permutation/{what}/{self.purpose}")
        return np.random.default_rng(seed).standard_normal((count, DRAWS))


def _differences(pairs: Sequence[tuple[Entrant, Entrant]], metric: OfSums) -> np.ndarray:
    """d_g of P pairs of models, [P, G].

    Rounded so that any sum of them is exact: a draw is then the same to the last bit whatever else
    is summed beside it, and ties are ties.
    """
    counts = np.array([lcm(one.seeds, other.seeds) for one, other in pairs])
    found = np.empty((len(pairs), pairs[0][0].parts.shape[0]))
    for count in np.unique(counts):
        some = np.flatnonzero(counts == count).tolist()
        seeds = np.arange(count)  # each seed of a model as often as its others
        both = [
            (one.total[seeds % one.seeds] + other.total[seeds % other.seeds]) / 2
            for one, other in (pairs[place] for place in some)
        ]
        for place, slopes in zip(some, gradient(metric, np.array(both)) / count, strict=True):
            one, other = pairs[place]
            found[place] = _along(one, slopes) - _along(other, slopes)
    return np.round(found / _GRAIN) * _GRAIN


def _along(entrant: Entrant, slopes: np.ndarray) -> np.ndarray:
    """Products of each patient's parts with derivatives [count, K], summed: [G]."""
    of_seeds = slopes.reshape(-1, *entrant.total.shape).sum(0)
    return np.asarray(entrant.parts @ of_seeds.ravel())
