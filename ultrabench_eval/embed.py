"""Features of a task's images as a table, for anyone's own analysis.

N is the number of images of all splits, D the feature width.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tasks as task_zoo
from tasks.task import Split, Task
from ultrabench_eval import loading, plugins, precision
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.encode import encode
from ultrabench_eval.loading import Model, Problems
from ultrabench_eval.pipeline import default_cache
from ultrabench_eval.versions import versions


@dataclass(frozen=True)
class Embedding:
    """Features of a task's images.

    Args:
        model: that made them.
        task: whose images they are of; all splits in order.
        features: float32 [N, D].
    """

    model: Model
    task: Task
    features: np.ndarray

    @property
    def made_by(self) -> dict[str, Any]:
        """What the features depend on, as plain data."""
        return {
            "model": self.model.name,
            "model_fingerprint": self.model.fingerprint,
            "random_weights": self.model.random_weights,
            "dtype": self.model.numerics,
            **{f"model_{name}": value for name, value in self.model.info.items()},
            "task": self.task.name,
            "task_fingerprint": self.task.fingerprint,
            "synthetic": self.task.synthetic,
            "classes": list(self.task.classes),
            "versions": versions(),
        }

    @property
    def columns(self) -> dict[str, list[Any]]:
        """Of each image what is known of it: id, sha256, split, label, code, group."""
        rows = [
            (item.image.name, digest, name, self.task.told(item), item.number, item.group)
            for name, split in splits_of(self.task).items()
            for item, digest in zip(split.items, split.digests, strict=True)
        ]
        names = ("id", "sha256", "split", "label", "code", "group")
        return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def embed(
    model: str,
    task: str | Path,
    *,
    data: Path | str | None = None,
    weights: Mapping[str, Path | str] | None = None,
    plugin_files: Sequence[Path | str] = (),
    device: str = "auto",
    dtype: str = "auto",
    accept_license: bool = False,
    cache: Path | str | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Embedding:
    """The features that probes are trained on, of all images of a task.

    Args:
        model: a name of `model_zoo.names()`, with `/<pooling>` for another pooling.
        task: a name of `tasks.names()`, or a manifest.
        data: see `pipeline.run`; likewise all others.
        weights: see `pipeline.run`.
        plugin_files: see `pipeline.run`.
        device: see `model_zoo.load`.
        dtype: see `model_zoo.load`.
        accept_license: see `model_zoo.load`.
        cache: where features are kept; what is there is not encoded again.
        report: called with how many of how many images are encoded.

    Raises:
        Problems: the model or the task cannot be loaded.
        UserError: an image cannot be read.
    """
    for file in plugin_files:
        plugins.load_file(Path(file))
    label = task_zoo.label(str(task))
    planned = loading.make(
        [model],
        [str(task)],
        data=Path(data) if data else None,
        weights={name: str(path) for name, path in (weights or {}).items()},
        device=device,
        dtype=dtype,
        accept_license=accept_license,
        partial=True,
    )
    made, known = planned.models[model], planned.tasks[label]
    if isinstance(made, str) or isinstance(known, str):
        raise Problems(planned.problems)
    folder = Path(cache) if cache else default_cache()
    precision.settle(made, known.test.images, folder)
    images = [image for split in splits_of(known).values() for image in split.images]
    found = encode(made, images, folder, report=report).whole()
    return Embedding(made, known, found.numpy())


def splits_of(task: Task) -> dict[str, Split]:
    """The splits of a task, each sample in one of them; of one with folds, their test parts."""
    folds = {f"fold {number}": fold.test for number, fold in enumerate(task.folds, 1)}
    return folds or task.splits


def check_installed(path: Path) -> None:
    """See that the file can be written, before anything is encoded.

    Raises:
        UserError: it has another suffix, or the package that writes it is missing.
    """
    if path.suffix != ".parquet":
        raise UserError(f"--out {path} is not a .parquet file; give it that suffix")
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError("Parquet files need the package pyarrow; run: pip install pyarrow")


def write(embedding: Embedding, path: Path) -> None:
    """Write a Parquet file: the columns, `features` as lists of D numbers, and what made them.

    The latter is JSON under the key "ultrabench_eval" of the file's metadata.
    """
    import pyarrow as pa
    from pyarrow import parquet

    width = embedding.features.shape[1]
    numbers = pa.array(np.ascontiguousarray(embedding.features).reshape(-1))
    table = pa.table(
        {
            **embedding.columns,
            "features": pa.FixedSizeListArray.from_arrays(numbers, width),
        }
    )
    made_by = json.dumps(embedding.made_by, sort_keys=True)
    with files.atomic_path(path) as temporary:
        parquet.write_table(table.replace_schema_metadata({"ultrabench_eval": made_by}), temporary)
