"""A folder with a sub-folder per class, whole or within folders train, valid and test.

scans/benign/001.png              scans/train/benign/001.png
scans/malignant/007.dcm           scans/valid/malignant/007.dcm
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tasks import recognise
from tasks.own_data import image_files
from tasks.own_data.tables import Listing
from tasks.samples import image_kinds
from ultrabench_eval.core.errors import UserError, not_found

PARTS = {
    "train": "train",
    "training": "train",
    "valid": "validation",
    "val": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_DATA_OF_OTHERS = (".raw", ".zraw")  # of MetaImage headers


def listing(folder: Path) -> Listing:
    """The images of a folder as a table with the columns image and label, and split if it has one.

    Raises:
        UserError: no such folder, or one that is not laid out so.
    """
    if not folder.is_dir():
        raise not_found("folder", folder, "give one with a sub-folder for each class")
    inside = _folders(folder)
    parts = {name: PARTS[name.lower()] for name in inside if name.lower() in PARTS}
    if not parts:
        if len(inside) < 2:
            raise UserError(
                f"{folder} has {len(inside)} sub-folder(s); a task needs one for each class, at "
                "least two"
            )
        places = {f"{name}/": ("", name) for name in inside}
    else:
        _check_parts(folder, inside, parts)
        places = {
            f"{name}/{label}/": (part, label)
            for name, part in parts.items()
            for label in _folders(folder / name)
        }
    rows: list[tuple[str, list[str]]] = []
    left_out: dict[str, list[str]] = {"masks": [], "not images": [], "in no folder of a class": []}
    for name in _files(folder):
        place = next((one for one in places if name.startswith(one)), None)
        path = folder / name
        if path.suffix.lower() in _DATA_OF_OTHERS:
            continue
        if not image_files.is_image(path):
            left_out["not images"].append(name)
        elif place is None:
            left_out["in no folder of a class"].append(name)
        elif image_kinds.is_mask(path.stem):
            left_out["masks"].append(name)
        else:
            split, label = places[place]
            rows.append((name, [name, label, split] if parts else [name, label]))
    notes = tuple(
        f"{len(names)} file(s) are left out: {why} (first: {names[0]})"
        for why, names in left_out.items()
        if names
    )
    return Listing(("image", "label", "split") if parts else ("image", "label"), rows, notes)


def _check_parts(folder: Path, inside: list[str], parts: dict[str, str]) -> None:
    others = [name for name in inside if name not in parts]
    lacking = set(PARTS.values()) - set(parts.values())
    if others or lacking or len(set(parts.values())) < len(parts):
        raise UserError(
            f"{folder} has the sub-folders {', '.join(inside)}; give it one each for train, valid "
            "and test and no others, or one for each class and let `ubench data split` draw"
        )


def _folders(folder: Path) -> list[str]:
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not recognise.is_hidden(path.name)
    )


def _files(folder: Path) -> Iterator[str]:
    """Files in all folders below, by their names in it, in a fixed order."""
    for place, folders, names in os.walk(folder, onerror=recognise.unlisted):
        folders[:] = sorted(name for name in folders if not recognise.is_hidden(name))
        for name in sorted(names):
            if not recognise.is_hidden(name):
                yield Path(place, name).relative_to(folder).as_posix()
