"""The split rules of UltraBench, and its published split files.

The rules are those of UltraBench 1.0.1 (github.com/adamtupper/ultrabench): scikit-learn's
generators with fixed seeds, run over items in an order that does not depend on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from ultrabench_eval.core.errors import UserError

PUBLISHED = "ultrabench_splits"  # ROOT/ultrabench_splits: data/splits of UltraBench's repository
PUBLISHED_FROM = (
    "`data/splits` of https://github.com/adamtupper/ultrabench at commit "
    "a795300b787afe6404f4eb5f547301d46891c921"
)


def stratified(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (rest, held out) of a class-stratified draw of `fraction` of the items.

    The held-out part has ceil(fraction * N) items. Positions come in the shuffled order of
    scikit-learn, which a second draw from `rest` depends on.
    """
    rest, held_out = train_test_split(
        np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels
    )
    return rest, held_out


def grouped(groups: Sequence[Any], fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions (rest, held out) of a draw of `fraction` of the groups, whole; in input order."""
    splitter = GroupShuffleSplit(n_splits=1, test_size=fraction, random_state=seed)
    rest, held_out = next(splitter.split(np.zeros(len(groups)), groups=np.asarray(groups)))
    return rest, held_out


def published(folder: Path, task: str, part: str) -> list[dict[str, Any]]:
    """Rows of UltraBench's split file `<task>/<part>.json`.

    It is looked for in `ultrabench_splits/` beside or in the task's folder.

    Args:
        folder: the task's data folder, ROOT/<name>.
        task: UltraBench's own name of the task, e.g. "aul_mass".
        part: "train_val" or "test".

    Raises:
        UserError: there is no such file, or it is no JSON list.
    """
    places = [base / PUBLISHED / task / f"{part}.json" for base in (folder.parent, folder)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(
            f"published split of {folder.name} not found: {places[0]}; copy {PUBLISHED_FROM} "
            f"to {places[0].parent.parent}"
        )
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(
            f"{path} is no JSON ({error}); copy it again from {PUBLISHED_FROM}"
        ) from error
    return rows
