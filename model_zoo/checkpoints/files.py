"""Checkpoints: find one, open it safely, and fill a network so that nothing is left to chance.

A checkpoint never runs code (`weights_only=True`, or safetensors), and a network is either filled
to the last key or not at all: a silently random layer is the commonest way to a wrong baseline.
"""

from __future__ import annotations

import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import model_zoo
from model_zoo.checkpoints import shards
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError, not_found

FOLDER_VARIABLE = "UBENCH_WEIGHTS"
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""What weights are stored in; anything else in their place is a damaged or a quantised file."""
_SHOWN = 4  # keys that an error message names before it says how many more there are
_LONGEST = 70  # letters of a key that are shown

# Files that are taken for weights, by how they begin.
_OTHERS = {
    b"\x89HDF": "an HDF5 file (Keras); save its tensors as safetensors",
    b"\x93NUMPY": "a NumPy array; save the tensors under their names as safetensors",
    b"GGUF": "a GGUF file, whose tensors may be quantised; get the model's safetensors",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a RAR archive; unpack it first",
}

_MAGIC = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # of torch's files before they were zip archives
_SAVE = (
    "in the program that made it, save the tensors alone: "
    "torch.save(model.state_dict(), 'weights.pt')"
)
# What runs programs or code has no business in a checkpoint, even if it is never called here.
_PROGRAMS = (
    *("builtins.eval", "builtins.exec", "builtins.compile", "builtins.open", "builtins.__import__"),
    *("os.", "posix.", "nt.", "sys.", "subprocess.", "runpy.", "importlib.", "shutil.", "socket."),
)


class WeightsSource(NamedTuple):
    """Where weights are read from."""

    path: Path
    entry: str | None = None
    """Which part of a checkpoint that holds several networks, given as `PATH#entry`."""

    def __str__(self) -> str:
        return f"{self.path}#{self.entry}" if self.entry else str(self.path)


def find(name: str, weights: Path | str | None) -> WeightsSource | None:
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
    return WeightsSource(_in_folder(name, matches[0])) if matches else None


def _named_after(name: str, file: str) -> bool:
    """Whether a file's name begins with a model's, and with no longer one's."""

    def begins(model: str) -> bool:
        return file.lower().startswith(model.lower()) and not file[len(model) :][:1].isalnum()

    longer = (other for other in model_zoo.names() if len(other) > len(name))
    return begins(name) and not any(begins(other) for other in longer)


def _explicit(name: str, text: str) -> WeightsSource:
    path, entry = _parted(text)
    if not path.exists():
        raise not_found(f"weights of model '{name}'", path, "check the path you gave")
    shards.check_named(path)
    return WeightsSource(_in_folder(name, path), entry or None)


def _parted(text: str) -> tuple[Path, str]:
    """The path and the entry of `PATH#entry`; a path may have the sign in its own name."""
    path = Path(text).expanduser()
    if path.exists() or "#" not in text:
        return path, ""
    before, _, entry = text.rpartition("#")
    return Path(before).expanduser(), entry


def _in_folder(name: str, path: Path) -> Path:
    if path.is_file():
        return path
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    files = shards.in_folder(path, files)
    if not files:
        raise UserError(
            f"the folder {path} holds no weights for model '{name}'; put a "
            f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file there"
        )
    if len(files) > 1:
        raise _ambiguous(name, files, "name one of them")
    return files[0]


def _ambiguous(name: str, paths: list[Path], remedy: str) -> UserError:
    listed = shortened([str(path) for path in paths], 8)
    return UserError(f"several weights fit model '{name}': {listed}; {remedy}")


# ---- what is read while a model is built --------------------------------------------------------


@dataclass
class Told:
    """What became known of the weights while a network was built."""

    read: dict[Path, tuple[int, ...]] = field(default_factory=dict)
    """Files that `read` opened, each with what tells whether it is replaced later."""
    filled: list[WeightsSource] = field(default_factory=list)
    """Which part of which file filled a network."""
    dropped: list[str] = field(default_factory=list)
    """Parts of a file that the network does not use, such as "head (2 tensors)"."""


_told: ContextVar[Told | None] = ContextVar("told", default=None)


@contextmanager
def listening() -> Iterator[Told]:
    """Collect what `read`, `fill_from` and their like come to know inside."""
    told = Told()
    token = _told.set(told)
    try:
        yield told
    finally:
        _told.reset(token)


def tell(source: WeightsSource, dropped: Sequence[str] = ()) -> None:
    """State which part of a file filled a network, and which of its keys were left out."""
    told = _told.get()
    if told is not None:
        told.filled.append(source)
        told.dropped += grouped(dropped)


def grouped(keys: Iterable[str]) -> list[str]:
    """Keys by their first name, with how many there are: "head (2 tensors)"."""
    counts: dict[str, int] = {}
    for key in keys:
        first = key.partition(".")[0]
        counts[first] = counts.get(first, 0) + 1
    return [f"{name} ({n} tensor{'s' * (n > 1)})" for name, n in counts.items()]


