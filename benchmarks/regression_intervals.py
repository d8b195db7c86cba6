"""How often do the 95 % intervals of regression scores hold the truth?

    python benchmarks/regression_intervals.py [--simulations 1000]

SYNTHETIC test sets of patients with some images each, and predictions of five seeds whose errors
have parts of the patient (heavy-tailed: Student's t with 5 degrees of freedom), of the image and of
the seed. The truth is the mean score of 40 seeds on 60,000 patients. Prints percent by metric.
"""

from __future__ import annotations

import argparse

import numpy as np
from tabulate import tabulate

from ultrabench_eval.core import hashing
from ultrabench_eval.task_types.regression import METRICS, TYPE
from ultrabench_eval.test_set import TestSet

WORLDS = ((15, 1), (40, 3), (100, 1))
"""Patients, and images of each."""


def drawn(
    patients: int, images: int, seeds: int, generator: np.random.Generator
) -> tuple[TestSet, dict[str, np.ndarray]]:
    """A test set and what is stored of predictions."""
    member = np.repeat(np.arange(patients), images)
    count = len(member)
    y = generator.normal(170, 60, patients)[member] + generator.normal(0, 10, count)
    error = 10 * generator.standard_t(5, patients)[member] + generator.normal(0, 8, count)
    of_seeds = generator.normal(0, 2, (seeds, 1)) + generator.normal(0, 3, (seeds, count))
    test = TestSet(
        **{"fingerprint": "", "task": "made", "type": "regression", "kind": "number"},
        **{"classes": (), "synthetic": True, "names": tuple(map(str, range(count)))},
        **{"labels": (), "values": tuple(y), "groups": tuple(f"{n:05d}" for n in member)},
    )
    return test, {"predictions": 20 + 0.9 * y + error + of_seeds}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1000)
    options = parser.parse_args()
    rows = []
    for patients, images in WORLDS:
        generator = np.random.default_rng(hashing.seed_for(0, f"{patients} x {images}"))
        test, stored = drawn(60_000, images, 40, generator)
        truth = {name: values.mean() for name, values in TYPE.again(stored, test).items()}
        held = []
        for _ in range(options.simulations):
            test, stored = drawn(patients, images, 5, generator)
            found = TYPE.intervals(TYPE.answers(stored), test)
            held.append({name: low <= truth[name] <= high for name, (low, high) in found.items()})
        shown = [metric.name for metric in METRICS if metric.name in held[0]]
        shares = [f"{100 * np.mean([one[name] for one in held]):.1f}" for name in shown]
        rows.append([f"{patients} x {images}", *shares])
        print(*rows[-1], sep="  ", flush=True)
    print(tabulate(rows, ["patients x images", *shown], "pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
