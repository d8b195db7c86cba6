"""What tells one scan from another: its texture, and numbers in which like textures are alike.

All fans look alike, and low frequencies show little else. So thumbnails are normalised locally
(mean taken off, divided by the standard deviation nearby), and only where they show tissue.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 32  # pixels a side of a texture; half of it for the search and the first steps of a fit
FREQUENCIES = 8  # along each axis that the search looks at
TRIMMED, WHOLE, INNER, LEFT, RIGHT, BRIGHT = range(6)
"""Views of an image: without plain borders; with them; without a twentieth on each side as well;
turned a little; its brighter half."""
_DARK = 6  # grey levels above the darkest ones that may still be the dark around a fan


def tissue(halves: np.ndarray, bright: bool = False) -> np.ndarray:
    """1 where an image, uint8 [N, 32, 32], shows more than the dark around the fan, else 0.

    The dark is what is joined to the edge and hardly brighter than the darkest parts (if `bright`,
    darker than half of the image); a seam of a pixel goes with it, because the outline of a fan is
    alike in all images of a machine.
    """
    place = SIZE * SIZE // 2 if bright else SIZE * SIZE // 100
    level = np.partition(halves.reshape(len(halves), SIZE * SIZE), place, axis=1)[:, place]
    level = np.minimum(level, 255 - _DARK) + (0 if bright else _DARK)
    dark = np.ones((len(halves), SIZE + 2, SIZE + 2), np.uint8)
    dark[:, 1:-1, 1:-1] = halves <= level[:, None, None]
    inside = np.empty_like(halves)
    for row, one in enumerate(dark):
        parts = cv2.connectedComponents(one, connectivity=8, ltype=cv2.CV_16U)[1]
        inner = (parts != parts[0, 0]).astype(np.uint8)
        inside[row] = cv2.erode(inner, np.ones((3, 3), np.uint8))[1:-1, 1:-1]
    return inside


def halved(thumbnails: np.ndarray) -> np.ndarray:
    """Thumbnails [N, 64, 64] at half the size, uint8."""
    half = np.empty((len(thumbnails), SIZE, SIZE), np.uint8)
    for row, one in enumerate(thumbnails):
        cv2.resize(one, (SIZE, SIZE), dst=half[row], interpolation=cv2.INTER_AREA)
    return half


def normalise(images: Tensor, inside: Tensor, sigma: float, least: float) -> Tensor:
    """Mean taken off and divided by the standard deviation, both in a Gaussian window.

    Only what is `inside` (1, else 0) counts; the rest becomes 0. `least` grey levels are added to
    the deviation, so that noise in the dark stays small.
    """
    weight = blur(inside, sigma).clamp(min=1e-3)
    centred = (images - blur(images * inside, sigma) / weight) * inside
    return centred / ((blur(centred**2, sigma) / weight).clamp(min=0).sqrt() + least)


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [..., S, S]; beyond the edge the edge goes on."""
    kernel = _kernel(images.shape[-1], sigma)
    for _ in range(2):  # along one axis, then the other
        images = (images @ kernel).transpose(-1, -2).contiguous()
    return images


@cache
def _kernel(size: int, sigma: float) -> Tensor:
    """The blur of one axis as a matrix [S, S]: columns sum to 1."""
    radius = int(3 * sigma + 0.5)
    weights = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    places = torch.arange(size)[:, None] + torch.arange(-radius, radius + 1)
    matrix = torch.zeros(size, size)
    for row in range(size):
        matrix[row].index_add_(0, places[row].clamp(0, size - 1), weights / weights.sum())
    return matrix.T.contiguous()


def warped(images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Images [M, S, S] brought to the places of other ones, and 1 where they cover them, else 0.

    Args:
        images: float32.
        maps: [M, 2, 3]: from places (x, y, 1) of the others, -1 to 1, to those of the images.
    """
    size = images.shape[-1]
    line = (torch.arange(size) + 0.5) * (2 / size) - 1
    m = maps[:, :, :, None, None]
    places = m[:, :, 0] * line + m[:, :, 1] * line[:, None] + m[:, :, 2]
    inside = places.abs().amax(1) <= 1
    values = F.grid_sample(
        images[:, None],
        places.permute(0, 2, 3, 1).contiguous(),
        padding_mode="border",
        align_corners=False,
    )
    return values[:, 0], inside.float()


def _view(degrees: float = 0, scale: float = 1) -> Tensor:
    """The map [2, 3] that turns and scales about the centre."""
    angle = np.deg2rad(degrees)
    x, y = scale * np.cos(angle), scale * np.sin(angle)
    return torch.tensor([[x, -y, 0], [y, x, 0]], dtype=torch.float32)


MAPS = {INNER: _view(scale=0.9), LEFT: _view(8), RIGHT: _view(-8)}
"""From places of these views to places of the trimmed one."""


def pooled(images: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, [N, S, S] to [N, S / 2, S / 2]."""
    pairs = images[:, 0::2] + images[:, 1::2]
    return (pairs[:, :, 0::2] + pairs[:, :, 1::2]) / 4


def descriptors(plain: Tensor, bright: Tensor, boxes: np.ndarray) -> np.ndarray:
    """Lowest frequencies of the texture by view, float32 [N, 6, 64], each of length 1.

    Args:
        plain: textures [N, 16, 16].
        bright: textures [N, 16, 16] of the brighter half.
        boxes: float32 [N, 4]: the trimmed view in parts of width and height of the whole.
    """
    low, high = torch.from_numpy(boxes).reshape(-1, 2, 2).unbind(1)
    maps = torch.zeros(len(boxes), 2, 3)
    maps[:, [0, 1], [0, 1]] = 1 / (high - low)
    maps[:, :, 2] = (1 - low - high) / (high - low)
    whole, inside = warped(plain, maps)
    views = {TRIMMED: plain, WHOLE: whole * inside, BRIGHT: bright, **dict.fromkeys(MAPS, plain)}
    return np.stack(
        [F.normalize(views[v].flatten(1) @ _basis(v), dim=1).numpy() for v in sorted(views)],
        axis=1,
    )


@cache
def _basis(view: int) -> Tensor:
    """Cosine transform of a view of a texture, as a matrix [16², FREQUENCIES²]."""
    size = SIZE // 2
    places = (torch.arange(size) + 0.5) * (torch.pi / size)
    cosines = (places[:, None] * torch.arange(FREQUENCIES)).cos()
    cosines[:, 0] *= 0.5**0.5
    basis = (cosines[:, None, :, None] * cosines[None, :, None, :]).flatten(0, 1).flatten(1)
    basis[:, 0] = 0  # the mean
    if view in MAPS:
        units = torch.eye(size * size).reshape(-1, size, size)
        seen, inside = warped(units, MAPS[view].expand(len(units), 2, 3))
        basis = (seen * inside).flatten(1) @ basis
    return basis
