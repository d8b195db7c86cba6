"""Frames of HDF5 files: one of the first axis of a data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tasks.samples.images import RELEASE, changed
from ultrabench_eval.core import hashing, names
from ultrabench_eval.core.errors import UserError, not_found


@dataclass(frozen=True)
class Hdf5Frame:
    """One frame of a data set [N, H, W] or [N, H, W, 3]; a kind of `tasks.samples.images.Image`."""

    path: Path
    name: str
    dataset: str
    """Name of the data set in the file."""
    index: int
    """Position in the data set, from 0."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", names.printable(self.name))

    def read(self, digest: str | None = None) -> np.ndarray:
        """The frame, uint8 RGB [H, W, 3]; grey is repeated.

        Args:
            digest: what `digest` gave before; the values must still have it.

        Raises:
            UserError: the file is damaged, its values are not of 8 bits, or they changed.
        """
        values = self.stored()
        if values.dtype != np.uint8:
            raise damaged(self.path, f"'{self.dataset}' holds {values.dtype}, not 8 bits")
        if digest is not None and _digest(values) != digest:
            raise changed("frame", f"{self.name} of {self.path}")
        return values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=2)

    def stored(self) -> np.ndarray:
        """The values as they are stored, [H, W] or [H, W, 3].

        Raises:
            UserError: the file is missing or damaged, or has no such frame.
        """
        found = np.asarray(column(self.path, self.dataset, self.index))
        if found.ndim not in (2, 3) or found.shape[2:] not in ((), (3,)):
            raise damaged(self.path, f"'{self.dataset}' holds no images but {found.shape}")
        return found

    def digest(self) -> str:
        """SHA-256 over shape, type and values; the file may be too large to be hashed whole."""
        return _digest(self.stored())


def column(path: Path, dataset: str, at: int | slice = slice(None)) -> Any:
    """What a data set holds at a position of its first axis, or everywhere; text as `str`.

    Raises:
        UserError: no such file, data set or position, or it is damaged.
    """
    if not path.is_file():
        raise not_found("HDF5 file", path, "copy it again from the release")
    try:
        import h5py

        with h5py.File(path, "r") as file:
            node = file[dataset]
            return node.asstr()[at] if h5py.check_string_dtype(node.dtype) else node[at]
    except Exception as error:  # h5py raises many kinds on a damaged file
        raise damaged(path, " ".join(str(error).split())[:120]) from error


def damaged(path: Path, why: object) -> UserError:
    """The sentence for a file that is not as it should be."""
    return UserError(f"cannot read HDF5 file {path} ({why}); copy it again from {RELEASE}")


def _digest(values: np.ndarray) -> str:
    head = f"{values.dtype}{values.shape}".encode()
    return hashing.digest_parts([head, np.ascontiguousarray(values).tobytes()])
