"""A checkpoint as training leaves it: what it holds is listed, and the printed lines run it."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from conftest import forget_plugins
from test_cli import ubench
from torch import Tensor, nn

import model_zoo
from model_zoo.checkpoints import contents, files
from ultrabench_eval import plugins
from ultrabench_eval.core.errors import UserError

Content = dict[str, Any]
VIT = {"patch_size": 8, "img_size": 32, "embed_dim": 64, "depth": 2, "num_heads": 1}


@pytest.fixture(autouse=True)
def _no_plugins_stay() -> Any:
    yield
    forget_plugins()


@functools.cache
def vit(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = timm.create_model("vit_tiny_patch16_224", num_classes=0, **VIT)
    return network.eval()


@functools.cache
def resnet() -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model("resnet18", num_classes=0)
    return network.eval()


def state(prefix: str, network: nn.Module) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in network.state_dict().items()}


def classifier(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}head.weight": torch.ones(3, 64), f"{prefix}head.bias": torch.ones(3)}


def heads(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": torch.ones(2, 2) for key in ("head.mlp.0.weight", "head.last.weight")}


@dataclasses.dataclass
class Settings:
    """Of somebody's training, in a module that nobody else has."""

    rate: float = 0.1


def lightning(tensors: dict[str, Tensor], settings: object = None) -> Content:
    return {
        **{"epoch": 3, "global_step": 40, "pytorch-lightning_version": "2.5.5"},
        **{"state_dict": tensors, "callbacks": {}, "optimizer_states": [], "lr_schedulers": []},
        **{"hparams_name": "kwargs", "hyper_parameters": settings or {"rate": 0.1}},
    }


# By name: the content, the network that is to be found, its entry, and what is left out.
LAYOUTS: dict[str, tuple[Callable[[], Content], Callable[[], nn.Module], str, str]] = {
    "Lightning": (
        lambda: lightning(
            state("model.", vit()) | classifier("model.") | {"criterion.weight": torch.ones(3)}
        ),
        *(vit, "state_dict/model", "head (2 tensors), criterion (1 tensor)"),
    ),
    "Lightning, compiled": (
        lambda: lightning(state("model.backbone._orig_mod.", vit())),
        *(vit, "state_dict/model.backbone", ""),
    ),
    "DINO": (
        lambda: {
            "student": state("module.backbone.", vit(seed=1)) | heads("module."),
            "teacher": state("backbone.", vit()) | heads(""),
            **{"dino_loss": {"center": torch.zeros(1, 4)}, "epoch": 9},
            "args": argparse.Namespace(arch="vit_small", lr=1e-3),
        },
        *(vit, "teacher/backbone", "head (2 tensors)"),
    ),
    "DINO and masks": (
        lambda: {
            "teacher": state("backbone.", vit())
            | {"backbone.mask_token": torch.ones(1, 64)}
            | heads("dino_"),
        },
        *(vit, "teacher/backbone", "mask_token (1 tensor), dino_head (2 tensors)"),
    ),
    "a masked autoencoder": (
        lambda: {
            "model": state("", vit())
            | {"mask_token": torch.ones(1, 1, 8), "decoder_embed.weight": torch.ones(8, 64)}
            | {"decoder_blocks.0.attn.qkv.weight": torch.ones(24, 8)},
            "args": argparse.Namespace(model="mae_vit_tiny"),
        },
        *(vit, "model"),
        "mask_token (1 tensor), decoder_embed (1 tensor), decoder_blocks (1 tensor)",
    ),
    "MoCo v3": (
        lambda: {
            "state_dict": state("module.base_encoder.", vit())
            | heads("module.base_encoder.")
            | state("module.momentum_encoder.", vit(seed=1))
            | {"module.predictor.0.weight": torch.ones(2, 2)},
            "arch": "vit_small",
        },
        *(vit, "state_dict/module.base_encoder"),
        "head (2 tensors), momentum_encoder (30 tensors), predictor (1 tensor)",
    ),
    "MoCo": (
        lambda: {
            "state_dict": state("module.encoder_q.", resnet())
            | {"module.encoder_q.fc.0.weight": torch.ones(2, 2), "module.queue": torch.ones(2, 4)},
        },
        *(resnet, "state_dict/module.encoder_q", "fc (1 tensor), queue (1 tensor)"),
    ),
    "timm": (
        lambda: {
            **{"epoch": 1, "arch": "test_resnet", "optimizer": {}},
            "state_dict": {f"module.{k}": v for k, v in named().state_dict().items()},
            "state_dict_ema": named().state_dict(),
        },
        *(lambda: named(), "state_dict_ema", ""),
    ),
    "a bare state dict": (
        lambda: state("", vit()) | classifier(""),
        *(vit, "", "head (2 tensors)"),
    ),
}  # fmt: skip


