"""Is it the same picture? Two thumbnails are laid on each other and their detail is correlated.

All fans look alike, and a hash of low frequencies sees little else. What tells one scan from
another is its texture, so thumbnails are normalised locally (mean taken off, divided by the
standard deviation nearby) before they are correlated. Texture must lie exactly on texture:
cropping moves it, so the second thumbnail is first fitted to the other by scale and shift along
each axis (Gauss-Newton on the image, inverse compositional: Baker & Matthews 2004, Int. J.
Computer Vision 56:221).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from tasks.near_duplicates.search import COMPARISONS, INNER, TRIMMED, WHOLE, Candidates
from tasks.near_duplicates.signatures import INNER as MARGIN
from tasks.near_duplicates.signatures import ORIENTATIONS, Signatures

SIEVE = 0.55  # least correlation, before the fit and at a quarter of the size, of a pair worth it
HALFWAY = 0.65  # least correlation, fitted at smaller size, of a pair worth a closer look
_STEPS = 4  # of Gauss-Newton at each size
_BATCH = 256  # pairs at a time
_VIEWS = np.array([comparison[:2] for comparison in COMPARISONS])
_ORIENTATION = np.array([comparison[2] for comparison in COMPARISONS])
_OVERLAP = 0.6  # least part of a thumbnail, or of its tissue, that the other one must cover
_TISSUE = 0.1  # least part of a thumbnail that a verdict may rest on


@dataclass(frozen=True, eq=False)
class Comparer:
    """Correlates pairs of N images, the cheap way first.

    Args:
        boxes: of their signatures.
        thumbnails: of their signatures.
        coarse: textures, float16 [N, 32, 32].
        sieve: textures, float16 [N, 16, 16].
    """

    boxes: np.ndarray
    thumbnails: np.ndarray
    coarse: Tensor
    sieve: Tensor

    @classmethod
    def of(cls, signatures: Signatures) -> Comparer:
        """What compares N images."""
        coarse = torch.empty(len(signatures), 32, 32, dtype=torch.float16)
        for start in range(0, len(signatures), _BATCH):
            rows = slice(start, start + _BATCH)
            half = F.avg_pool2d(_grey(signatures.thumbnails[rows]), 2)
            coarse[rows] = _blur(_normalise(half, torch.ones_like(half), 3), 1).half()
        quarter = F.avg_pool2d(coarse[:, None].float(), 2)  # none is a batch too
        return cls(signatures.boxes, signatures.thumbnails, coarse, quarter[:, 0].half())

    def take(self, rows: np.ndarray, others: Comparer) -> Comparer:
        """What compares the images at `rows` with all `others`, which come behind them."""
        at = torch.from_numpy(rows)
        return Comparer(
            np.concatenate([self.boxes[rows], others.boxes]),
            np.concatenate([self.thumbnails[rows], others.thumbnails]),
            torch.cat([self.coarse[at], others.coarse]),
            torch.cat([self.sieve[at], others.sieve]),
        )

    def sift(self, pairs: Candidates) -> Candidates:
        """The pairs worth fitting: their textures correlate at a quarter of the size already."""
        keep = np.empty(len(pairs.first), bool)
        for start in range(0, len(keep), 8 * _BATCH):
            batch = _rows(pairs, slice(start, start + 8 * _BATCH))
            maps = torch.from_numpy(_starts(self.boxes, batch))
            a, b = _both(self.sieve, batch)
            keep[start : start + 8 * _BATCH] = (_ncc(a, *_warped(b, maps)) >= SIEVE).numpy()
        return _rows(pairs, keep)

    def correlations(self, pairs: Candidates) -> np.ndarray:
        """Correlation of the fitted textures, float32 [M] in [-1, 1]; 0 for flat images.

        It is taken at full size, or at a quarter or half where that is less than `HALFWAY`.
        """
        result = np.empty(len(pairs.first), np.float32)
        for start in range(0, len(result), _BATCH):
            batch = _rows(pairs, slice(start, start + _BATCH))
            maps = torch.from_numpy(_starts(self.boxes, batch))
            ncc = torch.empty(len(maps))
            alive = torch.arange(len(maps))
            for images in (self.sieve, self.coarse):
                near = _rows(batch, alive.numpy())
                maps[alive], ncc[alive] = _fit(*_both(images, near), maps[alive])
                alive = alive[ncc[alive] >= HALFWAY]
            if len(alive):
                near = _rows(batch, alive.numpy())
                ncc[alive] = self._fine(near, maps[alive])
            result[start : start + _BATCH] = ncc.numpy()
        return result

    def _fine(self, pairs: Candidates, maps: Tensor) -> Tensor:
        """Correlation [M] at full size, where both show tissue; 0 where that is too little."""
        images, where = np.unique([pairs.first, pairs.second], return_inverse=True)
        first, second = where.reshape(2, -1)
        pairs = pairs._replace(first=first, second=second)
        thumbnails = self.thumbnails[images]
        a, b = _both(_grey(thumbnails), pairs)
        in_a, in_b = _both(_tissue(thumbnails), pairs)
        b, inside = _warped(b, maps)
        in_b = _warped(in_b, maps)[0] * inside
        both = ((in_a > 0.5) & (in_b > 0.5)).float()
        a, b = (_blur(_normalise(image, both, 4), 0.7) for image in (a, b))
        least = torch.minimum(in_a.mean((1, 2)), in_b.mean((1, 2)))
        enough = both.mean((1, 2)) >= torch.clamp(_OVERLAP * least, min=_TISSUE)
        return torch.where(enough, _ncc(a, b, both), 0.0)


def _rows(pairs: Candidates, which: slice | np.ndarray) -> Candidates:
    return Candidates(*(column[which] for column in pairs))


# ---- maps: [M, 4] scale and shift in x, then in y, from places of a to places of b ---------------


def _starts(boxes: np.ndarray, pairs: Candidates) -> np.ndarray:
    """Where the matching views say that the thumbnails lie on each other, float32 [M, 4]."""
    views, orientation = _VIEWS[pairs.comparison], _ORIENTATION[pairs.comparison]
    a, b = boxes[pairs.first], boxes[pairs.second].copy()
    for axis, name in enumerate(("horizontal", "vertical")):
        turned = orientation == ORIENTATIONS.index(name)
        b[turned, axis], b[turned, axis + 2] = 1 - b[turned, axis + 2], 1 - b[turned, axis]
    maps = np.empty((len(a), 4), np.float32)
    whole = views[:, 0] == WHOLE
    for axis in range(2):
        width_a, width_b = (box[:, axis + 2] - box[:, axis] for box in (a, b))
        maps[:, 2 * axis] = np.where(whole, width_a / width_b, 1)
        maps[:, 2 * axis + 1] = np.where(whole, (a[:, axis] - b[:, axis]) / width_b, 0)
    size = 1 - 2 * MARGIN
    maps[(views[:, 0] == TRIMMED) & (views[:, 1] == INNER)] = [size, MARGIN] * 2
    maps[views[:, 0] == INNER] = [1 / size, -MARGIN / size] * 2
    return maps


def _warped(images: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Images [M, S, S] brought to the places of the other ones, and where they cover them."""
    size = images.shape[-1]
    places = (torch.arange(size) + 0.5) / size
    x = maps[:, 0, None] * places + maps[:, 1, None]
    y = maps[:, 2, None] * places + maps[:, 3, None]
    rows, columns = _interpolation(y), _interpolation(x)
    inside = ((y >= 0) & (y <= 1))[:, :, None] & ((x >= 0) & (x <= 1))[:, None, :]
    return rows @ images @ columns.transpose(1, 2), inside.float()


