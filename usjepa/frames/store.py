"""The index: preprocessed frames of several data sets on disk, written once and read at random.

One folder per set, written aside and renamed when it is whole:

    INDEX/index.json               which sets were made here, with their fingerprints
    INDEX/<set>/set.json           format, name, settings, counts, source, fingerprint, guard, and
                                   the digests of itself and of the next three
    INDEX/<set>/records.npy        where each frame's bytes are, and their digest (memory-mapped)
    INDEX/<set>/frames.csv         name, group and digest of each frame, in the records' order
    INDEX/<set>/clips.csv          of clips: name, first record, frames and frames a second of each
    INDEX/<set>/removed.csv        name, reason and detail of what was left out
    INDEX/<set>/pixels-00000.bin   PNGs end to end: a frame, then its region where it has one

What is read is compared with these digests: the small files on opening, a frame when it is read.
Nothing in a set grows with it in memory, so that millions of frames can be written and read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import mmap
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image

from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError, not_found

FORMAT = 2
"""Raised whenever an older reader would misread a set. Format 1 had no digests."""

SHARD_BYTES = 2**30  # a new shard is begun behind so many
LONGEST_SIDE = 2**16 - 1  # of a frame, because `height` and `width` have two bytes

RECORD = np.dtype(
    [
        ("group", "<u8"),  # hash of the video, or of the still itself
        ("shard", "<u2"),
        ("offset", "<u8"),
        ("length", "<u4"),  # of the frame's PNG
        ("mask", "<u4"),  # of the region's PNG behind it; 0: the region is everything
        ("height", "<u2"),
        ("width", "<u2"),
        ("digest", "V16"),  # see `frame_digest`
    ]
)

SET, RECORDS, FRAMES, REMOVED = "set.json", "records.npy", "frames.csv", "removed.csv"
LIST = "index.json"
CLIPS = "clips.csv"
SEALED = (RECORDS, FRAMES, REMOVED)
"""Files whose digests are in set.json."""


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
    clips: bool = False
    """Whole videos, all frames of each one after the other; else frames for themselves."""

    def plain(self) -> dict[str, Any]:
        """As plain data, for set.json; of frames as it was before there were clips."""
        settings = asdict(self)
        if not self.clips:
            del settings["clips"]
        return settings


class Frame(NamedTuple):
    """A frame as the index holds it."""

    pixels: np.ndarray
    """uint8 [H, W], or [H, W, 3] in colour."""
    region: np.ndarray | None
    """The ultrasound region, bool [H, W]; None: everything."""


@dataclass(frozen=True)
class Cine:
    """A clip as the index holds it; frames are read when they are asked for."""

    count: int
    rate: float | None
    """Frames a second; None where nothing tells."""
    one: Callable[[int], Frame]

    def frames(self, positions: Sequence[int]) -> list[Frame]:
        """Frames by their positions, from 0; each is decoded once.

        Raises:
            UserError: a file of the index is damaged or gone.
        """
        known = {position: self.one(position) for position in sorted(set(positions))}
        return [known[position] for position in positions]


def frame_digest(stored: bytes) -> bytes:
    """Half of the SHA-256 of a frame's bytes in its shard, those of its region included."""
    return hashlib.sha256(stored).digest()[:16]


