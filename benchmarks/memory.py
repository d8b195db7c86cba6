"""Images per second with freed memory kept (`core.memory`) against glibc's habit, in one run.

    python benchmarks/memory.py --model efficientnet-lite0,us-jepa-nano

Each is a process of its own, because kept memory cannot be released again; they take turns, and the
ratio is that of the medians. Faults are pages that the kernel cleared, about, an image.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys

import torch
from tabulate import tabulate

import model_zoo
from ultrabench_eval import throughput
from ultrabench_eval.core import memory


def one(model: str, dtype: str) -> dict[str, float]:
    """Of this process."""
    encoder = model_zoo.load(model, device="cpu", dtype=dtype)
    throughput.rate(encoder)  # what is done once only
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    rate = throughput.rate(encoder)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return {"rate": rate, "faults": faults / (rate * throughput.SECONDS)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="efficientnet-lite0,random-vit-tiny,us-jepa-nano")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--one", choices=("kept", "given back"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        if options.one == "kept":
            assert memory.keep_freed()
        print(json.dumps(one(options.model, options.dtype)))
        return
    rows = []
    for model in options.model.split(","):
        found: dict[str, list[dict[str, float]]] = {"given back": [], "kept": []}
        for _ in range(options.turns):
            for how, runs in found.items():
                words = ["--model", model, "--dtype", options.dtype, "--one", how]
                done = subprocess.run(
                    [sys.executable, __file__, *words], check=True, capture_output=True
                )
                runs.append(json.loads(done.stdout))
        back, kept = (
            {name: statistics.median(run[name] for run in runs) for name in ("rate", "faults")}
            for runs in found.values()
        )
        rows.append((model, *(d[n] for n in ("rate", "faults") for d in (back, kept))))
        rows[-1] += (kept["rate"] / back["rate"],)
    print(f"{options.dtype}, {torch.get_num_threads()} threads; images/s and faults an image")
    header = ("model", "given back", "kept", "faults given back", "faults kept", "ratio")
    print(tabulate(rows, header, floatfmt=("", ".1f", ".1f", ".0f", ".0f", ".2f"), tablefmt="pipe"))


if __name__ == "__main__":
    main()
