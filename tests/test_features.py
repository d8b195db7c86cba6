"""The feature store: each image once, whole shards only, and nothing but the image's content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import model_zoo
import tasks
from model_zoo import Encoder, InputRule
from tasks.images import Image
from tasks.task import Task
from ultrabench_eval import features
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.features import Store


class Grid(Encoder):
    """Mean grey on a grid; counts the batches it sees."""

    input_rule = InputRule(size=8)

    def build(self, weights: Any) -> torch.nn.Module:
        self.batches: list[int] = []
        return torch.nn.Flatten()

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(x))
        return self.network(x)

    def _tokens(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(5, 2).repeat_interleave(5, 3).flatten(2).mT  # 40 x 40


def images_of(task: Task) -> dict[str, Image]:
    return {
        digest: image
        for split in task.splits.values()
        for digest, image in zip(split.digests, split.images, strict=True)
    }


@pytest.fixture
def images(manifest: Path) -> dict[str, Image]:
    return images_of(tasks.load(str(manifest)))


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARD", 16)
    monkeypatch.setattr(Grid, "batch_size", 8)


@pytest.mark.usefixtures("small_shards")
def test_features_are_encode_of_each_image(tmp_path: Path, images: dict[str, Image]) -> None:
    encoder, store = Grid(name="grid"), Store(tmp_path / "f")
    store.fill(encoder, images)
    stored = store.read(list(images))
    for row, image in zip(stored, images.values(), strict=True):
        pixels = torch.from_numpy(image.read().transpose(2, 0, 1).copy()) / 255
        torch.testing.assert_close(row, encoder.encode(pixels[None])[0], rtol=0, atol=0)
    assert stored.dtype == torch.float32
    assert set(encoder.batches) == {1, 8}  # encode() above, and nothing but full batches


@pytest.mark.usefixtures("small_shards")
def test_a_second_fill_encodes_nothing(tmp_path: Path, images: dict[str, Image]) -> None:
    Store(tmp_path / "f").fill(Grid(name="grid"), images)
    encoder, store, seen = Grid(name="grid"), Store(tmp_path / "f"), []
    store.fill(encoder, images, seen.append)
    assert encoder.batches == []
    assert seen == []
    assert store.missing(list(images)) == []


@pytest.mark.usefixtures("small_shards")
def test_what_was_stored_in_another_order_is_found(
    tmp_path: Path, images: dict[str, Image]
) -> None:
    store = Store(tmp_path / "f")
    store.fill(Grid(name="grid"), dict(list(images.items())[5:30]))
    encoder = Grid(name="grid")
    count = []
    store.fill(encoder, images, count.append)
    assert sum(count) == len(images) - 25
    whole = Store(tmp_path / "g")
    whole.fill(Grid(name="grid"), images)
    assert torch.equal(store.read(list(images)), whole.read(list(images)))


@pytest.mark.usefixtures("small_shards")
def test_a_crash_keeps_the_finished_shards(tmp_path: Path, images: dict[str, Image]) -> None:
    class Crashing(Grid):
        def _forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(self.batches) == 5:
                raise RuntimeError("out of memory")
            return super()._forward(x)

    with pytest.raises(RuntimeError):
        Store(tmp_path / "f").fill(Crashing(name="grid"), images)
    kept = len(images) - len(Store(tmp_path / "f").missing(list(images)))
    assert kept == 32  # two shards; the third was under way


@pytest.mark.usefixtures("small_shards")
def test_unreadable_images_are_told_after_the_others_are_kept(
    tmp_path: Path, images: dict[str, Image]
) -> None:
    victims = [list(images)[3], list(images)[40]]
    for digest in victims:
        path = images[digest].path  # type: ignore[attr-defined]
        path.write_bytes(path.read_bytes()[:-200])
    store = Store(tmp_path / "f")
    with pytest.raises(UserError, match=r"3\.png.*1 more image") as caught:
        store.fill(Grid(name="grid"), images)
    assert str(images[victims[0]].path) in str(caught.value)  # type: ignore[attr-defined]
    assert store.missing(list(images)) == victims


def test_a_nan_feature_names_model_and_image(tmp_path: Path, images: dict[str, Image]) -> None:
    class Broken(Grid):
        def _forward(self, x: torch.Tensor) -> torch.Tensor:
            x = super()._forward(x).clone()
            x[2, 5] = float("nan")
            return x

    with pytest.raises(UserError, match=r"'broken' gives .*NaN.*images/2\.png"):
        Store(tmp_path / "f").fill(Broken(name="broken"), images)


def test_a_damaged_shard_is_never_read_as_features(
    tmp_path: Path, images: dict[str, Image]
) -> None:
    Store(tmp_path / "f").fill(Grid(name="grid"), images)
    shard = next((tmp_path / "f").glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(UserError, match=r"damaged.*delete it and run again"):
        Store(tmp_path / "f").read(list(images))
    shard.write_bytes(data[:100])
    with pytest.raises(UserError, match="damaged"):
        Store(tmp_path / "f")


def test_tokens_are_kept_in_half_precision_and_a_fine_grid_is_averaged(
    tmp_path: Path, images: dict[str, Image]
) -> None:
    encoder = Grid(name="grid")
    store = Store(tmp_path, "tokens")
    store.fill(encoder, images)
    digests = list(images)[:7]
    tokens = store.read(digests)
    assert tokens.dtype == torch.float16
    assert tokens.shape == (7, 16 * 16, 3)
    pixels = torch.stack([encoder.prepare(images[d].read()) for d in digests])
    blocks = torch.nn.functional.adaptive_avg_pool2d(
        pixels.repeat_interleave(5, 2).repeat_interleave(5, 3), 16
    )
    torch.testing.assert_close(tokens.float(), blocks.flatten(2).mT, rtol=2e-3, atol=2e-3)


def test_the_key_names_encoder_dtype_and_corruption() -> None:
    keys = {
        features.key("a", "float32", 32),
        features.key("b", "float32", 32),
        features.key("a", "bfloat16", 32),
        features.key("a", "float32", 32, "blur", 1),
        features.key("a", "float32", 32, "blur", 2),
        features.key("a", "float32", 32, kind="tokens"),
    }
    assert len(keys) == 6
    assert features.key("a", "float32", 32) == features.key("a", "float32", 32, "none", 0)


def test_features_know_what_made_them(tmp_path: Path, images: dict[str, Image]) -> None:
    store = Store(tmp_path / "f")
    store.fill(Grid(name="grid"), images)
    (maker,) = store.made_by(list(images))
    assert maker["device"] == "cpu"
    assert maker["torch"] == torch.__version__.split("+")[0] or maker["torch"] == torch.__version__


@pytest.mark.parametrize("name", ["efficientnet-lite0", "random-vit-tiny"])
def test_a_row_depends_on_its_image_alone(name: str) -> None:
    """Neighbours in the batch, and the place in it, must not change a bit."""
    encoder = model_zoo.load(name, device="cpu")
    generator = np.random.default_rng(0)
    inputs = [
        encoder.prepare(generator.integers(0, 256, (50, 60, 3), dtype=np.uint8)) for _ in range(40)
    ]
    first = features.encode_batch(encoder, inputs[:32])
    others = features.encode_batch(encoder, [inputs[39], inputs[4], inputs[20]])
    assert torch.equal(others[1], first[4])
    assert torch.equal(others[2], first[20])
