"""One image or clip of one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.samples.images import Image


class OwnSample(NamedTuple):
    """One image, or clip, with what its row says."""

    image: Image
    path: Path
    frame: int | None
    """Of a file with several, its number from 1; of a clip, that of the frame `at`."""
    label: str
    """Its class, its number, or the path of its mask as written."""
    split: str
    """"" where the data have no splits."""
    group: str | None
    where: str = ""
    """Where its row is, in words: "line 7"."""
    mask: Path | None = None
    """The file of its mask."""
    subgroups: tuple[tuple[str, str], ...] = ()
    """Columns by which scores are also shown, and what its row has there."""
