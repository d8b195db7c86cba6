"""Features of classes that overlap."""

from __future__ import annotations

import torch


def clouds(count: int = 150, width: int = 20, classes: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (count,), generator=generator)
    x = torch.randn(count, width, generator=generator, dtype=torch.float64)
    x[torch.arange(count), y] += 1.2
    return x, y
