"""What a release is made of: independent items of work, and tables that need them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.phantom.machine import generator


@dataclass(frozen=True)
class Size:
    """How much to make.

    Args:
        name: as asked for.
        more: factor on the number of images (or patients, or frames per patient).
        pixels: factor on height and width.
    """

    name: str
    more: float
    pixels: float

    def count(self, number: int) -> int:
        """`number` of the small suite at this size."""
        return round(number * self.more)


SIZES: Mapping[str, Size] = {
    "small": Size("small", 1.0, 1.0),
    "medium": Size("medium", 4.5, 1.4),
    "study": Size("study", 10.0, 1.0),
}


@dataclass(frozen=True)
class PhantomPlan:
    """Work that makes one folder.

    Args:
        items: independent; each writes its own files and returns what the tables need.
        finish: writes the tables from the items' results, in the order of the items.
    """

    items: Sequence[Callable[[], Any]]
    finish: Callable[[list[Any]], None]


def shuffled(seed: int, purpose: str, counts: Sequence[int]) -> list[int]:
    """Class codes, `counts[c]` times c, in random order."""
    codes = np.repeat(np.arange(len(counts)), counts)
    generator(seed, purpose).shuffle(codes)
    return [int(code) for code in codes]


def write(path: Path, content: bytes | str) -> None:
    """Write a file of a release, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write lines, each ended by a line feed."""
    write(path, "".join(f"{line}\n" for line in lines))


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write JSON."""
    write(path, json.dumps(value, indent=indent))
