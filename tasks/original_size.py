"""Whether the images of a release are as large as they were released."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import PIL.Image

from tasks.samples import volumes
from tasks.samples.clip_files import ArrayClip
from tasks.samples.images import ImageFile
from tasks.samples.volumes import VolumeFrame
from tasks.task import DOWNSCALED, Task


def told(task: Task) -> Task:
    """The task, with a note if all test images are smaller than the smallest of the release."""
    least = task.card.short_side
    largest = 0 if least is None else max(_short_sides(task), default=0)
    if least is None or not 0 < largest < least:
        return task
    note = (
        f"{DOWNSCALED}: the short side of the test images is at most {largest} pixels, in the "
        f"release it is at least {least}; numbers on the originals may differ"
    )
    return dataclasses.replace(task, notes=(*task.notes, note))


def _short_sides(task: Task) -> Iterator[int]:
    """Of the test images that are files, in pixels; they are opened, but not decoded."""
    for image in task.test.images:
        if isinstance(image, ImageFile):
            try:
                with PIL.Image.open(image.path) as opened:
                    yield min(opened.size)
            except OSError:  # reported when it is decoded
                continue
        elif isinstance(image, ArrayClip):
            yield min(image.size)
        elif isinstance(image, VolumeFrame):
            yield min(volumes.facts(image.path).size)
