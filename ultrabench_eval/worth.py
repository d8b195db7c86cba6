"""What would make a result on own data worthless, told before anything is measured.

Too few patients, images of training that testing shows again, and labels that can be predicted
without looking at tissue: from the size of images, their grey levels, the outline of the scan, or
what stands around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import model_zoo
from model_zoo.encoder import Encoder
from tasks.near_duplicates import duplicates, search, signatures
from tasks.near_duplicates.signatures import Signature, Signatures
from tasks.own_data.draw import FEW
from tasks.samples.clips import still
from tasks.samples.images import Image
from tasks.task import SPLITS, Task
from ultrabench_eval import probes
from ultrabench_eval.audit import collection
from ultrabench_eval.audit.audit import SamePicture, together
from ultrabench_eval.core import parallel
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.features import encode_batch
from ultrabench_eval.probes.heads import ProbeData, streams
from ultrabench_eval.protocol import TUNED
from ultrabench_eval.task_types import classification
from ultrabench_eval.test_set import TestSet

AT_MOST = 1000
"""Images of a part that the controls are measured on, evenly from all."""


class _Clue(NamedTuple):
    """What a control sees of an image, besides tissue."""

    words: str
    control: str
    columns: slice


_CLUES = (
    _Clue("image size", "image-stats", slice(0, 3)),
    _Clue("brightness and colours", "image-stats", slice(3, None)),
    _Clue("outline of the scan", "fan-mask", slice(None)),
    _Clue("text and marks around the scan", "border", slice(None)),
)


class ClueScore(NamedTuple):
    """How well the labels of test images are predicted from one clue; all in [0, 1]."""

    clue: str
    score: float
    """Balanced accuracy, of which chance is one over the number of classes."""
    low: float
    """95 % interval over test patients."""
    high: float
    chance: float

    @property
    def telling(self) -> bool:
        """Whether chance does not explain it."""
        return self.low > self.chance


@dataclass(frozen=True)
class Worth:
    """What was found."""

    few: tuple[str, ...]
    """A sentence for each class with few patients in a part."""
    same: tuple[str, ...]
    """A sentence for each two parts that show the same picture."""
    scores: tuple[ClueScore, ...]
    notes: tuple[str, ...]
    """What to know of how it was looked for, a sentence each."""

    @property
    def problems(self) -> tuple[str, ...]:
        """All that is wrong, one sentence each."""
        return (*self.few, *self.same, *(_sentence(one) for one in self.scores if one.telling))


def look(task: Task, progress: Callable[[int, int], None] = lambda done, total: None) -> Worth:
    """Look at all images of a task once; clues are measured where it tells classes.

    Args:
        task: of which every image can be read.
        progress: called with images done and in all.

    Raises:
        UserError: an image cannot be read.
    """
    clues = _CLUES if task.targets == "class" else ()
    encoders = {clue.control: model_zoo.load(clue.control, device="cpu") for clue in clues}
    sampled = {name: _evenly(len(split)) for name, split in task.splits.items()}
    chosen = {name: set(rows.tolist()) for name, rows in sampled.items()}
    listed = [
        (image, row in chosen[name])
        for name, split in task.splits.items()
        for row, image in enumerate(split.images)
    ]

    def seen(one: tuple[Image, bool]) -> tuple[Signature, dict[str, Tensor]]:
        pixels = still(one[0]).read()
        prepared = {name: x.prepare(pixels) for name, x in encoders.items()} if one[1] else {}
        return signatures.signature(pixels), prepared

    signed, inputs = [], []
    for _, (signature, prepared) in parallel.ordered(seen, listed):
        signed.append(signature)
        inputs.append(prepared)
        progress(len(signed), len(listed))
    pictures = Signatures.of(signed)
    del signed  # of many images some gigabytes
    return Worth(
        tuple(few_patients(task)),
        tuple(_same_pictures(task, pictures)),
        tuple(_scores(task, encoders, sampled, [one for one in inputs if one]) if clues else ()),
        tuple(search.not_all_pairs(pictures)),
    )


def few_patients(task: Task) -> list[str]:
    """A sentence for each class, or each part where classes are not told, that fewer than `FEW`
    patients of a part have."""
    what = "images" if task.train.groups is None else "patients"
    sentences = []
    for name, split in task.splits.items():
        groups = split.groups or tuple(map(str, range(len(split))))
        if task.targets == "class":
            parts = {
                f"class '{label}' has": np.flatnonzero(split.labels == code)
                for code, label in enumerate(task.classes)
            }
        else:
            parts = {"there are": np.arange(len(split))}
        for words, rows in parts.items():
            count = len({groups[row] for row in rows})
            if count < FEW:
                sentences.append(
                    f"{words} {count} {what} in {name}; with fewer than {FEW} a single "
                    "one moves the score by more than encoders differ: add some, or give that "
                    "part a larger share"
                )
    return sentences


def _same_pictures(task: Task, pictures: Signatures) -> list[str]:
    """A sentence for each two parts of which images show the same."""
    entries = [entry for entry in collection.of_task(task) if entry.split in SPLITS]
    pairs = duplicates.find(pictures, together=together(entries))
    alike = (SamePicture(entries[pair.first], entries[pair.second], pair) for pair in pairs)
    by_place = by_key((one.place, one) for one in alike)
    return [
        f"{len(found)} pair(s) of images across {place.replace('-', ' and ')} show the same "
        f"picture (first: {found[0].first.image.name} and {found[0].second.image.name}, "
        f"{found[0].pair.grade}); the score would reward memory: keep them in one part "
        "(`ubench audit` lists all)"
        for place, found in by_place.items()
        if not place.startswith("within")
    ]


def _scores(
    task: Task,
    encoders: dict[str, Encoder],
    sampled: dict[str, np.ndarray],
    inputs: Sequence[dict[str, Tensor]],
) -> list[ClueScore]:
    ends = np.cumsum([len(rows) for rows in sampled.values()])[:-1]
    features = {
        name: np.split(_encoded(encoder, [one[name] for one in inputs]), ends)
        for name, encoder in encoders.items()
    }
    labels = [split.labels[sampled[name]] for name, split in task.splits.items()]
    test = TestSet.of(task).only(sampled["test"])
    return [
        _score(clue.words, [x[:, clue.columns] for x in features[clue.control]], labels, test)
        for clue in _CLUES
    ]


def _score(
    words: str, features: Sequence[np.ndarray], labels: Sequence[np.ndarray], test: TestSet
) -> ClueScore:
    """Args: features and labels of train, validation and test."""
    classes = len(test.classes)
    x, y = [torch.from_numpy(one) for one in features], [torch.from_numpy(one) for one in labels]
    data = ProbeData(x[0], y[0], x[1], y[1], classes)
    draws = streams(len(y[0]), len(y[1]), [0], None, None)
    head = probes.get("ridge").train(data, draws, TUNED).chosen()
    # Each class counts the same, as in the score.
    weighed = head.predict(x[2])[0].numpy() / np.maximum(
        np.bincount(labels[0], minlength=classes), 1
    )
    answers = weighed.argmax(-1)[None]
    name = classification.BALANCED_ACCURACY
    counts = classification.confusion(answers[0], labels[2], classes)
    score = float(classification.of_counts(name, counts))
    low, high = classification.Classification().intervals(answers, test)[name.name]
    return ClueScore(words, score, low, high, 1 / classes)


def _encoded(encoder: Encoder, inputs: Sequence[Tensor]) -> np.ndarray:
    size = encoder.batch_size
    batches = [inputs[at : at + size] for at in range(0, len(inputs), size)]
    return torch.cat([encode_batch(encoder, list(batch)) for batch in batches]).float().numpy()


def _evenly(count: int) -> np.ndarray:
    """Positions of at most `AT_MOST` of so many images."""
    return np.unique(np.linspace(0, count - 1, min(count, AT_MOST)).astype(int))


def _sentence(one: ClueScore) -> str:
    return (
        f"the labels can partly be predicted from the {one.clue} alone: balanced accuracy "
        f"{one.score:.0%}, 95 % interval {one.low:.0%} to {one.high:.0%}, chance {one.chance:.0%}; "
        "a score up to that need not be about anatomy: make the classes alike in it, unless it is "
        "the finding itself, and run the controls beside your encoder"
    )
