"""Batches: frames read, cropped, changed and masked in worker processes, ahead of the model.

A step's batch is cut into parts of equal size: one for each process and each accumulated gradient.
What a part holds depends on (seed, step, part) alone, so that two processes see what one process
sees that accumulates two parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ultrabench_eval.core.command import sentence
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.hashing import seed_for
from usjepa import augment, masks, masks3d
from usjepa.augment import Seen
from usjepa.config import Config
from usjepa.frames import clips
from usjepa.frames.sampling import CappedSampler
from usjepa.frames.store import Frames
from usjepa.localisation import WithPairs
from usjepa.masks import DrawnMasks

_AHEAD = 3  # batches that each worker holds ready


class Batch(NamedTuple):
    """What one forward pass gets."""

    images: Tensor
    """uint8 [B, 1, S, S], or [B, 3, S, S] where frames are in colour; of clips F frames of such:
    [B, 1 or 3, F, S, S]."""
    masks: DrawnMasks

    def on(self, device: torch.device) -> tuple[Tensor, DrawnMasks]:
        """Images as float32 [B, 3, S, S] in [0, 1], or clips, and masks, on a device."""
        images = self.images.to(device, non_blocking=True).float().div_(255)
        return images.expand(-1, 3, *images.shape[2:]), self.masks.to(device)


class BatchPart(NamedTuple):
    """Which batch is asked for."""

    step: int
    """From 0."""
    part: int
    """Of the step's batch, from 0."""


class TrainingParts(Dataset[Batch]):
    """The parts of all steps.

    Args:
        frames: the index.
        sampler: chooses among them.
        config: of the run.
        parts: into which a step's batch is cut.
    """

    def __init__(self, frames: Frames, sampler: CappedSampler, config: Config, parts: int) -> None:
        self.frames = frames
        self.sampler = sampler
        self.config = config
        self.size = sampler.batch_size // parts
        self.masks = sampler_of(config)

    def __getitem__(self, at: BatchPart) -> Batch:
        """The batch of a part."""
        first = at.part * self.size
        numbers = self.sampler.numbers(at.step)[first : first + self.size]
        seen = [
            self._image(number, at.step, place)
            for place, number in enumerate(numbers.tolist(), first)
        ]
        return _batch(seen, self.masks, at.step, at.part)

    def _image(self, number: int, step: int, place: int) -> Seen:
        seed = seed_for(self.config.seed, f"augmentation, step {step}, place {place}")
        generator = np.random.default_rng(seed)
        if self.config.video is None:
            return augment.training(self.frames.read(number), self.config, generator)
        cine = self.frames.cine(number)

        def draw(first: int, end: int) -> int:
            return int(generator.integers(first, end))

        chosen = clips.positions(cine.count, cine.rate, self.config.video, draw)
        return augment.training_clip(cine.frames(chosen), self.config, generator)


class ValidationParts(Dataset[Batch]):
    """The held-out frames, whole, with masks that are the same in every epoch.

    Args:
        frames: the index.
        numbers: which of them are held out, int64 [n].
        config: of the run.
        size: frames of a batch; the last may be smaller.
    """

    def __init__(self, frames: Frames, numbers: np.ndarray, config: Config, size: int) -> None:
        self.frames = frames
        self.numbers = numbers
        self.config = config
        self.size = size
        self.masks = sampler_of(config, "validation")

    def __len__(self) -> int:
        return -(-len(self.numbers) // self.size)

    def __getitem__(self, at: int) -> Batch:
        """Batch number `at`."""
        numbers = self.numbers[at * self.size : (at + 1) * self.size].tolist()
        return _batch([self._image(number) for number in numbers], self.masks, at, 0)

    def _image(self, number: int) -> Seen:
        if self.config.video is None:
            return augment.plain(self.frames.read(number), self.config)
        cine = self.frames.cine(number)
        chosen = clips.positions(cine.count, cine.rate, self.config.video)
        return augment.plain_clip(cine.frames(chosen), self.config)


def sampler_of(config: Config, purpose: str = "training") -> masks.Sampler:
    """The sampler of a run; for another purpose than training, with other draws."""
    build = masks.build if config.video is None else masks3d.build
    sampler, settings = build(config, purpose), config.localises
    if settings is None:
        return sampler
    return WithPairs(sampler, settings, masks.seed_of(config, purpose))


def stream(
    parts: Dataset[Batch], order: Iterable[BatchPart] | Iterable[int], workers: int
) -> Iterator[Batch]:
    """Batches in order, made ahead by worker processes; without any, when asked for.

    Args:
        parts: where they come from.
        order: which.
        workers: processes.

    Raises:
        UserError: a frame cannot be read, or a worker process was killed.
    """
    loader = DataLoader(
        _Batches(parts),
        batch_size=None,
        sampler=order,  # type: ignore[arg-type]  # it takes any iterable of keys
        num_workers=workers,
        prefetch_factor=_AHEAD if workers else None,
        pin_memory=torch.cuda.is_available(),
        # Forked workers would inherit the locks of torch's threads.
        multiprocessing_context="forkserver" if workers else None,
        # Else each start would draw from torch's own generator.
        generator=torch.Generator().manual_seed(0),
    )
    try:
        for batch in loader:
            if isinstance(batch, _Failed):
                raise UserError(batch.sentence)
            yield batch
    except RuntimeError as error:  # what torch makes of a killed process
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            f"a process that makes batches was killed ({' '.join(str(error).split())[:120]}), as "
            "the system does when memory runs out; give fewer --workers and run the same command "
            "again"
        ) from error


class _Failed(NamedTuple):
    """Why there is no batch. Errors themselves lose their words on the way out of a worker."""

    sentence: str


class _Batches(Dataset[Batch | _Failed]):
    """The same batches, or why there is none."""

    def __init__(self, parts: Dataset[Batch]) -> None:
        self.parts = parts

    def __getitem__(self, at: Any) -> Batch | _Failed:
        """A batch."""
        try:
            return self.parts[at]
        except UserError as error:
            return _Failed(str(error))
        except OSError as error:
            return _Failed(sentence(error))


def _batch(seen: list[Seen], sampler: masks.Sampler, step: int, part: int) -> Batch:
    images = torch.from_numpy(np.stack([one.pixels for one in seen]))
    # Of grey or of coloured images, and, with one axis more, of clips.
    if images.shape[-1] == 3 and seen[0].pixels.ndim > 2:
        images = images.movedim(-1, 1).contiguous()
    else:
        images = images[:, None]
    valid = [one.valid for one in seen if one.valid is not None]
    region = torch.from_numpy(np.stack(valid)) if valid else None
    return Batch(images, sampler.sample(len(seen), step, part, region))
