"""Peak memory of an attentive probe on token shards of several sizes.

    python benchmarks/token_memory.py --images 2000,4000,8000
    PYTHONPATH=../before python benchmarks/token_memory.py --images 2000  # another checkout's

Tokens are synthetic, [N, 196, 768] in float16 as a ViT-B/16 gives them, 301 kB per image; four
fifths are training images. Each size is read and trained on for an epoch in a process of its own,
which also scores the validation images. The digest is that of the head and of these predictions:
equal digests are equal bytes. For Linux.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from tabulate import tabulate

from ultrabench_eval import features, probes
from ultrabench_eval.core import hashing
from ultrabench_eval.probes.heads import ProbeData, streams
from ultrabench_eval.protocol import Gradient, Protocol

TOKENS, WIDTH, CLASSES = 196, 768, 9


def write(folder: Path, images: int) -> None:
    """Fill a store, a shard at a time."""
    store = features.Store(folder, "tokens")
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(features.SHARD, TOKENS, WIDTH, generator=generator)
    for start in range(0, images, features.SHARD):
        digests = [str(i) for i in range(start, min(images, start + features.SHARD))]
        shifted = (block[: len(digests)] + start / images).half()
        store._write(digests, shifted, "{}")


def one(folder: Path, images: int, standardize: bool) -> dict[str, object]:
    """Of this process."""
    torch.set_num_threads(1)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # imports had a peak of their own
    start = time.perf_counter()
    store, cut = features.Store(folder, "tokens"), images * 4 // 5
    every = [str(i) for i in range(images)]
    y = torch.arange(images) % CLASSES
    x, vx = store.read(every[:cut]), store.read(every[cut:])
    protocol = Protocol(
        standardize=standardize, gradient=Gradient(learning_rates=(1e-3,), max_epochs=1)
    )
    draws = streams(cut, images - cut, [0], None, None)
    data = ProbeData(x, y[:cut], vx, y[cut:], CLASSES)  # type: ignore[type-var]
    probe = probes.get("attentive").train(data, draws, protocol)
    found = {"query": probe.query, "weight": probe.weight, "bias": probe.bias}
    found["predictions"] = probe.predict(vx)
    seconds, digest = time.perf_counter() - start, hashing.short(hashing.digest_tensors(found))
    return {"before": before, "peak": resident("VmHWM"), "seconds": seconds, "digest": digest}


def resident(field: str) -> float:
    """GB of this process, now (VmRSS) or at most since `clear_refs` was written to (VmHWM)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", default="2000,4000,8000")
    parser.add_argument("--folder", type=Path, help="for the shards; a temporary one by default")
    parser.add_argument("--standardize", choices=("no", "yes", "both"), default="both")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        folder, images, standardize = options.one
        print(json.dumps(one(Path(folder), int(images), standardize == "yes")))
        return
    print(f"code of {Path(features.__file__).parents[1]}")
    rows = []
    both = ("no", "yes") if options.standardize == "both" else (options.standardize,)
    for images in map(int, options.images.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            write(Path(folder) / "f", images)
            for standardize in both:
                words = [str(Path(folder) / "f"), str(images), standardize]
                done = subprocess.run(
                    [sys.executable, __file__, "--one", *words], check=True, capture_output=True
                )
                got = json.loads(done.stdout)
                size = images * TOKENS * WIDTH * 2 / 1e9
                rows.append((images, size, standardize, *got.values()))
    header = ("images", "tokens, GB", "standardised", "GB before", "peak GB", "seconds", "digest")
    formats = ("", ".1f", "", ".2f", ".2f", ".0f", "")
    print(tabulate(rows, header, floatfmt=formats, tablefmt="pipe", disable_numparse=[6]))


if __name__ == "__main__":
    main()
