"""Images per second of the harness's encode stage against the bare model, in one run.

    python benchmarks/encode.py --data DATA --task busbra

The harness reads, decodes, resizes, encodes and stores the images of a task, with its features in
a fresh folder; the bare model encodes the same number of prepared images that lie in memory, in
batches of the same size and dtype. The two take turns, and each model's ratio is the median over
the turns: 1 means that decoding and resizing cost nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from tabulate import tabulate

import model_zoo
import tasks
from model_zoo import Encoder
from tasks.samples.images import Image
from ultrabench_eval.core import memory
from ultrabench_eval.features import Store, encode_batch

WEIGHTS = {"usf-mae": "random"}  # a ViT-B/16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="data root, or the folder of one task")
    parser.add_argument("--task", default="busbra")
    parser.add_argument("--model", default="efficientnet-lite0,random-vit-tiny,usf-mae")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--dtype", default="float32,bfloat16")
    options = parser.parse_args()
    memory.keep_freed()  # as a run does
    task = tasks.load(options.task, options.data)
    split = task.train
    images = dict(zip(split.digests, split.images, strict=True))
    images = dict(list(images.items())[: options.images])
    rows = []
    for dtype in options.dtype.split(","):
        for name in options.model.split(","):
            encoder = model_zoo.load(name, WEIGHTS.get(name), dtype=dtype)
            turns = [turn(encoder, images) for _ in range(options.turns)]
            ratio = statistics.median(bare / harness for harness, bare in turns)
            harness, bare = (len(images) / statistics.median(t) for t in zip(*turns, strict=True))
            rows.append((name, dtype, str(encoder.device), f"{harness:.1f}", f"{bare:.1f}", ratio))
    header = ("model", "dtype", "device", "harness, images/s", "bare model, images/s", "ratio")
    print(f"{len(images)} images of {options.task}, {torch.get_num_threads()} threads")
    print(tabulate(rows, header, floatfmt=".3f", tablefmt="pipe"))


def turn(encoder: Encoder, images: dict[str, Image]) -> tuple[float, float]:
    """Seconds of the harness and of the bare model for the same images."""
    prepared = [encoder.prepare(image.read()) for image in images.values()]
    encode_batch(encoder, prepared[: encoder.batch_size])  # warm
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        Store(Path(folder) / "features").fill(encoder, images)
        harness = time.perf_counter() - start
    size = encoder.batch_size
    batches = [torch.stack(prepared[i : i + size]) for i in range(0, len(prepared), size)]
    start = time.perf_counter()
    for batch in batches:
        encoder.encode_prepared(batch).cpu()
    return harness, time.perf_counter() - start


if __name__ == "__main__":
    main()
