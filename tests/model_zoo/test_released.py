"""Released checkpoints: what is opened, what is refused, and in which words.

Files are in the released layouts, at full size but for their numbers: a tensor of one repeated
number takes no room.
"""

from __future__ import annotations

import argparse
import json
import pickle
import re
import zlib
from collections import OrderedDict
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import model_zoo
from model_zoo import hub, verify
from ultrabench_eval.core.errors import UserError

NAMES = verify.names()


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """The content of a model's released file, with one number a tensor."""

    def one_number(part: dict[str, Any], key: str, shape: list[int]) -> Tensor:
        return torch.tensor([zlib.crc32(key.encode()) / 2**32]).expand(shape)

    monkeypatch.setattr(verify, "_filled", one_number)

    def content_of(name: str) -> dict[str, Any]:
        path = tmp_path / "light.pth"
        verify.write_checkpoint(verify.read(name), path)
        content: dict[str, Any] = torch.load(path, weights_only=True)
        return content

    return content_of


def part_in_use(name: str, content: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict of the entry that the loader takes."""
    for entry in model_zoo.registry.get(name).entries:
        if entry in content or not entry:
            part: dict[str, Tensor] = content[entry] if entry else content
            return part
    raise AssertionError(name)


def a_key(name: str, part: dict[str, Tensor]) -> str:
    """A key of the encoder in the middle of the file."""
    layout = model_zoo.registry.get(name).layouts[0]
    keys = [
        key
        for key in part
        if not any(fnmatch(key, pattern) for pattern in layout.leftovers)
        and key not in layout.constants
        and isinstance(part[key], Tensor)
    ]
    return keys[len(keys) // 2]


def refused(name: str, content: Any, folder: Path, message: str) -> str:
    torch.save(content, folder / "w.pth")
    try:
        model_zoo.load(name, folder / "w.pth", "cpu", "float32")
    except UserError as error:  # what `pytest.raises` keeps would keep gigabytes of networks alive
        said = str(error)
    else:
        pytest.fail(f"{name} was not refused")
    assert re.search(message, said), said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_key_removed_added_or_reshaped_is_named(
    light: Callable[[str], dict[str, Any]], tmp_path: Path, name: str
) -> None:
    content = light(name)
    part = part_in_use(name, content)
    key = a_key(name, part)
    value = part.pop(key)
    shown = key.removeprefix("module.")
    extra = key.removesuffix(shown) + "extra.weight"
    said = refused(name, content, tmp_path, f"does not fit model '{name}': 1 missing")
    assert f"1 missing ({shown})" in said

    part[key] = torch.ones(1).expand(*value.shape, 2)
    said = refused(name, content, tmp_path, "1 of another shape")
    assert f"{shown}: {list(part[key].shape)} in the file, " in said

    part[key] = value
    part[extra] = torch.ones(2)
    said = refused(name, content, tmp_path, "1 unexpected")
    assert "1 unexpected (extra.weight)" in said

    del part[extra]
    part[key] = torch.full((1,), torch.nan).expand(value.shape)
    said = refused(name, content, tmp_path, "NaN or infinite numbers")
    assert f"numbers in {shown};" in said


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_file_of_another_model_is_refused(
    light: Callable[[str], dict[str, Any]], tmp_path: Path, name: str
) -> None:
    # The nearest relative: the same network under other names or with other parts.
    other = {
        "dinov3": "usfm", "echocare": "sam", "ijepa": "ijepa-vitb16", "ijepa-vitb16": "usf-mae",
        "sam": "samus", "samus": "sam", "ultrasam": "sam", "urfm": "ijepa-vitb16",
        "us-jepa": "usf-mae", "usf-mae": "usfm", "usfm": "usf-mae", "usrc-jepa": "dinov3",
    }[name]  # fmt: skip
    said = refused(name, light(other), tmp_path, f"does not fit model '{name}': ")
    assert "(" in said  # keys, or what the file holds, are named


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_and_code_are_refused(tmp_path: Path, name: str) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return (exec, ("raise SystemExit('code of a checkpoint was run')",))

    path = tmp_path / "w.pth"
    for write in (
        lambda: torch.save({"state_dict": {}, "args": Runs()}, path),
        lambda: torch.save({"args": Runs()}, path, _use_new_zipfile_serialization=False),
        lambda: path.write_bytes(pickle.dumps(Runs(), protocol=2)),
    ):
        write()
        with pytest.raises(UserError, match=r"w\.pth (holds Python objects|cannot be read)"):
            model_zoo.load(name, path, "cpu")
    torch.save({"w": torch.rand(1000)}, path)
    for part in (len(path.read_bytes()) // 2, 10, 0):
        path.write_bytes(path.read_bytes()[:part])
        with pytest.raises(UserError, match=r"w\.pth cannot be read as a checkpoint"):
            model_zoo.load(name, path, "cpu")
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match=r"w\.pth is a Git LFS pointer.*git lfs pull"):
        model_zoo.load(name, path, "cpu")


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("dinov3", "rope_embed.periods"),
        ("echocare", "layers3.0.blocks.7.attn.relative_position_index"),
    ],
)
def test_tables_with_other_numbers_are_refused(
    light: Callable[[str], dict[str, Any]], tmp_path: Path, name: str, table: str
) -> None:
    content = light(name)
    changed = content[table].clone().flatten()
    changed[3] += 1
    content[table] = changed.view(content[table].shape)
    refused(name, content, tmp_path, f"other numbers in {table} than")


def opened(name: str, weights: Path | str) -> Any:
    """The encoder, without the fingerprint that load() computes over all its numbers."""
    return model_zoo.registry.get(name)(name=name, weights=weights)


def same(one: Any, other: Any) -> bool:
    first, second = one.network.state_dict(), other.network.state_dict()
    assert first.keys() == second.keys()
    return all(torch.equal(first[key], second[key]) for key in first)


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
        with pytest.raises(UserError, match=r"150 missing|149 missing"):
            opened("us-jepa", tmp_path / "w.pth")
        teacher = opened("us-jepa", f"{tmp_path / 'w.pth'}#teacher")
        assert torch.equal(teacher.network.norm.bias, bare["norm.bias"] * 2)
    with pytest.raises(UserError, match=r"w\.pth#nobody does not fit .* it holds no nobody"):
        opened("us-jepa", f"{tmp_path / 'w.pth'}#nobody")


def test_decoders_tell_two_autoencoders_apart(
    light: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    """Their encoders have the same keys and shapes."""
    said = refused("urfm", light("usf-mae"), tmp_path, "does not fit model 'urfm': 1 of another sh")
    assert "decoder_embed.weight: [512, 768] in the file, [768, 768] in the model" in said
    other = light("urfm")["ema_state_dict"]
    said = refused("usf-mae", other, tmp_path, "does not fit model 'usf-mae': 1 of another shape")
    assert "decoder_embed.weight: [768, 768] in the file, [512, 768] in the model" in said


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
    import sys
    import types

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
    encoder = model_zoo.load("ultrasam", tmp_path / "w.pth", "cpu", "float32")
    assert encoder.filled == ("state_dict", "detector")  # type: ignore[attr-defined]


# ---- the hub ------------------------------------------------------------------------------------


def test_the_hub_is_asked_only_with_consent(
    light: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    with pytest.raises(UserError, match=r"under: MIT, as .*--accept-license.*--weights urfm=PATH"):
        model_zoo.load("urfm", device="cpu")
    with pytest.raises(
        UserError, match=r"by hand \(where: Google Drive file.*--weights samus=PATH"
    ):
        model_zoo.load("samus", device="cpu", accept_license=True)

    monkeypatch.setattr(hub, "reachable", lambda: False)
    monkeypatch.setattr(hub, "cached", lambda file: None)
    with pytest.raises(UserError, match="the hub cannot be reached from here; get mae_vit_base"):
        model_zoo.load("urfm", device="cpu", accept_license=True)

    torch.save(light("urfm"), tmp_path / "w.pth")
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / "w.pth")

    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_download", download)
    encoder = model_zoo.load("urfm", device="cpu", accept_license=True)
    assert asked == [("fmassimo/URFM", "mae_vit_base_patch16_dec768d8b_all_biomedclip_1199.pth")]
    assert encoder.weights_file == tmp_path / "w.pth"

    def broken(repository: str, file: str) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(hub.huggingface_hub, "hf_hub_download", broken)
    with pytest.raises(UserError, match=r"cannot be fetched \(OSError: disk full\); get it there"):
        model_zoo.load("urfm", device="cpu", accept_license=True)
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "w.pth").rename(tmp_path / "urfm-full.pth")
    assert not model_zoo.load(
        "urfm", device="cpu"
    ).random_weights  # no consent needed for one's own


# ---- layouts ------------------------------------------------------------------------------------


def untrained(name: str) -> dict[str, Any]:
    """A file of a model's own, whose numbers do not matter."""
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
    assert {value.flatten()[0].item() for value in tensors.values()} >= {
        value.flatten()[0].item() for value in encoder.network.state_dict().values()
    } - {0.0}  # left out: biases of keys, and those that timm's plain names lack


class Logged:
    """Something of a library that is not installed where the file is read."""


def test_known_objects_beside_the_tensors_are_not_imported(tmp_path: Path) -> None:
    from model_zoo import weights

    logged = Logged()
    logged.losses = {"a": [2, 3]}  # type: ignore[attr-defined]
    name = f"{Logged.__module__}.{Logged.__qualname__}"
    for zipped in (True, False):
        torch.save({"meta": logged, "w": torch.ones(2)}, tmp_path / "w.pth",
                   _use_new_zipfile_serialization=zipped)  # fmt: skip
        with pytest.raises(UserError, match=rf"holds Python objects .*\({name}\)"):
            weights.read(tmp_path / "w.pth")
        content = weights.read(tmp_path / "w.pth", (name,))
        assert torch.equal(content["w"], torch.ones(2))
        assert isinstance(content["meta"], weights.StandIn)
