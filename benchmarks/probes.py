"""What our probes cost against what anyone would take instead, CPU seconds on one thread.

    python benchmarks/probes.py [--only linear,ridge,knn] [--faiss PYTHON]

Features are SYNTHETIC: random numbers, whose scores mean nothing. All take turns; the least of
three (of small ridge problems thirty) counts. A ratio is the peer's time over ours.

linear   25 heads, 5 seeds x 5 learning rates, the same number of epochs (no early stopping; fewer
         where the loop would take minutes, all are linear in it). `loop`: nn.Linear with AdamW, one
         head after another. `heads`: as DINOv2 trains them, 25 nn.Linear on the same batches, one
         AdamW with a parameter group each. `wide`: one nn.Linear with 25 x C outputs on the same
         batches and one learning rate, which gives up what differs between seeds and settings; with
         torch's own AdamW, and with its fused one. The last columns are the stack's share of what
         this processor gives in a large matrix product, and its most costly operations.
ridge    ten penalties against `RidgeClassifierCV` (float64, the same penalties). `fit`: the
         solutions alone; `all`: with the scores of M validation images and the choice of their
         sharpness, which the peer has not.
knn      against `faiss.IndexFlatIP`, with the votes of 100 classes by NumPy as in DINO. `--faiss`
         is a Python that has faiss, for instance of an environment of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV
from tabulate import tabulate
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot
from torch.profiler import profile

from ultrabench_eval.probes import knn, linear, ridge
from ultrabench_eval.probes.heads import ProbeData, streams
from ultrabench_eval.protocol import TUNED, Gradient, Protocol

WIDTH, BATCH, SEEDS, TURNS = 768, 32, 5, 3
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
HEADS = SEEDS * len(RATES)
LINEAR = ((3500, 2, 4), (800, 8, 12), (28053, 9, 1))  # images, classes, epochs
RIDGE = ((50, 50, 8), (100, 100, 2), (300, 100, 8), (765, 100, 2), (800, 100, 8), (3500, 350, 2))
KNN = ((3500, 350, 2), (3500, 350, 100), (28053, 2800, 100))
Job = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="linear,ridge,knn")
    parser.add_argument("--faiss", metavar="PYTHON", help="a Python that has faiss")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.only.split(","):
        {"linear": against_loops, "ridge": against_cv}.get(
            name, partial(against_faiss, options.faiss)
        )()
        print()


def seconds(jobs: dict[str, Job], turns: int = TURNS) -> dict[str, float]:
    """CPU seconds of each, the least of several turns."""
    taken: dict[str, float] = {}
    for _ in range(turns):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            took = time.process_time() - start
            taken[name] = min(took, taken.get(name, took))
    return taken


def drawn(count: int, validation: int, classes: int) -> ProbeData:
    rng = torch.Generator().manual_seed(count)
    x, vx = (torch.randn(n, WIDTH, generator=rng) for n in (count, validation))
    y, vy = (torch.randint(classes, (n,), generator=rng) for n in (count, validation))
    return ProbeData(x, y, vx, vy, classes)


# ---- linear -------------------------------------------------------------------------------------


def stack(data: ProbeData, epochs: int) -> None:
    gradient = Gradient(learning_rates=RATES, max_epochs=epochs, patience=epochs)
    draws = streams(len(data.train_x), len(data.validation_x), range(SEEDS), None, None)
    linear.train(data, draws, Protocol(gradient=gradient))


def trained(
    module: nn.Module,
    groups: list[dict[str, object]],
    losses: Callable[[nn.Module, Tensor, Tensor], Tensor],
    data: ProbeData,
    epochs: int,
    fused: bool = False,
) -> None:
    """Train a module on the sum of the mean losses of its heads, [heads]."""
    optimizer = torch.optim.AdamW(groups, weight_decay=1e-4, fused=fused)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for rows in torch.randperm(len(data.train_x)).split(BATCH):
            optimizer.zero_grad()
            losses(module, data.train_x[rows], data.train_y[rows]).sum().backward()
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            losses(module, data.validation_x, data.validation_y).tolist()


def loop(data: ProbeData, epochs: int) -> None:
    for seed in range(SEEDS):
        for rate in RATES:
            torch.manual_seed(seed)
            head = nn.Linear(WIDTH, data.classes)
            groups: list[dict[str, object]] = [{"params": head.parameters(), "lr": rate}]
            trained(head, groups, lambda m, x, y: cross_entropy(m(x), y)[None], data, epochs)


def heads(data: ProbeData, epochs: int) -> None:
    made = nn.ModuleList([nn.Linear(WIDTH, data.classes) for _ in range(HEADS)])
    rates = RATES * SEEDS
    groups: list[dict[str, object]] = [
        {"params": head.parameters(), "lr": rate} for head, rate in zip(made, rates, strict=True)
    ]
    trained(
        *(made, groups),
        lambda m, x, y: torch.stack([cross_entropy(head(x), y) for head in made]),
        *(data, epochs),
    )


def wide(data: ProbeData, epochs: int, fused: bool) -> None:
    def losses(module: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        logits = module(x).view(-1, data.classes)
        each = cross_entropy(logits, y.repeat_interleave(HEADS), reduction="none")
        return each.view(-1, HEADS).mean(0)

    head = nn.Linear(WIDTH, HEADS * data.classes)
    trained(head, [{"params": head.parameters(), "lr": 1e-3}], losses, data, epochs, fused)


def against_loops() -> None:
    square = torch.randn(2048, 2048)
    peak = 2 * 2048**3 / min(seconds({"": lambda: square @ square}, 5).values())
    print(f"a large matrix product: {peak / 1e9:.0f} GFLOP/s")
    rows = []
    for count, classes, epochs in LINEAR:
        data = drawn(count, count // 10, classes)
        work = (data, epochs)
        jobs: dict[str, Job] = {
            "ours": partial(stack, *work),
            "loop": partial(loop, *work),
            "heads": partial(heads, *work),
            "wide": partial(wide, *work, False),
            "wide, fused": partial(wide, *work, True),
        }
        taken = seconds(jobs)
        steps = epochs * -(-count // BATCH)
        flops = 2 * 2 * HEADS * classes * WIDTH * count * epochs
        with profile() as seen:  # of one thread's work, which a pool would hide
            draws = streams(count, count // 10, range(SEEDS), None, None)
            gradient = Gradient(learning_rates=RATES, max_epochs=epochs, patience=epochs)
            linear._train(draws, data, Protocol(gradient=gradient), linear.CROSS_ENTROPY)
        costly = sorted(seen.key_averages(), key=lambda one: -one.self_cpu_time_total)[:4]
        whole = sum(one.self_cpu_time_total for one in seen.key_averages())
        rows.append(
            (
                f"{count} x {WIDTH}, {classes} classes",
                f"{1e6 * taken['ours'] / steps:.0f}",
                *(f"{taken[name] / taken['ours']:.2f}" for name in list(jobs)[1:]),
                f"{flops / taken['ours'] / peak:.0%}",
                ", ".join(f"{o.key[6:]} {o.self_cpu_time_total / whole:.0%}" for o in costly),
            )
        )
    header = ("training features", "µs a step", *list(jobs)[1:], "of FLOP/s", "time in")
    print(tabulate(rows, header, tablefmt="pipe", disable_numparse=True))


# ---- ridge --------------------------------------------------------------------------------------


def against_cv() -> None:
    rows = []
    for count, validation, classes in RIDGE:
        data = drawn(count, validation, classes)
        draws = streams(count, validation, range(SEEDS), None, None)
        scaled = data.of(draws[0], True)
        target = one_hot(scaled.y, classes).double()
        x, y = scaled.x.numpy(), scaled.y.numpy()
        peer = RidgeClassifierCV(alphas=count * np.array(TUNED.penalties))
        taken = seconds(
            {
                "all": partial(ridge.train, data, draws, TUNED),
                "fit": partial(ridge.fitted, scaled.x, target, TUNED.penalties),
                "peer": partial(peer.fit, x, y),
            },
            30 if count < 500 else TURNS,
        )
        ratios = (f"{taken['peer'] / taken[name]:.2f}" for name in ("fit", "all"))
        rows.append(
            (f"{count} + {validation}, {classes} classes", f"{1e3 * taken['all']:.1f}", *ratios)
        )
    header = ("images: training + validation", "ours, all, ms", "peer / fit", "peer / all")
    print(tabulate(rows, header, tablefmt="pipe", disable_numparse=True))


# ---- kNN ----------------------------------------------------------------------------------------

_FAISS = """
import sys, time
import faiss, numpy as np
faiss.omp_set_num_threads(1)
x, y, vx, vy = (np.load(sys.argv[1])[k] for k in ("x", "y", "vx", "vy"))
classes, numbers, best = int(sys.argv[2]), [int(k) for k in sys.argv[3].split(",")], 1e9
for _ in range(int(sys.argv[4])):
    start = time.process_time()
    unit, asked = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, vx))
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(unit)
    cosine, place = index.search(asked, max(numbers))
    weight = np.exp((cosine - cosine[:, :1]) / 0.07)
    for k in numbers:
        ballots = np.full((len(vx), classes), 1 / classes)
        np.add.at(ballots, (np.arange(len(vx))[:, None], y[place[:, :k]]), weight[:, :k])
        ballots /= ballots.sum(1, keepdims=True)
        -np.log(ballots[np.arange(len(vy)), vy]).mean()
    best = min(best, time.process_time() - start)
print(best)
"""


def against_faiss(python: str | None) -> None:
    if python is None:
        return print("knn: no --faiss PYTHON was given")
    rows = []
    for count, validation, classes in KNN:
        data = drawn(count, validation, classes)
        draws = streams(count, validation, range(SEEDS), None, None)
        neighbours = tuple(k for k in TUNED.neighbours if k <= count)
        ours = seconds({"": partial(knn.train, data, draws, Protocol(neighbours=neighbours))})[""]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "features.npz"
            np.savez(
                path, x=data.train_x, y=data.train_y, vx=data.validation_x, vy=data.validation_y
            )
            words = [python, "-c", _FAISS, path, classes, ",".join(map(str, neighbours)), TURNS]
            printed = subprocess.run(list(map(str, words)), capture_output=True, text=True)
        if printed.returncode:
            sys.exit(printed.stderr)
        name = f"{count} + {validation}, {classes} classes"
        rows.append((name, f"{ours:.3f}", f"{float(printed.stdout) / ours:.2f}"))
    header = ("images: training + validation", "ours, s", "faiss / ours")
    print(tabulate(rows, header, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
