"""Exports: what is trained here is what the zoo opens, to the bit and with all that is known."""

from __future__ import annotations

import copy
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file
from small_teacher import MODEL, scrambled, small
from torch import Tensor

import model_zoo
import ultrabench_eval
from model_zoo import us_jepa
from model_zoo.checkpoints.exports import EncoderSizes
from model_zoo.transforms import InputRule, to_float
from model_zoo.vit import VisionTransformer
from ultrabench_eval.core.errors import UserError
from usjepa import config, export, masks, objective, teacher
from usjepa.config import Config
from usjepa.student import ImageStudent
from usjepa.teacher import FrozenTeacher

HISTORY: dict[str, Any] = {
    "frames": {
        "sets": {"aul": 500, "my_scans": 1200},
        "fingerprint": "ab" * 32,
        "guard": {"tasks": ["aul", "mmotu"], "digest": "cd" * 32},
    },
    "epoch": 3,
    "step": 120,
    "validation_loss": 0.25,
}
WITH_CLASS_TOKEN = {"model": {**vars(MODEL), "class_token": True}}


def settings(**more: Any) -> Config:
    return config.validate({"name": "small", "model": MODEL, **more})


def student_of(made: Config) -> ImageStudent:
    student = scrambled(ImageStudent(made.model))
    assert isinstance(student, ImageStudent)
    return student


def picture() -> np.ndarray:
    """Coloured, and neither square nor over the whole range: uint8 [50, 70, 3]."""
    noise = np.random.default_rng(1).integers(30, 200, (5, 7, 3), dtype=np.uint8)
    return np.asarray(PIL.Image.fromarray(noise).resize((70, 50)))


def as_in_training(image: np.ndarray, made: Config) -> Tensor:
    """Section 4.3 by hand, then the normalisation of the objective: [1, 3, S, S]."""
    grey = np.asarray(PIL.Image.fromarray(image).convert("L"))
    low, high = np.percentile(grey, made.data.percentiles)
    stretched = ((grey - low) * (255 / (high - low))).round().clip(0, 255).astype(np.uint8)
    size = (made.model.image_size,) * 2
    resized = PIL.Image.fromarray(stretched).resize(size, PIL.Image.Resampling.BICUBIC)
    x = torch.from_numpy(np.array(resized, np.float32) / 255).expand(1, 3, -1, -1)
    return objective.build(made, FrozenTeacher(small())).normalised(x)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"objective": "mae", **WITH_CLASS_TOKEN},
        {"objective": "ijepa", "region_conditioning": True, "data": {"percentiles": [5, 90]}},
    ],
    ids=["salt", "mae", "ijepa"],
)
def test_the_zoo_gives_the_students_tokens(tmp_path: Path, more: dict[str, Any]) -> None:
    made = settings(**more)
    student = student_of(made)
    export.export(student, made, tmp_path, HISTORY)
    encoder = model_zoo.load("usjepa", tmp_path, "cpu", "float32")

    image = picture()
    with torch.no_grad():
        wanted = student(as_in_training(image, made))
    prefix = int(made.model.class_token)
    assert prefix == student.prefix
    given = to_float(image)[None]
    close = {"atol": 1e-6, "rtol": 1e-6}
    torch.testing.assert_close(encoder.tokens(given), wanted[:, prefix:], **close)
    torch.testing.assert_close(encoder.encode(given), wanted[:, prefix:].mean(1), **close)
    assert (encoder.input_size, encoder.patch_size, encoder.dim) == (32, 8, 24)
    assert not encoder.random_weights
    if prefix:
        encoder = model_zoo.load("usjepa/cls", tmp_path, "cpu", "float32")
        torch.testing.assert_close(encoder.encode(given), wanted[:, 0], **close)
    else:
        with pytest.raises(UserError, match=r"encoder\.safetensors has no class token for the poo"):
            model_zoo.load("usjepa/cls", tmp_path, "cpu")


def test_the_input_is_that_of_the_papers_models() -> None:
    for name in ("us-jepa", "usrc-jepa"):
        made = config.load(f"{name.replace('-', '_')}_vitb16")
        model = model_zoo.registry.get(name)
        assert export.input_rule(made) == model.input_rule
        assert made.region_conditioning == model.region_conditioning
        with torch.device("meta"):
            keys = ImageStudent(made.model).state_dict().keys()
            assert keys == VisionTransformer().state_dict().keys()
    assert export.input_rule(config.load("mae_nano")) == InputRule(224, grey=True, stretch=(2, 98))


