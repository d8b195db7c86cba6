"""The index: preprocessed frames of several data sets on disk, written once and read at random.

One folder a set, written aside and renamed when it is whole:

    INDEX/<set>/set.json           format, settings, counts, source, fingerprint, guard
    INDEX/<set>/records.npy        where each frame's bytes are (memory-mapped)
    INDEX/<set>/frames.csv         name, group and digest of each frame, in the records' order
    INDEX/<set>/removed.csv        name, reason and detail of what was left out
    INDEX/<set>/pixels-00000.bin   PNGs end to end: a frame, then its region where it has one

Nothing in a set grows with it in memory, so that millions of frames can be written and read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import mmap
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self, TextIO

import numpy as np
import PIL.Image

from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError, not_found

FORMAT = 1
"""Raised whenever an older reader would misread a set."""

SHARD_BYTES = 2**30  # a new shard is begun behind so many
LONGEST_SIDE = 2**16 - 1  # of a frame, for `height` and `width` have two bytes

RECORD = np.dtype(
    [
        ("group", "<u8"),  # hash of the video, or of the still itself
        ("shard", "<u2"),
        ("offset", "<u8"),
        ("length", "<u4"),  # of the frame's PNG
        ("mask", "<u4"),  # of the region's PNG behind it; 0: the region is everything
        ("height", "<u2"),
        ("width", "<u2"),
    ]
)

_SET, _RECORDS, _FRAMES, _REMOVED = "set.json", "records.npy", "frames.csv", "removed.csv"


@dataclass(frozen=True)
class Settings:
    """What was done to the frames; all sets of an index agree in it."""

    grey: bool = True
    """One channel, with coloured marks painted over; else RGB as it came."""
    inpaint_below: float = 0.05
    """Coloured marks are painted over if they take less than this share of the image."""
    size: int = 288
    """Shorter side at most, in pixels; smaller frames stay as they are. By default a crop of 60 %
    of the area is still 224 pixels high."""


class Frame(NamedTuple):
    """A frame as the index holds it."""

    pixels: np.ndarray
    """uint8 [H, W], or [H, W, 3] in colour."""
    region: np.ndarray | None
    """The ultrasound region, bool [H, W]; None: everything."""


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


# Reading


class _Set:
    """One set, opened; files of frames are mapped into memory when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = _about(folder)
        self.records = self._records()
        self._shards: dict[int, mmap.mmap] = {}
        for number, length in enumerate(self.about["shards"]):
            path = self._shard_path(number)
            if not path.is_file() or path.stat().st_size != length:
                what = "is not of the length that was written" if path.is_file() else "is missing"
                raise self._damaged(path, what)

    def read(self, row: int) -> Frame:
        record = self.records[row]
        number, start = int(record["shard"]), int(record["offset"])
        middle = start + int(record["length"])
        end = middle + int(record["mask"])
        shape = int(record["height"]), int(record["width"])
        path = self._shard_path(number)
        try:
            shard = self._shard(number)
            if end > len(shard):
                raise ValueError(f"it ends at byte {len(shard)}")
            pixels = _decoded(shard[start:middle])
            region = _decoded(shard[middle:end]) if end > middle else None
        except FileNotFoundError as error:
            raise self._damaged(path, "is missing") from error
        except (OSError, SyntaxError, ValueError) as error:
            raise self._damaged(path, f"cannot be read at frame {row} ({error})") from error
        if pixels.shape[:2] != shape or (region is not None and region.shape != shape):
            raise self._damaged(path, f"holds another frame than it should at frame {row}")
        return Frame(pixels, region)

    def name(self, row: int) -> str:
        path = self.folder / _FRAMES
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return next(itertools.islice(csv.reader(file), row + 1, None))[0]
        except (OSError, StopIteration, UnicodeDecodeError, csv.Error, IndexError) as error:
            raise self._damaged(path, f"has no row for frame {row}") from error

    def _records(self) -> np.ndarray:
        path = self.folder / _RECORDS
        try:
            records: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(path, f"cannot be read ({error})") from error
        if records.dtype != RECORD or len(records) != self.about["counts"]["kept"]:
            raise self._damaged(path, f"does not hold the frames that {_SET} counts")
        return records

    def _shard(self, number: int) -> mmap.mmap:
        # Maps have no position that threads and forked processes could fight over. Two threads
        # may both map a shard, and one of the maps is then dropped.
        if number not in self._shards:
            with self._shard_path(number).open("rb") as file:
                self._shards[number] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._shards[number]

    def _shard_path(self, number: int) -> Path:
        return self.folder / f"pixels-{number:05d}.bin"

    def _damaged(self, path: Path, what: str) -> UserError:
        return UserError(
            f"{path} {what}; remove {self.folder} and run `usjepa index` again to have the set "
            "made anew"
        )


