"""The frozen teacher gives what the zoo gives, and says in a sentence when it does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_teacher import SmallViT, small
from torch import Tensor, nn
from torch.nn.functional import interpolate

import model_zoo
from model_zoo.encoder import Encoder
from model_zoo.transforms import InputRule
from ultrabench_eval.core.errors import UserError
from usjepa import config, teacher
from usjepa.teacher import FrozenTeacher


class NoTokens(Encoder):
    input_rule = InputRule(32)

    def build(self, weights: Path | str | None) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 8))

    def _forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.network(x)
        return features


@pytest.mark.parametrize(
    ("rule", "size"),
    [
        ({}, 32),
        ({}, 40),
        ({"grey": True}, 32),
        ({"fit": "pad", "padding": "black"}, 32),
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_tokens_are_the_encoders_own(rule: dict[str, Any], size: int, grey: bool) -> None:
    encoder = small()
    encoder.input_rule = InputRule(32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), **rule)
    images = torch.rand(3, 3, size, size)
    if grey:
        images = images[:, :1].repeat(1, 3, 1, 1)
    tokens = FrozenTeacher(encoder)(images)
    assert torch.equal(tokens, encoder.tokens(images))
    assert not tokens.is_inference()
    assert not tokens.requires_grad


def test_a_layer_is_what_that_part_gives() -> None:
    encoder = small()
    images = torch.rand(3, 3, 32, 32)
    blocks: list[Tensor] = []
    with torch.no_grad():
        x = torch.stack([encoder.prepare(image) for image in images])
        encoder.network.unnormed(x, each=lambda tokens: blocks.append(tokens[:, 1:]))  # type: ignore[operator]
    found = FrozenTeacher(encoder, ["blocks.1"])(images)
    torch.testing.assert_close(found, blocks[1])
    assert not encoder.network.get_submodule("blocks.1")._forward_hooks


def test_a_feature_map_becomes_tokens_in_raster_order() -> None:
    encoder = model_zoo.load("efficientnet-lite0", "random", "cpu", "float32")
    images = torch.rand(5, 3, 224, 224)  # more than go through together
    teaching = FrozenTeacher(encoder, ["_blocks.10"])
    tokens = teaching(images)
    assert tokens.shape == (5, 196, 112)
    assert teaching.check(224, 14) == 112
    # A corner of the image changes its own corner of the map, not another.
    images[:, :, :16, -16:] = 0
    moved = (teaching(images) - tokens).abs().sum((0, 2)).reshape(14, 14)
    assert moved[0, -1] > 0
    assert moved[-1, 0] == moved[-1, -1] == 0


def test_layers_stand_side_by_side_and_smaller_maps_are_enlarged() -> None:
    encoder = model_zoo.load("efficientnet-lite0", "random", "cpu", "float32")
    images = torch.rand(5, 3, 224, 224)
    small_map, large_map = "_blocks.12", "_blocks.10"
    both = FrozenTeacher(encoder, [small_map, large_map], enlarge_to=14)
    tokens = both(images)
    assert both.widths == (192, 112)
    assert torch.equal(tokens[..., 192:], FrozenTeacher(encoder, [large_map])(images))
    coarse = FrozenTeacher(encoder, [small_map])(images).transpose(1, 2).reshape(5, 192, 7, 7)
    wanted = interpolate(coarse, (14, 14), mode="bilinear").flatten(2).transpose(1, 2)
    assert torch.equal(tokens[..., :192], wanted)
    with pytest.raises(UserError, match=r"_blocks.12 49, _blocks.10 196\); .*teacher.enlarge"):
        FrozenTeacher(encoder, [small_map, large_map])(images)
    with pytest.raises(UserError, match=r"49 vectors .* 14 x 14 patches.*set teacher.enlarge"):
        FrozenTeacher(encoder, [small_map]).check(224, 14)


def test_a_network_is_run_no_further_than_needed() -> None:
    encoder = small()
    with torch.no_grad():
        for parameter in encoder.network.blocks[2].parameters():  # type: ignore[index]
            parameter.fill_(torch.nan)
    found = FrozenTeacher(encoder, ["blocks.0", "blocks.1"])(torch.rand(3, 3, 32, 32))
    assert found.isfinite().all()


def test_frames_are_not_stretched_again() -> None:
    encoder = small()
    images = torch.rand(3, 1, 32, 32).expand(-1, 3, -1, -1)
    plain = FrozenTeacher(encoder)(images)
    encoder.input_rule = InputRule(
        32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), grey=True, stretch=(2, 98)
    )
    assert torch.equal(FrozenTeacher(encoder)(images), plain)


def test_what_does_not_fit_is_told() -> None:
    fitting = FrozenTeacher(small())
    assert fitting.check(32, 4) == fitting.check(32, 4, 20) == 20
    with pytest.raises(UserError, match=r"'small' gives 16 vectors .* 8 x 8 patches"):
        fitting.check(32, 8)
    with pytest.raises(UserError, match=r"'small' is 20 wide, but predictor.target_width is 768"):
        fitting.check(32, 4, 768)
    with pytest.raises(UserError, match=r"no part 'layers.3' \(teacher.layers\).*blocks"):
        FrozenTeacher(small(), ["layers.3"])
    without = NoTokens(name="flat", weights="random")
    with pytest.raises(UserError, match="'flat' has no patch tokens"):
        FrozenTeacher(without).check(32, 4)
    with pytest.raises(UserError, match=r"part '1' of teacher 'flat' gives \(1, 8\)"):
        FrozenTeacher(without, ["1"]).check(32, 4)


def test_teachers_are_loaded_by_name() -> None:
    loaded = teacher.load(config.Teacher(name="random-vit-tiny", weights="random"), "cpu", 14)
    assert loaded(torch.zeros(1, 3, 224, 224)).shape == (1, 196, 192)
    with pytest.raises(UserError, match="unknown model 'urfmm'; did you mean 'urfm'"):
        teacher.load(config.Teacher(name="urfmm"), "cpu", 14)


def test_the_small_teacher_is_an_encoder() -> None:
    assert isinstance(small(), SmallViT)
    assert small().dim == 20
