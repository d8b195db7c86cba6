"""Splits are the same on every machine and with every scikit-learn: members are written down here.

They hang on the generators of NumPy and scikit-learn. Should one change, these tests tell, and the
rules must be kept by code of our own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tasks
from tasks import splits
from ultrabench_eval.core import hashing


def test_draws_by_class() -> None:
    labels = np.repeat([0, 1, 2], [10, 20, 30])
    assert splits.stratified(labels, 0.1, 42)[1].tolist() == [41, 54, 20, 58, 28, 6]
    held_out = splits.stratified(labels, 0.2, 42)[1].tolist()
    assert held_out == [13, 54, 39, 28, 46, 29, 58, 6, 45, 20, 41, 3]


def test_draws_of_groups() -> None:
    groups = list("abcdefghijklmnop")
    assert splits.grouped(groups, 0.2, 42)[1].tolist() == [0, 1, 5, 14]
    assert splits.grouped(groups, 0.2, 0)[1].tolist() == [1, 6, 8, 9]


# Digests of the names, in order, of train, validation and test.
MEMBERS = {
    "aul": ("405cf1b276d4", "dee3e015c718", "93055dae17ff"),
    "aul@rule": ("d76f1d3f1d28", "402447bf7f08", "2687d7330cb7"),
    "mmotu": ("31a661fa795c", "0cb3ce733516", "363e246936ca"),
    "busbra": ("ec646a4675ac", "f11446105082", "40e1acf391fd"),
    "busbra@all-images": ("aa924c9a7329", "c9eddcfa4c1d", "e75f2724f8f7"),
    "pocus": ("2bce7c9a64a0", "0a5f08a0b8ef", "2884cce4e89f"),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", MEMBERS)
def test_members_of_the_real_tasks(real_data: Path, name: str) -> None:
    task = tasks.load(name, real_data)
    digests = [
        hashing.short(hashing.digest_bytes("\n".join(i.name for i in split.images).encode()))
        for split in task.splits.values()
    ]
    assert tuple(digests) == MEMBERS[name]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "folder", "column"),
    [
        ("aul", "aul_mass", "pathology"),
        ("butterfly", "butterfly", "class"),
        ("fatty_liver", "fatty_liver", "pathology"),
        ("gbcu", "gbcu", "pathology"),
        ("pocus", "pocus", "pathology"),
    ],
)
def test_class_codes_are_ultrabenchs(real_data: Path, name: str, folder: str, column: str) -> None:
    rows = json.loads((real_data / splits.PUBLISHED / folder / "test.json").read_text())
    theirs = {row["label"]: row[column].lower() for row in rows}
    ours = dict(enumerate(tasks.card(name).classes))
    assert theirs == ours | ({1: "nfld"} if name == "fatty_liver" else {})
