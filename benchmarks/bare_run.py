"""CPU seconds of a cold run and of a cached one, beside those of the bare network, in turns.

    python benchmarks/bare_run.py --data DATA [--model efficientnet-lite0] [--turns 3]

A cold run reads, checks and encodes all images of the tasks, trains probes of five seeds and writes
all pages; the cached one is the same command again. The bare network is a process that encodes as
many prepared images (random ones, in memory) in batches of the same size, and does nothing else;
its seconds are those of the loop, without imports. It is timed twice: as anyone would write it, and
with the setting of memory that a run has (`memory.keep_freed`), which alone saves a quarter.
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

BARE = """
import sys, time, torch, model_zoo
from ultrabench_eval.core import memory
if sys.argv[3] == "kept":
    memory.keep_freed()
encoder = model_zoo.load(sys.argv[1], dtype="float32", device="cpu")
left, size = int(sys.argv[2]), encoder.input_rule.size
batch = torch.rand(encoder.batch_size, 3, size, size)
encoder.encode_prepared(batch)
start = time.process_time()
while left > 0:
    encoder.encode_prepared(batch[:left])
    left -= len(batch)
print(time.process_time() - start)
"""


def run(options: argparse.Namespace, place: Path) -> float:
    """CPU seconds of `ubench run` with its cache and results in a folder."""
    words = [
        *(str(Path(sys.executable).with_name("ubench")), "run", "--model", options.model),
        *("--task", options.task, "--data", str(options.data.resolve()), "--seeds", "5"),
        *("--out", str(place / "out"), "--cache", str(place / "cache")),
        *("--dtype", "float32", "--device", "cpu"),
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bare(options: argparse.Namespace, images: int, freed: str) -> float:
    """CPU seconds of the network alone; `freed` memory is "kept" or "returned"."""
    words = [sys.executable, "-c", BARE, options.model, str(images), freed]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def images(options: argparse.Namespace) -> int:
    """How many images the tasks hold."""
    import tasks

    loaded = [tasks.load(name, options.data) for name in options.task.split(",")]
    parts = [part for task in loaded for part in (task.train, task.validation, task.test)]
    return len({digest for part in parts for digest in part.digests})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--task", default="aul,mmotu,busbra")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    count = images(options)
    turns = []
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.turns):
            place = Path(folder, str(turn))
            alone = (bare(options, count, freed) for freed in ("returned", "kept"))
            turns.append((run(options, place), run(options, place), *alone))
    cold, cached, *_ = medians = [statistics.median(column) for column in zip(*turns, strict=True)]
    names = ("bare network", "bare network, freed memory kept", "cached run")
    rows = [
        (name, took, cold / took) for name, took in zip(names, (*medians[2:], cached), strict=True)
    ]
    print(f"{options.model}, {count} images; a cold run: {cold:.1f} CPU s")
    print(tabulate(rows, ("", "CPU s", "cold run / this"), floatfmt=".2f", tablefmt="pipe"))


if __name__ == "__main__":
    main()
