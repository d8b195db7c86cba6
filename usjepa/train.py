"""The training loop: steps, validation, checkpoints, and the export at the end.

A run lives in a folder, OUT:

    OUT/log.jsonl              what was watched
    OUT/checkpoint.pt          where a killed run resumes; checkpoint.previous.pt is the one before
    OUT/best.pt                the encoder of least validation loss
    OUT/encoder.safetensors    the same, once training is done, with its card, encoder.json

One process, or those that one torchrun started, train in a folder at a time.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

import model_zoo
from model_zoo.checkpoints.exports import FILE
from model_zoo.encoder import Encoder
from ultrabench_eval.core import files, processor
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.hashing import seed_for
from usjepa import (
    checkpoint,
    distributed,
    export,
    loader,
    monitor,
    objective,
    projection,
    schedules,
)
from usjepa import config as configs
from usjepa import student as students
from usjepa.checkpoint import Best, Identity, Reached
from usjepa.config import Config, Train
from usjepa.distributed import World
from usjepa.frames.sampling import CappedSampler, hold_out
from usjepa.frames.store import Frames
from usjepa.loader import Batch, BatchPart
from usjepa.monitor import Entry
from usjepa.objective import Objective
from usjepa.schedules import Values

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
    """Time between checkpoints; there is one after each epoch too."""
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
        UserError: frames, teacher, checkpoint and configuration do not fit one another, another
            process trains in `out`, or the loss is not a number any more.
    """
    execution = execution or Execution()
    out = out.absolute()  # a probe of one's own may change the working directory
    _check_frames(config, frames)
    try:
        with distributed.joined(execution.device) as world, _held(out, world):
            return _Run(config, frames, out, execution, world).go()
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"the memory of the GPU does not suffice to train into {out}; set a larger "
            "train.accumulate with another --out, or free the GPU"
        ) from error


@contextmanager
def _held(out: Path, world: World) -> Iterator[None]:
    """Keep other trainings out of a folder while this one runs."""
    if not world.first:
        if not world.all(True):
            raise UserError(_busy(out))
        yield
        return
    with files.locked(out / ".train", patience=_PATIENCE) as alone:
        if not world.all(alone):
            raise UserError(_busy(out))
        files.remove_orphans(out)
        yield


def _busy(out: Path) -> str:
    return (
        f"another process trains in {out}; wait until it is done, or give another --out (several "
        "processes train together only under torchrun)"
    )


def _check_frames(config: Config, frames: Frames) -> None:
    wanted, made = config.data, frames.settings
    if made.clips != (config.video is not None):
        kinds = ("stills", "clips")
        raise UserError(
            f"index {frames.path} holds {kinds[made.clips]}, but configuration {config.name} "
            f"trains on {kinds[not made.clips]}; make an index with `usjepa index"
            f"{'' if made.clips else ' --clips'}`, or give another --config"
        )
    for name in ("grey", "inpaint_below"):
        now, then = getattr(wanted, name), getattr(made, name)
        if now != then:
            raise UserError(
                f"index {frames.path} was made with {name} {then}, but data.{name} is {now}; set "
                f"it to {then}, or make another index"
            )


_PATIENCE = 1.0  # seconds that a process which was just killed may take to let go


