"""Encoders of clips: which frames they look at, and one contract for all of them."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from released_files import opened, same
from safetensors.torch import load_file, save_file
from test_every_model import picture
from torch import Tensor, nn

import model_zoo
from model_zoo import behaviour, forensics, video_vit
from model_zoo.checkpoints import exports
from model_zoo.checkpoints.exports import ClipHeader, Header
from model_zoo.clip_rule import ClipRule
from model_zoo.encoder import Encoder
from model_zoo.forensics import given
from model_zoo.transforms import InputRule, to_float
from model_zoo.video_vit import VideoTransformer
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

NAMES = [
    name
    for name in model_zoo.names()
    if not name.endswith("<name>") and model_zoo.describe(name)["takes"] == "clip"
]


def cine(frames: int, seed: int = 0) -> np.ndarray:
    """A picture that moves sideways, uint8 [T, 60, 90, 3]."""
    return np.stack([np.roll(picture(seed), 5 * place, axis=1) for place in range(frames)])


# ---- which frames -------------------------------------------------------------------------------


def test_frames_are_spread_over_the_whole_cine() -> None:
    rule = ClipRule()
    assert rule.positions(100) == [round(one) for one in np.linspace(0, 99, 16)]
    assert rule.positions(16) == list(range(16))
    assert rule.positions(1) == [0] * 16
    assert rule.positions(3) == [0] * 4 + [1] * 8 + [2] * 4
    with_mask = rule.positions(100, at=50)
    assert 50 in with_mask
    assert len(with_mask) == 16
    assert with_mask == sorted(with_mask)
    assert rule.positions(100, at=99) == rule.positions(100)
    assert ClipRule(1).positions(9, at=7) == [7]


def test_frames_by_steps_and_by_rate() -> None:
    stride = ClipRule(4, "stride", step=3)
    assert stride.positions(100) == [0, 3, 6, 9]
    assert stride.positions(100, at=50) == [44, 47, 50, 53]
    assert stride.positions(100, at=99) == [90, 93, 96, 99]
    assert stride.positions(100, at=1) == [1, 3, 6, 9]  # the nearest is moved
    assert stride.positions(8) == [0, 3, 6, 7]
    assert ClipRule(5, "stride", short="wrap").positions(3) == [0, 1, 2, 0, 1]
    rate = ClipRule(4, "rate", rate=4)
    assert rate.positions(100, 29.97) == [0, 7, 14, 21]  # 30 // 4, as V-JEPA 2 does
    assert rate.positions(100, 3) == rate.positions(100) == [0, 1, 2, 3]
    for wrong in ({"frames": 0}, {"step": 0}, {"spacing": "rate"}):
        with pytest.raises(ValueError, match="a clip rule needs"):
            ClipRule(**wrong)
    with pytest.raises(ValueError, match="frame 8 is not in a video of 8 frames"):
        stride.positions(8, at=8)
    with pytest.raises(ValueError, match="at least one frame"):
        stride.positions(0)


@pytest.mark.parametrize(
    "rule",
    [
        ClipRule(),
        ClipRule(32, "stride", short="wrap"),
        ClipRule(16, "stride", 2),
        ClipRule(16, "rate", rate=24),
    ],
)
def test_a_frame_that_must_be_there_is_there(rule: ClipRule) -> None:
    for count in (1, 2, 10, 17, 33, 200):
        for at in {0, count // 3, count // 2, count - 1}:
            found = rule.positions(count, 50.0, at)
            assert len(found) == rule.frames
            assert at in found
            assert all(0 <= one < count for one in found)


# ---- the contract, by a small one ---------------------------------------------------------------


class SmallClips(Encoder):
    """Six frames of 32 pixels."""

    takes = "clip"
    clip_rule = ClipRule(6)
    input_rule = InputRule(32)
    tubelet, patch_size = 2, 16

    def build(self, weights: object) -> nn.Module:
        return VideoTransformer(32, 6, 16, 2, 48, 1, 3)

    def _forward(self, x: Tensor) -> Tensor:
        return self._tokens(x).mean(1)

    def _tokens(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.network(x.transpose(1, 2))
        return tokens


@pytest.fixture
def small() -> Any:
    model_zoo.register("small-clips")(SmallClips)
    yield model_zoo.load("small-clips", "random", "cpu")
    model_zoo.registry.remove("small-clips")


def test_clips_go_through(small: Encoder) -> None:
    clips = [cine(6, seed) for seed in range(2)]
    prepared = torch.stack([small.prepare(one) for one in clips])
    assert prepared.shape == (2, 6, 3, 32, 32)
    assert torch.equal(prepared[1, 4], small.input_rule.apply(clips[1][4]))
    floats = torch.stack([torch.stack([to_float(frame) for frame in one]) for one in clips])
    features = small.encode(floats)
    assert features.shape == (2, small.dim)
    assert torch.equal(features, small.encode_prepared(prepared))
    assert not torch.equal(features, small.encode(floats.flip(1)))  # it sees the order
    assert small.steps == 3
    tokens = small.tokens(floats)
    assert tokens.shape == (2, 3 * 2 * 2, 48)
    at = torch.tensor([5, 0])
    (maps,) = small.maps_prepared(prepared, at)
    assert torch.equal(maps[0], tokens[0, 8:].mT.reshape(48, 2, 2))
    assert torch.equal(maps[1], tokens[1, :4].mT.reshape(48, 2, 2))
    (mean,) = small.maps(floats)
    torch.testing.assert_close(mean, tokens.unflatten(1, (3, 4)).mean(1).mT.reshape(2, 48, 2, 2))
    (trained,) = small.unfrozen().maps(prepared, at)
    torch.testing.assert_close(trained, maps)


def test_a_still_is_a_clip_that_does_not_move(small: Encoder) -> None:
    image = picture(0)
    still = small.prepare(image)
    assert torch.equal(still, small.prepare(np.stack([image] * 6)))
    assert torch.equal(still, small.prepare(to_float(image)))
    assert torch.equal(small.encode(to_float(image)[None]), small.encode_prepared(still[None]))


def test_other_clips_are_refused(small: Encoder) -> None:
    with pytest.raises(
        ValueError, match="looks at clips of 6 frames, not 5; choose them by clip_r"
    ):
        small.prepare(cine(5))
    with pytest.raises(ValueError, match="a clip must be a uint8 array"):
        small.prepare(cine(6)[None])
    with pytest.raises(ValueError, match="must lie in"):
        small.encode(torch.full((1, 6, 3, 8, 8), 2.0))
    with pytest.raises(ValueError, match=r"floating point \[B, 3, H, W\]; got"):
        model_zoo.load("pixels").encode(torch.zeros(1, 6, 3, 8, 8))
    with pytest.raises(TypeError, match="must say takes = 'clip' and set clip_rule, or neither"):
        type("Half", (Encoder,), {"takes": "clip"})


def test_a_stretch_is_that_of_the_whole_clip() -> None:
    clip = np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in (50, 100, 150)])
    rule = InputRule(8, (0, 0, 0), (1, 1, 1), grey=True, stretch=(0, 100))
    assert rule.apply_clip(clip)[:, 0, 0, 0].tolist() == pytest.approx([0, 0.5, 1], abs=0.01)


def test_the_fingerprint_sees_the_frames(small: Encoder) -> None:
    other = model_zoo.load("small-clips", "random", "cpu")
    assert other.fingerprint == small.fingerprint
    other.clip_rule = ClipRule(6, "stride")
    del other.__dict__["fingerprint"]
    assert other.fingerprint != small.fingerprint


def test_what_is_looked_at_when_it_is_loaded(
    small: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert small.behaviour is not None
    assert small.behaviour.features.shape == (2, 48)
    assert forensics.quick(small) == []
    seen = given.first_input(small, small.prepare(cine(6)))
    assert seen is not None
    assert torch.equal(seen[0], small.prepare(cine(6))[0])
    forward = SmallClips._forward
    with monkeypatch.context() as patch:  # images that are not normalised
        plain = InputRule(32, (0, 0, 0), (1, 1, 1))
        patch.setattr(SmallClips, "_prepare", lambda self, clip: plain.apply_clip(clip))
        (alarm,) = forensics.quick(small)
        assert alarm.family == "normalisation-missing"
    with monkeypatch.context() as patch:
        patch.setattr(SmallClips, "_forward", lambda self, x: forward(self, x) + torch.rand(48))
        with pytest.raises(UserError, match="other features each time for the same image"):
            behaviour.observe(small)
    with monkeypatch.context() as patch:  # a normalisation over the batch
        patch.setattr(SmallClips, "_forward", lambda self, x: forward(self, x) / x.std() + len(x))
        with pytest.raises(UserError, match="other features each time for the same image"):
            behaviour.observe(small)
    assert not forensics.examine(small).alarms


# ---- exports of `usjepa` -----------------------------------------------------------------------


def write_export(
    folder: Path, name: str = "vjepa-loc-nano", rotary: bool = False, tubelet: int = 2
) -> Path:
    """An untrained network of clips, as `usjepa export` writes one."""
    network = VideoTransformer(32, 4, 8, 2, 48, 1, 3, rotary)
    tensors = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
    rule = ClipRule(4, "stride", step=2)
    header = Header(
        name, "vjepa", False, 32, 8, 3, False, InputRule(32), "0" * 12,
        hashing.digest_tensors(tensors), ClipHeader(tubelet, rotary, rule), localisation=0.25,
    )  # fmt: skip
    path = folder / "encoder.safetensors"
    save_file(tensors, path, header.metadata())
    return path


@pytest.mark.parametrize("rotary", [False, True])
def test_an_export_of_clips_is_what_its_header_says(tmp_path: Path, rotary: bool) -> None:
    path = write_export(tmp_path, rotary=rotary)
    encoder = model_zoo.load("usjepa-clip", path, "cpu")
    assert encoder.clip_rule == ClipRule(4, "stride", step=2)
    assert (encoder.input_size, encoder.dim, encoder.steps) == (32, 48, 2)
    assert "localisation loss of arXiv 2507.18424" in encoder.card.paper
    named = model_zoo.load("vjepa-loc-nano", tmp_path, "cpu")  # the folder of a training
    assert torch.equal(
        named.encode_prepared(named.prepare(cine(4))[None]),
        encoder.encode_prepared(encoder.prepare(cine(4))[None]),
    )
    for model, said in (
        ("usjepa", "was trained on clips; open it as model 'usjepa-clip'"),
        ("vjepa-nano", "was trained as 'vjepa-loc-nano', not as 'vjepa-nano'; open it as model "
         "'usjepa-clip': --weights usjepa-clip="),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            model_zoo.load(model, path, "cpu")
    still = exports.SHIPPED / "us-jepa-nano.safetensors"
    with pytest.raises(UserError, match="was trained on stills; open it as model 'usjepa'"):
        model_zoo.load("usjepa-clip", still, "cpu")


def test_a_damaged_export_of_clips_is_refused(tmp_path: Path) -> None:
    path = write_export(tmp_path, tubelet=4)
    with pytest.raises(UserError, match="its header and the shapes in it contradict each other"):
        model_zoo.load("usjepa-clip", path, "cpu")
    with pytest.raises(UserError, match="no weights for model 'usjepa-clip'"):
        model_zoo.load("usjepa-clip", device="cpu")


@pytest.mark.parametrize("name", ["vjepa-nano", "vjepa-loc-nano"])
def test_what_is_shipped_of_clips(name: str) -> None:
    encoder = model_zoo.load(name, device="cpu", dtype="float32")
    file = exports.SHIPPED / f"{name}.safetensors"
    assert encoder.weights_file == file
    assert file.stat().st_size < 5e6
    assert (encoder.parameter_count, encoder.dim) == (encoder.card.parameters, encoder.card.dim)
    assert encoder.card.saw == ("phantom-lv", "phantom-sliding", "pocus")
    assert encoder.card.status == "trained by this project's trainer, nano"
    assert ("localisation loss" in encoder.card.paper) == ("loc" in name)
    start = exports.read_card(file)["config"]["model"]["start"]
    assert start == "usjepa-clip=runs/videomae-nano"  # of no machine
    random = model_zoo.load(name, "random", "cpu", "float32")
    assert random.parameter_count == encoder.parameter_count
    trained, fixed = load_file(file), set()
    for key, value in random.network.state_dict().items():
        if value.equal(trained[key].float()):
            fixed.add(key)
    assert fixed <= {"pos_embed"}
    clips = torch.from_numpy(np.random.default_rng(0).random((2, 8, 3, 64, 64), np.float32))
    features = encoder.encode(clips)
    assert torch.isfinite(features).all()
    assert not torch.equal(features, random.encode(clips))


# ---- those of the zoo ---------------------------------------------------------------------------


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of two narrow blocks."""
    plain = VideoTransformer.__init__

    def little(*args: Any, **options: Any) -> None:
        bound = inspect.signature(plain).bind(*args, **options)
        bound.arguments |= {"width": 128, "depth": 2, "heads": 2, "image_size": 64, "frames": 4}
        plain(*bound.args, **bound.kwargs)

    monkeypatch.setattr(video_vit.VideoTransformer, "__init__", little)


