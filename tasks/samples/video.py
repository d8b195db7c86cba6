"""Frames of videos: which ones UltraBench samples, and reading them without decoding twice."""

from __future__ import annotations

import functools
import io
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import NamedTuple, cast

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.stream import VideoStream

from tasks.samples.dicom import CineFacts
from tasks.samples.grey_levels import HINT, GreyLevels
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
    if _codec(stream) in _HIDING:
        return None
    return _frames_and_packets(container, stream)[0]


def _codec(stream: VideoStream) -> str:
    if stream.codec_context is None:  # whatever its type says
        raise ValueError("it has no codec that is known")
    return stream.codec_context.name


def _frames_and_packets(
    container: InputContainer, stream: VideoStream
) -> tuple[int | None, list[av.Packet[VideoStream]]]:
    """See `_packets`; and all packets, shown or not."""
    packets = [packet for packet in container.demux(stream) if packet.size]
    times = [packet.pts for packet in packets if packet.pts is not None]
    if (
        _codec(stream) in _HIDING
        or any(packet.is_discard for packet in packets)
        or (packets and not packets[0].is_keyframe)
        or (times and min(times) < times[0])
    ):
        return None, packets
    return len(packets), packets


class DecodedFrames(NamedTuple):
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


def read_clip(path: Path, positions: range) -> DecodedFrames:
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
    return DecodedFrames(frames, digest)


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


def cine_facts(source: bytes | Path, path: Path) -> CineFacts:
    """Count the frames of a video and look at the first.

    Args:
        source: the file's content, or where it lies.
        path: the file, by whose suffix the format is known and which messages name.

    Raises:
        UserError: no video, one without frames, or one that is cut off.
    """
    try:
        with _open(_to_open(source, path)) as container:
            stream = container.streams.video[0]
            count, packets = _frames_and_packets(container, stream)
            _check_whole(source, container, stream, packets)
            rate = _rate(stream, packets)
        if count is None:
            with _open(_to_open(source, path)) as container:
                count = sum(1 for _ in container.decode(video=0))
        with _open(_to_open(source, path)) as container:
            first = next(container.decode(video=0), None)
            if first is None or count < 1:
                raise ValueError("it holds no frame")
            _check_size(path, first)
            turned = _turn(first)
            deep = _is_deep(first)
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    size = (first.width, first.height) if turned.swapped else (first.height, first.width)
    return CineFacts(count, rate, size, deep)


def _rate(stream: VideoStream, packets: list[av.Packet[VideoStream]]) -> float | None:
    """Frames a second: as the file states, unless the times of its frames say otherwise; None if
    neither is there."""
    stated = float(stream.average_rate or 0)
    times = [packet.pts for packet in packets if packet.pts is not None]
    seconds = float((max(times) - min(times)) * (stream.time_base or 0)) if times else 0.0
    if seconds <= 0:
        return stated if len(packets) > 1 and stated > 0 else None
    counted = (len(times) - 1) / seconds
    return stated if abs(stated / counted - 1) < 0.02 else counted


def _check_whole(
    source: bytes | Path,
    container: InputContainer,
    stream: VideoStream,
    packets: list[av.Packet[VideoStream]],
) -> None:
    """Refuse a video whose end is missing, as far as its format tells: by the number of frames that
    the header states (MP4, AVI), how long it is said to be (Matroska), or how it must end (GIF)."""
    if 0 < len(packets) < stream.frames:  # 0 where the header does not say
        raise ValueError(f"it is cut off: {len(packets)} of {stream.frames} frames are there")
    kind = container.format.name
    if "matroska" in kind and len(container.streams) == 1 and container.duration and packets:
        ends = [one.pts + (one.duration or 0) for one in packets if one.pts is not None]
        seconds, told = (
            float(max(ends, default=0) * (stream.time_base or 0)),
            container.duration / 1e6,
        )
        frame = 1 / stated if (stated := float(stream.average_rate or 0)) else told / len(packets)
        if seconds < told - max(0.1, 2.5 * frame):
            raise ValueError(f"it is cut off: {seconds:.1f} of {told:.1f} seconds are there")
    if kind == "gif" and isinstance(source, bytes) and not source.rstrip(b"\0").endswith(b";"):
        raise ValueError("it is cut off: its end is missing")


