"""Released checkpoints: the authors' numbers come out, and nothing else gets in.

Files are written by the fill rule of `../shared/conformance/*/README.md`, in the wrapper of the
release, and opened by the public `load()`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import model_zoo
from ultrabench_eval.core.errors import UserError

# model -> what its pooled and token arrays are called in expected.npz
MODELS = {
    "usf-mae": {"mean": "pooled_mean", "cls": "cls", "mean_prenorm": "pooled_mean_prenorm"},
    "urfm": {"mean": "pooled_mean", "cls": "cls", "mean_prenorm": "pooled_mean_prenorm"},
    "usfm": {"mean": "pooled_mean", "cls": "cls", "mean_prenorm": "pooled_mean_prenorm"},
    "dinov3": {"cls": "cls_token", "mean": "pooled_patch_mean"},
    "ijepa-vitb16": {"mean": "pooled_mean"},
    "ijepa": {"mean": "pooled_mean"},
}
TOLERANCE = 2e-5  # the READMEs' for most; 1e-4 is asked for


def by_rule(rule_key: str, shape: list[int]) -> Tensor:
    """The fill rule."""
    seed = int.from_bytes(hashlib.sha256(rule_key.encode()).digest()[:8], "little")
    x = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape).astype(np.float32)
    if len(shape) > 1:
        x = x * np.float32(0.02)
    elif rule_key.endswith("weight") or rule_key.rpartition(".")[2].startswith("gamma"):
        x = np.float32(1) + np.float32(0.1) * x
    else:
        x = np.float32(0.02) * x
    return torch.from_numpy(x)


def filled(keys: list[dict[str, Any]], start: str = "") -> dict[str, Tensor]:
    return {
        k["key"]: torch.zeros(k["shape"], dtype=torch.int64)
        if k["dtype"] == "int64"
        else by_rule(start + k["key"], k["shape"] or [1])  # of some leftovers no shape is known
        for k in keys
    }


def checkpoint(folder: Path) -> dict[str, Any]:
    """The content of the released file."""
    described = json.loads((folder / "keys.json").read_text())
    if folder.name.startswith("ijepa"):
        keys = described["target_encoder_keys"]
        other = {"encoder": {k["key"]: torch.zeros(k["shape"]) for k in keys}}
        return {**other, "target_encoder": filled(keys), "epoch": 299, "opt": {"state": {}}}
    if folder.name == "urfm":
        raw = filled(described["keys"], "state_dict.module.")
        return {
            "model": "mae_vit_base_patch16_dec768d8b",
            "state_dict": {f"module.{key}": value for key, value in raw.items()},
            "ema_state_dict": filled(described["keys"], "ema_state_dict."),
        }
    tensors = filled(described["keys"])
    if folder.name == "dinov3":
        tensors["rope_embed.periods"] = 100.0 ** (2 * torch.arange(16) / 32)
        for i in range(12):
            mask = torch.ones(2304)
            mask[768:1536] = 0
            tensors[f"blocks.{i}.attn.qkv.bias_mask"] = mask
    return tensors


def vector_images(expected: dict[str, Tensor], size: int) -> Tensor:
    generator = np.random.Generator(np.random.PCG64(int(expected["input_seed"])))
    return torch.from_numpy(generator.random((2, 3, size, size)).astype(np.float32))


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_authors_numbers_come_out(shared: Path, tmp_path: Path, name: str) -> None:
    folder = shared / "conformance" / name
    expected = {k: torch.from_numpy(v) for k, v in np.load(folder / "expected.npz").items()}
    path = tmp_path / "w.pth"
    torch.save(checkpoint(folder), path)
    encoder = model_zoo.load(name, path, "cpu", "float32")
    images = vector_images(expected, 224)

    close = {"atol": TOLERANCE, "rtol": 0.0}
    rows = expected.get("token_index", torch.arange(196))
    tokens = expected["tokens"] if "tokens" in expected else expected["patch_tokens"]
    torch.testing.assert_close(encoder.tokens(images)[:, rows], tokens, **close)
    for pooling, array in MODELS[name].items():
        encoder.pooling = pooling
        torch.testing.assert_close(encoder.encode(images), expected[array], **close)
    if name.startswith("ijepa"):
        encoder.pooling = "last4"
        blocks = expected["block_mean"][:, -4:].flatten(1)
        torch.testing.assert_close(encoder.encode(images), blocks, atol=1e-4, rtol=1e-4)


def untrained(name: str) -> dict[str, Any]:
    """A file of a model's own, whose numbers do not matter."""
    if name == "usf-mae":
        return model_zoo.load("usf-mae", "random", "cpu").network.state_dict()
    tensors = dict(model_zoo.load("dinov3", "random", "cpu").network.state_dict())
    tensors["storage_tokens"] = tensors.pop("registers")
    tensors["rope_embed.periods"] = 100.0 ** (2 * torch.arange(16) / 32)
    for i in range(12):
        tensors[f"blocks.{i}.ls1.gamma"] = tensors.pop(f"blocks.{i}.gamma_1")
        tensors[f"blocks.{i}.ls2.gamma"] = tensors.pop(f"blocks.{i}.gamma_2")
        tensors[f"blocks.{i}.attn.qkv.bias_mask"] = torch.cat(
            [torch.ones(768), torch.zeros(768), torch.ones(768)]
        )
    return tensors


