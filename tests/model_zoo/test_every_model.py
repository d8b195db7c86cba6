"""One contract, every registered encoder.

Deep networks are cut to a few blocks, wide ones to a few heads and big inputs to small ones, for
their time: the contract holds at any depth, width and size.
"""

from __future__ import annotations

import dataclasses
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

import model_zoo
from model_zoo import (
    biomedclip,
    dinov3,
    echocare,
    echoclip,
    fetalclip,
    panecho,
    released,
    sam,
    samus,
    usfm,
    vit,
)
from model_zoo.encoder import Encoder
from model_zoo.transforms import to_float
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.features import encode_batch

ALL = [
    name
    for name in model_zoo.names()
    if not (name.endswith("<name>") or model_zoo.card(name).unavailable)
]
# Of images; those of clips are in test_clip_encoders.py.
NAMES = [name for name in ALL if model_zoo.registry.get(name).takes == "image"] + [
    "timm/test_vit",
    "timm/test_resnet",
    "usfm/cls",
]


def picture(seed: int) -> np.ndarray:
    """Coarse shapes, uint8 [60, 90, 3]."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    resized = PIL.Image.fromarray(noise).resize((90, 60), PIL.Image.Resampling.BICUBIC)
    return np.asarray(resized)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, shallow: None) -> Callable[..., Encoder]:
    narrow(monkeypatch)
    monkeypatch.setattr(sam, "DEPTH", 3)  # the third has global attention
    monkeypatch.setattr(sam.SAMNetwork, "grid", 16)
    monkeypatch.setattr(echocare, "_DEPTHS", (2, 2, 2, 2))
    monkeypatch.setattr(echoclip, "_DEPTHS", (1, 1, 1, 1))
    monkeypatch.setattr(panecho, "_DEPTHS", (1, 1, 1, 1))
    for model in (
        *(Encoder, samus.SAMUS, echocare.EchoCare, echoclip.EchoCLIP, fetalclip.FetalCLIP),
    ):
        monkeypatch.setattr(model, "batch_size", 2)
    for name, size in (("sam", 256), ("ultrasam", 256), ("echocare", 64)):
        model = model_zoo.registry.get(name)
        smaller = dataclasses.replace(model.input_rule, size=size)
        monkeypatch.setattr(model, "input_rule", smaller)

    def loaded(name: str, **options: str) -> Encoder:
        # Untrained, this one's values fade to denormal numbers, which take ten times as long.
        weights = None if name.startswith("efficientnet") else "random"
        return model_zoo.load(name, weights, "cpu", **{"dtype": "float32", **options})

    return loaded


def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two heads of 64 channels, as the released networks have twelve."""
    plain = vit.VisionTransformer.__init__

    def two_heads(*args: Any, **options: Any) -> None:
        bound = inspect.signature(plain).bind(*args, **options)
        if not isinstance(args[0], biomedclip.ProjectedViT):  # its projection is from 768
            bound.arguments |= {"width": 128, "heads": 2}
        plain(*bound.args, **bound.kwargs)

    monkeypatch.setattr(vit.VisionTransformer, "__init__", two_heads)
    for module, width, heads in ((dinov3, "_WIDTH", "_HEADS"), (sam, "WIDTH", "HEADS"),
                                 (usfm.RelativePositionViT, "width", "heads"),
                                 (fetalclip.CLIPViT, "width", "heads")):  # fmt: skip
        monkeypatch.setattr(module, width, 128)
        monkeypatch.setattr(module, heads, 2)
    cnn = samus.CNN

    def branch(widths: tuple[int, ...], first: int | None = None) -> nn.Module:
        return cnn((16, 32, 64, 128) if first else widths, first)

    monkeypatch.setattr(samus, "CNN", branch)
    monkeypatch.setattr(echocare, "_WIDTH", 32)
    monkeypatch.setattr(echocare, "_HEADS", (1, 2, 4, 8))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_contract(load: Callable[..., Encoder], name: str) -> None:
    encoder = load(name)
    raw = [picture(seed) for seed in range(3)]
    images = torch.stack([to_float(one) for one in raw])
    features = encoder.encode(images[:2])

    assert features.shape == (2, encoder.dim)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()
    assert not features.requires_grad
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    if encoder.card.status != "control":  # which may see no difference between these two
        assert not torch.equal(features[0], features[1])
    # The same again, from an encoder loaded a second time.
    again = load(name)
    assert again.fingerprint == encoder.fingerprint
    assert torch.equal(again.encode(images[:2]), features)
    # What the harness does in its loader threads is what encode() does, to the bit.
    prepared = [encoder.prepare(one) for one in raw]
    assert all(
        torch.equal(one, encoder.prepare(image))
        for one, image in zip(prepared, images, strict=True)
    )
    # A row depends on its image alone, not on what fills up the batch.
    size = encoder.batch_size
    full = encode_batch(encoder, (prepared * size)[:size])
    assert torch.equal(encode_batch(encoder, prepared[:1])[0], full[0])
    # Half precision comes out as float32, near enough.
    half = load(name, dtype="bfloat16")
    assert half.fingerprint == encoder.fingerprint
    rounded = half.encode(images[:1])
    assert rounded.dtype == torch.float32
    if name != "border":  # to it, these pictures without a screen are all zero
        assert torch.cosine_similarity(rounded, features[:1]).min() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_tokens_and_poolings(load: Callable[..., Encoder], name: str) -> None:
    encoder = load(name)
    images = to_float(picture(5))[None]
    try:
        tokens = encoder.tokens(images)
    except NotImplementedError:
        assert encoder.patch_size is None
    else:
        assert tokens.ndim == 3
        assert torch.isfinite(tokens).all()
        if encoder.patch_size:
            assert tokens.shape[1] == (encoder.input_size // encoder.patch_size) ** 2
    prints = {}
    for pooling in encoder.poolings:
        try:
            variant = load(f"{encoder.name}/{pooling}")
        except UserError:
            assert name.startswith("timm/")  # not every network of a family has every pooling
            continue
        assert variant.pooling == pooling
        assert variant.name == encoder.name
        assert variant.encode(images).shape == (1, variant.dim)
        prints[pooling] = variant.fingerprint
    assert len(set(prints.values())) == len(prints)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_fingerprint_sees_weights_and_preprocessing(
    load: Callable[..., Encoder], name: str
) -> None:
    encoder = load(name)
    if encoder.input_rule is not None:
        moved = load(name)
        mean = (encoder.input_rule.mean[0] + 0.01, *encoder.input_rule.mean[1:])
        moved.input_rule = dataclasses.replace(encoder.input_rule, mean=mean)
        del moved.__dict__["fingerprint"]
        assert moved.fingerprint != encoder.fingerprint
    trained = load(name)
    parameter = next(trained.parameters(), None)
    if parameter is not None:
        with torch.no_grad():
            parameter[(0,) * parameter.ndim] += 1e-6
        del trained.__dict__["fingerprint"], trained.__dict__["weights_digest"]
        assert trained.fingerprint != encoder.fingerprint


@pytest.mark.parametrize("name", ALL)
def test_the_card_counts_right(name: str) -> None:
    model = model_zoo.registry.get(name)
    card = model_zoo.card(name)
    assert card.parameters is not None
    assert card.dim is not None
    if issubclass(model, released.ReleasedEncoder):
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numbers are drawn for tensors without any
            network = model.make(object.__new__(model))
        assert sum(parameter.numel() for parameter in network.parameters()) == card.parameters
    else:
        encoder = model_zoo.load(name, "random", "cpu")
        assert (encoder.parameter_count, encoder.dim) == (card.parameters, card.dim)


class Shallow(Encoder):
    """Little for a compiler to do."""

    input_rule = model_zoo.InputRule(size=16)

    def build(self, weights: object) -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 8, 8), torch.nn.GELU(), torch.nn.Flatten())

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network(x)
        return features


@pytest.mark.slow
def test_compiled_features_are_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.cpp.vec_isa_ok", True)  # no trial compilations
    model_zoo.register("shallow")(Shallow)
    try:
        plain = model_zoo.load("shallow", "random", "cpu", "float32")
        quick = model_zoo.load("shallow", "random", "cpu", "float32", compile=True)
    finally:
        model_zoo.registry.remove("shallow")
    assert quick.compiled
    assert quick.fingerprint == plain.fingerprint
    images = to_float(picture(1))[None]
    torch.testing.assert_close(quick.encode(images), plain.encode(images), atol=1e-4, rtol=1e-4)
