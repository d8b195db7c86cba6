"""How networks are fine-tuned: one at a time, by plain AdamW, so that a killed one can go on.

What is drawn is drawn as for frozen probes: the head's first weights, and the order of the images.
With learning rate 0, or nothing of the network in `scope`, the head is the linear probe's.

B is the batch, N the number of training images, C of classes, D the feature width, P of places of a
map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from math import ceil, cos, pi
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from ultrabench_eval import finetune
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.finetune import KeptTraining, PreparedImages
from ultrabench_eval.probes.early_stopping import EarlyStopping
from ultrabench_eval.probes.finetune_network import (
    AdamW,
    Aim,
    ImageData,
    TunedNetwork,
)
from ultrabench_eval.probes.heads import Head, Probes, Scaler, Stream
from ultrabench_eval.probes.linear import initial
from ultrabench_eval.protocol import FineTuning, Protocol

_AT_ONCE = 4  # images that a CPU takes through a network fastest, and with the least memory
_BRIGHTNESS, _CROP = 0.1, 0.15  # of the light augmentation, at most


@dataclass(frozen=True)
class TunedWeights:
    """A trained network's numbers, on disk or in memory, and how they are used."""

    settings: FineTuning
    source: Path | Mapping[str, Tensor]

    def read(self) -> Mapping[str, Tensor]:
        """All of them.

        Raises:
            UserError: they are no longer on disk.
        """
        if not isinstance(self.source, Path):
            return self.source
        kept = finetune.read(self.source)
        if kept is None:
            raise UserError(f"{self.source} was removed or damaged during the run; run again")
        return kept.tensors


@dataclass(frozen=True)
class FineTuned(Probes):
    """Networks that were trained on, with their heads.

    Args:
        weights: of each.
        remarks: what belongs under its numbers.
        told: what to know before they are believed.
        made_by: device and versions.
    """

    aim: ClassVar[Aim]
    """What they are trained for."""
    weights: tuple[TunedWeights, ...]
    remarks: tuple[str, ...] = ()
    told: tuple[tuple[str, ...], ...] = ()
    made_by: tuple[dict[str, str], ...] = ()

    def predict(self, x: PreparedImages) -> Tensor:
        """See `Probes.predict`; `x` brings the model as it was released."""
        return torch.stack([_answers(weights, self.aim, x) for weights in self.weights])

    def tensors(self) -> dict[str, Tensor]:
        """See `Probes.tensors`: what training has changed of each, and the settings as JSON."""
        every = [one.read() for one in self.weights]
        settings = json.dumps(asdict(self.weights[0].settings)).encode()
        stacked = {name: torch.stack([one[name] for one in every]) for name in every[0]}
        return {**stacked, "settings": torch.frombuffer(bytearray(settings), dtype=torch.uint8)}

    @classmethod
    def restored(cls, heads: tuple[Head, ...], tensors: Mapping[str, Tensor]) -> Self:
        """See `Probes.restored`."""
        settings = FineTuning(**json.loads(tensors["settings"].numpy().tobytes()))
        rest = {name: one for name, one in tensors.items() if name != "settings"}
        each = [{name: one[place] for name, one in rest.items()} for place in range(len(heads))]
        return cls(heads, tuple(TunedWeights(settings, one) for one in each))


def _answers(weights: TunedWeights, aim: Aim, x: PreparedImages) -> Tensor:
    x, state = x.at(weights.settings.input_size), weights.read()
    network = TunedNetwork(x.tunable, weights.settings, aim)
    network.set_head(state["head.weight"], state["head.bias"])
    network.restore({**state, "table": network.table.detach()})
    sides = tuple(state["sides"].tolist())
    rows = torch.arange(len(x))
    return torch.cat([aim.answers(one, sides) for one in network.of_rows(x, rows)])