def signature(path: Path) -> tuple[int, ...]:
    """What changes when a file is replaced or written to."""
    state = path.stat()
    return state.st_ino, state.st_size, state.st_mtime_ns


def digest(path: Path) -> str:
    """SHA-256 of a file of weights; of an index, over that and all of its parts."""
    files = shards.files_of(path)
    if len(files) == 1:
        return hashing.digest_file(path)
    return hashing.digest({file.name: hashing.digest_file(file) for file in files})


_contents: dict[tuple[str, tuple[tuple[int, ...], ...]], str] = {}


def content_digest(weights: Path | str) -> str:
    """SHA-256 of whatever `weights` names: a file, all files of a folder, or the text itself.

    For wrappers that read their weights in ways of their own, so that nothing is known but what
    they were given.

    Raises:
        UserError: a file is replaced while it is read.
    """
    text = str(weights)
    path, entry = _parted(text)
    if not path.exists():  # a name that the wrapper understands
        return hashing.digest({"named": text})
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    signatures = tuple(signature(file) for file in files)
    if (known := _contents.get((text, signatures))) is not None:
        return known
    digests = {
        "" if file == path else file.relative_to(path).as_posix(): hashing.digest_file(file)
        for file in files
    }
    if tuple(signature(file) for file in files) != signatures:
        raise UserError(f"{path} changed while it was being read; run again when it is complete")
    result = hashing.digest({"entry": entry, "files": digests})
    _contents[text, signatures] = result
    return result


# ---- opening ------------------------------------------------------------------------------------


class StandIn:
    """Takes the place of an object that a checkpoint holds beside its tensors; does nothing."""

    of: ClassVar[str] = ""
    """Full name of the class or function that the file names."""

    def __new__(cls, *arguments: Any, **options: Any) -> StandIn:
        """Whatever it is called with."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        """Forget the state."""


def read(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file: tensors and, for torch's format, what wraps them.

    No code in it is run: torch files are opened with `weights_only=True`. What training code
    leaves beside the tensors (arguments, configurations, logs) is not imported either: a `StandIn`
    is put in its place.

    Args:
        path: the file, torch's or safetensors, whatever its suffix.

    Raises:
        UserError: missing, corrupt, not a checkpoint, or nothing in it can be read without running
            code.
    """
    if not path.is_file():
        raise not_found("checkpoint", path, "check the path")
    with path.open("rb") as file:
        head = file.read(64)
    _check_kind(path, head)
    told = _told.get()
    if told is not None:
        told.read[path] = signature(path)
    # The length of a safetensors header stands before it; in a text these bytes are letters.
    safetensors = head[8:9] == b"{" and head[6:8] == b"\0\0"
    if head.lstrip().startswith(b"{") and not safetensors:
        return dict(_read_shards(path))
    try:
        content = load_file(path) if safetensors else _read_torch(path, head)
    except (MemoryError, PermissionError, UserError):
        raise
    except Exception as error:  # bytes that are not a pickle raise whatever comes
        raise _corrupt(path, f"{type(error).__name__}: {_reason(error)}") from error
    if not isinstance(content, dict):
        raise UserError(
            f"{path} holds a {type(content).__name__}, not a state dict; save `model.state_dict()`"
        )
    return content


def _read_torch(path: Path, head: bytes) -> Any:
    """What a file of torch's holds; objects beside the tensors are stand-ins."""
    mapped = zipfile.is_zipfile(path)  # memory-mapped: of 10 GB an encoder may be 2
    if mapped:
        _check_archive(path)
    elif head.startswith(b"PK"):
        raise _corrupt(path, "the end of its archive is missing")
    elif not head.startswith(b"\x80"):
        raise _corrupt(path, "it begins neither as torch's files do nor as safetensors")
    elif _MAGIC not in head:
        raise UserError(
            f"{path} is a pickle that torch.save did not write, and opening it could run code; "
            f"{_SAVE}"
        )
    known: dict[str, type[StandIn]] = {}
    while True:
        try:
            with torch.serialization.safe_globals([(kind, name) for name, kind in known.items()]):
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            break
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL ([\w.]+)", str(error))
            if found is None and not known:
                raise
            # torch calls what is built into Python by its name alone.
            name = found[1] if found else ""
            name = name if "." in name else f"builtins.{name}"
            if found is None or name in known or name.startswith(_PROGRAMS):
                raise _objects(path, [name] if found else [*known]) from error
            known[name] = type("StandIn", (StandIn,), {"of": name})
    if isinstance(content, StandIn):
        raise _objects(path, [content.of])
    if known and not _holds_tensors(content):
        raise _objects(path, [*known])
    return content


