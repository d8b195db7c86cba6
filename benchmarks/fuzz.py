"""A seeded fuzzer: nothing is silently wrong, whatever lies in the folders.

    python benchmarks/fuzz.py [--inputs 1000] [--seed 0] [--old CHECKOUT] [--jobs 2]
    python benchmarks/fuzz.py --only 417      # one input again, with all that was said

Each input is a copy of a small clean folder (`fuzzing/worlds.py`) in which one thing is damaged, or
is a whole and valid file of another run, model, seed count, data, time or version in its place
(`fuzzing/families.py`). One command is run on it. Right (`fuzzing/judge.py`): the tables (for a
training: the encoder) are those of the clean folder, byte for byte; or exit code 1 or 2 with a
sentence that names a file and a remedy; or a row or mark in the tables that tells. Files that are
written in another way, such as an image in another format, must give the same numbers.

`--old` is a checkout of the version before with its .venv, whose results, features, checkpoints
and indexes then take part. All images are SYNTHETIC. Exit code 1: an input went wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import NamedTuple

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # before torch is imported

import torch
from fuzzing import judge, process, worlds
from fuzzing.families import FAMILIES, Trial
from fuzzing.judge import Verdict
from fuzzing.process import Done
from fuzzing.worlds import Worlds
from tabulate import tabulate


class Result(NamedTuple):
    """Of one input."""

    number: int
    family: str
    verdict: Verdict
    words: str
    done: Done


def order(light: bool = False) -> list[str]:
    """100 families by their weights, mixed, so that a few inputs hold some of each."""
    queue = [
        ((number + 0.5) / family.weight, name)
        for name, family in FAMILIES.items()
        for number in range(family.weight)
        if not (light and family.world == "wide")
    ]
    return [name for _, name in sorted(queue)]


def one(number: int, seed: int, clean: Worlds, family: str | None = None) -> Result:
    """Make an input, run its command, judge."""
    names = order(clean.light)
    family = family or names[number % len(names)]
    kind = FAMILIES[family]
    rng = Random(f"{seed} {number}")
    with tempfile.TemporaryDirectory(dir=clean.root, prefix="input") as place:
        folder = Path(place, "here")
        shutil.copytree(clean.root / kind.world, folder, symlinks=True)
        trial = kind.make(rng, folder, clean)
        done = process.run(trial.command, folder)
        verdict = _judged(trial, done, folder, clean)
    words = f"{trial.words}; {' '.join(trial.command[:2])}"
    return Result(number, family, verdict, words, done)


def _judged(trial: Trial, done: Done, folder: Path, clean: Worlds) -> Verdict:
    program = trial.command[0]
    if program == "ubench":
        out = folder / trial.found
        return judge.of_run(done, out, clean.tables[trial.clean], trial.numbers_only)
    found = trial.found
    if found == "then train":  # what an index is worth shows when it is used
        if done.code:
            return judge.of_file(done, program, folder / found, b"")
        done, found = process.run(worlds.TRAIN, folder), "run/encoder.safetensors"
    return judge.of_file(done, program, folder / found, clean.files[trial.clean])


def many(numbers: range, seed: int, clean: Worlds, jobs: int) -> Iterator[Result]:
    """Results in order; a few at a time."""
    with multiprocessing.get_context("fork").Pool(jobs) as pool:  # threads and forks do not mix
        yield from pool.imap(partial(one, seed=seed, clean=clean), numbers)


def table(results: list[Result]) -> str:
    """Counts by family."""
    rows = []
    for family in FAMILIES:
        counts = Counter(one.verdict for one in results if one.family == family)
        rows.append((family, counts.total(), *(counts[verdict] for verdict in Verdict)))
    sums = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    header = ("family", "inputs", *(verdict.value for verdict in Verdict))
    return tabulate([*rows, ("all", *sums)], header, tablefmt="pipe")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--only", type=int, help="one input, by its number")
    parser.add_argument("--old", type=Path, help="a checkout of the version before")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--worlds", type=Path, help="folder to keep the clean worlds in")
    parser.add_argument("--light", action="store_true", help="no fractions and corruptions")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="fuzz") as temporary:
        clean = Worlds.at(options.worlds or Path(temporary), options.old, options.light)
        if options.only is not None:
            found = one(options.only, options.seed, clean)
            print(f"{found.family}: {found.words}\nexit code {found.done.code}\n{found.done.text}")
            print(found.verdict.value)
            return int(found.verdict.bad)
        results = []
        numbers = range(options.first, options.first + options.inputs)
        for found in many(numbers, options.seed, clean, options.jobs):
            results.append(found)
            if found.verdict.bad:
                again = f"fuzz.py --seed {options.seed} --only {found.number}"
                print(f"{found.verdict.value}: {found.family}: {found.words}: {again}", flush=True)
    print(f"\nseed {options.seed}, {'with' if options.old else 'without'} the version before")
    print(table(results))
    print(f"{sum(FAMILIES[r.family].misplaced for r in results)} are valid files, misplaced")
    return int(any(found.verdict.bad for found in results))


if __name__ == "__main__":
    sys.exit(main())
