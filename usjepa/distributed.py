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

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Join the processes that torchrun started (its environment variables tell); else be alone.

    Gradients go through NCCL on GPUs and gloo on CPUs. Each process takes the GPU of its number.

    Args:
        device: as for `model_zoo.load`.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = resolve_device(device)
    if size == 1:
        yield World(0, 1, chosen)
        return
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    finally:
        dist.destroy_process_group()
