"""Is it the same picture? Two thumbnails are laid on each other and their texture is correlated.

Texture must lie exactly on texture: cropping and turning move it, so the second thumbnail is
first fitted to the other by an affine map (Gauss-Newton on the image, inverse compositional:
Baker & Matthews 2004, Int. J. Computer Vision 56:221).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.near_duplicates import textures
from tasks.near_duplicates.search import COMPARISONS, Candidates
from tasks.near_duplicates.signatures import ORIENTATIONS, Signatures, phash
from tasks.near_duplicates.textures import MAPS, WHOLE, blur, normalise, warped

SIEVE = 0.55  # least correlation at half the size, fitted at a quarter, of a pair worth a fit there
HALFWAY = 0.72  # least correlation, fitted at half the size, of a pair worth a closer look
_STEPS = 3  # of Gauss-Newton at each size
_BATCH = 256  # pairs at a time
_VIEWS = np.array([comparison[0] for comparison in COMPARISONS])
_ORIENTATION = np.array([comparison[2] for comparison in COMPARISONS])
_OVERLAP = 0.6  # least part of a thumbnail, or of its tissue, that the other one must cover
_TISSUE = 0.1  # least part of a thumbnail that a verdict may rest on
_DRAWN = 0.15  # part of the tissue that may be drawn over
_NOTHING = 0.3  # standard deviations below which nothing is taken for drawn


@dataclass(frozen=True, eq=False)
class Comparer:
    """Correlates pairs of N images, the cheap way first.

    Args:
        boxes: of their signatures.
        thumbnails: of their signatures.
        tissue: uint8 [N, 32, 32], see `textures.tissue`.
        fine: textures, float16 [N, 32, 32].
        coarse: textures, float16 [N, 16, 16].
        descriptors: float32 [N, 6, 64], for the search.
    """

    boxes: np.ndarray
    thumbnails: np.ndarray
    tissue: np.ndarray
    fine: np.ndarray
    coarse: np.ndarray
    descriptors: np.ndarray

    @classmethod
    def of(cls, signatures: Signatures) -> Comparer:
        """What compares N images."""
        parts: list[list[np.ndarray]] = [[] for _ in range(4)]
        for start in range(0, max(len(signatures), 1), _BATCH):  # none is a batch too
            some = slice(start, start + _BATCH)
            half = textures.halved(signatures.thumbnails[some])
            grey = torch.from_numpy(half.astype(np.float32))
            tissue = textures.tissue(half)
            inside, bright = (
                torch.from_numpy(mask.astype(np.float32))
                for mask in (tissue, textures.tissue(half, bright=True))
            )
            fine = blur(normalise(grey, inside, 1.5, 4), 0.5)
            coarse, brighter = (
                blur(normalise(textures.pooled(grey), textures.pooled(mask), 1.5, 10), 0.5)
                for mask in (inside, bright)
            )
            numbers = textures.descriptors(coarse, brighter, signatures.boxes[some])
            made = (tissue, fine.half().numpy(), coarse.half().numpy(), numbers)
            for column, part in zip(parts, made, strict=True):
                column.append(part)
        # One after the other, so that of many images no more than one is in memory twice.
        columns = [np.concatenate(parts.pop(0)) for _ in range(4)]
        return cls(signatures.boxes, signatures.thumbnails, *columns)

    def take(self, rows: np.ndarray, others: Comparer) -> Comparer:
        """What compares the images at `rows` with all `others`, which come behind them."""
        names = [field.name for field in fields(self)]
        return Comparer(
            *(np.concatenate([getattr(self, n)[rows], getattr(others, n)]) for n in names)
        )

    def correlations(self, pairs: Candidates) -> np.ndarray:
        """Correlation of the fitted textures, float32 [M] in [-1, 1]; 0 for flat images.

        It is taken at full size, or at half of it where that is too little.
        """
        ncc, maps = torch.ones(len(pairs.first)), _starts(self.boxes, pairs)
        for images, least in ((self.coarse, -1.0), (self.fine, SIEVE), (None, HALFWAY)):
            for some in torch.split((ncc >= least).nonzero()[:, 0], _BATCH):
                near = _rows(pairs, some.numpy())
                if images is None:
                    ncc[some] = self._whole(near, maps[some])
                else:
                    maps[some] = _fit(*_both(images, near), maps[some])
                    ncc[some] = self._half(near, maps[some])
        return np.asarray(ncc)

    def distances(self, pairs: Candidates) -> np.ndarray:
        """Bits of 64 that differ between the perceptual hashes, int64 [M]."""
        both = _both(self.thumbnails, pairs)
        a, b = (phash(textures.halved(images.byte().numpy())) for images in both)
        return np.asarray(np.bitwise_count(a ^ b), np.int64)

    def _shared(self, pairs: Candidates, maps: Tensor, enlarge: int) -> Tensor:
        """1 where both show tissue, else 0; 0 everywhere if that is too little."""
        a, b = (
            mask.repeat_interleave(enlarge, 1).repeat_interleave(enlarge, 2)
            for mask in _both(self.tissue, pairs)
        )
        b, inside = warped(b, maps)
        both = a * ((b > 0.5) * inside)
        least = torch.minimum(a.mean((1, 2)), (b * inside).mean((1, 2)))
        enough = both.mean((1, 2)) >= torch.clamp(_OVERLAP * least, min=_TISSUE)
        return both * enough[:, None, None]

    def _half(self, pairs: Candidates, maps: Tensor) -> Tensor:
        """Correlation [M] at half the size where both show tissue."""
        a, b = _both(self.fine, pairs)
        return _ncc(a, warped(b, maps)[0], self._shared(pairs, maps, 1))

    def _whole(self, pairs: Candidates, maps: Tensor) -> Tensor:
        """Correlation [M] at full size, where both show tissue and differ least.

        Letters and marks may be drawn on one of them, so the places that differ most are left out.
        """
        a, b = _both(self.thumbnails, pairs)
        images, where = torch.stack([a, warped(b, maps)[0]]), self._shared(pairs, maps, 2)
        a, b = _normal(images, where)
        apart = (blur((a - b).abs(), 1) * where).flatten(1)
        drawn = (where.sum((1, 2)) * _DRAWN).long()[:, None]
        limit = apart.sort(1, descending=True).values.gather(1, drawn).clamp(min=_NOTHING)
        where = where * (apart <= limit).reshape(where.shape)
        a, b = _normal(images, where)
        return _ncc(a, b, where)


def _rows(pairs: Candidates, which: slice | np.ndarray) -> Candidates:
    return Candidates(*(column[which] for column in pairs))


def _starts(boxes: np.ndarray, pairs: Candidates) -> Tensor:
    """Where the matching views say that the thumbnails lie on each other, float32 [M, 2, 3]."""
    view, orientation = _VIEWS[pairs.comparison], _ORIENTATION[pairs.comparison]
    a, b = boxes[pairs.first], boxes[pairs.second].copy()
    for number, (_, transposed, down, across) in enumerate(ORIENTATIONS):
        some = orientation == number
        if transposed:
            b[some] = b[some][:, [1, 0, 3, 2]]
        for axis, flipped in enumerate((across, down)):
            if flipped:
                b[some, axis], b[some, axis + 2] = 1 - b[some, axis + 2], 1 - b[some, axis]
    maps = np.zeros((len(a), 2, 3), np.float32)
    scale = (a[:, 2:] - a[:, :2]) / (b[:, 2:] - b[:, :2])
    shift = (a[:, 2:] + a[:, :2] - b[:, 2:] - b[:, :2]) / (b[:, 2:] - b[:, :2])
    whole = (view == WHOLE)[:, None]
    maps[:, [0, 1], [0, 1]] = np.where(whole, scale, 1)
    maps[:, :, 2] = np.where(whole, shift, 0)
    for number, (view_a, view_b, _) in enumerate(COMPARISONS):
        some = pairs.comparison == number
        if view_a in MAPS:
            maps[some, :, :2] = np.linalg.inv(MAPS[view_a][:, :2].numpy())
        elif view_b in MAPS:
            maps[some] = MAPS[view_b].numpy()
    return torch.from_numpy(maps)


def _fit(a: Tensor, b: Tensor, maps: Tensor) -> Tensor:
    """The maps [M, 2, 3] under which b correlates best with a, the first ones included."""
    size = a.shape[-1]
    places = (torch.arange(size) + 0.5) * (2 / size) - 1
    dx = F.pad((a[:, :, 2:] - a[:, :, :-2]) * (size / 4), (1, 1))
    dy = F.pad((a[:, 2:] - a[:, :-2]) * (size / 4), (0, 0, 1, 1))
    x, y = places, places[:, None]
    slopes = torch.stack([dx * x, dx * y, dx, dy * x, dy * y, dy], dim=1).flatten(2)  # [M, 6, SS]
    hessian = slopes @ slopes.transpose(1, 2)
    inverse = torch.linalg.inv(
        hessian + torch.diag_embed(0.02 * hessian.diagonal(dim1=1, dim2=2) + 1e-3)
    )
    best, best_ncc = maps, torch.full((len(a),), -1.0)
    square = torch.eye(2, 3)
    for step in range(_STEPS + 1):
        image, inside = warped(b, maps)
        ncc = torch.where(inside.mean((1, 2)) >= _OVERLAP, _ncc(a, image, inside), -1.0)
        better = ncc > best_ncc
        best = torch.where(better[:, None, None], maps, best)
        best_ncc = torch.maximum(ncc, best_ncc)
        if step == _STEPS:
            break
        image = image * inside
        gain = (a * image).sum((1, 2)) / (image**2).sum((1, 2)).clamp(min=1e-6)
        rest = gain.clamp(0.2, 5)[:, None, None] * image - a * inside
        move = inverse @ (slopes @ rest.flatten(1)[:, :, None])
        # Inverse compositional: b's maps after the inverse of a's small moves, to first order.
        back = square - move.clamp(-0.12, 0.12).reshape(-1, 2, 3)
        maps = maps[:, :, :2] @ back + F.pad(maps[:, :, 2:], (2, 0))
    return best


def _both(images: np.ndarray, pairs: Candidates) -> tuple[Tensor, Tensor]:
    """First and second images of pairs, float32 [M, S, S]; the second as it matches the first."""
    a, b = (torch.from_numpy(images[rows]).float() for rows in (pairs.first, pairs.second))
    orientation = _ORIENTATION[pairs.comparison]
    for number, (_, transposed, down, across) in enumerate(ORIENTATIONS):
        some = torch.from_numpy(np.flatnonzero(orientation == number))
        if number and len(some):
            turned = b[some].transpose(1, 2) if transposed else b[some]
            b[some] = turned.flip([axis for axis, flip in ((1, down), (2, across)) if flip])
    return a, b


def _normal(images: Tensor, where: Tensor) -> Tensor:
    return blur(normalise(images, where, 4, 4), 0.7)


def _ncc(a: Tensor, b: Tensor, inside: Tensor) -> Tensor:
    """Normalised correlation [M] where `inside` is 1; 0 for flat images."""
    count = inside.sum((1, 2)).clamp(min=1)
    a, b = a * inside, b * inside
    mean_a, mean_b = a.sum((1, 2)) / count, b.sum((1, 2)) / count
    energy = ((a * a).sum((1, 2)) / count - mean_a**2) * ((b * b).sum((1, 2)) / count - mean_b**2)
    shared = (a * b).sum((1, 2)) / count - mean_a * mean_b
    return shared / energy.clamp(min=0).sqrt().clamp(min=1e-6)
