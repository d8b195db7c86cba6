"""Where the time of a whole grid goes, for one encoder whose features are in the cache.

    python benchmarks/grid.py [--probes linear,ridge,knn] [--protocols paper] [--width 768]

Eight tasks of the sizes that the paper states (Table 4), five seeds, five fractions, nine corrupted
test sets. Features and labels are SYNTHETIC: random clouds, as wide as a ViT-B's; scores mean
nothing. Prints seconds by stage and the total, and what part of the total each is.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from tabulate import tabulate

import tasks
from ultrabench_eval import fewshot, probes, protocol
from ultrabench_eval.probes.heads import ProbeData, streams
from ultrabench_eval.protocol import Protocol
from ultrabench_eval.task_types import classification

SEEDS, FRACTIONS, CORRUPTED = 5, (1, 5, 10, 50, 100), 9


class Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start


def clouds(count: int, width: int, classes: int, generator: torch.Generator):
    y = torch.randint(classes, (count,), generator=generator)
    x = torch.randn(count, width, generator=generator)
    x[torch.arange(count), y] += 2
    return x, y


def measure(card: tasks.TaskCard, probe: str, how: Protocol, width: int, clock: Clock) -> None:
    generator = torch.Generator().manual_seed(0)
    classes = len(card.classes)
    counts = card.paper_counts or (700, 100, 200)
    (x, y), (vx, vy), (tx, ty) = (clouds(n, width, classes, generator) for n in counts)
    groups = [f"{row // 10}" for row in range(len(ty))] if card.groups != "none" else None
    with clock("few-shot draws"):
        rows = [
            [
                torch.from_numpy(fewshot.subset(y.numpy(), None, percent, seed, "train"))
                for seed in range(SEEDS)
            ]
            for percent in FRACTIONS[:-1]
        ] + [[torch.arange(len(y))] * SEEDS]
    with clock(f"{probe} probes"):
        data = ProbeData(x, y, vx, vy, classes)
        draws = streams(len(y), len(vy), range(SEEDS), rows, None)
        stack = probes.get(probe).train(data, draws, how)
    cells = [*range(len(FRACTIONS)), *[len(FRACTIONS) - 1] * CORRUPTED]
    for subset in cells:
        chosen = stack.of_subset(subset).chosen()
        with clock("predictions"):
            test, validation = (chosen.predict(z).numpy() for z in (tx, vx))
        with clock("metrics"):
            of_validation = (validation, vy.numpy())
            classification.score(test, ty.numpy(), groups=groups, validation=of_validation)
        with clock("intervals"):
            classification.intervals_of(test.argmax(-1), ty.numpy(), groups, classes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probes", default="linear")
    parser.add_argument("--protocols", default="paper")
    parser.add_argument("--width", type=int, default=768)
    options = parser.parse_args()
    whole, rows = Clock(), []
    for name in tasks.OF_THE_PAPER:
        card, clock = tasks.card(name), Clock()
        for probe in options.probes.split(","):
            for how in options.protocols.split(","):
                measure(card, probe, protocol.load(how), options.width, clock)
        rows.append((name, *(card.paper_counts or ()), sum(clock.seconds.values())))
        for stage, seconds in clock.seconds.items():
            whole.seconds[stage] += seconds
    total = sum(whole.seconds.values())
    print(f"SYNTHETIC features, {torch.get_num_threads()} threads")
    header = ("task", "train", "validation", "test", "seconds")
    print(tabulate(rows, header, floatfmt=".1f", tablefmt="pipe"), end="\n\n")
    stages = [(s, t, f"{t / total:.0%}") for s, t in whole.seconds.items()]
    print(tabulate([*stages, ("all", total, "")], ("stage", "seconds", ""), floatfmt=".1f",
                   tablefmt="pipe"))  # fmt: skip


if __name__ == "__main__":
    main()
