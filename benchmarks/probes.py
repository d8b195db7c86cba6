"""What 25 probes cost as one stack, against the plain loop that anyone would write, side by side.

    python benchmarks/probes.py

The plain loop trains nn.Linear with AdamW one head after the other, on features in memory, with
all cores; the stack is `linear.fit`. 5 seeds x 5 learning rates, the same number of epochs (no
early stopping). A smaller number of epochs is timed where the loop would take minutes; both are
linear in it.

The last columns say how far the stack is from this machine's limits: of the arithmetic, measured
with a large matrix product, and of the memory, measured with a copy (above 100 %: the caches serve
part of it).
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import nn

from ultrabench_eval.probes import linear
from ultrabench_eval.protocol import Gradient, Protocol

WIDTH, BATCH, SEEDS = 768, 32, 5
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SHAPES = ((3500, 2, 4), (800, 8, 12), (28053, 9, 1))  # images, classes, epochs


def plain(x: torch.Tensor, y: torch.Tensor, vx: torch.Tensor, vy: torch.Tensor, c: int, e: int):
    for seed in range(SEEDS):
        for rate in RATES:
            torch.manual_seed(seed)
            head = nn.Linear(WIDTH, c)
            optimizer = torch.optim.AdamW(head.parameters(), rate, weight_decay=1e-4)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, e)
            for _ in range(e):
                for rows in torch.randperm(len(x)).split(BATCH):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(head(x[rows]), y[rows]).backward()
                    optimizer.step()
                schedule.step()
                with torch.no_grad():
                    nn.functional.cross_entropy(head(vx), vy).item()


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    threads = torch.get_num_threads()
    square = torch.randn(2048, 2048)
    flops = 2 * 2048**3 / min(seconds(lambda: square @ square) for _ in range(5))
    block = torch.randn(64 << 20)
    bandwidth = 2 * 4 * len(block) / min(seconds(lambda: block.clone()) for _ in range(5))
    print(f"{threads} threads, {flops / 1e9:.0f} GFLOP/s, copies {bandwidth / 1e9:.0f} GB/s")
    rows = []
    for count, classes, epochs in SHAPES:
        protocol = Protocol(
            gradient=Gradient(learning_rates=RATES, max_epochs=epochs, patience=epochs)
        )
        x, y = torch.randn(count, WIDTH), torch.randint(classes, (count,))
        vx, vy = x[: count // 10], y[: count // 10]

        def stack(
            data=(x, y, vx, vy), classes: int = classes, protocol: Protocol = protocol
        ) -> None:
            linear.fit(*data, classes=classes, seeds=range(SEEDS), protocol=protocol)

        def loop(data=(x, y, vx, vy), classes: int = classes, epochs: int = epochs) -> None:
            plain(*data, classes, epochs)

        times = [(seconds(stack), seconds(loop)) for _ in range(3)]  # in turns: load hits both
        ours, theirs = (min(column) for column in zip(*times, strict=True))
        heads = SEEDS * len(RATES)
        work = 2 * 2 * heads * classes * WIDTH * count * epochs  # forward and backward products
        # Gathered batches, once a seed; weights, both moments and gradient read and written.
        traffic = 4 * WIDTH * epochs * (2 * SEEDS * count + 7 * heads * classes * count / BATCH)
        rows.append(
            (
                f"{count} x {WIDTH}, {classes} classes",
                f"{theirs / ours:.1f}",
                f"{1e6 * ours / (epochs * -(-count // BATCH)):.0f}",
                f"{work / ours / flops:.0%}",
                f"{traffic / ours / bandwidth:.0%}",
            )
        )
    header = ("training features", "loop / stack", "µs a step of all", "of FLOP/s", "of GB/s")
    print(tabulate(rows, header, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
