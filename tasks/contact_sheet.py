"""Contact sheets: many images with their masks on one page, to check masks by eye."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from tasks.samples.clip_files import ClipFrame
from tasks.samples.clips import is_clip
from tasks.samples.images import Image
from tasks.targets import IGNORED, LabelMask
from tasks.task import Item, ScanMask, Task
from ultrabench_eval.core import files

_CONTOUR, _PAPER, _INK = (60, 255, 60), (32, 32, 40), (235, 235, 235)
_CLASSES = ((255, 150, 0), (0, 200, 255), (255, 70, 200), (255, 240, 0), (150, 110, 255))
"""Colours of label masks by class, from 1 on, over and over."""


def write(
    path: Path,
    images: Iterable[Image],
    masks: Iterable[ScanMask],
    captions: Iterable[str] | None = None,
    labels: Iterable[LabelMask | None] | None = None,
    columns: int = 6,
    cell: int = 224,
) -> None:
    """Write a PNG of images with the border of their scan masks in green and the outside dimmed.

    Label masks are drawn over it by their borders, in a colour for each class.

    Args:
        path: file to write, atomically; its folder is made if need be.
        images: read one at a time.
        masks: bool [H, W] when read, of the size of its image; as many as images.
        captions: a line below each image; its name unless told.
        labels: label masks of the images that have one; as many as images.
        columns: images per row.
        cell: pixels a side of the square that each image is fitted into.

    Raises:
        ValueError: a mask is not of its image's size, or the numbers of images, masks and captions
            differ.
        UserError: an image or mask cannot be read.
    """
    images = list(images)
    names = [image.name for image in images] if captions is None else list(captions)
    labels = [None] * len(images) if labels is None else list(labels)
    tiles = [
        _tile(image.read(), mask.read(), None if label is None else label.read(), name, cell)
        for image, mask, label, name in zip(images, masks, labels, names, strict=True)
    ]
    rows = -(-len(tiles) // columns)
    width, height = cell, cell + _line(cell)
    sheet = PIL.Image.new("RGB", (min(columns, max(len(tiles), 1)) * width, max(rows, 1) * height))
    sheet.paste(_PAPER, (0, 0, *sheet.size))
    for number, tile in enumerate(tiles):
        sheet.paste(tile, (number % columns * width, number // columns * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    files.write_bytes(path, buffer.getvalue())


def of_task(task: Task, path: Path, count: int) -> None:
    """Write a sheet of `count` images taken evenly from all splits of a task, with split and class;
    of videos, three frames each.

    Args:
        task: any task with scan masks.
        path: as for `write`.
        count: images at most.

    Raises:
        UserError: an image or mask cannot be read.
    """
    every = [(name, item) for name, split in task.splits.items() for item in split.items]
    of_cine = FRAMES if task.card.samples == "clip" else 1
    most = max(1, count // of_cine)
    chosen = [every[i * len(every) // most] for i in range(most)] if most < len(every) else every
    shown = [(*one, frame) for one in chosen for frame in _frames(one[1])]
    write(
        path,
        [frame for _, _, frame in shown],
        [item.scan_mask for _, item, _ in shown if item.scan_mask is not None],
        [
            f"{frame.name.rpartition('/')[2]} ({', '.join(filter(None, told))})"
            for name, item, frame in shown
            for told in [(name, task.told(item))]
        ],
        [_label(item, frame) for _, item, frame in shown],
    )


FRAMES = 3
"""Of each video: the first, the middle or the one of its mask, and the last."""


def _frames(item: Item) -> list[Image]:
    """What a sheet shows of a sample."""
    clip = item.image
    if not is_clip(clip):
        return [clip]
    ends = {0, clip.count - 1}
    middle = clip.count // 2 if clip.at is None or clip.at in ends else clip.at
    return [clip.frame(index) for index in sorted({*ends, middle})]


def _label(item: Item, frame: Image) -> LabelMask | None:
    """The label mask of what is shown; of a video, only the frame `at` has one."""
    if isinstance(item.target, int | float):
        return None
    of_other = isinstance(frame, ClipFrame) and is_clip(item.image) and frame.index != item.image.at
    return None if of_other else item.target


def _line(cell: int) -> int:
    """Height of a caption."""
    return max(14, cell // 14)


def _tile(
    image: np.ndarray, mask: np.ndarray, label: np.ndarray | None, caption: str, cell: int
) -> PIL.Image.Image:
    if mask.shape != image.shape[:2]:
        raise ValueError(f"mask of {caption} is {mask.shape}, its image {image.shape[:2]}")
    picture = PIL.Image.fromarray(image)
    picture.thumbnail((cell - 6, cell - 6))
    pixels = np.array(picture)
    inside = _small(mask, picture.size)
    pixels[~inside] //= 3
    pixels[_border(inside)] = _CONTOUR
    if label is not None:
        codes = _small(label, picture.size)
        for code in range(1, min(codes.max(), IGNORED - 1) + 1):
            pixels[_border(codes == code)] = _CLASSES[(code - 1) % len(_CLASSES)]
    tile = PIL.Image.new("RGB", (cell, cell + _line(cell)), _PAPER)
    # At the bottom, so that a caption is nearer to its own image than to the one below.
    tile.paste(
        PIL.Image.fromarray(pixels), ((cell - pixels.shape[1]) // 2, cell - 3 - pixels.shape[0])
    )
    font = PIL.ImageFont.load_default(size=_line(cell) * 0.75)
    while font.getlength(caption) > cell - 6 and len(caption) > 4:
        caption = "…" + caption[2:] if caption.startswith("…") else "…" + caption[1:]
    # Where its image begins, or further left if it is longer.
    long = font.getlength(caption)
    left = min((cell - min(pixels.shape[1], long)) // 2, cell - 3 - long)
    PIL.ImageDraw.Draw(tile).text((max(3, left), cell - 3), caption, fill=_INK, font=font)
    return tile


def _small(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(PIL.Image.fromarray(mask).resize(size, PIL.Image.Resampling.NEAREST))


def _border(inside: np.ndarray) -> np.ndarray:
    """Inside pixels beside an outside one; where the image ends, the mask does."""
    padded = np.pad(inside, 1)
    around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    border: np.ndarray = inside & ~around
    return border
