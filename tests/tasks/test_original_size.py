"""Images that are smaller than their release are told to be downscaled copies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest

import tasks
from tasks import original_size
from tasks.task import Task


def with_least(task: Task, least: int | None) -> Task:
    return replace(task, card=replace(task.card, short_side=least))


def test_images_below_the_smallest_of_the_release_are_told(phantom_root: Path) -> None:
    task = tasks.load("aul", phantom_root)
    largest = max(min(PIL.Image.open(image.path).size) for image in task.test.images)
    told = original_size.told(with_least(task, largest + 1))
    assert told.notes[:-1] == task.notes
    assert told.notes[-1].startswith(
        f"downscaled copies: the short side of the test images is at most {largest} pixels, in the "
        f"release it is at least {largest + 1}"
    )
    assert told.fingerprint == task.fingerprint
    for least in (largest, None):  # one image as large as the release's smallest is enough
        same = with_least(task, least)
        assert original_size.told(same) is same


def test_simulated_images_are_not_compared_with_a_release(phantom_root: Path) -> None:
    assert not any("downscaled" in note for note in tasks.load("aul", phantom_root).notes)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["aul", "busbra", "mmotu"])
def test_the_copies_beside_the_checkout_are_downscaled(real_data: Path, name: str) -> None:
    assert tasks.load(name, real_data).notes[-1].startswith("downscaled copies: ")
