"""The protocol: every setting that can change a number, in one validated object."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from ultrabench_eval.core import hashing


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Protocol:
    """How a probe is trained and selected. The defaults are the paper's (US-JEPA, Table 6).

    The number of seeds is not part of it: it says how often a protocol is repeated.
    """

    probe: Literal["linear"] = "linear"
    optimizer: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    batch_size: int = Field(default=32, ge=1)
    max_epochs: int = Field(default=150, ge=1)
    """Also the length of the cosine annealing of the learning rate, which ends at 0."""
    patience: int = Field(default=15, ge=1)
    """Training stops after so many epochs without a lower validation loss; the best epoch's
    weights are kept."""

    @cached_property
    def id(self) -> str:
        """Short name for tables and files: "paper-" or "custom-" and 8 digits of the SHA-256."""
        name = "paper" if self == Protocol() else "custom"
        return f"{name}-{hashing.short(hashing.digest(asdict(self)), 8)}"
