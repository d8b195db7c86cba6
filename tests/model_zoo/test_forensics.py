"""Each family of faults is found on a small network, and a sound one gives no alarm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import model_zoo
from model_zoo import forensics
from model_zoo.encoder import Encoder
from model_zoo.forensics import features, given, learnt, panel
from model_zoo.forensics.features import Outputs
from model_zoo.vit import VisionTransformer
from ultrabench_eval import loading

WIDTH = 24


class Small(Encoder):
    """Two layers with a batch norm that remembers photographs, as if they had been trained."""

    input_rule = model_zoo.InputRule(64)
    patch_size = 8

    def build(self, weights: Path | str | None) -> nn.Module:
        network: Any = nn.Sequential(
            nn.Conv2d(3, 16, 8, 8), nn.BatchNorm2d(16), nn.Conv2d(16, WIDTH, 3, 1, 1)
        )
        for place in (0, 2):  # training makes some filters stronger than others
            network[place].weight.data *= torch.linspace(
                -1.5, 1.5, len(network[place].weight)
            ).exp()[:, None, None, None]
        rule = model_zoo.InputRule(64)
        x: Tensor = network[0](
            torch.stack([rule.apply(image) for image in panel.leaves()])
        ).detach()
        network[1].running_mean.copy_(x.mean((0, 2, 3)))
        network[1].running_var.copy_(x.var((0, 2, 3)))
        network[1].weight.data.uniform_(0.5, 1.5)
        made: nn.Module = network
        return made

    def _forward(self, x: Tensor) -> Tensor:
        return self._tokens(x).mean(1)

    def _tokens(self, x: Tensor) -> Tensor:
        return torch.relu(self.network(x)).flatten(2).mT


@pytest.fixture
def small() -> Encoder:
    return Small(name="small")


def told(encoder: Encoder) -> list[str]:
    return [clue.family for clue in forensics.examine(encoder).alarms]


def test_a_sound_wrapper_gives_no_alarm(small: Encoder) -> None:
    found = forensics.examine(small)
    assert found.clues == ()
    assert found.looked_at
    assert forensics.quick(small) == []


def plain(encoder: Encoder) -> model_zoo.InputRule:
    assert encoder.input_rule is not None
    return encoder.input_rule


def on_pixels(encoder: Encoder, change: Callable[[Any], np.ndarray]) -> None:
    own = encoder._prepare
    encoder._prepare = lambda image: own(change(image))  # type: ignore[method-assign]


def on_input(encoder: Encoder, change: Callable[[Tensor], Tensor]) -> None:
    own = encoder._tokens
    encoder._tokens = lambda x: own(change(x))  # type: ignore[method-assign]


def column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)


def none_stated(e: Encoder) -> None:
    e.input_rule = replace(plain(e), mean=(0.0,) * 3, std=(1.0,) * 3)


def another_stated(e: Encoder) -> None:
    e.input_rule = replace(plain(e), mean=(0.5,) * 3, std=(0.5,) * 3)


def of_255_stated(e: Encoder) -> None:
    e.input_rule = replace(plain(e), mean=(124.0, 116, 104), std=(58.0, 57, 57))


def undone(e: Encoder) -> None:
    on_input(e, lambda x: x * column(plain(e).std) + column(plain(e).mean))


def twice(e: Encoder) -> None:
    on_input(e, lambda x: (x - column(plain(e).mean)) / column(plain(e).std))


def bgr(e: Encoder) -> None:
    on_input(e, lambda x: x.flip(1))


def bgr_pixels(e: Encoder) -> None:
    on_pixels(e, lambda image: image[..., ::-1].copy())


def pixels_of_255(e: Encoder) -> None:
    on_input(e, lambda x: 255 * (x * column(plain(e).std) + column(plain(e).mean)))


def middle(e: Encoder) -> None:
    on_pixels(e, given._square)


def thumbnail(e: Encoder) -> None:
    on_pixels(e, given._small(48))


def swapped_sides(e: Encoder) -> None:
    on_pixels(e, lambda image: image.reshape(image.shape[1], image.shape[0], 3))


@pytest.mark.parametrize(
    ("fault", "family", "sure"),
    [
        (none_stated, "normalisation-missing", "likely"),
        (another_stated, "normalisation-other", "likely"),
        (of_255_stated, "value-range", "certain"),
        (undone, "normalisation-missing", "certain"),
        (twice, "normalisation-double", "certain"),
        (bgr, "channel-order", "likely"),
        (bgr_pixels, "channel-order", "likely"),
        (pixels_of_255, "value-range", "certain"),
        (middle, "resize-rule", "certain"),
        (swapped_sides, "resize-rule", "certain"),
        (thumbnail, "interpolation", "certain"),
    ],
)
def test_another_input_than_the_right_one_is_named(
    small: Encoder, fault: Callable[[Encoder], None], family: str, sure: str
) -> None:
    fault(small)
    clues = forensics.quick(small)
    assert [(clue.family, clue.sure) for clue in clues][:1] == [(family, sure)]
    assert clues[0].saw
    assert clues[0].change


def test_a_crop_is_measured(small: Encoder) -> None:
    on_pixels(small, given._kept(0.8))
    assert "the middle 80 % of each side" in forensics.quick(small)[0].saw


def test_a_normalisation_in_the_code_is_no_fault_where_the_rule_leaves_it_out() -> None:
    class Inside(Small):
        input_rule = model_zoo.InputRule(64, (0.0,) * 3, (1.0,) * 3)

        def _tokens(self, x: Tensor) -> Tensor:
            rule = model_zoo.InputRule(64)
            return super()._tokens((x - column(rule.mean)) / column(rule.std))

    assert forensics.examine(Inside(name="inside")).clues == ()


def test_padding_is_no_fault_where_the_rule_says_so(small: Encoder) -> None:
    for grey in (False, True):
        small.input_rule = replace(plain(small), fit="pad", grey=grey)
        assert given.look(small, panel.leaves()[:2]) == []


def test_layers_that_were_not_loaded_are_found(small: Encoder) -> None:
    network: Any = small.network
    network[2].reset_parameters()
    (clue,) = learnt.untrained(small, {"network.0", "network.1", "network.2"})
    assert clue.family == "initial-values"
    assert "network" not in clue.saw
    assert "2.weight" in clue.saw


def test_a_norm_that_remembers_nothing_is_found(small: Encoder) -> None:
    network: Any = small.network
    network[1].reset_parameters()
    assert told(small)[0] == "initial-values"


def test_a_network_that_was_meant_to_be_random_gives_no_alarm() -> None:
    encoder = model_zoo.load("random-vit-tiny", device="cpu")
    assert learnt.untrained(encoder, {name for name, _ in encoder.named_modules()}) == []


class Attending(Encoder):
    """A vision transformer whose heads differ in strength, as trained ones do."""

    input_rule = model_zoo.InputRule(32)
    heads = 4

    def build(self, weights: Path | str | None) -> nn.Module:
        network = VisionTransformer(32, 16, 64, 4, self.heads)
        block: Any
        for number, block in enumerate(network.blocks):
            by_head = torch.tensor([0.2, 0.5, -0.1, -0.6]).roll(number).exp().repeat_interleave(16)
            block.attn.qkv.weight.data *= by_head.repeat(3)[:, None]
        return network

    def _forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.network(x)
        return tokens.mean(1)


def test_another_number_of_heads_is_named() -> None:
    encoder = Attending(name="attending")
    assert learnt.heads(encoder) == []
    module: Any
    for stated in (1, 2, 8):
        for module in encoder.modules():
            if module is not encoder and hasattr(module, "heads"):
                module.heads = stated
        (clue,) = learnt.heads(encoder)
        assert clue.family == "heads"
        assert "4 heads" in clue.change


def test_heads_of_an_untrained_network_are_not_judged() -> None:
    encoder = model_zoo.load("random-vit-tiny", device="cpu")
    module: Any
    for module in encoder.modules():
        if isinstance(getattr(module, "heads", None), int):
            module.heads = 6
    assert learnt.heads(encoder) == []


def test_two_passes_that_differ_are_told_from_a_norm_over_the_batch(small: Encoder) -> None:
    own = small._forward
    small._forward = lambda x: nn.functional.dropout(own(x), 0.1)  # type: ignore[method-assign]
    (clue,) = forensics.examine(small).clues
    assert clue.family == "two-passes"
    assert "dropout" in clue.change
    small._forward = lambda x: own(x) - own(x).mean(0)  # type: ignore[method-assign]
    (clue,) = forensics.examine(small).clues
    assert clue.family == "two-passes"
    assert "over the batch" in clue.change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f * (torch.arange(WIDTH) % 2), "50% of 24 dimensions are zero"),
        (lambda f: torch.where(torch.arange(WIDTH) < 16, 1.0, f), "67% of 24 dimensions are con"),
        (lambda f: f[:, torch.arange(WIDTH) // 3], "67% of the moving dimensions are copies"),
        (lambda f: f[:, :2] @ torch.rand(2, WIDTH, dtype=f.dtype), "span 2"),
        (lambda f: (f > f.median()).double(), "take 2 values"),
    ],
)
def test_dimensions_that_tell_nothing_are_counted(
    change: Callable[[Tensor], Tensor], words: str
) -> None:
    drawn = torch.from_numpy(np.random.default_rng(0).standard_normal((16, WIDTH)))
    assert features.dimensions(drawn) == []
    assert any(words in clue.saw for clue in features.dimensions(change(drawn)))


def test_features_of_brightness_or_size_alone_are_found(small: Encoder) -> None:
    on_pixels(small, lambda image: np.full_like(image, round(float(image.mean()))))
    assert told(small)[0] == "size-brightness"


@pytest.mark.parametrize(
    ("pool", "words"),
    [
        (lambda tokens: tokens[:, 0], "one place (number 0 of 9)"),
        (lambda tokens: tokens.amax(1), "the largest value"),
        (lambda tokens: tokens.mean(2), "a mean over the width"),
    ],
)
def test_wrong_poolings_are_named(pool: Callable[[Tensor], Tensor], words: str) -> None:
    tokens = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 9, WIDTH)))
    assert features.pooling(Outputs(tokens.mean(1), tokens, None)) == []
    (clue,) = features.pooling(Outputs(pool(tokens), tokens, None))
    assert clue.family == "pooling"
    assert words in clue.saw


def test_one_token_under_an_attentive_probe_is_found(small: Encoder) -> None:
    tokens = features.outputs(small, panel.leaves()[:2]).tokens
    assert tokens is not None
    assert features.one_token(tokens) == []
    (clue,) = features.one_token(tokens.mean(1, keepdim=True))
    assert "one token" in clue.saw
    (clue,) = features.one_token(tokens.mean(1, keepdim=True).expand_as(tokens))
    assert "all the same" in clue.saw


def test_a_run_tells_what_it_sees_of_a_wrapper(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(Small):
        input_rule = model_zoo.InputRule(64, (0.0,) * 3, (1.0,) * 3)

    monkeypatch.setattr(model_zoo.registry, "get", lambda name: Wrong)
    monkeypatch.setattr(model_zoo, "problem", lambda name: None)
    (sentence,) = loading.Model("wrong", None, "cpu", "float32").alarms
    assert "normalisation-missing" in sentence
    assert "ubench models wrong --check" in sentence
