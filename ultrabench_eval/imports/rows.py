"""Are they the rows of those images? By encoding some again, or by which images are alike.

K is the number of canaries, N of images, D the feature width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from tasks.samples.images import Image
from ultrabench_eval import features
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.encode import encode
from ultrabench_eval.imports.joined import SHOWN, FeatureTable
from ultrabench_eval.loading import Model

CANARIES = 24
"""Images that are encoded again. Where a part a of the rows is wrong, all canaries miss it with a
probability of (1 - a)^K at most: for a = 40 %, 8 would miss 1.7 % of the files, 19 less than 1 in
10,000. 24 leave room for wrong rows that cannot be seen, such as those of a neighbouring frame: the
bound of 1 in 10,000 holds even if a fifth of the wrong rows are so."""
CLOSE = 0.2
"""How far a canary may be from its row, in parts of the usual distance between two images ..."""
ROUNDED = 0.05
"""... or of its own length, which is what bfloat16 may change (`behaviour.TOLERANCES`)."""
_SEVERAL, _FOLLOWS = 5, 0.5  # wrong canaries, and the correlation of their distances, for a cause
CONTROL = "pixels"
"""Whose neighbourhoods are compared, where the model is not at hand."""
PERMUTATIONS = 999
CHANCE = 0.01
"""Neighbourhoods agree if permuted rows agree as well in a smaller part of the permutations."""
FEWEST, MOST, NEIGHBOURS = 30, 1500, 10
"""Images that the comparison needs, and takes at most; how many of its likest each is asked for."""


def of_model(table: FeatureTable, images: Mapping[str, Image], model: Model, path: Path) -> int:
    """See that rows are what the model gives for their images; returns how many were encoded.

    Which images is drawn by a generator of the rows themselves, so that nobody can choose them.

    Args:
        table: the rows.
        images: by digest.
        model: that is said to have made them.
        path: of the file, for errors.

    Raises:
        UserError: they are not; or an image cannot be read.
    """
    seed = hashing.digest_parts([np.ascontiguousarray(table.rows).data.cast("B")])
    draw = np.random.default_rng(hashing.seed_for(int(seed[:15], 16), "canaries"))
    count = len(table.digests)
    chosen = draw.permutation(count)[:CANARIES].tolist()
    odd = {digest: row for row, digest in enumerate(table.digests)}
    chosen = list(dict.fromkeys([*chosen, *(odd[one] for one in table.odd[:CANARIES])]))
    encoder = model.encoder()
    inputs = [
        encoder.prepare(images[digest].read(digest))
        for digest in (table.digests[row] for row in chosen)
    ]
    size = encoder.batch_size
    again = torch.cat(
        [
            features.encode_batch(encoder, inputs[start : start + size])
            for start in range(0, len(inputs), size)
        ]
    )
    wanted, given = again.double().numpy(), table.rows[chosen].astype(np.float64)
    if wanted.shape != given.shape:
        raise UserError(
            f"{path} has {given.shape[1]} features per image, and model '{model.name}' gives "
            f"{wanted.shape[1]}; {_another(model)}"
        )
    wrong = _wrong(wanted, given)
    if not wrong.any():
        return len(chosen)
    if {table.digests[row] for row in np.array(chosen)[wrong].tolist()} <= {*table.odd}:
        raise UserError(table.oddity)
    names = [images[table.digests[row]].name for row in np.array(chosen)[wrong][:SHOWN].tolist()]
    told = (
        f"{path}: for {wrong.sum()} of {len(chosen)} images that were encoded again model "
        f"'{model.name}' gives other features than their rows hold ({', '.join(names)})"
    )
    if not _follow(wanted[wrong], given[wrong]):
        raise UserError(
            f"{told}; the rows belong to other images (wrong order, or wrong keys): write keys and "
            "rows in one go, image by image"
        )
    raise UserError(f"{told}; {_another(model)}")


def _another(model: Model) -> str:
    return (
        "other weights, preprocessing or pooling made them: make them with this model's, give the "
        f"--weights {model.name}=PATH that you used, or another --model name to features of "
        "another encoder"
    )


def _wrong(wanted: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Which rows [K, D] are not what is wanted, bool [K]."""
    between = _distances(wanted, wanted)
    apart = np.median(between[~np.eye(len(wanted), dtype=bool)]) if len(wanted) > 1 else 0.0
    across = _distances(given, wanted)  # [K given, K wanted]
    own, length = across.diagonal(), np.linalg.norm(wanted, axis=-1)
    another = own > across.min(1) + 1e-9 * (1 + length)  # the canary of another image is nearer
    far = own > np.maximum(CLOSE * apart, 1e-4 * length)
    beyond = own > np.maximum(CLOSE * apart, ROUNDED * length)
    return np.asarray(beyond | (far & another))