def train(
    data: ImageData, draws: Sequence[Stream], protocol: Protocol, kind: type[FineTuned]
) -> FineTuned:
    """Fine-tune a network for each stream; those of the first seed with every setting.

    Args:
        data: prepared images and their targets.
        draws: subsets x seeds.
        protocol: standardisation of the head's features, and `finetune`.
        kind: what is to be predicted.

    Raises:
        UserError: the model cannot be fine-tuned so; memory is not enough for one image; or the
            loss was not finite, of the first seed with every setting.
    """
    settings = protocol.finetune or FineTuning()
    trainer = _Trainer(data, settings, protocol.standardize, kind.aim)
    only = data.train_x.tunable.seed
    trainer.total = _images(draws, settings, only)
    found: list[_Tuned] = []
    for subset in dict.fromkeys(stream.subset for stream in draws):
        first, *others = (stream for stream in draws if stream.subset == subset)
        tried, told = [], []
        for setting in range(len(settings.settings)):
            try:
                tried.append(trainer.trained(first, setting))
            except _Diverged as error:
                told.append(str(error))
                reason = error
        if not tried:
            raise UserError(f"{reason}; {_LOWER}")
        best = min(tried, key=lambda one: one.head.validation_loss)
        found += [replace(one, told=(*one.told, *told)) for one in tried]
        for stream in others:
            if only in (None, stream.seed):
                try:
                    found.append(trainer.trained(stream, best.setting))
                except _Diverged as error:
                    raise UserError(f"{error}; {_LOWER}") from error
    return kind(
        *(tuple(one.head for one in found), tuple(one.weights for one in found)),
        *(tuple(one.remark for one in found), tuple(one.told for one in found)),
        tuple(one.made_by for one in found),
    )


def _images(draws: Sequence[Stream], settings: FineTuning, only: int | None) -> int:
    """How many images all trainings see at most."""
    total = 0
    for subset in {stream.subset for stream in draws}:
        first, *others = (len(s.rows) for s in draws if s.subset == subset)
        others = others if only is None else others[: int(only > 0)]
        total += first * len(settings.settings) + sum(others)
    return total * settings.max_epochs


_IN_PARTS = (
    "memory ran out in training, so batches went through the network in smaller parts, whose "
    "gradients add up to the same"
)
_LOWER = "lower learning_rates in the protocol, or ask for precision: float32"


class _Diverged(Exception):
    """A loss was NaN or infinite."""


@dataclass(frozen=True)
class _Tuned:
    head: Head
    setting: int
    weights: TunedWeights
    remark: str
    told: tuple[str, ...]
    made_by: dict[str, str]


