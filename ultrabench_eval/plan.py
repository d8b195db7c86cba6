"""What a run would do: cells, images, time, disk, licences, and what is missing.

Nothing is measured and nothing written into OUT. Time is an estimate: encoders are timed here on a
few of the very images that are to be encoded, probes and scores at the rates stated below.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

import model_zoo
from model_zoo import Encoder
from tasks.samples.images import Image
from tasks.task import Task
from ultrabench_eval import features, licences, loading, precision, probes, remedies
from ultrabench_eval.core import parallel
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.features import Kind
from ultrabench_eval.licences import Terms
from ultrabench_eval.loading import Model
from ultrabench_eval.measure import Bench, Place, Setting
from ultrabench_eval.pipeline import Ready, Report, Step, as_request, prepare
from ultrabench_eval.protocol import Protocol
from ultrabench_eval.request import Request
from ultrabench_eval.units import Unit

FEW = 4  # images that an encoder is timed on; a whole batch on a GPU, where four take as long

CELL_SECONDS = 0.1  # of one cell's scores and intervals, on one core of a common server
WIDTH = 768  # of features whose width is not known before the model is timed
CELL_BYTES = 10_000  # of a cell's JSON, besides its predictions


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
    batches: int = 0
    """In which they are encoded; each is filled up to the encoder's size."""
    encode_seconds: float | None = None
    """None: not timed."""
    probe_seconds: float = 0.0
    """Probes and scores."""
    feature_bytes: int = 0
    result_bytes: int = 0
    problem: str | None = None
    """Why it cannot be run, in a sentence."""

    @property
    def to_do(self) -> int:
        """Cells to be measured."""
        return self.cells - self.there


class EncoderTime(NamedTuple):
    """Of an encoder on this machine, in seconds an image."""

    reading: float
    """Decoding, corrupting and resizing, in as many threads as a run has."""
    encoding: float


@dataclass(frozen=True)
class Missing:
    """What a run would stop at."""

    what: str
    """"weights" or "data"."""
    name: str
    reason: str
    command: str
    """That mends it."""


@dataclass(frozen=True)
class Forecast:
    """All that is known of a run before it begins."""

    shares: list[UnitForecast]
    out: str
    cache: str
    timed: bool
    speeds: dict[str, EncoderTime]
    """Of the models that were timed."""
    licences: list[Terms]
    """Those that are not open."""
    missing: list[Missing]
    notes: list[str] = field(default_factory=list)

    def total(self, what: str) -> int:
        """Sum of a field over all shares, such as "cells" or "to_do"."""
        return sum(getattr(share, what) for share in self.shares)

    @property
    def seconds(self) -> float | None:
        """Estimate for all that can be run; None if an encoder that is needed was not timed."""
        parts = [s.encode_seconds for s in self.shares if s.images]
        if None in parts:
            return None
        return sum(filter(None, parts)) + sum(share.probe_seconds for share in self.shares)

    def as_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        sums = ("cells", "there", "to_do", "failed", "images", "feature_bytes", "result_bytes")
        return {
            **{name: self.total(name) for name in sums},
            "seconds": self.seconds,
            "timed": self.timed,
            "out": self.out,
            "cache": self.cache,
            "shares": [{**vars(share), "to_do": share.to_do} for share in self.shares],
            "speeds": {name: speed._asdict() for name, speed in self.speeds.items()},
            "licences": [one._asdict() for one in self.licences],
            "missing": [vars(one) for one in self.missing],
            "notes": self.notes,
        }


def forecast(
    models: str | Sequence[str] | Request,
    tasks: str | Path | Sequence[str | Path] = "all",
    *,
    timing: bool = True,
    report: Report = lambda step: None,
    **options: Any,
) -> Forecast:
    """What `pipeline.run` would do with the same arguments.

    Models are loaded (with `accept_license`: fetched) and images hashed, as a run does first. With
    `dtype="auto"` the first batch decides the dtype where the processor has bfloat16. The phantom
    suite is made if it is asked for.

    Args:
        models: see `run`.
        tasks: see `run`.
        timing: encode a few images with every model that has some to encode.
        report: see `run`.
        options: see `run`.

    Raises:
        UserError: words that are not understood, unknown names.
    """
    request = as_request(models, tasks, options)
    ready = prepare(request, report)
    setting = ready.setting
    shares: list[UnitForecast] = []
    speeds: dict[str, EncoderTime] = {}
    notes: list[str] = []
    for name, model in ready.planned.models.items():
        counted = _Counted(model, setting)
        units = [unit for unit in ready.units if unit.model == name]
        mine = [counted.share(unit, ready.planned.tasks[unit.task]) for unit in units]
        shares += mine
        if isinstance(model, str):
            continue
        if timing and counted.images:
            report(Step("plan", name))
            try:
                speeds[name] = _speed(model.encoder(), counted.sample())
            except Exception as error:  # a model may be anyone's code
                notes.append(f"{name} could not be timed: {loading.reason(error)}")
            else:
                _add_seconds(mine, speeds[name], model.batch_size)
        model.release()
    return Forecast(
        shares,
        str(setting.cells.out),
        str(setting.cache),
        timing,
        speeds,
        _licences(ready),
        _missing(ready, request.data),
        notes,
    )


