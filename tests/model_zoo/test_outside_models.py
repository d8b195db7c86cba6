"""Six encoders of others: the authors' numbers, and the sentence that each usual mistake gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from released_files import opened
from torch import Tensor, nn
from torchvision.transforms import v2

import model_zoo
from model_zoo import verify, vit
from model_zoo.checkpoints import files
from model_zoo.encoder import Encoder
from model_zoo.letter import letter
from model_zoo.transforms import InputRule, to_float
from ultrabench_eval.core.errors import UserError

SMALL = ("tinyusfm", "panecho", "mobile-fetalclip")
BIG = ("ultrafedfm", "echoclip", "fetalclip")
SIX = (*SMALL, *BIG)
NONE = (0.0,) * 3, (1.0,) * 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    found = tmp_path_factory.mktemp("six")
    yield found
    for old in found.iterdir():
        old.unlink()


@pytest.fixture(scope="module")
def checkpoint_of(folder: Path) -> Callable[[str], Path]:
    def path_of(name: str) -> Path:
        path = folder / f"{name}.pth"
        if not path.exists():
            verify.write_checkpoint(verify.read(name), path)
        return path

    return path_of


@pytest.fixture(scope="module")
def encoder_of(checkpoint_of: Callable[[str], Path]) -> Callable[[str], Encoder]:
    """Encoders filled by the rule; the last one is kept."""
    kept: dict[str, Encoder] = {}

    def loaded(name: str) -> Encoder:
        if name not in kept:
            kept.clear()
            kept[name] = opened(name, checkpoint_of(name))
        return kept[name]

    return loaded


def one_image(name: str) -> verify.Vectors:
    vectors = verify.read(name)
    described = {**vectors.described, "input": {**vectors.described["input"], "batch": 1}}
    expected = {key: x[:1] for key, x in vectors.expected.items()}
    return vectors._replace(described=described, expected=expected)


def said(encoder: Encoder, vectors: verify.Vectors | None = None) -> str:
    """What the comparison with the authors' numbers says of an encoder."""
    found = verify.compare(encoder, vectors or one_image(encoder.name))
    assert not all(one.agrees for one in found), found
    return " ".join(dict.fromkeys(one.mistake for one in found if one.mistake))


def assert_equal_to_the_authors(encoder: Encoder) -> None:
    vectors = one_image(encoder.name)
    for one in verify.compare(encoder, vectors):
        assert one.largest <= 1e-4 * vectors.expected[one.array].abs().max(), one
        assert one.agrees
        assert not one.mistake


# ---- the numbers, and mistakes that the network must make to show them --------------------------


