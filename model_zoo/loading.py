"""From a name to a frozen encoder on a device."""

from __future__ import annotations

from pathlib import Path

import torch

import model_zoo
from model_zoo import behaviour, guests
from model_zoo.checkpoints import files as checkpoints
from model_zoo.checkpoints import hub
from model_zoo.encoder import Encoder
from ultrabench_eval.core.errors import UserError

_DTYPES = {
    "auto": torch.float32,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def load_encoder(
    name: str,
    weights: Path | str | None,
    device: str,
    dtype: str,
    pooling: str | None,
    accept_license: bool,
    compile: bool,
) -> Encoder:
    """The work behind `model_zoo.load`; see there."""
    wanted_device, wanted_dtype = resolve_device(device), resolve_dtype(dtype)
    base, variant = model_zoo.split(name)
    if variant and pooling not in (None, variant):
        raise UserError(
            f"model '{name}' names the pooling '{variant}' and pooling '{pooling}' is asked for, "
            "too; give one of them"
        )
    if wrong := model_zoo.problem(base):
        raise UserError(wrong)
    model = model_zoo.registry.get(base)
    if not (isinstance(model, type) and issubclass(model, Encoder)):
        raise UserError(
            f"model '{name}' is {model!r}, not a subclass of model_zoo.Encoder; make it one"
        )
    if model.card.unavailable:
        raise UserError(f"model '{base}' cannot be run: {model.card.unavailable}")
    if weights is None and model.card.hub and checkpoints.find(base, None) is None:
        weights = hub.fetch(base, model.card, accept_license)
    with guests.contained(f"model '{name}'"):
        encoder = model(name=base, weights=weights, pooling=variant or pooling)
        _ = encoder.weights_digest  # over the weights as released, before they are cast
        encoder = encoder.to(wanted_device, wanted_dtype)
        encoder.behaviour = behaviour.observe(encoder)
        _ = encoder.fingerprint  # now that all code ran once, that which it imports late too
    if compile:
        encoder.compile_forward()
    return encoder


def resolve_device(device: str) -> torch.device:
    """ "auto" becomes the first GPU, else the CPU.

    Raises:
        UserError: not a device of this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            device = "cuda"
        else:
            device = "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device '{device}' cannot be used ({reason}); try --device cpu") from error
    return resolved


def resolve_dtype(dtype: str) -> torch.dtype:
    """A dtype by name; "auto" is float32.

    Raises:
        UserError: unknown name.
    """
    if dtype not in _DTYPES:
        raise UserError(f"unknown dtype '{dtype}'; use one of {', '.join(_DTYPES)}")
    return _DTYPES[dtype]
