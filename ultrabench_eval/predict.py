"""Predictions of a run's kept probes on any images: what the measured classifier says of them.

N is the number of images, C of classes, H of seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.own_data import image_files
from tasks.own_data.reading import Reading
from tasks.samples.images import Image
from ultrabench_eval import loading, plugins, probes, task_types
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError, not_found
from ultrabench_eval.encode import encode
from ultrabench_eval.finetune import PreparedImages, Tunable
from ultrabench_eval.measure import recognise
from ultrabench_eval.pipeline import default_cache
from ultrabench_eval.probe_files import Inputs, ProbeFiles
from ultrabench_eval.task_types import calibration

SHOWN = 5  # bad images that are named


@dataclass(frozen=True)
class Predictions:
    """What a run's probes say of N images.

    Args:
        names: of the images, as given.
        probabilities: [N, C], rows sum to 1.
        cell: the result whose probes they are.
        seed: which of them; None for the mean over all.
        calibrated: whether temperatures were applied.
        warnings: a sentence for each way in which the images differ from the task's.
    """

    names: tuple[str, ...]
    probabilities: np.ndarray
    cell: Cell
    seed: int | None
    calibrated: bool
    warnings: tuple[str, ...]

    def csv(self) -> bytes:
        """A row per image: its path, the class, a column per class, and what made them."""
        at, identity = self.cell.coordinates, self.cell.identity
        made_by = {
            "model": at.model,
            "model_fingerprint": identity["model"],
            "task": at.task,
            "task_fingerprint": identity["task"],
            "probe": at.probe,
            "protocol": at.protocol,
            "fraction": at.fraction,
            "seed": f"mean of {len(self.cell.heads)}" if self.seed is None else self.seed,
            "calibrated": "yes" if self.calibrated else "no",
        }
        classes = self.cell.classes
        rows: list[list[object]] = [
            ["image", "prediction", *(f"p_{name}" for name in classes), *made_by]
        ]
        for name, row in zip(self.names, self.probabilities.tolist(), strict=True):
            called = classes[int(np.argmax(row))]
            rows.append([name, called, *map(repr, row), *made_by.values()])
        return files.csv_text(rows).encode()


def predict(
    run: Path | str,
    model: str,
    images: Sequence[Path | str],
    *,
    task: str | None = None,
    probe: str | None = None,
    protocol: str | None = None,
    fraction: int = 100,
    seed: int | None = None,
    calibrated: bool = True,
    weights: Mapping[str, Path | str] | None = None,
    plugin_files: Sequence[Path | str] = (),
    reading: Reading | None = None,
    device: str = "auto",
    cache: Path | str | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Predictions:
    """Class probabilities of images by the probes that a run kept (`keep_probes`).

    Args:
        run: its results folder.
        model: a model of it.
        images: files, or folders whose images are all meant, those of sub-folders too.
        task: which, if the model was measured on several; likewise `probe` and `protocol`, the
            latter by its id ("paper-8e6ee25b") or name ("paper").
        probe: see `task`.
        protocol: see `task`.
        fraction: percent of the training images that the probe was trained on.
        seed: of the probe; None for the mean of the probabilities of all.
        calibrated: apply the temperature that was fitted on the validation images for each seed.
        weights: see `pipeline.run`.
        plugin_files: see `pipeline.run`.
        reading: frames and window of DICOM, NIfTI and MetaImage files.
        device: see `model_zoo.load`.
        cache: of features; default as of `pipeline.run`.
        report: called with how many of how many images are encoded.

    Raises:
        UserError: no such result, several, its probes were not kept or are damaged, the model is
            another than that of the run, or images cannot be read. Nothing was predicted then.
    """
    for file in plugin_files:
        plugins.load_file(Path(file))
    out = Path(run)
    cell = _chosen(out, model, task, probe, protocol, fraction)
    if (kind := task_types.predicts(cell.type)) != "classes":
        raise UserError(
            f"the result of model '{model}' on task '{cell.coordinates.task}' predicts {kind}, and "
            "`ubench predict` gives classes only; name a task of classes by --task"
        )
    if cell.task.get("samples") == "clip":
        raise UserError(
            f"task '{cell.coordinates.task}' holds videos, and `ubench predict` reads images; name "
            "a task of images by --task"
        )
    kept = ProbeFiles(out).get(cell)
    if kept is None:
        raise UserError(
            f"the probes of model '{model}' on task '{cell.coordinates.task}' were not kept in "
            f"{out}; run the same `ubench run` command again with --keep-probes, which encodes "
            "nothing again"
        )
    facts, trained = kept
    seeds = [head.seed for head in trained.heads]
    if seed is not None and seed not in seeds:
        raise UserError(f"no probe has the seed {seed}; there are {', '.join(map(str, seeds))}")
    given = _images(images, reading or Reading())
    warnings = _warnings(given, facts.inputs)  # reads every image, so a bad one is found now
    loaded = loading.same_model(
        model,
        {name: str(path) for name, path in (weights or {}).items()},
        device,
        numerics=str(cell.identity["dtype"]),
        fingerprint=str(cell.identity["model"]),
        random_weights=cell.random_weights,
    )
    folder = Path(cache) if cache else default_cache()
    recognise(loaded, folder, out)
    reads = probes.get(cell.coordinates.probe).reads
    x: Any
    if reads == "images":
        x = PreparedImages(given, [one.digest() for one in given], Tunable(loaded, folder))
    else:
        encoded = encode(loaded, given, folder, reads, report)
        x = encoded.whole() if reads == "pooled" else encoded
    found = trained.predict(x).numpy()  # [H, N, C]
    if calibrated:
        found = calibration.apply(found, np.array(facts.temperatures)[:, None])
    found = found.mean(0, dtype=np.float64) if seed is None else found[seeds.index(seed)]
    return Predictions(
        tuple(image.name for image in given), found, cell, seed, calibrated, tuple(warnings)
    )


def _chosen(
    out: Path, model: str, task: str | None, probe: str | None, protocol: str | None, fraction: int
) -> Cell:
    """The one result that is meant."""
    if not (out / "cells").is_dir():
        raise not_found("results", out / "cells", "name a folder of `ubench run --out`")
    found = [
        entry
        for entry in Cells(out).gather()
        if isinstance(entry, Cell) and entry.coordinates.corruption == "none"
    ]
    asked = {
        **{"model": model, "task": task, "probe": probe, "protocol": protocol},
        "fraction": str(fraction),
    }
    for name, value in asked.items():
        there = dict.fromkeys(str(getattr(one.coordinates, name)) for one in found)
        meant = [word for word in there if value in (None, word)]
        if name == "protocol" and not meant:  # by its name, which stands before the digits
            meant = [word for word in there if word.rpartition("-")[0] == value]
        if not meant:
            raise UserError(
                f"{out} holds no result of {name} '{value}'; it has {', '.join(there) or 'none'}"
            )
        if len(meant) > 1:
            raise UserError(
                f"model '{model}' has results of several {name}s in {out}; name one: "
                f"--{name} {' or '.join(meant)}"
            )
        found = [one for one in found if str(getattr(one.coordinates, name)) == meant[0]]
    (cell,) = found
    return cell


def _images(given: Sequence[Path | str], reading: Reading) -> list[Image]:
    """The images that are meant, in the order given; those of a folder by name."""
    paths: list[Path] = []
    for one in map(Path, given):
        if not one.is_dir():
            paths.append(one)
            continue
        inside = sorted(
            path
            for path in one.rglob("*")
            if not path.name.startswith(".") and path.is_file() and image_files.is_image(path)
        )
        if not inside:
            raise UserError(f"the folder {one} holds no images; name another, or the files")
        paths += inside
    if not paths:
        raise UserError("no images are named; write their files or folders")
    return [image for path in paths for image in image_files.images_of(path, reading)]


def _warnings(images: Sequence[Image], inputs: Inputs) -> list[str]:
    """How images differ from those that the probe was trained on.

    Raises:
        UserError: some cannot be read.
    """
    unlike: dict[str, list[str]] = {}
    broken: list[str] = []
    for image in images:
        try:
            for what in inputs.unlike(image.read()):
                unlike.setdefault(what, []).append(image.name)
        except UserError as error:
            broken.append(str(error))
    if broken:
        more = f"; and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
        raise UserError("; ".join(broken[:SHOWN]) + more)
    return [
        f"{len(names)} of {len(images)} images {what}, such as {names[0]}: probabilities for such "
        "images were not measured"
        for what, names in unlike.items()
    ]


def write(predictions: Predictions, path: Path) -> None:
    """Write the CSV file, whole or not at all."""
    files.write_bytes(path, predictions.csv())
