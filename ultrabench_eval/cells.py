"""Cells: one measured number with all that it was made of, on disk whole or not at all.

OUT/cells/<model>/<task>/<condition>.json          the scores and where they come from
OUT/cells/<model>/<task>/<condition>.safetensors   the predictions behind them
OUT/cells/<model>/<task>/<condition>.error.json    why there are none
OUT/cells/ledger.jsonl                             which of them were written here, in order
OUT/tasks/<task fingerprint>.json                  names, labels and groups of the test images

Predictions are written first and the JSON last. It holds their hash; without it the cell does not
exist. An error is listed next to an older cell and hides it, because that cell was made of
something that no longer exists.

Nothing here is believed because of its name or its place. Each JSON holds the digest of all its
other fields and names its own place. The ledger tells a whole file that was brought from elsewhere,
or is older than what was written last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import safetensors.numpy
from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError, model_validator

from tasks.task import Task
from ultrabench_eval import corrupt, sealed, task_types
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.corrupt import Corruption
from ultrabench_eval.ledger import Ledger
from ultrabench_eval.metrics import Metric, of_task
from ultrabench_eval.sealed import AGAIN, EARLIER, Sealed
from ultrabench_eval.stats import intervals
from ultrabench_eval.test_set import TestSet

FORMAT = 3  # raised when cells on disk must be computed again
TRANSFER = ("trained", "tested")
"""In `Cell.task` of a task that is trained on one set and tested on another: the names of the tasks
that it is compared with, of the first set alone and of the second."""
FRAMES_POOLED, STILL_REPEATED = "frames pooled", "still repeated"
"""In `Cell.model`, as "shown": the model takes images and samples are videos, or the reverse."""
CLASSES = "classification"  # the kind of all tasks in cells of earlier versions
IMPORTED = "imported"
"""Before the name of an entry whose features or predictions were made elsewhere; and the probe and
protocol of predictions, for which nothing was trained here."""


@dataclass(frozen=True, order=True)
class Coordinates:
    """Which cell: the columns that name a row of the leaderboard."""

    model: str
    task: str
    protocol: str
    probe: str = "linear"
    fraction: int = 100
    """Percentage of the training images in use."""
    corruption: str = "none"
    severity: int = 0

    @property
    def path(self) -> Path:
        """Where it lies under OUT/cells, without suffix; "timm/x" becomes "timm%2Fx"."""
        condition = (
            f"{self.probe}-{self.protocol}-{self.fraction}-{self.corruption}-{self.severity}"
        )
        return (
            Path(files.file_name(self.model))
            / files.file_name(self.task)
            / files.file_name(condition)
        )


_COORDINATES = TypeAdapter(Coordinates)
_ENDS = (".json", ".error.json")  # of a result, and of why there is none


class MetricFacts(Sealed):
    """What a page says of a metric."""

    title: str
    unit: str
    higher_is_better: bool
    places: int

    @classmethod
    def of(cls, metric: Metric) -> MetricFacts:
        """Those of a metric."""
        return cls(
            title=metric.title or metric.name,
            unit=metric.unit,
            higher_is_better=metric.higher_is_better,
            places=metric.places,
        )


class CorruptionFacts(Sealed):
    """What a page says of a plugin's corruption."""

    unit: str
    levels: tuple[FiniteFloat, FiniteFloat, FiniteFloat]
    summary: str