@dataclass
class _Window:
    """What has come together since the last line of the log."""

    steps: int = 0
    sums: dict[str, Tensor | float] = field(default_factory=dict)
    """Tensors stay on their device, because reading one would wait for it."""
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
        self.kept: Best | None = None
        self.place = Identity.of(config, frames.fingerprint, self.objective)
        self.found, self.notes = checkpoint.find(out, self.place, self.steps)
        self.precision = self._precision()
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
        if self.world.first:
            self.log = monitor.Log(self.out / "log.jsonl", self.step)
            if self.log.damaged is not None:
                self.notes.append(f"the unreadable lines of the log are in {self.log.damaged}")
        for note in self.notes:
            self._write("note", {"text": note})
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
        if self.config.projection is not None:
            self._project()
            self._save()  # which holds it too
        if self.world.first:
            assert self.kept is not None  # a run has at least one epoch
            _export(self.kept, self.out)
        self.world.wait()
        return self.out / FILE

    def _steps(self) -> Iterator[list[Batch]]:
        """The batches of each step that is left for this process."""
        mine = range(self.parts)[self.world.rank :: self.world.size]
        order = (BatchPart(step, part) for step in range(self.step, self.steps) for part in mine)
        batches = loader.stream(self.parts_of_steps, order, self.execution.workers)
        for _ in range(self.step, self.steps):
            start = time.perf_counter()
            parts = [next(batches) for _ in mine]
            self.window.waited += time.perf_counter() - start
            yield parts

    def _train_step(self, parts: list[Batch]) -> None:
        train = self.config.train
        values = schedules.at(self.step + 1, train, self.steps_per_epoch)
        self._draw(f"step {self.step}")
        share = 1 / len(parts)
        for place, batch in enumerate(parts, 1):
            images, masks = batch.on(self.world.device)
            with self._exchange(place == len(parts)):
                with self._autocast():
                    loss, logs = self.model(images, masks)
                torch.autograd.backward(share * loss)
            self.window.add(logs, share)
            self.window.add(masks.fallbacks._asdict(), share)
        epoch = self.step // self.steps_per_epoch
        self.window.add(update(self.objective, self.optimizer, train, values, epoch))
        self.step += 1
        self.window.steps += 1

    def _autocast(self) -> torch.autocast:
        enabled = self.precision == "bfloat16"
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
        self._check(means["loss"], "the loss")
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
        images, masks = self.parts_of_steps[BatchPart(0, 0)].on(self.world.device)

        def work() -> None:
            with self._autocast():
                torch.autograd.backward(self.objective.loss(images, masks)[0])

        count = monitor.operations(work)
        self.optimizer.zero_grad()
        dtype = torch.bfloat16 if self.precision == "bfloat16" else torch.float32
        return count, monitor.ceiling(self.world.device, dtype)

    def _end_epoch(self) -> None:
        """Validation, the best encoder so far, and the probe."""
        epoch = self.step // self.steps_per_epoch
        found = self._validated()
        if found:
            self._check(found["loss"], "the validation loss")
            self._write("validation", {"epoch": epoch, **found})
        loss = found.get("loss", math.nan)
        better = not found or not self.objective.steady or loss < self.best
        if better:
            self.best = loss if found else self.best
            if self.world.first:
                self.kept = self._best(epoch, loss if found else None)
                checkpoint.save_best(self.out, self.kept)
        probe, every = self.execution.probe, self.execution.probe_every
        if probe is not None and (epoch % every == 0 or self.step == self.steps):
            if self.world.first:
                self._write("probe", {"epoch": epoch, **self._probed(probe, epoch)})
            self.world.wait()
        self.window = _Window()

    @torch.no_grad()
    def _validated(self) -> dict[str, float]:
        """Loss on held-out frames, and what their features look like; empty without frames."""
        self._draw(f"validation, step {self.step}")
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
        self._check(total, "the validation loss")
        # Of the first process only, which writes; with few held-out frames others may have none.
        mine = torch.cat(features) if features else torch.zeros(1, 1)
        return {
            "loss": total / count,
            "effective_rank": monitor.effective_rank(mine),
            "feature_spread": monitor.spread(mine),
        }

    def _check(self, loss: float, what: str) -> None:
        """Raise, and leave the last good checkpoint, once a loss is not a number any more."""
        if not math.isfinite(loss):
            raise UserError(
                f"{what} is {loss} at step {self.step}, so {self.out} is not trained further; "
                "lower train.learning_rate or set train.clip, and start again with another --out"
            )

    def _probed(self, probe: Probe, epoch: int) -> dict[str, float]:
        """What a probe gives; whatever goes wrong in one is reported as its user's."""
        try:
            return {str(name): float(value) for name, value in probe(self._encoder(epoch)).items()}
        except (UserError, KeyboardInterrupt):
            raise
        except (Exception, SystemExit) as error:
            name = f"{getattr(probe, '__module__', '')}:{getattr(probe, '__qualname__', probe)}"
            raise UserError(
                f"the probe {name} failed after epoch {epoch} ({type(error).__name__}: "
                f"{' '.join(str(error).split())[:200]}); fix it, or leave out --probe, and run the "
                "same command to resume"
            ) from error

    def _encoder(self, epoch: int) -> Encoder:
        """The encoder as the zoo opens it."""
        with tempfile.TemporaryDirectory() as folder:
            history = self._history({"epoch": epoch, "step": self.step, "validation_loss": None})
            path = export.export(self.objective.encoder, self.config, Path(folder), history)
            device = str(self.world.device)
            name = "usjepa" if self.config.video is None else "usjepa-clip"
            return model_zoo.load(name, str(path), device=device, dtype="float32")

    def _write(self, kind: str, entry: Mapping[str, Any]) -> None:
        here = {"kind": kind, "step": self.step}
        line = {**here, **entry, **here}  # names of a probe's numbers replace neither
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
            "precision": self.precision,
        }

    # ---- what is kept -------------------------------------------------------------------------

    def _resume(self) -> None:
        """Take up the checkpoint that was found, if any."""
        if self.found is not None:
            checkpoint.restore(self.found, self.objective, self.optimizer)
            self.step, self.best = self.found.progress.step, self.found.progress.best
            self.kept = self.found.progress.kept
        self.world.wait()  # all have read what is there
        if self.world.first:
            if self.found is None or self.found.path.name != checkpoint.LAST:
                checkpoint.set_aside(self.out)
            if self.kept is not None:  # it may be damaged, or of a later step than the checkpoint
                checkpoint.save_best(self.out, self.kept)
        self.found = None  # a second copy of the weights

    def _precision(self) -> str:
        """In which this run computes, whatever the machine it is resumed on."""
        wanted: str = self.config.train.precision
        fast = self.world.all(processor.multiplies_bfloat16(self.world.device))
        if self.found is not None:
            made = self.found.progress.precision
            if made == "bfloat16" and not fast:
                self.notes.append(
                    "this run was started in bfloat16 and is resumed so, but this processor has no "
                    "bfloat16 in hardware, which makes it slow"
                )
            elif made != wanted:
                self.notes.append(
                    f"this run was started in {made}, on a processor without bfloat16 in hardware, "
                    "and is resumed so"
                )
            return made
        if wanted == "bfloat16" and not fast:
            self.notes.append(
                "this processor has no bfloat16 in hardware, so this run computes in float32 in "
                "place of train.precision bfloat16"
            )
            return "float32"
        return wanted

    def _draw(self, purpose: str) -> None:
        """Seed torch's own generators, for what an objective of one's own may draw.

        So its draws follow from the step too, and need not be stored.
        """
        torch.manual_seed(seed_for(self.config.seed, f"{purpose}, process {self.world.rank}"))

    def _save(self) -> None:
        if self.world.first:
            progress = Reached(self.step, self.best, self.precision, self.kept)
            checkpoint.save(self.out, self.place, self.objective, self.optimizer, progress)
        self.world.wait()

    def _best(self, epoch: int, loss: float | None) -> Best:
        state = self.objective.encoder.state_dict()
        return {
            "config": self.config.plain(),
            "encoder": {name: value.detach().cpu().clone() for name, value in state.items()},
            "about": self._history({"epoch": epoch, "step": self.step, "validation_loss": loss}),
        }

    def _project(self) -> None:
        """Fit the best encoder's projection, unless it has one already."""
        kept = self.kept
        if not self.world.first or kept is None or "projection.weight" in kept["encoder"]:
            return
        network = students.make(self.config)
        assert isinstance(network, students.ImageStudent)
        network.load_state_dict(kept["encoder"])
        layer = projection.fitted(network.to(self.world.device), self.config, self.frames)
        layers = {f"projection.{name}": value for name, value in layer.state_dict().items()}
        self.kept = {**kept, "encoder": {**kept["encoder"], **layers}}
        checkpoint.save_best(self.out, self.kept)

    def _history(self, state: Mapping[str, Any]) -> dict[str, Any]:
        frames = {
            "sets": dict(zip(self.frames.sets, self.frames.counts.tolist(), strict=True)),
            "fingerprint": self.frames.fingerprint,
            "guard": self.frames.guard,
        }
        return {"frames": frames, "precision": self.precision, **state}


