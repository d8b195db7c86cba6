"""The state of a run on disk: whole or not at all, and enough to resume as if nothing had been.

    OUT/checkpoint.pt            the whole state, with the best encoder so far
    OUT/checkpoint.previous.pt   the one before, for the day when a disk damages the last
    OUT/best.pt                  the best encoder alone, for `usjepa export`

All draws of a run follow from (seed, step), so its position is the step alone. Each file holds a
digest of all that is in it, configuration and frames included, which is checked when it is read.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import os
import signal
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from model_zoo.checkpoints import files as weights
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from usjepa import config as configs
from usjepa.config import Config
from usjepa.objective import SALT, Objective

FORMAT = 2
UNVERIFIED = 1  # the format of earlier versions, which has no digest
LAST, PREVIOUS, DAMAGED = "checkpoint.pt", "checkpoint.previous.pt", "checkpoint.damaged.pt"
BEST = "best.pt"

Best = dict[str, Any]
"""The content of best.pt: `config`, `encoder` (a state dict), `about` (history for the card)."""


# What a checkpoint and a best encoder hold beside their format and configuration.
_KINDS: tuple[dict[str, type], ...] = (
    {"frames": str, "objective": dict, "optimizer": dict, "progress": dict},
    {"encoder": dict, "about": dict},
)


class DamagedError(UserError):
    """A file is not as it was written; its sentence has no remedy yet."""


class Identity(NamedTuple):
    """What a checkpoint belongs to."""

    config: Config
    frames: str
    """Fingerprint of the index."""
    teacher: str | None
    """Fingerprint of a frozen teacher."""

    @classmethod
    def of(cls, config: Config, frames: str, objective: Objective) -> Identity:
        """That of a run."""
        frozen = objective.teacher.encoder if isinstance(objective, SALT) else None
        return cls(config, frames, None if frozen is None else frozen.fingerprint)


class Reached(NamedTuple):
    """How far a run is."""

    step: int
    best: float
    """The least validation loss; infinite before the first."""
    precision: str
    """In which the run computes."""
    kept: Best | None
    """The best encoder; None before the first epoch ends."""


class Resumable(NamedTuple):
    """Where a run can be resumed."""

    path: Path
    content: dict[str, Any]
    progress: Reached


def save(
    folder: Path, place: Identity, objective: Objective, optimizer: Optimizer, progress: Reached
) -> None:
    """Write a checkpoint; the one before stays as `checkpoint.previous.pt`.

    Args:
        folder: OUT.
        place: of the run.
        objective: student, predictor, and an averaged teacher; never a frozen one.
        optimizer: with its moments.
        progress: how far it is.

    Raises:
        UserError: the weights hold NaN or infinite numbers.
    """
    content = {
        "format": FORMAT,
        "config": place.config.plain(),
        "frames": place.frames,
        "teacher": place.teacher,
        "objective": objective.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": {"step": progress.step, "best": progress.best},
        "precision": progress.precision,
        "best": progress.kept,
    }
    if name := _infinite(content):
        raise UserError(
            f"no checkpoint is written to {folder}, because {name} holds NaN or infinite numbers "
            f"after step {progress.step}; lower train.learning_rate or set train.clip, and start "
            "again with another --out"
        )
    last = folder / LAST
    with files.atomic_path(last) as temporary:
        _write(temporary, content)
        if last.exists():  # if we are killed between the two renames, the previous one is found
            os.replace(last, folder / PREVIOUS)


def save_best(folder: Path, kept: Best) -> None:
    """Write the encoder that will be exported, with what is known of it, to OUT/best.pt."""
    with files.atomic_path(folder / BEST) as temporary:
        _write(temporary, {"format": FORMAT, **kept})


def find(folder: Path, place: Identity, steps: int) -> tuple[Resumable | None, list[str]]:
    """The last whole checkpoint of a run, and what should be told about others.

    Args:
        folder: OUT.
        place: of the run.
        steps: how many the run has.

    Returns:
        The checkpoint, or None if the run starts from the beginning; and sentences without their
        ends about what was found on the way.

    Raises:
        UserError: there is a checkpoint of another run, or a file that is not one.
    """
    told = []
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            content = read(path)
            check(path, content, place)
            progress = _progress(folder, path, content, steps)
        except DamagedError as error:
            told.append(str(error))
            continue
        if content["format"] == UNVERIFIED:
            told.append(f"{path} is not verified: an earlier version wrote it, without a digest")
        if path.name == PREVIOUS:
            told.append(f"{path} is used, from step {progress.step}")
        return Resumable(path, content, progress), told
    if told:
        told.append("training starts from the beginning")
    return None, told


def set_aside(folder: Path) -> None:
    """Move a checkpoint that cannot be used out of the way, in case that it is somebody else's."""
    if (folder / LAST).exists():
        os.replace(folder / LAST, folder / DAMAGED)