class _Trainer:
    """Fine-tunes one network after the other, each from the released weights.

    Raises:
        UserError: the model gives no gradients, or does not take the settings.
    """

    def __init__(self, data: ImageData, settings: FineTuning, standardize: bool, aim: Aim) -> None:
        self.data, self.settings, self.aim = data, settings, aim
        self._standardize = standardize
        self._scalers: dict[int, Scaler] = {}
        self._checked = False
        self.done, self.total = 0, 0  # images that went through training, of how many at most
        self.tunable = data.train_x.tunable

    def trained(self, stream: Stream, setting: int) -> _Tuned:
        """A network of a stream with a setting; that which is on disk if it is finished.

        Raises:
            _Diverged: the loss was not finite.
        """
        path = self._path(stream, setting)
        kept = finetune.read(path)
        if kept is None or not kept.facts["done"]:
            kept = self._train(stream, setting, path, kept)
        facts = kept.facts
        if facts["diverged"]:
            raise _Diverged(facts["diverged"])
        rate, decay = self.settings.settings[setting]
        head = Head(
            *(stream.subset, stream.seed, {"learning_rate": rate, "weight_decay": decay}),
            *(facts["validation_loss"], facts["best_epoch"]),
        )
        return _Tuned(
            *(head, setting, TunedWeights(self.settings, path)),
            *(facts["remark"], tuple(facts["told"]), facts["made_by"]),
        )

    def _path(self, stream: Stream, setting: int) -> Path:
        """By the images in use and not by the fraction's place in a run."""
        rows = [one.numpy().tobytes() for one in (stream.rows, stream.validation_rows)]
        name = hashing.short(hashing.digest_parts(rows), 16)
        return self.tunable.folder / f"{name}-{stream.seed}-{setting}.safetensors"

    def _scaler(self, stream: Stream, network: TunedNetwork) -> Scaler:
        """Mean and deviation of the released network's features of the training images in use."""
        if id(stream.rows) not in self._scalers:
            first = second = torch.zeros((), dtype=torch.float64)
            total = torch.zeros((), dtype=torch.float64)
            x, y = self.data.train_x, self.data.train_y
            for rows in torch.split(stream.rows, self.tunable.encoder.batch_size):
                with torch.no_grad():
                    found = self.aim.features(network.trunk, x.rows(rows)).cpu().double()
                found = found.unsqueeze(-1) if found.ndim == 2 else found
                weight = self.aim.weights(y[rows]).double().unsqueeze(-1)
                first = first + (found @ weight).sum(0).squeeze(-1)
                second = second + (found.square() @ weight).sum(0).squeeze(-1)
                total = total + weight.sum()
            mean = first / total
            deviation = (second / total - mean.square()).clamp(min=0).sqrt()
            made = (
                Scaler.from_moments(mean.float(), deviation.float())
                if self._standardize
                else Scaler(torch.zeros_like(mean).float(), torch.ones_like(mean).float())
            )
            self._scalers[id(stream.rows)] = made
        return self._scalers[id(stream.rows)]

    def _check(self, network: TunedNetwork) -> None:
        if not self._checked:
            try:
                self.tunable.unfrozen().check_gradients(self.data.train_x.rows(torch.arange(1)))
            except torch.OutOfMemoryError as error:
                raise _no_memory(network.trunk.name, "one image at a time") from error
            self._checked = True

    def _train(
        self, stream: Stream, setting: int, path: Path, kept: KeptTraining | None
    ) -> KeptTraining:
        """One training, from where it stopped; the finished one is on disk afterwards."""
        settings, aim, data = self.settings, self.aim, self.data
        network = TunedNetwork(self.tunable, settings, aim).eval()
        self._check(network)
        scaler = self._scaler(stream, network)
        start = initial(stream.seed, aim.outputs(data), len(scaler.mean))
        network.set_head(start[:, :-1], start[:, -1], scaler)
        rate, decay = settings.settings[setting]
        optimizer = AdamW(network, network.rates(rate, decay))
        one = replace(settings, learning_rates=(rate,), weight_decays=(decay,))
        steps = ceil(len(stream.rows) / settings.batch_size)
        epochs = ceil(settings.max_steps / steps) if settings.max_steps else settings.max_epochs
        stopping = EarlyStopping([stream], replace(one, max_epochs=epochs))
        losses: list[float] = []  # on validation, after each epoch
        batches: list[float] = []  # on each batch
        batch = min(settings.batch_size, len(stream.rows))
        size = self._size(batch)  # images that go through the network at once
        told: list[str] = []
        best = {name: tensor.clone() for name, tensor in network.state().items()}
        if kept is not None:
            losses, batches = kept.facts["losses"], kept.facts["batches"]
            size, told = kept.facts["size"], kept.facts["told"]
            network.restore(_named(kept.tensors, "now"))
            best = _named(kept.tensors, "best")
            optimizer.state = _named(kept.tensors, "optimizer")
        order = torch.Generator().manual_seed(hashing.seed_for(stream.seed, "probe/order"))
        targets, validation_y = aim.targets(data, stream)
        goes_on = True

        for epoch in range(epochs):
            shuffled = stream.rows[torch.randperm(len(stream.rows), generator=order)]
            if epoch < len(losses):  # what was done before
                goes_on = self._take(stopping, epoch, losses[epoch])[1]
                continue
            if not goes_on:
                break
            annealed = (1 + cos(pi * epoch / epochs)) / 2
            network.train()
            with _drawn(stream.seed, epoch) as generator:
                for step, rows in enumerate(torch.split(shuffled, settings.batch_size)):
                    done = epoch * steps + step
                    if settings.max_steps and done >= settings.max_steps:
                        break
                    warm = min(1.0, (done + 1) / max(1, settings.warmup_epochs * steps))
                    x, y = data.train_x.rows(rows), targets[rows]
                    if settings.augmentation == "light":
                        x, y = augmented(x, y, aim, generator)
                    loss, size = self._gradient(network, optimizer, x, y, size, told)
                    if not torch.isfinite(torch.tensor(loss)):
                        return self._diverged(path, stream, rate, loss, epoch)
                    optimizer.step(annealed * warm)
                    batches.append(loss)
                    self._advance(len(rows))
            losses.append(self._validation_loss(network, stream, validation_y))
            if losses[-1] != losses[-1] or abs(losses[-1]) == float("inf"):
                return self._diverged(path, stream, rate, losses[-1], epoch)
            better, goes_on = self._take(stopping, epoch, losses[-1])
            if better:
                best = {name: tensor.clone() for name, tensor in network.state().items()}
            progress = {"losses": losses, "batches": batches, "size": size, "told": told}
            tensors = {f"now.{n}": one for n, one in network.state().items()}
            tensors |= {f"best.{n}": one for n, one in best.items()}
            tensors |= {f"optimizer.{n}": one for n, one in optimizer.state.items()}
            finetune.write(path, KeptTraining({"done": False, **progress}, tensors))

        (head,) = stopping.heads(0)
        network.restore(best)
        table = network.table.detach().cpu()
        weight, bias = aim.folded(data, stream, *scaler.folded(table[:, :-1], table[:, -1]))
        sides = torch.tensor(data.train_y.shape[2:], dtype=torch.int64)
        changed = {n: one for n, one in network.state().items() if n != "table"}
        facts = {
            **{"done": True, "diverged": ""},
            **{"losses": losses, "batches": batches, "size": size, "told": told},
            **{"validation_loss": head.validation_loss, "best_epoch": head.best_epoch},
            **{"remark": network.told, "made_by": finetune.made_by(self.tunable.encoder.device)},
        }
        finished = KeptTraining(
            facts, {"head.weight": weight, "head.bias": bias, "sides": sides} | changed
        )
        finetune.write(path, finished)
        return finished

    def _advance(self, count: int) -> None:
        self.done += count
        self.tunable.advance(self.done, max(self.done, self.total))

    def _take(self, stopping: EarlyStopping, epoch: int, loss: float) -> tuple[bool, bool]:
        """Whether an epoch is the best so far, and whether training goes on."""
        alone = torch.zeros(1, dtype=torch.int64)
        better, goes_on = stopping.take(alone, epoch, torch.tensor([[loss]], dtype=torch.float64))
        return bool(better.any()), bool(goes_on.any())

    def _size(self, batch: int) -> int:
        if self.settings.accumulate:
            return ceil(batch / self.settings.accumulate)
        return min(batch, _AT_ONCE) if self.tunable.encoder.device.type == "cpu" else batch

    def _gradient(
        self,
        network: TunedNetwork,
        optimizer: AdamW,
        x: Tensor,
        y: Tensor,
        size: int,
        told: list[str],
    ) -> tuple[float, int]:
        """Gradients of a batch's loss; that loss, and how many images went through at once.

        Where memory is not enough these are halved: the gradients of the parts add up to the same.
        """
        while True:
            optimizer.clear()
            try:
                loss = self._backward(network, x, y, size)
                break
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                reason = ""
                if size == 1:
                    reason = "one image at a time"
                elif network.depends_on_batch:
                    reason = "which is not halved, because batch norm or dropout would see another"
            if reason:
                raise _no_memory(network.trunk.name, reason)
            if network.trunk.device.type == "cuda":
                torch.cuda.empty_cache()
            size //= 2
            if _IN_PARTS not in told:
                told.append(_IN_PARTS)
        return loss, size

    def _backward(self, network: TunedNetwork, x: Tensor, y: Tensor, size: int) -> float:
        """Gradients of a batch's loss, `size` images at a time; the loss."""
        pairs = list(zip(torch.split(x, size), torch.split(y, size), strict=True))
        slopes: Sequence[Tensor | None] = [None] * len(pairs)
        total = 0.0
        if not self.aim.separable and len(pairs) > 1:
            # The loss of a batch is more than a sum over images, so all outputs come first.
            with torch.no_grad():
                outputs = torch.cat([network(part) for part, _ in pairs])
            loss, slope = self.aim.slope(outputs, y.to(outputs.device), len(x), self.settings)
            slopes, total = torch.split(slope, size), float(loss)
        for (part, target), known in zip(pairs, slopes, strict=True):
            outputs = network(part)
            if known is None:
                loss, known = self.aim.slope(
                    outputs.detach(), target.to(outputs.device), len(x), self.settings
                )
                total += float(loss)
            (outputs * known).sum().backward()  # `outputs.backward(known)` would import sympy
        return total

    def _validation_loss(self, network: TunedNetwork, stream: Stream, y: Tensor) -> float:
        rows = stream.validation_rows
        outputs = list(network.of_rows(self.data.validation_x, rows))
        return self.aim.loss(outputs, torch.split(y[rows], [len(one) for one in outputs]))

    def _diverged(
        self, path: Path, stream: Stream, rate: float, loss: float, epoch: int
    ) -> KeptTraining:
        sentence = (
            f"fine-tuning with learning rate {rate:g} and seed {stream.seed} failed, because the "
            f"loss became {'NaN' if loss != loss else 'infinite'} in epoch {epoch + 1}"
        )
        kept = KeptTraining({"done": True, "diverged": sentence}, {"sides": torch.zeros(0)})
        finetune.write(path, kept)
        return kept


