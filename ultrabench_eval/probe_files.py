"""Trained probes of a results folder, for predictions on other images (`ubench predict`).

OUT/probes/<model>/<task>/<condition>.json          what they are of
OUT/probes/<model>/<task>/<condition>.safetensors   their numbers

Written by `ubench run --keep-probes`. As cells are: the tensors first, the JSON last, which holds
their digest and that of all its own fields. A probe belongs to one cell: it names the identity and
the predictions of that, and is not read where they differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch

from tasks.samples.clips import still
from tasks.task import Task
from ultrabench_eval import probes, sealed
from ultrabench_eval.cells import Cell, Coordinates
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.probes.heads import Head, Probes
from ultrabench_eval.sealed import Sealed

SAMPLE = 32  # training images that are looked at to know what inputs are like


class Inputs(Sealed):
    """What the training images of a task are like, by up to `SAMPLE` of them, evenly from all."""

    height: tuple[int, int]
    """Least and largest, in pixels."""
    width: tuple[int, int]
    grey: bool
    """Whether none has a colour."""

    @classmethod
    def of(cls, task: Task) -> Inputs:
        """Those of a task; reads the images."""
        train = task.train
        rows = sorted({at * len(train) // SAMPLE for at in range(SAMPLE)})
        images = [still(train.images[n]) for n in rows]
        pixels = [image.read(image.digest()) for image in images]
        heights, widths = ([image.shape[axis] for image in pixels] for axis in (0, 1))
        return cls(
            height=(min(heights), max(heights)),
            width=(min(widths), max(widths)),
            grey=all(map(is_grey, pixels)),
        )

    def unlike(self, image: np.ndarray) -> list[str]:
        """How an image, uint8 [H, W, 3], differs from them, in words.

        A size is reported below half the least or above twice the largest: encoders see one size.
        """
        found = []
        sides = zip(image.shape, (self.height, self.width), strict=False)
        if any(not low / 2 <= side <= 2 * high for side, (low, high) in sides):
            found.append(
                f"have another size than the training images ({self.width[0]} to {self.width[1]} "
                f"x {self.height[0]} to {self.height[1]} pixels)"
            )
        if self.grey and not is_grey(image):
            found.append("have colours, and the training images none")
        return found


def is_grey(image: np.ndarray) -> bool:
    """Whether the three channels of an image [H, W, 3] are the same."""
    return bool((image == image[..., :1]).all())


class ProbeFacts(Sealed):
    """What is known of kept probes, one per seed."""

    coordinates: Coordinates
    identity: dict[str, str | int]
    """Of the cell."""
    predictions: str
    """Digest of the cell's predictions."""
    heads: list[dict[str, Any]]
    """`probes.heads.Head` of each seed."""
    temperatures: list[float]
    """Of each seed, fitted on validation images (`task_types.calibration`)."""
    inputs: Inputs
    tensors: str
    """SHA-256 of the other file."""


@dataclass(frozen=True)
class ProbeFiles:
    """The kept probes of a results folder.

    Args:
        out: the results folder.
    """

    out: Path

    def put(self, cell: Cell, kept: Probes, temperatures: list[float], inputs: Inputs) -> None:
        """Keep the probes of a cell that is written.

        Raises:
            UserError: they are of another class than their probe declares (`probes.probe.Probe`).
        """
        at = cell.coordinates
        declared = probes.get(at.probe).gives
        if type(kept) is not declared:
            raise UserError(
                f"the probe '{at.probe}' cannot be kept: its training gives {type(kept).__name__} "
                f"and it declares {declared.__name__}; state Probe(..., gives=...) in its file"
            )
        tensors = {name: one.contiguous().cpu() for name, one in kept.tensors().items()}
        data = safetensors.torch.save(tensors)
        files.write_bytes(self._path(at, ".safetensors"), data)
        facts = ProbeFacts(
            coordinates=at,
            identity=cell.identity,
            predictions=cell.predictions,
            heads=cell.heads,
            temperatures=temperatures,
            inputs=inputs,
            tensors=hashing.digest_bytes(data),
        )
        sealed.write(self._path(at, ".json"), facts)

    def get(self, cell: Cell) -> tuple[ProbeFacts, Probes] | None:
        """The probes that gave a cell's predictions, one per seed; None if they were not kept.

        Raises:
            UserError: they are damaged, or those of another result.
        """
        at = cell.coordinates
        path = self._path(at, ".json")
        read = sealed.read(path, ProbeFacts)
        if read is None:
            return None
        facts, digest = read
        own = (facts.coordinates, facts.identity, facts.predictions)
        if not digest or own != (at, cell.identity, cell.predictions):
            raise UserError(f"{path} holds the probes of another result; {sealed.AGAIN}")
        path = self._path(at, ".safetensors")
        with sealed.telling(path):
            data = path.read_bytes()
            if hashing.digest_bytes(data) != facts.tensors:
                raise ValueError("its digest is not the one that is stated beside it")
            tensors = safetensors.torch.load(data)
            heads = tuple(Head(**head) for head in facts.heads)
            return facts, probes.get(at.probe).gives.restored(heads, tensors)

    def has(self, cell: Cell) -> bool:
        """Whether `get` gives them."""
        try:
            return self.get(cell) is not None
        except UserError:
            return False

    def adopt(self, at: Coordinates, source: ProbeFiles) -> None:
        """Take over the probes of another folder, byte for byte, if it has them."""
        for suffix in (".safetensors", ".json"):
            path = source._path(at, suffix)
            if path.is_file():
                files.write_bytes(self._path(at, suffix), path.read_bytes())

    def _path(self, at: Coordinates, suffix: str) -> Path:
        path = self.out / "probes" / at.path
        return path.with_name(path.name + suffix)