def restore(found: Resumable, objective: Objective, optimizer: Optimizer) -> None:
    """Bring a run back to where its checkpoint was written.

    Raises:
        UserError: the state is not that of such a run.
    """
    try:
        objective.load_state_dict(found.content["objective"])
        # Copied, because what is read may be mapped from the file.
        optimizer.load_state_dict(copy.deepcopy(found.content["optimizer"]))
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(
            f"{found.path} does not hold the state of this run ({reason}); give another --out to "
            "start again"
        ) from error


def best(folder: Path) -> Best:
    """The encoder of least validation loss of a run, finished or not.

    Raises:
        UserError: there is none yet, or the files are damaged or of different runs.
    """
    path, last = folder / BEST, folder / LAST
    again = "run `usjepa train` again with the same settings and --out, which restores it"
    kept = whole = damaged = None
    try:
        kept = read(path) if path.exists() else None
    except DamagedError as error:
        damaged = error
    try:
        whole = read(last) if last.exists() else None
    except DamagedError as error:  # nothing else could vouch for the encoder
        damaged, kept = error, None
    if whole is not None and kept is not None and _run_of(path, kept) != _run_of(last, whole):
        raise UserError(f"{path} is of another run than {last}; {again}")
    remembered = whole.get("best") if whole is not None else None
    candidates = [one for one in (remembered, kept) if one is not None]
    if damaged is not None and not candidates:
        raise UserError(f"{damaged}; {again}") from damaged
    if not candidates:
        raise UserError(
            f"{folder} holds no {BEST}, which is written after the first epoch; give the --out of "
            "a run that has come so far"
        )
    # While a run is under way best.pt may be one epoch ahead.
    return dict(max(candidates, key=lambda one: int(one["about"]["step"])))


def check(path: Path, content: Mapping[str, Any], place: Identity) -> None:
    """See that a checkpoint is of this configuration, index and teacher.

    Raises:
        UserError: it is not; names the settings that differ.
    """
    made = _config(path, content)
    if made.id != place.config.id:
        pairs = list(_differences(asdict(made), asdict(place.config)))
        named = ", ".join(f"{name} {old!r}, now {new!r}" for name, old, new in pairs[:3])
        more = f" and {len(pairs) - 3} more" if len(pairs) > 3 else ""
        raise UserError(
            f"{path} was made with other settings ({named}{more}); give the same ones to resume, "
            "or another --out to start again"
        )
    if content["frames"] != place.frames:
        raise UserError(
            f"{path} was made from other frames (index {content['frames'][:12]}, now "
            f"{place.frames[:12]}); give the same --frames to resume, or another --out to start "
            "again"
        )
    taught = content.get("teacher", place.teacher)  # earlier versions did not say
    if taught != place.teacher:
        raise UserError(
            f"{path} was made with another teacher (fingerprint {str(taught)[:12]}, now "
            f"{str(place.teacher)[:12]}); restore the weights of teacher.name to resume, or give "
            "another --out to start again"
        )


def read(path: Path) -> dict[str, Any]:
    """The content of a file of this module, with its digest checked.

    Raises:
        DamagedError: it is not as it was written.
        UserError: it is not there, of another kind, or of a later version.
    """
    damaged = _damage(path)
    other = f"{path} is not a checkpoint of usjepa; give the --out of a training run, or an empty"
    try:
        content: Any = {} if damaged else weights.read(path)
    except UserError as error:
        if zipfile.is_zipfile(path):  # whole, but not ours
            raise UserError(f"{other} folder") from error
        damaged = "it is cut off, or something else"
    if damaged:
        raise DamagedError(f"{path} is damaged ({damaged})")
    form = content.get("format")
    if type(form) is not int or not isinstance(content.get("config"), dict):
        raise UserError(f"{other} folder")
    kinds = [all(isinstance(content.get(k), t) for k, t in kind.items()) for kind in _KINDS]
    if not any(kinds):
        raise UserError(f"{other} folder")
    if form > FORMAT:
        raise UserError(
            f"{path} has format {form}, but this version of usjepa reads up to {FORMAT}; use the "
            "version that wrote it"
        )
    if form != UNVERIFIED and content.pop("sha256", None) != _digest(content):
        raise DamagedError(f"{path} is damaged (its content does not have the digest it holds)")
    if not kinds[path.name == BEST]:
        raise DamagedError(f"{path} holds another file of a run than its name says")
    if name := _infinite(content):
        raise DamagedError(f"{path} is damaged ({name} holds NaN or infinite numbers)")
    return dict(content)