@pytest.mark.slow
@pytest.mark.parametrize("name", ["usf-mae", "dinov3"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.3.mlp.fc1.bias"), r"1 missing \(blocks\.3\.mlp\.fc1\.bias\)"),
        (lambda t: t.update({"head.weight": torch.ones(1)}), r"1 unexpected \(head\.weight\)"),
        (
            lambda t: t.update({"norm.bias": torch.ones(7)}),
            r"of another shape \(norm\.bias: \[7\] in the file, \[768\] in the model\)",
        ),
        (
            lambda t: t.update({"norm.bias": torch.full((768,), torch.nan)}),
            r"NaN or infinite numbers in norm\.bias",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(
    tmp_path: Path, name: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    tensors = dict(untrained(name))
    change(tensors)
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match=message):
        model_zoo.load(name, tmp_path / "w.pth", "cpu")


@pytest.mark.slow
def test_another_models_file_and_other_constants_are_refused(tmp_path: Path) -> None:
    torch.save(untrained("usf-mae"), tmp_path / "mae.pth")
    for other in ("usfm", "dinov3", "ijepa", "urfm#ema_state_dict"):
        name, _, entry = other.partition("#")
        path = f"{tmp_path / 'mae.pth'}#{entry}" if entry else tmp_path / "mae.pth"
        with pytest.raises(UserError, match=f"does not fit model '{name}': "):
            model_zoo.load(name, path, "cpu")
    tensors = untrained("dinov3")
    tensors["rope_embed.periods"] = tensors["rope_embed.periods"] * 1.05
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"other numbers in rope_embed\.periods than"):
        model_zoo.load("dinov3", tmp_path / "w.pth", "cpu")


@pytest.mark.slow
def test_the_layouts_of_dinov3_give_one_fingerprint(tmp_path: Path) -> None:
    official = untrained("dinov3")
    timm, hub = {}, {}
    for key, value in official.items():
        if key.endswith(("bias_mask", "periods")):
            continue
        timm_key = key.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")
        timm[timm_key.replace("storage_tokens", "reg_token")] = value
        hub_key = key.replace("blocks.", "layer.").replace("attn.proj", "attention.o_proj")
        for ours, theirs in {
            "ls1.gamma": "layer_scale1.lambda1", "ls2.gamma": "layer_scale2.lambda1",
            "fc1": "up_proj", "fc2": "down_proj", "cls_token": "embeddings.cls_token",
            "storage_tokens": "embeddings.register_tokens",
            "patch_embed.proj": "embeddings.patch_embeddings",
        }.items():  # fmt: skip
            hub_key = hub_key.replace(ours, theirs)
        if "attn.qkv" in key:
            for part, chunk in zip("qkv", value.chunk(3), strict=True):
                if (part, key[-4:]) != ("k", "bias"):
                    hub[hub_key.replace("attn.qkv", f"attention.{part}_proj")] = chunk.clone()
        else:
            hub[hub_key] = value
    biases = {k: timm.pop(k) for k in list(timm) if k.endswith("qkv.bias")}
    with_biases = dict(timm)
    for key, value in biases.items():
        query, _, rest = value.chunk(3)
        with_biases[key.replace("qkv.bias", "q_bias")] = query.clone()
        with_biases[key.replace("qkv.bias", "v_bias")] = rest.clone()
    seen = {}
    for layout, tensors in {
        "official": official, "transformers": hub, "timm with biases": with_biases,
        "timm without biases": timm,
    }.items():  # fmt: skip
        torch.save(tensors, tmp_path / "w.pth")
        encoder = model_zoo.load("dinov3", tmp_path / "w.pth", "cpu")
        assert encoder.filled.layout == layout
        seen[layout] = encoder.fingerprint
    assert len(set(seen.values())) == 1


class Logged:
    """Something of a library that is not installed where the file is read."""


def test_known_objects_beside_the_tensors_are_not_imported(tmp_path: Path) -> None:
    from model_zoo import weights

    torch.save({"meta": Logged(), "w": torch.ones(2)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="holds Python objects"):
        weights.read(tmp_path / "w.pth")
    name = f"{Logged.__module__}.{Logged.__qualname__}"
    content = weights.read(tmp_path / "w.pth", (name,))
    assert torch.equal(content["w"], torch.ones(2))
    assert isinstance(content["meta"], weights.StandIn)
