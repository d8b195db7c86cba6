"""Draw train, validation and test of own data: whole patients, stratified by what is known of
their images, from a seed.

Strata are classes; of masks, those that are empty and those that are not; of numbers, quarters from
the smallest to the largest.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks.own_data.manifest import OwnData
from tasks.own_data.own_sample import OwnSample
from tasks.task import SPLITS
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key

FEW = 5
"""Patients of a class in a part; below, one of them moves a score by more than models differ."""


class Drawn(NamedTuple):
    """Own data with the splits that were drawn."""

    own: OwnData
    """Its samples have splits."""
    counts: dict[str, dict[str, tuple[int, int]]]
    """By stratum and split: images and patients."""


def draw(own: OwnData, *, seed: int, validation: float, test: float) -> Drawn:
    """Draw the splits of own data.

    Patients are put into groups by the strata that they have images of. Of each group the rounded
    share goes to test and to validation; of one stratum, at least one patient each. The draw
    depends on the names of the patients and their strata alone, not on the order of rows.

    Args:
        own: without splits. Where no groups are known, every image is a patient of its own.
        seed: of the draw.
        validation: share of the patients.
        test: share of the patients.

    Raises:
        UserError: shares that leave nothing to train on, or a class with too few patients.
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise UserError(
            f"test {test:.0%} and validation {validation:.0%} leave no patients to train on or "
            "none for one of them; give shares such as --test 20 --validation 20"
        )
    patients = _patients(own.samples)
    told = _strata(own, patients)
    of_patients = by_key(zip(patients, told, strict=True))
    classes = {patient: set(some) for patient, some in of_patients.items()}
    names = own.classes if own.told == "label" else tuple(sorted(set(told)))
    _check_enough(own, names, classes)
    strata = by_key((tuple(sorted(classes[patient])), patient) for patient in sorted(classes))
    splits: dict[str, str] = {}
    for labels, members in strata.items():
        least = int(len(labels) == 1)
        held = [max(least, int(len(members) * share + 0.5)) for share in (test, validation)]
        purpose = f"split of own data/{hashing.digest(labels)}"
        generator = np.random.default_rng(hashing.seed_for(seed, purpose))
        shuffled = [members[at] for at in generator.permutation(len(members))]
        for at, patient in enumerate(shuffled):
            in_test, in_validation = at < held[0], at < sum(held)
            splits[patient] = "test" if in_test else "validation" if in_validation else "train"
    samples = tuple(
        sample._replace(split=splits[patient])
        for sample, patient in zip(own.samples, patients, strict=True)
    )
    counts = _counts(samples, told, patients, names)
    for label, of_class in counts.items():
        for split, (images, _) in of_class.items():
            if not images:
                raise UserError(
                    f"class '{label}' of {own.path} has no patient left for {split}, because its "
                    f"patients have other classes too; try another --seed or larger shares"
                )
    return Drawn(dataclasses.replace(own, samples=samples), counts)


def _strata(own: OwnData, patients: Sequence[str]) -> list[str]:
    """The stratum of each sample: its class; of masks and numbers, that of its patient, or one for
    all where another has too few patients to be split."""
    if own.told == "label":
        return [sample.label for sample in own.samples]
    told = own.targets if own.masks is None else [bool(shown) for shown in own.masks.shown]
    values = by_key(zip(patients, told, strict=True))
    means = {patient: float(np.mean(np.array(of, float))) for patient, of in values.items()}
    if own.masks is not None:
        strata = {p: "not empty" if mean > 0 else "empty masks" for p, mean in means.items()}
    else:
        edges = np.quantile([*means.values()], (0.25, 0.5, 0.75))
        strata = {p: f"quarter {np.searchsorted(edges, mean) + 1}" for p, mean in means.items()}
    fewest = min(Counter(strata.values()).values())
    return [strata[one] if fewest >= len(SPLITS) else "all images" for one in patients]


def _patients(samples: Sequence[OwnSample]) -> list[str]:
    """The patient of each sample; of one without, itself."""
    return [f"g/{one.group}" if one.group is not None else f"i/{one.image.name}" for one in samples]


def _check_enough(own: OwnData, names: Sequence[str], classes: dict[str, set[str]]) -> None:
    for label in names:
        number = sum(label in held for held in classes.values())
        if number < len(SPLITS):
            what = "image(s)" if own.groups == "none" else f"patient(s) ({own.groups})"
            raise UserError(
                f"class '{label}' of {own.path} has {number} {what}, but each of "
                f"{', '.join(SPLITS)} needs one; add patients, or leave the class out or join it "
                "with another"
            )


def _counts(
    samples: Sequence[OwnSample],
    told: Sequence[str],
    patients: Sequence[str],
    classes: Sequence[str],
) -> dict[str, dict[str, tuple[int, int]]]:
    held = by_key(
        ((stratum, sample.split), patient)
        for sample, stratum, patient in zip(samples, told, patients, strict=True)
    )
    some = {(label, split): held.get((label, split), []) for label in classes for split in SPLITS}
    return {
        label: {split: (len(some[label, split]), len({*some[label, split]})) for split in SPLITS}
        for label in classes
    }


def write(own: OwnData, path: Path) -> None:
    """Write a manifest of samples with splits, whole or not at all; its paths start at its folder.

    Raises:
        UserError: a name that cannot be written in UTF-8.
    """
    grouped = any(one.group is not None for one in own.samples)
    framed = any(one.frame is not None for one in own.samples)
    told = f"target ({own.unit})" if own.unit else own.told
    header = [own.sample, told, "split", *["group"] * grouped, *["frame"] * framed]
    folder = os.path.abspath(path.parent)

    def below(file: Path) -> str:
        return Path(os.path.relpath(os.path.abspath(file), folder)).as_posix()

    rows: list[Sequence[object]] = [header]
    for one in own.samples:
        frame = "" if one.frame is None else str(one.frame)
        label = one.label if one.mask is None else below(one.mask)
        cells = [below(one.path), label, one.split, *[one.group] * grouped, *[frame] * framed]
        rows.append(cells)
    try:
        files.write_text(path, files.csv_text(rows))
    except UnicodeEncodeError as error:
        raise UserError(
            f"a path in {path.parent} cannot be written in UTF-8; rename the file with other "
            "letters"
        ) from error
