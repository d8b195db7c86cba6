"""Scores of an encoder that is still being trained: a ridge probe on validation images.

    usjepa train ... --probe ultrabench_eval.live:ridge        (with $UBENCH_DATA set)

or, with a loop of your own, `score = RidgeProbe(tasks)`, then `score(encoder)` every few epochs.
Test images are never looked at, so that choosing by these scores spoils no test.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import tasks as task_zoo
from model_zoo.encoder import Encoder
from tasks.task import Split, Task
from ultrabench_eval import probes
from ultrabench_eval.core import parallel
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.features import encode_batch
from ultrabench_eval.probes.heads import ProbeData, streams
from ultrabench_eval.protocol import PAPER
from ultrabench_eval.task_types import classification


class RidgeProbe:
    """Fits a ridge classifier on training images, again at each call.

    Args:
        tasks: what to measure on.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tuple(tasks)

    def __call__(self, encoder: Encoder) -> dict[str, float]:
        """Macro F1 on validation images in percent, by task, and their `mean`.

        Args:
            encoder: of the zoo's kind; nothing of it is kept.

        Raises:
            UserError: an image cannot be read.
        """
        scores = {task.name: self._score(encoder, task) for task in self.tasks}
        return {**scores, "mean": sum(scores.values()) / len(scores)}

    def _score(self, encoder: Encoder, task: Task) -> float:
        train, validation = task.train, task.validation
        data = ProbeData(
            _features(encoder, train),
            torch.from_numpy(train.labels),
            _features(encoder, validation),
            torch.from_numpy(validation.labels),
            len(task.classes),
        )
        draws = streams(len(train), len(validation), [0], None, None)
        head = probes.get("ridge").train(data, draws, PAPER).chosen()
        predicted = head.predict(data.validation_x)[0].argmax(-1).numpy()
        counts = classification.confusion(predicted, validation.labels, len(task.classes))
        return 100 * float(classification.of_counts(classification.MACRO_F1, counts))


def ridge(encoder: Encoder) -> dict[str, float]:
    """`RidgeProbe` on all tasks below $UBENCH_DATA.

    Raises:
        UserError: $UBENCH_DATA is not set, holds no task, or a task that cannot be read.
    """
    root = os.environ.get("UBENCH_DATA")
    if not root:
        raise UserError("the live probe has no data; set UBENCH_DATA to the folder of the tasks")
    return _probe_at(root)(encoder)


@lru_cache(maxsize=1)
def _probe_at(root: str) -> RidgeProbe:
    names = [
        name
        for name in task_zoo.names()
        if (Path(root) / name).is_dir()
        and task_zoo.card(name).type == "classification"
        and task_zoo.card(name).samples == "image"
    ]
    if not names:
        raise UserError(f"no task is in {root}; set UBENCH_DATA to the folder of the tasks")
    return RidgeProbe([task_zoo.load(name, root) for name in names])


def _features(encoder: Encoder, split: Split) -> Tensor:
    """Features [N, D] of a split, on the CPU."""
    prepared = parallel.ordered(
        lambda image: encoder.prepare(image.read()), split.images, 3 * encoder.batch_size
    )
    inputs = (x for _, x in prepared)
    rows = []
    while batch := list(islice(inputs, encoder.batch_size)):
        rows.append(encode_batch(encoder, batch))
    return torch.cat(rows)
