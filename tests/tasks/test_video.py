"""Frames of a tiny video made here: which are taken, and that it is decoded once."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tasks import video
from tasks.video import VideoFrame
from ultrabench_eval.core.errors import UserError


def write(path: Path, frames: int, fps: Fraction | int) -> Path:
    """A lossless video whose frame i has grey value 4 * i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.width = stream.height = 32
        stream.pix_fmt = "gray"
        for i in range(frames):
            pixels = np.full((32, 32), 4 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="gray")))
        container.mux(stream.encode())
    return path


def frames_of(path: Path) -> list[VideoFrame]:
    positions = video.sample(path, rate=3, limit=30)
    return [VideoFrame(path, f"{path.name}#{i}", i, positions) for i in positions]


@pytest.mark.parametrize(
    ("frames", "fps", "wanted"),
    [
        (20, 10, range(1, 20, 3)),
        (62, 6, range(1, 61, 2)),  # thirty at most
        (20, 2, range(1, 20)),  # slower than three a second
        (2, 30, range(1, 2)),
        (25, Fraction(29999, 1000), range(1, 25, 10)),  # ffmpeg prints 30: step 10, not 9
        (25, Fraction(30000, 1001), range(1, 25, 9)),  # ffmpeg prints 29.97
    ],
)
def test_sample_is_ultrabenchs(
    tmp_path: Path, frames: int, fps: Fraction | int, wanted: range
) -> None:
    assert list(video.sample(write(tmp_path / "v.avi", frames, fps), 3, 30)) == list(wanted)


def test_frames_are_those_asked_for(tmp_path: Path) -> None:
    for frame in frames_of(write(tmp_path / "v.avi", 40, 10)):
        pixels = frame.read()
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8
        assert (pixels == 4 * frame.index).all()
        assert not pixels.flags.writeable


def test_digest_tells_file_and_position(tmp_path: Path) -> None:
    one = frames_of(write(tmp_path / "a.avi", 20, 10))
    same = frames_of(write(tmp_path / "b.avi", 20, 10))
    other = frames_of(write(tmp_path / "c.avi", 21, 10))
    (tmp_path / "b.avi").write_bytes((tmp_path / "a.avi").read_bytes())
    assert [f.digest() for f in one] == [f.digest() for f in same]
    assert len({f.digest() for f in [*one, *other]}) == len(one) + len(other)
    write(tmp_path / "a.avi", 22, 10)
    assert one[0].digest() != same[0].digest()  # a changed file is noticed


@pytest.mark.parametrize("threads", [2, 8])
def test_threads_that_read_in_order_decode_each_video_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    decoded: Counter[Path] = Counter()
    lock, decode = threading.Lock(), video.read_clip

    def counted(path: Path, positions: range) -> video.Clip:
        with lock:
            decoded[path] += 1
        return decode(path, positions)

    monkeypatch.setattr(video, "read_clip", counted)
    monkeypatch.setattr(video, "_cache", video._Cache(video.CACHED_VIDEOS))
    frames = [f for i in range(8) for f in frames_of(write(tmp_path / f"{i}.avi", 60, 6))]
    with ThreadPoolExecutor(threads) as pool:
        read = list(pool.map(VideoFrame.read, frames))
    assert all((p == 4 * f.index).all() for p, f in zip(read, frames, strict=True))
    assert set(decoded.values()) == {1}
    assert len(decoded) == 8


def test_the_cache_forgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = video._Cache(2)
    monkeypatch.setattr(video, "_cache", cache)
    for i in range(5):
        frames_of(write(tmp_path / f"{i}.avi", 10, 10))[0].read()
    assert len(cache._videos) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_does_not_wait_for_its_parents_threads(tmp_path: Path) -> None:
    frame = frames_of(write(tmp_path / "v.avi", 10, 10))[0]
    with video._cache._lock:
        worker = multiprocessing.get_context("fork").Process(target=frame.read)
        worker.start()
        worker.join(20)
    alive = worker.is_alive()
    worker.kill()
    assert not alive
    assert worker.exitcode == 0


def test_damaged_videos_are_named(tmp_path: Path) -> None:
    path = tmp_path / "v.avi"
    path.write_bytes(b"no video")
    with pytest.raises(UserError, match=r"cannot read video .*v\.avi"):
        video.sample(path, 3, 30)
    with pytest.raises(UserError, match=r"cannot read video .*1 frame\(s\)"):
        video.sample(write(path, 1, 10), 3, 30)


def test_a_video_cut_short_is_named_and_can_be_mended(tmp_path: Path) -> None:
    path = write(tmp_path / "v.avi", 60, 10)
    frame = frames_of(path)[-1]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"cannot read video .*v\.avi"):
        frame.read()
    path.write_bytes(whole)
    assert (frame.read() == 4 * frame.index).all()


def test_missing_video(tmp_path: Path) -> None:
    frame = VideoFrame(tmp_path / "v.avi", "v", 1, range(1, 2))
    for action in (frame.read, frame.digest):
        with pytest.raises(UserError, match=r"cannot read video .*v\.avi"):
            action()
