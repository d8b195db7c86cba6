"""Manifests of small SYNTHETIC images, and plugins, for `same_bytes.py`.

They depend on this file alone, whose digest names their folder. Both sides read them there.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image

MANIFESTS = ("plain", "clinic", "broken")
WIDE = 300  # classes
PLUGINS = {
    "guest": '''"""A model whose network is in another module, with few tokens."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import guest_parts

import model_zoo


@model_zoo.register("guest")
class Guest(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size=64)
    patch_size = 16

    def build(self, weights):
        return guest_parts.Grid()

    def _forward(self, x):
        return self.network(x).mean(1)

    def _tokens(self, x):
        return self.network(x)
''',
    "guest_parts": '''"""Mean and deviation of each channel in patches of 16 x 16."""
import torch


class Grid(torch.nn.Module):
    def forward(self, x):
        patches = torch.nn.functional.unfold(x, 16, stride=16).reshape(len(x), 3, 256, -1)
        return torch.cat([patches.mean(2), patches.std(2)], 1).transpose(1, 2)
''',
    "raising": '''"""A model that fails, but not on the two images that loading encodes."""
import torch

import model_zoo


@model_zoo.register("raising")
class Raising(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size=8)

    def build(self, weights):
        return torch.nn.Flatten()

    def _forward(self, x):
        if len(x) > 2:
            raise ValueError("this model fails on purpose")
        return self.network(x)
''',
}


def make(folder: Path) -> Path:
    """Make all inputs below a folder, once; returns theirs."""
    place = folder / f"inputs-{hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]}"
    if not (place / "complete").exists():
        place.mkdir(parents=True, exist_ok=True)
        for name, text in PLUGINS.items():
            (place / f"{name}.py").write_text(text)
        for seed, name in enumerate(MANIFESTS):
            _manifest(place, name, np.random.default_rng(seed))
        _wide(place, np.random.default_rng(len(MANIFESTS)))
        (place / "complete").touch()
    return place


def _manifest(place: Path, name: str, generator: np.random.Generator) -> None:
    """36 images in patients of two; noisy shades, so that no probe is perfect.

    `plain` has two classes and no groups. `clinic` has groups, commas in paths, and a third class
    without a test image. `broken` is like `clinic`, and its last image, a test image, is cut off.
    """
    rows = []
    for number in range(36):
        patient = number // 2
        split = ("train", "train", "train", "val", "test", "test")[patient % 6]
        label = (patient + patient // 6) % (2 if split == "test" or name == "plain" else 3)
        image = generator.normal(80 + 25 * label + generator.normal(0, 25), 30, (40, 56))
        image[:, :8] = 0  # outside the scan
        path = f"{name}/frame, {number}.png"
        _save(place / path, image)
        rows.append((path, ("benign", "malignant", "normal")[label], split, f"patient {patient}"))
    _table(place / f"{name}.csv", [row[:3] for row in rows] if name == "plain" else rows)
    if name == "broken":
        (place / path).write_bytes((place / path).read_bytes()[:200])


def _wide(place: Path, generator: np.random.Generator) -> None:
    """300 classes, each with 2 training, 1 validation and 5 test images.

    Counts of (true, predicted) class for each seed and test image, if dense, would take 2.7 GB.
    """
    rows = []
    for label in range(WIDE):
        shades = np.kron(generator.uniform(0, 255, (4, 4)), np.ones((4, 4)))
        for number, split in enumerate(("train",) * 2 + ("val",) + ("test",) * 5):
            path = f"wide/{label}-{number}.png"
            _save(place / path, shades + generator.normal(0, 60, (16, 16)))
            rows.append((path, f"class {label:03}", split))
    _table(place / "wide.csv", rows)


def _save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(exist_ok=True)
    PIL.Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(path)


def _table(path: Path, rows: Sequence[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        columns = ("image", "label", "split", "group")[: len(rows[0])]
        csv.writer(file).writerows([columns, *rows])
