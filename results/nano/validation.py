"""How the trials of README.md were judged: by training and validation images alone.

    python results/nano/validation.py --data DATA [--plugin FILE] [--log FILE] NAME[=WEIGHTS] ...

Images of the training and validation parts of a task are dealt into five folds, whole patients at a
time; each fold is judged by what was learnt from the others. Test images are never read. Classes:
kNN, the linear probe of the paper's protocol (a next fold stops it early), and the logistic one of
`tuned`; macro F1 in percent, the mean over the tasks. Masks: ridge regression from each place of
the maps to the shares of the classes; the mean Dice of 250 images of each task, on 56 x 56 places.

Features pooled by "all+std" (`usjepa/all+std=RUN`) go through a half whitened projection, as
`usjepa train` ends with, fitted anew without the judged fold; others are taken as they are.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize, one_hot

import model_zoo
import tasks
from model_zoo.encoder import Encoder
from tasks.task import Task
from ultrabench_eval import plugins, probes, protocol
from ultrabench_eval.core import parallel
from ultrabench_eval.features import joined
from ultrabench_eval.probes.heads import ProbeData, streams
from usjepa import projection
from usjepa.config import ProjectionSettings

CLASSES = ("aul", "mmotu", "busbra", "busi")
MASKS = ("busbra-seg", "mmotu-seg", "psfhs", "camus")
FOLDS, NEIGHBOURS, IMAGES, PLACES = 5, 20, 250, 56
PROBES = (("linear", "paper", (0, 1)), ("logistic", "tuned", (0,)))


class Part:
    """Images of the training and validation parts of a task, with their folds."""

    def __init__(self, task: Task, most: int = 0) -> None:
        self.images = [*task.train.images, *task.validation.images]
        self.targets = [*task.train.targets, *task.validation.targets]
        groups = [*(task.train.groups or ()), *(task.validation.groups or ())]
        chosen = range(len(self.images))
        if most and most < len(self.images):
            chosen = np.linspace(0, len(self.images) - 1, most).astype(int).tolist()
        self.images = [self.images[row] for row in chosen]
        self.targets = [self.targets[row] for row in chosen]
        self.folds = dealt([groups[row] for row in chosen] if groups else list(chosen))
        self.classes = len(task.classes)


def dealt(groups: Sequence[Any]) -> np.ndarray:
    """A fold for each row; rows of a group stay together, the largest groups go first."""
    names, place, counts = np.unique(
        [str(one) for one in groups], return_inverse=True, return_counts=True
    )
    order = np.random.default_rng(0).permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    sizes, fold = np.zeros(FOLDS), np.zeros(len(names), int)
    for name in order:
        fold[name] = sizes.argmin()
        sizes[fold[name]] += counts[name]
    return fold[place]


def prepared(encoder: Encoder, part: Part) -> Iterator[Tensor]:
    """Batches of prepared images."""
    inputs = parallel.ordered(
        lambda image: encoder.prepare(image.read()), part.images, 3 * encoder.batch_size
    )
    rows = (x for _, x in inputs)
    while batch := list(islice(rows, encoder.batch_size)):
        yield torch.stack(batch)


# ---- classes ------------------------------------------------------------------------------------


def of_classes(encoder: Encoder, parts: Sequence[Part]) -> dict[str, float]:
    """Macro F1 in percent, the mean over the tasks, by kNN and probe."""
    rows = [
        torch.cat([encoder.encode_prepared(x).cpu() for x in prepared(encoder, part)])
        for part in parts
    ]
    whiten = encoder.pooling == "all+std"
    said: dict[str, list[np.ndarray]] = {}
    for fold in range(FOLDS):
        features = rows
        if whiten:
            seen = [row[part.folds != fold] for row, part in zip(rows, parts, strict=True)]
            settings = ProjectionSettings(width=min(512, rows[0].shape[1]))
            weight, bias = projection.directions(torch.cat(seen).double(), settings, 0)
            features = [(row.double() @ weight.mT + bias).float() for row in rows]
        for number, (part, x) in enumerate(zip(parts, features, strict=True)):
            for name, answer in judged(x, part, fold).items():
                kept = said.setdefault(name, [np.zeros(len(one.folds), int) for one in parts])
                kept[number][part.folds == fold] = answer
    return {
        name: float(np.mean([macro_f1(one, part) for one, part in zip(kept, parts, strict=True)]))
        for name, kept in said.items()
    }


def judged(x: Tensor, part: Part, fold: int) -> dict[str, np.ndarray]:
    """The classes of a fold's images, by kNN and each probe."""
    y = torch.tensor(part.targets)
    train, test = torch.from_numpy(part.folds != fold), torch.from_numpy(part.folds == fold)
    unit = normalize(x)
    near, at = (unit[test] @ unit[train].mT).topk(NEIGHBOURS)
    votes = (near / 0.07).exp()[..., None] * one_hot(y[train][at], part.classes)
    said = {"knn": votes.sum(1).argmax(1).numpy()}
    stops = torch.from_numpy(part.folds == (fold + 1) % FOLDS)
    learns = train & ~stops
    data = ProbeData(x[learns], y[learns], x[stops], y[stops], part.classes)
    for name, rules, seeds in PROBES:
        draws = streams(int(learns.sum()), int(stops.sum()), list(seeds), None, None)
        heads = probes.get(name).train(data, draws, protocol.PROTOCOLS[rules]).chosen()
        said[name] = heads.predict(x[test]).mean(0).argmax(-1).numpy()
    return said


