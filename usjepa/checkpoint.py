"""The state of a run on disk: whole or not at all, and enough to go on as if nothing had been.

All draws of a run follow from (seed, step), so its position is the step alone. torch's own
generators are stored too, for what an objective or a probe of one's own may draw.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.optim import Optimizer

from model_zoo import weights
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError
from usjepa import config as configs
from usjepa.config import Config
from usjepa.objective import Objective

FORMAT = 1
LAST, BEST = "checkpoint.pt", "best.pt"


def save(
    path: Path,
    config: Config,
    frames: str,
    objective: Objective,
    optimizer: Optimizer,
    progress: Mapping[str, Any],
) -> None:
    """Write a checkpoint, replacing the one before.

    Args:
        path: of the file.
        config: of the run.
        frames: fingerprint of the index.
        objective: student, predictor, and an averaged teacher; never a frozen one.
        optimizer: with its moments.
        progress: plain numbers, of which `step` is one.
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    _write(
        path,
        {
            "format": FORMAT,
            "config": asdict(config),
            "frames": frames,
            "objective": objective.state_dict(),
            "optimizer": optimizer.state_dict(),
            "progress": dict(progress),
            "generators": {"cpu": torch.get_rng_state(), "cuda": cuda},
        },
    )


def resume(
    path: Path, config: Config, frames: str, objective: Objective, optimizer: Optimizer
) -> dict[str, Any]:
    """Bring a run back to where its checkpoint was written; returns the progress.

    Raises:
        UserError: the file is damaged, or of another configuration or index.
    """
    content = read(path)
    check(path, content, config, frames)
    objective.load_state_dict(content["objective"])
    # Copied, for what is read may be mapped from the file.
    optimizer.load_state_dict(copy.deepcopy(content["optimizer"]))
    torch.set_rng_state(content["generators"]["cpu"])
    for number, state in enumerate(content["generators"]["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(state, number)
    progress: dict[str, Any] = content["progress"]
    return progress


def check(path: Path, content: Mapping[str, Any], config: Config, frames: str) -> None:
    """See that a checkpoint is of this configuration and this index.

    Raises:
        UserError: it is not; names the settings that differ.
    """
    made = configs.validate(content["config"], f"in {path}")
    if made.id != config.id:
        pairs = list(_differences(asdict(made), asdict(config)))
        named = ", ".join(f"{name} {old!r}, now {new!r}" for name, old, new in pairs[:3])
        more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
        raise UserError(
            f"{path} was made with other settings ({named}{more}); give the same ones to go on, or "
            "another --out to begin anew"
        )
    if content["frames"] != frames:
        raise UserError(
            f"{path} was made from other frames (index {content['frames'][:12]}, now "
            f"{frames[:12]}); give the same --frames to go on, or another --out to begin anew"
        )


def save_best(
    path: Path, config: Config, encoder: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Write the encoder that will be exported, with what is known of it."""
    _write(
        path,
        {
            "format": FORMAT,
            "config": asdict(config),
            "encoder": dict(encoder),
            "about": dict(about),
        },
    )


def read(path: Path) -> dict[str, Any]:
    """The content of a file of this module.

    Raises:
        UserError: it is not there, damaged, of another kind, or of a later version.
    """
    content = weights.read(path)
    if not isinstance(content, dict) or "format" not in content or "config" not in content:
        raise UserError(f"{path} is no checkpoint of usjepa; give the --out of a training run")
    if content["format"] != FORMAT:
        raise UserError(
            f"{path} has format {content['format']}, but this version of usjepa reads {FORMAT}; "
            "use the version that wrote it"
        )
    return content


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with files.atomic_path(path) as temporary:
        torch.save(dict(content), temporary)


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Dotted names of settings with their two values, but for the name of the run."""
    for key, value in old.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _differences(value, new[key], f"{name}.")
        elif value != new[key] and name != "name":
            yield name, value, new[key]
