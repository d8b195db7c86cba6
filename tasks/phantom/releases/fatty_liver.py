"""FATTY LIVER: one `.mat` file with a struct array of 55 patients."""

from __future__ import annotations

import io
from functools import partial
from pathlib import Path

import numpy as np
import scipy.io

from tasks.phantom.anatomy import liver
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Motion, Study, fitted, grey
from tasks.phantom.plan import PhantomPlan, Size, write

FILE = "dataset_liver_bmodes_steatosis_assessment_IJCARS.mat"
PATIENTS, NORMAL = 55, 17  # as in the original, patients 1 to 17 have less than 5 % of fat
FRAMES = 3
SHAPE = (217, 318)  # half the original's 434 x 636
STYLE = Style(
    depth=(130, 160),
    frequency=(2.4, 3.4),
    half_angle=(30, 35),
    height=(217, 217),
    margin=(0.01, 0.05),
    gain=(-14, -9),
)
_HEADER = b"MATLAB 5.0 MAT-file, simulated by the phantom suite of ultrabench_eval"
_HEADER_LENGTH = 116


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item a patient; the file is written at the end."""
    items = [partial(_patient, size, seed, patient) for patient in range(1, PATIENTS + 1)]
    return PhantomPlan(items, partial(_write, folder / FILE))


def _patient(size: Size, seed: int, patient: int) -> tuple[int, int, float, np.ndarray]:
    """The fields of one patient: id, class, fat in percent, images uint8 [F, H, W]."""
    rng = generator(seed, f"fatty_liver/{patient}/record")
    low, high = (0, 4) if patient <= NORMAL else (5, 80)
    fat = float(rng.integers(low, high + 1))
    study = Study(seed, f"fatty_liver/{patient}", STYLE, size.pixels)
    scanner = study.machine()
    shape = tuple(round(n * size.pixels) for n in SHAPE)
    drift = rng.normal(0, 0.25, 2)
    frames = []
    # The original has ten frames; three do for the small suite, since they are near copies.
    for frame in range(FRAMES if size.more <= 1 else 10):
        picture = study.take(
            lambda scene, rng: liver.steatosis(scene, rng, fat),
            Motion(frame, (float(drift[0]) * frame, float(drift[1]) * frame), keep=0.95),
            scanner,
        )
        frames.append(fitted(grey(picture.image), shape))
    return patient, int(fat >= 5), fat, np.stack(frames)


def _write(path: Path, patients: list[tuple[int, int, float, np.ndarray]]) -> None:
    fields = [(name, object) for name in ("id", "class", "fat", "images")]
    data = np.empty((1, len(patients)), dtype=fields)
    for column, patient in enumerate(patients):
        data[0, column] = patient
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"data": data}, do_compression=True)  # type: ignore[arg-type]
    # The header is free text in which SciPy puts the time of day.
    write(path, _HEADER.ljust(_HEADER_LENGTH) + buffer.getvalue()[_HEADER_LENGTH:])
