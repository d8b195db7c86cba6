"""BUSBRA: `BUSBRA/{Images,Masks}`, `bus_data.csv` and the authors' cross-validation tables."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tasks.phantom.anatomy import breast
from tasks.phantom.machine import Machine, Style, draw, generator
from tasks.phantom.picture import Motion, Study, grey, png
from tasks.phantom.plan import PhantomPlan, Size, shuffled, write, write_lines

PATHOLOGY = ("benign", "malignant")
PATIENTS = (120, 66)
SINGLE_VIEW = 0.4  # share of patients with one image, `-s`; the others have `-l` and `-r`
COLUMNS = "ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"
_HISTOLOGY = (
    ("fibroadenoma", "fibroadenoma", "fibroadenoma", "fibrocystic changes", "hyperplasia"),
    ("invasive ductal carcinoma", "invasive ductal carcinoma", "invasive lobular carcinoma"),
)
_BIRADS = ((2, 2, 3, 3, 4), (4, 4, 4, 5, 3))
_STYLE = Style(
    depth=(28, 45),
    frequency=(8, 12),
    half_width=(13, 22),
    height=(230, 320),
    margin=(0, 0),
    gain=(-14, 2),
    words=("MAMA DIR", "MAMA ESQ", "QSE MAMA", "UQEXT", "2H"),
    clutter={"text": 0.7, "calipers": 0.45, "ticks": 0.3},
)
_DEVICES = (
    ("Phantom A @10-14MHz", replace(_STYLE, frequency=(9.5, 13), dynamic_range=(44, 54))),
    ("Phantom B @10-12MHz", replace(_STYLE, gain=(-18, -4), dynamic_range=(56, 68))),
    ("Phantom C @12-14 MHz", replace(_STYLE, frequency=(11, 13), clutter={"text": 0.4})),
)


@dataclass(frozen=True)
class _Row:
    """One line of `bus_data.csv` and what the fold tables need."""

    name: str
    pathology: str
    line: str


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item a patient."""
    base = folder / "BUSBRA"
    codes = shuffled(seed, "busbra/classes", [size.count(n) for n in PATIENTS])
    items = [
        partial(_write_patient, base, size, seed, case, code) for case, code in enumerate(codes, 1)
    ]
    return PhantomPlan(items, partial(_write_tables, base, seed))


def _write_patient(base: Path, size: Size, seed: int, case: int, code: int) -> list[_Row]:
    rng = generator(seed, f"busbra/{case}/record")
    views = "s" if rng.random() < SINGLE_VIEW else "lr"
    device, style = _DEVICES[int(rng.integers(len(_DEVICES)))]
    histology = str(rng.choice(_HISTOLOGY[code]))
    birads = int(rng.choice(_BIRADS[code]))
    shifts = {"l": (0.0, 0.0), "s": (0.0, 0.0), "r": (rng.uniform(-3, 3), rng.uniform(-1, 1))}
    scanner = draw(generator(seed, f"busbra/{case}/machine"), style, size.pixels)
    rows = []
    for view in views:
        name = f"bus_{case:04d}-{view}"
        study = Study(seed, f"busbra/{case}/{view}", style, size.pixels, f"busbra/{case}")
        box, shape = _write_view(base, name, study, scanner, shifts[view], code)
        side = {"l": "left", "r": "right"}.get(view) or str(rng.choice(["left", "right"]))
        record = f"{name},{case},{histology},{PATHOLOGY[code]},{birads},{device}"
        line = f'{record},{shape[1]},{shape[0]},{side},"{box}"'
        rows.append(_Row(name, PATHOLOGY[code], line))
    return rows


def _write_view(
    base: Path,
    name: str,
    study: Study,
    scanner: Machine,
    shift: tuple[float, float],
    code: int,
) -> tuple[str, tuple[int, int]]:
    picture = study.take(
        lambda scene, rng: breast.breast(scene, rng, malignant=code == 1),
        Motion(shift=shift),
        scanner,
    )
    write(base / f"Images/{name}.png", png(grey(picture.image)))
    write(base / f"Masks/{name.replace('bus', 'mask')}.png", png(picture.mask(picture.finding)))
    left, top, right, bottom = picture.box(picture.finding)
    box = json.dumps([left, top, right - left, bottom - top], separators=(",", ":"))
    return box, (picture.canvas.height, picture.canvas.width)


def _write_tables(base: Path, seed: int, patients: list[list[_Row]]) -> None:
    rows = [row for patient in patients for row in patient]
    write_lines(base / "bus_data.csv", [COLUMNS, *(row.line for row in rows)])
    for folds in (5, 10):
        rng = generator(seed, f"busbra/{folds} folds")
        names = ",".join(f"valid_{k}" for k in range(1, folds + 1))
        lines = [f"ID,Pathology,kFold,{names}"]
        for patient in patients:
            fold = int(rng.integers(1, folds + 1))
            for row in patient:
                # 1 trains, 0 validates; NaN, as the original spells it, marks the test fold.
                use = [
                    "NaN" if k == fold else str(int(rng.random() < 0.9))
                    for k in range(1, folds + 1)
                ]
                lines.append(f"{row.name},{row.pathology},{fold},{','.join(use)}")
        write_lines(base / f"{folds}-fold-cv.csv", lines)
    write(base / "LICENSE.txt", "Simulated images: no person was scanned. Free for any use.\n")
