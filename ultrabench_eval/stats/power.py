"""How small a difference a test set can show, and how many patients a wanted one needs.

G is the number of clusters (patients, videos, or samples), H of seeds, P of pairs of models.

The test is that of `permutation`: a difference is significant from k standard errors on, by the
draws' own quantile. Its draws hold the difference itself, once in G, beside the variance v with
which differences of other patients and seeds would lie around the true one, d. So the test finds d
with the probability `power` if

    d >= k sqrt(v + d^2 / G) + t sqrt(v)

where t is the quantile `power` of Student's t with v's degrees of freedom: the usual sample size of
a paired comparison (Lachin 1981, Control. Clin. Trials 2:93) with whole patients as its pairs. Of v
the patients' part falls as 1 / G, and the seeds' part stays: more patients do not replace seeds.
k rises with the tails of Student's t where v becomes mostly seeds.

It is planned with these two models' own variance. Models that agree more (two checkpoints of one
network, say) need fewer patients than two that have little in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from scipy import stats

from ultrabench_eval.stats.paired import critical
from ultrabench_eval.stats.permutation import Contest

POWER = 0.8
_MOST = 10**7  # patients; where that many do not suffice, no number is given


@dataclass(frozen=True)
class Power:
    """Of the tests of P pairs on one test set, in the metric's own unit."""

    errors: np.ndarray
    """How many standard errors a measured difference must be to be significant (k), [P]."""
    variance: np.ndarray
    """Of a measured difference around the true one, by patients and seeds (v), [P]."""
    of_seeds: np.ndarray
    """The part of it that more patients do not lower, [P]."""
    spare: np.ndarray
    """Degrees of freedom of that part, [P]."""
    clusters: int
    """G."""
    level: float
    """1 less the probability of a false alarm in one of the tests."""
    power: float

    @classmethod
    def of(
        cls,
        contest: Contest,
        first: np.ndarray,
        second: np.ndarray,
        *,
        tests: int = 1,
        level: float = 0.95,
        power: float = POWER,
    ) -> Power:
        """That of pairs of models.

        Args:
            contest: the models on the test set.
            first: places of models, [P].
            second: the same.
            tests: how many pairs are corrected together. Planned for the first step of Holm's
                method, in which a pair must be below (1 - `level`) / `tests`.
            level: coverage, see `paired.compare`.
            power: probability of finding the difference.

        Raises:
            ValueError: no such probability, or no test.
        """
        if not (0.5 <= power < 1 and 0 < level < 1 and tests > 0):
            raise ValueError(f"power {power}, level {level}, {tests} tests")
        equal = contest.equal(first, second)
        entrants = [
            (contest.entrants[a], contest.entrants[b]) for a, b in zip(first, second, strict=True)
        ]
        count = contest.clusters
        of_seeds = np.array([a.of_seeds + b.of_seeds for a, b in entrants])
        around = equal.variance - of_seeds - np.square(equal.difference) / count
        known = np.where(equal.variance > 0, equal.variance, 1)
        corrected = 1 - (1 - level) / tests
        return cls(
            errors=np.where(equal.variance > 0, critical(equal, corrected) / np.sqrt(known), 0),
            variance=np.maximum(around, 0) * count / max(1, count - 1) + of_seeds,
            of_seeds=of_seeds,
            spare=np.array([max(1, a.seeds + b.seeds - 2) for a, b in entrants]),
            clusters=count,
            level=corrected,
            power=power,
        )

    @property
    def fewest(self) -> int:
        """Patients without which no p-value is small enough: swaps of G patients have 2^G outcomes,
        of which the two extremes differ most."""
        return ceil(log2(2 / (1 - self.level)))

    def detectable(self, clusters: np.ndarray | int | None = None) -> np.ndarray:
        """The smallest true difference that is found with the wanted probability, [P].

        Args:
            clusters: patients like those of the test set, but so many; by default as many.
        """
        count = np.asarray(self.clusters if clusters is None else clusters, float)
        variance = (self.variance - self.of_seeds) * self.clusters / count + self.of_seeds
        now, then = self._degrees(self.variance), self._degrees(variance)
        tail = (1 + self.level) / 2
        squared = np.square(self.errors * stats.t.ppf(tail, then) / stats.t.ppf(tail, now))
        beyond = stats.t.ppf(self.power, then) * np.sqrt(variance)
        rest = 1 - squared / count  # of d^2, what is not among the draws
        can = (rest > 0) & (count >= self.fewest)
        root = np.square(beyond) - rest * (np.square(beyond) - squared * variance)
        found = (beyond + np.sqrt(np.maximum(root, 0))) / np.where(can, rest, 1)
        return np.asarray(np.where(can, found, np.inf))

    def needed(self, effect: float) -> np.ndarray:
        """How many patients make a true difference of `effect` detectable, float64 [P].

        Infinite where no number does, because the seeds' part alone is too large.

        Raises:
            ValueError: the effect is not above 0.
        """
        if not effect > 0:
            raise ValueError(f"an effect of {effect}")
        pairs = len(self.variance)
        low, high = np.full(pairs, self.fewest), np.full(pairs, _MOST)
        enough = self.detectable(high) <= effect
        while (low < high).any():  # the fewest that suffice are in low ... high
            middle = (low + high) // 2
            suffices = self.detectable(middle) <= effect
            high = np.where(suffices, middle, high)
            low = np.where(suffices, low, np.minimum(middle + 1, high))
        return np.where(enough, low.astype(float), np.inf)

    def _degrees(self, variance: np.ndarray) -> np.ndarray:
        """Satterthwaite's, of the whole variance, [P]; infinite where seeds do not scatter."""
        scatter = self.of_seeds > 0
        ratio = variance / np.where(scatter, self.of_seeds, 1)
        return np.where(scatter, self.spare * np.square(ratio), np.inf)
