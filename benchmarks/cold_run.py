"""CPU seconds of a cold run and of a fully cached one, of two versions in turns.

    python benchmarks/cold_run.py OLD NEW [--data ../shared/data] [--model usrc-jepa-nano,pixels]

OLD and NEW are checkouts with their own environments (`make .venv/.installed` in each). A cold run
has an empty cache and an empty results folder; the cached one is the same command again. The two
versions take turns, so that a slower minute hits both. Prints each pair, the median of the ratios,
and for cached runs the median of the differences, per model.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tabulate import tabulate


def seconds(checkout: Path, place: Path, options: argparse.Namespace) -> float:
    """CPU seconds, of user and system, of one run with its cache and results in a folder."""
    command = checkout / ".venv/bin/ubench"
    if not command.is_file():
        sys.exit(f"{command} is missing; run `make .venv/.installed` in {checkout}")
    words = [
        *(str(command.resolve()), "run", "--model", options.model, "--task", options.task),
        *("--data", str(options.data.resolve()), "--seeds", "5"),
        *("--out", str(place / "out"), "--cache", str(place / "cache")),
        *("--dtype", "float32", "--device", "cpu"),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=checkout, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(words)} ended with exit code {done.returncode}:\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, help="a checkout with its .venv")
    parser.add_argument("new", type=Path, help="another")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="usrc-jepa-nano/last4")
    parser.add_argument("--task", default="aul,mmotu,busbra,pocus")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    models = len(options.model.split(","))
    pairs: dict[str, list[tuple[float, float]]] = {"cold": [], "cached": []}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.pairs):
            places = [Path(folder, f"{turn}-{side}") for side in ("old", "new")]
            for kind, found in pairs.items():
                old, new = (
                    seconds(checkout, place, options)
                    for checkout, place in zip((options.old, options.new), places, strict=True)
                )
                found.append((old, new))
                print(f"pair {turn + 1}, {kind}: {old:.1f} s, {new:.1f} s", flush=True)
    rows = [
        (
            kind,
            *(statistics.median(column) for column in zip(*found, strict=True)),
            statistics.median(new / old for old, new in found),
            statistics.median((new - old) / models for old, new in found),
        )
        for kind, found in pairs.items()
    ]
    header = ("run", "old, CPU s", "new, CPU s", "ratio", "more per model, s")
    print(tabulate(rows, header, floatfmt=("", ".1f", ".1f", ".3f", ".2f"), tablefmt="pipe"))


if __name__ == "__main__":
    main()