def _write(path: Path, content: Mapping[str, Any]) -> None:
    # Given an open file, torch puts no name of it into the archive: equal states, equal bytes.
    with path.open("wb") as file, _uninterrupted():
        late = _LateError(file)
        torch.save({**content, "sha256": _digest(content)}, cast(BinaryIO, late))
        if late.error:
            raise late.error


class _LateError:
    """A file that says at the end what went wrong: torch writes the end of its archive even after
    an error, and where that fails as well it stops the process."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """As of a file, but for errors."""
        try:
            if self.error is None:
                self.file.write(data)
        except OSError as error:
            self.error = error
        return len(data)

    def flush(self) -> None:
        """Left to the end, when the file is closed."""


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Puts Ctrl-C off to the end, for the reason that `_LateError` has."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Ctrl-C reaches the main thread alone
        return
    put_off: list[int] = []
    usual = signal.signal(signal.SIGINT, lambda number, _: put_off.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual or signal.SIG_DFL)
    for number in put_off[:1]:
        signal.raise_signal(number)


def _damage(path: Path) -> str | None:
    """What the archive's own checksums tell against it; torch does not look at them."""
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except Exception as error:  # bytes that are not an archive raise whatever comes
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a place before 0
            raise
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return f"wrong checksum of {wrong}" if wrong else None


def _progress(folder: Path, path: Path, content: Mapping[str, Any], steps: int) -> Reached:
    """How far the run of a checkpoint was.

    Raises:
        DamagedError: no run of this configuration can be there.
    """
    step, best = (content["progress"].get(name) for name in ("step", "best"))
    if type(step) is not int or not isinstance(best, float) or not 0 <= step <= steps:
        raise DamagedError(f"{path} is damaged (step {step} of a run of {steps})")
    if content["format"] == UNVERIFIED:
        precision = content["config"]["train"]["precision"]
        return Reached(step, best, precision, _unverified_best(folder, path, content))
    return Reached(step, best, content["precision"], copy.deepcopy(content["best"]))


def _unverified_best(folder: Path, path: Path, content: Mapping[str, Any]) -> Best | None:
    """The best encoder of a run of an earlier version, whose checkpoints do not hold it."""
    if not (folder / BEST).exists():
        if content["progress"]["best"] == float("inf"):
            return None
        raise DamagedError(f"{path} cannot be used without {BEST}, which is missing")
    kept = read(folder / BEST)
    if _run_of(folder / BEST, kept) != _run_of(path, content):
        raise DamagedError(f"{folder / BEST} is of another run than {path}")
    kept.pop("format")
    return kept


def _run_of(path: Path, content: Mapping[str, Any]) -> tuple[str, str]:
    """Configuration and frames, of a checkpoint or of a best encoder."""
    frames = content.get("frames") or content["about"].get("frames", {}).get("fingerprint")
    return _config(path, content).id, str(frames)


def _config(path: Path, content: Mapping[str, Any]) -> Config:
    try:
        return configs.validate(content["config"], "in it")
    except UserError as error:
        reason = str(error).removesuffix("; fix it")
        raise UserError(
            f"{path} was made with settings that this version of usjepa does not take ({reason}); "
            "use the version that wrote it, or give another --out to start again"
        ) from error


def _digest(content: Mapping[str, Any]) -> str:
    """SHA-256 over every name, value and tensor."""
    total = hashlib.sha256()
    for name, value in _leaves(content, ""):
        if isinstance(value, Tensor):
            told = hashing.digest_tensors({name: value})
        else:
            told = f"{name} {type(value).__name__} {value!r}"
        total.update(hashing.digest_parts([told.encode(errors="surrogatepass")]).encode())
    return total.hexdigest()


def _infinite(content: Mapping[str, Any]) -> str | None:
    """The name of a tensor that holds NaN or infinite numbers."""
    for name, value in _leaves(content, ""):
        if isinstance(value, Tensor) and value.is_floating_point():
            if not torch.isfinite(value).all():
                return name
        elif isinstance(value, float) and value != value:
            return name
    return None


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """All that is in dictionaries and lists, under dotted names, their order included."""
    if isinstance(value, Mapping):
        yield name, f"{len(value)} keys"
        for key, part in value.items():
            yield from _leaves(part, f"{name}.{key!r}")
    elif isinstance(value, list | tuple):
        yield name, f"{len(value)} values"
        for number, part in enumerate(value):
            yield from _leaves(part, f"{name}.{number}")
    else:
        yield name, value


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], above: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Dotted names of settings with their two values, but for the name of the run."""
    for key, value in old.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and isinstance(new[key], Mapping):
            yield from _differences(value, new[key], f"{name}.")
        elif value != new[key] and name != "name":
            yield name, value, new[key]
