"""What tests of released files share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import model_zoo


def part_in_use(name: str, content: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict of the entry that the loader takes."""
    for entry in model_zoo.registry.get(name).entries:
        if entry in content or not entry:
            part: dict[str, Tensor] = content[entry] if entry else content
            return part
    raise AssertionError(name)


def opened(name: str, weights: Path | str) -> Any:
    """The encoder, without the fingerprint that load() computes over all its numbers."""
    return model_zoo.registry.get(name)(name=name, weights=weights)


def same(one: Any, other: Any) -> bool:
    first, second = one.network.state_dict(), other.network.state_dict()
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)
