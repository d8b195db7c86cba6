"""Frames of videos: which ones UltraBench samples, and reading them without decoding twice."""

from __future__ import annotations

import functools
import os
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import av
import numpy as np

from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

# Threads that read frames in order are at most in a few videos at once; each holds up to
# 30 frames of 0.2 to 3.5 MB.
CACHED_VIDEOS = 4

# Of videos that belong to no task.
SUFFIXES = (".mp4", ".m4v", ".avi", ".mov", ".mpeg", ".mpg", ".mkv", ".webm")
RATE, LIMIT = 3, 100  # frames a second and frames of each video


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a video. The first read of any frame decodes all the `sampled` ones."""

    path: Path
    name: str
    index: int
    """Position in the video, from 0."""
    sampled: range
    """All positions that the task takes from this video."""

    def read(self) -> np.ndarray:
        """The frame, uint8 RGB [H, W, 3], read-only; safe in many threads.

        Raises:
            UserError: the video is damaged or shorter than it was.
        """
        return _cache.frames(self.path, self.sampled)[self.sampled.index(self.index)]

    def digest(self) -> str:
        """SHA-256 over the file's bytes and the position."""
        try:
            stat = self.path.stat()
            file = _digest_file(self.path, stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            raise UserError(
                f"cannot read video {self.path} ({error.strerror}); restore it or remove its row"
            ) from error
        return hashing.digest({"file": file, "frame": self.index})


def sample(path: Path, rate: float, limit: int) -> range:
    """Positions of the frames UltraBench takes: `frames[1 :: int(fps / rate)][:limit]`.

    fps is rounded to two digits, since UltraBench reads what ffmpeg prints. A video slower than
    `rate` or of unknown speed, on which UltraBench would fail, gives every frame.

    Raises:
        UserError: the file is no video or has fewer than two frames.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            fps = round(float(stream.average_rate or 0), 2)
            # Packets are counted, not decoded: the same number for every POCUS video, in 1/50 of
            # the time.
            count = sum(1 for packet in container.demux(stream) if packet.size)
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise _damaged(path, error) from error
    positions = range(1, count, max(1, int(fps / rate)))[:limit]
    if not positions:
        raise _damaged(path, f"{count} frame(s)")
    return positions


def decode(path: Path, positions: range) -> list[np.ndarray]:
    """The frames at `positions`, uint8 RGB [H, W, 3] each and read-only.

    Raises:
        UserError: the video is damaged or has fewer frames.
    """
    frames = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if index in positions:
                    pixels = frame.to_ndarray(format="rgb24")
                    pixels.flags.writeable = False
                    frames.append(pixels)
                if index >= positions[-1]:
                    break
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise _damaged(path, error) from error
    if len(frames) < len(positions):
        raise _damaged(path, f"{len(frames)} of {len(positions)} frames decoded")
    return frames


class _Cache:
    """The sampled frames of the few videos read last; each is decoded by one thread only."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = Lock()
        self._videos: OrderedDict[tuple[Path, range], Future[list[np.ndarray]]] = OrderedDict()

    def frames(self, path: Path, positions: range) -> list[np.ndarray]:
        key = (path, positions)
        with self._lock:
            future = self._videos.get(key)
            mine = future is None
            if future is None:
                future = self._videos[key] = Future()
                while len(self._videos) > self.size:
                    self._videos.popitem(last=False)
            self._videos.move_to_end(key)
        if mine:
            try:
                future.set_result(decode(path, positions))
            except BaseException as error:
                with self._lock:
                    self._videos.pop(key, None)  # a file that is mended can be read again
                future.set_exception(error)
        return future.result()


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
        f"cannot read video {path} ({why}); copy it again from the release or remove it"
    )
