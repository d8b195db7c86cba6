"""How often do tests call equal models different, if images come in videos and patients?

    python benchmarks/false_alarms.py [--simulations 1000]

Test sets of 40 patients, two classes, and two models that are equally good: of each patient's
images, each model finds some patients easier than the other does. Three tests at 5 %:

McNemar         exact, of the images on which one model is right and the other wrong
item bootstrap  percentiles of 1,000 resamples of images, of the difference in macro F1
ubench compare  `ultrabench_eval.compare`, which swaps whole patients

With several seeds McNemar's test and the bootstrap take the first, as papers do.

Then what `ubench compare --effect` says is tried: of 200 pilot test sets of 40 patients the median
of the patients needed to find a true difference with 80 % probability; and how often it is found in
test sets of so many patients.

All test sets are SYNTHETIC. A simulation's random numbers are named by its world and number.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from coverage import World, drawn, predicted
from scipy import stats
from tabulate import tabulate

from ultrabench_eval.compare import result
from ultrabench_eval.compare.predictions import Predicted
from ultrabench_eval.core import hashing
from ultrabench_eval.metrics import of_sums
from ultrabench_eval.stats import bootstrap
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.task_types import classification
from ultrabench_eval.test_set import TestSet

FIXED = False  # the class counts of a test set: they are drawn with its patients
LEVEL, RESAMPLES, PILOTS = 0.95, 1000, 200
MACRO_F1 = of_sums(classification.MACRO_F1)


def world(images: int, of_seed: float = 0.12) -> World:
    """40 patients with so many images each, 26 of one class and 14 of the other."""
    clusters = ((0, images, 26), (1, images, 14))
    return World(clusters, 1.6, 0.0, 0.9, 0.6, of_seed, 0.2)


WORLDS = {
    "1 image per patient, 1 seed": (world(1), 1),
    "4 images per patient, 1 seed": (world(4), 1),
    "12 frames per patient, 1 seed": (world(12), 1),
    "12 frames per patient, 5 seeds": (world(12), 5),
    "12 frames per patient, 5 seeds that scatter": (world(12, of_seed=0.7), 5),
}


def compared(one: World, seeds: int, better: float, name: str) -> tuple[result.Compared, Predicted]:
    """Two models on a test set; the second is better by `better` in its scores of classes."""
    generator = np.random.default_rng(hashing.seed_for(0, name))
    test = drawn(one, FIXED, generator)
    codes = tuple(
        predicted(replace(one, better=better), test, generator, better=second, seeds=seeds)
        for second in (False, True)
    )
    groups = [f"{g:04d}" for g in test.member]
    items = TestSet.of_labels(test.labels, one.classes, groups)
    items = items.model_copy(update={"task": name})
    given = Predicted(items, ("one", "other"), codes)
    return result.compare(given), given


def p_values(one: World, seeds: int, name: str) -> tuple[float, float, float]:
    """Of two equal models, by the three tests."""
    ours, given = compared(one, seeds, 0.0, name)
    labels = given.test.targets
    first, second = (codes[0] for codes in given.answers)
    only = (first == labels) & (second != labels), (second == labels) & (first != labels)
    a, b = (int(one.sum()) for one in only)
    mcnemar = float(stats.binomtest(a, a + b).pvalue) if a + b else 1.0
    items = Clusters.of(None, labels, one.classes)
    counted = [classification.statistics(c[None], labels, one.classes) for c in (first, second)]
    drawn_scores = bootstrap.resample(
        counted, items, {"f1": MACRO_F1}, purpose=name, resamples=RESAMPLES
    )["f1"]
    difference = drawn_scores[0] - drawn_scores[1]
    side = min((difference <= 0).sum(), (difference >= 0).sum())
    return mcnemar, min(1.0, 2 * (side + 1) / (RESAMPLES + 1)), float(ours.comparison.pairs.p[0, 1])


def true_difference(one: World, better: float) -> float:
    """Of macro F1 on so many patients that hardly anything is left to chance, in points."""
    generator = np.random.default_rng(hashing.seed_for(0, f"truth/{better}"))
    many = replace(one, clusters=tuple((c, n, 100 * k) for c, n, k in one.clusters), better=better)
    scores: tuple[list[float], list[float]] = ([], [])
    for _ in range(20):
        test = drawn(many, FIXED, generator)
        for second in (False, True):
            codes = predicted(many, test, generator, better=second, seeds=1)
            counted = classification.statistics(codes, test.labels, one.classes)
            scores[second].append(float(bootstrap.observe([counted], MACRO_F1)[0]))
    return 100 * float(np.mean(scores[1]) - np.mean(scores[0]))


def planned(name: str, one: World, seeds: int, better: float, count: int) -> list[str]:
    """What the pilots say is needed, and how often that many patients find the difference."""
    effect = true_difference(one, better)
    needed, detectable = [], []
    for number in range(PILOTS):
        found, _ = compared(one, seeds, better, f"pilot/{name}/{number}")
        needed.append(found.planned.needed(effect / 100)[0])
        detectable.append(found.detectable[0])
    patients = int(np.median(needed))
    share = patients / len(one.labels)
    large = replace(one, clusters=tuple((c, n, round(share * k)) for c, n, k in one.clusters))
    hits = [
        compared(large, seeds, better, f"power/{name}/{number}")[0].comparison.pairs.p[0, 1]
        < 1 - LEVEL
        for number in range(count)
    ]
    return [
        *(name, f"{effect:.1f}", f"{np.median(detectable):.1f}"),
        *(str(len(large.labels)), f"{100 * np.mean(hits):.0f}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1000)
    count = parser.parse_args().simulations
    rows = []
    for name, (one, seeds) in WORLDS.items():
        every = [p_values(one, seeds, f"{name}/{number}") for number in range(count)]
        alarms = 100 * (np.array(every) < 1 - LEVEL).mean(0)
        rows.append([name, *(f"{share:.1f}" for share in alarms)])
    header = ["test set (SYNTHETIC)", "McNemar", "item bootstrap", "ubench compare"]
    print(tabulate(rows, header, "pipe", disable_numparse=True), flush=True)
    rows = [
        planned(name, *WORLDS[name], better, count // 2)
        for name, better in (
            ("1 image per patient, 1 seed", 1.2),
            ("12 frames per patient, 1 seed", 0.9),
            ("12 frames per patient, 5 seeds", 0.9),
        )
    ]
    header = ["test set (SYNTHETIC)", "true difference", "detectable with 40", "needed", "found, %"]
    print(f"\n{tabulate(rows, header, 'pipe', disable_numparse=True)}")


if __name__ == "__main__":
    main()
