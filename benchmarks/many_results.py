"""What a report of a hundred models on twenty tasks costs.

    python benchmarks/many_results.py --out DIR [--models 100] [--tasks 20] [--fractions 1,10,100]

The results are measured first, by `ubench run`: the models are a plugin's, random projections of a
thumbnail to 8 numbers, which differ by their seed; the tasks are tables of SYNTHETIC images
(`scale.py`), 300 each, by the ridge probe. Scores mean nothing. DIR keeps them. Then `ubench
report` makes the pages from nothing, and again with nothing new. Prints CPU seconds and peak
memory.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import scale
from tabulate import tabulate

IMAGES = 300
PLUGIN = '''"""Random projections of a thumbnail."""
import torch

import model_zoo


def make(seed):
    class Projection(model_zoo.Encoder):
        input_rule = model_zoo.InputRule(size=16)

        def build(self, weights):
            torch.manual_seed(seed)
            return torch.nn.Linear(3 * 16 * 16, 8)

        def _forward(self, x):
            return self.network(x.flatten(1))

    return Projection


for seed in range(MODELS):
    model_zoo.register(f"projection-{seed:03}")(make(seed))
'''


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--tasks", type=int, default=20)
    parser.add_argument("--fractions", default="1,5,10,50,100")
    options = parser.parse_args()
    out = options.out.resolve()
    run = out / f"run-{options.models}-{options.tasks}-{options.fractions.replace(',', '-')}"
    out.mkdir(parents=True, exist_ok=True)
    plugin = out / "projections.py"
    plugin.write_text(PLUGIN.replace("MODELS", str(options.models)))
    words: list[object] = [
        *("ubench", "run", "--plugin", plugin, "--probe", "ridge", "--fractions"),
        *(options.fractions, "--seeds", "3", "--device", "cpu", "--out", run),
        *("--model", ",".join(f"projection-{seed:03}" for seed in range(options.models))),
        *("--task", ",".join(str(table(out, number)) for number in range(options.tasks))),
        *("--cache", out / "cache", "--dtype", "float32"),
    ]
    rows = [("measuring", *scale.cost(words, out / "log").values())]
    for page in run.glob("leaderboard.*"):
        page.unlink()
    (run / ".report.json").unlink(missing_ok=True)
    for what in ("report", "report again"):
        rows.append((what, *scale.cost(["ubench", "report", run], out / "log").values()))
    size = sum(path.stat().st_size for path in run.rglob("*") if "cells" not in path.parts)
    print(f"{len(list(run.glob('cells/*/*/*.json')))} results; pages {size / 1e6:.0f} MB")
    print(tabulate(rows, ("", "CPU s", "wall s", "peak MB"), floatfmt=".1f", tablefmt="pipe"))


def table(out: Path, number: int) -> Path:
    """A part of the images of `scale.py`, as a task of its own."""
    every = scale.images(out / "images", IMAGES * (number + 1))
    with every.open(newline="") as file:
        rows = list(csv.reader(file))
    path = out / "images" / f"part-{number:02}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *rows[1 + IMAGES * number :]])
    return path


if __name__ == "__main__":
    main()
