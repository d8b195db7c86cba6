"""Masks of one's own: what their values stand for, as the user says or as all files together tell.

Without a word of the user, masks hold the codes 0 (background), 1, 2 ... of classes, and maybe 255
for pixels that no score looks at; or 0 and 255 for background and foreground.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.own_data.own_sample import OwnSample
from tasks.samples import volumes
from tasks.samples.label_masks import (
    ArrayFileMask,
    CodeImage,
    Codes,
    Level,
    Size,
    levels,
    size_of,
)
from tasks.targets import IGNORED, LabelMask
from ultrabench_eval.core import parallel
from ultrabench_eval.core.errors import UserError

SHOWN = 8  # values told in a sentence


class OwnMasks(NamedTuple):
    """The masks of N samples."""

    masks: tuple[LabelMask, ...]
    """N."""
    shown: tuple[frozenset[int], ...]
    """N sets of the classes that each shows, without the background."""
    classes: tuple[str, ...]
    note: str
    """What values are taken for."""


class _Held(NamedTuple):
    """What a mask file holds for one image."""

    values: frozenset[Level]
    size: Size


def of(
    path: Path,
    samples: Sequence[OwnSample],
    stated: Mapping[str, str],
    complain: Callable[[str, str], None],
) -> OwnMasks:
    """The masks of samples; every file is read once.

    Args:
        path: of the table.
        samples: each with a mask.
        stated: see `Reading.classes`.
        complain: called with where a row is and what is wrong. If it was, the masks are of no
            use.

    Raises:
        UserError: nobody can tell what the values stand for.
    """
    colours = any(key.startswith("#") for key in stated)
    frames = Counter((sample.path, sample.mask) for sample in samples)
    several = {both for both, count in frames.items() if count > 1}
    held: list[_Held] = []

    def look(sample: OwnSample) -> _Held | str:
        try:
            return _look(sample, colours, (sample.path, sample.mask) in several)
        except UserError as error:
            return str(error)

    for sample, found in parallel.ordered(look, samples):
        if isinstance(found, str):
            complain(sample.where, found)
        else:
            held.append(found)
    if len(held) < len(samples):
        return OwnMasks((), (), (), "")
    if stated:
        codes, classes = _as_stated(stated)
        for sample, one in zip(samples, held, strict=True):
            if other := one.values - codes.keys():
                complain(
                    sample.where,
                    f"mask {sample.label!r} holds {_listed(other)}, which --classes does not name",
                )
        note = f"masks: {', '.join(f'{value} is {name}' for value, name in stated.items())}"
    else:
        codes, classes, note = _as_found(path, samples, [one.values for one in held])
    return OwnMasks(
        tuple(_mask(sample, codes) for sample in samples),
        tuple(
            frozenset(codes.get(value, 0) for value in one.values) - {0, IGNORED} for one in held
        ),
        classes,
        note,
    )


def check_training(path: Path, samples: Sequence[OwnSample], own: OwnMasks) -> None:
    """Refuse masks of which a probe cannot learn each class.

    Raises:
        UserError: all training masks are empty, or a class is in none of them.
    """
    train = [at for at, sample in enumerate(samples) if sample.split == "train"]
    learnt = frozenset[int]().union(*(own.shown[at] for at in train))
    if train and not learnt:
        raise UserError(
            f"all {len(train)} training masks of {path} are empty (first: "
            f"{samples[train[0]].label}, {samples[train[0]].where}); a probe cannot learn from "
            "them: mark for training some rows whose masks are not"
        )
    absent = [own.classes[code] for code in range(1, len(own.classes)) if code not in learnt]
    if train and absent:
        raise UserError(
            f"class '{absent[0]}' is in no training mask of {path}; a probe cannot learn it: mark "
            "rows for training that show it, or leave it out with --classes"
        )


def _look(sample: OwnSample, colours: bool, several: bool) -> _Held:
    """What a mask holds.

    Raises:
        UserError: it cannot be read, or is not the mask of one image.
    """
    assert sample.mask is not None
    if volumes.suffix(sample.mask):
        if colours:
            raise UserError(f"mask {sample.label!r} has no colours; say --classes by its values")
        values = volumes.values(sample.mask).frames
        at = _index(sample, 0 if several else len(values))
        if at >= len(values):
            raise UserError(
                f"mask {sample.label!r} has {len(values)} frame(s), but frame {at + 1} is taken"
            )
        values = values[at]
        if values.ndim != 2 or (values % 1).any():
            raise UserError(f"mask {sample.label!r} holds values that are not whole numbers")
    elif several:
        raise UserError(
            f"mask {sample.label!r} is one image, but several frames of the image file are taken; "
            "give a mask file with as many frames"
        )
    else:
        values = levels(sample.mask, colours)
    size, wanted = (values.shape[0], values.shape[1]), size_of(sample.image)
    if size != wanted:
        raise UserError(
            f"mask {sample.label!r} has {size[1]} x {size[0]} pixels, but its image "
            f"{wanted[1]} x {wanted[0]}"
        )
    if not colours:
        return _Held(frozenset(np.unique(values).astype(np.int64).tolist()), size)
    found = np.unique(values.reshape(-1, 3), axis=0).tolist()
    return _Held(frozenset((red, green, blue) for red, green, blue in found), size)


def _index(sample: OwnSample, frames: int) -> int:
    """The frame of a mask file of so many; a single one is of the only frame that is taken."""
    return 0 if sample.frame is None or frames == 1 else sample.frame - 1


def _mask(sample: OwnSample, codes: Codes) -> LabelMask:
    assert sample.mask is not None
    if not volumes.suffix(sample.mask):
        return CodeImage(sample.image, (sample.mask,), codes=codes)
    index = _index(sample, volumes.facts(sample.mask).frames)
    return ArrayFileMask(sample.image, (sample.mask,), codes=codes, index=index)


def _as_stated(stated: Mapping[str, str]) -> tuple[dict[Level, int], tuple[str, ...]]:
    classes = tuple(dict.fromkeys(stated.values()))
    return {_level(key): classes.index(name) for key, name in stated.items()}, classes


def _level(key: str) -> Level:
    if not key.startswith("#"):
        return int(key)
    red, green, blue = bytes.fromhex(key[1:])
    return red, green, blue


def _as_found(
    path: Path, samples: Sequence[OwnSample], held: Sequence[frozenset[Level]]
) -> tuple[dict[Level, int], tuple[str, ...], str]:
    """Codes, classes and a note."""
    union = frozenset[Level]().union(*held)
    if len(union) < 2:
        raise UserError(
            f"all {len(samples)} masks of {path} hold {_listed(union)} alone (first: "
            f"{samples[0].label}, {samples[0].where}), so that there is nothing to learn; give "
            "masks of a structure and its background"
        )
    if union == {0, IGNORED}:
        return {0: 0, IGNORED: 1}, ("background", "foreground"), "masks: 255 is the foreground"
    most = len(union - {0, IGNORED})
    if not union <= {*range(most + 1), IGNORED}:
        odd = sorted(union - {0, 1, IGNORED}, key=str)[0]
        first = next(at for at, values in enumerate(held) if odd in values)
        raise UserError(
            f"the masks of {path} hold {_listed(union)} (first {_listed([odd])} in "
            f"{samples[first].label}, {samples[first].where}), and nothing tells which value is "
            "which class; name them with --classes 0=background,1=NAME ..., or save masks as PNG "
            "with the codes 0, 1, 2 ..."
        )
    one = next((at for at, values in enumerate(held) if 1 in values), 0)
    other = next((at for at, values in enumerate(held) if IGNORED in values), 0)
    if most == 1 and IGNORED in union and not any({1, IGNORED} <= values for values in held):
        raise UserError(
            f"some masks of {path} write the foreground as 1 (first: {samples[one].label}, "
            f"{samples[one].where}), others as 255 (first: {samples[other].label}, "
            f"{samples[other].where}); write them alike, or say --classes "
            "0=background,1=foreground,255=foreground"
        )
    codes: dict[Level, int] = {code: code for code in (*range(most + 1), IGNORED)}
    ignored = "; 255 is ignored" if IGNORED in union else ""
    if most == 1:
        return codes, ("background", "foreground"), f"masks: 1 is the foreground{ignored}"
    names = tuple(f"class {code}" for code in range(1, most + 1))
    return codes, ("background", *names), f"masks: 1 to {most} are classes{ignored}"


def _listed(values: Sequence[Level] | frozenset[Level]) -> str:
    words = [str(value) for value in sorted(values, key=lambda one: (isinstance(one, tuple), one))]
    more = f" and {len(words) - SHOWN} more values" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
