"""What fine-tuning needs beside its settings: prepared images, a model, and files to resume from.

OUT/.finetuned/<key>/<training>.safetensors   a training that is under way, or its network

The key names model, task, settings, versions and device; a training is one seed with one setting
on one subset of the images. The file is written after each epoch, so that a killed run resumes
after the last one, and holds the best weights alone when the training is over. It goes when the
cells that are made of it are written.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from model_zoo import Encoder
from model_zoo.unfrozen import Unfrozen
from tasks.samples.images import Image
from ultrabench_eval import features
from ultrabench_eval.core import files, hashing, parallel
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.feature_rows import Features
from ultrabench_eval.loading import Model
from ultrabench_eval.versions import versions

HELD = 2 << 30  # bytes of prepared images of a split that stay in memory; more are prepared again
FOLDER = ".finetuned"  # in the results folder


@dataclass
class Tunable:
    """A model that can be fine-tuned, on one task.

    Args:
        model: the frozen one.
        folder: where its trainings are kept.
        seed: the only one that is trained; None for all.
        advance: called with how many images went through training, of how many at most.
    """

    model: Model
    folder: Path
    seed: int | None = None
    advance: Callable[[int, int], None] = lambda count, total: None
    _encoder: Encoder | None = field(default=None, init=False)

    @property
    def encoder(self) -> Encoder:
        """The frozen network in float32.

        Raises:
            UserError: it cannot be loaded.
        """
        if self._encoder is None:
            self._encoder = self.model.exact()
        return self._encoder

    def unfrozen(self) -> Unfrozen:
        """A trainable copy of the network as it was released."""
        return self.encoder.unfrozen()


class PreparedImages(Features):
    """What a network is given of N images, float32 [N, 3, S, S].

    Each is prepared once, by the encoder's own rule, and kept as long as all of them are at most
    `HELD`; else whenever it is read, in threads.

    Args:
        images: the N images.
        digests: of them, to which what is decoded must correspond.
        tunable: the model.
        size: S, if it is not the model's own.
    """

    dtype = torch.float32

    def __init__(
        self,
        images: Sequence[Image],
        digests: Sequence[str],
        tunable: Tunable,
        size: int | None = None,
    ) -> None:
        self._images, self._digests = images, digests
        self.tunable, self.size = tunable, size
        self._held: Tensor | None = None
        if tunable.encoder.takes == "clip":
            raise UserError(
                f"model '{tunable.model.name}' takes clips, and only networks of images are "
                "fine-tuned; leave one of the two out"
            )
        rule = tunable.encoder.input_rule
        self._rule = None
        if size is not None and (rule is None or size != rule.size):
            own = type(tunable.encoder)._prepare is not Encoder._prepare
            if rule is None or own:
                raise self._misfit("it prepares images in its own way")
            self._rule = dataclasses.replace(rule, size=size)
            try:
                tunable.encoder.encode_prepared(torch.zeros(1, 3, size, size))
            except Exception as error:  # a model may be anyone's code
                raise self._misfit("its network takes no other") from error
        self.shape = (len(images), *self._prepared(0).shape)

    def at(self, size: int | None) -> PreparedImages:
        """The same images at another size of the input; None is the model's own.

        Raises:
            UserError: the model does not take it.
        """
        if size == self.size:
            return self
        return PreparedImages(self._images, self._digests, self.tunable, size)

    @property
    def width(self) -> int:
        """D of the pooled features."""
        return self.tunable.encoder.dim

    @property
    def places(self) -> tuple[int, ...]:
        """h and w of the encoder's maps.

        Raises:
            UserError: it has none.
        """
        try:
            maps = self.tunable.encoder.maps_prepared(torch.zeros(1, *self.shape[1:]))
        except NotImplementedError as error:
            raise UserError(f"{error}, which fine-tuning for masks needs; leave it out") from error
        return tuple(one_map(maps).shape[2:])

    def rows(self, index: Tensor) -> Tensor:
        """See `Features.rows`; on the CPU."""
        if 4 * torch.Size(self.shape).numel() > HELD:
            return torch.stack(self._in_threads(index.tolist()))
        if self._held is None:
            self._held = torch.stack(self._in_threads(range(len(self))))
        return self._held[index]

    def _in_threads(self, numbers: Sequence[int]) -> list[Tensor]:
        return [prepared for _, prepared in parallel.ordered(self._prepared, numbers)]

    def _prepared(self, number: int) -> Tensor:
        pixels = self._images[number].read(self._digests[number])
        if self._rule is not None:
            return self._rule.apply(pixels)
        return self.tunable.encoder.prepare(pixels)

    def _misfit(self, reason: str) -> UserError:
        own = self.tunable.encoder.input_size
        return UserError(
            f"model '{self.tunable.model.name}' cannot be given images of {self.size} pixels "
            f"({reason}{f' than {own}' if own else ''}), which the protocol asks for; leave "
            "input_size out of it"
        )


@dataclass(frozen=True)
class KeptTraining:
    """What is known of a training, with its tensors.

    Args:
        facts: plain data for JSON.
        tensors: by name.
    """

    facts: dict[str, Any]
    tensors: dict[str, Tensor]


def one_map(maps: Sequence[Tensor]) -> Tensor:
    """Maps of an encoder as dense probes read them, [B, D, h, w]."""
    return features.joined(maps)


def made_by(device: torch.device) -> dict[str, str]:
    """What the last bits of a training depend on besides its settings."""
    threads = str(torch.get_num_threads())
    return {"device": features.device_name(device), "threads": threads, **versions()}


def key(model: Model, task: str, settings: dict[str, Any]) -> str:
    """Name of the trainings of a model on a task: 32 hexadecimal digits.

    Args:
        model: the model.
        task: the task's fingerprint.
        settings: of the protocol.
    """
    device = features.device_name(model.processor)
    parts = [model.fingerprint, task, settings, device, versions()]
    return hashing.short(hashing.digest(parts), 32)


def write(path: Path, kept: KeptTraining) -> None:
    """Keep a training, whole or not at all."""
    tensors = {name: one.detach().cpu().contiguous() for name, one in kept.tensors.items()}
    metadata = {"place": _place(path), "facts": json.dumps(kept.facts, sort_keys=True)}
    metadata["sha256"] = _checksum(metadata, tensors)
    with files.atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata)


def read(path: Path) -> KeptTraining | None:
    """A training that was kept; None if there is none. One that is damaged is removed."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        sha256 = metadata.pop("sha256", "")
        if metadata.get("place") != _place(path) or sha256 != _checksum(metadata, tensors):
            raise ValueError("its checksum is wrong")
        return KeptTraining(json.loads(metadata["facts"]), tensors)
    except FileNotFoundError:
        return None
    except (SafetensorError, OSError, ValueError, KeyError):
        path.unlink(missing_ok=True)
        return None


def _place(path: Path) -> str:
    """What a file is of: its name and its folder's."""
    return f"{path.parent.name}/{path.name}"


def _checksum(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    return hashing.digest([metadata, hashing.digest_tensors(tensors)])