def augmented(x: Tensor, y: Tensor, aim: Aim, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Prepared images [B, 3, S, S] and targets, changed a little; see `FineTuning.augmentation`.

    What belongs to a mask is flipped with it; a number may depend on the scale, which stays.
    """
    count = len(x)
    draw = torch.rand(6, count, generator=generator)
    flip = draw[0] < 0.5
    x = torch.where(flip.view(-1, 1, 1, 1), x.flip(-1), x)
    mirrored = aim.flipped(y)
    if mirrored is not y:
        y = torch.where(flip.view(-1, *[1] * (y.ndim - 1)), mirrored, y)
    if aim.crops:
        scale = 1 - _CROP * draw[1]
        shift = (1 - scale) * (2 * draw[2:4] - 1)
        zero = torch.zeros(count)
        rows = torch.stack([scale, zero, shift[0], zero, scale, shift[1]], 1)
        grid = affine_grid(rows.view(-1, 2, 3), list(x.shape), align_corners=False)
        x = grid_sample(x, grid, padding_mode="border", align_corners=False)
    contrast, brightness = (_BRIGHTNESS * (2 * draw[4:] - 1)).view(2, -1, 1, 1, 1)
    return x * (1 + contrast) + brightness, y


@contextmanager
def _drawn(seed: int, epoch: int) -> Iterator[torch.Generator]:
    """The generator of an epoch's augmentation; that of dropout, and cuDNN, in a known state."""
    own = torch.Generator().manual_seed(hashing.seed_for(seed, f"finetune/augmentation/{epoch}"))
    cudnn: AbstractContextManager[Any] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    with torch.random.fork_rng(), cudnn:
        torch.manual_seed(hashing.seed_for(seed, f"finetune/dropout/{epoch}"))
        yield own


def _no_memory(model: str, reason: str) -> UserError:
    return UserError(
        f"there is not enough memory to fine-tune model '{model}' ({reason}); take a smaller "
        "batch_size in the protocol, or another --device"
    )


def _out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        "allocat" in words and "memory" in words
    )


def _named(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {n.removeprefix(start): one for n, one in tensors.items() if n.startswith(start)}
