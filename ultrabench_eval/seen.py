"""What a model of one's own was trained on (`--seen`), and which test images are among it.

A folder of images, or a list (text or CSV) of content hashes, of image files, and of names of data
sets. Images are compared by content and by what they show, as in `ubench audit`; hashes find equal
files and equal pixels only.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tasks as task_zoo
from tasks.near_duplicates import duplicates, signatures
from tasks.near_duplicates.signatures import Signatures, SignatureStore, Signed
from tasks.samples.images import Image, ImageFile
from tasks.task import Task
from ultrabench_eval import shown
from ultrabench_eval.audit import collection
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError, did_you_mean, not_found

COLUMNS = ("sha256", "pixels", "dataset", *collection.COLUMNS)  # of a CSV list
_CHUNK = 1024  # images that are compared at a time
_HASH = re.compile(r"[0-9a-fA-F]{64}")

Advance = Callable[[str, int, int], None]
"""Called with what is done, and how many of how many images."""


@dataclass(frozen=True)
class SeenImages:
    """The test images of a task that a model has seen."""

    count: int
    of: int
    how: str
    """In words: "8 equal, 3 near duplicates, 1 of the same scene"."""


@dataclass
class TrainedOn:
    """What a model was trained on.

    Args:
        source: the file or folder that says so.
        hashes: SHA-256 of files or of pixels.
        datasets: names of tasks or of their data sets.
        images: themselves.
        cache: where signatures are kept.
        advance: see `Advance`.
    """

    source: Path
    hashes: frozenset[str]
    datasets: tuple[str, ...]
    images: Sequence[Image]
    cache: Path
    advance: Advance = lambda words, done, total: None
    unread: int = 0
    """Images that could not be read when they were last compared."""
    _known: dict[str, SeenImages] = field(default_factory=dict)

    def of(self, task: Task) -> SeenImages:
        """The test images of a task that are among it, each counted once, by its closest match.

        Raises:
            UserError: a test image cannot be read.
        """
        if task.fingerprint not in self._known:
            self._known[task.fingerprint] = self._compare(task)
        return self._known[task.fingerprint]

    def _compare(self, task: Task) -> SeenImages:
        test = task.test
        base = task_zoo.split_name(task.name)[0]
        if {base, task_zoo.home(base)} & {*self.datasets}:
            return SeenImages(len(test), len(test), f"the data set is named in {self.source.name}")
        store = signatures.store(self.cache)
        # Of a video, the frames that an encoder of images is shown.
        frames = [
            (row, one) for row, image in enumerate(test.images) for one in shown.frames(image)
        ]
        images = [one for _, one in frames]
        looked = store.look(images, lambda *at: self.advance("reading test images", *at))
        for one in looked:
            if isinstance(one, UserError):
                raise one
        signed = [one for one in looked if isinstance(one, Signed)]
        grades = {  # by row of the test image, the closest
            row: 0
            for (row, _), one in zip(frames, signed, strict=True)
            if {one.digest, one.signature.pixels} & self.hashes
        }
        reference = duplicates.Reference(Signatures.of([one.signature for one in signed]))
        for chunk in self._signed(store):
            for pair in reference.find(chunk):
                grade = duplicates.GRADES.index(pair.grade)
                row, _ = frames[pair.second]
                grades[row] = min(grade, grades.get(row, grade))
        found = Counter(grades.values())
        words = ("equal", "near duplicates", "of the same scene")
        how = ", ".join(f"{found[n]} {word}" for n, word in enumerate(words) if found[n])
        if self.unread:
            how += f"{how and '; '}{self.unread} images of {self.source.name} cannot be read"
        return SeenImages(len(grades), len(test), how or f"none of those of {self.source.name}")

    def _signed(self, store: SignatureStore) -> Iterator[Signatures]:
        """Signatures of the images, some at a time: there may be millions."""
        self.unread = 0
        for start in range(0, len(self.images), _CHUNK):
            looked = store.look(self.images[start : start + _CHUNK])
            some = [one.signature for one in looked if isinstance(one, Signed)]
            self.unread += len(looked) - len(some)
            self.advance("comparing images of --seen", start + len(looked), len(self.images))
            if some:
                yield Signatures.of(some)


def read(
    source: Path, cache: Path, advance: Advance = lambda words, done, total: None
) -> TrainedOn:
    """What a folder or a list tells.

    Args:
        source: a folder of images; or a text file with a hash, a name of a data set or a path per
            line; or a CSV file with some of `COLUMNS`. Paths start at the list's folder.
        cache: where signatures are kept.
        advance: see `Advance`.

    Raises:
        UserError: it is not there, or an entry is none of these.
    """
    if source.is_dir():
        entries, _ = collection.of_pretraining(source)
        return TrainedOn(source, frozenset(), (), [one.image for one in entries], cache, advance)
    if not source.is_file():
        raise not_found("list of --seen", source, "give MODEL=FILE, a list or a folder of images")
    hashes: set[str] = set()
    datasets: list[str] = []
    images: list[Image] = []
    for where, text in _entries(source):
        if _HASH.fullmatch(text):
            hashes.add(text.lower())
        elif text in task_zoo.registry or text in _datasets():
            datasets.append(text)
        elif (path := source.parent / text).is_file():
            images.append(ImageFile(path, text))
        else:
            near = did_you_mean(text, _datasets())
            raise UserError(
                f"{source}, {where}: '{text[:80]}' is not a SHA-256, a data set of `ubench tasks`"
                f" nor a file beside the list{near} correct or remove it"
            )
    if not (hashes or datasets or images):
        raise UserError(f"{source} names nothing that was seen; list hashes, files or data sets")
    return TrainedOn(
        source, frozenset(hashes), tuple(dict.fromkeys(datasets)), images, cache, advance
    )


def read_all(
    asked: Mapping[str, Path | str] | None,
    models: Sequence[str],
    cache: Path,
    advance: Advance = lambda words, done, total: None,
) -> dict[str, TrainedOn]:
    """By model, what `--seen` says of it.

    Raises:
        UserError: a list cannot be read, or is of a model that is not asked for.
    """
    found = {}
    for model, source in (asked or {}).items():
        if model not in models:
            raise UserError(
                f"--seen is given for '{model}', which is not among the models of this run"
                f"{did_you_mean(model, models)} write it as MODEL=FILE"
            )
        found[model] = read(Path(source).absolute(), cache, advance)
    return found


def _datasets() -> set[str]:
    """Names of built-in tasks, and of the data sets that they are of."""
    return {*task_zoo.BUILT_IN} | {task_zoo.home(name) for name in task_zoo.BUILT_IN}


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """Where each entry of a list stands, and what it is."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() != ".csv":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield f"line {number}", line.strip()
                return
            rows = csv.DictReader(file)
            columns = [name for name in COLUMNS if name in (rows.fieldnames or ())]
            if not columns:
                raise UserError(
                    f"{path} has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}; name the "
                    "one with hashes, files or data sets so"
                )
            if {"sha256", "pixels"} & {*columns}:  # files of the same rows need not be there
                columns = [name for name in columns if name not in collection.COLUMNS]
            for number, row in enumerate(rows, 2):
                for name in columns:
                    if text := (row[name] or "").strip():
                        yield f"line {number}", text
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"cannot read {path} ({error}) as a list of what was seen; write text in UTF-8, an "
            "entry per line"
        ) from error