def update(
    target: Objective, optimizer: Optimizer, train: Train, values: Values, epoch: int
) -> dict[str, Tensor]:
    """What follows a backward pass: clipping, the optimiser's step, and the averaged teacher's.

    Args:
        target: with gradients, which are taken off.
        optimizer: of its `objective.optimiser_groups`.
        train: how gradients are clipped.
        values: of this step.
        epoch: from 0.

    Returns:
        Norms of the gradients before they were clipped, by name.
    """
    norms = {}
    if train.clip is not None and train.clip_rule == "all":
        parameters = [parameter for _, parameter in target.trainable()]
        norms["gradient_norm"] = nn.utils.clip_grad_norm_(parameters, train.clip)
    elif train.clip is not None and epoch > train.warmup_epochs:
        for name, part in target.named_children():
            if parameters := [one for one in part.parameters() if one.requires_grad]:
                norm = nn.utils.clip_grad_norm_(parameters, train.clip)
                norms[f"gradient_norm_of_{name}"] = norm
    for group in optimizer.param_groups:
        group["lr"] = values.learning_rate
    optimizer.param_groups[0]["weight_decay"] = values.weight_decay
    optimizer.step()
    optimizer.zero_grad()
    target.after_step(values.momentum)
    return norms


def write_export(run_folder: Path, out: Path, stored: export.Stored = "float32") -> Path:
    """Export the best encoder of a run, finished or not, with its card.

    Args:
        run_folder: OUT of the run.
        out: folder of the export.
        stored: see `usjepa.export.export`.

    Raises:
        UserError: the run has no such encoder yet, or its files are damaged or of two runs.
    """
    return _export(checkpoint.best(run_folder), out, stored)


def _export(kept: Best, out: Path, stored: export.Stored = "float32") -> Path:
    config = configs.validate(kept["config"])
    student = students.make(config)
    if "projection.weight" in kept["encoder"]:
        student.projection = projection.empty(config)
    student.load_state_dict(kept["encoder"])
    return export.export(student, config, out, kept["about"], stored)
