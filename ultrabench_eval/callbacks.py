"""The live probe in anyone's training: a callback for transformers' `Trainer`, one for Lightning.

    Trainer(..., callbacks=[callbacks.transformers(tasks)])
    lightning.Trainer(..., callbacks=[callbacks.lightning(tasks, "mine", lambda m: m.encoder)])

Each saves the network as a checkpoint in a temporary folder and loads that as everyone else will
(`model_zoo.load`), so that the training's own network is not touched, and what is scored is what
will be shipped. The training ends in the same weights as without the callback. Scores are macro F1
in percent on validation images (`live.RidgeProbe`), named `probe_<task>` and `probe_mean`.

Neither library is imported before its callback is made.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import model_zoo
from tasks.task import Task
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.live import RidgeProbe

LIGHTNING = ("lightning.pytorch", "pytorch_lightning")


class NetworkProbe:
    """Scores a network that is being trained.

    Args:
        tasks: what to measure on.
        model: name of the model that its checkpoint is loaded as: one of a plugin, `timm/<name>`,
            or another of the zoo. None: of transformers, saved and loaded by that library.
        part: the part of the network to save; None for all of it.
        processor: of transformers: the image processor, if the trainer has none.
        device: where it is scored, see `model_zoo.load`.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        model: str | None = None,
        part: Callable[[Any], nn.Module] | None = None,
        processor: Any = None,
        device: str = "auto",
    ) -> None:
        self.probe, self.model, self.part = RidgeProbe(tasks), model, part
        self.processor, self.device = processor, device
        self.history: list[dict[str, float]] = []
        """All scores, with the `step` that each is of."""

    def __call__(self, network: Any, step: int, processor: Any = None) -> dict[str, float]:
        """Scores of the network as it is, the same in all processes of a distributed training.

        Only the first process scores, and the others wait for it.

        Args:
            network: the one in training.
            step: of the training; a step is scored once.
            processor: the trainer's image processor, if there is one.

        Raises:
            UserError: the checkpoint does not fit the model, or an image cannot be read.
        """
        if self.history and self.history[-1]["step"] == step:
            known = dict(self.history[-1])
            known.pop("step")
            return known
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if not distributed:
            scores = self._scored(network, processor)
        else:
            box: list[Any] = [None]
            if torch.distributed.get_rank() == 0:
                try:
                    box = [self._scored(network, processor)]
                except Exception as error:  # or the other processes would wait for ever
                    box = [error]
            torch.distributed.broadcast_object_list(box, src=0)
            if isinstance(box[0], Exception):
                raise box[0]
            scores = box[0]
        self.history.append({**scores, "step": step})
        return scores

    def _scored(self, network: Any, processor: Any) -> dict[str, float]:
        part: Any = self.part(network) if self.part else network
        with tempfile.TemporaryDirectory() as folder:
            if self.model is None:
                encoder = self._of_transformers(part, Path(folder), processor or self.processor)
            else:
                path = Path(folder) / "checkpoint.pt"
                torch.save(part.state_dict(), path)
                try:
                    encoder = model_zoo.load(self.model, path, self.device, "float32")
                except UserError as error:
                    raise UserError(
                        f"the network in training cannot be scored as model '{self.model}': "
                        f"{error} (`part` chooses the part of it that is saved)"
                    ) from error
            scores = self.probe(encoder)
        return {f"probe_{name}": score for name, score in scores.items()}

    def _of_transformers(self, part: Any, folder: Path, processor: Any) -> model_zoo.Encoder:
        if not hasattr(part, "save_pretrained"):
            raise UserError(
                f"the network is a {type(part).__name__}, not one of transformers; name the model "
                "that its checkpoint is loaded as: model='mine' of your plugin file"
            )
        if not hasattr(processor, "save_pretrained"):
            raise UserError(
                "the trainer has no image processor, so how images are prepared is not known; give "
                "Trainer(processing_class=...) or the callback processor=AutoImageProcessor..."
            )
        from transformers.utils import logging as transformers_logging

        logging: Any = transformers_logging  # some of its functions have no types
        shown = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # of a few files, in the midst of the training's own
        try:
            part.save_pretrained(folder)
            processor.save_pretrained(folder)
        finally:
            if shown:
                logging.enable_progress_bar()
        return model_zoo.load(f"hf/{folder}", None, self.device, "float32")


