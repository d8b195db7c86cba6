"""Features as probes read them: in memory, or streamed from shards that were verified.

N is the number of images, T of tokens, D the feature width. Nothing that is streamed is held: each
call reads the rows that it gives, so that memory does not grow with N.
"""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key


class Features(ABC):
    """Features of N images: [N, D], tokens [N, T, D], or maps [N, D, h, w].

    Attributes:
        shape: of all, N first.
        dtype: of what `rows` and `batches` give.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @abstractmethod
    def rows(self, index: Tensor) -> Tensor:
        """Features [K, ...] of the images at the positions `index`, int64 [K], in that order.

        Raises:
            UserError: a file that they are read from is not the one that was verified.
        """

    def batches(self, size: int) -> Iterator[Tensor]:
        """All features in order, `size` images at a time; the last batch may be smaller."""
        for index in torch.split(torch.arange(len(self)), size):
            yield self.rows(index)

    def whole(self) -> Tensor:
        """All features in memory."""
        return self.rows(torch.arange(len(self)))


class InMemory(Features):
    """Features that are a tensor, on any device."""

    def __init__(self, x: Tensor) -> None:
        self._x, self.shape, self.dtype = x, tuple(x.shape), x.dtype

    def rows(self, index: Tensor) -> Tensor:
        """See `Features.rows`."""
        return self._x[index.to(self._x.device)]

    def whole(self) -> Tensor:
        """The tensor itself."""
        return self._x


@dataclass(frozen=True)
class ShardFile:
    """A safetensors file whose tensor "features" was verified.

    Args:
        path: of the file.
        signature: of the file that was verified, see `signature`.
        start: byte at which the values begin.
        shape: of the tensor.
        dtype: of the tensor.
    """

    path: Path
    signature: tuple[int, ...]
    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def unchanged(self) -> bool:
        """Whether the file is the one that was verified."""
        try:
            return signature(self.path.stat()) == self.signature
        except OSError:
            return False


class Streamed(Features):
    """Features that stay in shards; `rows` reads those that are asked for.

    Args:
        shards: at least one; all with rows of one shape and dtype.
        places: of each of the N images its shard and the row there, int64 [N, 2].
    """

    def __init__(self, shards: Sequence[ShardFile], places: Tensor) -> None:
        self._shards, self._places = shards, places
        self.shape = len(places), *shards[0].shape[1:]
        self.dtype = shards[0].dtype

    def rows(self, index: Tensor) -> Tensor:
        """See `Features.rows`."""
        found = torch.empty((len(index), *self.shape[1:]), dtype=self.dtype)
        into = found.flatten(1).view(torch.uint8).numpy()
        wanted = enumerate(self._places[index.cpu()].tolist())
        by_shard = by_key((shard, (target, row)) for target, (shard, row) in wanted)
        for number, pairs in by_shard.items():
            shard = self._shards[number]
            try:
                with shard.path.open("rb", buffering=0) as file:
                    same = signature(os.fstat(file.fileno())) == shard.signature
                    for target, row in pairs if same else ():
                        file.seek(shard.start + row * into.shape[1])
                        same &= file.readinto(into[target].data) == into.shape[1]
            except OSError as error:
                raise UserError(
                    f"feature shard {shard.path} cannot be read any more ({error.strerror}); "
                    "run again, and it is encoded again if it is gone"
                ) from error
            if not same:
                raise UserError(
                    f"feature shard {shard.path} changed after it was verified; run again"
                )
        return found


def signature(state: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is replaced or written to."""
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns


def values_start(path: Path) -> int:
    """Byte at which the values of the tensor "features" begin in a safetensors file.

    https://huggingface.co/docs/safetensors: 8 bytes with the length of a JSON header, the header,
    the values at the offsets that it states.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return 8 + length + int(header["features"]["data_offsets"][0])
