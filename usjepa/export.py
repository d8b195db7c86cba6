"""The end of a training: one file that `model_zoo` opens, with its card beside it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save
from torch import Tensor, nn

import tasks
from model_zoo.checkpoints import exports
from model_zoo.checkpoints.exports import FILE, FORMAT, ClipHeader, Header, read_card, sign_card
from model_zoo.clip_rule import ClipRule
from model_zoo.transforms import InputRule
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from usjepa.config import Config

__all__ = ["Stored", "export", "input_rule", "read_card"]

Stored = Literal["float32", "float16", "int8"]
"""How weights are stored."""

_LIBRARIES = ("ultrabench-eval", "torch", "numpy", "pillow")


def export(
    student: nn.Module,
    config: Config,
    out: Path,
    history: Mapping[str, Any],
    stored: Stored = "float32",
) -> Path:
    """Write `OUT/encoder.safetensors` and its card, `OUT/encoder.json`.

    Neither holds a date or a path of this machine but what the configuration says: the same run
    gives the same bytes.

    Args:
        student: the encoder to keep, on any device; what `config.model` describes.
        config: of its training.
        out: a folder; made if it is not there. An export in it is replaced.
        history: what came of the training, as plain data for the card. Needed: `frames` (what it
            saw: `sets`, the count of frames by set; `fingerprint` of the index; `guard`, what the
            sets were searched for, or None), `epoch` and `step` (how many were done) and
            `validation_loss` (or None). `frames` may name in `saw` the tasks whose images are among
            them; else they are the sets that are called as a task is. More is kept as it is.
        stored: "float16": weights are rounded, for half the size. "int8": matrices and kernels are
            packed (`exports.packed`), for a quarter, and the rest is float16. They are computed
            with in float32 again, but features differ a little.

    Returns:
        The safetensors file.

    Raises:
        UserError: the student holds NaN or infinite numbers.
        ValueError: something is missing in `history`.
    """
    history = _checked(history)
    dtype = torch.float16 if stored == "float16" else torch.float32
    tensors = _tensors(student, config.name, dtype)
    if stored == "int8":
        tensors = exports.packed(tensors)
    projection = getattr(student, "projection", None)
    header = _header(config, hashing.digest_tensors(tensors), projection)
    data = save(tensors, header.metadata())
    card = {
        "format": FORMAT,
        "name": config.name,
        "objective": config.objective,
        "region_conditioning": config.region_conditioning,
        "model": config.plain()["model"],
        "stored_as": stored,
        "parameters": sum(parameter.numel() for parameter in student.parameters()),
        "input": asdict(header.input),
        **history,
        "seed": config.seed,
        "config_id": config.id,
        "config": config.plain(),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in _LIBRARIES},
        "sha256": hashing.digest_bytes(data),
    }
    text = json.dumps(sign_card(card), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    path = out / FILE
    # Without its card for a moment rather than with that of another file, should we be killed.
    path.with_suffix(".json").unlink(missing_ok=True)
    files.write_bytes(path, data)
    files.write_text(path.with_suffix(".json"), text)
    return path


def input_rule(config: Config) -> InputRule:
    """How an image becomes the input that training gave to the student.

    Section 4.3 but for two things: an encoder knows no region, so percentiles are those of the
    whole image; and coloured marks are not painted over. Mean and deviation are ImageNet's, as in
    `usjepa.objective`.
    """
    stretch = None
    if config.data.percentiles is not None:
        low, high = config.data.percentiles
        stretch = float(low), float(high)  # as numbers of one kind, for one fingerprint
    rule = InputRule(config.model.image_size, grey=config.data.grey, stretch=stretch)
    # As frames are resized in training; of stills, released students say bicubic.
    return rule if config.video is None else replace(rule, interpolation="bilinear")


def _header(config: Config, tensors: str, projection: nn.Linear | None) -> Header:
    model = config.model
    return Header(
        name=config.name,
        objective=config.objective,
        region_conditioning=config.region_conditioning,
        image_size=model.image_size,
        patch_size=model.patch_size,
        heads=model.heads,
        class_token=model.class_token,
        input=input_rule(config),
        config=config.id,
        tensors=tensors,
        clip=_clip_header(config),
        localisation=None if config.localises is None else config.localises.weight,
        stem=None if model.stem == "patches" else model.stem,
        projection=None if projection is None else projection.out_features,
    )


def _clip_header(config: Config) -> ClipHeader | None:
    video = config.video
    if video is None:
        return None
    step = 1 if video.spacing == "spread" else video.step
    rate = video.rate if video.spacing == "rate" else 0.0
    rule = ClipRule(video.frames, video.spacing, step, rate)
    return ClipHeader(video.tubelet, video.rotary, rule)


def _tensors(student: nn.Module, name: str, dtype: torch.dtype) -> dict[str, Tensor]:
    tensors = {}
    for key, value in student.state_dict().items():
        tensors[key] = value.detach().to("cpu", dtype).contiguous()
        if not torch.isfinite(tensors[key]).all():
            raise UserError(
                f"{name} is not exported, because {key} holds NaN or infinite numbers: its "
                "training diverged; train again with a lower train.learning_rate or with train.clip"
            )
    return tensors


def _checked(history: Mapping[str, Any]) -> dict[str, Any]:
    """The history with `frames.saw`."""
    frames = history.get("frames", {})
    wanted = {
        "history": (history, ("frames", "epoch", "step", "validation_loss")),
        "history['frames']": (frames, ("sets", "fingerprint", "guard")),
    }
    for what, (given, keys) in wanted.items():
        if missing := [key for key in keys if key not in given]:
            raise ValueError(f"{what} lacks {', '.join(missing)}")
    named = {tasks.split_name(name)[0] for name in frames["sets"]}
    known = {one for name in tasks.names() for one in (name, tasks.card(name).dataset)}
    return {**history, "frames": {"saw": sorted(named & known), **frames}}
