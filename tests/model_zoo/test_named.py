"""What the user named is what is used: files, their settings, and the settings beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf

import model_zoo
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

SIZE = 32
PREPROCESS = {
    "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4],
    "do_rescale": True, "rescale_factor": 1 / 255, "size": {"height": SIZE, "width": SIZE},
    "resample": 2, "do_resize": True, "image_processor_type": "ViTImageProcessor",
}  # fmt: skip
SIZES = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
         "intermediate_size": 64, "image_size": SIZE, "patch_size": 8}  # fmt: skip


def vit(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A tiny ViT as transformers saves it."""
    torch.manual_seed(seed)
    model = transformers.ViTModel(transformers.ViTConfig(**SIZES), add_pooling_layer=False)
    model.save_pretrained(folder)
    told = {key: value for key, value in (PREPROCESS | changes).items() if value is not None}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    return folder


def load(weights: Path | str, name: str = "hf/mine") -> model_zoo.Encoder:
    return model_zoo.load(name, weights, device="cpu", dtype="float32")


def image(height: int = SIZE, width: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


# ---- files of transformers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["ema.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "last.ckpt"]
)
def test_the_named_file_fills_the_network(tmp_path: Path, name: str) -> None:
    run, other = vit(tmp_path / "run"), vit(tmp_path / "other", 1)
    tensors = load_file(other / "model.safetensors")
    if name.endswith("safetensors"):
        save_file(tensors, run / name)
    elif name == "last.ckpt":
        torch.save({"state_dict": {f"net.vit.{k}": v for k, v in tensors.items()}}, run / name)
    else:
        torch.save(tensors, run / name)
    encoder, wanted = load(run / name), load(other)
    x = torch.rand(2, 3, SIZE, SIZE)
    assert torch.equal(encoder.encode(x), wanted.encode(x))
    assert encoder.weights_file == run / name
    assert encoder.weights_sha256 == hashing.digest_file(run / name)
    assert load(run).weights_file == run / "model.safetensors"  # as the library takes it
    assert not torch.equal(load(run).encode(x), wanted.encode(x))


def test_a_description_is_no_weights(tmp_path: Path) -> None:
    run = vit(tmp_path / "run")
    with pytest.raises(UserError, match=r"config\.json describes a model and holds no weights; "):
        load(run / "config.json")
    shutil.copy(run / "model.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(UserError, match=r"no config\.json beside .*alone\.safetensors"):
        load(tmp_path / "alone.safetensors")


def test_shards_of_transformers(tmp_path: Path) -> None:
    run = vit(tmp_path / "run")
    x = torch.rand(2, 3, SIZE, SIZE)
    wanted = load(run).encode(x)
    tensors = load_file(run / "model.safetensors")
    (run / "model.safetensors").unlink()
    names = {}
    for number, keys in enumerate((list(tensors)[::2], list(tensors)[1::2]), 1):
        name = f"model-{number:05d}-of-00002.safetensors"
        save_file({key: tensors[key] for key in keys}, run / name)
        names |= dict.fromkeys(keys, name)
    index = run / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": names}))
    for place in (run, index):
        encoder = load(place)
        assert torch.equal(encoder.encode(x), wanted)
        assert encoder.weights_file == index
        assert encoder.weights_sha256 not in (None, hashing.digest_file(index))
    with pytest.raises(UserError, match="is one of 2 parts of a checkpoint; name their index"):
        load(run / "model-00001-of-00002.safetensors")
    (run / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"names model-00002-of-00002\.safetensors, which is not"):
        load(run)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", b"{", "cannot be loaded from"),
        ("config.json", b"[]", "cannot be loaded from"),
        ("preprocessor_config.json", b"[1]", "cannot be read as settings"),
        ("preprocessor_config.json", b"{", "cannot be read as settings"),
        ("preprocessor_config.json", b"\xff", "cannot be read as settings"),
        ("model.safetensors", b"", "the file is empty"),
        ("model.safetensors", b"<html>", "is a web page"),
        ("model.safetensors", b"\x09\0\0\0\0\0\0\0{", "cut off or damaged"),
        ("adapter_config.json", b"{}", "holds an adapter"),
    ],
)
def test_files_of_transformers_that_are_damaged(
    tmp_path: Path, file: str, content: bytes, message: str
) -> None:
    run = vit(tmp_path / "run")
    (run / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(run)


def test_numbers_of_another_kind_are_refused(tmp_path: Path) -> None:
    run = vit(tmp_path / "run")
    tensors = load_file(run / "model.safetensors")
    save_file(tensors | {"layernorm.bias": torch.ones(32).int()}, run / "model.safetensors")
    with pytest.raises(UserError, match=r"holds int32 in layernorm\.bias where .* float32"):
        load(run)
    save_file(tensors | {"layernorm.bias": torch.full((32,), torch.inf)}, run / "model.safetensors")
    with pytest.raises(UserError, match=r"NaN or infinite numbers in layernorm\.bias"):
        load(run)


# ---- how transformers prepares images -----------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rescale_factor": 1 / 127.5},
        {"rescale_factor": 1 / 127.5, "do_normalize": False},
        {"do_rescale": False},
        {"do_rescale": False, "do_normalize": False},
        {"do_normalize": None},
        {"do_rescale": None, "rescale_factor": None},
        {"image_mean": 0.5, "image_std": 0.25},
        {"resample": 0},
        {"resample": 3},
        {"resample": 1},
        {"resample": None},
        {"size": SIZE},
        {"image_mean": None, "image_std": None},
    ],
)
def test_the_input_is_the_librarys(tmp_path: Path, changes: dict[str, Any]) -> None:
    run = vit(tmp_path / "run", **changes)
    kind: Any = transformers.AutoImageProcessor
    processor = kind.from_pretrained(run, backend="pil")
    for pixels in (image(), image(50, 71)):
        wanted = processor(pixels, return_tensors="pt")["pixel_values"][0].float()
        given = load(run).prepare(pixels)
        torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("changes", [{}, {"do_flip_channel_order": False}, {"rescale_factor": 1}])
