"""Whether two versions of this software give the same scores, to the last stored digit.

    python benchmarks/same_scores.py OLD NEW --out DIR [--only old] [--data ../shared/data]

OLD and NEW are checkouts with their own environments (`make .venv/.installed` in each). The same
runs are made on this machine with OLD, then with NEW, in float32, each with its own cache below
DIR. What is there already is continued, not repeated; `--only old` makes one side now.

Parts (see `PARTS`): `real` and `phantom` measure four models with the linear, logistic, ridge and
knn probes under both protocols, on four releases and on the eight simulated tasks. The attentive
probe would take many hours on all of them, so it is trained on two small tasks: under both
protocols on the simulated FATTY LIVER (`attentive`), under the paper's on AUL (`attentive_real`).
Models without patch tokens give error rows there, which are compared as well.

Compared: the stored digits of mean and sd of every row of leaderboard.csv, and every score in the
JSON of every result. Intervals are compared and reported separately. Exit code 1: a mean, sd or
score differs, or a row is missing on one side.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

MODELS = "efficientnet-lite0,usrc-jepa-nano/last4,pixels,fan-mask"
FAST_PROBES = "linear,logistic,ridge,knn"
BOTH = "paper,tuned"


class Part(NamedTuple):
    """One `ubench run`."""

    models: str
    tasks: str
    phantom: bool
    probes: str
    protocols: str


PARTS = {
    "real": Part(MODELS, "aul,mmotu,busbra,pocus", False, FAST_PROBES, BOTH),
    "phantom": Part(MODELS, "all", True, FAST_PROBES, BOTH),
    "attentive": Part(MODELS, "fatty_liver", True, "attentive", BOTH),
    "attentive_real": Part(MODELS, "aul", False, "attentive", "paper"),
}
KEY = ("model", "task", "probe", "protocol", "fraction", "corruption", "severity", "metric")


def measure(checkout: Path, side: Path, name: str, data: Path) -> None:
    """One part with one version; its results are in `side / name`."""
    part, command = PARTS[name], checkout / ".venv/bin/ubench"
    if not command.is_file():
        sys.exit(f"{command} is missing; run `make .venv/.installed` in {checkout}")
    words = [
        *(str(command.resolve()), "run", "--model", part.models, "--task", part.tasks),
        *("--data", "phantom" if part.phantom else str(data.resolve())),
        *("--probe", part.probes, "--protocol", part.protocols, "--seeds", "5"),
        *("--out", str((side / name).resolve()), "--cache", str((side / "cache").resolve())),
        *("--dtype", "float32", "--device", "cpu"),
    ]
    print(checkout, *words[1:], flush=True)
    # In the checkout's own folder, so that no file of another one is imported.
    done = subprocess.run(words, cwd=checkout)
    if done.returncode not in (0, 1):  # 1: error rows, which are compared
        sys.exit(f"{command} ended with exit code {done.returncode}; see above")


def rows(out: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The long form of a results folder as text, by what names a row."""
    with (out / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return {tuple(row[column] for column in KEY): row for row in csv.DictReader(file)}


def scores(out: Path) -> dict[tuple[str, ...], object]:
    """What each result's JSON holds of scores and chosen probes, by file and field."""
    found: dict[tuple[str, ...], object] = {}
    for path in sorted((out / "cells").rglob("*.json")):
        name = path.relative_to(out / "cells").as_posix()
        if path.name.endswith(".error.json"):
            found[name, "error"] = True
            continue
        content = json.loads(path.read_text())
        found |= {(name, metric): values for metric, values in content["scores"].items()}
        found[name, "heads"] = content["heads"]
    return found


class Tally:
    """Counts of what was compared, and what differs."""

    def __init__(self) -> None:
        self.table: list[tuple[str, str, int, int, int, int]] = []
        self.differences: list[tuple[str, str, str, object, object]] = []
        self.failed = False

    def add(self, part: str, what: str, old: dict, new: dict, fatal: bool = True) -> None:
        """Compare two mappings of one kind, key by key."""
        missing = old.keys() ^ new.keys()
        differ = [key for key in old.keys() & new.keys() if old[key] != new[key]]
        equal = len(old.keys() & new.keys()) - len(differ)
        self.table.append((part, what, len(old), equal, len(differ), len(missing)))
        self.differences += [
            (part, what, " ".join(key), old.get(key, "missing"), new.get(key, "missing"))
            for key in sorted([*differ, *missing])
        ]
        self.failed |= fatal and bool(differ or missing)


def compare(tally: Tally, part: str, old: Path, new: Path) -> None:
    ours, theirs = rows(old), rows(new)
    for what, columns, fatal in (
        ("mean and sd", ("mean", "sd", "n_seeds", "n_test"), True),
        ("intervals", ("low", "high"), False),
    ):
        sides = [
            {key: tuple(row[column] for column in columns) for key, row in side.items()}
            for side in (ours, theirs)
        ]
        tally.add(part, what, *sides, fatal=fatal)
    tally.add(part, "scores and probes in JSON", scores(old), scores(new))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, help="a checkout with its .venv")
    parser.add_argument("new", type=Path, help="another")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real releases")
    parser.add_argument("--parts", default=",".join(PARTS), help="which parts, comma-separated")
    parser.add_argument("--only", choices=("old", "new"), help="measure one side, compare nothing")
    options = parser.parse_args()
    parts = options.parts.split(",")
    for side in ("old", "new"):
        if options.only in (None, side):
            folder = options.out / side
            folder.mkdir(parents=True, exist_ok=True)
            for part in parts:
                measure(getattr(options, side), folder, part, options.data)
    if options.only:
        return 0
    tally = Tally()
    for part in parts:
        compare(tally, part, options.out / "old" / part, options.out / "new" / part)
    header = ("part", "what", "rows", "equal", "differ", "on one side only")
    print(tabulate(tally.table, header, tablefmt="pipe"))
    if tally.differences:
        header = ("part", "what", "where", "old", "new")
        print("\n" + tabulate(tally.differences, header, tablefmt="pipe", disable_numparse=True))
    print("\nscores differ" if tally.failed else "\nevery mean, sd and score is equal")
    return int(tally.failed)


if __name__ == "__main__":
    sys.exit(main())