class Cell(Sealed):
    """What is known of one cell. H is the number of seeds."""

    later = frozenset({"type", "main", "described", "corrupted_by", "remarks"})

    coordinates: Coordinates
    identity: dict[str, str | int]
    """See `identity`: a cell with the same one is not computed again."""
    scores: dict[str, list[FiniteFloat | None]]
    """H values per metric, in the metric's own unit (not percent); None where it is not defined."""
    intervals: dict[str, tuple[FiniteFloat, FiniteFloat]]
    """95 % interval of the mean over seeds, for the metrics that have one (`stats.intervals`)."""
    images: dict[str, int]
    """Images in use of train and validation, and all of test."""
    classes: list[str]
    heads: list[dict[str, Any]]
    """The probe of each seed: setting, validation loss, best epoch (`probes.heads.Head`)."""
    sweep: list[dict[str, Any]]
    """All that were tried; only in cells of uncorrupted images."""
    warnings: list[str]
    """What to know before the number is believed; only in cells of uncorrupted images."""
    synthetic: bool
    random_weights: bool
    model: dict[str, str | int | None]
    """Title, pooling, input size, feature width, parameters; file and checksum of the weights."""
    task: dict[str, str]
    """Title, and what its groups are."""
    type: str = CLASSES
    """What kind of task it is of (`task_types`)."""
    main: str = "macro_f1"
    """The metric that tables show."""
    described: dict[str, MetricFacts] = Field(default_factory=dict)
    """The metrics that are not built in, so that pages can be made without their plugin."""
    corrupted_by: CorruptionFacts | None = None
    """The corruption, if it is a plugin's."""
    remarks: tuple[str, ...] = ()
    """What belongs under its scores (`TaskType.remarks`)."""
    notes: list[str]
    protocol: dict[str, Any]
    """All settings of the probe."""
    features_made_by: list[dict[str, str]]
    versions: dict[str, str]
    seconds: dict[str, float]
    predictions: str
    """SHA-256 of the predictions file."""
    doubt: str = Field(default="", exclude=True)
    """Why the number is not verified; "" if it is. Not stored: found out when a folder is read."""

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """What is known of its metrics; without their functions if their plugin is not loaded."""
        every = task_types.get(self.type).every if self.type in task_types.registry else ()
        facts = {name: one.model_dump() for name, one in self.described.items()}
        described = {name: Metric(name, task_type=self.type, **one) for name, one in facts.items()}
        unit = self.task.get("unit", "")
        known = described | {metric.name: metric for metric in every}
        return {name: of_task(metric, unit) for name, metric in known.items()}

    @property
    def main_metric(self) -> Metric:
        """The one that tables show."""
        return self.metrics[self.main]

    @model_validator(mode="after")
    def _check_parts(self) -> Cell:
        """See that all is there that a page shows."""
        known = self.type in task_types.registry
        kind = task_types.get(self.type) if known else None
        own = {metric.name for metric in kind.metrics} if kind else set()
        trained = self.coordinates.probe != IMPORTED
        shown = {name for name, _ in kind.details} if kind and trained else set()
        unknown = self.scores.keys() - own - self.described.keys()
        missing = [
            *(({self.main} | shown) - self.scores.keys()),
            *({self.main} - self.intervals.keys()),
            *({"title", "pooling", "input_size", "dim", "parameters"} - self.model.keys()),
            *({"title", "groups"} - self.task.keys()),
            *({"train", "validation", "test"} - self.images.keys()),
            *({"model", "task", "dtype", "seeds"} - self.identity.keys()),
        ]
        if unknown or missing:
            raise ValueError(f"unknown: {sorted(unknown)}, missing: {sorted(missing)}")
        counts = {*map(len, self.scores.values())}
        if len(counts | {len(self.heads)} if trained else counts) > 1:
            raise ValueError("its scores and probes are not one for each seed")
        if not all(isinstance(head.get("validation_loss"), float | int) for head in self.heads):
            raise ValueError("a probe has no validation loss")
        return self


class Failure(Sealed):
    """Why a cell could not be measured."""

    later = frozenset({"type", "absent"})

    coordinates: Coordinates
    reason: str
    absent: bool = False
    """Whether nothing went wrong: all tasks were asked for, and the data of this one not found."""
    type: str = CLASSES
    """What kind of task it is of, as far as that is known."""
    synthetic: bool = False
    traceback: str = ""
    damaged: bool = Field(default=False, exclude=True)
    """Whether the cell was measured and its files are not what was written. Not stored."""


