"""What a result says of the probes of several folds: one score, and how each fold came to it.

A task with folds (`Task.folds`) is trained, tuned and calibrated in each of them, and its samples
are each tested once. H is the number of seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tasks.task import Task
from ultrabench_eval.probes.heads import Head


def heads(chosen: Sequence[Sequence[Head]]) -> list[dict[str, Any]]:
    """The probe of each seed, H entries.

    Args:
        chosen: of each fold the H heads that were chosen. With several, the validation loss is
            their mean, the setting what they have in common, and each is listed under "folds".
    """
    if len(chosen) == 1:
        return [asdict(head) for head in chosen[0]]
    found = []
    for of_seed in zip(*chosen, strict=True):
        first = of_seed[0]
        common = [set(head.setting.items()) for head in of_seed]
        found.append(
            {
                "subset": first.subset,
                "seed": first.seed,
                "setting": dict(sorted(set.intersection(*common))),
                "validation_loss": sum(head.validation_loss for head in of_seed) / len(of_seed),
                "best_epoch": None,
                "folds": [asdict(head) for head in of_seed],
            }
        )
    return found


def sweep(tried: Sequence[Sequence[Head]]) -> list[dict[str, Any]]:
    """All heads that were tried, with the number of their fold, from 1, where there are several."""
    if len(tried) == 1:
        return [asdict(head) for head in tried[0]]
    return [
        {**asdict(head), "fold": fold} for fold, of_fold in enumerate(tried, 1) for head in of_fold
    ]


def remarks(task: Task) -> list[str]:
    """How a task with folds is measured; nothing of one without."""
    if not task.folds:
        return []
    train, validation = (
        sorted(len(fold.splits[name]) for fold in task.folds) for name in ("train", "validation")
    )
    return [
        f"measured in {len(task.folds)} folds: each sample is tested once, by probes of "
        f"{_span(train)} training and {_span(validation)} validation samples; scores and intervals "
        "are of all predictions together"
    ]


def _span(counts: Sequence[int]) -> str:
    low, high = counts[0], counts[-1]
    return str(low) if low == high else f"{low} to {high}"
