"""Families of transformers and open_clip, on tiny models made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import PIL.Image
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

import model_zoo
from model_zoo.checkpoints import hub
from model_zoo.transforms import to_float
from ultrabench_eval.core.errors import UserError

SIZE = 32
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def picture() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def prepared(image: np.ndarray, how: PIL.Image.Resampling) -> Tensor:
    pixels = np.asarray(PIL.Image.fromarray(image).resize((SIZE, SIZE), how)) / np.float32(255)
    values = (pixels - np.float32(MEAN)) / np.float32(STD)
    return torch.from_numpy(values.transpose(2, 0, 1).copy())[None]


def make(folder: Path, kind: str) -> torch.nn.Module:
    common: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "image_size": SIZE, "patch_size": 8,
    }  # fmt: skip
    if kind == "vit":
        model = transformers.ViTForImageClassification(transformers.ViTConfig(**common))
    elif kind == "dinov2":
        config = {k: v for k, v in common.items() if k != "intermediate_size"}
        model = transformers.Dinov2Model(transformers.Dinov2Config(**config))
    elif kind == "clip":
        text = {k: v for k, v in common.items() if k not in ("image_size", "patch_size")}
        config = transformers.CLIPConfig(text_config=text, vision_config=common)
        model = transformers.CLIPModel(config)
    else:
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
        )
        model = transformers.ResNetModel(config)
    torch.manual_seed(5)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.eval().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {"size": {"height": SIZE, "width": SIZE}, "image_mean": MEAN, "image_std": STD,
             "resample": 3, "do_normalize": True}
        )
    )  # fmt: skip
    return model


def load(folder: Path, **options: Any) -> model_zoo.Encoder:
    return model_zoo.load(f"hf/{folder}", device="cpu", dtype="float32", **options)


@pytest.mark.parametrize("kind", ["vit", "dinov2", "clip", "resnet"])
def test_features_are_the_librarys(tmp_path: Path, kind: str) -> None:
    model = make(tmp_path, kind)
    vision = {"vit": getattr(model, "vit", None), "clip": getattr(model, "vision_model", None)}
    with torch.inference_mode():
        output = (vision.get(kind) or model)(
            pixel_values=prepared(picture(), PIL.Image.Resampling.BICUBIC)
        )
    last = output.last_hidden_state
    images = to_float(picture())[None]
    encoder = load(tmp_path)
    assert not encoder.random_weights
    if kind == "resnet":
        torch.testing.assert_close(encoder.encode(images), last.mean((2, 3)))
        with pytest.raises(NotImplementedError, match="no patch tokens"):
            encoder.tokens(images)
        return
    torch.testing.assert_close(encoder.encode(images), last[:, 0])
    torch.testing.assert_close(encoder.tokens(images), last[:, 1:])
    torch.testing.assert_close(load(tmp_path, pooling="mean").encode(images), last[:, 1:].mean(1))
    assert encoder.tokens(images).shape == (1, 16, 32)


def change(folder: Path, how: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    how(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda t: t.pop("layernorm.weight"), r"1 missing \(layernorm\.weight\)"),
        (lambda t: t.update({"extra.weight": torch.ones(2)}), r"1 unexpected \(extra\.weight\)"),
        (
            lambda t: t.update({"layernorm.weight": torch.ones(7)}),
            r"1 of another shape \(layernorm\.weight: \[7\] in the file, \[32\] in the model",
        ),
    ],
)
def test_folders_that_do_not_fit_are_refused(
    tmp_path: Path, how: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    make(tmp_path, "dinov2")
    before = load(tmp_path).fingerprint
    change(tmp_path, lambda t: t["layernorm.bias"].add_(1))
    assert load(tmp_path).fingerprint != before
    change(tmp_path, how)
    with pytest.raises(UserError, match=message):
        load(tmp_path)


def test_a_pooler_is_used_only_if_it_was_trained(tmp_path: Path) -> None:
    make(tmp_path, "vit")  # a classifier of ViT has no pooler
    with pytest.raises(UserError, match=r"2 missing \(pooler\.dense\.bias"):
        load(tmp_path, pooling="pooler")
    other = tmp_path / "clip"
    model = make(other, "clip")
    images = to_float(picture())[None]
    with torch.inference_mode():
        expected = model.vision_model(prepared(picture(), PIL.Image.Resampling.BICUBIC))  # type: ignore[operator]
    pooled = load(other, pooling="pooler").encode(images)
    torch.testing.assert_close(pooled, expected.pooler_output)


def test_missing_places_and_files_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(hub, "cached", lambda file: None)
    with pytest.raises(UserError, match=r"not a folder here, and the hub cannot be reached"):
        model_zoo.load("hf/some/model", device="cpu")
    make(tmp_path, "dinov2")
    assert model_zoo.load(f"hf/{tmp_path}", "random", "cpu").random_weights
    assert load(tmp_path).weights_file == tmp_path / "model.safetensors"
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(UserError, match=r"holds no preprocessor_config\.json"):
        load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights for model"):
        load(tmp_path)


# ---- open_clip ----------------------------------------------------------------------------------


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": SIZE, "layers": 2, "width": 64, "patch_size": 8},
        "text_cfg": {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-for-tests.json")
    return "open_clip/tiny-for-tests"


def test_open_clips_image_tower(tmp_path: Path, tiny: str) -> None:
    torch.manual_seed(2)
    reference = open_clip.create_model("tiny-for-tests").eval()
    path = tmp_path / "w.pt"
    wrapped = {f"module.{key}": value for key, value in reference.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, path)
    encoder = model_zoo.load(tiny, path, "cpu", "float32")
    image = picture()
    pixels = torch.stack([encoder.prepare(image)])
    rule = encoder.input_rule
    assert rule is not None
    assert (rule.size, rule.mean) == (SIZE, (0.48145466, 0.4578275, 0.40821073))
    with torch.inference_mode():
        expected = reference.encode_image(pixels)
    torch.testing.assert_close(encoder.encode(to_float(image)[None]), expected)
    assert encoder.tokens(to_float(image)[None]).shape == (1, 16, 64)
    assert encoder.parameter_count == sum(p.numel() for p in reference.visual.parameters())
    mean = model_zoo.load(f"{tiny}/mean", path, "cpu", "float32")
    torch.testing.assert_close(
        mean.encode(to_float(image)[None]), encoder.tokens(to_float(image)[None]).mean(1)
    )

    wrapped["module.visual.extra"] = wrapped.pop("module.visual.proj")
    torch.save({"state_dict": wrapped}, path)
    with pytest.raises(
        UserError, match=r"1 missing \(visual\.proj\), 1 unexpected \(visual\.extra"
    ):
        model_zoo.load(tiny, path, "cpu")


def test_open_clips_names(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    assert model_zoo.load(tiny, "random", "cpu").random_weights
    with pytest.raises(UserError, match=r"has no model 'ViT-B-166'; did you mean open_clip/ViT-B"):
        model_zoo.load("open_clip/ViT-B-166", "random", "cpu")
    with pytest.raises(UserError, match=r"no pretrained tag 'mine'; it has: openai"):
        model_zoo.load("open_clip/ViT-B-16/mine", "random", "cpu")
    with pytest.raises(UserError, match=r"no weights for model .*; name a tag behind it \(openai"):
        model_zoo.load("open_clip/ViT-B-16", device="cpu")
