"""The training loop: steps, validation, checkpoints, and the export at the end.

A run lives in a folder, OUT:

    OUT/log.jsonl            what was watched
    OUT/checkpoint.pt        where a killed run goes on
    OUT/best.pt              the encoder of least validation loss
    OUT/encoder.safetensors  the same, once training is done, with its card, encoder.json
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import model_zoo
from model_zoo.encoder import Encoder
from model_zoo.exports import FILE
from ultrabench_eval.core.errors import UserError
from usjepa import checkpoint, distributed, export, loader, monitor, objective, schedules
from usjepa import config as configs
from usjepa.checkpoint import BEST, LAST
from usjepa.config import Config
from usjepa.distributed import World
from usjepa.frames import Frames
from usjepa.loader import Batch, Part
from usjepa.monitor import Entry
from usjepa.sampling import CappedSampler, hold_out
from usjepa.student import Student

Probe = Callable[[Encoder], Mapping[str, float]]
"""Scores an encoder while it is trained; numbers by name."""


@dataclass(frozen=True)
class Execution:
    """How a run is carried out. Nothing here changes a weight."""

    device: str = "auto"
    workers: int = 2
    """Processes that make batches, for each training process; 0: between the steps."""
    log_every: int = 10
    """Steps between lines of the log."""
    checkpoint_minutes: float = 10
    """Time between checkpoints; there is one after each epoch, too."""
    probe: Probe | None = None
    probe_every: int = 5
    """Epochs between its calls."""
    report: Callable[[Entry], None] = lambda entry: None
    """Is handed each line of the log."""


def run(config: Config, frames: Frames, out: Path, execution: Execution | None = None) -> Path:
    """Train, from the beginning or from OUT's checkpoint, and export the encoder.

    On one process and one machine, the weights do not depend on where a run was stopped, nor on
    `execution`.

    Args:
        config: all that shapes the weights.
        frames: the index.
        out: folder of the run.
        execution: how; None for the defaults.

    Returns:
        OUT/encoder.safetensors.

    Raises:
        UserError: frames, teacher, checkpoint and configuration do not fit one another, or the
            loss is no number any more.
    """
    execution = execution or Execution()
    _check_frames(config, frames)
    with distributed.joined(execution.device) as world:
        return _Run(config, frames, out, execution, world).go()


def _check_frames(config: Config, frames: Frames) -> None:
    wanted, made = config.data, frames.settings
    for name in ("grey", "inpaint_below"):
        now, then = getattr(wanted, name), getattr(made, name)
        if now != then:
            raise UserError(
                f"index {frames.path} was made with {name} {then}, but data.{name} is {now}; set "
                f"it to {then}, or make another index"
            )


@dataclass
class _Window:
    """What has come together since the last line of the log."""

    steps: int = 0
    sums: dict[str, Tensor | float] = field(default_factory=dict)
    """Tensors stay on their device, for reading one would wait for it."""
    waited: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    def add(self, values: Mapping[str, Tensor | float], share: float = 1.0) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + share * value

    def means(self) -> dict[str, float]:
        return {name: float(total) / self.steps for name, total in self.sums.items()}


class _Run:
    def __init__(
        self, config: Config, frames: Frames, out: Path, execution: Execution, world: World
    ) -> None:
        self.config, self.frames, self.out = config, frames, out
        self.execution, self.world = execution, world
        train = config.train
        self.parts = world.size * train.accumulate
        if train.batch_size % self.parts:
            raise UserError(
                f"train.batch_size {train.batch_size} is not a multiple of {world.size} processes "
                f"x train.accumulate {train.accumulate}; change one of the three"
            )
        training, held_out = hold_out(frames, config.data.held_out, config.seed)
        self.sampler = CappedSampler(
            training, config.data.dataset_cap, train.batch_size, config.seed
        )
        self.steps_per_epoch = self.sampler.steps_per_epoch
        self.steps = train.epochs * self.steps_per_epoch
        size = train.batch_size // self.parts
        self.validation = loader.ValidationParts(frames, np.concatenate(held_out), config, size)
        self.objective = objective.build(config, device=str(world.device)).to(world.device)
        self.optimizer = torch.optim.AdamW(
            objective.optimiser_groups(self.objective, train.weight_decay),
            lr=train.start_learning_rate,
            betas=train.betas,
            eps=train.eps,
            fused=True,
        )
        self.step = 0
        self.best = math.inf
        self.window = _Window()
        self.parts_of_steps = loader.TrainingParts(frames, self.sampler, config, self.parts)
        self.work, self.ceiling = self._cost()
        self.model = self._model()
        self.log: monitor.Log | None = None

    def _model(self) -> nn.Module:
        model: nn.Module = self.objective
        if self.config.train.compile:
            model = torch.compile(model, dynamic=True)  # type: ignore[assignment]
        if self.world.size > 1:
            model = DistributedDataParallel(model)
        return model

    # ---- from start to end --------------------------------------------------------------------

    def go(self) -> Path:
        """All steps that are left, and the export."""
        self._resume()
        self.out.mkdir(parents=True, exist_ok=True)  # only now that all is known to fit
        if self.world.first:
            self.log = monitor.Log(self.out / "log.jsonl", self.step)
        self._write("start", self._about())
        saved = time.monotonic()
        self.window = _Window()
        for parts in self._steps():
            self._train_step(parts)
            ends = self.step % self.steps_per_epoch == 0
            if ends or self.step % self.execution.log_every == 0:
                self._log_window()
            if ends:
                self._end_epoch()
            if ends or time.monotonic() - saved > 60 * self.execution.checkpoint_minutes:
                self._save()
                saved = time.monotonic()
        path = self.out / FILE
        if self.world.first:
            path = write_export(self.out, self.out)
        self.world.wait()
        return path

    def _steps(self) -> Iterator[list[Batch]]:
        """The batches of each step that is left for this process."""
        mine = range(self.parts)[self.world.rank :: self.world.size]
        order = (Part(step, part) for step in range(self.step, self.steps) for part in mine)
        batches = loader.stream(self.parts_of_steps, order, self.execution.workers)
        for _ in range(self.step, self.steps):
            start = time.perf_counter()
            parts = [next(batches) for _ in mine]
            self.window.waited += time.perf_counter() - start
            yield parts

    def _train_step(self, parts: list[Batch]) -> None:
        train = self.config.train
        values = schedules.at(self.step + 1, train, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = values.learning_rate
        self.optimizer.param_groups[0]["weight_decay"] = values.weight_decay
        share = 1 / len(parts)
        for place, batch in enumerate(parts, 1):
            images, masks = batch.on(self.world.device)
            with self._exchange(place == len(parts)):
                with self._autocast():
                    loss, logs = self.model(images, masks)
                torch.autograd.backward(share * loss)
            self.window.add(logs, share)
            self.window.add(masks.fallbacks._asdict(), share)
        if train.clip is not None:
            parameters = [parameter for _, parameter in self.objective.trainable()]
            norm = nn.utils.clip_grad_norm_(parameters, train.clip)
            self.window.add({"gradient_norm": norm})
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.objective.after_step(values.momentum)
        self.step += 1
        self.window.steps += 1

    def _autocast(self) -> torch.autocast:
        enabled = self.config.train.precision == "bfloat16"
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled)

    def _exchange(self, last: bool) -> AbstractContextManager[None]:
        """Gradients of several processes are averaged once a step, with its last part."""
        if isinstance(self.model, DistributedDataParallel) and not last:
            silent: AbstractContextManager[None] = self.model.no_sync()
            return silent
        return nullcontext()

    # ---- what is watched ----------------------------------------------------------------------

    def _log_window(self) -> None:
        window, self.window = self.window, _Window()
        seconds = time.perf_counter() - window.started
        train = self.config.train
        values = schedules.at(self.step, train, self.steps_per_epoch)
        means = window.means()
        if not math.isfinite(means["loss"]):
            raise UserError(
                f"the loss is {means['loss']} at step {self.step}; lower train.learning_rate or "
                "set train.clip, and begin anew in another --out"
            )
        speed = window.steps / seconds
        self._write(
            "train",
            {
                **means,
                "learning_rate": values.learning_rate,
                "weight_decay": values.weight_decay,
                "images_per_second": speed * train.batch_size,
                "model_share": 1 - window.waited / seconds,
                "ceiling_share": speed * train.accumulate * self.work / self.ceiling,
            },
        )

    def _cost(self) -> tuple[int, float]:
        """Operations of one part of a step, from which others differ a little, and the ceiling."""
        images, masks = self.parts_of_steps[Part(0, 0)].on(self.world.device)

        def work() -> None:
            with self._autocast():
                torch.autograd.backward(self.objective.loss(images, masks)[0])

        count = monitor.operations(work)
        self.optimizer.zero_grad()
        narrow = self.config.train.precision == "bfloat16"
        dtype = torch.bfloat16 if narrow else torch.float32
        return count, monitor.ceiling(self.world.device, dtype)

    def _end_epoch(self) -> None:
        """Validation, the best encoder so far, and the probe."""
        epoch = self.step // self.steps_per_epoch
        found = self._validated()
        if found:
            self._write("validation", {"epoch": epoch, **found})
        loss = found.get("loss", math.nan)
        better = not found or not self.objective.steady or loss < self.best
        if better:
            self.best = loss if found else self.best
            if self.world.first:
                self._save_best(epoch, loss if found else None)
        probe, every = self.execution.probe, self.execution.probe_every
        if probe is not None and (epoch % every == 0 or self.step == self.steps):
            if self.world.first:
                self._write("probe", {"epoch": epoch, **probe(self._encoder(epoch))})
            self.world.wait()
        self.window = _Window()

    @torch.no_grad()
    def _validated(self) -> dict[str, float]:
        """Loss on held-out frames, and what their features look like; empty without frames."""
        order = range(len(self.validation))[self.world.rank :: self.world.size]
        enough = len(order) > 8 * self.execution.workers  # else starting workers takes longer
        sums = torch.zeros(2, dtype=torch.float64)
        features = []
        for batch in loader.stream(self.validation, order, self.execution.workers if enough else 0):
            images, masks = batch.on(self.world.device)
            with self._autocast():
                loss, _ = self.objective.loss(images, masks)
                encoder = self.objective.encoder
                tokens = encoder(self.objective.normalised(images))[:, encoder.prefix :]
            sums += torch.tensor([float(loss) * len(images), len(images)], dtype=torch.float64)
            features.append(tokens.float().mean(1).cpu())
        total, count = self.world.total(sums.to(self.world.device).float()).tolist()
        if not count:
            return {}
        mine = torch.cat(features)
        return {
            "loss": total / count,
            "effective_rank": monitor.effective_rank(mine),
            "feature_spread": monitor.spread(mine),
        }

    def _encoder(self, epoch: int) -> Encoder:
        """The encoder as the zoo opens it."""
        with tempfile.TemporaryDirectory() as folder:
            history = self._history({"epoch": epoch, "step": self.step, "validation_loss": None})
            path = export.export(self.objective.encoder, self.config, Path(folder), history)
            device = str(self.world.device)
            return model_zoo.load("usjepa", str(path), device=device, dtype="float32")

    def _write(self, kind: str, entry: Mapping[str, Any]) -> None:
        line = {"kind": kind, "step": self.step, **entry}
        if self.log is not None:
            self.log.write(line)
            self.execution.report(line)

    def _about(self) -> dict[str, Any]:
        return {
            "config": self.config.id,
            "frames": self.frames.fingerprint,
            "training_frames": sum(len(numbers) for numbers in self.sampler.sets),
            "held_out_frames": len(self.validation.numbers),
            "steps": self.steps,
            "steps_per_epoch": self.steps_per_epoch,
            "processes": self.world.size,
            "parts": self.parts,
            "threads": torch.get_num_threads(),
            "device": str(self.world.device),
        }

    # ---- what is kept -------------------------------------------------------------------------

    def _resume(self) -> None:
        path = self.out / LAST
        if not path.exists():
            return
        progress = checkpoint.resume(
            path, self.config, self.frames.fingerprint, self.objective, self.optimizer
        )
        self.step, self.best = progress["step"], progress["best"]

    def _save(self) -> None:
        if self.world.first:
            checkpoint.save(
                self.out / LAST,
                self.config,
                self.frames.fingerprint,
                self.objective,
                self.optimizer,
                {"step": self.step, "best": self.best},
            )
        self.world.wait()

    def _save_best(self, epoch: int, loss: float | None) -> None:
        about = self._history({"epoch": epoch, "step": self.step, "validation_loss": loss})
        weights = self.objective.encoder.state_dict()
        checkpoint.save_best(self.out / BEST, self.config, weights, about)

    def _history(self, state: Mapping[str, Any]) -> dict[str, Any]:
        frames = {
            "sets": dict(zip(self.frames.sets, self.frames.counts.tolist(), strict=True)),
            "fingerprint": self.frames.fingerprint,
            "guard": self.frames.guard,
        }
        return {"frames": frames, **state}


def write_export(run_folder: Path, out: Path, half: bool = False) -> Path:
    """Export the best encoder of a run, finished or not, with its card.

    Args:
        run_folder: OUT of the run.
        out: folder of the export.
        half: see `usjepa.export.export`.

    Raises:
        UserError: the run has no such encoder yet, or the file is damaged.
    """
    path = run_folder / BEST
    if not path.is_file():
        raise UserError(
            f"{run_folder} holds no {BEST}, which is written after the first epoch; give the --out "
            "of a run that has come so far"
        )
    content = checkpoint.read(path)
    config = configs.validate(content["config"], f"in {path}")
    student = Student(config.model)
    student.load_state_dict(content["encoder"])
    return export.export(student, config, out, content["about"], half)
