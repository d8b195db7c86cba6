"""What a run would do: cells, images, time, disk, licences, and what is missing.

Nothing is measured and nothing written into OUT. Time is an estimate: encoders are timed here on a
few of the very images that are to be encoded, probes and scores at the rates stated below.
Fine-tuning is estimated roughly: by that time for each image, three times as much in training.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

import model_zoo
import tasks as task_zoo
from model_zoo import Encoder
from tasks.task import Task
from ultrabench_eval import devices, licences, loading, remedies, shown
from ultrabench_eval.core import parallel
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.devices import Fleet, Work
from ultrabench_eval.licences import Terms
from ultrabench_eval.loading import Model
from ultrabench_eval.pipeline import Ready, Report, Step, as_request, prepare
from ultrabench_eval.request import Request
from ultrabench_eval.shown import Sample
from ultrabench_eval.workload import UnitForecast, Workload


class EncoderTime(NamedTuple):
    """Of an encoder on this machine, in seconds per input: an image, or a clip that it takes."""

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
    """That fixes it."""


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
    fleet: Fleet | None = None
    """On the devices that were asked for."""

    def total(self, what: str) -> int:
        """Sum of a field over all shares, such as "cells" or "to_do"."""
        return sum(getattr(share, what) for share in self.shares)

    @property
    def seconds(self) -> float | None:
        """Estimate for all that can be run; None if an encoder that is needed was not timed."""
        parts = [s.encode_seconds for s in self.shares if s.images]
        if not self.timed and any(share.passes for share in self.shares):
            return None
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
            "devices": self.fleet
            and {
                **self.fleet._asdict(),
                "models": [one._asdict() for one in self.fleet.models],
                "assumed": devices.ASSUMED,
            },
        }


def forecast(
    models: str | Sequence[str] | Request,
    tasks: str | Path | Sequence[str | Path] = "all",
    *,
    timing: bool = True,
    on: str | None = None,
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
        on: devices such as "8xH100", whose time and memory are estimated as well; needs `timing`.
        report: see `run`.
        options: see `run`.

    Raises:
        UserError: words that are not valid, unknown names.
    """
    request = as_request(models, tasks, options)
    if on:
        devices.parse(on)
    ready = prepare(request, report)
    setting = ready.setting
    shares: list[UnitForecast] = []
    speeds: dict[str, EncoderTime] = {}
    works: dict[str, Work] = {}
    batches: dict[str, int] = {}
    notes: list[str] = []
    for name, model in ready.planned.models.items():
        counted = Workload(model, setting)
        units = [unit for unit in ready.units if unit.model == name]
        shares += [counted.share(unit, ready.planned.tasks[unit.task]) for unit in units]
        if isinstance(model, str):
            continue
        batches[name] = model.batch_size
        if timing and counted.works:
            report(Step("plan", name))
            try:
                inputs, reading = _read(model.encoder(), counted.sample())
                speeds[name] = _speed(model.encoder(), inputs, reading)
                if on:
                    works[name] = devices.counted(model.encoder(), inputs, reading)
            except Exception as error:  # a model may be anyone's code
                notes.append(f"{name} could not be timed: {loading.reason(error)}")
        model.release()
    half = request.dtype != "float32"
    fleet = devices.fleet(on, shares, works, half) if on else None
    for share in shares:
        if share.model in speeds:
            _add_seconds(share, speeds[share.model], batches[share.model])
    return Forecast(
        shares,
        str(setting.cells.out),
        str(setting.cache),
        timing,
        speeds,
        _licences(ready),
        _missing(ready),
        [*ready.notes, *notes],
        fleet,
    )


# ---- time ---------------------------------------------------------------------------------------


def _read(encoder: Encoder, samples: Sequence[Sample]) -> tuple[Tensor, float]:
    """Inputs [B, ...], and the seconds that reading one takes in one thread."""
    start = time.perf_counter()
    prepared = [x for sample in samples for x in shown.inputs(encoder, sample).tensors]
    reading = (time.perf_counter() - start) / len(prepared)
    return torch.stack(prepared[: max(len(samples), encoder.batch_size)]), reading


def _speed(encoder: Encoder, inputs: Tensor, reading: float) -> EncoderTime:
    encoder.encode_prepared(inputs[:1]).cpu()  # what is done once only
    start = time.perf_counter()
    encoder.encode_prepared(inputs).cpu()
    encoding = (time.perf_counter() - start) / len(inputs)
    return EncoderTime(reading / min(parallel.THREADS, os.cpu_count() or 1), encoding)


def _add_seconds(share: UnitForecast, speed: EncoderTime, batch_size: int) -> None:
    if share.images:
        rows = share.batches * batch_size
        share.encode_seconds = share.inputs * speed.reading + rows * speed.encoding
    share.probe_seconds += share.passes * speed.encoding


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
            found += map(licences.of_data, task_zoo.parts(label))
    return [terms for terms in dict.fromkeys(found) if terms.kind != "open"]


def _missing(ready: Ready) -> list[Missing]:
    """Models and tasks that cannot be had, with the command that fixes it."""
    root = ready.root
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
    left_out = [
        Missing("data", label, "nothing there, so it is left out", how)
        for label, how in ready.absent.items()
    ]
    return weights + images + left_out
