"""What 25 dense heads cost as one stack, against the plain loop that anyone would write.

    python benchmarks/dense_heads.py

The plain loop trains batch norm (its statistics known beforehand) and nn.Conv2d with AdamW one head
after the other, with autograd, all cores, and the same loss on the same grid, from a TensorDataset
in memory as float32; the stack is `dense.train`, which begins with float16 maps. 5 seeds x 5
learning rates on maps of random numbers, two classes, 20 epochs without early stopping (`dense`
trains 9 to 40: what is done once, before the first epoch, must not count as if it were done in
each). The two take turns, so that the load of the machine hits both.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ultrabench_eval.feature_rows import InMemory
from ultrabench_eval.probes import dense
from ultrabench_eval.probes.dense_loss import SMOOTHING
from ultrabench_eval.probes.heads import DataOf, streams
from ultrabench_eval.protocol import Protocol

RATES, SEEDS, EPOCHS, BATCH, ROUNDS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2), 5, 20, 16, 2
SHAPES = ((500, 432, 14, 14), (500, 192, 14, 14))


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """As `dense_loss` states it."""
    weight, likely = target.sum(1), logits.softmax(1)
    cross = -(target * logits.log_softmax(1)).sum() / weight.sum()
    overlap, union = (likely * target).sum((0, 2, 3)), (likely * weight[:, None]).sum((0, 2, 3))
    dice = (2 * overlap + SMOOTHING) / (union + target.sum((0, 2, 3)) + SMOOTHING)
    return cross + 1 - dice[1:].mean()


def plain(x: Tensor, y: Tensor, validation_x: Tensor, validation_y: Tensor) -> list[float]:
    """The validation loss of each head."""
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    found = []
    for seed in range(SEEDS):
        for rate in RATES:
            torch.manual_seed(seed)
            norm = nn.BatchNorm2d(x.shape[1], eps=0, affine=False).eval()
            norm.running_mean, norm.running_var = mean, variance
            head = nn.Sequential(norm, nn.Conv2d(x.shape[1], y.shape[1], 1))
            optimizer = torch.optim.AdamW(head.parameters(), rate, weight_decay=1e-4)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
            for _ in range(EPOCHS):
                for images, target in DataLoader(TensorDataset(x, y), BATCH, shuffle=True):
                    optimizer.zero_grad()
                    loss(head(images), target).backward()
                    optimizer.step()
                schedule.step()
                with torch.no_grad():
                    value = loss(head(validation_x), validation_y).item()
            found.append(value)
    return found


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Of wall time and of CPU time."""
    start = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start[0], time.process_time() - start[1]


def main() -> None:
    settings = dense.DenseSettings(
        learning_rates=RATES, batch_size=BATCH, max_epochs=EPOCHS, patience=EPOCHS
    )
    protocol = Protocol(name="benchmark", standardize=True, own=(("dense", settings),))
    rows = []
    for shape in SHAPES:
        x = torch.randn(shape).half()
        y = (3 * torch.randn(shape[0], 2, *shape[2:])).softmax(1)
        data = DataOf(InMemory(x), y, InMemory(x[:50]), y[:50], 2)
        draws = streams(len(x), 50, range(SEEDS), None, None)
        full = x.float()

        def stack(data=data, draws=draws) -> None:
            dense.train(data, draws, protocol)

        def loop(x: Tensor = full, y: Tensor = y) -> None:
            plain(x, y, x[:50], y[:50])

        taken = [(seconds(stack), seconds(loop)) for _ in range(ROUNDS)]
        ours, theirs = (
            [min(one) for one in zip(*side, strict=True)] for side in zip(*taken, strict=True)
        )
        rows.append(
            [
                " x ".join(map(str, shape)),
                *(f"{value:.1f}" for value in (*ours, *theirs)),
                *(f"{b / a:.1f}" for a, b in zip(ours, theirs, strict=True)),
            ]
        )
    header = ("maps", "stack: wall s", "CPU s", "loop: wall s", "CPU s", "loop / stack", "of CPU")
    print(f"{torch.get_num_threads()} threads, 25 heads, {EPOCHS} epochs, batches of {BATCH}")
    print(tabulate(rows, header, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
