"""Pictures of a data root's images: as each corruption leaves them, and with their regions.

They show the first test image of each task, so that nobody has chosen it. Nothing here is made from
cells: a run keeps no images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

import tasks as task_zoo
from tasks.samples.clips import still
from tasks.samples.images import Image
from tasks.scan.scan_mask import ClipMask, EstimatedMask
from tasks.task import ScanMask, Task
from ultrabench_eval import corrupt
from ultrabench_eval.core import drawing, sheets
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.sheets import SheetRow, Tile
from ultrabench_eval.corrupt import CorruptedImage
from ultrabench_eval.measure import CORRUPTION_SEED
from ultrabench_eval.report.drawings import canvas
from ultrabench_eval.report.results import sources

DPI = 150  # of noisy pictures, which nothing makes small
OUTLINE = "#3cff3c"
COLUMNS = 4  # tasks per row
Advance = Callable[[str], None]
"""Told what is drawn next."""


def load(
    root: Path, names: Sequence[str] | None = None, run: Path | None = None
) -> tuple[list[Task], list[str]]:
    """Tasks of a data root, and sentences on those that are not available there.

    Args:
        root: with one sub-folder per task, or own data of the run.
        names: of a run's tasks; None for all that have a sub-folder.
        run: the results folder.

    Raises:
        UserError: no such folder, or none of the tasks can be read.
    """
    loaded, missing = [], []
    bases = [task_zoo.split_name(name)[0] for name in names or ()]
    releases = names is None or any(base in task_zoo.registry for base in bases)
    known = task_zoo.names_at(root) if releases else []
    for name in known if names is None else names:
        try:
            loaded.append(sources.load(name, root, run))
        except UserError as error:
            missing.append(f"no pictures of {name}: {error}")
    if not loaded:
        raise UserError(missing[0])
    return loaded, missing


def pictures(tasks: Iterable[Task], advance: Advance = lambda what: None) -> dict[str, bytes]:
    """All pictures of tasks: file name to content.

    Args:
        tasks: in the order in which they are shown.
        advance: told before each picture what it is of.

    Raises:
        UserError: an image or mask cannot be read.
    """
    tasks = list(tasks)
    advance("regions")
    made = regions(tasks)
    for task in tasks:
        of_images = [one for one in corrupt.known().values() if not one.temporal]
        for family in dict.fromkeys(one.family for one in of_images):
            advance(f"{task.name}, corrupted ({family})")
            made |= corrupted(task, family)
    return made


def corrupted(task: Task, family: str) -> dict[str, bytes]:
    """The first test image of a task, a row a corruption and a column a severity.

    These are the very images that a run measures.
    """
    image, mask = _first(task)
    rows = []
    for one in corrupt.known().values():
        if one.family != family:
            continue
        tiles = [Tile(image.read(), "as released")]
        for severity in corrupt.SEVERITIES:
            worse = CorruptedImage(image, mask, one.name, severity, CORRUPTION_SEED)
            tiles.append(Tile(worse.read(), f"{one.level(severity):g} {one.unit}"))
        rows.append(SheetRow(one.name.replace("_", " "), tiles))
    title = [
        canvas.marked(f"Corrupted test images ({family}): {task.name}", task.synthetic),
        ", ".join(["first test image", *_name(task, image)]),
    ]
    headers = ["clean", *(f"severity {severity}" for severity in corrupt.SEVERITIES)]
    figure = sheets.sheet(title, rows, headers)
    return drawing.files(figure, f"figures/corrupted_{family}-{task.name}", DPI)


def regions(tasks: Sequence[Task]) -> dict[str, bytes]:
    """The first test image of each task and the border of its ultrasound region."""
    rows = []
    for start in range(0, len(tasks), COLUMNS):
        tiles = zip(*map(_region, tasks[start : start + COLUMNS]), strict=True)
        rows += [SheetRow(name, of) for name, of in zip(("frame", "region"), tiles, strict=True)]
    title = [
        canvas.marked("Ultrasound regions", any(task.synthetic for task in tasks)),
        "first test image of each task; corruptions and region-conditioned training keep to them",
    ]
    figure = sheets.sheet(title, rows, legend=[(OUTLINE, "border of the region")])
    return drawing.files(figure, "figures/regions", DPI)


def _region(task: Task) -> tuple[Tile, Tile]:
    """The frame, and the frame with what is outside of the region darkened."""
    image, scan_mask = _first(task)
    pixels = image.read()
    if scan_mask is None:
        mask, origin = np.ones(pixels.shape[:2], bool), "the task has none"
    else:
        mask = scan_mask.read()
        guessed = isinstance(scan_mask, EstimatedMask | ClipMask)
        origin = "estimated" if guessed else "of the release"
    dimmed = np.where(mask[..., None], pixels, pixels // 2)
    mark = " (SYNTHETIC)" if task.synthetic else ""
    share = f"{100 * mask.mean():.0f} % of the frame, {origin}"
    words = ": ".join([task.name + mark, *(n.rpartition("/")[2] for n in _name(task, image))])
    return Tile(pixels, words), Tile(dimmed, share, [(mask, OUTLINE)])


def _name(task: Task, image: Image) -> list[str]:
    """An image's name; those of people's own data are left out."""
    return [image.name] if task_zoo.split_name(task.name)[0] in task_zoo.BUILT_IN else []


def _first(task: Task) -> tuple[Image, ScanMask | None]:
    masks = task.test.scan_masks
    return still(task.test.images[0]), masks[0] if masks else None
