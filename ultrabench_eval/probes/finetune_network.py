"""What is fine-tuned: a trainable encoder with its linear head, and what the head is for.

B is the batch, C the number of classes, D the feature width, P of places of a map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from model_zoo.unfrozen import Unfrozen
from ultrabench_eval.core import hashing, processor
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.finetune import PreparedImages, Tunable
from ultrabench_eval.probes.heads import DataOf, Scaler, Stream
from ultrabench_eval.probes.linear import ADAM
from ultrabench_eval.protocol import FineTuning

ImageData = DataOf[PreparedImages]
"""Prepared images [N, 3, S, S] and their targets."""


class Aim(ABC):
    """What a head is trained for: which features it reads, its targets and its loss."""

    separable = True
    """Whether the loss of a batch is the mean of those of its images."""
    crops = False
    """Whether a target stays what it is when the image's border is cut away."""

    def features(self, trunk: Unfrozen, x: Tensor) -> Tensor:
        """What the head reads of prepared images: [B, D], or [B, D, P]."""
        return trunk.pooled(x)

    def outputs(self, data: ImageData) -> int:
        """How many numbers the head gives, C."""
        return data.classes

    def targets(self, data: ImageData, stream: Stream) -> tuple[Tensor, Tensor]:
        """Of the training and of the validation images."""
        return data.train_y, data.validation_y

    def weights(self, y: Tensor) -> Tensor:
        """How much each place of images counts in the features' mean and deviation, [B, P]."""
        return torch.ones(len(y), 1)

    def flipped(self, y: Tensor) -> Tensor:
        """The targets of images that are flipped left to right."""
        return y

    @abstractmethod
    def slope(
        self, outputs: Tensor, y: Tensor, count: int, settings: FineTuning
    ) -> tuple[Tensor, Tensor]:
        """Part of a batch's loss, and the batch's gradient by these outputs.

        Args:
            outputs: [B, C], or [B, C, P], without a gradient.
            y: targets.
            count: images of the whole batch.
            settings: with the loss.
        """

    @abstractmethod
    def loss(self, outputs: Sequence[Tensor], y: Sequence[Tensor]) -> float:
        """Of the validation images, which come in parts; by it epochs and settings are chosen."""

    def folded(
        self, data: ImageData, stream: Stream, weight: Tensor, bias: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The head [C, D] and [C] that gives what is asked for."""
        return weight, bias

    @abstractmethod
    def answers(self, outputs: Tensor, sides: tuple[int, ...]) -> Tensor:
        """What `Probes.predict` gives of a batch; `sides` are those of a map."""


def slope_of(losses: Any, outputs: Tensor, y: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`Aim.slope` of a loss that is a mean: (outputs, y) -> [B] is that of each image."""
    leaf = outputs.detach().requires_grad_()
    with torch.enable_grad():
        loss = losses(leaf, y).sum() / count
    return loss.detach(), torch.autograd.grad(loss, leaf)[0]


class TunedNetwork(nn.Module):
    """A trainable encoder with its linear head.

    Args:
        tunable: the model.
        settings: which parts of it are trained.
        aim: what the head is for.

    Raises:
        UserError: the model has no such parts.
    """

    def __init__(self, tunable: Tunable, settings: FineTuning, aim: Aim) -> None:
        super().__init__()
        self.trunk, self.settings, self.aim = tunable.unfrozen(), settings, aim
        self._batch = tunable.encoder.batch_size
        self._choose_parts()
        bfloat16 = precision_of(settings, self.trunk.device) == "bfloat16"
        self._autocast = torch.autocast(self.trunk.device.type, torch.bfloat16, enabled=bfloat16)

    def set_head(self, weight: Tensor, bias: Tensor, scaler: Scaler | None = None) -> None:
        """A head [C, D] and [C] on features, brought to mean 0 and deviation 1 by the scaler."""
        table = torch.cat([weight, bias.unsqueeze(1)], 1).to(self.trunk.device)
        self.table = nn.Parameter(table)
        scaler = scaler or Scaler.neutral(weight)
        self.mean, self.deviation = (one.to(table) for one in (scaler.mean, scaler.deviation))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [B, C], or [B, C, P], of prepared images."""
        with self._autocast:
            found = self.aim.features(self.trunk, x)
        weight, bias = self.table[:, :-1], self.table[:, -1]
        found = found.to(weight)
        if found.ndim == 2:
            return nn.functional.linear((found - self.mean) / self.deviation, weight, bias)
        scaled = (found - self.mean[:, None]) / self.deviation[:, None]
        return weight @ scaled + bias[:, None]

    def of_rows(self, x: PreparedImages, rows: Tensor) -> Iterator[Tensor]:
        """Outputs of images, some at a time, in evaluation mode and without a gradient.

        The last batch is filled up, so that an image's bits depend on no other.
        """
        self.eval()
        for part in torch.split(rows, self._batch):
            filled = torch.cat([part, part[-1:].expand(self._batch - len(part))])
            with torch.no_grad():
                yield self(x.rows(filled))[: len(part)].cpu()

    def train(self, mode: bool = True) -> TunedNetwork:
        """Training mode is for dropout, if it is wanted, and for norm layers that are trained."""
        super().train(mode and self.settings.dropout)
        for norm in self._norms:
            norm.train(mode and not self.settings.freeze_norm)
        return self

    @property
    def depends_on_batch(self) -> bool:
        """Whether the halves of a batch would not give what the batch gives."""
        kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
        named = [one for one in self.trunk.modules() if "drop" in type(one).__name__.lower()]
        every = {*named, *(one for one in self.trunk.modules() if isinstance(one, kinds))}
        return any(one.training for one in every)

    def rates(self, rate: float, decay: float) -> dict[str, tuple[float, float]]:
        """Of every parameter that is trained, the highest learning rate and the weight decay."""
        found = {"table": (self.settings.head_learning_rate, self.settings.head_weight_decay)}
        depths = self.trunk.depths()
        deepest = max((depth for *_, depth in depths), default=0)
        for name, parameter, depth in depths:
            if parameter.requires_grad:
                own = rate * self.settings.layer_decay ** (deepest - depth)
                found[f"trunk.wrapper.network.{name}"] = own, decay if parameter.ndim > 1 else 0.0
        return found

    def state(self) -> dict[str, Tensor]:
        """All that training changes, by name."""
        found: dict[str, Tensor] = {n: p for n, p in self.named_parameters() if p.requires_grad}
        if not self.settings.freeze_norm:
            found |= dict(self.named_buffers())
        return {name: one.detach() for name, one in found.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take in a `state`."""
        with torch.no_grad():
            for name, one in self.state().items():
                one.copy_(state[name])

    @cached_property
    def told(self) -> str:
        """What is trained, in a sentence."""
        settings = self.settings
        parts = {
            "whole": "the whole network",
            "last": f"the network's last {settings.blocks} blocks and what follows them",
            "lora": f"additions of rank {settings.rank} to the attention (LoRA)",
        }
        what = parts[settings.scope]
        if settings.scope == "last" and not settings.blocks:
            what = "nothing of the network"
        count = sum(p.numel() for p in self.trunk.parameters() if p.requires_grad)
        every = sum(p.numel() for p in self.trunk.parameters())
        norms = "normalisation layers frozen" if settings.freeze_norm else "with its norm layers"
        return (
            f"fine-tuned: {what} ({count:,} of {every:,} parameters), {norms}, "
            f"and a linear head, in {precision_of(settings, self.trunk.device)}"
        )

    def _choose_parts(self) -> None:
        trunk, settings = self.trunk, self.settings
        self._norms = trunk.norms()
        if settings.scope == "last":
            count = len(trunk.blocks())
            if count < settings.blocks:
                there = f"{count} are found" if count else "none are found"
                raise UserError(
                    f"the last {settings.blocks} blocks of model '{trunk.name}' are to be trained, "
                    f"and {there} in it; change `blocks` in the protocol, or train it whole"
                )
            first = count - settings.blocks + 1 if settings.blocks else count + 2
            for _, parameter, depth in trunk.depths():
                parameter.requires_grad_(depth >= first and count > 0)
        if settings.scope == "lora":
            _add_lora(trunk, settings.rank)
        if settings.freeze_norm:
            for norm in self._norms:
                norm.requires_grad_(False)


class AdamW:
    """`torch.optim.AdamW` as a function of its state, which is in files between two epochs.

    Args:
        network: whose parameters are stepped.
        rates: by name, the highest learning rate and the weight decay.
    """

    def __init__(self, network: nn.Module, rates: Mapping[str, tuple[float, float]]) -> None:
        parameters = dict(network.named_parameters())
        self._groups: dict[tuple[float, float], list[str]] = {}
        for name, how in rates.items():
            self._groups.setdefault(how, []).append(name)
        self._parameters = {name: parameters[name] for name in rates}
        self.state: dict[str, Tensor] = {}
        """By name of the parameter: its moments and its number of steps."""

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def step(self, part: float) -> None:
        """Step every parameter that has a gradient, at a part of its highest learning rate."""
        for (rate, decay), names in self._groups.items():
            names = [name for name in names if self._parameters[name].grad is not None]
            for name in names:
                if f"step.{name}" not in self.state:
                    one = self._parameters[name].detach()
                    self.state |= {f"first.{name}": torch.zeros_like(one)}
                    self.state |= {f"second.{name}": torch.zeros_like(one)}
                    self.state |= {f"step.{name}": torch.zeros((), device=one.device)}
            if names:
                first, second, steps = (
                    [self.state[f"{k}.{n}"] for n in names] for k in ("first", "second", "step")
                )
                own: list[Tensor] = [self._parameters[name] for name in names]
                slopes = [p.grad for p in own if p.grad is not None]
                with torch.no_grad():
                    adamw(
                        *(own, slopes, first, second, [], steps),
                        fused=True,
                        lr=rate * part,
                        weight_decay=decay,
                        **ADAM,
                    )


def precision_of(settings: FineTuning, device: torch.device) -> str:
    """In which the network's products are computed: "bfloat16" or "float32"."""
    if settings.precision != "auto":
        return settings.precision
    fast = device.type == "cuda" and processor.multiplies_bfloat16(device)
    return "bfloat16" if fast else "float32"


def _add_lora(trunk: Unfrozen, rank: int) -> None:
    """Freeze a network but for additions to its attention.

    Raises:
        UserError: the package or the layers are missing.
    """
    names = trunk.attention()
    if not names:
        raise UserError(
            f"model '{trunk.name}' has no linear layers of attention for LoRA; train it whole, or "
            "its last blocks (`scope` in the protocol)"
        )
    try:
        from peft import (  # type: ignore[import-not-found]
            LoraConfig,
            inject_adapter_in_model,
        )
    except ModuleNotFoundError as error:
        raise UserError(
            "fine-tuning by LoRA needs the package peft, which is not installed: pip install peft"
        ) from error
    trunk.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=names)
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(hashing.seed_for(0, "finetune/lora"))
    inject_adapter_in_model(config, trunk.network)
    torch.set_rng_state(state)
