"""Layouts: under which names and wrappers the numbers may stand, all of them the same network."""

from __future__ import annotations

import argparse
import json
import sys
import types
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from released_files import opened, part_in_use, same
from safetensors.torch import save_file
from torch import Tensor, nn

import model_zoo
from model_zoo.checkpoints import files
from ultrabench_eval.core.errors import UserError


def test_encoder_only_copies_and_wrapped_ones_are_the_same_weights(
    light: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    for name, prefix in (("sam", "image_encoder."), ("samus", "image_encoder."),
                         ("ultrasam", "backbone.")):  # fmt: skip
        content = light(name)
        torch.save(content, tmp_path / "released.pth")
        encoder = opened(name, tmp_path / "released.pth")
        assert encoder.weights_file == tmp_path / "released.pth"
        part = part_in_use(name, content)
        bare = {key.removeprefix(prefix): x for key, x in part.items() if key.startswith(prefix)}
        parallel = {f"module.{key}": value for key, value in part.items()}
        for tensors in (bare, parallel, {"state_dict": parallel, "iter": torch.tensor(3)}):
            torch.save(tensors, tmp_path / "w.pth")
            assert same(opened(name, tmp_path / "w.pth"), encoder)


def test_whatever_the_tensors_are_kept_in(
    light: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    content = light("usfm")
    torch.save(content, tmp_path / "released.pth")
    encoder = opened("usfm", tmp_path / "released.pth")
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    floating = {key: x for key, x in content.items() if x.is_floating_point()}
    index = {key: content[key] for key in content.keys() - floating.keys()}

    whole = {key: value.contiguous() for key, value in content.items()}
    save_file(whole, tmp_path / "w.bin", {"format": "pt", "trained by": "us"})
    assert same(opened("usfm", tmp_path / "w.bin"), encoder)  # by its bytes, not its suffix
    parameters = OrderedDict(
        {key: nn.Parameter(value.double(), requires_grad=True) for key, value in floating.items()}
    )
    torch.save(parameters, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    assert same(opened("usfm", tmp_path / "w.pth"), encoder)
    for dtype in (torch.float16, torch.bfloat16):
        halved = {key: value.to(dtype) for key, value in floating.items()}
        torch.save({"state_dict": halved | index, "epoch": 3}, tmp_path / "w.pth")
        half = opened("usfm", tmp_path / "w.pth")
        assert {parameter.dtype for parameter in half.parameters()} == {torch.float32}
        assert torch.equal(half.network.norm.bias, halved["norm.bias"].float())


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda student, teacher: {"model": student}, "encoder."),
        (lambda student, teacher: {"state_dict": student, "loss": torch.tensor(0.3)}, "module."),
        (lambda student, teacher: student | teacher, "encoder."),
        (lambda student, teacher: {"state_dict": student | teacher}, "module.encoder."),
        (lambda student, teacher: {"encoder": student, "target_encoder": student}, ""),
    ],
    ids=["model", "state_dict", "beside a teacher", "wrapped beside a teacher", "I-JEPA"],
)
def test_where_the_student_of_us_jepa_may_be(
    light: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    wrap: Callable[[dict[str, Tensor], dict[str, Tensor]], dict[str, Any]],
    prefix: str,
) -> None:
    content = light("us-jepa")
    torch.save(content, tmp_path / "released.pth")
    bare = {key.removeprefix("module."): x for key, x in content["encoder"].items()}
    start = prefix.removesuffix("encoder.")
    student = {prefix + key: value for key, value in bare.items()}
    teacher = {f"{start}target_encoder.{key}": value * 2 for key, value in bare.items()}
    torch.save(wrap(student, teacher), tmp_path / "w.pth")
    encoder = opened("us-jepa", tmp_path / "w.pth")
    assert same(encoder, opened("us-jepa", tmp_path / "released.pth"))


def test_a_part_is_named_by_the_user(
    light: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    bare = {key.removeprefix("module."): x for key, x in light("us-jepa")["encoder"].items()}
    both = {f"student.{key}": value for key, value in bare.items()}
    both |= {f"teacher.{key}": value * 2 for key, value in bare.items()}
    for content in (both, {"state_dict": both}):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"several networks .*student, (state_dict/)?teacher"):
            opened("us-jepa", tmp_path / "w.pth")
        teacher = opened("us-jepa", f"{tmp_path / 'w.pth'}#teacher")
        assert torch.equal(teacher.network.norm.bias, bare["norm.bias"] * 2)
    with pytest.raises(UserError, match=r"w\.pth#nobody does not fit .* it holds no nobody"):
        opened("us-jepa", f"{tmp_path / 'w.pth'}#nobody")


