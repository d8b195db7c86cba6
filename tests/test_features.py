"""The feature store: each image once, whole shards only, and nothing but the image's content."""

from __future__ import annotations

import json
import os
import stat
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import model_zoo
import tasks
from model_zoo import Encoder, InputRule
from tasks.samples.images import Image
from tasks.task import Task
from ultrabench_eval import features
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.feature_rows import InMemory
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
@pytest.mark.parametrize("cores", [1, 64], ids=["images are read before", "and meanwhile"])
def test_features_are_encode_of_each_image(
    tmp_path: Path, images: dict[str, Image], monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    encoder, store = Grid(name="grid"), Store(tmp_path / "f")
    store.fill(encoder, images)
    stored = store.read(list(images)).whole()
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
    assert torch.equal(store.read(list(images)).whole(), whole.read(list(images)).whole())


@pytest.mark.usefixtures("small_shards")
def test_rows_come_in_the_order_that_is_asked_for(tmp_path: Path, images: dict[str, Image]) -> None:
    encoder, store = Grid(name="grid"), Store(tmp_path / "f")
    store.fill(encoder, images)
    backwards = list(images)[::-1]
    pixels = torch.stack([encoder.prepare(images[digest].read()) for digest in backwards])
    assert torch.equal(store.read(backwards).whole(), encoder.encode_prepared(pixels))


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


def damaged(shard: Path, how: str) -> None:
    """Change a shard in one of the ways that disks and people do."""
    data = bytearray(shard.read_bytes())
    if how == "cut":
        del data[100:]
    elif how == "bit":
        data[-1] ^= 1
    elif how == "empty":
        data.clear()
    else:  # of another key, dtype or shape, or with a value that is none, under a right checksum
        with safe_open(shard, framework="pt") as file:
            values, metadata = file.get_tensor("features"), file.metadata()
        if how == "key":
            metadata["key"] = "another"
        elif how == "dtype":
            values = values.double()
        elif how == "rows":
            values = values[1:]
        elif how == "nan":
            values[3, 2] = float("nan")
        elif how == "made_by":
            metadata["made_by"] = "{"
        metadata["sha256"] = features._checksum(metadata, values)
        save_file({"features": values.contiguous()}, shard, metadata)
        return
    shard.write_bytes(data)


@pytest.mark.parametrize("how", ["bit", "cut", "empty", "key", "dtype", "rows", "nan", "made_by"])
def test_a_damaged_shard_is_never_read_as_features(
    tmp_path: Path, images: dict[str, Image], how: str
) -> None:
    encoder, digests = Grid(name="grid"), list(images)
    right = Store(tmp_path / "f").obtain(lambda: encoder, images, digests).whole()
    (shard,) = (tmp_path / "f").glob("*.safetensors")
    damaged(shard, how)
    again = Store(tmp_path / "f").obtain(lambda: encoder, images, digests).whole()
    assert torch.equal(again, right)
    assert len(list((tmp_path / "f").glob("*.safetensors"))) == 1


def test_a_shard_of_another_encoder_is_encoded_again(
    tmp_path: Path, images: dict[str, Image]
) -> None:
    class Negative(Grid):
        def _forward(self, x: torch.Tensor) -> torch.Tensor:
            return -super()._forward(x)

    encoder, digests = Grid(name="grid"), list(images)
    right = Store(tmp_path / "f").obtain(lambda: encoder, images, digests).whole()
    Store(tmp_path / "g").fill(Negative(name="negative"), images)
    for shard in (tmp_path / "f").glob("*.safetensors"):
        shard.unlink()
    for shard in (tmp_path / "g").glob("*.safetensors"):
        shard.rename(tmp_path / "f" / shard.name)
    assert torch.equal(
        Store(tmp_path / "f").obtain(lambda: encoder, images, digests).whole(), right
    )


def as_before(shard: Path, factor: float = 1.0) -> None:
    """Write a shard as the version before did, whose checksum covered images and values alone."""
    with safe_open(shard, framework="pt") as file:
        values, metadata = file.get_tensor("features") * factor, file.metadata()
    listed = json.loads(metadata["digests"])
    checksum = hashing.digest_parts([hashing.canonical_json(listed), np.asarray(values).tobytes()])
    del metadata["key"]
    shard.unlink()
    name = f"{checksum[:32]}.safetensors"
    save_file({"features": values}, shard.with_name(name), {**metadata, "sha256": checksum})


@pytest.mark.usefixtures("small_shards")
def test_shards_of_the_version_before_are_adopted_once(
    tmp_path: Path, images: dict[str, Image]
) -> None:
    encoder, digests = Grid(name="grid"), list(images)
    right = Store(tmp_path / "f").obtain(lambda: encoder, images, digests).whole()
    for shard in sorted((tmp_path / "f").glob("*.safetensors")):
        as_before(shard)
    encoded: list[int] = []
    store = Store(tmp_path / "f")
    assert torch.equal(
        store.obtain(lambda: encoder, images, digests, encoded.append).whole(), right
    )
    assert encoded == []
    assert Store(tmp_path / "f").missing(digests) == []  # without a second look at the encoder


@pytest.mark.usefixtures("small_shards")
def test_shards_of_the_version_before_that_are_another_encoders_are_not_adopted(
    tmp_path: Path, images: dict[str, Image]
) -> None:
    encoder, digests = Grid(name="grid"), list(images)
    right = Store(tmp_path / "f").obtain(lambda: encoder, images, digests).whole()
    first, *others = sorted((tmp_path / "f").glob("*.safetensors"))
    as_before(first, factor=-1.0)
    for shard in others:
        as_before(shard)
    encoded: list[int] = []
    store = Store(tmp_path / "f")
    assert torch.equal(
        store.obtain(lambda: encoder, images, digests, encoded.append).whole(), right
    )
    assert sum(encoded) == 16


def test_an_image_that_is_replaced_before_it_is_decoded_is_told(
    tmp_path: Path, images: dict[str, Image]
) -> None:
    first, second, *_ = (image.path for image in images.values())  # type: ignore[attr-defined]
    first.write_bytes(second.read_bytes())
    store = Store(tmp_path / "f")
    with pytest.raises(UserError, match=f"{first.name} changed"):
        store.fill(Grid(name="grid"), images)
    assert store.missing(list(images)) == [next(iter(images))]


def test_a_cache_of_another_user_can_be_shared(tmp_path: Path, images: dict[str, Image]) -> None:
    before = os.umask(0o002)
    try:
        Store(tmp_path / "f").fill(Grid(name="grid"), images)
    finally:
        os.umask(before)
    (shard,) = (tmp_path / "f").glob("*.safetensors")
    assert stat.S_IMODE(shard.stat().st_mode) == 0o664


def test_tokens_are_kept_in_half_precision_and_a_fine_grid_is_averaged(
    tmp_path: Path, images: dict[str, Image]
) -> None:
    encoder = Grid(name="grid")
    store = Store(tmp_path, "tokens")
    store.fill(encoder, images)
    digests = list(images)[:7]
    tokens = store.read(digests).whole()
    assert tokens.dtype == torch.float16
    assert tokens.shape == (7, 16 * 16, 3)
    pixels = torch.stack([encoder.prepare(images[d].read()) for d in digests])
    blocks = torch.nn.functional.adaptive_avg_pool2d(
        pixels.repeat_interleave(5, 2).repeat_interleave(5, 3), 16
    )
    torch.testing.assert_close(tokens.float(), blocks.flatten(2).mT, rtol=2e-3, atol=2e-3)


@pytest.fixture
def tokens(tmp_path: Path, images: dict[str, Image], small_shards: None) -> Store:
    """A store of tokens in four shards."""
    store = Store(tmp_path / "t", "tokens")
    store.fill(Grid(name="grid"), images)
    assert len(list(store.folder.glob("*.safetensors"))) == 4
    return store


def test_streamed_rows_are_those_of_the_whole(tokens: Store, images: dict[str, Image]) -> None:
    digests = list(images)[::-1]
    streamed = tokens.read(digests)
    whole = streamed.whole()
    assert whole.shape == streamed.shape == (60, 256, 3)
    index = torch.tensor([59, 0, 17, 17, 31])  # of four shards, one twice, in no order
    assert torch.equal(streamed.rows(index), whole[index])
    assert streamed.rows(index[:0]).shape == (0, 256, 3)
    batches = list(streamed.batches(25))
    assert [len(batch) for batch in batches] == [25, 25, 10]
    assert torch.equal(torch.cat(batches), whole)
    in_memory = InMemory(whole)
    assert torch.equal(in_memory.rows(index), streamed.rows(index))
    assert all(map(torch.equal, in_memory.batches(25), batches))


def test_a_shard_is_verified_once(
    tokens: Store, images: dict[str, Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    verified, checksum = [], features._checksum

    def counted(metadata: dict[str, str], values: torch.Tensor) -> str:
        verified.append(len(values))
        return checksum(metadata, values)

    monkeypatch.setattr(features, "_checksum", counted)
    digests = list(images)
    for part in (digests[:20], digests[10:40], digests):
        list(tokens.read(part).batches(7))
    assert sum(verified) == 60


def test_a_shard_that_changes_after_it_was_verified_is_told(
    tokens: Store, images: dict[str, Image]
) -> None:
    streamed = tokens.read(list(images))
    first, second, *_ = sorted(tokens.folder.glob("*.safetensors"))
    damaged(first, "bit")
    with pytest.raises(UserError, match=f"{first.name} changed after it was verified; run again"):
        streamed.whole()
    second.unlink()
    with pytest.raises(UserError, match=r"cannot be read any more .*No such file"):
        streamed.rows(torch.arange(60).flip(0))
    with pytest.raises(features.Damaged):  # and is encoded again by whoever obtains it
        tokens.read(list(images))


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
    assert maker["torch"] == version("torch")


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
