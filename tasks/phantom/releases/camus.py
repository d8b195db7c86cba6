"""CAMUS: `CAMUS_public/{database_nifti,database_split}`, half sequences of both views."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tasks.camus import FOLDS, LISTS, QUALITIES, VIEWS
from tasks.phantom.anatomy import heart
from tasks.phantom.array_files import nifti
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Motion, Study, grey
from tasks.phantom.plan import PhantomPlan, Size, write, write_lines

PATIENTS, FEWEST = 10, 6
FRAMES = 3
_STYLE = Style(
    depth=(130, 170),
    frequency=(2.0, 3.2),
    radius=(4, 8),
    half_angle=(36, 40),
    height=(200, 260),
)
_STYLES = tuple(
    replace(_STYLE, gain=gain, dynamic_range=shown)
    for gain, shown in (((-13, -9), (42, 48)), ((-8, -4), (50, 56)), ((-3, 3), (58, 66)))
)


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item a patient and view."""
    base = folder / "CAMUS_public"
    patients = range(1, max(FEWEST, size.count(PATIENTS)) + 1)
    items = [
        partial(_write_view, base / "database_nifti", size, seed, patient, view)
        for patient in patients
        for view in VIEWS
    ]

    def finish(_: list[None]) -> None:
        names = [f"patient{patient:04}" for patient in patients]
        for fold in range(FOLDS):
            turned = [*names[fold % len(names) :], *names[: fold % len(names)]]
            for part, listed in zip(LISTS, (turned[2:], turned[1:2], turned[:1]), strict=True):
                write_lines(base / f"database_split/subGroup{fold + 1}_{part}.txt", listed)

    return PhantomPlan(items, finish)


def _write_view(base: Path, size: Size, seed: int, patient: int, view: str) -> None:
    rng = generator(seed, f"camus/{patient}/record")
    age, squeeze = int(rng.integers(20, 90)), float(rng.uniform(0.08, 0.28))
    quality = (2 * patient + VIEWS.index(view)) % len(QUALITIES)
    study = Study(seed, f"camus/{patient}/{view}", _STYLES[quality], size.pixels)
    scanner = study.machine()
    images, masks = [], []
    for frame in range(FRAMES):
        now = squeeze * frame / (FRAMES - 1)
        picture = study.take(
            partial(heart.apical, right_heart=view == "4CH", squeeze=now),
            Motion(frame, keep=0.9),
            scanner,
        )
        codes = np.zeros(picture.image.shape[:2], np.uint8)
        found = picture.finding
        for code, border in ((3, found.atrium), (2, found.muscle), (1, found.cavity)):
            codes[picture.mask(border)] = code
        # Stored as [x, y], which UltraBench turns by np.rot90(a, axes=(1, 0)).
        images.append(np.rot90(grey(picture.image)))
        masks.append(np.rot90(codes))
    stem = base / f"patient{patient:04}/patient{patient:04}_{view}"
    for values, end in ((images, ""), (masks, "_gt")):
        parts = {"half_sequence": np.stack(values, axis=-1), "ED": values[0], "ES": values[-1]}
        for kind, part in parts.items():
            write(Path(f"{stem}_{kind}{end}.nii.gz"), nifti(part, scanner.canvas.pixel))
    about = {"ED": 1, "ES": FRAMES, "NbFrame": FRAMES, "Sex": "FM"[patient % 2], "Age": age}
    about |= {"ImageQuality": QUALITIES[quality], "EF": round(100 * (1 - (1 - squeeze) ** 3))}
    about |= {"FrameRate": 50.0}
    write_lines(
        stem.parent / f"Info_{view}.cfg", [f"{key}: {value}" for key, value in about.items()]
    )