def _decoded(png: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image)


def about(folder: Path) -> dict[str, Any] | None:
    """What a folder's set.json says; None if it is no whole set that this version can read."""
    try:
        return _Set(folder).about
    except UserError:
        return None


def _about(folder: Path) -> dict[str, Any]:
    path = folder / _SET
    again = f"remove {folder} and run `usjepa index` again"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        form = int(told["format"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"cannot read {path} ({error}); {again}") from error
    if form > FORMAT:
        raise UserError(
            f"{path} is of format {form}, newer than the {FORMAT} that this version reads; "
            f"update ultrabench-eval, or {again}"
        )
    try:
        Settings(**told["settings"])
        kept, shards, fingerprint = told["counts"]["kept"], told["shards"], told["fingerprint"]
        if not (isinstance(kept, int) and isinstance(fingerprint, str) and list(shards) == shards):
            raise TypeError("a value is of another kind")
        if kept < 1:
            raise TypeError("it counts no frame")
    except (TypeError, KeyError) as error:
        raise UserError(f"{path} is not as it was written ({error}); {again}") from error
    return dict(told)


class Frames:
    """All frames of an index, numbered through its sets in sorted order; see `open_index`.

    Pickled as its path and opened again by whoever gets it; safe in threads and under fork.
    """

    sets: tuple[str, ...]
    counts: np.ndarray
    """Frames of each set, int64."""
    settings: Settings
    fingerprint: str
    """SHA-256 over the sets' names and fingerprints: equal exactly for equal frames."""
    guard: dict[str, Any] | None
    """Test images that all sets were searched for: {"tasks": [...], "digest": ...}; None if some
    set was not, or was by others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = sorted(place for place in path.iterdir() if _is_set(place))
        if not found:
            raise UserError(
                f"{path} is no index: none of its folders holds a {_SET}; make one with "
                "`usjepa index`, or give --frames a folder of images"
            )
        self._sets = [_Set(folder) for folder in found]
        self.sets = tuple(folder.name for folder in found)
        self.counts = np.array([len(one.records) for one in self._sets], np.int64)
        self._ends = self.counts.cumsum()
        self.settings = self._agreed()
        self.fingerprint = hashing.digest(
            [[name, one.about["fingerprint"]] for name, one in self._named()]
        )
        guards = [one.about.get("guard") for one in self._sets]
        self.guard = guards[0] if all(guard == guards[0] for guard in guards) else None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __reduce__(self) -> tuple[Callable[[Path], Frames], tuple[Path]]:
        return open_index, (self.path,)

    def read(self, number: int) -> Frame:
        """A frame.

        Raises:
            UserError: a file of the index is damaged or gone.
        """
        one, row = self._place(number)
        return one.read(row)

    def name(self, number: int) -> str:
        """What a frame was called in its source, behind the set's name; slow, for messages."""
        one, row = self._place(number)
        return f"{one.folder.name}/{one.name(row)}"

    def groups(self, name: str) -> np.ndarray:
        """Of each frame of a set, the hash of its video or patient (or of itself), uint64 [n]."""
        return np.array(self._sets[self.sets.index(name)].records["group"], np.uint64)

    def first(self, name: str) -> int:
        """The number of a set's first frame."""
        at = self.sets.index(name)
        return int(self._ends[at] - self.counts[at])

    def _place(self, number: int) -> tuple[_Set, int]:
        if not 0 <= number < len(self):
            raise IndexError(f"frame {number} of an index that has {len(self)}")
        at = int(np.searchsorted(self._ends, number, side="right"))
        return self._sets[at], int(number - (self._ends[at] - self.counts[at]))

    def _named(self) -> Sequence[tuple[str, _Set]]:
        return list(zip(self.sets, self._sets, strict=True))

    def _agreed(self) -> Settings:
        first = self._sets[0]
        for one in self._sets[1:]:
            if one.about["settings"] != first.about["settings"]:
                raise UserError(
                    f"{one.folder} was made with {one.about['settings']}, but {first.folder} with "
                    f"{first.about['settings']}; run `usjepa index` again to have all made alike"
                )
        return Settings(**first.about["settings"])


def open_index(path: Path | str) -> Frames:
    """Open an index.

    Raises:
        UserError: no such folder, no index, sets with different settings, a damaged set or one of
            a newer format.
    """
    path = Path(path)
    if not path.is_dir():
        raise not_found("index of frames", path, "make one with `usjepa index`")
    return Frames(path)


def is_index(path: Path) -> bool:
    """Whether a folder holds sets of frames, as `usjepa index` writes them."""
    return path.is_dir() and any(_is_set(folder) for folder in path.iterdir())


def _is_set(folder: Path) -> bool:
    # Either file tells a set; a hidden folder is one that is being written.
    files_of_it = (folder / _SET, folder / _RECORDS)
    return not folder.name.startswith(".") and any(file.is_file() for file in files_of_it)


# Holding out


def hold_out(frames: Frames, share: float, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Split each set by whole groups (videos, patients, single stills).

    A set's split depends on its own frames and the seed only. At least one group is held out of a
    set with two or more if `share` is above 0, and never all of them. Groups of more than twice
    the wanted frames stay in training if there are smaller ones.

    Args:
        frames: an index of S sets.
        share: of each set's frames that are held out, in [0, 1).
        seed: of the run.

    Returns:
        Numbers of the training frames, int64 [n], of each of the S sets; likewise of those that
        are held out. All ascending.
    """
    train, held = [], []
    for name in frames.sets:
        out = _held_out(frames.groups(name), share, seed)
        numbers = np.arange(len(out), dtype=np.int64) + frames.first(name)
        train.append(numbers[~out])
        held.append(numbers[out])
    return train, held


def _held_out(groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which frames are held out, bool [n], by their groups, uint64 [n]."""
    known, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    if share <= 0 or len(known) < 2:
        return np.zeros(len(groups), bool)
    wanted = share * len(groups)
    order = np.argsort(_mixed(known, hashing.seed_for(seed, "held-out groups")), kind="stable")
    small = sizes[order] <= max(2 * wanted, sizes.min())
    order = order[small]
    # Groups in order until taking the next would bring the count no nearer to what is wanted.
    count = 1 + int(np.abs(sizes[order].cumsum() - wanted).argmin())
    chosen = np.zeros(len(known), bool)
    chosen[order[: min(count, len(known) - 1)]] = True
    return np.asarray(chosen[member])


def _mixed(values: np.ndarray, seed: int) -> np.ndarray:
    """Hashes of 64-bit values that a seed changes throughout, uint64 [n]: SplitMix64's mixer."""
    mixed = values ^ np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


# Writing


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
        UserError: on entering, if a folder of that name is there and is no set.
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
        if self.target.exists() and not _is_set(self.target) and not _is_empty(self.target):
            raise UserError(
                f"{self.target} is there and is no set of an index; give another --out folder"
            )
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self._folder = self._stack.enter_context(files.atomic_folder(self.target))
        self._open = self._stack.enter_context(ExitStack())  # files, closed before the rename
        self._records = self._open.enter_context((self._folder / _RECORDS).open("wb+"))
        self._write_header()
        self._frames = self._table(_FRAMES, ("name", "group", "digest"))
        self._left_out = self._table(_REMOVED, ("name", "reason", "detail"))
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
            (self._folder / _SET).write_text(self._about() + "\n", encoding="utf-8")
            if self.target.is_dir():
                shutil.rmtree(self.target)

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
        key = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8], "little")
        record = np.array(
            (
                key,
                len(self._shards) - 1,
                self._shards[-1],
                len(packed.png),
                len(packed.mask),
                packed.height,
                packed.width,
            ),
            RECORD,
        )
        self._shard.write(packed.png + packed.mask)
        self._shards[-1] += len(packed.png) + len(packed.mask)
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
        file = (self._folder / name).open("w", encoding="utf-8", newline="")
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
            "settings": asdict(self.settings),
            "counts": {"kept": self.kept, "removed": sum(self.removed.values())},
            "removed": dict(sorted(self.removed.items())),
            "shards": self._shards,
            "fingerprint": self._hash.hexdigest(),
            "source": self.source,
            "guard": self.guard,
        }
        return json.dumps(told, indent=2, ensure_ascii=False)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