def test_a_released_network_is_found_in_what_wraps_it(
    light: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    bare = {key.removeprefix("module."): x for key, x in light("us-jepa")["encoder"].items()}
    torch.save(bare, tmp_path / "bare.pth")
    plain = opened("us-jepa", tmp_path / "bare.pth")
    heads = {"head.weight": torch.ones(2, 3)}
    contents = {
        "state_dict/model.net": {"state_dict": {f"model.net.{k}": v for k, v in bare.items()}},
        "teacher/backbone": {"teacher": {f"backbone.{k}": v for k, v in bare.items()} | heads},
        "": {f"_orig_mod.{k}": v for k, v in bare.items()} | heads,
    }
    for entry, content in contents.items():
        torch.save(content, tmp_path / "w.pth")
        encoder = opened("us-jepa", tmp_path / "w.pth")
        assert same(encoder, plain)
        assert encoder.filled.entry == entry
        assert encoder.dropped == (() if "net" in entry else ("head (1 tensor)",))
    # What is nearly the network is not skipped for another part that fits.
    del (half := dict(bare))["norm.bias"]
    torch.save({"encoder": half, "target_encoder": bare}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth#encoder does not fit .* 1 missing \(norm\.bias\)"):
        opened("us-jepa", tmp_path / "w.pth")


def test_arguments_and_numbers_beside_the_weights(
    light: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    content = {"model": light("usf-mae"), "args": argparse.Namespace(lr=1e-3, data=["a"])}
    content |= {"best": np.float64(0.3), "log": {"loss": np.arange(3.0)}, "epoch": np.int64(9)}
    for zipped in (True, False):
        torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        assert opened("usf-mae", tmp_path / "w.pth").filled.entry == "model"


def test_ultrasams_training_log_is_not_opened(
    light: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mmengine keeps a log of numpy scalars in a class of its own beside the weights."""

    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self) -> None:
            self.history = np.arange(3.0)
            self.last = np.float64(2.0)
            self.statistics = {"mean": np.mean}

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    content = light("ultrasam")
    with monkeypatch.context() as patch:
        for name in ("mmengine", "mmengine.logging"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        log = HistoryBuffer()
        del log.statistics
        torch.save(content | {"message_hub": {"loss": log}}, tmp_path / "w.pth")
    assert opened("ultrasam", tmp_path / "w.pth").filled == ("state_dict", "detector")


def untrained(name: str) -> dict[str, Any]:
    """A file of a model's own, whose numbers do not matter."""
    tensors = dict(model_zoo.load("dinov3", "random", "cpu").network.state_dict())
    tensors["storage_tokens"] = tensors.pop("registers")
    tensors["rope_embed.periods"] = 100.0 ** (2 * torch.arange(16) / 32)
    for i in range(2):
        tensors[f"blocks.{i}.ls1.gamma"] = tensors.pop(f"blocks.{i}.gamma_1")
        tensors[f"blocks.{i}.ls2.gamma"] = tensors.pop(f"blocks.{i}.gamma_2")
        tensors[f"blocks.{i}.attn.qkv.bias_mask"] = torch.cat(
            [torch.ones(768), torch.zeros(768), torch.ones(768)]
        )
    return tensors


@pytest.mark.usefixtures("light")
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


def a_number(tensor: Tensor) -> float:
    return tensor[(0,) * tensor.ndim].item()  # to flatten it would fill what is expanded


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "file", "part", "layout"),
    [
        ("dinov3", "keys_other_layouts.json", "transformers_file", "transformers"),
        ("dinov3", "keys_other_layouts.json", "timm_vit_base_patch16_dinov3",
         "timm without biases"),
        ("dinov3", "keys_other_layouts.json", "timm_vit_base_patch16_dinov3_qkvb",
         "timm with biases"),
        pytest.param(
            "ijepa", "keys_transformers.json", "", "transformers", marks=pytest.mark.slow
        ),
    ],
)  # fmt: skip
def test_names_of_the_other_layouts(
    shared: Path, tmp_path: Path, name: str, file: str, part: str, layout: str
) -> None:
    listed = json.loads((shared / "conformance" / name / file).read_text())
    keys = listed[part]["keys"] if part and "keys" in listed[part] else listed.get("keys", [])
    if part.endswith("_qkvb"):
        keys = listed[part.removesuffix("_qkvb")]["keys"] + listed[part]["extra_over_plain"]
    assert len(keys) in (162, 186, 211, 517)
    tensors = {one["key"]: torch.rand(1).expand(one["shape"]) for one in keys}
    torch.save(tensors, tmp_path / "w.pth")
    encoder = opened(name, tmp_path / "w.pth")
    assert encoder.filled.layout == layout
    assert {a_number(value) for value in tensors.values()} >= {
        a_number(value) for value in encoder.network.state_dict().values()
    } - {0.0}  # left out: biases of keys, and those that timm's plain names lack


class Logged:
    """Something of a library that is not installed where the file is read."""


def test_objects_beside_the_tensors_are_not_imported(tmp_path: Path) -> None:
    logged = Logged()
    logged.losses = {"a": [2, 3]}  # type: ignore[attr-defined]
    name = f"{Logged.__module__}.{Logged.__qualname__}"
    for zipped in (True, False):
        torch.save({"meta": logged, "w": torch.ones(2)}, tmp_path / "w.pth",
                   _use_new_zipfile_serialization=zipped)  # fmt: skip
        content = files.read(tmp_path / "w.pth")
        assert torch.equal(content["w"], torch.ones(2))
        assert isinstance(content["meta"], files.StandIn)
        assert content["meta"].of == name
