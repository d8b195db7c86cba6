"""Valid patches: any pixel of the region, under the image's own crop and flips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from usjepa.frames.region import View, valid_patches, whole


def test_one_pixel_makes_a_patch_valid() -> None:
    mask = np.zeros((224, 224), bool)
    mask[16, 47] = mask[223, 0] = True
    valid = valid_patches(mask, whole(mask), 224, 16)
    assert sorted(map(tuple, np.argwhere(valid).tolist())) == [(1, 2), (13, 0)]
    assert not valid_patches(np.zeros((9, 9)), whole(np.zeros((9, 9))), 224, 16).any()


@settings(max_examples=60)
@given(st.integers(5, 90), st.integers(5, 90), st.booleans(), st.booleans(), st.integers(0, 10**6))
def test_follows_the_image_as_torchvision_moves_it(
    height: int, width: int, horizontal: bool, vertical: bool, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.random((height, width)) < generator.choice([0.01, 0.3])
    top, left = generator.integers(0, (height, width))
    rows = int(generator.integers(1, height - top + 1))
    columns = int(generator.integers(1, width - left + 1))
    view = View(int(top), int(left), rows, columns, horizontal, vertical)

    image = torch.from_numpy(mask)[None].float()
    image = F.crop(image, view.top, view.left, view.height, view.width)
    # "nearest-exact" takes the pixel that a centre falls into, as ours.
    image = F.resize(image, [32, 32], v2.InterpolationMode.NEAREST_EXACT)
    image = F.horizontal_flip(image) if horizontal else image
    image = F.vertical_flip(image) if vertical else image
    wanted = torch.nn.functional.max_pool2d(image, 8)[0] > 0
    assert np.array_equal(valid_patches(mask, view, 32, 8), wanted.numpy())


def test_numbers_other_than_zero_are_inside() -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[:8] = 255
    assert valid_patches(mask, whole(mask), 32, 8).sum(1).tolist() == [4, 0, 0, 0]


@pytest.mark.parametrize("view", [View(-1, 0, 5, 5), View(0, 6, 5, 5), View(0, 0, 0, 5)])
def test_a_view_beyond_the_mask_is_refused(view: View) -> None:
    with pytest.raises(ValueError, match="the view takes pixels"):
        valid_patches(np.ones((10, 10), bool), view, 32, 8)


def test_sizes_must_fit() -> None:
    with pytest.raises(ValueError, match="not a multiple"):
        valid_patches(np.ones((10, 10), bool), View(0, 0, 10, 10), 30, 8)
