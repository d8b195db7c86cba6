"""One process, or several that torchrun started: who we are, and what we agree on.

Each process holds the whole model (DistributedDataParallel). Sharding it (FSDP) would not pay: at
ViT-B/16 student, predictor, gradients and moments take 1.7 GB.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist

from model_zoo.loading import resolve_device
from ultrabench_eval.core.errors import UserError

# What torchrun sets for each of its processes. Some of it is left in the environment of many a
# container, where nobody waits for us.
_SET = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class World(NamedTuple):
    """Our place among the processes."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether it is us who write and report."""
        return self.rank == 0

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum over all processes, each of which must call this."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def all(self, holds: bool) -> bool:
        """Whether it holds in every process, each of which must call this."""
        count = self.total(torch.tensor([int(holds)], device=self.device))
        return int(count) == self.size

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


def rank_and_size() -> tuple[int, int]:
    """Which of how many processes we are, if torchrun started us; else the only one: (0, 1).

    Raises:
        UserError: the variables that torchrun sets hold something else than numbers.
    """
    if any(name not in os.environ for name in _SET):
        return 0, 1
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        int(os.environ["LOCAL_RANK"]), int(os.environ["MASTER_PORT"])
    except ValueError as error:
        raise UserError(
            f"the environment variables {', '.join(_SET)} are not as torchrun sets them ({error}); "
            "unset them to train in one process"
        ) from error
    return (rank, size) if size > 1 else (0, 1)


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started (its environment variables tell); else be alone.

    Gradients go through NCCL on GPUs and gloo on CPUs. Each process takes the GPU of its number.

    Args:
        device: as for `model_zoo.load`.

    Raises:
        UserError: the other processes do not answer.
    """
    _, size = rank_and_size()
    chosen = resolve_device(device)
    if size == 1:
        yield World(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    try:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:  # of which torch's own errors are kinds
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the {size} processes that WORLD_SIZE tells of did not find each other ({reason}); "
            "start them with torchrun, or unset WORLD_SIZE to train in one process"
        ) from error
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()
