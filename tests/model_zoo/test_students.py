"""Students of this project's trainer: what is opened, what is refused, and what is shipped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import model_zoo
from model_zoo import students
from model_zoo.checkpoints import exports
from model_zoo.checkpoints.exports import EncoderSizes, Header
from model_zoo.students import Student
from model_zoo.transforms import InputRule
from model_zoo.vit import VisionTransformer
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

SIZES = EncoderSizes(image_size=32, patch_size=8, width=24, depth=2, heads=2)
HEADER: dict[str, Any] = {
    "format": 1,
    "name": "mine",
    "objective": "salt",
    "region_conditioning": False,
    "image_size": 32,
    "patch_size": 8,
    "heads": 2,
    "class_token": False,
    "input": asdict(InputRule(32, grey=True, stretch=(2, 98))),
    "config": "0123456789ab",
}
CARD: dict[str, Any] = {
    "format": 1,
    "name": "mine",
    "objective": "salt",
    "frames": {"sets": {"aul": 7}, "fingerprint": "ab", "guard": None, "saw": ["aul"]},
    "epoch": 2,
    "step": 5,
    "validation_loss": None,
}
NANO = ("ijepa-nano", "mae-nano", "us-jepa-nano", "usrc-jepa-nano")
THERE = [name for name in NANO if (exports.SHIPPED / f"{name}.safetensors").exists()]


def tensors(sizes: EncoderSizes = SIZES) -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = VisionTransformer(*sizes)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    return network.state_dict()


def written(path: Path, values: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """An export with a changed header; a field of None is left out."""
    header = {key: one for key, one in (HEADER | changes).items() if one is not None}
    save_file(values or tensors(), path, {"usjepa": json.dumps(header)})
    return path


def card_of(path: Path, **changes: Any) -> Path:
    told = CARD | {"sha256": hashing.digest_file(path)} | changes
    card = path.with_suffix(".json")
    card.write_text(json.dumps(told))
    return card


def test_sizes_are_those_of_the_file(tmp_path: Path) -> None:
    for sizes in (SIZES, EncoderSizes(48, 12, 16, 3, 4, True)):
        fields = {key: getattr(sizes, key) for key in ("image_size", "patch_size", "heads")}
        path = written(
            *(tmp_path / "w.safetensors", tensors(sizes)),
            **fields,
            class_token=sizes.class_token,
            input=asdict(InputRule(sizes.image_size, mean=(0.5,) * 3)),
        )
        encoder = model_zoo.load("usjepa", path, "cpu", "float32")
        assert encoder.input_rule == InputRule(sizes.image_size, mean=(0.5,) * 3)
        assert encoder.dim == sizes.width == encoder.card.dim
        assert encoder.parameter_count == encoder.card.parameters
        x = torch.rand(2, 3, 60, 40)
        assert encoder.tokens(x).shape == (2, 16, sizes.width)
        assert Header(
            **{key: one for key, one in HEADER.items() if key not in ("format", "input")},
            input=InputRule(32),
        ).metadata().keys() == {"usjepa"}
    # Opened without a path too.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UBENCH_WEIGHTS", str(tmp_path))
        with pytest.raises(UserError, match=r"no weights for model 'usjepa'.*`usjepa train --out"):
            model_zoo.load("usjepa")
        path.rename(tmp_path / "usjepa-mine.safetensors")
        assert model_zoo.load("usjepa", device="cpu").fingerprint == encoder.fingerprint


def test_heads_change_features_and_the_fingerprint(tmp_path: Path) -> None:
    two = model_zoo.load("usjepa", written(tmp_path / "two.safetensors"), "cpu", "float32")
    three = model_zoo.load("usjepa", written(tmp_path / "3.safetensors", heads=3), "cpu", "float32")
    assert all(torch.equal(a, b) for a, b in zip(two.parameters(), three.parameters(), strict=True))
    x = torch.rand(1, 3, 32, 32)
    assert not torch.allclose(two.encode(x), three.encode(x))
    assert two.fingerprint != three.fingerprint


def without(key: str) -> dict[str, Tensor]:
    return {name: value for name, value in tensors().items() if name != key}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 5}, "its header and the shapes in it contradict each other"),
        ({"heads": 0}, "heads"),
        ({"heads": "many"}, "heads"),
        ({"heads": None}, "heads"),
        ({"patch_size": 16}, "contradict"),
        ({"image_size": 40}, "contradict"),
        ({"class_token": True}, "contradict"),
        ({"input": asdict(InputRule(64))}, "contradict"),
        ({"input": {"size": 32, "colour": 1}}, "colour"),
        ({"input": 3}, "input"),
        ({"more": 1}, "more"),
        ({"format": None}, "KeyError: 'format'"),
        ({"format": 2}, "its header does not have the digest it holds"),
        ({"format": 3}, "of format 3, newer than the 2 that this version reads; update"),
    ],
)
def test_a_wrong_header_is_told(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = written(tmp_path / "w.safetensors", **changes)
    for name in ("usjepa", "us-jepa"):
        with pytest.raises(UserError, match=rf"w\.safetensors is .*{said}") as caught:
            model_zoo.load(name, path, "cpu")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            without("blocks.1.mlp.fc2.bias"),
            r"does not fit model 'usjepa': 1 missing",
        ),
        (without("pos_embed"), r"is not as `usjepa` wrote it \(KeyError: 'pos_embed'\)"),
        (tensors() | {"head.bias": torch.ones(3)}, r"1 unexpected \(head\.bias\)"),
        (tensors() | {"norm.bias": torch.full((24,), torch.nan)}, "NaN or infinite numbers in nor"),
        (tensors() | {"norm.bias": torch.ones(7)}, r"norm\.bias: \[7\] in the file"),
    ],
)
def test_wrong_tensors_are_told(tmp_path: Path, values: dict[str, Tensor], said: str) -> None:
    path = written(tmp_path / "w.safetensors", values)
    with pytest.raises(UserError, match=rf"w\.safetensors .*{said}"):
        model_zoo.load("usjepa", path, "cpu")


def test_what_is_no_export_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors")
    whole = path.read_bytes()
    for length in (len(whole) - 5, len(whole) // 2, 300, 9, 3, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"w\.safetensors cannot be read as a checkpoint.*cut"):
            model_zoo.load("usjepa", path, "cpu")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match=r"is a Git LFS pointer"):
        model_zoo.load("usjepa", path, "cpu")
    save_file(tensors(), path)
    with pytest.raises(
        UserError, match=r"w\.safetensors is not an export of `usjepa`.*train` or `us"
    ):
        model_zoo.load("usjepa", path, "cpu")
    torch.save(tensors(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth is not an export of `usjepa`"):
        model_zoo.load("usjepa", tmp_path / "w.pth", "cpu")
    with pytest.raises(UserError, match=r"weights of model 'usjepa' not found: .*none"):
        model_zoo.load("usjepa", tmp_path / "none", "cpu")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": "00"}, "is the card of another file than .*w.safetensors; copy the two"),
        ({"frames": {}}, r"is not as `usjepa` wrote it \(ValidationError: .*frames.sets Field re"),
        (
            {"frames": {**CARD["frames"], "saw": [3]}},
            r"frames\.saw\.0 Input should be a val",
        ),
        ({"frames": {**CARD["frames"], "sets": {"aul": "many"}}}, "valid integer"),
        ({"frames": {**CARD["frames"], "guard": "yes"}}, r"frames\.guard"),
        ({"epoch": None}, "epoch Input should be a valid integer"),
        ({"format": 2}, "KeyError: 'card_sha256'"),
        ({"format": 2, "card_sha256": "00"}, "its content does not have the digest it holds"),
        ({"format": 7}, "is of format 7, newer"),
        ({"format": "x"}, "ValueError"),
    ],
)
def test_a_wrong_card_is_told(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = written(tmp_path / "w.safetensors")
    card_of(path, **changes)
    with pytest.raises(UserError, match=rf"w\.json .*{said}"):
        model_zoo.load("usjepa", path, "cpu")


def test_a_card_that_is_no_card_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors")
    for text in ("", "[1]", "{", '"a"', "null"):
        path.with_suffix(".json").write_text(text)
        with pytest.raises(UserError, match=r"w\.json is not as `usjepa` wrote it"):
            model_zoo.load("usjepa", path, "cpu")
    with pytest.raises(UserError, match=r"card of an export not found: .*encoder\.json; export"):
        exports.read_card(tmp_path)


# ---- random -------------------------------------------------------------------------------------


def test_random_is_the_nano_network() -> None:
    encoder = model_zoo.load("usjepa", "random", "cpu")
    assert encoder.random_weights
    assert (
        encoder.network.state_dict().keys()
        == VisionTransformer(*EncoderSizes()).state_dict().keys()
    )
    assert (encoder.dim, encoder.parameter_count) == (192, model_zoo.card("usjepa").parameters)
    assert encoder.network.blocks[0].attn.heads == 3  # type: ignore[index, union-attr]
    assert model_zoo.load("usjepa/cls", "random", "cpu").network.prefix == 1


# ---- shipped ------------------------------------------------------------------------------------


def test_a_shipped_name_is_there_with_its_file() -> None:
    assert [name for name in model_zoo.names() if name in NANO] == THERE
    files = {path.name for path in exports.SHIPPED.glob("*")}
    shipped = (*THERE, "vjepa-nano", "vjepa-loc-nano")
    assert files == {f"{name}.{kind}" for name in shipped for kind in ("safetensors", "json")}
    assert sum(path.stat().st_size for path in exports.SHIPPED.glob("*")) < 40e6


def test_how_a_file_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "mae-nano.safetensors", name="mae-nano", objective="mae")
    card_of(path, name="mae-nano", objective="mae")
    monkeypatch.setattr(exports, "SHIPPED", tmp_path)

    class Shipped(Student):
        shipped = "mae-nano"

    class Missing(Student):
        shipped = "us-jepa-nano"

    # Known without loading.
    assert Shipped.sizes == SIZES
    assert Shipped.poolings == ("mean", "mean_prenorm", "last4", "all+std")
    assert (Shipped.card.saw, Shipped.card.dim) == (("aul",), 24)
    assert Shipped.card.weights_from == "part of this package"
    assert Shipped.patch_size == 8
    encoder = Shipped(name="mae-nano")
    assert encoder.weights_file == path
    assert not encoder.random_weights
    assert encoder.card == Shipped.card
    # The control: the same network, untrained.
    random = Shipped(name="mae-nano", weights="random")
    assert random.random_weights
    assert random.sizes == SIZES
    assert random.fingerprint != encoder.fingerprint
    # Weights of one's own under a shipped name are of that name.
    own = written(tmp_path / "own.safetensors", name="mae-nano")
    assert Shipped(name="mae-nano", weights=own).weights_file == own
    written(own, name="other")
    with pytest.raises(UserError, match=r"trained as 'other', not as 'mae-nano'.*usjepa="):
        Shipped(name="mae-nano", weights=own)
    # Never random by accident.
    with pytest.raises(UserError, match=r"no weights for model 'us-jepa-nano'; get them"):
        Missing(name="us-jepa-nano")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        Shipped(name="mae-nano")


@pytest.mark.parametrize("name", THERE)
def test_a_bare_name_has_the_pooling_that_validation_chose(name: str) -> None:
    ours = name in ("us-jepa-nano", "usrc-jepa-nano")
    chosen = "projected" if ours else "mean"
    bare = model_zoo.load(name, device="cpu", dtype="float32")
    assert bare.pooling == chosen == model_zoo.describe(name)["poolings"][0]
    assert bare.fingerprint == model_zoo.load(f"{name}/{chosen}", device="cpu").fingerprint
    width = 256 if ours else 192
    dims = {"mean": width, "mean_prenorm": width, "last4": 4 * width}
    if ours:
        assert bare.card.note.endswith(type(bare).earlier)
        assert "network of 192 x 8, SHA-256 " in bare.card.note
        dims |= {"all+std": 2 * 4 * width, "projected": 512}
    prints = set()
    for pooling, dim in dims.items():
        one = model_zoo.load(f"{name}/{pooling}", device="cpu", dtype="float32")
        assert (one.pooling, one.dim) == (pooling, dim)
        prints.add(one.fingerprint)
    assert len(prints) == len(dims)


@pytest.mark.parametrize("name", THERE)
def test_what_is_shipped(name: str) -> None:
    encoder = model_zoo.load(name, device="cpu", dtype="float32")
    assert isinstance(encoder, students.Student)
    assert not encoder.random_weights
    assert encoder.card == model_zoo.card(name)
    assert encoder.card.saw
    assert encoder.card.status == "trained by this project's trainer, nano"
    assert (encoder.parameter_count, encoder.dim) == (encoder.card.parameters, encoder.card.dim)
    told = exports.read_card(exports.SHIPPED / f"{name}.json")
    assert told["name"] == name
    assert told["frames"]["guard"], "was not kept from test images"
    file = exports.SHIPPED / f"{name}.safetensors"
    assert file.stat().st_size < 20e6
    assert encoder.weights_file == file
    # It learned something: features of images differ more than those of the untrained network.
    generator = np.random.default_rng(0)
    images = torch.from_numpy(generator.random((4, 3, 64, 64)).astype(np.float32))
    images = torch.nn.functional.interpolate(images, (224, 224), mode="bicubic").clamp(0, 1)
    features = encoder.encode(images)
    assert torch.isfinite(features).all()
    assert len(features.unique(dim=0)) == 4
    random = model_zoo.load(name, "random", "cpu", "float32")
    assert random.random_weights
    assert random.parameter_count == encoder.parameter_count
    assert random.fingerprint != encoder.fingerprint
    trained = exports.decoded(load_file(file))
    fixed = {key for key, value in random.network.state_dict().items() if value.equal(trained[key])}
    assert fixed <= {"pos_embed"}