# Two have no small variant; their vectors are replayed in test_clip_vectors.py.
@pytest.mark.parametrize(
    "name", [n for n in NAMES if n not in ("echoprime", "panecho-clip", "frame-differences")]
)
def test_every_encoder_of_clips(name: str, shrunk: None, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = model_zoo.registry.get(name)(name=name, weights="random")
    assert encoder.clip_rule is not None
    assert encoder.random_weights
    prepared = encoder.prepare(cine(encoder.clip_rule.frames))[None]
    features = encoder.encode_prepared(prepared)
    assert features.shape == (1, encoder.dim)
    if encoder.has_maps:
        tokens = encoder.tokens_prepared(prepared)
        (first,) = encoder.maps_prepared(prepared, torch.tensor([0]))
        assert tokens.shape[1] == encoder.steps * first.shape[2] * first.shape[3]


# ---- layouts ------------------------------------------------------------------------------------


def split(tensors: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """The tensors with queries, keys and values apart, called by parts of other names."""
    found: dict[str, Tensor] = {}
    for key, value in tensors.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        if "qkv" in key:
            for part, chunk in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[key.replace("qkv", part)] = chunk.clone()
        else:
            found[key] = value
    return found


HUB = {
    "vjepa2-vitl": {
        "patch_embed.": "encoder.embeddings.patch_embeddings.",
        "blocks.": "encoder.layer.",
        "attn.": "attention.",
    },
    "videomae": {
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "blocks.": "encoder.layer.",
        "attn.qkv": "attention.attention.qkv",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
    },
}


def test_the_layouts_of_v_jepa_2_are_one_network(shrunk: None, tmp_path: Path) -> None:
    network = opened("vjepa2-vitl", "random").network
    own = {key: value.clone() for key, value in network.state_dict().items()}
    official = {f"module.backbone.{key}": value for key, value in own.items()}
    with_table = official | {"module.backbone.pos_embed": torch.zeros(1, 2048, 128)}
    marked = {key.replace("norm.", "encoder.layernorm."): value for key, value in own.items()}
    hub = split(marked, HUB["vjepa2-vitl"])
    other = {key: value + 1 for key, value in official.items()}
    seen = {}
    for layout, content in {
        "official": {"encoder": other, "target_encoder": official, "epoch": 3},
        "official, with a table": {"encoder": other, "target_encoder": with_table},
        "transformers": hub | {"predictor.proj.bias": torch.ones(3)},
    }.items():
        torch.save(content, tmp_path / "w.pth")
        seen[layout] = opened("vjepa2-vitl", tmp_path / "w.pth")
        assert seen[layout].filled.layout == layout.partition(",")[0]
        assert same(seen[layout], seen["official"])
    assert torch.equal(seen["official"].network.norm.bias, own["norm.bias"])  # not "encoder"
    torch.save({"encoder": other, "target_encoder": official}, tmp_path / "w.pth")
    context = opened("vjepa2-vitl", f"{tmp_path / 'w.pth'}#encoder")
    assert torch.equal(context.network.norm.bias, own["norm.bias"] + 1)


def test_the_layouts_of_videomae_are_one_network(shrunk: None, tmp_path: Path) -> None:
    network = opened("videomae", "random").network
    own = {key: value + 0.5 for key, value in network.state_dict().items() if key != "pos_embed"}
    marked = {key.replace("norm.", "layernorm."): value for key, value in own.items()}
    newer = {
        f"videomae.{key}": value
        for key, value in split(marked, HUB["videomae"]).items()
        if not key.endswith("key.bias")
    }
    older = {
        key.replace("query.bias", "q_bias").replace("value.bias", "v_bias"): value
        for key, value in newer.items()
    }
    seen = []
    for layout, tensors in {"transformers 5": newer, "transformers 4": older}.items():
        torch.save(tensors | {"decoder.norm.bias": torch.ones(2)}, tmp_path / "w.pth")
        seen.append(opened("videomae", tmp_path / "w.pth"))
        assert seen[-1].filled.layout == layout
    assert same(*seen)
    query, key, _ = seen[0].network.blocks[1].attn.qkv.bias.chunk(3)
    assert not key.any()
    assert torch.equal(query, own["blocks.1.attn.qkv.bias"][:128])
    del older["videomae.encoder.layer.1.attention.attention.v_bias"]
    torch.save(older, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"1 missing \(encoder.layer.1.attention.attention.v_bias"):
        opened("videomae", tmp_path / "w.pth")


@pytest.mark.shared
def test_names_of_the_hub_s_v_jepa_2(shared: Path) -> None:
    listed = json.loads((shared / "conformance/vjepa2-vitl/keys_transformers.json").read_text())
    model = model_zoo.registry.get("vjepa2-vitl")
    with torch.device("meta"):
        network = model.make(object.__new__(model))
    layout = model.layouts[1]
    wanted = {key for own in network.state_dict() for key in layout.recipe(own).keys}
    left = {one["key"] for one in listed["keys"]} ^ wanted
    assert left
    assert all(key.startswith("predictor.") for key in left)