def test_blue_first_where_the_library_has_it(tmp_path: Path, changes: dict[str, Any]) -> None:
    told = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE},
            "do_center_crop": True, "image_processor_type": "MobileViTImageProcessor",
            "image_mean": None, "image_std": None, "do_normalize": None,
            "rescale_factor": 1 / 255, **changes}  # fmt: skip
    run = vit(tmp_path / "run", **told)
    kind: Any = transformers.AutoImageProcessor
    wanted = kind.from_pretrained(run, backend="pil")(image(), return_tensors="pt")
    encoder = load(run)
    torch.testing.assert_close(encoder.prepare(image()), wanted["pixel_values"][0].float())
    plain = load(vit(tmp_path / "plain", **(told | {"do_flip_channel_order": False})))
    assert (encoder.fingerprint == plain.fingerprint) == ("do_flip_channel_order" in changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": {"height": 32, "width": 64}}, "size 32 x 64, and only square"),
        ({"size": {"longest_edge": 64}}, "size .*longest_edge.* keeps the aspect"),
        ({"size": "large"}, "states no size in pixels"),
        ({"do_resize": False}, "do_resize false"),
        ({"do_pad": True}, "states do_pad True, which is not supported"),
        ({"include_top": True}, "states include_top True"),
        ({"resample": 4}, "states resample 4, and only"),
        ({"resample": "area"}, "states resample area"),
        ({"image_mean": [0.5]}, r"states image_mean \[0\.5\], where three numbers"),
        ({"image_std": [0.5, 0.5, 0]}, "image_std .* must be positive"),
        ({"image_mean": "imagenet"}, "image_mean imagenet, where three numbers"),
        ({"rescale_factor": -1}, "rescale_factor -1"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run = vit(tmp_path / "run", **changes)
    with pytest.raises(UserError, match=rf"preprocessor_config\.json .*{message}"):
        load(run)


def test_what_the_settings_do_not_say_is_noticed(tmp_path: Path) -> None:
    # EfficientNet's processor divides by std a second time, without a setting in the file.
    run = vit(tmp_path / "run", image_processor_type="EfficientNetImageProcessor")
    with pytest.raises(UserError, match=r"makes transformers prepare images in a way that is not"):
        load(run)


def test_settings_in_the_newer_file(tmp_path: Path) -> None:
    run = vit(tmp_path / "run")
    told = json.loads((run / "preprocessor_config.json").read_text())
    (run / "preprocessor_config.json").unlink()
    (run / "processor_config.json").write_text(json.dumps({"image_processor": told}))
    rule = load(run).input_rule
    assert rule is not None
    assert rule.mean == (0.4, 0.5, 0.6)


def test_masked_autoencoders_see_all_patches(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(**(SIZES | {"image_size": 64}))
    model = transformers.ViTMAEModel(config).eval()
    model.save_pretrained(tmp_path)
    told = PREPROCESS | {"size": {"height": 64, "width": 64}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    encoder = load(tmp_path)
    x = torch.rand(2, 3, 64, 64)
    tokens = encoder.tokens(x)
    assert tokens.shape == (2, 64, 32)
    assert torch.equal(tokens, encoder.tokens(x))
    # The library's own, in an order of its own, put back into that of the image.
    model.config.mask_ratio = 0.0
    prepared = torch.stack([encoder.prepare(one) for one in x])
    with torch.inference_mode():
        output = model(pixel_values=prepared)
    places = output.ids_restore[..., None].expand(-1, -1, 32)
    wanted = output.last_hidden_state[:, 1:].gather(1, places)
    torch.testing.assert_close(tokens, wanted, rtol=1e-4, atol=1e-4)
    cls = output.last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.encode(x), cls, rtol=1e-4, atol=1e-4)


# ---- folders of timm ----------------------------------------------------------------------------


def saved(folder: Path, how: Callable[[dict[str, Any]], object] = lambda told: None) -> Path:
    """A model as timm's own function saves it, with its settings changed."""
    torch.manual_seed(0)
    save_for_hf(timm.create_model("test_vit", num_classes=5), folder, safe_serialization=True)
    told = json.loads((folder / "config.json").read_text())
    how(told)
    (folder / "config.json").write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize("named", ["", "model.safetensors"])
def test_the_settings_beside_timms_weights_are_used(tmp_path: Path, named: str) -> None:
    def change(told: dict[str, Any]) -> None:
        told["pretrained_cfg"] |= {"mean": [0.1] * 3, "std": [0.2] * 3, "interpolation": "bilinear"}

    folder = saved(tmp_path / "mine", change)
    encoder = load(folder / named, "timm/test_vit")
    rule = encoder.input_rule
    assert rule is not None
    assert (rule.mean, rule.std, rule.interpolation) == ((0.1,) * 3, (0.2,) * 3, "bilinear")
    assert encoder.dropped == ("head (2 tensors)",)
    (folder / "config.json").unlink()
    assert load(folder, "timm/test_vit").input_rule != rule


def test_other_settings_of_timm(tmp_path: Path) -> None:
    plain = load(saved(tmp_path / "plain"), "timm/test_vit")
    alone = tmp_path / "alone.safetensors"
    shutil.copy(tmp_path / "plain" / "model.safetensors", alone)
    assert plain.fingerprint == load(alone, "timm/test_vit").fingerprint

    made = {"global_pool": "avg", "fc_norm": False}

    def change(told: dict[str, Any]) -> None:
        told["global_pool"] = "avg"
        told["model_args"] |= made

    pooled = saved(tmp_path / "max", change)
    encoder = load(pooled, "timm/test_vit")
    assert encoder.network.global_pool == "avg"
    assert encoder.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda t: t.update(architecture="resnet18"), r"config\.json is of the architecture "
         r"'resnet18', not of model 'timm/test_vit'; give .*timm/resnet18=PATH"),
        (lambda t: t.update(global_pool="map"), r"states global_pool 'map'"),
        (lambda t: t.update(model_args={"embed_dim": "x"}), r"does not describe a model that timm"),
        (lambda t: t["pretrained_cfg"].update(mean=[0.5]), r"states mean \[0\.5\], where three"),
        (lambda t: t["pretrained_cfg"].update(std=[0, 1, 1]), r"std .* must be positive"),
        (lambda t: t["pretrained_cfg"].update(interpolation="hamming"), "wants hamming"),
    ],
)  # fmt: skip
def test_settings_of_timm_that_do_not_fit(
    tmp_path: Path, how: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        load(saved(tmp_path / "mine", how), "timm/test_vit")
