"""Frames of videos: which ones UltraBench samples, and reading them without decoding twice."""

from __future__ import annotations

import functools
import io
import os
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from tasks.samples.images import MAX_PIXELS, changed
from ultrabench_eval.core import hashing, names
from ultrabench_eval.core.errors import UserError

# Threads that read frames in order are at most in a few videos at once; each holds up to
# 30 frames of 0.2 to 3.5 MB.
CACHED_VIDEOS = 4

# Of videos that belong to no task.
SUFFIXES = (".mp4", ".m4v", ".avi", ".mov", ".mpeg", ".mpg", ".mkv", ".webm")
RATE, LIMIT = 3, 100  # frames per second and frames of each video

IN_MEMORY = 2**30  # bytes of a video that are read at once, so that what is decoded is hashed
# Codecs with packets that no frame is shown of, or whose first frames may not be decodable.
_HIDING = ("vp8", "vp9", "av1", "hevc")
# FFmpeg's names of the formats that are read.
_FORMATS = (
    "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpeg,mpegts,mpegvideo,m4v,h264,hevc,mjpeg,asf,flv,"
    "ogg,gif,apng"
)
# What PyAV raises for damaged files, and for those without a video.
_DAMAGED = (av.FFmpegError, OSError, IndexError, ValueError, OverflowError, MemoryError)


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video. The first read of any frame decodes all the `sampled` ones."""

    path: Path
    name: str
    index: int
    """Position in the video, from 0."""
    sampled: range
    """All positions that the task takes from this video."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", names.printable(self.name))

    def read(self, digest: str | None = None) -> np.ndarray:
        """The frame, uint8 RGB [H, W, 3], read-only; safe in many threads.

        Args:
            digest: what `digest` gave before; the bytes that are decoded must still have it.

        Raises:
            UserError: the video is damaged, shorter than it was, or changed.
        """
        place = self.sampled.index(self.index)
        clip = _cache.clip(self.path, self.sampled)
        if digest is not None and _digest_frame(clip.digest, self.index) != digest:
            clip = _cache.clip(self.path, self.sampled, but=clip)  # it may be of an earlier file
            if _digest_frame(clip.digest, self.index) != digest:
                raise changed("video", self.path)
        return clip.frames[place]

    def digest(self) -> str:
        """SHA-256 over the file's bytes and the position."""
        try:
            stat = self.path.stat()
            file = _digest_file(self.path, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise UserError(
                f"cannot read video {self.path} ({error.strerror or error}); restore it or remove "
                "its row"
            ) from error
        return _digest_frame(file, self.index)


def _digest_frame(file: str, index: int) -> str:
    return hashing.digest({"file": file, "frame": index})


def sample(path: Path, rate: float, limit: int) -> range:
    """Positions of the frames UltraBench takes: `frames[1 :: int(fps / rate)][:limit]`.

    fps is rounded to two digits, since UltraBench reads what ffmpeg prints. A video slower than
    `rate` or of unknown speed, on which UltraBench would fail, gives every frame.

    Raises:
        UserError: the file is not a video or has fewer than two frames.
    """
    try:
        with _open(path_of(path)) as container:
            stream = container.streams.video[0]
            fps = round(float(stream.average_rate or 0), 2)
            count = _packets(container, stream)
        if count is None:
            with _open(path_of(path)) as container:
                count = sum(1 for _ in container.decode(video=0))
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    positions = range(1, count, max(1, int(fps / rate)))[:limit]
    if not positions:
        raise _damaged(path, f"{count} frame(s)")
    return positions


def _packets(container: InputContainer, stream: VideoStream) -> int | None:
    """How many frames the packets of a video give, without decoding them, in 1/50 of the time.

    It is the number of frames of every POCUS video. None where packets and frames may differ: parts
    are cut off by an edit list, decoding cannot begin at the first packet, or frames are hidden.
    """
    if stream.codec_context.name in _HIDING:
        return None
    packets = [packet for packet in container.demux(stream) if packet.size]
    times = [packet.pts for packet in packets if packet.pts is not None]
    if any(packet.is_discard for packet in packets):
        return None
    if packets and (not packets[0].is_keyframe or (times and min(times) < times[0])):
        return None
    return len(packets)


class Clip(NamedTuple):
    """Frames of a video, and the bytes that they were decoded from."""

    frames: list[np.ndarray]
    """uint8 RGB [H, W, 3] each, read-only."""
    digest: str
    """SHA-256 of the file."""


def decode(path: Path, positions: range) -> list[np.ndarray]:
    """The frames at `positions`, uint8 RGB [H, W, 3] each and read-only.

    Raises:
        UserError: the video is damaged or has fewer frames.
    """
    return read_clip(path, positions).frames


def read_clip(path: Path, positions: range) -> Clip:
    """The frames at `positions`, with the digest of the bytes that were decoded.

    Raises:
        UserError: the video is damaged or has fewer frames.
    """
    frames = []
    try:
        source, digest = _content(path)
        with _open(source) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if index in positions:
                    _check_size(path, frame)
                    pixels = frame.to_ndarray(format="rgb24")
                    pixels.flags.writeable = False
                    frames.append(pixels)
                if index >= positions[-1]:
                    break
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    if len(frames) < len(positions):
        raise _damaged(path, f"{len(frames)} of {len(positions)} frames decoded")
    if isinstance(source, str) and hashing.digest_file(path) != digest:
        raise changed("video", path)
    return Clip(frames, digest)


def _open(source: _Named | str) -> InputContainer:
    """Open a video; not a list of other files or addresses, which FFmpeg would open too."""
    return av.open(source, "r", container_options={"format_whitelist": _FORMATS})


class _Named(io.BytesIO):
    """A file's content; its name helps to tell the format."""

    name = ""


def _content(path: Path) -> tuple[_Named | str, str]:
    """What to decode, and its SHA-256: the content in memory, or the path of a very long video."""
    if path.stat().st_size > IN_MEMORY:
        return path_of(path), hashing.digest_file(path)
    data = path.read_bytes()
    content = _Named(data)
    content.name = path_of(path)
    return content, hashing.digest_bytes(data)


def path_of(path: Path) -> str:
    """A path that FFmpeg does not take for an address: "concat:a.mp4" is a file's name here."""
    return os.path.abspath(path)


def _check_size(path: Path, frame: av.VideoFrame) -> None:
    if frame.width * frame.height > MAX_PIXELS:
        raise UserError(
            f"cannot read video {path}: its frames have {frame.width} x {frame.height} pixels, "
            f"more than the {MAX_PIXELS // 10**6} million that are read; make it smaller or "
            "remove it"
        )


class _Cache:
    """The sampled frames of the few videos read last; each is decoded by one thread only."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = Lock()
        self._videos: OrderedDict[tuple[Path, range], Future[Clip]] = OrderedDict()

    def clip(self, path: Path, positions: range, but: Clip | None = None) -> Clip:
        """The sampled frames of a video; decoded again if they are those of `but`."""
        key = (path, positions)
        with self._lock:
            future = self._videos.get(key)
            if future is not None and _holds(future, but):
                future = None
            mine = future is None
            if future is None:
                future = self._videos[key] = Future()
                while len(self._videos) > self.size:
                    self._videos.popitem(last=False)
            self._videos.move_to_end(key)
        if mine:
            try:
                future.set_result(read_clip(path, positions))
            except BaseException as error:
                with self._lock:
                    self._videos.pop(key, None)  # a file that is repaired can be read again
                future.set_exception(error)
        return future.result()


def _holds(future: Future[Clip], clip: Clip | None) -> bool:
    return future.done() and future.exception() is None and future.result() is clip


_cache = _Cache(CACHED_VIDEOS)


def _start_afresh() -> None:
    global _cache
    _cache = _Cache(CACHED_VIDEOS)


if hasattr(os, "register_at_fork"):
    # A forked loader worker would wait for ever for a thread that stayed in its parent.
    os.register_at_fork(after_in_child=_start_afresh)


@functools.lru_cache(maxsize=1024)
def _digest_file(path: Path, size: int, changed: int) -> str:
    """Digest of a file, once for all its frames; size and time tell a changed file."""
    return hashing.digest_file(path)


def _damaged(path: Path, why: object) -> UserError:
    return UserError(
        f"cannot read video {path} ({why}); copy it again from where it came from, or remove it"
    )