@functools.cache
def named() -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model("test_resnet", num_classes=0)
    return network.eval()


def run_lines(how: contents.HowToRun, folder: Path, weights: str) -> model_zoo.Encoder:
    """Load the model as the printed lines have it."""
    assert len([line for line in how.code.splitlines() if line.strip()]) <= 15
    assert how.file is not None
    (folder / how.file).write_text(how.code)
    plugins.load_file(folder / how.file)
    return model_zoo.load("mine", weights, "cpu")


def features(network: nn.Module, encoder: model_zoo.Encoder, image: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = network(encoder.prepare(image)[None])
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_lines_for_each_layout_run_the_very_network(layout: str, tmp_path: Path) -> None:
    content, network, entry, dropped = LAYOUTS[layout]
    torch.save(content(), tmp_path / "last.ckpt")
    found = contents.look(tmp_path / "last.ckpt")
    usual, _ = found.usual
    assert usual.entry == entry
    assert ", ".join(usual.dropped) == dropped
    assert found.writer in layout
    encoder = run_lines(contents.recipe(found), tmp_path, found.weights)
    assert ", ".join(encoder.dropped) == dropped
    image = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoder.encode(image[None]), features(network(), encoder, image))


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize("kind", ["ViT", "Dinov2"])
def test_a_model_of_transformers_without_its_configuration(
    kind: str, wrapped: bool, tmp_path: Path
) -> None:
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=1, image_size=32, patch_size=8,
        **({"intermediate_size": 128} if kind == "ViT" else {}),
    )  # fmt: skip
    torch.manual_seed(0)
    whole = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    whole.save_pretrained(tmp_path / "there")
    tensors = files.read(tmp_path / "there" / "model.safetensors")
    path = tmp_path / "last.ckpt"
    torch.save(lightning({f"net.{k}": v for k, v in tensors.items()}) if wrapped else tensors, path)
    found = contents.look(path)
    assert "transformers" in found.writer
    assert "classifier (2 tensors)" in found.usual[0].dropped
    how = contents.recipe(found)
    assert len([line for line in how.code.splitlines() if line.strip()]) <= 15
    exec(compile(how.code, "my_config.py", "exec"), {})
    encoder = model_zoo.load("hf/mine", found.weights, "cpu")
    assert "classifier (2 tensors)" in encoder.dropped
    image = torch.rand(3, 40, 50)
    with torch.no_grad():
        base = whole.base_model(pixel_values=encoder.prepare(image)[None])
    assert torch.allclose(encoder.encode(image[None]), base.last_hidden_state[:, 0], atol=1e-6)
    assert contents.recipe(contents.look(path)).file is None  # with a config.json it is a command


