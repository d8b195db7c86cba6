"""What fine-tuning adds to each model, from packed results by numpy alone.

    python results/tuned_less_frozen.py results/finetune/cells.tar.xz

A score is the mean over probe seeds. The variance of the difference is that of 2,000 resamples of
whole patients, the same ones for both, and of the seeds of either; the interval is normal. Every
score is made again from what is stored of each image and must be the stored one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import over_seeds


def main() -> None:
    words = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    words.add_argument("archive", type=Path)
    results, tests = over_seeds.read(words.parse_args().archive)
    for model, task in sorted({key[:2] for key in results}):
        found = {
            probe.startswith("finetune"): result
            for (name, of, probe, *_), result in results.items()
            if (name, of) == (model, task)
        }
        if len(found) == 2:
            print(f"{model:20} {task:11} {difference(found[True], found[False], tests)}")


def difference(tuned: dict[str, Any], frozen: dict[str, Any], tests: dict[str, Any]) -> str:
    """Both scores and their difference, with its 95 % interval, in percent."""
    test = tests[tuned["identity"]["task"]]
    weights = over_seeds.resampled(test)
    a, b = (over_seeds.score(one, test, weights) for one in (tuned, frozen))
    variance = np.var((a - b)[1:], ddof=1)
    for one in (tuned, frozen):
        seeds = 100 * np.array(one["scores"][one.get("main", "macro_f1")])
        variance += np.var(seeds, ddof=1) / len(seeds)
    half, middle = 1.96 * np.sqrt(variance), a[0] - b[0]
    interval = f"({middle - half:+.1f} to {middle + half:+.1f})"
    return f"frozen {b[0]:5.1f}, fine-tuned {a[0]:5.1f}: {middle:+5.1f} {interval}"


if __name__ == "__main__":
    main()