def macro_f1(said: np.ndarray, part: Part) -> float:
    """In percent."""
    y, scores = np.array(part.targets), []
    for code in range(part.classes):
        both, either = (
            ((y == code) & (said == code)).sum(),
            (y == code).sum() + (said == code).sum(),
        )
        scores.append(2 * both / either if either else 0.0)
    return 100 * float(np.mean(scores))


# ---- masks --------------------------------------------------------------------------------------


def of_masks(encoder: Encoder, parts: Sequence[Part]) -> float:
    """Mean Dice in percent, the mean over the tasks."""
    return float(np.mean([_dice(encoder, part) for part in parts]))


def _dice(encoder: Encoder, part: Part) -> float:
    maps = torch.cat(
        [joined(encoder.maps_prepared(x)).half().cpu() for x in prepared(encoder, part)]
    )
    shares = torch.stack([_shares(target.read(), part.classes) for target in part.targets])
    grid = tuple(maps.shape[-2:])
    wanted = interpolate(shares, grid, mode="area")
    mean = maps.float().mean((0, 2, 3))
    deviation = maps.float().transpose(0, 1).flatten(1).std(1).clamp_min(1e-6)

    def rows(fold: int) -> Tensor:
        x = maps[part.folds == fold].float().permute(0, 2, 3, 1)
        x = (x - mean) / deviation
        return torch.cat([x, torch.ones_like(x[..., :1])], -1)

    moments, sums = [], []
    for fold in range(FOLDS):
        x = rows(fold).flatten(0, 2)
        moments.append(x.mT @ x)
        sums.append(x.mT @ wanted[part.folds == fold].permute(0, 2, 3, 1).flatten(0, 2))
    scores = []
    for fold in range(FOLDS):
        moment = (sum(moments) - moments[fold]).double()
        ridge = 1e-4 * moment.diagonal().mean() * torch.eye(len(moment), dtype=torch.float64)
        weight = torch.linalg.solve(moment + ridge, (sum(sums) - sums[fold]).double()).float()
        logits = (rows(fold) @ weight).permute(0, 3, 1, 2)
        said = interpolate(logits, (PLACES, PLACES), mode="bilinear").argmax(1)
        truth = shares[part.folds == fold].argmax(1)
        for code in range(1, part.classes):
            one, two = said == code, truth == code
            both, either = (one & two).sum((1, 2)), one.sum((1, 2)) + two.sum((1, 2))
            scores.append((2 * both / either)[two.any(2).any(1)])
    return 100 * float(torch.cat(scores).mean())


def _shares(mask: np.ndarray, classes: int) -> Tensor:
    codes = torch.from_numpy(mask.astype(np.int64)).clamp(0, classes - 1)
    hot = one_hot(codes, classes).permute(2, 0, 1).float()
    return interpolate(hot[None], (PLACES, PLACES), mode="area")[0]


def main() -> None:
    """Print a row for each model, and add it to a log."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("--data", required=True)
    reader.add_argument("--plugin")
    reader.add_argument("--log", type=Path)
    reader.add_argument("models", nargs="+")
    given = reader.parse_args()
    if given.plugin:
        plugins.load_file(Path(given.plugin))
    labelled = [Part(tasks.load(name, given.data)) for name in CLASSES]
    masked = [Part(tasks.load(name, given.data), IMAGES) for name in MASKS]
    for model in given.models:
        name, _, weights = model.partition("=")
        encoder = model_zoo.load(name, weights or None, "cpu", "float32")
        scores = of_classes(encoder, labelled)
        label = Path(weights).name if weights and weights != "random" else model
        row = [label, *(f"{scores[one]:.1f}" for one in ("knn", "linear", "logistic"))]
        row.append(f"{of_masks(encoder, masked):.1f}")
        print(*row, sep=",", flush=True)
        if given.log:
            with given.log.open("a", newline="") as file:
                csv.writer(file).writerow(row)


if __name__ == "__main__":
    main()