def test_an_architecture_that_is_named_beside_it_needs_no_guess(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_convnext", num_classes=4)
    settings = {"model": {"name": "test_convnext"}, "rate": 0.1}
    torch.save(lightning(state("net.", network), settings), tmp_path / "last.ckpt")
    (found,) = contents.look(tmp_path / "last.ckpt").networks
    assert (found.architecture, found.assumed) == ("test_convnext", "")
    assert found.dropped == ("head (2 tensors)",)


@pytest.mark.parametrize(
    "settings",
    [
        argparse.Namespace(rate=0.1),
        Settings(),
        {"optimizer": functools.partial(torch.optim.AdamW, lr=1e-3)},
        {"folder": pathlib.PurePosixPath("/data"), "loss": nn.functional.cross_entropy},
    ],
)
def test_settings_that_are_objects_are_neither_run_nor_in_the_way(
    settings: object, tmp_path: Path
) -> None:
    torch.save(lightning(state("model.", vit()), settings), tmp_path / "last.ckpt")
    assert contents.look(tmp_path / "last.ckpt").usual[0].entry == "state_dict/model"


def test_a_pickled_network_is_told_with_a_safe_way(tmp_path: Path) -> None:
    for content in (nn.Linear(2, 2), {"model": nn.Linear(2, 2), "epoch": 3}):
        torch.save(content, tmp_path / "whole.pt")
        with pytest.raises(UserError, match=r"without running code \(torch\.nn.*\); in the program "
                           r"that made it, .* torch\.save\(model\.state_dict\(\)"):  # fmt: skip
            files.read(tmp_path / "whole.pt")


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('executed')",))


def test_what_runs_code_is_refused_even_beside_weights(tmp_path: Path) -> None:
    torch.save(lightning(state("model.", vit()), Hostile()), tmp_path / "last.ckpt")
    with pytest.raises(UserError, match=r"running code \(builtins\.exec\)"):
        files.read(tmp_path / "last.ckpt")


def test_a_wrong_checkpoint_is_told_by_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(lightning(state("model.", vit())), path)
    with pytest.raises(UserError) as told:
        model_zoo.load("timm/vit_tiny_patch16_224", str(path), "cpu")
    text = str(told.value)
    assert "of another shape (pos_embed: [1, 17, 64] in the file" in text or "cls_token" in text
    assert (
        "last.ckpt is a checkpoint written by Lightning that holds timm's vit_base_patch8_224"
        in text
    )
    assert text.endswith(f"`ubench models {path}` prints the lines that run it")
    assert "\n" not in text


def test_a_network_that_lacks_a_tensor_is_not_recognised(tmp_path: Path) -> None:
    tensors = state("model.", vit())
    del tensors["model.blocks.1.norm2.weight"]
    torch.save(lightning(tensors), tmp_path / "last.ckpt")
    assert contents.look(tmp_path / "last.ckpt").networks == ()
    odd = {"patch_embed.proj.weight": torch.ones(0, 3, 8, 8), "pos_embed": torch.ones(1, 0, 2)}
    torch.save(odd | {"blocks.0.x": torch.ones(1), "layer1.0.conv1.weight": torch.ones(1)},
               tmp_path / "odd.ckpt")  # fmt: skip
    assert contents.look(tmp_path / "odd.ckpt").networks == ()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"image,label\n1,2\n" * 9, "begins neither as torch's files do nor as safetensors"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 99, "begins neither as torch's files do nor as safetensors"),
        (b"\x80\x04\x95\x01\x00\x00\x00\x00\x00\x00\x00}.", "pickle that torch.save did not write"),
        (b"PK\x03\x04" + b"0" * 99, "the end of its archive is missing"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_told_in_our_words(
    data: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / "w.pt").write_bytes(data)
    with pytest.raises(UserError, match=said) as told:
        files.read(tmp_path / "w.pt")
    assert "weights_only" not in str(told.value)


def test_the_command_prints_a_plugin_and_the_command_that_runs_it(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(LAYOUTS["DINO"][0](), path)
    shown = ubench("models", str(path))
    assert shown.returncode == 0, shown.stderr
    assert "taken here: teacher/backbone (DINO evaluates its teacher)" in shown.stdout
    assert f"--model mine --weights mine={path}#teacher/backbone" in shown.stdout
    assert "not in the file: the number of attention heads, taken as 1" in shown.stdout
    (tmp_path / "my_model.py").write_text(shown.stdout)
    assert plugins.load_file(tmp_path / "my_model.py") == ["mine"]
    forget_plugins()
    written = ubench("models", str(path), "--out", str(tmp_path / "written.py"))
    assert written.returncode == 0, written.stderr
    assert f"--plugin {tmp_path / 'written.py'} --model mine" in written.stdout
    assert plugins.load_file(tmp_path / "written.py") == ["mine"]
    again = ubench("models", str(path), "--out", str(tmp_path / "written.py"))
    assert again.returncode == 2
    assert "that is not there yet" in again.stderr
    known = json.loads(ubench("models", str(path), "--json").stdout)
    assert [one["entry"] for one in known["networks"]] == [
        *("student/module.backbone", "teacher/backbone"),
    ]
    missing = ubench("models", str(tmp_path / "lost.ckpt"))
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "checkpoint not found" in missing.stderr
    wrong = ubench("run", "--model", "vit-base", "--weights", f"vit-base={path}", "--task", "aul")
    assert wrong.returncode == 2
    assert "vit-base" in wrong.stderr
    assert f"`ubench models {path}` prints the lines that run it" in wrong.stderr
