"""A network is known by what it does: to itself, and to what is remembered of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import model_zoo
from model_zoo import behaviour
from model_zoo.behaviour import Behaviour, compare, observe, remember
from model_zoo.encoder import Encoder
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError


class Sound(Encoder):
    """A function of the image."""

    input_rule = model_zoo.InputRule(8)

    def build(self, weights: Path | str | None) -> nn.Module:
        return nn.Identity()

    def _forward(self, x: Tensor) -> Tensor:
        return self.change(x).flatten(1)

    def change(self, x: Tensor) -> Tensor:
        return x


def test_the_images_are_the_same_bytes_everywhere() -> None:
    found = behaviour.images()
    assert [one.shape for one in found] == [(160, 208, 3)] * 2
    assert [hashing.short(hashing.digest_bytes(one.tobytes())) for one in found] == [
        "fa1163887674",
        "c6f341cc3985",
    ]
    assert all(one.std() > 30 for one in found)


class Dropout(Sound):
    def change(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.1, training=True)


class Masked(Sound):
    def change(self, x: Tensor) -> Tensor:
        return x * (torch.rand(len(x), 1, 8, 8) > 0.5)


class Seeded(Sound):
    """Draws of its own generator are new each time too."""

    def change(self, x: Tensor) -> Tensor:
        return x + torch.from_numpy(np.random.default_rng().normal(size=x.shape)).float()


class Python(Sound):
    def change(self, x: Tensor) -> Tensor:
        return x.flip(3) if random.random() < 0.5 else x


class Numpy(Sound):
    def change(self, x: Tensor) -> Tensor:
        return x.flip(3) if np.random.rand() < 0.5 else x  # noqa: NPY002


class Flipped(Sound):
    def change(self, x: Tensor) -> Tensor:
        return x.flip(3) if torch.rand(1) < 0.5 else x


class Cropped(Sound):
    """Random where images are prepared."""

    def _prepare(self, image: Any) -> Tensor:
        x = super()._prepare(image)
        return torch.roll(x, int(torch.randint(1, 8, (1,))), 2)


class Neighbours(Sound):
    """A batch normalisation in training mode."""

    def change(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(x, None, None, training=True)


@pytest.mark.parametrize(
    "kind", [Dropout, Masked, Seeded, Python, Numpy, Flipped, Cropped, Neighbours]
)
def test_features_that_are_no_function_of_the_image_are_refused(kind: type[Encoder]) -> None:
    with pytest.raises(UserError, match=r"model 'x' gives other features each time .*cosine"):
        observe(kind(name="x"))


def test_no_draw_of_anyone_is_shifted() -> None:
    def draws() -> tuple[Any, ...]:
        return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002

    def seed() -> None:
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)

    seed()
    expected = draws()
    seed()
    observe(Sound(name="x"))
    assert draws() == expected


class Infinite(Sound):
    def change(self, x: Tensor) -> Tensor:
        return x / 0


class Half(Sound):
    """Differs by what a shorter dtype may."""

    def build(self, weights: Path | str | None) -> nn.Module:
        return nn.Linear(1, 1)

    def change(self, x: Tensor) -> Tensor:
        return x * (1 + 2e-3 * torch.randn_like(x))


class OneSize(Sound):
    batch_size = 5

    def change(self, x: Tensor) -> Tensor:
        if len(x) != 5:
            raise RuntimeError("made for five")
        return x


def test_what_else_is_seen() -> None:
    with pytest.raises(UserError, match="NaN or infinite"):
        observe(Infinite(name="x"))
    with pytest.raises(UserError, match="other features each time"):
        observe(Half(name="x"))
    assert observe(Half(name="x").to(torch.bfloat16)).dtype == "bfloat16"
    assert observe(OneSize(name="x")).features.shape == (2, 192)
    zeros = type("Zeros", (Sound,), {"change": lambda self, x: x * 0})
    assert not observe(zeros(name="x")).features.any()


@pytest.mark.parametrize(
    "name", ["pixels", "image-stats", "fan-mask", "border", "usrc-jepa-nano", "timm/test_vit"]
)
def test_every_load_observes(name: str) -> None:
    weights = "random" if "/" in name else None
    encoder = model_zoo.load(name, weights, device="cpu")
    known = encoder.behaviour
    assert known is not None
    assert known.features.shape == (2, encoder.dim)
    assert known.features.dtype == np.float32
    assert (known.device, known.dtype) == ("cpu", "float32")
    again = model_zoo.load(name, weights, device="cpu").behaviour
    assert again is not None
    assert np.array_equal(again.features, known.features)


def made(factor: float = 1, device: str = "cpu", dtype: str = "float32") -> Behaviour:
    features = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    features[:, 0] *= factor
    return Behaviour(features, device, dtype)


def test_what_counts_as_the_same() -> None:
    assert compare(made(), made(1.0005)) is None
    told = compare(made(1.02), made())
    assert told is not None
    assert "of their length, cosine 0.99" in told
    assert compare(made(1.02), made(dtype="bfloat16")) is None
    assert compare(made(1.005), made(device="some GPU")) is None
    wider = Behaviour(np.zeros((3, 7), np.float32), "cpu", "float32")
    assert compare(wider, made()) == "7 numbers per image, and 20 before"


def test_a_behaviour_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "seen" / "key.safetensors"
    old, new = {"torch": "1", "machine": "x86_64"}, {"torch": "2", "machine": "x86_64"}
    assert remember(path, made(), old) is None
    assert remember(path, made(1.0001), new) is None
    told = remember(path, made(2, device="GPU"), new)
    assert told is not None
    assert "now GPU, float32, torch 2, before cpu, float32, torch 1" in told
    assert remember(path, made(), new) is None  # the first one stays


@pytest.mark.parametrize("damage", ["cut", "bit", "values", "name", "text"])
def test_a_damaged_memory_is_written_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "key.safetensors"
    remember(path, made(3), {})
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[:-9])
    elif damage == "bit":
        path.write_bytes(whole[:-3] + b"\x77" + whole[-2:])
    elif damage == "values":
        save_file({"features": load_file(path)["features"] * 2}, path)
    elif damage == "name":
        path = path.rename(tmp_path / "other.safetensors")
    else:
        path.write_text("{}")
    assert remember(path, made(), {}) is None
    assert remember(path, made(), {}) is None
    assert remember(path, made(3), {}) is not None
