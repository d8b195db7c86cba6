"""Checkpoints: find one, open it safely, and fill a network so that nothing is left to chance.

A checkpoint never runs code (`weights_only=True`, or safetensors), and a network is either filled
to the last key or not at all: a silently random layer is the commonest way to a wrong baseline.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import model_zoo
from ultrabench_eval.core.errors import UserError, not_found

FOLDER_VARIABLE = "UBENCH_WEIGHTS"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
_SHOWN = 4  # keys that an error message names before it says how many more there are


class Source(NamedTuple):
    """Where weights are read from."""

    path: Path
    entry: str | None = None
    """Which part of a checkpoint that holds several networks, given as `PATH#entry`."""

    def __str__(self) -> str:
        return f"{self.path}#{self.entry}" if self.entry else str(self.path)


def find(name: str, weights: Path | str | None) -> Source | None:
    """The checkpoint to use for the model `name`.

    Args:
        name: name of the model.
        weights: a file, a folder with one checkpoint in it, or either with `#entry` behind it;
            None: what `$UBENCH_WEIGHTS/<name>*` matches, in capitals or not, where the name ends
            there or is followed by something else than a letter or digit (`sam*` is not to find
            `samus.pth`), and which is not named after another model (`ijepa-vitb16.pth`).

    Returns:
        The source, or None if none was given and none is in `$UBENCH_WEIGHTS`.

    Raises:
        UserError: the path does not exist, or several files match.
    """
    if weights is not None:
        return _explicit(name, str(weights))
    root = os.environ.get(FOLDER_VARIABLE)
    if not root:
        return None
    start = Path(root) / name  # a family's name, timm/<name>, has its own folder
    if not start.parent.is_dir():
        return None
    matches = sorted(
        path
        for path in start.parent.iterdir()
        if _named_after(start.name, path.name) and (path.is_dir() or path.suffix in SUFFIXES)
    )
    if len(matches) > 1:
        raise _ambiguous(name, matches, f"keep one in {start.parent}")
    return Source(_in_folder(name, matches[0])) if matches else None


def _named_after(name: str, file: str) -> bool:
    """Whether a file's name begins with a model's, and with no longer one's."""

    def begins(model: str) -> bool:
        return file.lower().startswith(model.lower()) and not file[len(model) :][:1].isalnum()

    longer = (other for other in model_zoo.names() if len(other) > len(name))
    return begins(name) and not any(begins(other) for other in longer)


def _explicit(name: str, text: str) -> Source:
    path, entry = Path(text), None
    if not path.exists() and "#" in text:
        before, _, entry = text.rpartition("#")
        path = Path(before)
    path = path.expanduser()
    if not path.exists():
        raise not_found(f"weights of model '{name}'", path, "check the path you gave")
    return Source(_in_folder(name, path), entry or None)