def _follow(wanted: np.ndarray, given: np.ndarray) -> bool:
    """Whether rows [K, D] are as far from each other as the wanted ones, whatever their scale: then
    they are of the right images, and something else made them."""
    upper = np.triu_indices(len(wanted), 1)
    if len(wanted) < _SEVERAL:
        return False
    pairs = [_distances(one, one)[upper] for one in (wanted, given)]
    if min(map(np.ptp, pairs)) == 0:
        return False
    return float(np.corrcoef(pairs[0], pairs[1])[0, 1]) > _FOLLOWS


def _distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between rows [K, D] and [L, D]: [K, L]."""
    return np.asarray(np.linalg.norm(one[:, None] - other, axis=-1))


def like_control(
    table: FeatureTable, images: Mapping[str, Image], path: Path, cache: Path
) -> float | None:
    """See that images which look alike have rows that are alike, more than by chance.

    The statistic is the share of the nearest neighbours (by the cosine of centred features) that
    rows and `CONTROL` have in common; its distribution by chance is that of permuted rows (Mantel
    1967, Cancer Res. 27:209, with neighbourhoods in place of distances).

    Args:
        table: the rows.
        images: by digest.
        path: of the file, for errors.
        cache: of features.

    Returns:
        The p-value; None of too few images.

    Raises:
        UserError: permuted rows agree as well.
    """
    count = len(table.digests)
    if count < FEWEST:
        return None
    draw = np.random.default_rng(hashing.seed_for(0, "neighbourhoods"))
    chosen = np.sort(draw.permutation(count)[:MOST])
    some = [images[table.digests[row]] for row in chosen.tolist()]
    control = encode(Model(CONTROL, None, "cpu", "float32"), some, cache).whole().numpy()
    mine = _neighbours(table.rows[chosen])
    theirs = np.zeros((len(some), len(some)), bool)
    np.put_along_axis(theirs, _neighbours(control), True, axis=1)
    observed = np.take_along_axis(theirs, mine, 1).sum()
    as_many = 0
    for _ in range(PERMUTATIONS):
        order = draw.permutation(len(some))
        as_many += theirs[order[:, None], order[mine]].sum() >= observed
    p = (1 + as_many) / (PERMUTATIONS + 1)
    if p > CHANCE:
        raise UserError(
            f"{path}: images that look alike have rows that are no more alike than those of any "
            f"two images (p = {p:.2f} by {PERMUTATIONS} permutations), so the rows seem to belong "
            "to other images; write keys and rows in one go, image by image"
        )
    return float(p)


def _neighbours(rows: np.ndarray) -> np.ndarray:
    """The nearest others of each row, int64 [N, K]."""
    centred = rows.astype(np.float64) - rows.mean(0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    unit = (centred / np.where(length > 0, length, 1)).astype(np.float32)
    alike = unit @ unit.T
    np.fill_diagonal(alike, -np.inf)
    few = min(NEIGHBOURS, len(rows) // 3)
    return np.argpartition(-alike, few - 1, axis=1)[:, :few]