@dataclass(frozen=True)
class Cells:
    """The cells of a results folder.

    Args:
        out: the folder; need not exist yet.
    """

    out: Path
    _ledger: Ledger = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ledger", Ledger(self.out / "cells" / "ledger.jsonl"))

    # ---- one cell -------------------------------------------------------------------------------

    def get(self, coordinates: Coordinates, identity: dict[str, str | int]) -> Cell | None:
        """The finished cell of this very identity, or None if it must be measured.

        An error that hides it is removed, and the ledger knows it afterwards.
        """
        found = self._finished(coordinates, identity)
        if found is None:
            return None
        self._path(coordinates, ".error.json").unlink(missing_ok=True)
        self._note(coordinates, found[1])
        return found[0]

    def finished(self, coordinates: Coordinates, identity: dict[str, str | int]) -> Cell | None:
        """What `get` would find, if no error is in front of it; nothing is changed."""
        found = self._finished(coordinates, identity)
        error = self._path(coordinates, ".error.json")
        return found[0] if found is not None and not error.exists() else None

    def put(self, cell: Cell, stored: Mapping[str, np.ndarray]) -> Cell:
        """Write a cell; one that has the same identity and predictions stays as it is.

        Args:
            cell: its `predictions` are filled in here.
            stored: what is kept of the predictions on the test samples, by name; of classes
                "probabilities", float32 [H, N, C].

        Returns:
            The cell that is there now.
        """
        at = cell.coordinates
        arrays = {name: np.ascontiguousarray(array) for name, array in stored.items()}
        data = safetensors.numpy.save(arrays)
        cell = cell.model_copy(update={"predictions": hashing.digest_bytes(data)})
        there = self.get(at, cell.identity)
        if there is not None and there.predictions == cell.predictions:
            return there
        files.write_bytes(self._path(at, ".safetensors"), data)
        digest = sealed.write(self._path(at, ".json"), cell)
        self._path(at, ".error.json").unlink(missing_ok=True)
        self._note(at, digest)
        return cell

    def fail(self, failure: Failure) -> None:
        """Write down why a cell could not be measured."""
        digest = sealed.write(self._path(failure.coordinates, ".error.json"), failure)
        self._note(failure.coordinates, digest)

    def holds(self, coordinates: Coordinates) -> bool:
        """Whether a verified cell or its error is there."""
        try:
            if sealed.read(self._path(coordinates, ".error.json"), Failure) is not None:
                return True
            found = self._verified(coordinates)
        except UserError:
            return False
        return found is not None and not found[0].doubt

    def adopt(self, entry: Cell | Failure, source: Cells) -> None:
        """Take over an entry of another folder, byte for byte, and what is doubted of it."""
        at = entry.coordinates
        suffixes = (".error.json",) if isinstance(entry, Failure) else (".safetensors", ".json")
        for suffix in suffixes:
            files.write_bytes(self._path(at, suffix), source._path(at, suffix).read_bytes())
        if isinstance(entry, Cell):
            self._path(at, ".error.json").unlink(missing_ok=True)
        digest = source._ledger.last(_place(at))
        if digest and not (isinstance(entry, Cell) and entry.doubt):
            self._note(at, digest)

    def miss(self, places: Iterable[str], source: Cells) -> None:
        """Take over that cells were written which another folder lacks by now (see `gone`)."""
        for place in places:
            digest, at = source._ledger.last(place), source._ledger.at(place)
            if digest is not None and at is not None:
                self._ledger.write(place, digest, at)

    def predictions(self, cell: Cell) -> dict[str, np.ndarray]:
        """What is kept of a cell's predictions, by name (see `put`).

        Raises:
            UserError: they are not those that the cell was written with.
        """
        path = self._path(cell.coordinates, ".safetensors")
        with sealed.telling(path):
            data = path.read_bytes()
            if hashing.digest_bytes(data) != cell.predictions:
                raise ValueError("its digest is not the one that the cell states")
            return safetensors.numpy.load(data)

    def _finished(
        self, coordinates: Coordinates, identity: dict[str, str | int]
    ) -> tuple[Cell, str] | None:
        """The cell of this identity and its digest."""
        try:
            found = self._verified(coordinates)
        except UserError:
            return None  # it is measured again and replaced
        if found is None or found[0].doubt or found[0].identity != identity:
            return None
        return found

    def _verified(self, coordinates: Coordinates) -> tuple[Cell, str] | None:
        """The cell at its place and its digest, or None if there is none.

        Raises:
            UserError: it is damaged, or belongs elsewhere.
        """
        path = self._path(coordinates, ".json")
        found = sealed.read(path, Cell)
        if found is None:
            return None
        cell, digest = found
        if cell.coordinates != coordinates:
            raise _belongs_elsewhere(path, cell)
        self.predictions(cell)
        return cell.model_copy(update={"doubt": "" if digest else EARLIER}), digest

    # ---- all cells ------------------------------------------------------------------------------

    def gather(self) -> list[Cell | Failure]:
        """Every cell of the folder, an error where there is one, in order of coordinates.

        A cell that is damaged becomes a failure that says so. One that is whole but was not
        written here last, or by a version without digests, comes with a `doubt`.
        """
        self._ledger.mark()
        found: dict[Coordinates, Cell | Failure] = {}
        folder = self.out / "cells"
        paths = [p for p in folder.glob("*/*/*.json") if not p.name.startswith(".")]
        # Errors come last, so that they hide an older cell.
        for path in sorted(paths, key=lambda p: (p.name.endswith(".error.json"), p)):
            entry = self._gathered(path)
            if entry is not None:
                found[entry.coordinates] = entry
            if isinstance(entry, Cell) and (facts := entry.corrupted_by):
                name = entry.coordinates.corruption
                corrupt.describe([Corruption(name, **facts.model_dump())])
        return [found[at] for at in sorted(found)]

    def as_gathered(self) -> bool:
        """Whether nothing was written to the folder since `gather` last began."""
        return self._ledger.as_marked()

    def gone(self, entries: Iterable[Cell | Failure]) -> list[str]:
        """Places of cells that were written here and are no longer there, sorted.

        Not of cells that a run wrote after `entries` were read.
        """
        there = {_place(entry.coordinates) for entry in entries}
        return sorted(
            place
            for place in self._ledger.places()
            if place not in there
            and not any((self.out / f"cells/{place}{end}").exists() for end in _ENDS)
        )

    def _gathered(self, path: Path) -> Cell | Failure | None:
        """What a file holds; None for one that is not at any cell's place."""
        failed = path.name.endswith(_ENDS[1])
        suffix = _ENDS[failed]
        place = path.relative_to(self.out / "cells").as_posix().removesuffix(suffix)
        at = self._at(place)
        try:
            read = sealed.read(path, Failure) if failed else sealed.read(path, Cell)
            if read is None:  # removed meanwhile
                return None
            entry, digest = read
            if _place(entry.coordinates) != place:
                raise _belongs_elsewhere(path, entry)
            if isinstance(entry, Failure):
                return entry
            self.predictions(entry)
            return entry.model_copy(update={"doubt": self._doubt(entry, digest)})
        except UserError as error:
            if _place(at) != place:  # a copy under a name that no cell has
                return None
            return Failure(coordinates=at, reason=str(error), damaged=True)

    def _at(self, place: str) -> Coordinates:
        """The cell of a place, by the ledger, or as far as names of files tell."""
        try:
            at = _COORDINATES.validate_python(self._ledger.at(place))
        except ValidationError:
            return _coordinates(place)
        return at if _place(at) == place else _coordinates(place)

    def _note(self, at: Coordinates, digest: str) -> None:
        self._ledger.write(_place(at), digest, asdict(at))

    def _doubt(self, cell: Cell, digest: str) -> str:
        """Why a cell that is whole may not be what was measured here; "" if it is."""
        if not digest:
            return EARLIER
        last = self._ledger.last(_place(cell.coordinates))
        if last is None:
            return "not written to this folder by `ubench`"
        if last != digest:
            return "not the one that was written here last"
        if cell.identity.get("intervals") != intervals.VERSION:
            return "its interval was made by an earlier method"
        return self._doubt_of_test(str(cell.identity.get("task", "")))

    def _doubt_of_test(self, fingerprint: str) -> str:
        """What is doubted of the test images; damage is reported where they are needed."""
        try:
            return self.test_set(fingerprint).doubt
        except UserError:
            return ""

    # ---- test sets ------------------------------------------------------------------------------

    def put_task(self, task: Task, *, identifiers: bool = True) -> None:
        """Write names, labels and groups of the test images, to which predictions refer.

        What is there and differs is replaced.

        Args:
            task: that was measured.
            identifiers: whether names of images and groups of people's own data are kept; else
                they are numbered.
        """
        test = TestSet.of(task)
        self._put_test(test.anonymous() if test.own and not identifiers else test)

    def strip(self) -> list[str]:
        """Take the names of images and groups of people's own data out of this folder.

        Returns:
            The tasks whose names were taken out.

        Raises:
            UserError: a test set is damaged.
        """
        found = []
        for path in sorted((self.out / "tasks").glob("*.json")):
            test = self.test_set(path.stem)
            if test.own and test != (numbered := test.anonymous()):
                self._put_test(numbered)
                found.append(test.task)
        return found

    def _put_test(self, test: TestSet) -> None:
        data = sealed.content(test)
        path = self._test_path(test.fingerprint)
        if not path.is_file() or path.read_bytes() != data:
            files.write_bytes(path, data)

    def test_set(self, fingerprint: str) -> TestSet:
        """The test images of a task.

        Raises:
            UserError: they are not there, damaged, or those of another task.
        """
        path = self._test_path(fingerprint)
        read = sealed.read(path, TestSet, {"fingerprint": fingerprint})
        if read is None:
            raise UserError(f"{path} is missing; {AGAIN}")
        test, digest = read
        if test.fingerprint != fingerprint:
            raise UserError(f"{path} holds the test images of another task; {AGAIN}")
        if not test.fits:
            raise UserError(f"{path} is damaged (its parts do not fit one another); {AGAIN}")
        return test.model_copy(update={"doubt": "" if digest else f"{path.name}: {EARLIER}"})

    def adopt_test(self, fingerprint: str, source: Cells) -> None:
        """Take over a test set of another folder, if this one lacks it."""
        path = self._test_path(fingerprint)
        if not path.exists():
            files.write_bytes(path, source._test_path(fingerprint).read_bytes())

    def _test_path(self, fingerprint: str) -> Path:
        return self.out / "tasks" / f"{files.file_name(fingerprint)}.json"

    def _path(self, coordinates: Coordinates, suffix: str) -> Path:
        path = self.out / "cells" / coordinates.path
        return path.with_name(path.name + suffix)