def _objects(path: Path, names: list[str]) -> UserError:
    return UserError(
        f"{path} holds Python objects that cannot be opened without running code "
        f"({shortened(names)}); {_SAVE}"
    )


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping | list | tuple):
        return any(map(_holds_tensors, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, Tensor)


def _check_kind(path: Path, head: bytes) -> None:
    """Tell by its first bytes what a file is that holds no weights."""
    if not head:
        raise UserError(
            f"{path} cannot be read as a checkpoint (the file is empty, so it was cut off); "
            "download it or copy it again"
        )
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` there")
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise UserError(
            f"{path} is a web page, not weights (a download that needed a login or a "
            "confirmation?); download it again"
        )
    for start, what in _OTHERS.items():
        if head.startswith(start):
            raise UserError(f"{path} is {what}")


def _check_archive(path: Path) -> None:
    """Compare the checksums of torch's zip with its content, which torch itself does not."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if not any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
            raise UserError(
                f"{path} is a zip archive, but not a checkpoint of torch; unpack it and name the "
                "file in it"
            )
        if any("/code/" in name for name in names):
            raise UserError(
                f"{path} is a TorchScript archive, not a state dict; open it with torch.jit.load "
                "and save its `state_dict()`"
            )
        try:
            damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise _corrupt(path, f"{type(error).__name__}: {_reason(error)}") from error
    if damaged is not None:
        raise UserError(
            f"{path} is damaged: the checksum of {damaged[-_LONGEST:]} in it is wrong; download "
            "it again, or take another checkpoint"
        )


def _read_shards(index: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint in several files."""
    tensors: dict[str, Tensor] = {}
    for path, keys in shards.weight_map(index).items():
        held = tensors_of(read(path))
        if held.keys() != keys:
            missing, more = sorted(keys - held.keys()), sorted(held.keys() - keys)
            raise UserError(
                f"{path} does not hold what {index.name} says "
                f"({KeyReport(missing, more, [])}); get index and parts again from one source"
            )
        tensors |= held
    return tensors


def _corrupt(path: Path, reason: str) -> UserError:
    return UserError(
        f"{path} cannot be read as a checkpoint ({reason}); it is not a checkpoint, or cut off or "
        "damaged: download it or copy it again and compare its size"
    )


def _reason(error: Exception) -> str:
    """What an error says, in a line: of torch's advice only what the unpickler found."""
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    lines = (line.strip() for line in text.splitlines())
    return next(filter(None, lines), "no reason given")


def tensors_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors at the top level of a checkpoint; empty if there are none."""
    return {
        key: value
        for key, value in content.items()
        if isinstance(value, Tensor) and isinstance(key, str)
    }


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
                parts.append(f"{len(keys)} {kind} ({shortened(keys)})")
        return ", ".join(parts)


def shortened(names: Sequence[Any], shown: int = _SHOWN) -> str:
    """A few names for a message, and how many more there are."""
    texts = [str(name) for name in names[:shown]]
    texts = [text if len(text) <= 2 * _LONGEST else f"{text[:_LONGEST]}..." for text in texts]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(texts) + more


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
    source: WeightsSource | str,
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
    wanted = network.state_dict()
    check_kinds({key: (tensors[key], own) for key, own in wanted.items()}, source)
    for key in wanted:
        if tensors[key].is_floating_point() and not torch.isfinite(tensors[key]).all():
            raise UserError(
                f"{source} holds NaN or infinite numbers in {key}; the training diverged or the "
                "file is damaged: take another checkpoint"
            )
    network.load_state_dict({key: tensors[key] for key in wanted})
    return network


def check_kinds(pairs: Mapping[str, tuple[Tensor, Tensor]], source: WeightsSource | str) -> None:
    """Refuse tensors that would be cast to another kind of number.

    Args:
        pairs: by key, the tensor of the file and that of the network which it fills.
        source: where the tensors come from, for the error.

    Raises:
        UserError: integers, truth values, complex or 8-bit numbers in place of weights, or float16
            and bfloat16 in one file, which happens where a header is damaged.
    """
    for key, (given, own) in pairs.items():
        real = own.is_floating_point()
        if (given.dtype in REAL) != real or (not real and _kind(given) != _kind(own)):
            raise UserError(
                f"{source} holds {_dtype(given)} in {shortened([key])} where the network has "
                f"{_dtype(own)}; the file is damaged or quantised: take the original weights"
            )
    halves = {given.dtype: key for key, (given, _) in pairs.items() if given.dtype in REAL[:2]}
    if len(halves) > 1:
        raise UserError(
            f"{source} holds both float16 and bfloat16 ({shortened(list(halves.values()))}), so "
            "that its header is probably damaged; download it again"
        )


def _kind(tensor: Tensor) -> str:
    if tensor.dtype == torch.bool:
        return "bool"
    return "complex" if tensor.is_complex() else "integer"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