def transformers(
    tasks: Sequence[Task],
    model: str | None = None,
    part: Callable[[Any], nn.Module] | None = None,
    *,
    epochs: int = 1,
    processor: Any = None,
    device: str = "auto",
) -> Any:
    """A callback for `transformers.Trainer`.

    It scores before the first step, after every `epochs` epochs, and at each evaluation. Scores are
    appended to `state.log_history`, which checkpoints keep; those of an evaluation are among its
    metrics, so that `metric_for_best_model="eval_probe_mean"` chooses by them.

    Args:
        tasks: see `NetworkProbe`.
        model: see there.
        part: see there, e.g. `lambda m: m.vit`.
        epochs: between two scores.
        processor: see there.
        device: see there.
    """
    from transformers import TrainerCallback

    class TransformersProbe(TrainerCallback):
        """Made by `callbacks.transformers`."""

        def __init__(self) -> None:
            self.probe = NetworkProbe(tasks, model, part, processor, device)

        def _score(self, state: Any, known: dict[str, Any]) -> dict[str, float]:
            given = known.get("processing_class")
            scores = self.probe(known["model"], state.global_step, given)
            entry = {**scores, "epoch": state.epoch or 0, "step": state.global_step}
            if entry not in state.log_history:
                state.log_history.append(entry)
            return scores

        def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            """The first scores; what cannot be scored stops the training here."""
            self._score(state, known)

        def on_epoch_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            """Scores of every so many epochs."""
            if round(state.epoch or 0) % epochs == 0:
                self._score(state, known)

        def on_evaluate(self, args: Any, state: Any, control: Any, **known: Any) -> None:
            """Scores among the metrics of an evaluation."""
            scores = self._score(state, known)
            if known.get("metrics") is not None:
                known["metrics"].update({f"eval_{key}": value for key, value in scores.items()})

    return TransformersProbe()


def lightning(
    tasks: Sequence[Task],
    model: str,
    part: Callable[[Any], nn.Module] | None = None,
    *,
    epochs: int = 1,
    device: str = "auto",
) -> Any:
    """A callback for the `Trainer` of Lightning (`lightning.pytorch`, or `pytorch_lightning`).

    It scores before the first epoch and after every `epochs` epochs, and logs the scores, so that
    `ModelCheckpoint(monitor="probe_mean", mode="max")` chooses by them.

    Args:
        tasks: see `NetworkProbe`.
        model: see there.
        part: see there, e.g. `lambda module: module.encoder`.
        epochs: between two scores.
        device: see there.

    Raises:
        UserError: Lightning is not installed.
    """
    base = _lightning().Callback

    class LightningProbe(base):  # type: ignore[misc, valid-type]
        """Made by `callbacks.lightning`."""

        def __init__(self) -> None:
            self.probe = NetworkProbe(tasks, model, part, None, device)

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            """The first scores; what cannot be scored stops the training here."""
            self.probe(pl_module, trainer.global_step)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            """Scores of every so many epochs."""
            if (trainer.current_epoch + 1) % epochs == 0:
                scores = self.probe(pl_module, trainer.global_step)
                pl_module.log_dict(scores, on_step=False, on_epoch=True)

    return LightningProbe()


def _lightning() -> Any:
    """Whichever of its two packages is installed; one that is imported already comes first."""
    import sys

    for name in sorted(LIGHTNING, key=lambda name: name not in sys.modules):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise UserError("Lightning is not installed; run: pip install lightning")