def cine_frames(
    source: bytes | Path, path: Path, wanted: Sequence[int], levels: GreyLevels
) -> Iterator[tuple[int, np.ndarray]]:
    """The wanted frames of a video, one at a time: position and uint8 RGB [H, W, 3], upright.

    Colours of more than 8 bits keep their 8 highest, as a player shows them.

    Args:
        source: as of `cine_facts`.
        path: as of `cine_facts`.
        wanted: positions from 0, from small to large, each once.
        levels: of grey values of more than 8 bits.

    Raises:
        UserError: the video is damaged or has fewer frames, or its grey values need a window.
    """
    for index, frame in _decoded(source, path, wanted):
        if _is_deep(frame):
            if levels.own:
                raise no_window(path, frame.format.name)
            pixels = np.repeat(levels.of(_plane(frame))[..., None], 3, axis=2)
        else:
            pixels = frame.to_ndarray(format="rgb24")
        yield index, _turn(frame).upright(pixels)


def cine_extent(source: bytes | Path, path: Path, count: int) -> tuple[float, float]:
    """The smallest and the largest grey value of a video of so many frames.

    Raises:
        UserError: see `cine_frames`.
    """
    planes = (_plane(frame) for _, frame in _decoded(source, path, range(count)))
    ends = [(float(plane.min()), float(plane.max())) for plane in planes]
    return min(low for low, _ in ends), max(high for _, high in ends)


def no_window(path: Path, kind: str) -> UserError:
    """The sentence for a video of values that are not grey levels."""
    return UserError(
        f"cannot read video {path}: its frames are {kind}, not grey levels from 0 to 255; {HINT}"
    )


def _decoded(
    source: bytes | Path, path: Path, wanted: Sequence[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    last, found, among = wanted[-1], 0, set(wanted)
    try:
        with _open(_to_open(source, path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for index, frame in enumerate(container.decode(stream)):
                if index in among:
                    _check_size(path, frame)
                    if frame.is_corrupt:
                        raise ValueError(f"frame {index + 1} is damaged")
                    found += 1
                    yield index, frame
                if index >= last:
                    break
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    if found < len(among):
        raise _damaged(path, f"{found} of {len(among)} frames decoded")


def _to_open(source: bytes | Path, path: Path) -> _Named | str:
    if isinstance(source, Path):
        return path_of(source)
    content = _Named(source)
    content.name = path_of(path)
    return content


def _is_deep(frame: av.VideoFrame) -> bool:
    """Whether a frame is grey with more than 8 bits. (Palettes have one component too.)"""
    (first, *others) = frame.format.components
    return not others and not frame.format.has_palette and first.bits > 8


def _plane(frame: av.VideoFrame) -> np.ndarray:
    """Grey values of more than 8 bits as they are stored, uint16 or float32 [H, W]."""
    (plane,) = frame.planes
    name = frame.format.name
    kind = "f4" if frame.format.components[0].bits == 32 else "u2"
    stored = np.dtype((">" if name.endswith("be") else "<") + kind)
    lines = np.frombuffer(bytes(plane), stored).reshape(-1, plane.line_size // stored.itemsize)
    values: np.ndarray = lines[: frame.height, : frame.width]
    return values


class _Turn(NamedTuple):
    """How stored pixels become upright."""

    swapped: bool = False
    """Whether rows become columns; done first."""
    rows: bool = False
    """Whether rows change their order."""
    columns: bool = False

    def upright(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels [H, W, 3], turned."""
        if self.swapped:
            pixels = pixels.swapaxes(0, 1)
        step = {False: 1, True: -1}
        return pixels[:: step[self.rows], :: step[self.columns]]


def _turn(frame: av.VideoFrame) -> _Turn:
    """How a frame is to be turned by its display matrix, which phones write.

    Its numbers a, b, c, d give x' = a x + c y and y' = b x + d y (ISO/IEC 14496-12, 6.2.2).
    """
    side = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return _Turn()
    a, b, _, c, d = np.frombuffer(bytes(cast(SideData, side)), np.int32)[:5].tolist()
    if a == d == 0 and b and c:
        return _Turn(True, rows=b < 0, columns=c < 0)
    if b == c == 0 and a and d:
        return _Turn(False, rows=d < 0, columns=a < 0)
    raise ValueError(f"it is to be shown turned by {frame.rotation} degrees")


class _Cache:
    """The sampled frames of the few videos read last; each is decoded by one thread only."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = Lock()
        self._videos: OrderedDict[tuple[Path, range], Future[DecodedFrames]] = OrderedDict()

    def clip(self, path: Path, positions: range, but: DecodedFrames | None = None) -> DecodedFrames:
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


def _holds(future: Future[DecodedFrames], clip: DecodedFrames | None) -> bool:
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
    if isinstance(why, IndexError):
        why = "it holds no video"
    if isinstance(why, av.InvalidDataError):  # FFmpeg's own text is a number, and the path again
        why = "it is damaged or cut off"
    return UserError(
        f"cannot read video {path} ({why}); copy it again from where it came from, or remove it"
    )