class _Set:
    """One set, opened; files of frames are mapped into memory when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about = _about(folder)
        for name, known in self.about["files"].items():
            path = folder / name
            if not path.is_file():
                raise self._damaged(path, "is missing")
            if hashing.digest_file(path) != known:
                raise self._damaged(path, "is not as it was written")
        self.records: np.ndarray = np.load(folder / RECORDS, mmap_mode="r", allow_pickle=False)
        self.starts: np.ndarray | None = None
        """First record of each clip, int64; None where there are only frames."""
        self._rates: list[float | None] = []
        if Settings(**self.about["settings"]).clips:
            self.starts = self._clips()
        self._shards: dict[int, mmap.mmap] = {}
        for number, length in enumerate(self.about["shards"]):
            path = self._shard_path(number)
            if not path.is_file() or path.stat().st_size != length:
                what = "is not of the length that was written" if path.is_file() else "is missing"
                raise self._damaged(path, what)

    def __len__(self) -> int:
        return len(self.records) if self.starts is None else len(self.starts)

    def groups(self) -> np.ndarray:
        rows = slice(None) if self.starts is None else self.starts
        return np.array(self.records["group"][rows], np.uint64)

    def cine(self, number: int) -> Cine:
        assert self.starts is not None
        first = int(self.starts[number])
        end = [*self.starts[number + 1 : number + 2].tolist(), len(self.records)][0]
        return Cine(end - first, self._rates[number], lambda position: self.read(first + position))

    def _clips(self) -> np.ndarray:
        path = self.folder / CLIPS
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))[1:]
            self._rates = [float(row[3]) if row[3] else None for row in rows]
            return np.array([int(row[1]) for row in rows], np.int64)
        except (OSError, UnicodeDecodeError, csv.Error, IndexError, ValueError) as error:
            raise self._damaged(path, f"cannot be read ({error})") from error

    def read(self, row: int) -> Frame:
        stored, length = self._stored(row)
        pixels = _decoded(stored[:length])
        return Frame(pixels, _decoded(stored[length:]) if len(stored) > length else None)

    def _stored(self, row: int) -> tuple[bytes, int]:
        """A frame's bytes, and how many of them are not its region's."""
        record = self.records[row]
        number, start, length = (int(record[name]) for name in ("shard", "offset", "length"))
        path = self._shard_path(number)
        try:
            stored = self._shard(number)[start : start + length + int(record["mask"])]
        except FileNotFoundError as error:
            raise self._damaged(path, "is missing") from error
        except (OSError, ValueError) as error:
            raise self._damaged(path, f"cannot be read at frame {row} ({error})") from error
        if frame_digest(stored) != record["digest"].tobytes():
            raise self._damaged(path, f"is not as it was written at frame {row}")
        return stored, length

    def check(self) -> None:
        """Compare all frames with their digests, without decoding them.

        Raises:
            UserError: one is not as it was written.
        """
        for row in range(len(self.records)):
            self._stored(row)

    def name(self, row: int) -> str:
        path = self.folder / FRAMES
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return next(itertools.islice(csv.reader(file), row + 1, None))[0]
        except (OSError, StopIteration, UnicodeDecodeError, csv.Error, IndexError) as error:
            raise self._damaged(path, f"has no row for frame {row}") from error

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
        return UserError(f"{path} {what}; {_again(self.folder, self.about)}")


def _decoded(png: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        return np.asarray(image)


def listed(index: Path) -> dict[str, str]:
    """Fingerprints of the sets that were made in an index, by name; none if that is not known."""
    try:
        content = json.loads((index / LIST).read_text(encoding="utf-8"))
        return dict(content["sets"]) if hashing.sealed(content) else {}
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return {}


def about(folder: Path, thorough: bool = False) -> dict[str, Any] | None:
    """What a folder's set.json says; None if it is not a whole set that this version can read.

    Args:
        folder: of the set.
        thorough: whether to look at every frame too.
    """
    try:
        one = _Set(folder)
        if thorough:
            one.check()
    except UserError:
        return None
    return one.about


def _about(folder: Path) -> dict[str, Any]:
    path = folder / SET
    again = _again(folder)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        form = int(told["format"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(f"cannot read {path} ({type(error).__name__}: {error}); {again}") from error
    if form > FORMAT:
        raise UserError(
            f"{path} is of format {form}, newer than the {FORMAT} that this version reads; "
            f"update ultrabench-eval, or {again}"
        )
    if form < FORMAT:
        raise UserError(
            f"{path} was written by an earlier version, whose sets hold no digests to check; "
            f"{_again(folder, told)}"
        )
    if not hashing.sealed(told):
        raise UserError(f"{path} is not as it was written; {again}")
    if told["name"] != folder.name:
        raise UserError(
            f"{path} is of a set called '{told['name']}', not '{folder.name}'; give the folder "
            f"that name, or {again}"
        )
    return dict(told)


def _again(folder: Path, told: Mapping[str, Any] | None = None) -> str:
    """How a set is made again."""
    source = told.get("source") if told else None
    where = source.get("folder") if isinstance(source, dict) else None
    words = ["usjepa", "index"]
    if isinstance(where, str):
        words += [where, "--out", str(folder.parent)]
    return f"run `{shlex.join(words)}` again, which makes the set again, or remove {folder}"


class Frames:
    """All frames of an index, numbered through its sets in sorted order; see `open_index`.

    Of an index of clips it is these that are counted and numbered.

    Pickled as its path and opened again by whoever gets it; safe in threads and under fork.
    """

    sets: tuple[str, ...]
    counts: np.ndarray
    """Frames, or clips, of each set, int64."""
    settings: Settings
    fingerprint: str
    """SHA-256 over the sets' names and fingerprints: equal exactly for equal frames."""
    guard: dict[str, Any] | None
    """Test images that all sets were searched for: {"tasks": [...], "digest": ...}; None if some
    set was not, or was by others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        found = sorted(place for place in path.iterdir() if is_set(place))
        if not found:
            raise UserError(
                f"{path} is not an index: none of its folders holds a {SET}; make one with "
                "`usjepa index`, or give --frames a folder of images"
            )
        self._sets = [_Set(folder) for folder in found]
        self.sets = tuple(folder.name for folder in found)
        self.counts = np.array([len(one) for one in self._sets], np.int64)
        self._ends = self.counts.cumsum()
        self.settings = self._agreed()
        self.fingerprint = hashing.digest(
            [[name, one.about["fingerprint"]] for name, one in self._named()]
        )
        self._check_listed()
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

    def cine(self, number: int) -> Cine:
        """A clip."""
        one, place = self._place(number)
        return one.cine(place)

    def name(self, number: int) -> str:
        """What a frame was called in its source, behind the set's name; slow, for messages."""
        one, row = self._place(number)
        return f"{one.folder.name}/{one.name(row)}"

    def groups(self, name: str) -> np.ndarray:
        """Of each frame of a set, the hash of its video or patient (or of itself), uint64 [n]."""
        return self._sets[self.sets.index(name)].groups()

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

    def _check_listed(self) -> None:
        """See that the sets are those that were made here: a folder may hold another index's."""
        known = listed(self.path)
        for name, one in self._named():
            if known.get(name) != one.about["fingerprint"]:
                raise UserError(
                    f"the set {one.folder} is not the one that was made in this index, by "
                    f"{self.path / LIST}; {_again(one.folder, one.about)}"
                )
        if gone := sorted(set(known) - set(self.sets)):
            raise UserError(
                f"the set '{gone[0]}' of the index {self.path} is gone; bring it back, or run "
                "`usjepa index` again for the others"
            )

    def _agreed(self) -> Settings:
        first = self._sets[0]
        for one in self._sets[1:]:
            if one.about["settings"] != first.about["settings"]:
                raise UserError(
                    f"{one.folder} was made with {one.about['settings']}, but {first.folder} with "
                    f"{first.about['settings']}; run `usjepa index` again for both with one --size"
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
    return path.is_dir() and any(is_set(folder) for folder in path.iterdir())


def is_set(folder: Path) -> bool:
    """Whether a folder is a set, whole or damaged; a hidden one is being written."""
    files_of_it = (folder / SET, folder / RECORDS)
    return not folder.name.startswith(".") and any(file.is_file() for file in files_of_it)
