"""Images a second of a run's encoders, measured side by side.

Every encoder takes its turn in every round, so that a machine that slows down, or that others use,
does so to all alike; the median of the rounds counts. What is timed is encoding: decoding and
resizing go on in threads beside it during a run.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model_zoo import Encoder
from ultrabench_eval import features, loading, plugins
from ultrabench_eval.cells import IMPORTED, Cell, Cells
from ultrabench_eval.core import files, memory
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.loading import Model
from ultrabench_eval.report import regenerate
from ultrabench_eval.report.sections import speeds
from ultrabench_eval.report.sections.speeds import Speed

ROUNDS = 5
SECONDS = 1.0  # of encoding a round, at least


@dataclass(frozen=True)
class Measured:
    """What `measure` found."""

    speeds: list[Speed]
    without_network: list[str]
    """Models that have no parameters: there is nothing to time."""
    problems: list[str]
    """Models that could not be timed, a sentence each."""


def measure(
    run: Path | str,
    *,
    plugin_files: Sequence[Path | str] = (),
    weights: Mapping[str, Path | str] | None = None,
    device: str = "auto",
    rounds: int = ROUNDS,
    report: Callable[[int, str], None] = lambda round, model: None,
) -> Measured:
    """Time every encoder of a run, write RUN/speed.csv, and the run's page with it.

    Args:
        run: a results folder of `run`.
        plugin_files: see `run`.
        weights: see `run`; models that were measured with random weights get them again.
        device: see `run`.
        rounds: turns that each encoder takes.
        report: called before each turn with its round, from 1, and the model's name.

    Raises:
        UserError: no cells; no model could be timed. Nothing is written then.
    """
    memory.keep_freed()  # as a run does
    folder = Path(run)
    if rounds < 1:
        raise UserError(f"--rounds must be at least 1, not {rounds}")
    known = Cells(folder)
    cells = [entry for entry in regenerate.read(known, timed=False) if isinstance(entry, Cell)]
    for file in plugin_files:
        plugins.load_file(Path(file))
    chosen = {name: str(path) for name, path in (weights or {}).items()}
    used = {cell.coordinates.model: cell for cell in cells}
    plain = [
        name
        for name, cell in used.items()
        if not cell.model.get("parameters") or name.startswith(f"{IMPORTED}/")
    ]
    turns: dict[str, list[float]] = {}
    loaded: dict[str, Model] = {}
    problems: list[str] = []
    for turn in range(1, rounds + 1):
        for name in used:
            if name in plain or (turn > 1 and name not in loaded):
                continue
            report(turn, name)
            try:
                model = loaded.get(name) or _load(used[name], chosen, device)
                turns.setdefault(name, []).append(rate(model.encoder()))
            except Exception as error:  # a model may be anyone's code
                problems.append(f"{name}: {loading.reason(error)}")
                loaded.pop(name, None)
            else:
                loaded[name] = model
                model.release()
    found = [_speed(model, turns[name]) for name, model in loaded.items()]
    if not found:
        raise UserError("\n".join(problems) or f"no model of {folder} has a network to time")
    files.write_bytes(folder / speeds.FILE, speeds.table(found))
    regenerate.regenerate(known, folder)
    return Measured(found, plain, problems)


def _load(cell: Cell, weights: Mapping[str, str], device: str) -> Model:
    """The model of a cell, which must be the very one."""
    return loading.same_model(
        cell.coordinates.model,
        weights,
        device,
        numerics=str(cell.identity["dtype"]),
        fingerprint=str(cell.identity["model"]),
        random_weights=cell.random_weights,
    )


def rate(encoder: Encoder) -> float:
    """Images a second of one turn of at least `SECONDS`, in full batches of prepared noise."""
    inputs = _inputs(encoder)
    features.encode_batch(encoder, inputs)  # what is done once only
    start, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < SECONDS:
        features.encode_batch(encoder, inputs)  # copied to the CPU: it waits for a GPU
        count += len(inputs)
    return count / elapsed


def _inputs(encoder: Encoder) -> list[Tensor]:
    """A batch of prepared noise: what is in an image doesn't change the time."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return [encoder.prepare(pixels)] * encoder.batch_size


def _speed(model: Model, turns: Sequence[float]) -> Speed:
    return Speed(
        model=model.name,
        fingerprint=model.fingerprint,
        numerics=model.numerics,
        device=features.device_name(model.processor),
        threads=torch.get_num_threads(),
        batch=model.batch_size,
        images_per_second=statistics.median(turns),
        slowest=min(turns),
        fastest=max(turns),
        torch=torch.__version__,
    )
