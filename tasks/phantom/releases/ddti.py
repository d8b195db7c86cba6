"""DDTI: `<case>_<k>.jpg` and `<case>.xml` in one folder, with the original's traps."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tasks.phantom.anatomy import breast
from tasks.phantom.picture import Study, jpeg
from tasks.phantom.plan import PhantomPlan, Size, shuffled, write
from tasks.phantom.releases.tn5000 import STYLE

CASES = (34, 26)  # benign, malignant
VIEWS = 3  # images of every third case; the others have one
EMPTY, CUT_OFF, TWICE = 4, 5, 7
"""Cases whose outline is empty, or cut off after 2500 characters, or whose image is the same as
that of the case before."""
_TIRADS = ("2", "4b")


def plan(folder: Path, size: Size, seed: int) -> PhantomPlan:
    """One item a case."""
    codes = shuffled(seed, "ddti/classes", [size.count(n) for n in CASES])
    items = [
        partial(_write_case, folder, size, seed, case, code) for case, code in enumerate(codes, 1)
    ]

    def finish(_: list[None]) -> None:
        shutil.copyfile(folder / f"{TWICE - 1}_1.jpg", folder / f"{TWICE}_1.jpg")

    return PhantomPlan(items, finish)


def _write_case(folder: Path, size: Size, seed: int, case: int, code: int) -> None:
    marks = []
    for number in range(1, (VIEWS if case % 3 == 0 else 1) + 1):
        study = Study(seed, f"ddti/{case}/{number}", STYLE, size.pixels)
        picture = study.take(lambda scene, rng: breast.thyroid(scene, rng, malignant=code == 1))
        write(folder / f"{case}_{number}.jpg", jpeg(picture.image))
        text = _outline(picture.pixels(picture.finding), case)
        marks.append(f"<mark><image>{number}</image><svg>{text}</svg></mark>")
    write(
        folder / f"{case}.xml",
        f"<case><number>{case}</number><age></age><sex></sex><tirads>{_TIRADS[code]}</tirads>"
        f"{''.join(marks)}</case>",
    )


def _outline(points: np.ndarray, case: int) -> str:
    if case == EMPTY:
        return ""
    drawn = [{"x": int(x), "y": int(y)} for x, y in np.rint(points)]
    regions = [_region("freehand", drawn), _region("arrow", drawn[:2])]
    if case == CUT_OFF:
        return json.dumps(regions * 9)[:2500]
    return json.dumps(regions)


def _region(kind: str, points: list[dict[str, int]]) -> dict[str, Any]:
    return {"points": points, "annotation": {}, "regionType": kind}
