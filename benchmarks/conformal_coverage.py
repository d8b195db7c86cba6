"""How often does the 90 % prediction interval of a regression task hold the truth?

    python benchmarks/conformal_coverage.py --data DATA [--task hc18-hc] [--splits 200]

All images of a task are divided into training, validation and test (60, 20 and 20 % of the
patients), many times; features are computed once, and cached. For each division the ridge probe is
trained, its penalty chosen and the interval calibrated, as `ubench run` does it. Of each model the
table gives, over all divisions:

by image    part of the test images whose target is inside, mean; its standard deviation in brackets
by patient  the same with patients counted alike, which is what is guaranteed
width       of the interval, mean
images      by image, if the interval is calibrated as if each image were of another patient
training    by image, if it is calibrated on training images: what a leak would look like

Exits with 1 if any mean by patient is more than 2 points from 90.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tabulate import tabulate

from tasks.task import Split, Task
from ultrabench_eval import protocol
from ultrabench_eval.core import hashing
from ultrabench_eval.embed import embed
from ultrabench_eval.probes import ridge_regression
from ultrabench_eval.probes.heads import ProbeData, streams
from ultrabench_eval.task_types import conformal
from ultrabench_eval.task_types.regression import TYPE, Numbers

SHARES = (0.6, 0.8)  # of the patients, where validation and test begin
ALLOWED = 0.02


class Found(NamedTuple):
    """Of one division."""

    by_image: float
    by_patient: float
    width: float
    as_images: float
    of_training: float


def everything(task: Task) -> Numbers:
    """Targets, factors and patients of all images, in the order of `embed`."""
    items = [item for split in task.splits.values() for item in split.items]
    truth = TYPE.truth(Split.of(items))
    groups = np.arange(len(truth)) if truth.groups is None else truth.groups
    return Numbers(truth.values, truth.factors, groups)


def divided(groups: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    """Rows of training, validation and test, by patient."""
    names = generator.permutation(np.unique(groups))
    parts = np.split(names, [round(share * len(names)) for share in SHARES])
    return [np.flatnonzero(np.isin(groups, part)) for part in parts]


def measured(x: torch.Tensor, truth: Numbers, generator: np.random.Generator) -> Found:
    """One division."""
    rows = divided(truth.groups, generator)
    train, validation, test = (truth[part] for part in rows)
    train_x, validation_x, test_x = (x[torch.from_numpy(part)] for part in rows)
    taught = [torch.from_numpy(TYPE.taught(one, x.shape[1:])) for one in (train, validation)]
    data = ProbeData(train_x, taught[0], validation_x, taught[1], 0)
    draws = streams(len(train), len(validation), [0], None, None)
    probe = ridge_regression.train(data, draws, protocol.REGRESSION).chosen()

    def errors(features: torch.Tensor, of: Numbers) -> np.ndarray:
        return np.asarray(probe.predict(features)[0].numpy() * of.factors - of.values)

    of_validation, of_test = errors(validation_x, validation), np.abs(errors(test_x, test))
    half = conformal.half_width(of_validation, validation.groups)
    inside = of_test <= half
    _, member, sizes = np.unique(test.groups, return_inverse=True, return_counts=True)
    leaked = conformal.half_width(errors(train_x, train), train.groups)
    return Found(
        inside.mean(),
        float((np.bincount(member, inside) / sizes).mean()),
        2 * half,
        (of_test <= conformal.half_width(of_validation)).mean(),
        (of_test <= leaked).mean(),
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--task", default="hc18-hc")
    parser.add_argument("--models", default="efficientnet-lite0,pixels,image-stats")
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--cache", type=Path)
    options = parser.parse_args()
    table, wrong = [], False
    for model in options.models.split(","):
        made = embed(model, options.task, data=options.data, cache=options.cache)
        truth, x = everything(made.task), torch.from_numpy(made.features)
        generator = np.random.default_rng(hashing.seed_for(0, f"coverage/{options.task}"))
        found = np.array([measured(x, truth, generator) for _ in range(options.splits)])
        mean, sd = Found(*found.mean(0)), Found(*found.std(0, ddof=1))
        wrong |= abs(mean.by_patient - conformal.LEVEL) > ALLOWED
        table.append(
            [
                model,
                f"{100 * mean.by_image:.1f} ({100 * sd.by_image:.1f})",
                f"{100 * mean.by_patient:.1f} ({100 * sd.by_patient:.1f})",
                f"{mean.width:.1f} {made.task.card.unit}",
                f"{100 * mean.as_images:.1f}",
                f"{100 * mean.of_training:.1f}",
            ]
        )
    print(
        f"{options.task}: {len(truth)} images of {len(np.unique(truth.groups))} patients, "
        f"{options.splits} divisions"
    )
    header = ("model", "by image", "by patient", "width", "images", "training")
    print(tabulate(table, header, "pipe", disable_numparse=True))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
