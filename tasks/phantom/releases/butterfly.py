"""BUTTERFLY: `butterfly_dataset_<part>/<patient>/<class>/NNN.png`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from tasks.phantom.anatomy import views
from tasks.phantom.machine import Style, generator
from tasks.phantom.picture import Motion, Study, png
from tasks.phantom.plan import PhantomPlan, Size, write

PATIENTS = 31
FIRST_TEST_PATIENT = 26
FRAMES = 2
STYLE = Style(
    depth=(120, 180),
    frequency=(2.2, 4.0),
    radius=(18, 30),
    half_angle=(30, 38),
    height=(200, 260),
    margin=(0.0, 0.03),
    gain=(-15, 0),
    words=("iQ", "Abdomen", "Cardiac"),
    clutter={"text": 0.1, "ticks": 0.3},
)
# The same hand-held probe, set to a small depth for what lies under the skin.
SUPERFICIAL = replace(STYLE, depth=(38, 60), frequency=(6.0, 9.0), half_angle=(22, 28))


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item for each patient and view."""
    items = [
        partial(_write_sweep, folder, size, seed, patient, name)
        for patient in range(1, PATIENTS + 1)
        for name in _views_of(patient, size)
    ]
    return PhantomPlan(items, finish=lambda _: None)


def _views_of(patient: int, size: Size) -> list[str]:
    """Nobody was scanned from everywhere: 4 of 9 views, 6 in larger suites, in rotation."""
    steps = (0, 2, 5, 7) if size.more <= 1 else (0, 1, 2, 4, 5, 7)
    chosen = {(patient * 4 + step) % len(views.VIEWS) for step in steps}
    return [views.VIEWS[k] for k in sorted(chosen)]


def _write_sweep(folder: Path, size: Size, seed: int, patient: int, name: str) -> None:
    if patient >= FIRST_TEST_PATIENT:
        part = "test"
    else:
        part = "training1" if patient <= FIRST_TEST_PATIENT // 2 else "training2"
    style = SUPERFICIAL if name in views.SUPERFICIAL else STYLE
    study = Study(seed, f"butterfly/{patient}/{name}", style, size.pixels)
    rng = generator(seed, f"butterfly/{patient}/{name}/sweep")
    scanner = study.machine()
    frames = FRAMES if size.more <= 1 else 3 * FRAMES
    number = 0
    for frame in range(frames):
        shift = tuple(float(v) for v in rng.normal(0, 0.02, 2) * scanner.canvas.probe.depth)
        picture = study.take(
            lambda scene, rng: views.view(scene, rng, name),
            Motion(frame, (shift[0], 0.4 * shift[1]), keep=0.6),
            scanner,
        )
        number += int(rng.integers(1, 12))
        base = folder / f"butterfly_dataset_{part}/{patient}/{name}"
        write(base / f"{number:03d}.png", png(picture.image))
