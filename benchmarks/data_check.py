"""`ubench data check` against plain decoding of the same images, side by side.

    python benchmarks/data_check.py --images 10000

The images are SYNTHETIC: smooth noise as JPEG, 480 x 360, laid out as GBCU. Beside decoding, the
check hashes every file, and looks for repeated content and for changes since the last record.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import PIL.Image

import tasks
from tasks.check import check
from tasks.samples.images import decode
from ultrabench_eval.core import parallel


def write_release(folder: Path, count: int) -> None:
    """A GBCU of `count` images, every eighth of them test."""
    (folder / "imgs").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for n in range(count):
        coarse = rng.integers(0, 256, (45, 60), np.uint8)
        image = PIL.Image.fromarray(coarse).resize((480, 360), PIL.Image.Resampling.BICUBIC)
        image.convert("RGB").save(folder / f"imgs/im{n:05d}.jpg", quality=90)
        lists["test" if n % 8 == 0 else "train"].append(f"im{n:05d}.jpg,{n // 8 % 3}\n")
    for name, lines in lists.items():
        (folder / f"{name}.txt").write_text("".join(lines))


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def drained(items: Iterable[object]) -> None:
    for _ in items:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        write_release(Path(root) / "gbcu", options.images)
        task = tasks.load("gbcu", root)
        paths = sorted((Path(root) / "gbcu/imgs").iterdir())
        ways = {
            "plain loop": lambda: drained(map(decode, paths)),
            "plain, threaded": lambda: drained(parallel.ordered(decode, paths)),
            "ubench data check": lambda: check(task),
        }
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(options.rounds):  # in turn, so that a busy machine hits all alike
            for name, work in ways.items():
                best[name] = min(best[name], seconds(work))
    checked = best["ubench data check"]
    for name, took in best.items():
        print(f"{name:18} {took:7.2f} s  {options.images / took:7.0f} images/s", end="")
        print(f"  check / this: {checked / took:.2f}")


if __name__ == "__main__":
    main()
