"""The contract every encoder keeps because its author cannot break it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import model_zoo
from model_zoo.encoder import Encoder
from model_zoo.loading import resolve_device, resolve_dtype
from model_zoo.transforms import InputRule, to_float, to_uint8
from ultrabench_eval.core.errors import UserError

OFFLINE = [
    ("efficientnet-lite0", None),
    ("random-vit-tiny", None),
    ("pixels", None),
    ("image-stats", None),
    ("fan-mask", None),
    ("border", None),
    ("timm/resnet18", "random"),
    ("timm/test_vit", "random"),
]


class Tiny(Encoder):
    """A layer with dropout and batch norm, which training mode would make visible."""

    input_rule = InputRule(16)
    poolings = ("mean", "max")

    def build(self, weights: Path | str | None) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.Dropout(0.5))

    def _forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y.mean((2, 3)) if self.pooling == "mean" else y.amax((2, 3))


def image(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def encoders() -> dict[str, Encoder]:
    return {name: model_zoo.load(name, weights, device="cpu") for name, weights in OFFLINE}


@pytest.mark.parametrize("name", [name for name, _ in OFFLINE])
def test_every_encoder_keeps_the_contract(encoders: dict[str, Encoder], name: str) -> None:
    encoder = encoders[name]
    raw = [image(60, 90, 0), image(60, 90, 1)]
    images = torch.stack([to_float(one) for one in raw])
    features = encoder.encode(images)
    assert features.shape == (2, encoder.dim)
    assert features.dtype == torch.float32
    assert not features.requires_grad
    assert not any(p.requires_grad for p in encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    assert len(encoder.fingerprint) == 64
    # What the harness does in its loader threads is what encode() does, to the bit.
    prepared = torch.stack([encoder.prepare(one) for one in raw])
    assert torch.equal(prepared, torch.stack([encoder.prepare(one) for one in images]))
    assert torch.equal(encoder.encode_prepared(prepared), features)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "random-vit-tiny"])
def test_a_row_does_not_depend_on_its_neighbours(encoders: dict[str, Encoder], name: str) -> None:
    encoder = encoders[name]
    x = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    padded = torch.zeros_like(x)
    padded[:3] = x[:3]
    assert torch.equal(encoder.encode_prepared(padded)[:3], encoder.encode_prepared(x)[:3])


@pytest.mark.parametrize("name", sorted(set(Encoder.__dict__) & {
    "encode", "tokens", "maps", "prepare", "encode_prepared", "shown", "fingerprint",
    "train"}))  # fmt: skip
@pytest.mark.parametrize("through_mixin", [False, True])
def test_sealed_methods_cannot_be_overridden(name: str, through_mixin: bool) -> None:
    body: dict[str, Any] = {name: lambda self, *args: None}
    bases: tuple[type, ...] = (Tiny,)
    if through_mixin:
        bases, body = (type("Mixin", (), body), Tiny), {}
    with pytest.raises(TypeError, match=f"must not override the sealed Encoder.{name}"):
        type("Cheat", bases, body)


def test_it_stays_in_evaluation_mode_whatever_is_tried() -> None:
    encoder = Tiny(name="tiny")
    x = torch.rand(4, 3, 16, 16)
    before = encoder.encode(x)
    encoder.train()
    encoder.network.train()  # behind its back
    assert torch.equal(encoder.encode(x), before)
    assert not encoder.network.training


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"\[B, 3, H, W\]"),
        (torch.zeros(1, 1, 8, 8), r"\[B, 3, H, W\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(0, 3, 8, 8), "at least one"),
        (torch.full((1, 3, 8, 8), 1.01), "got values from 1.01"),
        (torch.full((1, 3, 8, 8), -0.01), "got values from -0.01"),
        (torch.full((1, 3, 8, 8), float("nan")), "nan"),
    ],
)
def test_wrong_images_are_refused(images: Tensor, message: str) -> None:
    encoder = Tiny(name="tiny")
    for call in (encoder.encode, encoder.tokens):
        with pytest.raises(ValueError, match=message):
            call(images)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(8, 8, 3),
    ],
)
def test_prepare_refuses_what_it_would_misread(wrong: Any) -> None:
    with pytest.raises(ValueError, match="an image must be a uint8 array"):
        Tiny(name="tiny").prepare(wrong)


def test_hooks_that_give_the_wrong_shape_or_nothing_finite_are_told() -> None:
    class Map(Tiny):
        def _forward(self, x: Tensor) -> Tensor:
            return x

        def _tokens(self, x: Tensor) -> Tensor:
            return x

    class Nan(Tiny):
        def _forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) * float("nan")

    x = torch.rand(2, 3, 16, 16)
    with pytest.raises(ValueError, match=r"_forward gave shape \(2, 3, 16, 16\)"):
        Map(name="m").encode(x)
    with pytest.raises(ValueError, match=r"_tokens gave shape \(2, 3, 16, 16\)"):
        Map(name="m").tokens(x)
    with pytest.raises(UserError, match="NaN or infinite"):
        Nan(name="n").encode(x)
    with pytest.raises(NotImplementedError, match="model 'tiny' has no patch tokens"):
        Tiny(name="tiny").tokens(x)


def test_fingerprint_sees_weights_pooling_preprocessing_and_name() -> None:
    class Bigger(Tiny):
        input_rule = InputRule(32)

    base = Tiny(name="a")
    assert Tiny(name="a").fingerprint == base.fingerprint
    moved = Tiny(name="a")
    with torch.no_grad():
        next(moved.parameters())[0, 0, 0, 0] += 1e-6
    drifted = Tiny(name="a")
    drifted.network[1].running_mean[0] = 1e-6  # a buffer counts as much as a parameter
    others = [Tiny(name="b"), Tiny(name="a", pooling="max"), Bigger(name="a"), moved, drifted]
    assert len({encoder.fingerprint for encoder in [base, *others]}) == 6


def test_fingerprint_sees_the_version_of_our_wrapper_below_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from model_zoo.controls import Pixels

    class Theirs(Pixels):
        pass

    for wrapper in (Pixels, Theirs):
        before = wrapper(name="x").fingerprint
        with monkeypatch.context() as patch:
            patch.setattr(Pixels, "version", "2")
            assert wrapper(name="x").fingerprint != before


def test_fingerprint_of_a_class_from_a_prompt_is_that_of_its_code() -> None:
    def fingerprint(code: str) -> str:
        space: dict[str, Any] = {"__name__": "nowhere"}
        exec(f"import model_zoo\nclass Here(model_zoo.Encoder):\n    {code}", space)
        wrapper = type("Here", (space["Here"], Tiny), {})
        known: str = wrapper(name="x").fingerprint
        return known

    plain = fingerprint("scale = 1")
    assert fingerprint("scale = 1") == plain
    assert fingerprint("scale = 2") != plain
    assert fingerprint("def _tokens(self, x): return x") != plain


def test_an_untrained_network_is_the_same_each_time_and_draws_from_nobody() -> None:
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    one = Tiny(name="a", weights="random")
    assert torch.equal(torch.rand(1), first)
    assert one.random_weights
    assert not Tiny(name="a").random_weights
    assert Tiny(name="a", weights="random").fingerprint == one.fingerprint


def test_unknown_options_are_told() -> None:
    with pytest.raises(UserError, match="no pooling 'cls'; it has mean, max"):
        Tiny(name="tiny", pooling="cls")
    with pytest.raises(UserError, match="unknown dtype 'int8'; use one of auto, float32"):
        resolve_dtype("int8")
    with pytest.raises(UserError, match=r"device 'gpu' cannot be used .*--device cpu"):
        resolve_device("gpu")
    with pytest.raises(UserError, match="did you mean 'us-jepa'"):
        model_zoo.load("us-jeppa")


def test_dtype_changes_features_but_not_the_fingerprint() -> None:
    half = model_zoo.load("random-vit-tiny", device="cpu", dtype="bfloat16")
    full = model_zoo.load("random-vit-tiny", device="cpu")
    assert half.dtype == torch.bfloat16
    assert half.fingerprint == full.fingerprint
    x = torch.rand(1, 3, 224, 224)
    assert half.encode(x).dtype == torch.float32
    torch.testing.assert_close(half.encode(x), full.encode(x), atol=0.1, rtol=0.1)


def test_every_name_has_a_card_and_no_weights_are_loaded_for_it() -> None:
    for name in model_zoo.names():
        assert model_zoo.card(name.replace("<name>", "resnet18")).title != "not stated"


def test_importing_the_zoo_and_listing_names_imports_no_torch() -> None:
    code = "import model_zoo, sys; model_zoo.names(); print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr


# ---- preprocessing ------------------------------------------------------------------------------


def test_all_256_values_survive_the_way_to_float_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8)
    grid = np.stack([levels.reshape(16, 16)] * 3, axis=2)
    assert np.array_equal(to_uint8(to_float(grid)), grid)
    for divided in (levels / 255, (levels / 255).astype(np.float32), levels / np.float16(255)):
        channels = torch.from_numpy(divided.reshape(1, 16, 16)).expand(3, -1, -1)
        assert np.array_equal(to_uint8(channels), grid)
    # Divided by numpy or by torch, in double or in single: the same float32.
    assert np.array_equal(to_float(grid)[0].numpy().ravel(), (levels / 255).astype(np.float32))


@settings(max_examples=40)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    rule=st.builds(
        InputRule,
        size=st.integers(1, 32),
        interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
        grey=st.booleans(),
        stretch=st.sampled_from([None, (2.0, 98.0)]),
    ),
    seed=st.integers(0, 9),
)
def test_bytes_and_floats_are_prepared_alike(
    height: int, width: int, rule: InputRule, seed: int
) -> None:
    raw = image(height, width, seed)
    prepared = rule.apply(raw)
    assert prepared.shape == (3, rule.size, rule.size)
    assert prepared.dtype == torch.float32
    assert torch.equal(prepared, rule.apply(to_float(raw)))


def test_a_float_image_at_the_right_size_keeps_what_8_bits_would_lose() -> None:
    x = torch.full((3, 4, 4), 0.5001)
    rule = InputRule(4, (0, 0, 0), (1, 1, 1))
    assert torch.equal(rule.apply(x), x)


def test_the_rule_squashes_with_pillow_and_normalises() -> None:
    raw = image(30, 50)
    rule = InputRule(20, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    resized = PIL.Image.fromarray(raw).resize((20, 20), PIL.Image.Resampling.BICUBIC)
    expected = (np.asarray(resized) / 255 - rule.mean) / rule.std
    np.testing.assert_allclose(rule.apply(raw).permute(1, 2, 0), expected, atol=1e-6)


def test_grey_and_stretch() -> None:
    rule = InputRule(8, (0, 0, 0), (1, 1, 1), grey=True, stretch=(0, 100))
    raw = np.zeros((8, 8, 3), np.uint8)
    raw[:4] = (100, 100, 100)
    raw[4:] = (50, 50, 50)
    out = rule.apply(raw)
    assert out[:, :4].eq(1).all()
    assert out[:, 4:].eq(0).all()
    assert rule.apply(np.full((8, 8, 3), 77, np.uint8)).eq(0).all()  # no contrast to stretch
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    red[0, 0] = 255
    assert rule.apply(red).unique(dim=0).shape[0] == 1  # three equal channels
