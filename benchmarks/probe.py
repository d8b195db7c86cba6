"""How much five probes trained as one stack cost, against five plain loops, side by side.

    python benchmarks/probe.py

The plain loop is what one would write with nn.Linear, one seed after the other, on one thread as
the stack runs. Both train the same number of epochs (no early stopping). Prints ratios.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from ultrabench_eval.probes import linear
from ultrabench_eval.protocol import Protocol

EPOCHS, SEEDS = 20, 5
SHAPES = ((500, 192, 3), (800, 1280, 8), (3500, 768, 2))  # images, feature width, classes


def plain(x: torch.Tensor, y: torch.Tensor, vx: torch.Tensor, vy: torch.Tensor, classes: int):
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        head = nn.Linear(x.shape[1], classes)
        optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=1e-4)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(32):
                optimizer.zero_grad()
                nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()
                optimizer.step()
            with torch.no_grad():
                nn.functional.cross_entropy(head(vx), vy).item()


def main() -> None:
    torch.set_num_threads(1)
    protocol = Protocol(max_epochs=EPOCHS, patience=EPOCHS)
    print("images  width  classes  plain loops / stack")
    for count, width, classes in SHAPES:
        x, y = torch.randn(count, width), torch.randint(classes, (count,))
        split = (x, y, x[:100], y[:100])
        times = {}
        for _ in range(3):  # the best of three, taken in turns, so that a busy moment hits both
            start = time.perf_counter()
            linear.fit(*split, classes=classes, seeds=range(SEEDS), protocol=protocol)
            middle = time.perf_counter()
            plain(*split, classes)
            end = time.perf_counter()
            for name, took in (("stack", middle - start), ("plain", end - middle)):
                times[name] = min(times.get(name, took), took)
        print(f"{count:6} {width:6} {classes:8}  {times['plain'] / times['stack']:.1f}")


if __name__ == "__main__":
    main()
