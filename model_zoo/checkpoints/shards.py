"""Checkpoints in several files: an index, which says in which of them each tensor is."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ultrabench_eval.core.errors import UserError

INDEX = ".index.json"
_SHARD = re.compile(r"-(\d{3,})-of-(\d{3,})\.")


def count(path: Path) -> int:
    """Of how many files this one is a part, by its name; 1 if it is none."""
    found = _SHARD.search(path.name)
    return int(found[2]) if found else 1


def is_index(path: Path) -> bool:
    """Whether a path has the name of an index."""
    return path.name.endswith(INDEX)


def in_folder(folder: Path, files: list[Path]) -> list[Path]:
    """What a folder has to choose from: an index stands for all of its shards.

    Args:
        folder: the folder.
        files: the weights in it.

    Raises:
        UserError: there are shards, but no index.
    """
    indexes = sorted(folder.glob(f"*{INDEX}"))
    whole = [file for file in files if count(file) == 1]
    if len(whole) < len(files) and not indexes:
        shard = next(file for file in files if count(file) > 1)
        raise UserError(
            f"{folder} holds {shard.name} and other parts of a checkpoint, but not their index; "
            f"copy {_index_of(shard).name} there too"
        )
    return [*indexes, *whole]


def check_named(path: Path) -> None:
    """Refuse one part of a checkpoint where the whole is meant.

    Raises:
        UserError: the name is that of a part; says what to name.
    """
    if count(path) > 1:
        raise UserError(
            f"{path} is one of {count(path)} parts of a checkpoint; name their index "
            f"{_index_of(path)} in its place"
        )


def weight_map(index: Path) -> dict[Path, set[str]]:
    """The files that an index names, in order, each with the tensors that it must hold.

    Raises:
        UserError: no index, a file is missing or outside of the folder, or there are parts in the
            folder that the index does not name.
    """
    held: dict[Path, set[str]] = {}
    for key, name in sorted(_pairs(index), key=lambda pair: (pair[1], pair[0])):
        held.setdefault(index.parent / name, set()).add(key)
    for path in held:
        if not path.is_file():
            raise UserError(
                f"{index} names {path.name}, which is not in {index.parent}; copy it there"
            )
    like = {_SHARD.sub("-*-of-*.", path.name) for path in held if count(path) > 1}
    strays = [
        path
        for path in sorted(index.parent.iterdir())
        if path not in held and count(path) > 1 and _SHARD.sub("-*-of-*.", path.name) in like
    ]
    if strays:
        raise UserError(
            f"{strays[0]} is a part of a checkpoint that {index.name} does not name; remove it, or "
            "get index and parts again from one source"
        )
    return held


def names(index: Path) -> list[str]:
    """The names of the files that an index names, which need not be there.

    Raises:
        UserError: no index, or a name leads out of the folder.
    """
    return sorted({name for _, name in _pairs(index)})


def _pairs(index: Path) -> list[tuple[str, str]]:
    """Each tensor with the name of its file."""
    try:
        told = json.loads(index.read_text(encoding="utf-8"))
        pairs = list(told["weight_map"].items())
        if not pairs or not all(isinstance(name, str) for pair in pairs for name in pair):
            raise ValueError("its weight_map names no files")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{index} is a JSON file, but not an index of weights ({type(error).__name__}: "
            f"{str(error)[:80]}); name the weights beside it, or get the index again"
        ) from error
    for _, name in pairs:
        if Path(name).name != name:
            raise UserError(
                f"{index} names the file {name[:80]!r}, which is not beside it; download the "
                "index again"
            )
    return pairs


def files_of(path: Path) -> list[Path]:
    """The files whose content `path` stands for: an index with its parts, or the file itself."""
    return [path, *weight_map(path)] if is_index(path) else [path]


def _index_of(shard: Path) -> Path:
    return shard.with_name(_SHARD.sub(".", shard.name) + INDEX)