def _in_folder(name: str, path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files:
        raise UserError(
            f"the folder {path} holds no weights for model '{name}'; put a "
            f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file there"
        )
    if len(files) > 1:
        raise _ambiguous(name, files, "name one of them")
    return files[0]


def _ambiguous(name: str, paths: list[Path], mend: str) -> UserError:
    listed = ", ".join(str(path) for path in paths)
    return UserError(f"several weights fit model '{name}': {listed}; {mend}")


# What training code leaves beside the weights: arguments, numbers and arrays of numpy, and
# configurations of omegaconf.
BESIDE = (
    "argparse.Namespace",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "typing.Any",
    "builtins.dict",
    "builtins.list",
    "builtins.str",
    "builtins.int",
    "builtins.float",
    "builtins.bool",
    "collections.defaultdict",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.dtypes.Float64DType",
    "numpy.dtypes.Float32DType",
    "numpy.dtypes.Int64DType",
)


class StandIn:
    """Takes the place of an object that a checkpoint holds beside its tensors; does nothing."""

    def __new__(cls, *arguments: Any, **options: Any) -> StandIn:
        """Whatever it is called with."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        """Forget the state."""


def read(path: Path, stand_ins: Sequence[str] = ()) -> dict[str, Any]:
    """The content of a checkpoint file: tensors and, for torch's format, what wraps them.

    No code in it is run: torch files are opened with `weights_only=True`.

    Args:
        path: the file, torch's or safetensors, whatever its suffix.
        stand_ins: full names of classes and functions that the file may name beside its tensors
            (a training log, say), besides `BESIDE`. None of them is imported: a `StandIn` is put
            in their place.

    Raises:
        UserError: missing, corrupt, not a checkpoint, or it holds more than data.
    """
    if not path.is_file():
        raise not_found("checkpoint", path, "check the path")
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` there")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UserError(
            f"{path} is a web page, not weights (a download that needed a login or a "
            "confirmation?); download it again"
        )
    content: Any
    try:
        if head[8:9] == b"{":  # safetensors: the length of its header, then the header
            content = load_file(path)
        else:
            # Memory-mapped: training checkpoints of 10 GB hold an encoder of 2 GB.
            mapped = zipfile.is_zipfile(path)
            known: list[Any] = [(StandIn, name) for name in (*BESIDE, *stand_ins)]
            with torch.serialization.safe_globals(known):
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # bytes that are no pickle raise whatever comes
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise _corrupt(path, error) from error
        raise UserError(
            f"{path} holds Python objects beside tensors ({found[1]}) and is not opened, because "
            "it could run code; on a machine where you trust it, save its state dict with "
            "safetensors"
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not a state dict; save `model.state_dict()`"
        )
    return content


def _corrupt(path: Path, error: Exception) -> UserError:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return UserError(
        f"{path} cannot be read as a checkpoint ({type(error).__name__}: {reason[:120]}); "
        "it is cut off or damaged: download it again and compare its size"
    )


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors at the top level of a checkpoint; empty if there are none."""
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def without_prefix(
    tensors: Mapping[str, Tensor], prefix: str, leftovers: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """The tensors with `prefix` taken off, if all keys have it; else as they are.

    Keys that match a pattern of `leftovers` need not have it.
    """
    have = [key for key in tensors if key.startswith(prefix)]
    if have and all(key.startswith(prefix) or matches(key, leftovers) for key in tensors):
        return {key.removeprefix(prefix): value for key, value in tensors.items()}
    return dict(tensors)


def matches(key: str, patterns: tuple[str, ...]) -> bool:
    """Whether a key is like one of the patterns (`decoder*`)."""
    return any(fnmatch(key, pattern) for pattern in patterns)


class KeyReport(NamedTuple):
    """How a state dict compares with a network; empty lists mean that it fits."""

    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]
    """Keys of another shape, with both shapes."""

    @property
    def fits(self) -> bool:
        """True if every key is filled and none is left over."""
        return not (self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": self.reshaped,
        }
        parts = []
        for kind, keys in kinds.items():
            if keys:
                more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
                parts.append(f"{len(keys)} {kind} ({', '.join(keys[:_SHOWN])}{more})")
        return ", ".join(parts)


def compare(
    network: nn.Module, tensors: Mapping[str, Tensor], leftovers: tuple[str, ...] = ()
) -> KeyReport:
    """Compare keys and shapes of a state dict with those of a network.

    Args:
        network: what is to be filled.
        tensors: the state dict.
        leftovers: patterns (`decoder*`) of keys that the model is known not to use.
    """
    wanted = network.state_dict()
    unexpected = [key for key in tensors if key not in wanted and not matches(key, leftovers)]
    reshaped = [
        f"{key}: {list(tensors[key].shape)} in the file, {list(wanted[key].shape)} in the model"
        for key in wanted
        if key in tensors and tensors[key].shape != wanted[key].shape
    ]
    return KeyReport([key for key in wanted if key not in tensors], unexpected, reshaped)


def fill(
    network: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    name: str,
    source: Source | str,
    leftovers: tuple[str, ...] = (),
) -> nn.Module:
    """Fill every parameter and buffer of `network` from `tensors`; all or nothing.

    Args:
        network: filled in place.
        tensors: the state dict; values are cast to the network's dtype.
        name: the model's name, for the error.
        source: where the tensors come from, for the error.
        leftovers: patterns of keys that the model is known not to use.

    Raises:
        UserError: a key is missing, unexpected or of another shape, or a value is not finite.
    """
    report = compare(network, tensors, leftovers)
    if not report.fits:
        raise UserError(
            f"{source} does not fit model '{name}': {report}; "
            f"give the checkpoint that was made for '{name}'"
        )
    wanted = network.state_dict().keys()
    for key in wanted:
        if tensors[key].is_floating_point() and not torch.isfinite(tensors[key]).all():
            raise UserError(
                f"{source} holds NaN or infinite numbers in {key}; the training diverged or the "
                "file is damaged: take another checkpoint"
            )
    network.load_state_dict({key: tensors[key] for key in wanted})
    return network


def choose(
    network: nn.Module,
    content: Mapping[str, Any],
    *,
    name: str,
    source: Source,
    prefixes: tuple[str, ...] = ("module.",),
    leftovers: tuple[str, ...] = (),
) -> dict[str, Tensor]:
    """The state dict in a checkpoint that fits `network`, whatever it is wrapped in.

    Looked at: the tensors at the top and each dictionary of tensors one level down (`encoder`,
    `state_dict`, ...); or what `source.entry` names, a dictionary or a prefix of keys.

    Args:
        network: what is to be filled.
        content: a checkpoint, as `read` gives it.
        name: the model's name, for the error.
        source: where the content comes from, and which entry of it is wanted.
        prefixes: taken off one after the other where all keys have them.
        leftovers: patterns of keys that the model is known not to use.

    Raises:
        UserError: nothing fits (told by what comes nearest), or several parts do.
    """
    found = {"": tensors_of(content)}
    found |= {key: tensors_of(part) for key, part in content.items() if isinstance(part, dict)}
    if source.entry:
        start = source.entry + "."
        under = {key: value for key, value in found[""].items() if key.startswith(start)}
        found = {source.entry: found.get(source.entry) or without_prefix(under, start)}
    candidates: dict[str, dict[str, Tensor]] = {}
    for entry, tensors in found.items():
        for prefix in prefixes:
            tensors = without_prefix(tensors, prefix)
        if tensors:
            candidates[entry] = tensors
    if not candidates:
        listed = ", ".join(list(content)[:8]) or "nothing"
        raise UserError(
            f"{source} holds no tensors for model '{name}' (at the top: {listed}); "
            "name the part to use as PATH#entry"
        )
    reports = {key: compare(network, part, leftovers) for key, part in candidates.items()}
    fitting = [key for key, report in reports.items() if report.fits]
    if len(fitting) > 1:
        raise UserError(
            f"{source.path} holds several networks that fit model '{name}' "
            f"({', '.join(key or 'top level' for key in fitting)}); "
            f"name one: --weights {name}={source.path}#{fitting[0] or fitting[1]}"
        )
    if not fitting:
        nearest = min(reports, key=lambda key: sum(map(len, reports[key])))
        fill(network, candidates[nearest], name=name, source=source, leftovers=leftovers)
    return candidates[fitting[0]]
