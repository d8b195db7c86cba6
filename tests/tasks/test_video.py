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

from tasks.samples import video
from tasks.samples.video import VideoFrame
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

    def counted(path: Path, positions: range) -> video.DecodedFrames:
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


def encoded(path: Path, frames: int, codec: str = "libx264", **options: str) -> Path:
    """A video of 128 x 96 pixels whose frames get brighter."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.options = options
        for k in range(frames):
            pixels = np.full((96, 128, 3), 3 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def trimmed(path: Path, source: Path, start: float) -> Path:
    """A copy that begins later, without encoding it again: an edit list hides the lead-in."""
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(str(source)) as given, av.open(str(path), "w", options=options) as made:
        stream = given.streams.video[0]
        target = made.add_stream_from_template(stream)
        assert stream.time_base is not None
        offset = int(start / stream.time_base)
        for packet in given.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                packet.pts -= offset
                packet.dts -= offset
                packet.stream = target
                made.mux(packet)
    return path


@pytest.mark.parametrize("b_frames", ["0", "3"])
@pytest.mark.parametrize("start", [0.08, 0.2, 0.52, 1.2])
def test_what_an_edit_list_hides_is_not_counted(
    tmp_path: Path, b_frames: str, start: float
) -> None:
    source = encoded(tmp_path / "whole.mp4", 60, g="60", bf=b_frames)
    path = trimmed(tmp_path / "cut.mp4", source, start)
    with av.open(str(path)) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(shown) < 60
    positions = video.sample(path, 25, 1000)
    assert positions == range(1, len(shown))
    for pixels, wanted in zip(video.decode(path, positions), shown[1:], strict=True):
        np.testing.assert_array_equal(pixels, wanted)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.avi", "mpeg4"),
        ("a.mpg", "mpeg2video"),
        ("a.webm", "libvpx"),
    ],
)
def test_every_frame_of_common_videos_is_counted(tmp_path: Path, name: str, codec: str) -> None:
    options = {"bf": "2"} if codec != "libvpx" else {"auto-alt-ref": "1", "lag-in-frames": "16"}
    path = encoded(tmp_path / name, 40, codec, **options)
    assert len(video.decode(path, video.sample(path, 25, 1000))) == 39


def test_the_bytes_that_are_decoded_are_those_that_were_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "v.avi", 20, 10)
    frames = frames_of(path)
    digests = [frame.digest() for frame in frames]
    assert all(f.read(d) is not None for f, d in zip(frames, digests, strict=True))
    write(path, 22, 10)
    assert (frames[0].read(digests[0]) == 4).all()  # from memory: decoded from the first file
    monkeypatch.setattr(video, "_cache", video._Cache(2))
    with pytest.raises(UserError, match=r"video .*v\.avi changed while it was being read"):
        frames[0].read(digests[0])
    again = frames[0].digest()
    assert again != digests[0]
    assert (frames[0].read(again) == 4).all()


def test_a_long_video_is_hashed_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video, "IN_MEMORY", 100)
    frame = frames_of(write(tmp_path / "v.avi", 20, 10))[0]
    assert (frame.read(frame.digest()) == 4).all()


@pytest.mark.parametrize("content", ["ffconcat version 1.0\nfile a.avi\n", "#EXTM3U\na.avi\n"])
def test_a_list_of_other_files_is_not_a_video(tmp_path: Path, content: str) -> None:
    write(tmp_path / "a.avi", 20, 10)
    (tmp_path / "b.mp4").write_text(content)
    with pytest.raises(UserError, match=r"cannot read video .*b\.mp4"):
        video.sample(tmp_path / "b.mp4", 3, 30)


def test_names_in_other_encodings(tmp_path: Path) -> None:
    frame = frames_of(write(tmp_path / os.fsdecode(b"M\xfc.avi"), 20, 10))[0]
    assert frame.name == "M\\xfc.avi#1"
    assert (frame.read(frame.digest()) == 4).all()
