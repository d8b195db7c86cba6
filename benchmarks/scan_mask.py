"""Milliseconds of processor time that a scan mask takes beside decoding the image, in one run.

    python benchmarks/scan_mask.py --data DATA --task aul,mmotu

Decoding and estimating take turns, image by image; the ratio is the median over the images, each
image's times being the least of its turns. A ratio of 1 means that a mask costs what decoding does.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
from tabulate import tabulate

import tasks
from tasks.scan import scan_mask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="data root, or the folder of one task")
    parser.add_argument("--task", default="aul,busbra,mmotu")
    parser.add_argument("--images", type=int, default=40, help="images of each task")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for name in options.task.split(","):
        images = tasks.load(name, options.data).train.images
        chosen = [images[i] for i in np.linspace(0, len(images) - 1, options.images).astype(int)]
        times = []
        for image in chosen:
            turns = []
            for _ in range(options.turns):
                start = time.process_time()
                pixels = image.read()
                decoded = time.process_time()
                scan_mask.estimate(pixels)
                turns.append((decoded - start, time.process_time() - decoded))
            times.append([1e3 * min(turn) for turn in zip(*turns, strict=True)])
        decode, estimate = (statistics.median(t) for t in zip(*times, strict=True))
        ratio = statistics.median(e / d for d, e in times)
        height, width = np.median([image.read().shape[:2] for image in chosen], axis=0)
        rows.append((name, f"{width:.0f} x {height:.0f}", decode, estimate, ratio))
    header = ("task", "pixels, median", "decode, ms", "mask, ms", "mask : decode")
    print(tabulate(rows, header, floatfmt=".1f", tablefmt="pipe"))


if __name__ == "__main__":
    main()
