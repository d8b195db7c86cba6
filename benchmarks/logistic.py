"""The logistic probe against scikit-learn's, four costs, CPU seconds on one thread.

    python benchmarks/logistic.py

Features are simulated: 768 numbers whose spread falls like those of a trained network, classes that
overlap. Scikit-learn (L-BFGS) runs once as it comes (tol 1e-4, but steps enough) and once with the
largest tolerance of 1e-4, 1e-5 ... that brings every cost within 1e-4 of the least objective that
anyone reached. Each is timed three times, in turns; the least counts. An excess is how far the
objective lies above the least one, relatively, at the worst cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from sklearn.linear_model import LogisticRegression
from tabulate import tabulate
from torch import Tensor
from torch.nn.functional import one_hot

from ultrabench_eval.probes import logistic

COSTS = (0.01, 1.0, 10.0, 100.0)
SHAPES = ((765, 2), (800, 8), (3500, 2), (2000, 8))
WIDTH, TURNS, ALLOWED = 768, 3, 1e-4

Solution = tuple[Tensor, Tensor]
"""Weights [S, C, D] and biases [S, C]."""


def features(count: int, classes: int) -> tuple[Tensor, Tensor]:
    """Standardised features float64 [N, D] and classes [N]."""
    rng = torch.Generator().manual_seed(count)
    y = torch.randint(classes, (count,), generator=rng)
    spread = torch.arange(1, WIDTH + 1, dtype=torch.float64) ** -0.8
    turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=rng, dtype=torch.float64))[0]
    centres = 0.1 * torch.randn(classes, WIDTH, generator=rng, dtype=torch.float64)
    x = torch.randn(count, WIDTH, generator=rng, dtype=torch.float64)
    x = ((x + centres[y]) * spread) @ turn
    return (x - x.mean(0)) / x.std(0), y


def ours(x: Tensor, y: Tensor) -> Solution:
    penalties = 1 / (len(x) * torch.tensor(COSTS, dtype=torch.float64))
    return logistic.solve(x, one_hot(y).to(x), penalties)


def peer(x: Tensor, y: Tensor, tolerance: float) -> Solution:
    classes = int(y.max()) + 1
    parts = []
    for cost in COSTS:
        # Of two classes scikit-learn penalises the difference of their weights, twice the sum.
        known = LogisticRegression(
            C=2 * cost if classes == 2 else cost, tol=tolerance, max_iter=100_000
        ).fit(x.numpy(), y.numpy())
        weight, bias = torch.tensor(known.coef_), torch.tensor(known.intercept_)
        if classes == 2:
            weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
        parts.append((weight, bias))
    return torch.stack([w for w, _ in parts]), torch.stack([b for _, b in parts])


def objectives(x: Tensor, y: Tensor, found: Solution) -> Tensor:
    """[S]."""
    weight, bias = found
    logits = torch.einsum("nd,scd->snc", x, weight) + bias.unsqueeze(1)
    loss = -logits.log_softmax(-1)[:, torch.arange(len(y)), y].mean(1)
    return loss + weight.square().sum((1, 2)) / (2 * len(x) * torch.tensor(COSTS))


def main() -> None:
    torch.set_num_threads(1)
    rows = []
    for count, classes in SHAPES:
        x, y = features(count, classes)
        jobs: dict[str, Callable[[], Solution]] = {"ours": partial(ours, x, y)}
        for power in range(4, 9):
            jobs[f"tol {10.0**-power:g}"] = partial(peer, x, y, 10.0**-power)
        reached = {name: objectives(x, y, job()) for name, job in jobs.items()}
        least = torch.stack(list(reached.values())).amin(0)
        excess = {name: float((one / least - 1).max()) for name, one in reached.items()}
        equal = next((name for name in jobs if name != "ours" and excess[name] <= ALLOWED), None)
        timed = {name: jobs[name] for name in ("ours", "tol 0.0001", equal) if name}
        taken: dict[str, float] = {}
        for _ in range(TURNS):
            for name, job in timed.items():
                start = time.process_time()
                job()
                took = time.process_time() - start
                taken[name] = min(took, taken.get(name, took))
        for name, took in taken.items():
            ratio = f"{took / taken['ours']:.2f}" if name != "ours" else ""
            shown = name if name == "ours" else f"scikit-learn, {name}"
            rows.append(
                [f"{count} x {classes}", shown, f"{took:.2f}", ratio, f"{excess[name]:.1e}"]
            )
    print(tabulate(rows, ["images x classes", "", "CPU s", "peer / ours", "excess"]))


if __name__ == "__main__":
    main()