class _Counted:
    """Counts what is to be done for one model, task by task."""

    def __init__(self, model: Model | str, setting: Setting) -> None:
        self.model, self.setting = model, setting
        self.images: dict[tuple[str, str], Image] = {}
        """To be encoded, by store and digest."""

    def sample(self) -> list[Image]:
        """A few of the images to be encoded, evenly from all."""
        images = list(self.images.values())
        return images[:: max(1, len(images) // self._batch)][: self._batch]

    @property
    def _batch(self) -> int:
        assert isinstance(self.model, Model)
        return FEW if self.model.processor.type == "cpu" else self.model.batch_size

    def share(self, unit: Unit, task: Task | str) -> UnitForecast:
        """What is to be done on one task."""
        found = UnitForecast(*unit, cells=len(self.setting.grid))
        model = self.model
        if isinstance(task, str) or isinstance(model, str):
            found.problem = task if isinstance(task, str) else str(model)
            return found
        try:
            precision.settle(model, task.test.images, self.setting.cache)
            self._count(found, Bench(model, task, self.setting))
        except Exception as error:  # a model may be anyone's code
            found.problem = loading.reason(error)
        return found

    def _count(self, found: UnitForecast, bench: Bench) -> None:
        cells = self.setting.grid.cells(found.model, found.task)
        places = [Place(at, one) for one, at in cells]
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
            for condition in dict.fromkeys([("none", 0), *corrupted]):
                number = self._to_encode(bench, condition, kind)
                found.images += number
                found.batches += math.ceil(number / bench.model.batch_size)
                found.feature_bytes += number * _feature_bytes(bench.model, kind)
        found.probe_seconds = _probe_seconds(bench, to_do, self.setting.seeds)
        predictions = 4 * self.setting.seeds * len(bench.task.test) * len(bench.task.classes)
        found.result_bytes = len(to_do) * (CELL_BYTES + predictions)

    def _to_encode(self, bench: Bench, condition: tuple[str, int], kind: Kind) -> int:
        """Images of a condition that are neither in the cache nor counted yet."""
        images = bench.images(*condition)
        store = bench.store(*condition, kind)
        new = {
            (str(store.folder), digest): images[digest]
            for digest in store.missing(list(images))
            if (str(store.folder), digest) not in self.images
        }
        self.images |= new
        return len(new)


# ---- time and disk ------------------------------------------------------------------------------


def _speed(encoder: Encoder, images: Sequence[Image]) -> EncoderTime:
    start = time.perf_counter()
    inputs = torch.stack([encoder.prepare(image.read()) for image in images])
    reading = (time.perf_counter() - start) / min(parallel.THREADS, os.cpu_count() or 1)
    encoder.encode_prepared(inputs[:1]).cpu()  # what is done once only
    start = time.perf_counter()
    encoder.encode_prepared(inputs).cpu()
    return EncoderTime(reading / len(images), (time.perf_counter() - start) / len(images))


def _add_seconds(shares: Sequence[UnitForecast], speed: EncoderTime, batch_size: int) -> None:
    for share in shares:
        if share.images:
            rows = share.batches * batch_size
            share.encode_seconds = share.images * speed.reading + rows * speed.encoding


def _probe_seconds(bench: Bench, places: Sequence[Place], seeds: int) -> float:
    """Of training all probes that the cells need, and of their scores, at the stated rates."""
    stacks: dict[tuple[str, Protocol], set[int]] = {}
    for place in places:
        fractions = stacks.setdefault((place.at.probe, place.protocol), set())
        fractions.add(place.at.fraction)
    seconds = CELL_SECONDS * len(places)
    for (probe, protocol), percents in stacks.items():
        known = probes.get(probe)
        width = _width(bench.model) * (features.TOKENS**2 if known.reads == "tokens" else 1)
        numbers = len(bench.task.train) * width * sum(percents) / 100 / 1e6
        seconds += known.seconds * numbers * seeds * known.tried(protocol)
    return seconds


def _width(model: Model) -> int:
    return model.card.dim or WIDTH


def _feature_bytes(model: Model, kind: Kind) -> int:
    """Of one image in the cache, with its digest."""
    numbers = 4 * _width(model) if kind == "pooled" else 2 * _width(model) * features.TOKENS**2
    return numbers + 70


# ---- licences, and what is missing --------------------------------------------------------------


def _licences(ready: Ready) -> list[Terms]:
    """Of the weights and images of a run, those that rule something out or are not known."""
    found = []
    for name, model in ready.planned.models.items():
        if isinstance(model, Model):
            if not model.random_weights:
                found.append(licences.of_weights(name, model.card))
        elif model_zoo.problem(name) is None:
            with suppress(UserError):  # its package is broken: there is no card
                found.append(licences.of_weights(name))
    for label, task in ready.planned.tasks.items():
        if not (isinstance(task, Task) and task.synthetic):
            found.append(licences.of_data(label))
    return [terms for terms in found if terms.kind != "open"]


def _missing(ready: Ready, data: Path | str | None) -> list[Missing]:
    """Models and tasks that cannot be had, with the command that mends it."""
    place = data or os.environ.get("UBENCH_DATA")
    root = Path(place) if place else None
    weights = [
        Missing("weights", name, reason, remedies.for_weights(name))
        for name, reason in ready.planned.models.items()
        if isinstance(reason, str)
    ]
    images = [
        Missing("data", label, reason, remedies.for_data(label, root, reason))
        for label, reason in ready.planned.tasks.items()
        if isinstance(reason, str)
    ]
    return weights + images