def test_a_card_tells_what_was_trained_on_what(tmp_path: Path) -> None:
    made = settings(region_conditioning=True, seed=4)
    path = export.export(student_of(made), made, tmp_path, {**HISTORY, "teacher": "ef" * 32})
    assert path == tmp_path / "encoder.safetensors"
    told = export.read_card(tmp_path)
    assert told == export.read_card(path) == export.read_card(tmp_path / "encoder.json")
    assert config.validate(told["config"]) == made
    assert (told["name"], told["config_id"], told["seed"]) == ("small", made.id, 4)
    assert (told["epoch"], told["step"], told["validation_loss"]) == (3, 120, 0.25)
    assert told["frames"] == {"saw": ["aul"], **HISTORY["frames"]}
    assert told["teacher"] == "ef" * 32
    assert told["versions"]["torch"] == version("torch")

    card = model_zoo.load("usjepa", path, "cpu").card
    assert card.saw == ("aul",)
    assert card.contamination == "aul"
    assert card.pretraining == (
        "1,700 frames (aul 500, my_scans 1,200), searched for test images of aul, mmotu"
    )
    assert card.status == "trained by this project's trainer, nano"
    assert (card.parameters, card.dim) == (told["parameters"], 24)
    assert "small" in card.title
    assert made.id in card.note
    assert "after 3 epochs and validation loss 0.25" in card.note
    assert "in training, of the scanned region" in card.inferred[-1]
    # Without its card an encoder works, and nothing is claimed.
    (tmp_path / "encoder.json").unlink()
    bare = model_zoo.load("usjepa", path, "cpu")
    assert bare.card.contamination == "not known"
    assert bare.card.parameters == card.parameters


