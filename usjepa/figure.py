"""What masks look like on real frames: region, valid patches, and blocks without and with them.

Frames go the way of training: grey, stretched, squeezed into the square, but whole and unchanged.
It is drawn here and not by `ubench report`, because the harness knows nothing of training.

S is the side of the model's input, G that of its grid of patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import PIL.ImageColor
import torch
from torch import Tensor

from tasks.task import Task
from ultrabench_eval.core import drawing, sheets
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.sheets import SheetRow, Tile
from usjepa import augment
from usjepa.config import Config
from usjepa.frames import preprocess
from usjepa.frames.store import Frame
from usjepa.masks import Masks, MultiBlock

REGION = "#3cff3c"
CONTEXT = "#56B4E9"
# One for each target block: apart from the context's and from each other.
TARGETS = ("#E69F00", "#D55E00", "#F0E442", "#CC79A7")
HEADERS = ("frame, region", "valid patches", "without region", "with region (USrc)")
DPI = 150


def masks(tasks: Sequence[Task], config: Config) -> dict[str, bytes]:
    """masks.svg, .png and .pdf by name: one row per task, its first training image.

    Args:
        tasks: one or more.
        config: of a run; its blocks are drawn once without and once with the regions.

    Raises:
        UserError: an image or mask cannot be read, or the objective has no blocks.
    """
    if config.video is not None:
        raise UserError(
            f"configuration {config.name} masks clips, which are not drawn; give one of stills"
        )
    if config.objective == "mae":
        raise UserError(
            f"configuration {config.name} hides patches at random, whatever the region; give one "
            "whose objective is salt or ijepa"
        )
    conditioned = replace(config, region_conditioning=True)
    sampler = MultiBlock(config.masks, (config.model.grid, config.model.grid), config.seed)
    names, frames, outlined = [], [], []
    for task in tasks:
        image, mask = task.train.images[0].read(), _mask(task)
        names.append(f"{task.name} (SYNTHETIC)" if task.synthetic else task.name)
        caption = (
            f"{task.train.images[0].name.rpartition('/')[2]}: region {100 * mask.mean():.0f} %"
        )
        outlined.append(Tile(image, caption, [(mask, REGION)]))
        frames.append(Frame(_grey(image, config), mask))
    seen = [augment.plain(frame, conditioned) for frame in frames]
    valid = np.stack([one.valid for one in seen if one.valid is not None])
    plain = sampler.sample(len(tasks), 0)
    inside = sampler.sample(len(tasks), 0, region=torch.from_numpy(valid))
    rows = []
    for place, name in enumerate(names):
        pixels = seen[place].pixels
        tiles = [
            outlined[place],
            _valid(pixels, valid[place]),
            _blocks(pixels, plain, place, config.model.grid),
            _blocks(pixels, inside, place, config.model.grid),
        ]
        rows.append(SheetRow(name, tiles))
    figure = sheets.sheet(_title(tasks, config), rows, HEADERS, _legend(config))
    return drawing.files(figure, "masks", DPI)


def _title(tasks: Iterable[Task], config: Config) -> list[str]:
    mark = "SYNTHETIC: " if any(task.synthetic for task in tasks) else ""
    return [
        f"{mark}Masks without and with ultrasound regions, configuration {config.name}",
        "first training image of each task; the same draws in both",
    ]


def _legend(config: Config) -> list[tuple[str, str]]:
    count = config.masks.target_count
    blocks = [(TARGETS[n % len(TARGETS)], f"target {n + 1}") for n in range(min(count, 4))]
    return [(REGION, "region"), (CONTEXT, "context, seen by the student"), *blocks]


def _mask(task: Task) -> np.ndarray:
    """The region of the first training image, bool [H, W]; everything where the task has none."""
    if task.train.scan_masks:
        return task.train.scan_masks[0].read()
    return np.ones(task.train.images[0].read().shape[:2], bool)


def _grey(image: np.ndarray, config: Config) -> np.ndarray:
    return preprocess.grey(image, config.data.inpaint_below) if config.data.grey else image


def _valid(pixels: np.ndarray, valid: np.ndarray) -> Tile:
    """The model's input with invalid patches darkened."""
    mask = _enlarged(valid, len(pixels))
    shown = np.where(mask[..., None], _colour(pixels), _colour(pixels) // 3)
    caption = f"{int(valid.sum())} of {valid.size} patches"
    return Tile(shown.astype(np.uint8), caption, [(mask, REGION)])


def _blocks(pixels: np.ndarray, drawn: Masks, place: int, grid: int) -> Tile:
    """The model's input, context tinted, patches that nobody sees darkened, targets framed."""
    side = len(pixels)
    context = _patches(drawn.context[place], _row(drawn.context_real, place), grid)
    real = _row(drawn.targets_real, place)
    targets = [
        _patches(block, None if real is None else real[n], grid)
        for n, block in enumerate(drawn.targets[place])
    ]
    shown = _colour(pixels).astype(np.float32)
    seen = _enlarged(context, side)
    shown[seen] = 0.7 * shown[seen] + 0.3 * np.array(PIL.ImageColor.getrgb(CONTEXT), np.float32)
    nobody = _enlarged(~(context | np.any(targets, axis=0)), side)
    shown[nobody] *= 0.35
    counts = sorted(int(block.sum()) for block in targets)
    many = f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]} to {counts[-1]}"
    caption = f"context {int(context.sum())}, {len(targets)} targets of {many}"
    outlines = [
        (_enlarged(block, side), TARGETS[n % len(TARGETS)]) for n, block in enumerate(targets)
    ]
    return Tile(shown.round().astype(np.uint8), caption, outlines)


def _row(real: Tensor | None, place: int) -> Tensor | None:
    return None if real is None else real[place]


def _patches(numbers: Tensor, real: Tensor | None, grid: int) -> np.ndarray:
    """A list of patches as a mask, bool [G, G]."""
    mask = np.zeros(grid * grid, bool)
    mask[(numbers if real is None else numbers[real]).numpy()] = True
    return mask.reshape(grid, grid)


def _enlarged(patches: np.ndarray, side: int) -> np.ndarray:
    """A mask of patches, bool [G, G], in pixels, bool [S, S]."""
    size = side // len(patches)
    return patches.repeat(size, axis=0).repeat(size, axis=1)


def _colour(pixels: np.ndarray) -> np.ndarray:
    """uint8 [S, S, 3], whether or not it was grey."""
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