def identity(
    *,
    at: Coordinates,
    model: str,
    task: str,
    protocol: str,
    dtype: str,
    seeds: int,
    fewshot: int,
    corruption: str,
    masks: str,
    scoring: str = "",
    seen: str = "",
    pooled: str = "",
) -> dict[str, str | int]:
    """What a cell's numbers depend on.

    Args:
        at: its place, of which fraction and severity are taken; the others have fingerprints.
        model: fingerprint.
        task: fingerprint.
        protocol: digest of the probe's settings.
        dtype: how the features were rounded.
        seeds: number of them.
        fewshot: version of the draw; 0 for all images.
        corruption: name and version (of a plugin's, SHA-256 of its code), or "none".
        masks: fingerprint of the test images' scan masks if the corruption looks at them.
        scoring: digest of a plugin's code that scores it; "" if all of that is ours.
        seen: digest of what `--seen` told of the test images; "" without it.
        pooled: digest of the rule by which an encoder of images is shown videos; "" of all others.
    """
    return {
        "format": FORMAT,
        "model": model,
        "task": task,
        "protocol": protocol,
        "dtype": dtype,
        "seeds": seeds,
        "fraction": at.fraction,
        "fewshot": fewshot,
        "corruption": corruption,
        "severity": at.severity,
        "masks": masks,
        "intervals": intervals.VERSION,
        **({"scoring": scoring} if scoring else {}),
        **({"seen": seen} if seen else {}),
        **({"pooled": pooled} if pooled else {}),
    }


# ---- files --------------------------------------------------------------------------------------


def _place(coordinates: Coordinates) -> str:
    """How the ledger calls a cell."""
    return coordinates.path.as_posix()


def _coordinates(place: str) -> Coordinates:
    """The cell that a path is of, as far as names of files tell."""
    model, task, condition = map(unquote, place.split("/"))
    probe, _, rest = condition.partition("-")
    parts = rest.rsplit("-", 3)
    if len(parts) == 4 and parts[1].isdecimal() and parts[3].isdecimal():
        return Coordinates(model, task, parts[0], probe, int(parts[1]), parts[2], int(parts[3]))
    return Coordinates(model, task, rest, probe)


def _belongs_elsewhere(path: Path, entry: Cell | Failure) -> UserError:
    return UserError(f"{path} holds another result, {_place(entry.coordinates)}; {AGAIN}")