def test_who_saw_what_may_be_said(tmp_path: Path) -> None:
    made = settings()
    frames = {**HISTORY["frames"], "sets": {"mmotu@paper": 3, "b": 1}, "guard": None}
    for more, saw in (({}, ("mmotu",)), ({"saw": ["pocus", "aul"]}, ("pocus", "aul"))):
        history = {**HISTORY, "validation_loss": None, "frames": {**frames, **more}}
        export.export(student_of(made), made, tmp_path, history)
        card = model_zoo.load("usjepa", tmp_path, "cpu").card
        assert card.saw == saw
        assert card.pretraining.endswith(", not searched for test images")
        assert card.note.endswith("after 3 epochs")


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    made = settings()
    student = student_of(made)
    for folder in ("a", "b"):
        export.export(copy.deepcopy(student), made, tmp_path / folder, copy.deepcopy(HISTORY))
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == ["encoder.json", "encoder.safetensors"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    # Exported over another, and from other number types.
    export.export(student.double(), made, tmp_path / "a", HISTORY)
    tensors = load_file(tmp_path / "a" / "encoder.safetensors")
    assert {x.dtype for x in tensors.values()} == {torch.float32}
    name = "encoder.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_diverged_student_is_not_exported(tmp_path: Path) -> None:
    made = settings()
    student = student_of(made)
    with torch.no_grad():
        student.norm.weight[3] = torch.nan
    with pytest.raises(UserError, match=r"small is not exported, because norm\.weight holds NaN"):
        export.export(student, made, tmp_path / "out", HISTORY)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", ["epoch", "frames", "guard"])
def test_a_history_must_be_whole(tmp_path: Path, key: str) -> None:
    made = settings()
    history = copy.deepcopy(HISTORY)
    history.pop(key, None)
    history.get("frames", {}).pop(key, None)
    with pytest.raises(ValueError, match=rf"history.* lacks {key}"):
        export.export(student_of(made), made, tmp_path, history)
    assert not any(tmp_path.iterdir())


def test_a_folder_of_training_may_hold_checkpoints_too(tmp_path: Path) -> None:
    made = settings()
    torch.save({"student": {}}, tmp_path / "checkpoint.pt")
    with pytest.raises(
        UserError, match=r"checkpoint\.pt is not an export of `usjepa`.*`usjepa export`"
    ):
        model_zoo.load("usjepa", tmp_path, "cpu")
    path = export.export(student_of(made), made, tmp_path, HISTORY)
    assert model_zoo.load("usjepa", tmp_path, "cpu").weights_file == path


# ---- the paper's names --------------------------------------------------------------------------


def test_a_small_export_is_no_us_jepa(tmp_path: Path) -> None:
    made = settings(region_conditioning=True)
    path = export.export(student_of(made), made, tmp_path, HISTORY)
    with pytest.raises(UserError) as caught:
        model_zoo.load("usrc-jepa", tmp_path, "cpu")
    assert str(caught.value) == (
        f"{path} is an export of `usjepa`, 'small', but not of the model 'usrc-jepa', as its "
        "network is ViT 24 wide, 2 deep, 2 heads, patch 8 of 32 in place of ViT 768 wide, 12 deep, "
        f"12 heads, patch 16 of 224; open it as model 'usjepa': --weights usjepa={path}"
    )


@pytest.fixture
def tiny_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's models, as small as `MODEL`."""
    sizes = EncoderSizes(*list(vars(MODEL).values())[:6])
    monkeypatch.setattr(us_jepa, "SIZES", sizes)
    monkeypatch.setattr(us_jepa, "VisionTransformer", lambda: VisionTransformer(*sizes))
    rule = InputRule(32, grey=True, stretch=(2, 98))
    monkeypatch.setattr(us_jepa.USJEPA, "input_rule", rule)


@pytest.mark.usefixtures("tiny_paper")
def test_an_export_of_the_papers_size_is_us_jepa(tmp_path: Path) -> None:
    for name, region in (("us-jepa", False), ("usrc-jepa", True)):
        made = settings(name=name, region_conditioning=region)
        student = student_of(made)
        export.export(student, made, tmp_path / name, HISTORY)
        encoder = model_zoo.load(name, tmp_path / name, "cpu")
        image = to_float(picture())[None]
        with torch.no_grad():
            torch.testing.assert_close(
                encoder.tokens(image), student(as_in_training(picture(), made))
            )
        assert encoder.card.saw == ("aul",)
        assert encoder.card.status.startswith("trained by this project")


@pytest.mark.usefixtures("tiny_paper")
@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"objective": "ijepa"}, "its objective is ijepa in place of salt"),
        ({"region_conditioning": True}, "its region conditioning is True in place of False"),
        ({"data": {"grey": False}}, "its input is .*grey=False.* in place of .*grey=True"),
        ({"model": {**vars(MODEL), "heads": 4}}, "2 deep, 4 heads.* in place of .*2 deep, 2 heads"),
        ({"model": {**vars(MODEL), "class_token": True}}, "class token in place of"),
    ],
)
def test_shapes_that_fit_are_not_enough(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    made = settings(**more)
    export.export(student_of(made), made, tmp_path, HISTORY)
    with pytest.raises(UserError, match=f"not of the model 'us-jepa', as .*{said}.*usjepa="):
        model_zoo.load("us-jepa", tmp_path, "cpu")


@pytest.mark.slow
def test_usrc_jepa_at_full_size(tmp_path: Path) -> None:
    made = config.load("usrc_jepa_vitb16")
    student = ImageStudent(made.model)
    export.export(student, made, tmp_path, HISTORY)
    encoder = model_zoo.load("usrc-jepa", tmp_path, "cpu", "float32")
    x = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(encoder.tokens_prepared(x), student(x))
    assert encoder.card.status == "trained by this project's trainer"
    assert encoder.card.parameters == encoder.parameter_count == 85_797_120


def test_weights_header_and_card_vouch_for_one_another(tmp_path: Path) -> None:
    made = settings()
    path = export.export(student_of(made), made, tmp_path / "a", HISTORY)
    other = export.export(scrambled(student_of(made)), made, tmp_path / "b", HISTORY)  # type: ignore[arg-type]
    card = path.with_suffix(".json")
    right = path.read_bytes(), card.read_bytes()

    def refused(said: str) -> None:
        with pytest.raises(UserError, match=said):
            model_zoo.load("usjepa", path, "cpu")
        path.write_bytes(right[0])
        card.write_bytes(right[1])

    model_zoo.load("usjepa", path, "cpu")
    card.write_bytes(other.with_suffix(".json").read_bytes())
    refused(r"encoder\.json is the card of another file than .*encoder\.safetensors")
    path.write_bytes(other.read_bytes())
    refused(r"encoder\.json is the card of another file than .*encoder\.safetensors")
    card.write_bytes(right[1].replace(b'"aul"', b'"aux"'))  # what it saw
    refused(r"encoder\.json is not as `usjepa` wrote it .*digest")
    card.unlink()  # without it the file vouches for itself
    content = bytearray(right[0])
    content[-100] ^= 1
    path.write_bytes(content)
    refused(r"encoder\.safetensors is not as `usjepa` wrote it .*weights .*digest")
    card.unlink()
    path.write_bytes(right[0].replace(b'\\"heads\\":2', b'\\"heads\\":1'))
    refused(r"encoder\.safetensors is not as `usjepa` wrote it .*header .*digest")
    model_zoo.load("usjepa", path, "cpu")


def test_half_the_size_is_nearly_the_same_encoder(tmp_path: Path) -> None:
    made = settings()
    student = student_of(made)
    whole = export.export(student, made, tmp_path / "whole", HISTORY)
    half = export.export(student, made, tmp_path / "half", HISTORY, stored="float16")
    assert half.stat().st_size < 0.6 * whole.stat().st_size
    encoders = [model_zoo.load("usjepa", path, "cpu", "float32") for path in (whole, half)]
    assert next(encoders[1].network.parameters()).dtype == torch.float32
    one, two = (encoder.encode(torch.rand(2, 3, 32, 32) * 0 + 0.5) for encoder in encoders)
    assert not torch.equal(one, two)
    torch.testing.assert_close(one, two, atol=5e-3, rtol=0)
    assert export.read_card(half)["stored_as"] == "float16"


# ---- in use -------------------------------------------------------------------------------------


def test_an_exported_autoencoder_is_a_teacher(tmp_path: Path) -> None:
    made = settings(objective="mae", **WITH_CLASS_TOKEN)
    export.export(student_of(made), made, tmp_path, HISTORY)
    named = {"name": "usjepa", "weights": str(tmp_path)}
    loaded = teacher.load(config.Teacher(**named), "cpu", 4)
    images = torch.rand(3, 1, 32, 32).expand(-1, 3, -1, -1)
    assert loaded.check(32, 4, 24) == 24
    rule = InputRule(32)
    x = (images - torch.tensor(rule.mean).view(3, 1, 1)) / torch.tensor(rule.std).view(3, 1, 1)
    with torch.no_grad():  # 16 patches without the class token, of frames not stretched again
        assert torch.equal(loaded(images), loaded.encoder.network(x)[:, 1:])
    layer = teacher.load(config.Teacher(**named, layers=("blocks.0",)), "cpu", 4)
    assert layer.check(32, 4) == 24

    other = {"width": 16, "heads": 2, "class_token": False}
    learning = config.validate(
        {
            "name": "second",
            "model": {**vars(MODEL), **other},
            "teacher": named,
            "predictor": {"depth": 1, "width": 16, "heads": 2},
            "masks": {"target_count": 2, "target_scale": [0.2, 0.4], "min_keep": 1},
        }
    )
    pupil = objective.build(learning, device="cpu")
    loss, _ = pupil(images, masks.build(learning).sample(3, 0))
    loss.backward()
    assert torch.isfinite(loss)
    assert pupil.student.patch_embed.proj.weight.grad is not None  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"'usjepa' gives 16 vectors .* 2 x 2 patches"):
        loaded.check(32, 2)


def test_the_harness_measures_an_export(tmp_path: Path, manifest: Path) -> None:
    made = settings()
    export.export(student_of(made), made, tmp_path / "run", HISTORY)
    ultrabench_eval.run(
        *("usjepa", str(manifest)),
        weights={"usjepa": tmp_path / "run"},
        seeds=1,
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        device="cpu",
    )
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    row = next(line for line in page.splitlines() if "small, 24 x 2" in line)
    assert "trained by this project's trainer, nano" in row
    assert "| aul " in row
    assert "random" not in row
    digest = json.loads((tmp_path / "run" / "encoder.json").read_text())["sha256"]
    assert f"encoder.safetensors ({digest[:12]})" in row
