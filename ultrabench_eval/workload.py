"""How much is to be done for a model on a task: cells, images, probes, bytes.

A plan tells it, and a run tells by it how much time is left. Nothing is encoded for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.task import Task
from ultrabench_eval import features, loading, precision, probes, shown
from ultrabench_eval.features import Kind
from ultrabench_eval.loading import Model
from ultrabench_eval.measure import Bench, Place, Setting, cines_of, places_of, predicts_of
from ultrabench_eval.protocol import Protocol
from ultrabench_eval.shown import Sample
from ultrabench_eval.units import Unit

FEW = 4  # images that an encoder is timed on; a whole batch on a GPU, where four take as long

CELL_SECONDS = 0.1  # of one cell's scores and intervals, on one core of a common server
WIDTH = 768  # of features whose width is not known before the model is timed
CELL_BYTES = 10_000  # of a cell's JSON, besides its predictions
_PLACES = {"pooled": 1, "tokens": features.TOKENS**2, "maps": 14 * 14}
"""Of an image, by what is kept; of maps what most encoders have."""


@dataclass
class UnitForecast:
    """What is to be done for a model on a task."""

    model: str
    task: str
    cells: int
    """All that are asked for."""
    there: int = 0
    """Cells that are not computed again."""
    failed: int = 0
    """Of those to do: error rows of an earlier run."""
    images: int = 0
    """To be encoded: not in the cache under this model, dtype, corruption and kind. Images that
    two tasks share count where they come first."""
    inputs: int = 0
    """What goes through the network for these: an image each, several frames of a video."""
    batches: int = 0
    """In which they are encoded; each is filled up to the encoder's size."""
    encode_seconds: float | None = None
    """None: not timed."""
    probe_seconds: float = 0.0
    """Probes and scores, and fine-tuning as far as its time is known."""
    passes: int = 0
    """Images that go through networks which are fine-tuned; one in training counts three times, for
    the way back takes twice as long as the way there."""
    feature_bytes: int = 0
    result_bytes: int = 0
    problem: str | None = None
    """Why it cannot be run, in a sentence."""

    @property
    def to_do(self) -> int:
        """Cells to be measured."""
        return self.cells - self.there


