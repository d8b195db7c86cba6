"""Are intervals and tests what they say? Simulated test sets with a known truth.

    python benchmarks/coverage.py [--worlds aul,pocus] [--simulations 2000] [--jobs 2]

A world is a test set like ours (images, patients and classes of four published splits, and a small
hospital's) with probes of five seeds, whose macro F1 on endless patients and seeds is known. Each
world is drawn with its class counts fixed and free, and with seeds that scatter little and much.
Of each the table gives, for the method of before (percentiles of 2,000 resamples of patients and
seeds) and that of now (`stats.intervals`, `stats.paired`):

coverage   how often the 95 % interval of a score holds the truth
width      of that interval, in points
size       how often two equal models differ at p < 0.05
family     how often any two of eight equal models differ after Holm's correction
power      how often a better model differs at p < 0.05; of now also without the part for seeds

All test sets are SYNTHETIC. A simulation's random numbers are named by its world and number.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from tabulate import tabulate
from threadpoolctl import threadpool_limits

from ultrabench_eval.core import hashing
from ultrabench_eval.metrics import of_sums
from ultrabench_eval.stats import bootstrap, paired
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.permutation import Contest
from ultrabench_eval.task_types import classification

SEEDS, EQUAL = 5, 8  # probes of a model, and models that are equally good
OWN = 0.75  # how much of what makes an image easy is a model's own; the rest they share
TILT = 0.35  # towards frequent classes, as a trained probe leans
MUCH = 0.7  # the standard deviation of seeds that scatter much
BEFORE = 2000  # resamples
LEVEL = 0.95
MACRO_F1 = of_sums(classification.MACRO_F1)


@dataclass(frozen=True)
class World:
    """A test set, and how hard it is."""

    clusters: tuple[tuple[int, int, int], ...]
    """Class, images, and how many patients have so many."""
    apart: float
    """How far a model tells classes apart."""
    better: float
    """What a better model has in addition."""
    of_cluster: float
    """Standard deviations of what a patient adds to each class's score, and an image,"""
    of_image: float
    of_seed: float
    """and a seed, and a seed on an image."""
    of_both: float
    both: bool = True
    """Whether the class counts are drawn fixed and free; else fixed."""

    @property
    def classes(self) -> int:
        """C."""
        return 1 + max(one for one, _, _ in self.clusters)

    @property
    def labels(self) -> np.ndarray:
        """Of each cluster, [G]."""
        return np.repeat([c for c, _, _ in self.clusters], [n for _, _, n in self.clusters])

    @property
    def sizes(self) -> np.ndarray:
        """Images of each cluster, [G]."""
        return np.repeat([s for _, s, _ in self.clusters], [n for _, _, n in self.clusters])


AUL = ((0, 1, 20), (1, 1, 40), (2, 1, 87))
BUSBRA = ((0, 1, 145), (1, 1, 68))
MMOTU = tuple(enumerate((110, 66, 108, 31, 19, 87, 33, 15)))
POCUS = (
    *((0, 1, 3), (0, 13, 1), (0, 25, 1), (0, 26, 1), (0, 30, 2)),
    *((1, 1, 2), (1, 9, 1), (1, 12, 1), (1, 13, 4), (1, 14, 1)),
    *((2, 1, 1), (2, 13, 1), (2, 19, 1), (2, 30, 1)),
)
HOSPITAL = ((0, 1, 8), (0, 2, 6), (0, 3, 3), (1, 1, 3))
WORLDS = {
    "aul": World(AUL, 1.15, 0.75, 0.0, 1.0, 0.16, 0.35),
    "busbra": World(BUSBRA, 0.85, 0.55, 0.0, 1.0, 0.12, 0.35),
    "mmotu": World(tuple((c, 1, n) for c, n in MMOTU), 1.0, 0.75, 0.0, 1.0, 0.16, 0.35),
    "pocus": World(POCUS, 2.0, 1.2, 1.0, 0.6, 0.12, 0.2),
    "hospital": World(HOSPITAL, 1.3, 1.2, 0.7, 0.8, 0.12, 0.3, both=False),
}


@dataclass(frozen=True)
class Patients:
    """A drawn test set of G clusters and N images."""

    labels: np.ndarray
    """[N]."""
    member: np.ndarray
    """The cluster of each image, [N]."""
    shared: tuple[np.ndarray, np.ndarray]
    """What clusters [G, C] and images [N, C] are like for all models."""


def drawn(world: World, fixed: bool, generator: np.random.Generator) -> Patients:
    """A test set with as many clusters as the world's; fixed: of each class."""
    labels, count = world.labels, len(world.labels)
    if fixed:
        of_class = [np.flatnonzero(labels == c) for c in range(world.classes)]
        picks = np.concatenate([generator.choice(some, len(some)) for some in of_class])
    else:
        picks = generator.integers(0, count, count)
    return patients(world, picks, generator)


def patients(world: World, picks: np.ndarray, generator: np.random.Generator) -> Patients:
    """The test set of some of the world's clusters."""
    sizes = world.sizes[picks]
    labels = np.repeat(world.labels[picks], sizes)
    member = np.repeat(np.arange(len(picks)), sizes)
    shapes = (len(picks), world.classes), (len(labels), world.classes)
    cluster, image = (generator.standard_normal(shape) for shape in shapes)
    return Patients(labels, member, (cluster, image))