def test_tinyusfm(encoder_of: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of("tinyusfm")
    network: Any = encoder.network
    assert_equal_to_the_authors(encoder)
    with monkeypatch.context() as patch:
        for block in network.blocks:
            patch.setattr(block.attn, "heads", 3)
        assert "3 attention heads, as timm's vit_tiny_patch16_224" in said(encoder)
        assert "with num_heads=12" in said(encoder)
    with monkeypatch.context() as patch:
        patch.setattr(network.norm.weight, "data", torch.ones(192))
        patch.setattr(network.norm.bias, "data", torch.zeros(192))
        assert "final norm has its initial values, as strict=False leaves it" in said(encoder)
    with monkeypatch.context() as patch:
        patch.setattr(type(encoder), "input_rule", InputRule(224, *NONE, "bilinear"))
        assert "not normalised: subtract ImageNet's mean" in said(encoder)


def test_panecho(encoder_of: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = encoder_of("panecho")
    assert_equal_to_the_authors(encoder)
    monkeypatch.setattr(encoder, "input_rule", InputRule(224, *NONE))
    assert "not normalised: subtract ImageNet's mean" in said(encoder)


def test_mobile_fetalclip(
    encoder_of: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = encoder_of("mobile-fetalclip")
    network: Any = encoder.network
    assert_equal_to_the_authors(encoder)
    monkeypatch.setattr(network.head.fc.bias, "data", torch.zeros(512))
    assert "projection has no bias" in said(encoder)


@pytest.mark.slow
def test_ultrafedfm(encoder_of: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    """About 8 s of a CPU."""
    encoder = encoder_of("ultrafedfm")
    assert_equal_to_the_authors(encoder)
    rule = InputRule(224, (0.162, 0.163, 0.165), (0.180, 0.179, 0.182))
    monkeypatch.setattr(encoder, "input_rule", rule)
    assert "those of a comment in the authors' code" in said(encoder)


@pytest.mark.slow
def test_echoclip(encoder_of: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    """About 6 s of a CPU."""
    encoder = encoder_of("echoclip")
    network: Any = encoder.network
    assert_equal_to_the_authors(encoder)
    monkeypatch.setattr(network, "norm", nn.Identity())
    assert "norm between mean and projection (trunk.head.norm) is left out" in said(encoder)


@pytest.mark.slow
def test_fetalclip(encoder_of: Callable[[str], Encoder], monkeypatch: pytest.MonkeyPatch) -> None:
    """About 16 s of a CPU."""
    encoder = encoder_of("fetalclip")
    assert_equal_to_the_authors(encoder)
    monkeypatch.setattr(vit, "gelu", lambda x: x * torch.sigmoid(1.702 * x))
    assert "The activation is QuickGELU" in said(encoder)


@pytest.mark.parametrize("name", SIX)
def test_each_mistake_is_named_by_its_own_numbers(name: str) -> None:
    vectors = verify.read(name)
    assert vectors.mistakes is not None
    known = vectors.described["mistakes"]
    assert len(known) == len(vectors.mistakes) >= 9
    for one, numbers in zip(known, vectors.mistakes, strict=True):
        right = vectors.expected[one["of"]][0]
        assert verify.mistake(right, one["of"], vectors) == ""
        given = torch.cat([numbers, right[len(numbers) :]])
        assert verify.mistake(given, one["of"], vectors) == one["sentence"]
        assert verify.mistake(given + 0.1 * numbers.abs().max(), one["of"], vectors) == ""


# ---- a wrapper of somebody else -----------------------------------------------------------------


class Wrapped(Encoder):
    """What a user may write: timm's network, filled without looking."""

    architecture, start = "", ""

    def build(self, weights: Path | str | None) -> nn.Module:
        tensors = files.tensors_of(files.read(Path(str(weights))))
        tensors = tensors or files.read(Path(str(weights)))["state_dict"]
        network: nn.Module = timm.create_model(self.architecture, num_classes=0)
        own = {key.removeprefix(self.start): value for key, value in tensors.items()}
        network.load_state_dict(own, strict=False)
        return network


class ThreeHeads(Wrapped):
    input_rule = InputRule(224, interpolation="bilinear")
    architecture, start = "vit_tiny_patch16_224", "model."

    def _forward(self, x: Tensor) -> Tensor:
        network: Any = self.network
        return network.forward_features(x)[:, 1:].mean(1)


class ClassToken(ThreeHeads):
    def build(self, weights: Path | str | None) -> nn.Module:
        network: Any = super().build(weights)
        for block in network.blocks:
            block.attn.num_heads, block.attn.head_dim, block.attn.scale = 12, 16, 0.25
        return network

    def _forward(self, x: Tensor) -> Tensor:
        network: Any = self.network
        return network.forward_features(x)[:, 0]


class TimmsNames(Wrapped):
    input_rule = InputRule(256)
    architecture, start = "fastvit_mci0", "visual.trunk."

    def _forward(self, x: Tensor) -> Tensor:
        network: Any = self.network
        return network.forward_features(x).mean((2, 3))[:, :512]


@pytest.mark.parametrize(
    ("wrapper", "model", "sentence"),
    [
        (ThreeHeads, "tinyusfm", "The network has 3 attention heads, as timm's vit_tiny"),
        (ClassToken, "tinyusfm", "The class token is given where the mean over the patch tokens"),
        (
            TimmsNames,
            "mobile-fetalclip",
            "parameters of the network hold no number of the file (stem.0.conv_kxk.0.conv.weight",
        ),
    ],
)
def test_a_wrapper_of_somebody_else_is_told_its_mistake(
    checkpoint_of: Callable[[str], Path], wrapper: type[Encoder], model: str, sentence: str
) -> None:
    encoder = wrapper(name="guest", weights=checkpoint_of(model))
    told = said(encoder, one_image(model))
    assert sentence in (told or verify.not_filled(encoder, files.read(checkpoint_of(model))))


def test_replay_of_a_registered_wrapper() -> None:
    model_zoo.register("guest")(ThreeHeads)
    try:
        found = verify.replay("tinyusfm", device="cpu", wrapper="guest")
    finally:
        model_zoo.registry.remove("guest")
    assert [one.array for one in found] == ["pooled_mean", "pooled_mean, second"]
    assert not any(one.agrees for one in found)
    assert "3 attention heads" in found[0].mistake


# ---- files --------------------------------------------------------------------------------------


def test_the_prefixes_that_a_file_of_tinyusfm_may_have(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    tensors = torch.load(checkpoint_of("tinyusfm"), weights_only=True)
    plain = opened("tinyusfm", checkpoint_of("tinyusfm"))
    for prefix in ("module.model.", "module.", ""):
        named = {prefix + key.removeprefix("model."): value for key, value in tensors.items()}
        torch.save(named | {f"{prefix}head.weight": torch.ones(3, 192)}, tmp_path / "w.pth")
        other = opened("tinyusfm", tmp_path / "w.pth")
        assert other.weights_digest == plain.weights_digest
        assert other.dropped == ("head (1 tensor)",)  # it is listed, and not used


def test_a_file_without_the_final_norm_is_refused(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """As it would be if pretraining used the mean, whose norm has another name."""
    tensors = torch.load(checkpoint_of("tinyusfm"), weights_only=True)
    named = {key.replace("model.norm.", "model.fc_norm."): v for key, v in tensors.items()}
    torch.save(named, tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"2 missing \(norm.weight, norm.bias\), 2 unexpected \(fc"):
        opened("tinyusfm", tmp_path / "w.pth")


def test_timms_names_for_apples_are_refused_by_name(
    checkpoint_of: Callable[[str], Path], tmp_path: Path
) -> None:
    file = checkpoint_of("mobile-fetalclip")
    with torch.device("meta"):
        network = timm.create_model("fastvit_mci0", num_classes=512)
    named = {f"visual.trunk.{k}": torch.ones(1).expand(v.shape) for k, v in
             network.state_dict().items() if v.is_floating_point()}  # fmt: skip
    torch.save({"state_dict": named}, tmp_path / "timm.pth")
    wrong = r"holds no tensors of it .* but visual.trunk.stem.0.conv_kxk.*, where the model has "
    with pytest.raises(UserError, match=wrong + r"visual.trunk.patch_embed.0.rbr_conv"):
        opened("mobile-fetalclip", tmp_path / "timm.pth")
    with pytest.raises(UserError, match=r"but logit_scale, .* where the model has stem.0.conv_kxk"):
        model_zoo.load("timm/fastvit_mci0", file, "cpu")


def test_a_general_wrapper_tells_what_it_used_and_assumed(
    checkpoint_of: Callable[[str], Path],
) -> None:
    """The file of TinyUSFM fills timm's network to the last key; only what is assumed differs."""
    encoder = model_zoo.load("timm/vit_tiny_patch16_224", checkpoint_of("tinyusfm"), "cpu")
    assert encoder.used == 150
    assert encoder.assumed[0] == "3 attention heads per block, as timm has it"
    assert encoder.assumed[1].startswith("input 224 x 224 (squash, bicubic), mean 0.5 0.5 0.5")


@pytest.mark.parametrize("name", ["openus-s", "medsam2"])
def test_a_card_without_a_network_gives_the_reason(name: str) -> None:
    reason = model_zoo.card(name).unavailable
    for weights in (None, "random"):
        with pytest.raises(UserError) as told:
            model_zoo.load(name, weights, "cpu")
        assert str(told.value) == f"model '{name}' cannot be run: {reason}"


def test_the_letter_to_the_authors() -> None:
    text = letter("tinyusfm")
    first = verify.read("tinyusfm").expected["pooled_mean"][0, 0].item()
    for words in ("150 tensors", "5,524,416", "(squash, bilinear)", f"mean: {first:.6f}",
                  'load("tinyusfm"', "authors' code"):  # fmt: skip
        assert words in text
    lines = text.split("own weights:\n\n")[1].split("\n\n")[0].splitlines()
    assert len(lines) == 5
    with pytest.raises(UserError, match="'pixels' has no reference numbers"):
        letter("pixels")


# ---- preprocessing ------------------------------------------------------------------------------


def picture(height: int, width: int, grey: bool = False) -> np.ndarray:
    drawn = np.random.default_rng(height).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(drawn).resize((width, height), PIL.Image.Resampling.BICUBIC)
    values = np.asarray(image)
    return np.repeat(values[..., :1], 3, axis=2) if grey else values


SHAPES = [(301, 420, False), (420, 301, True), (224, 224, False), (80, 31, True), (900, 901, False)]


@pytest.mark.parametrize(("height", "width", "grey"), SHAPES)
@pytest.mark.parametrize("name", ["fetalclip", "mobile-fetalclip"])
def test_images_are_put_in_a_black_square_as_the_authors_do(
    name: str, height: int, width: int, grey: bool
) -> None:
    rule, image = model_zoo.registry.get(name).input_rule, picture(height, width, grey)
    side = max(height, width)
    square = PIL.Image.new("RGB", (side, side))
    square.paste(PIL.Image.fromarray(image), ((side - width) // 2, (side - height) // 2))
    theirs = v2.Compose([
        v2.Resize(rule.size, v2.InterpolationMode.BICUBIC), v2.CenterCrop(rule.size),
        v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(rule.mean, rule.std),
    ])(square)  # fmt: skip
    torch.testing.assert_close(rule.apply(image), theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rule.apply(to_float(image)), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("height", "width", "grey"), SHAPES)
def test_tinyusfm_squashes_as_the_authors_do(height: int, width: int, grey: bool) -> None:
    rule, image = model_zoo.registry.get("tinyusfm").input_rule, picture(height, width, grey)
    theirs = v2.Compose([
        v2.Resize([224, 224]), v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(rule.mean, rule.std),
    ])(PIL.Image.fromarray(image))  # fmt: skip
    torch.testing.assert_close(rule.apply(image), theirs, atol=1e-5, rtol=1e-5)


# ---- USFM from the hub ---------------------------------------------------------------------------


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(("pooled", "how"), [(False, "mean"), (True, "mean_prenorm")])
def test_usfm_in_the_library_of_transformers_is_usfm(
    tmp_path: Path, pooled: bool, how: str
) -> None:
    """`hf/Larxel/USFM` is USFM as a BeitModel; its file cannot be fetched here, so one is written
    from the keys of the released file, of two blocks."""
    from transformers import BeitConfig, BeitModel, ViTImageProcessor

    vectors = verify.read("usfm")
    vectors.described["keys"] = [
        one for one in vectors.described["keys"] if not one[0].startswith("blocks.")
        or one[0].startswith(("blocks.0.", "blocks.1."))
    ]  # fmt: skip
    verify.write_checkpoint(vectors, tmp_path / "usfm.pth")
    theirs = torch.load(tmp_path / "usfm.pth", weights_only=True)
    config = BeitConfig(
        num_hidden_layers=2, use_shared_relative_position_bias=True, use_mean_pooling=pooled,
        layer_norm_eps=1e-6, use_mask_token=True,
    )  # fmt: skip
    model = BeitModel(config, add_pooling_layer=pooled)
    model.load_state_dict({key: _of_usfm(key, theirs) for key in model.state_dict()})
    model.save_pretrained(tmp_path / "hub")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    ViTImageProcessor(
        size={"height": 224, "width": 224}, resample=3, image_mean=mean, image_std=std
    ).save_pretrained(tmp_path / "hub")
    hub = model_zoo.load("hf/Larxel/USFM", tmp_path / "hub", "cpu", pooling="mean")
    own = model_zoo.load("usfm", tmp_path / "usfm.pth", "cpu", pooling=how)
    images = torch.stack([to_float(picture(301, 420)), to_float(picture(301, 420)).flip(2)])
    torch.testing.assert_close(hub.encode(images), own.encode(images), atol=2e-5, rtol=1e-5)
    assert hub.used == len(hub.network.state_dict())
    assert hub.assumed[0].endswith("as preprocessor_config.json has it")


_BEIT = {
    **{"embeddings.patch_embeddings.projection": "patch_embed.proj", "embeddings.": ""},
    **{"shared_position_bias.": "rel_pos_bias.", "pooler.layernorm": "norm", "layernorm.": "norm."},
    **{"layers.": "blocks.", "lambda_": "gamma_", "attention.o_proj": "attn.proj"},
    **{"layernorm_before": "norm1", "layernorm_after": "norm2"},
    **{"attention.q_proj.bias": "attn.q_bias", "attention.v_proj.bias": "attn.v_bias"},
}


def _of_usfm(key: str, tensors: dict[str, Tensor]) -> Tensor:
    for place, part in enumerate("qkv"):
        if key.endswith(f"attention.{part}_proj.weight"):
            block = key.split(".")[1]
            return tensors[f"blocks.{block}.attn.qkv.weight"].chunk(3)[place]
    for theirs, ours in _BEIT.items():
        key = key.replace(theirs, ours)
    return tensors[key]
