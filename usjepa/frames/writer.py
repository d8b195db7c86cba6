"""Writing a set of an index: frames compressed, records streamed to disk, renamed when it is whole.

`usjepa.frames.store` says what lies where, and reads it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, TextIO

import numpy as np
import PIL.Image

from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from usjepa.frames.store import (
    CLIPS,
    FORMAT,
    FRAMES,
    LIST,
    LONGEST_SIDE,
    RECORD,
    RECORDS,
    REMOVED,
    SEALED,
    SET,
    SHARD_BYTES,
    Settings,
    frame_digest,
    is_set,
    listed,
)


class Packed(NamedTuple):
    """A frame as bytes, made by `pack` in any thread."""

    png: bytes
    mask: bytes
    height: int
    width: int
    digest: bytes
    """SHA-256 of pixels and region."""


def pack(pixels: np.ndarray, region: np.ndarray | None) -> Packed:
    """Compress a frame.

    Args:
        pixels: uint8 [H, W] or [H, W, 3]; no side longer than LONGEST_SIDE.
        region: bool [H, W] with at least one True, or None for everything.
    """
    height, width = pixels.shape[:2]
    if max(height, width) > LONGEST_SIDE:
        raise ValueError(f"a frame of {width} x {height} pixels is too long for the index")
    if region is not None and region.shape != (height, width):
        raise ValueError(f"region {region.shape} is not of the frame's size {(height, width)}")
    if region is not None and region.all():
        region = None
    mask = b"" if region is None else np.packbits(region).tobytes()
    content = [str(pixels.shape).encode(), pixels.tobytes(), mask]
    return Packed(
        png=_png(pixels),
        mask=b"" if region is None else _png(region),
        height=height,
        width=width,
        digest=bytes.fromhex(hashing.digest_parts(content)),
    )


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


class Writer:
    """Writes one set of an index, in a `with` block; it is there once the block has ended well.

    A set of the same name is replaced.

    Args:
        index: folder of the index; made if it is not there.
        name: of the set, and of its folder.
        settings: what was done to the frames.
        source: where they are from, for set.json.
        guard: what test images they were compared with, for set.json; None if they weren't.

    Raises:
        UserError: on entering, if a folder of that name is there and is not a set.
    """

    def __init__(
        self,
        index: Path,
        name: str,
        settings: Settings,
        source: dict[str, Any] | None = None,
        guard: dict[str, Any] | None = None,
    ) -> None:
        self.target = index / name
        self.settings = settings
        self.source = source
        self.guard = guard
        self.kept = 0
        self.removed: Counter[str] = Counter()
        self.first_removed = ""
        """Detail of the first that was left out with one."""
        self._stack = ExitStack()
        self._hash = hashlib.sha256()
        self._shards: list[int] = []  # their lengths

    def __enter__(self) -> Self:
        if self.target.exists() and not is_set(self.target) and not _is_empty(self.target):
            raise UserError(
                f"{self.target} is there and is not a set of an index; give another --out folder"
            )
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._folder = self._stack.enter_context(files.atomic_folder(self.target))
        self._open = self._stack.enter_context(ExitStack())  # files, closed before the rename
        self._records = self._open.enter_context((self._folder / RECORDS).open("wb+"))
        self._write_header()
        self._frames = self._table(FRAMES, ("name", "group", "digest"))
        self._left_out = self._table(REMOVED, ("name", "reason", "detail"))
        if self.settings.clips:
            self._clips = self._table(CLIPS, ("name", "first", "frames", "rate"))
        self._shard = self._next_shard()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:  # which renames the folder, or removes it after an error
            if error is not None:
                raise error
            self._write_header()
            self._open.close()
            (self._folder / SET).write_text(self._about() + "\n", encoding="utf-8")
            if self.target.is_dir():
                shutil.rmtree(self.target)
        enlist(self.target, self._hash.hexdigest())

    def begin_clip(self, name: str, frames: int, rate: float | None) -> None:
        """Say that the next frames are those of a clip.

        Args:
            name: in its source, unique within the set.
            frames: how many there will be.
            rate: frames a second; None where nothing tells.
        """
        csv.writer(self._clips).writerow((name, self.kept, frames, "" if rate is None else rate))
        self._hash.update(f"{frames} frames, {rate} a second".encode())

    def add(
        self, name: str, group: str, digest: str, pixels: np.ndarray, region: np.ndarray | None
    ) -> None:
        """Write a frame.

        Args:
            name: in its source, unique within the set.
            group: video or patient; the same for all frames that must stay together.
            digest: SHA-256 of what it was made from.
            pixels: uint8 [H, W] or [H, W, 3].
            region: bool [H, W], or None for everything.
        """
        self.add_packed(name, group, digest, pack(pixels, region))

    def add_packed(self, name: str, group: str, digest: str, packed: Packed) -> None:
        """Write a frame that `pack` has compressed, perhaps in another thread."""
        if self._shards[-1] >= SHARD_BYTES:
            self._shard.close()
            self._shard = self._next_shard()
        # Names of files need not be text, and then have surrogates in them.
        named = group.encode(errors="surrogateescape")
        key = int.from_bytes(hashlib.sha256(named).digest()[:8], "little")
        stored = packed.png + packed.mask
        record = np.array(
            (
                key,
                len(self._shards) - 1,
                self._shards[-1],
                len(packed.png),
                len(packed.mask),
                packed.height,
                packed.width,
                np.void(frame_digest(stored)),
            ),
            RECORD,
        )
        self._shard.write(stored)
        self._shards[-1] += len(stored)
        self._records.write(record.tobytes())
        csv.writer(self._frames).writerow((name, group, digest))
        # Not of the PNG's bytes, which depend on the version of zlib.
        self._hash.update(key.to_bytes(8, "little") + packed.digest)
        self.kept += 1

    def remove(self, name: str, reason: str, detail: str = "") -> None:
        """Note a frame or file that is left out, by a `reason` to count and a free `detail`."""
        self.removed[reason] += 1
        self.first_removed = self.first_removed or detail
        csv.writer(self._left_out).writerow((name, reason, detail))

    def _table(self, name: str, columns: tuple[str, ...]) -> TextIO:
        path = self._folder / name
        file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        csv.writer(file).writerow(columns)
        return self._open.enter_context(file)

    def _next_shard(self) -> BinaryIO:
        path = self._folder / f"pixels-{len(self._shards):05d}.bin"
        self._shards.append(0)
        return self._open.enter_context(path.open("wb"))

    def _write_header(self) -> None:
        """Begin the file of records; numpy's header has room for any count to be put in later."""
        self._records.seek(0)
        about = {"descr": RECORD.descr, "fortran_order": False, "shape": (self.kept,)}
        np.lib.format.write_array_header_1_0(self._records, about)

    def _about(self) -> str:
        told = {
            "format": FORMAT,
            "name": self.target.name,
            "settings": self.settings.plain(),
            "counts": {"kept": self.kept, "removed": sum(self.removed.values())},
            "removed": dict(sorted(self.removed.items())),
            "shards": self._shards,
            "fingerprint": self._hash.hexdigest(),
            "source": self.source,
            "guard": self.guard,
            "files": {
                name: hashing.digest_file(self._folder / name)
                for name in (*SEALED, *([CLIPS] if self.settings.clips else []))
            },
        }
        return json.dumps(hashing.seal(told), indent=2, ensure_ascii=False)


def enlist(folder: Path, fingerprint: str) -> None:
    """Note in INDEX/index.json that a set was made there; sets that are gone are taken off it.

    Args:
        folder: of the set.
        fingerprint: of its frames.
    """
    index = folder.parent
    with files.locked(index / LIST):
        before = listed(index)
        sets = {name: known for name, known in before.items() if is_set(index / name)}
        sets[folder.name] = fingerprint
        if sets != before:
            content = hashing.seal({"sets": dict(sorted(sets.items()))})
            files.write_text(index / LIST, json.dumps(content, indent=2) + "\n")


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