def predicted(
    world: World,
    test: Patients,
    generator: np.random.Generator,
    *,
    better: bool = False,
    own: float = OWN,
    seeds: int = SEEDS,
) -> np.ndarray:
    """Class codes [seeds, N] of one model."""
    rest = np.sqrt(1 - own**2)
    cluster, image = (
        rest * one + own * generator.standard_normal(one.shape) for one in test.shared
    )
    images = np.bincount(world.labels, world.sizes, minlength=world.classes)
    tilt = np.log(images / images.sum())
    score = (world.apart + better * world.better) * np.eye(world.classes)[test.labels]
    score = score + TILT * (tilt - tilt.mean())
    score = score + world.of_cluster * cluster[test.member] + world.of_image * image
    codes = [
        (
            score
            + world.of_seed * generator.standard_normal(world.classes)
            + world.of_both * generator.standard_normal(score.shape)
        ).argmax(1)
        for _ in range(seeds)
    ]
    return np.stack(codes)


def truth(world: World, better: bool = False) -> float:
    """Macro F1 on so many patients, by so many seeds, that hardly anything is left to chance."""
    generator = np.random.default_rng(hashing.seed_for(0, "truth"))
    clusters = 8_000 if world.sizes.max() == 1 else 2_000
    picks = np.tile(np.arange(len(world.labels)), -(-clusters // len(world.labels)))
    test = patients(world, picks, generator)
    codes = predicted(world, test, generator, better=better, own=1.0, seeds=2000)
    counted = classification.statistics(codes, test.labels, world.classes)
    return float(bootstrap.observe([counted], MACRO_F1)[0])


def simulated(world: World, fixed: bool, known: float, name: str) -> dict[str, float]:
    """One test set: whether the interval holds the truth, and which differences are found."""
    generator = np.random.default_rng(hashing.seed_for(0, name))
    test = drawn(world, fixed, generator)
    codes = [predicted(world, test, generator) for _ in range(EQUAL)]
    codes.append(predicted(world, test, generator, better=True))
    groups = [f"{g:04d}" for g in test.member]
    statistics = [classification.statistics(one, test.labels, world.classes) for one in codes]
    clusters = Clusters.of(groups, test.labels, world.classes)
    found: dict[str, float] = {}

    found_of = classification.intervals_of(codes[0], test.labels, groups, world.classes)
    low, high = found_of["macro_f1"]
    resampled = bootstrap.resample(
        statistics,
        clusters,
        {"macro_f1": MACRO_F1},
        purpose=name,
        models=[str(k) for k in range(len(codes))],
        resamples=BEFORE,
    )["macro_f1"]
    old_low, old_high = np.quantile(resampled[0], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    for when, one, other in (("before", old_low, old_high), ("now", low, high)):
        found |= {f"coverage {when}": one <= known <= other, f"width {when}": other - one}

    contest = Contest.of(statistics, clusters, MACRO_F1, purpose=name)
    alone = replace(contest, entrants=tuple(replace(e, of_seeds=0.0) for e in contest.entrants))
    pairs = [(a, b) for a in range(EQUAL) for b in range(a)]
    p = {
        "before": percentile_p(resampled),
        "now": paired.compare([contest]).p,
        "without seeds": paired.compare([alone]).p,
    }
    for when, values in p.items():
        equal = np.array([values[pair] for pair in pairs])
        found[f"size {when}"] = (equal < 1 - LEVEL).mean()
        found[f"family {when}"] = (paired.holm(equal) < 1 - LEVEL).any()
        found[f"power {when}"] = (values[EQUAL, :EQUAL] < 1 - LEVEL).mean()
    return found


def percentile_p(resampled: np.ndarray) -> np.ndarray:
    """P-values of all pairs from resamples [M, R], as they were made before: [M, M]."""
    differences = resampled[:, None] - resampled
    below, above = ((differences <= 0).sum(-1) + 1, (differences >= 0).sum(-1) + 1)
    return np.minimum(1, 2 * np.minimum(below, above) / (resampled.shape[1] + 1))


def measured(job: tuple[str, bool, bool, int]) -> list[str]:
    """A row of the table."""
    name, fixed, much, count = job
    world = WORLDS[name]
    world = replace(world, of_seed=MUCH) if much else world
    known, better = truth(world), truth(world, better=True)
    words = f"{name}/{'fixed' if fixed else 'free'}/{world.of_seed}"
    every = [simulated(world, fixed, known, f"{words}/{k}") for k in range(count)]
    mean = {key: 100 * float(np.mean([one[key] for one in every])) for key in every[0]}

    def both(what: str) -> str:
        return f"{mean[f'{what} before']:.1f} -> {mean[f'{what} now']:.1f}"

    return [
        *(name, "fixed" if fixed else "free", f"{world.of_seed:g}"),
        *(f"{100 * known:.1f}", both("coverage"), both("width"), both("size"), both("family")),
        *(f"+{100 * (better - known):.1f}", both("power"), f"{mean['power without seeds']:.1f}"),
    ]


HEADER = [
    *("world", "class counts", "seed sd", "truth", "coverage", "width", "size", "family-wise"),
    *("better by", "power", "without seeds"),
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worlds", default=",".join(WORLDS))
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()
    jobs = [
        (name, fixed, much, options.simulations)
        for name in options.worlds.split(",")
        for fixed, much in product((True, False), (False, True))
        if WORLDS[name].both or (fixed and not much)
    ]
    rows = []
    with ProcessPoolExecutor(options.jobs, initializer=threadpool_limits, initargs=(1,)) as pool:
        for row in pool.map(measured, jobs):
            rows.append(row)
            print(*row, sep="  ", flush=True)
    print(tabulate(rows, HEADER, "pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
