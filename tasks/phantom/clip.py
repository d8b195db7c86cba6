"""Video files whose bytes depend on the frames alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import cast

import av
import av.codec.context
import numpy as np
import PIL.Image

# Container and codec by suffix; MPEG-1 knows only the video and television rates.
_FORMATS = {
    ".mp4": ("mp4", "mpeg4"),
    ".avi": ("avi", "mpeg4"),
    ".mov": ("mov", "mjpeg"),
    ".mpeg": ("mpeg", "mpeg1video"),
}
_PIXELS = {"mjpeg": "yuvj420p", "ffv1": "gray"}
TELEVISION = 25


def encode(frames: Sequence[np.ndarray], suffix: str, rate: int, codec: str = "") -> bytes:
    """Encode frames.

    Args:
        frames: uint8 RGB [H, W, 3], all of one size; an odd row or column is cut off. With the
            codec "ffv1", which loses nothing, only the first channel is kept: frames are grey.
        suffix: ".mp4", ".avi", ".mov", ".mpeg" or ".gif", in any case.
        rate: frames a second; ".mpeg" needs 25.
        codec: another than the usual one.

    Returns:
        The file's content.
    """
    height, width = (n // 2 * 2 for n in frames[0].shape[:2])
    even = [np.ascontiguousarray(frame[:height, :width]) for frame in frames]
    if suffix.lower() == ".gif":
        return _gif(even, rate)
    container_format, usual = _FORMATS[suffix.lower()]
    codec = codec or usual
    buffer = io.BytesIO()
    # Without "bitexact" the library writes its version and a random id into the file.
    options = {"fflags": "+bitexact"}
    with av.open(buffer, "w", format=container_format, options=options) as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=rate))
        stream.width, stream.height = width, height
        stream.pix_fmt = _PIXELS.get(codec, "yuv420p")
        stream.bit_rate = 3_000_000
        stream.codec_context.thread_count = 1
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        for pixels in even:
            grey = stream.pix_fmt == "gray"
            given = np.ascontiguousarray(pixels[..., 0]) if grey else pixels
            given_as = "gray" if grey else "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(given, format=given_as)))
        container.mux(stream.encode())
    return buffer.getvalue()


def _gif(frames: Sequence[np.ndarray], rate: int) -> bytes:
    first, *others = (PIL.Image.fromarray(frame) for frame in frames)
    buffer = io.BytesIO()
    duration = round(1000 / rate)
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
    return buffer.getvalue()
