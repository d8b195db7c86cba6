"""What a probe declares of itself: all that the rest of the harness knows of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ultrabench_eval.probes.heads import DataOf, LinearProbes, Probes, Stream
from ultrabench_eval.protocol import Protocol


@dataclass(frozen=True)
class Probe:
    """A kind of predictor on frozen features.

    Args:
        train: (data, draws, protocol) -> the trained stack, a head for each subset, seed and
            setting; see `heads.streams` for the draws.
        settings: a frozen dataclass of settings that only this probe has. In a protocol's YAML file
            they are under the probe's name. None: `uses` names fields that all protocols have.
        uses: what of a protocol the numbers depend on, besides `standardize` and
            `fewshot_validation`; part of their identity.
        tried: how many settings of it are tried.
        predicts: what it gives, and so which tasks it serves (`task_types.task_type.Predicts`).
        reads: "pooled", a tensor [N, D]; "tokens", `Features` [N, T, D]; or "maps", `Features`
            [N, D, h, w]; or "images", `finetune.PreparedImages`, for a network that is trained on.
        finer: for masks: by how many times the grid of its answers is finer than that of the map.
        seconds: of training one head (a seed with one setting) on a million numbers (training
            images x feature width) on one core of a common server, for `ubench plan`.
        gives: the class of what `train` gives, so that it can be kept in a file.
    """

    train: Callable[[DataOf[Any], Sequence[Stream], Protocol], Probes]
    settings: type[Any] | None = None
    uses: Callable[[Protocol], dict[str, Any]] = lambda protocol: {}
    tried: Callable[[Protocol], int] = lambda protocol: 1
    predicts: Literal["classes", "masks", "numbers"] = "classes"
    reads: Literal["pooled", "tokens", "maps", "images"] = "pooled"
    finer: int = 1
    seconds: float = 0.1
    gives: type[Probes] = LinearProbes


def by_gradient(protocol: Protocol) -> dict[str, Any]:
    """What probes that are trained step by step depend on."""
    return asdict(protocol.gradient)


def steps_tried(protocol: Protocol) -> int:
    """How many settings these try."""
    return len(protocol.gradient.settings)
