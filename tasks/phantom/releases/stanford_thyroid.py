"""Stanford thyroid: `dataset.hdf5` and `metadata.csv`."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from tasks.phantom.anatomy import breast
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Study, fitted, grey
from tasks.phantom.plan import PhantomPlan, Size, write, write_lines
from tasks.stanford_thyroid import PATIENTS

LINEAR = (1, 2)  # patients who are not of a convex probe
SHAPE = (180, 220)
_STYLE = Style(
    depth=(40, 60),
    frequency=(6, 9),
    radius=(12, 20),
    half_angle=(30, 36),
    height=(160, 175),
    gain=(-12, 0),
)
_COLUMNS = (
    "annot_id,age,sex,location,size_x,size_y,size_z,ti-rads_level,ti-rads_composition,"
    "ti-rads_echogenicity,ti-rads_shape,ti-rads_margin,ti-rads_echogenicfoci,histopath_diagnosis"
)


class _Sweep(NamedTuple):
    """A patient's clip of one frame."""

    annotation: str
    image: np.ndarray
    mask: np.ndarray
    line: str


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item a patient; all of UltraBench's list, which its tool wants, if the size allows."""
    patients = [*LINEAR, *PATIENTS[: size.count(len(PATIENTS))]]
    items = [partial(_clip, size, seed, patient) for patient in patients]
    return PhantomPlan(items, partial(_write, folder))


def _clip(size: Size, seed: int, patient: int) -> _Sweep:
    rng = generator(seed, f"stanford_thyroid/{patient}/record")
    malignant = bool(rng.random() < 0.4)
    study = Study(seed, f"stanford_thyroid/{patient}", _STYLE, size.pixels)
    picture = study.take(lambda scene, rng: breast.thyroid(scene, rng, malignant))
    shape = tuple(round(side * size.pixels) for side in SHAPE)
    mask = fitted(picture.mask(picture.finding).astype(np.uint8) * np.uint8(255), shape)
    sizes = ",".join(f"{value:.1f}" for value in rng.uniform(1, 4, 3))
    age, sex = int(rng.integers(20, 80)), ("Female", "Male")[int(rng.integers(2))]
    level = 4 if malignant else 3
    line = f"{patient}_,{age},{sex},isthmus,{sizes},{level},2,1,0,0,0,{int(malignant)}"
    return _Sweep(f"{patient}_", fitted(grey(picture.image), shape), mask, line)


def _write(folder: Path, clips: list[_Sweep]) -> None:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name, values in (
            ("image", [c.image for c in clips]),
            ("mask", [c.mask for c in clips]),
        ):
            file.create_dataset(name, data=np.stack(values), chunks=(1, *values[0].shape))
        names = [clip.annotation for clip in clips]
        file.create_dataset("annot_id", data=names, dtype=h5py.string_dtype())
        file.create_dataset("frame_num", data=np.ones(len(clips), np.int64))
    write(folder / "dataset.hdf5", buffer.getvalue())
    write_lines(folder / "metadata.csv", [_COLUMNS, *(clip.line for clip in clips)])
