"""A very small training run on frames that were drawn here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from usjepa import config as configs
from usjepa.config import Config
from usjepa.frames.store import Frames, Settings, open_index
from usjepa.frames.writer import Writer

SMALL: dict[str, Any] = {
    "name": "small",
    "objective": "ijepa",
    "model": {"image_size": 32, "patch_size": 8, "width": 24, "depth": 2, "heads": 2},
    "predictor": {"depth": 1, "width": 12, "heads": 1},
    "decoder": {"depth": 1, "width": 12, "heads": 1},
    "masks": {"min_keep": 1, "cover_edges": True, "context": "pad"},
    "data": {"held_out": 0.2},
    "train": {
        "epochs": 2,
        "warmup_epochs": 1,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "precision": "float32",
    },
}


def config(**sections: Any) -> Config:
    """The small configuration, with some settings changed: `train={"epochs": 3}`."""
    content = dict(SMALL)
    for name, value in sections.items():
        content[name] = {**content.get(name, {}), **value} if isinstance(value, dict) else value
    return configs.validate(content)


def index(folder: Path, count: int = 40, seed: int = 0) -> Frames:
    """Two sets of bright discs on dark noise; the region is what surrounds a disc."""
    generator = np.random.default_rng(seed)
    for name, frames in (("hearts", count - count // 4), ("livers", count // 4)):
        with Writer(folder, name, Settings(), {"folder": "drawn"}, None) as writer:
            for number in range(frames):
                pixels, region = _frame(generator)
                writer.add(f"{number}.png", f"{number // 2}", f"{number:064d}", pixels, region)
    return open_index(folder)


def _frame(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    height, width = generator.integers(36, 60, 2)
    rows, columns = np.mgrid[:height, :width]
    centre = generator.uniform(0.4, 0.6, 2) * (height, width)
    away = np.hypot(rows - centre[0], columns - centre[1])
    pixels = generator.integers(0, 60, (height, width)) + 150 * (away < generator.uniform(6, 12))
    return pixels.astype(np.uint8), away < 17