def _interpolation(places: Tensor) -> Tensor:
    """Matrices [M, S, S] that interpolate S values linearly at S places in [0, 1]."""
    size = places.shape[1]
    position = (places * size - 0.5).clamp(0, size - 1)
    return (1 - (position[:, :, None] - torch.arange(size)).abs()).clamp(min=0)


def _fit(a: Tensor, b: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """The maps [M, 4] under which b correlates best with a, and that correlation [M]."""
    size = a.shape[-1]
    places = (torch.arange(size) + 0.5) / size
    dx = F.pad((a[:, :, 2:] - a[:, :, :-2]) * (size / 2), (1, 1))
    dy = F.pad((a[:, 2:] - a[:, :-2]) * (size / 2), (0, 0, 1, 1))
    slopes = torch.stack([dx * places, dx, dy * places[:, None], dy], dim=1).flatten(2)  # [M,4,SS]
    hessian = slopes @ slopes.transpose(1, 2)
    hessian = hessian + torch.diag_embed(0.02 * hessian.diagonal(dim1=1, dim2=2) + 1e-3)
    best, best_ncc = maps, torch.full((len(a),), -1.0)
    for step in range(_STEPS + 1):
        warped, inside = _warped(b, maps)
        ncc = torch.where(inside.mean((1, 2)) >= _OVERLAP, _ncc(a, warped, inside), -1.0)
        better = ncc > best_ncc
        best, best_ncc = torch.where(better[:, None], maps, best), torch.maximum(ncc, best_ncc)
        if step == _STEPS:
            break
        gain = (a * warped * inside).sum((1, 2)) / (warped**2 * inside).sum((1, 2)).clamp(min=1e-6)
        rest = (gain.clamp(0.2, 5)[:, None, None] * warped - a) * inside
        move = torch.linalg.solve(hessian, slopes @ rest.flatten(1)[:, :, None])[:, :, 0]
        move = move.clamp(-0.06, 0.06)
        # Inverse compositional: b's map after the inverse of a's small move.
        scale = maps[:, 0::2] / (1 + move[:, 0::2])
        shift = maps[:, 1::2] - scale * move[:, 1::2]
        maps = torch.stack([scale, shift], dim=2).flatten(1)
    return best, best_ncc


# ---- pictures -----------------------------------------------------------------------------------


def _both(images: Tensor, pairs: Candidates) -> tuple[Tensor, Tensor]:
    """First and second images of pairs, float32 [M, S, S]; the second as it matches the first."""
    a, b = (images[torch.from_numpy(rows)].float() for rows in (pairs.first, pairs.second))
    orientation = _ORIENTATION[pairs.comparison]
    for name, axis in (("horizontal", 2), ("vertical", 1)):
        turned = torch.from_numpy(np.flatnonzero(orientation == ORIENTATIONS.index(name)))
        b[turned] = b[turned].flip(axis)
    return a, b


def _grey(thumbnails: np.ndarray) -> Tensor:
    return torch.from_numpy(thumbnails.astype(np.float32))


def _ncc(a: Tensor, b: Tensor, inside: Tensor) -> Tensor:
    """Normalised correlation [M] where `inside` is 1; 0 for flat images."""
    count = inside.sum((1, 2), keepdim=True).clamp(min=1)
    a = (a - (a * inside).sum((1, 2), keepdim=True) / count) * inside
    b = (b - (b * inside).sum((1, 2), keepdim=True) / count) * inside
    energy = (a**2).sum((1, 2)) * (b**2).sum((1, 2))
    return (a * b).sum((1, 2)) / energy.sqrt().clamp(min=1e-6)


def _tissue(thumbnails: np.ndarray) -> Tensor:
    """1 where a thumbnail [N, 64, 64] shows more than the dark around the fan, else 0.

    The dark is what is joined to the edge and hardly brighter than the darkest parts; a seam of
    two pixels goes with it, because the outline of a fan is alike in all images of a machine.
    """
    darkest = np.percentile(thumbnails, 1, axis=(1, 2), keepdims=True)
    dark = thumbnails <= darkest + 12
    edge = np.zeros(thumbnails.shape[1:], bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    flat = ndimage.generate_binary_structure(2, 2)[None]  # neighbours within an image
    around = ndimage.binary_propagation(dark & edge, flat, dark)
    around = ndimage.binary_dilation(around, flat, iterations=2)
    return torch.from_numpy((~around).astype(np.float32))


def _normalise(images: Tensor, inside: Tensor, sigma: float) -> Tensor:
    """Mean taken off and divided by the standard deviation, both in a Gaussian window.

    Only what is `inside` (1, else 0) counts; the rest becomes 0. 4 grey levels are added to the
    deviation, so that noise in the dark stays small.
    """
    weight = _blur(inside, sigma).clamp(min=1e-3)
    centred = (images - _blur(images * inside, sigma) / weight) * inside
    return centred / ((_blur(centred**2, sigma) / weight).clamp(min=0).sqrt() + 4)


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [N, S, S]; beyond the edge the edge goes on."""
    kernel = _kernel(images.shape[-1], sigma)
    return kernel @ images @ kernel.T


@cache
def _kernel(size: int, sigma: float) -> Tensor:
    """The blur of one axis as a matrix [S, S]: rows sum to 1."""
    radius = int(3 * sigma + 0.5)
    weights = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
    places = torch.arange(size)[:, None] + torch.arange(-radius, radius + 1)
    matrix = torch.zeros(size, size)
    for row in range(size):
        matrix[row].index_add_(0, places[row].clamp(0, size - 1), weights / weights.sum())
    return matrix
