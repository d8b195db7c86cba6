"""Making an index (`usjepa.frames.store`) of folders of ultrasound.

Each frame goes through once, in threads: read, digest, region, grey, size. What is left out (a copy
of another frame, a damaged or empty one, an image of a test set) is listed with the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tasks.samples import video
from tasks.scan import scan_mask
from tasks.task import SPLITS
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.parallel import ordered
from usjepa.frames import clips, preprocess
from usjepa.frames.clips import FrameGuard
from usjepa.frames.sources import Clips, FrameSource, LeftOut, Listed, sources_of
from usjepa.frames.store import LONGEST_SIDE, Frames, Settings, about, is_set, open_index
from usjepa.frames.writer import Packed, Writer, enlist, pack

__all__ = ["FrameSource", "build", "sources_of"]

CHUNK = 256  # frames that a guard looks at together, at most
CHUNK_BYTES = 2**28
_PATIENCE = 1.0  # seconds before waiting for another process is reported

Progress = Callable[[str, int, int], None]
"""Called with the set's name, the files of it that are done, and how many there are."""


class _Done(NamedTuple):
    """A frame that is ready to be written."""

    name: str
    group: str
    digest: str
    packed: Packed
    image: np.ndarray | None
    """As it was decoded, where a guard wants to see it."""


def build(
    sources: Path | str | Iterable[FrameSource],
    out: Path | str,
    settings: Settings | None = None,
    guard: FrameGuard | None = None,
    splits: Sequence[str] = ("train",),
    rate: float = video.RATE,
    limit: int = video.LIMIT,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
    kind: Clips = "files",
) -> Frames:
    """Make an index, or bring it up to date.

    A set that was made of the same files in the same way is not made again, unless it is damaged:
    all of its frames are compared with their digests. Sets of the index that are not among the
    sources stay.

    Args:
        sources: data sets, or the folder that `sources_of` finds them in.
        out: folder of the index.
        settings: what to do to the frames.
        guard: looks for test images, which are left out.
        splits: of tasks, those whose images are taken.
        rate: frames a second of a video.
        limit: frames of a video at most.
        progress: told how far it is.
        tell: given a sentence on what takes time or is done again.
        kind: of an index of clips, whether a folder of images is one.

    Raises:
        UserError: a source cannot be read, nothing of it is left, or `out` holds something else.
    """
    out = Path(out)
    settings = settings or Settings()
    if isinstance(sources, str | Path):
        sources = sources_of(sources, settings.clips)
    sources = list(sources)
    if wrong := set(splits) - set(SPLITS):
        raise UserError(f"no such splits: {', '.join(sorted(wrong))}; there are {SPLITS}")
    _check_names(sources)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder for the index")
    _check_out(out, sources, settings)
    guarded = None if guard is None else {"tasks": list(guard.tasks), "digest": guard.digest}
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out, tell):
        for source in sources:
            told: dict[str, Any] = {
                **source.about(splits, rate, limit, kind if settings.clips else None),
                "preprocess": preprocess.VERSION,
                "region": scan_mask.VERSION,
            }
            report = _of_files(progress, source.name, told["files"])
            if not _is_made(out / source.name, settings, told, guarded, tell):
                folder = os.fsencode(source.folder).decode(errors="backslashreplace")
                described = {"folder": folder, **told}
                with Writer(out, source.name, settings, described, guarded) as writer:
                    if settings.clips:
                        cines = source.cines(splits, kind)
                        clips.write(writer, cines, settings, guard, report)
                    else:
                        found = source.frames(splits, rate, limit)
                        _write(writer, _prepared(found, settings, guard, report))
                    _check_any(writer, source)
            elif known := about(out / source.name):
                enlist(out / source.name, known["fingerprint"])
            report(told["files"])
    return open_index(out)


