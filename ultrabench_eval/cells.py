"""Cells: one measured number with all that it was made of, on disk whole or not at all.

OUT/cells/<model>/<task>/<condition>.json          the scores and where they come from
OUT/cells/<model>/<task>/<condition>.safetensors   the predictions behind them
OUT/cells/<model>/<task>/<condition>.error.json    why there are none
OUT/tasks/<task fingerprint>.json                  names, labels and groups of the test images

A cell is written predictions first, JSON last, and the JSON holds the predictions' hash: without
the JSON there is no cell. An error stands beside an older cell and hides it, for that cell was
made of something that is no more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import numpy as np
import safetensors.numpy
from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.task import Task
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError

FORMAT = 2  # raised when cells on disk must be computed again


@dataclass(frozen=True, order=True)
class Coordinates:
    """Which cell: the columns that name a row of the leaderboard."""

    model: str
    task: str
    protocol: str
    probe: str = "linear"
    fraction: int = 100
    """Part of the training images in use, in percent."""
    corruption: str = "none"
    severity: int = 0

    @property
    def path(self) -> Path:
        """Where it lies under OUT/cells, without suffix; "timm/x" becomes "timm%2Fx"."""
        condition = (
            f"{self.probe}-{self.protocol}-{self.fraction}-{self.corruption}-{self.severity}"
        )
        return Path(quote(self.model, safe="")) / quote(self.task, safe="") / condition


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=_Stored)


class Cell(_Stored):
    """What is known of one cell. H is the number of seeds."""

    coordinates: Coordinates
    identity: dict[str, str | int]
    """See `identity`: a cell with the same one is not computed again."""
    scores: dict[str, list[float | None]]
    """H values a metric, in the metric's own unit (not percent); None where it is not defined."""
    intervals: dict[str, tuple[float, float]]
    """95 % bootstrap interval of the mean over seeds, for the metrics that have one."""
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
    notes: list[str]
    protocol: dict[str, Any]
    """All settings of the probe."""
    features_made_by: list[dict[str, str]]
    versions: dict[str, str]
    seconds: dict[str, float]
    predictions: str
    """SHA-256 of the predictions file."""


class Failure(_Stored):
    """Why a cell could not be measured."""

    coordinates: Coordinates
    reason: str
    synthetic: bool = False
    traceback: str = ""


@dataclass(frozen=True)
class Cells:
    """The cells of a results folder.

    Args:
        out: the folder; need not exist yet.
    """

    out: Path

    def get(self, coordinates: Coordinates, identity: dict[str, str | int]) -> Cell | None:
        """The finished cell of this very identity, or None if it must be measured."""
        try:
            cell = _read(self._path(coordinates, ".json"), Cell)
        except UserError:
            return None  # it is measured again and replaced
        predictions = self._path(coordinates, ".safetensors")
        if cell is None or cell.identity != identity or not predictions.exists():
            return None
        if hashing.digest_file(predictions) != cell.predictions:
            return None
        self._path(coordinates, ".error.json").unlink(missing_ok=True)
        return cell

    def put(self, cell: Cell, probabilities: np.ndarray) -> None:
        """Write a cell.

        Args:
            cell: its `predictions` are filled in here.
            probabilities: float32 [H, N, C] on the test images.
        """
        at = cell.coordinates
        data = safetensors.numpy.save({"probabilities": np.ascontiguousarray(probabilities)})
        files.write_bytes(self._path(at, ".safetensors"), data)
        cell = cell.model_copy(update={"predictions": hashing.digest_bytes(data)})
        files.write_text(self._path(at, ".json"), cell.model_dump_json(indent=1) + "\n")
        self._path(at, ".error.json").unlink(missing_ok=True)

    def fail(self, failure: Failure) -> None:
        """Write down why a cell could not be measured."""
        path = self._path(failure.coordinates, ".error.json")
        files.write_text(path, failure.model_dump_json(indent=1) + "\n")

    def put_task(self, task: Task) -> None:
        """Write names, labels and groups of the test images, to which predictions refer."""
        path = self.out / "tasks" / f"{task.fingerprint}.json"
        if path.exists():
            return
        test = {
            "task": task.name,
            "classes": task.classes,
            "notes": task.notes,
            "synthetic": task.synthetic,
            "names": [image.name for image in task.test.images],
            "labels": task.test.labels.tolist(),
            "groups": task.test.groups,
        }
        files.write_bytes(path, hashing.canonical_json(test) + b"\n")

    def probabilities(self, coordinates: Coordinates) -> np.ndarray:
        """Predictions of a cell, float32 [H, N, C]."""
        path = self._path(coordinates, ".safetensors")
        return safetensors.numpy.load_file(path)["probabilities"]

    def gather(self) -> list[Cell | Failure]:
        """Every cell of the folder, an error where there is one, in order of coordinates."""
        found: dict[Coordinates, Cell | Failure] = {}
        folder = self.out / "cells"
        paths = [p for p in folder.glob("*/*/*.json") if not p.name.startswith(".")]
        # Errors come last, so that they stand in front of an older cell.
        for path in sorted(paths, key=lambda p: (p.name.endswith(".error.json"), p)):
            failed = path.name.endswith(".error.json")
            entry = _read(path, Failure) if failed else _read(path, Cell)
            if entry is not None:
                found[entry.coordinates] = entry
        return [found[at] for at in sorted(found)]

    def _path(self, coordinates: Coordinates, suffix: str) -> Path:
        path = self.out / "cells" / coordinates.path
        return path.with_name(path.name + suffix)


def identity(
    *,
    model: str,
    task: str,
    protocol: str,
    dtype: str,
    seeds: int,
    fewshot: int,
    corruption: str,
    masks: str,
) -> dict[str, str | int]:
    """What a cell's numbers depend on.

    Args:
        model: fingerprint.
        task: fingerprint.
        protocol: digest of the probe's settings.
        dtype: how the features were rounded.
        seeds: number of them.
        fewshot: version of the draw; 0 for all images.
        corruption: name and version, or "none".
        masks: fingerprint of the test images' scan masks if the corruption looks at them.
    """
    return {
        "format": FORMAT,
        "model": model,
        "task": task,
        "protocol": protocol,
        "dtype": dtype,
        "seeds": seeds,
        "fewshot": fewshot,
        "corruption": corruption,
        "masks": masks,
    }


def _read(path: Path, kind: type[T]) -> T | None:
    """The file's content, or None if there is no such file."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(
            f"{path} is damaged or was written by another version; delete it and run again"
        ) from error