def write_hashes(folder: Path, out: Path, cache: Path, advance: Advance) -> tuple[int, list[str]]:
    """Write the hashes of a folder's images as a list for `--seen`, to pass on without the images.

    Columns image, sha256 (of the file; of a video's frame, with its place) and pixels (of the
    decoded image).

    Returns:
        How many images it has, and a sentence on each that cannot be read.

    Raises:
        UserError: the folder holds no image.
    """
    entries, notes = collection.of_pretraining(folder)
    store, count = signatures.store(cache), 0
    with files.atomic_path(out) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "sha256", "pixels"])
        for start in range(0, len(entries), _CHUNK):
            some = [entry.image for entry in entries[start : start + _CHUNK]]
            for image, one in zip(some, store.look(some), strict=True):
                if isinstance(one, UserError):
                    notes.append(str(one))
                else:
                    rows.writerow([image.name, one.digest, one.signature.pixels])
                    count += 1
            advance("hashing images", start + len(some), len(entries))
    return count, notes


def facts(seen: TrainedOn | None, task: Task) -> dict[str, str | int]:
    """What a cell says of it (`Cell.model`); nothing if nothing was said."""
    if seen is None:
        return {}
    found = seen.of(task)
    return {"seen_images": found.count, "seen_of": found.of, "seen_how": found.how}


def sentence(known: Mapping[str, str | int]) -> str:
    """These facts as a warning."""
    return (
        f"{known['seen_images']} of {known['seen_of']} test images were seen by the model in "
        f"training, by --seen ({known['seen_how']})"
    )


def identity(known: Mapping[str, str | int | None]) -> str:
    """Digest of these facts, so that a result is made again when they change; "" without any."""
    own = {name: value for name, value in known.items() if name.startswith("seen_")}
    return hashing.short(hashing.digest(own)) if own else ""