@contextmanager
def _alone(out: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Keep other processes from writing to an index."""
    with files.locked(out / ".index", patience=_PATIENCE) as alone:
        if alone:
            yield
            return
    tell(f"another process makes the index {out}; waiting until it is done")
    with files.locked(out / ".index"):
        yield


def _check_names(sources: Sequence[FrameSource]) -> None:
    """Raise if two sources would be one set, of which only the last would stay."""
    seen: dict[str, FrameSource] = {}
    for source in sources:
        if other := seen.get(source.name):
            raise UserError(
                f"{other.folder} and {source.folder} would both be the set '{source.name}' of the "
                "index; rename one of these folders"
            )
        seen[source.name] = source


def _check_out(out: Path, sources: Iterable[FrameSource], settings: Settings) -> None:
    """Raise, before any work, if the sets that will stay were made otherwise."""
    if not out.is_dir():
        return
    remade = {source.name for source in sources}
    for folder in sorted(out.iterdir()):
        known = about(folder)
        if known and folder.name not in remade and Settings(**known["settings"]) != settings:
            raise UserError(
                f"{folder} was made with other settings ({known['settings']}); remove it, or give "
                "another --out folder"
            )


def _is_made(
    folder: Path,
    settings: Settings,
    told: dict[str, Any],
    guarded: dict[str, Any] | None,
    tell: Callable[[str], None],
) -> bool:
    known = about(folder, thorough=True)
    if known is None and is_set(folder):
        tell(f"{folder} is damaged or of an earlier version; it is made again")
    if known is None or Settings(**known["settings"]) != settings:
        return False
    source = {key: value for key, value in (known["source"] or {}).items() if key != "folder"}
    return source == told and known["guard"] == guarded


def _of_files(progress: Progress | None, name: str, total: int) -> Callable[[int], None]:
    def report(done: int) -> None:
        if progress is not None:
            progress(name, done, total)

    return report


# One frame


def _prepared(
    frames: Iterator[tuple[int, Listed | LeftOut]],
    settings: Settings,
    guard: FrameGuard | None,
    report: Callable[[int], None],
) -> Iterator[_Done | LeftOut]:
    """Frames brought to the form that is stored, in their order, without test images."""

    broken: dict[str, str] = {}  # clips that cannot be decoded, which would be tried for each frame

    def work(item: tuple[int, Listed | LeftOut]) -> _Done | LeftOut:
        _, frame = item
        if isinstance(frame, LeftOut):
            return frame
        clip = frame.group if isinstance(frame.mask, scan_mask.ClipMask) else None
        if clip in broken:
            return LeftOut(frame.image.name, "corrupt", broken[clip])
        done = _prepare(frame, settings, keep_image=guard is not None)
        if clip and isinstance(done, LeftOut) and done.reason == "corrupt":
            broken[clip] = done.detail
        return done

    waiting: list[_Done | LeftOut] = []
    held = 0
    for (number, _), done in ordered(work, frames):
        report(number)
        waiting.append(done)
        held += done.image.nbytes if isinstance(done, _Done) and done.image is not None else 0
        if guard is None or len(waiting) == CHUNK or held > CHUNK_BYTES:
            yield from _guarded(waiting, guard)
            waiting, held = [], 0
    yield from _guarded(waiting, guard)


def _prepare(frame: Listed, settings: Settings, keep_image: bool) -> _Done | LeftOut:
    try:
        return _decoded(frame, settings, keep_image)
    except MemoryError as error:  # a few bytes can claim to be thousands of megapixels
        return LeftOut(frame.image.name, "too large", f"it does not fit into memory: {error}")


def _decoded(frame: Listed, settings: Settings, keep_image: bool) -> _Done | LeftOut:
    name = frame.image.name
    try:
        digest = frame.image.digest()
        image = frame.image.read(digest)
    except UserError as error:
        return LeftOut(name, "corrupt", str(error))
    try:
        region = _region(frame.mask, image)
    except UserError as error:
        return LeftOut(name, "corrupt region", str(error))
    if region.shape != image.shape[:2]:
        detail = f"the region is {region.shape}, the image {image.shape[:2]}"
        return LeftOut(name, "corrupt region", detail)
    pixels = preprocess.grey(image, settings.inpaint_below) if settings.grey else image
    pixels, region = preprocess.reduced(pixels, region, settings.size)
    if max(region.shape) > LONGEST_SIDE:
        return LeftOut(name, "too long", f"{image.shape[1]} x {image.shape[0]} pixels")
    if not region.any():
        return LeftOut(name, "empty region")
    if not preprocess.has_contrast(pixels, region):
        return LeftOut(name, "no contrast")
    packed = pack(pixels, region)
    return _Done(name, frame.group, digest, packed, image if keep_image else None)


def _region(mask: Any, image: np.ndarray) -> np.ndarray:
    """The ultrasound region, bool [H, W]."""
    if mask is None or isinstance(mask, scan_mask.EstimatedMask):
        return scan_mask.estimate(image)  # without reading the image again
    region: np.ndarray = mask.read()
    return region


# One set


def _guarded(
    frames: Sequence[_Done | LeftOut], guard: FrameGuard | None
) -> Iterator[_Done | LeftOut]:
    if guard is None:
        yield from frames
        return
    images = [frame.image for frame in frames if isinstance(frame, _Done)]
    matches = iter(guard.check([image for image in images if image is not None]))
    for frame in frames:
        match = next(matches) if isinstance(frame, _Done) else None
        if match is None:
            yield frame
        else:
            yield clips.evaluation_image(frame.name, match)


def _write(writer: Writer, frames: Iterable[_Done | LeftOut]) -> None:
    seen: set[bytes] = set()  # half a digest each: all that grows with the set
    for frame in frames:
        if isinstance(frame, LeftOut):
            writer.remove(*frame)
            continue
        half = bytes.fromhex(frame.digest)[:16]
        if half in seen:
            writer.remove(frame.name, "duplicate", f"digest {frame.digest}")
            continue
        seen.add(half)
        writer.add_packed(frame.name, frame.group, frame.digest, frame.packed)


def _check_any(writer: Writer, source: FrameSource) -> None:
    if not writer.kept:
        reasons = ", ".join(f"{reason} {count}" for reason, count in writer.removed.most_common())
        first = f"; the first: {writer.first_removed}" if writer.first_removed else ""
        what = "clip" if writer.settings.clips else "frame"
        raise UserError(
            f"no {what} of {source.folder} can be used ({reasons}{first}); fix or remove the folder"
        )
