"""Small videos, drawn here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import PIL.Image

import usjepa.config as configs
from usjepa.config import Config
from usjepa.frames import index as indexing
from usjepa.frames.store import Frames, Settings

SMALL: dict[str, Any] = {
    "name": "small-clips",
    "objective": "vjepa",
    "model": {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 2},
    "predictor": {"depth": 1, "width": 12, "heads": 1},
    "decoder": {"depth": 1, "width": 12, "heads": 1},
    "video": {"frames": 4, "tubelet": 2, "step": 2},
    "data": {
        "held_out": 0.2,
        "percentiles": None,
        "augment": {"blur_probability": 0, "speckle_probability": 0, "contrast_probability": 0},
    },
    "train": {
        "epochs": 2,
        "warmup_epochs": 1,
        "batch_size": 4,
        "learning_rate": 1e-3,
        "precision": "float32",
    },
}


def config(**sections: Any) -> Config:
    """The small configuration, with some settings changed; None takes a section away."""
    content = dict(SMALL)
    for name, value in sections.items():
        old = content.get(name)
        content[name] = {**old, **value} if isinstance(value, dict) and old else value
    return configs.validate({key: value for key, value in content.items() if value is not None})


def drawn(count: int, seed: int, height: int = 44, width: int = 60) -> np.ndarray:
    """A bright disc that moves over dark noise, uint8 [T, H, W, 3]."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    start, way = generator.uniform(0.3, 0.7, 2) * (height, width), generator.uniform(-1, 1, 2)
    frames = []
    for time in range(count):
        away = np.hypot(*(np.stack([rows, columns]) - (start + time * way)[:, None, None]))
        frames.append(generator.integers(0, 60, (height, width)) + 150 * (away < 9))
    return np.repeat(np.stack(frames)[..., None], 3, axis=3).astype(np.uint8)


def cine(path: Path, frames: np.ndarray, rate: int = 10) -> None:
    """Write a video without loss."""
    with av.open(path, "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def pictures(folder: Path, frames: np.ndarray) -> None:
    """Write a folder of frames."""
    folder.mkdir(parents=True)
    for number, pixels in enumerate(frames):
        PIL.Image.fromarray(pixels).save(folder / f"{number}.png")


def index(folder: Path, count: int = 12) -> Frames:
    """An index of so many videos of 5 to 9 frames."""
    sources = folder / "sources" / "hearts"
    sources.mkdir(parents=True)
    for number in range(count):
        cine(sources / f"{number}.mkv", drawn(5 + number % 5, number))
    return indexing.build(folder / "sources", folder / "index", Settings(clips=True))