class Workload:
    """Counts what is to be done for one model, task by task."""

    def __init__(self, model: Model | str, setting: Setting) -> None:
        self.model, self.setting = model, setting
        self.images: dict[tuple[str, str], Sample] = {}
        """To be encoded, by store and digest."""
        self._tuned: list[Sample] = []

    @property
    def works(self) -> bool:
        """Whether anything goes through the network."""
        return bool(self.images or self._tuned)

    def sample(self) -> list[Sample]:
        """A few of the images to be encoded, evenly from all."""
        images = list(self.images.values()) or self._tuned
        return images[:: max(1, len(images) // self._batch)][: self._batch]

    @property
    def _batch(self) -> int:
        assert isinstance(self.model, Model)
        return FEW if self.model.processor.type == "cpu" else self.model.batch_size

    def share(self, unit: Unit, task: Task | str, *, settle: bool = True) -> UnitForecast:
        """What is to be done on one task.

        Args:
            unit: the model on the task.
            task: or why it cannot be read.
            settle: whether to encode images where what dtype="auto" means is not known yet;
                without, such a model counts as new.
        """
        found = UnitForecast(
            unit.model,
            unit.task,
            self.setting.grid.count(predicts_of(unit.task, task), cines_of(unit.task, task)),
        )
        model = self.model
        if isinstance(task, str) or isinstance(model, str):
            found.problem = task if isinstance(task, str) else str(model)
            return found
        try:
            if settle:
                precision.settle(model, task.test.images, self.setting.cache)
            self._count(found, Bench(model, task, self.setting))
        except Exception as error:  # a model may be anyone's code
            found.problem = loading.reason(error)
        return found

    def _count(self, found: UnitForecast, bench: Bench) -> None:
        places = places_of(found.model, found.task, bench.task, self.setting.grid)
        to_do = []
        for place in places:
            path = self.setting.cells.out / "cells" / place.at.path
            failed = path.with_name(f"{path.name}.error.json").exists()
            found.failed += failed
            there = self.setting.cells.get(place.at, bench.identity(place))
            if failed or not bench.is_whole(there):
                to_do.append(place)
        found.there = len(places) - len(to_do)
        for kind in dict.fromkeys(place.kind for place in to_do):
            corrupted = [place.condition for place in to_do if place.kind == kind]
            if kind == "images":
                found.passes = _passes(bench, to_do, self.setting.seeds)
                self._tuned += bench.task.train.images
                continue
            for condition in dict.fromkeys([("none", 0), *corrupted]):
                new = self._to_encode(bench, condition, kind)
                inputs = sum(map(shown.parts, new))
                found.images += len(new)
                found.inputs += inputs
                found.batches += math.ceil(inputs / bench.model.batch_size)
                found.feature_bytes += len(new) * _feature_bytes(bench.model, kind)
        found.probe_seconds = _probe_seconds(bench, to_do, self.setting.seeds)
        predictions = self.setting.seeds * len(bench.task.test) * _answer_bytes(bench.task)
        found.result_bytes = len(to_do) * (CELL_BYTES + predictions)

    def _to_encode(self, bench: Bench, condition: tuple[str, int], kind: Kind) -> list[Sample]:
        """Images of a condition that are neither in the cache nor counted yet."""
        images = bench.images(*condition, kind)
        store = bench.store(*condition, kind)
        new = {
            (str(store.folder), digest): images[digest]
            for digest in store.missing(list(images))
            if (str(store.folder), digest) not in self.images
        }
        self.images |= new
        return list(new.values())


def rough_seconds(model: Model, inputs: int) -> float:
    """Of encoding inputs, before the model is timed: right in proportion to other models, about
    right on one core of a common server."""
    size = int(model.info["input_size"] or 0)
    frames = model.clip_rule.frames if model.clip_rule else 1
    # A clip has as many tokens as half its frames, by tubelets of two.
    times = max(1, frames / 2) * (size / 224) ** 2
    return inputs * (0.005 * frames + 8e-9 * int(model.info["parameters"] or 0) * times)


def _probe_seconds(bench: Bench, places: Sequence[Place], seeds: int) -> float:
    """Of training all probes that the cells need, and of their scores, at the stated rates."""
    stacks: dict[tuple[str, Protocol], set[int]] = {}
    for place in places:
        fractions = stacks.setdefault((place.at.probe, place.protocol), set())
        fractions.add(place.at.fraction)
    seconds = CELL_SECONDS * len(places)
    for (probe, protocol), percents in stacks.items():
        known = probes.get(probe)
        if known.reads == "images":
            continue
        width = _width(bench.model) * _places(bench.model, known.reads)
        images = sum(len(part.task.train) for part in bench.folds)
        numbers = images * width * sum(percents) / 100 / 1e6
        seconds += known.seconds * numbers * seeds * known.tried(protocol)
    return seconds


def _passes(bench: Bench, places: Sequence[Place], seeds: int) -> int:
    """See `UnitForecast.passes`; as if no training were stopped early."""
    task, tuned = bench.task, [(p, p.protocol.finetune) for p in places]
    total = 0
    trained = {
        (place.protocol, place.at.fraction): settings
        for place, settings in tuned
        if settings is not None
    }
    for (_, fraction), settings in trained.items():
        images = len(task.train) * fraction // 100
        steps = math.ceil(images / settings.batch_size)
        epochs = math.ceil(settings.max_steps / max(1, steps)) or settings.max_epochs
        trainings = len(settings.settings) + seeds - 1
        total += trainings * epochs * (3 * images + len(task.validation))
        total += seeds * len(task.validation)
    return total + seeds * len(task.test) * sum(one is not None for _, one in tuned)


def _width(model: Model) -> int:
    return model.card.dim or WIDTH


def _feature_bytes(model: Model, kind: Kind) -> int:
    """Of one image in the cache, with its digest."""
    return (4 if kind == "pooled" else 2) * _width(model) * _places(model, kind) + 70


def _places(model: Model, kind: Kind) -> int:
    """Of an image or clip; a clip has the tokens of each pair of frames."""
    steps = model.clip_rule.frames // 2 if model.clip_rule and kind == "tokens" else 1
    return max(1, steps) * _PLACES[kind]


def _answer_bytes(task: Task) -> int:
    """Of what is kept of a prediction."""
    classes = len(task.classes)
    return 2 * classes * _PLACES["maps"] if task.targets == "mask" else 4 * max(1, classes)
