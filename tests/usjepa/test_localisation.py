"""The localisation loss against figures of its definition, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import config

from model_zoo.verify import by_rule
from usjepa import loader, objective
from usjepa.config import LocalisationSettings
from usjepa.localisation import Localisation, offsets


def filled(head: Localisation, name: str) -> Localisation:
    shapes = {key: list(value.shape) for key, value in head.state_dict().items()}
    head.load_state_dict({key: by_rule(f"{name}.{key}", shape) for key, shape in shapes.items()})
    return head


@pytest.fixture(scope="module")
def expected(shared: Path) -> dict[str, Any]:
    with np.load(shared / "conformance/drloc/expected.npz") as arrays:
        return dict(arrays)


@pytest.mark.shared
def test_the_loss_of_clips_is_as_the_paper_defines_it(expected: dict[str, Any]) -> None:
    grid = (4, 6, 4)
    generator = np.random.Generator(np.random.PCG64(20260223))
    tokens = torch.from_numpy(generator.standard_normal((2, 96, 24)).astype(np.float32))
    tokens.requires_grad_(True)
    pairs = torch.from_numpy(
        np.stack([expected["loc3d_first_index"], expected["loc3d_second_index"]], axis=1)
    ).long()
    head = filled(Localisation(LocalisationSettings(), 24, grid), "loc3d")
    found = head(tokens, torch.arange(96).expand(2, -1), pairs)
    torch.autograd.backward(found.loss)
    true = offsets(pairs[:, 0], pairs[:, 1], grid)
    np.testing.assert_allclose(true, expected["loc3d_target"], atol=1e-6)
    assert float(found.loss.detach()) == pytest.approx(float(expected["loc3d_loss"]), abs=1e-6)
    constant = float(expected["loc3d_constant_loss"])
    assert float(found.constant) == pytest.approx(constant, abs=1e-6)
    assert tokens.grad is not None
    np.testing.assert_allclose(tokens.grad, expected["loc3d_token_grad"], atol=1e-6)


@pytest.mark.shared
@pytest.mark.parametrize("signed", [True, False])
def test_the_head_and_the_other_distance_are_drlocs(expected: dict[str, Any], signed: bool) -> None:
    name = f"l1_{'signed' if signed else 'abs'}"
    settings = LocalisationSettings(distance="absolute", signed=signed)
    head = filled(Localisation(settings, 24, (7, 7)), f"drloc.{name}")
    features = np.random.Generator(np.random.PCG64(20260222)).standard_normal((2, 24, 7, 7))
    tokens = torch.from_numpy(features.astype(np.float32)).flatten(2).transpose(1, 2)
    points = [torch.from_numpy(expected[f"{which}_points"]).long() for which in ("first", "second")]
    first, second = (tokens[torch.arange(2)[:, None], 7 * p[..., 0] + p[..., 1]] for p in points)
    told = head.layers(torch.cat([first, second], dim=-1)).flatten(0, 1)
    np.testing.assert_allclose(told.detach(), expected[f"{name}_predicted"], atol=1e-5)
    true = torch.from_numpy(expected[f"{name}_target"]).float()
    loss = float(head.distance(told, true).detach())
    assert loss == pytest.approx(float(expected[f"{name}_loss"]), abs=1e-5)
    way = (points[0] - points[1]) / 7  # ours are shares of the grid
    ours = offsets(*(7 * p[..., 0] + p[..., 1] for p in points), (7, 7))
    torch.testing.assert_close(ours, way)


def test_pairs_are_drawn_among_real_places_and_follow_from_the_step() -> None:
    settings = config(
        region_conditioning=True,
        model={"image_size": 64},
        masks={"targets": "pad"},
        localisation={"pairs": 500},
    )
    region = torch.ones(3, 8, 8, dtype=torch.bool)
    region[0, :, 1:] = False
    sampler = loader.sampler_of(settings)
    (one,) = sampler.sample(3, 0, region=region).kinds
    assert one.targets_real is not None
    assert one.pairs is not None
    real = one.targets_real.flatten(1)
    for clip in range(3):
        assert sorted(one.pairs[clip].unique().tolist()) == real[clip].nonzero()[:, 0].tolist()
    (again,) = sampler.sample(3, 0, region=region).kinds
    (later,) = sampler.sample(3, 1, region=region).kinds
    assert torch.equal(one.pairs, again.pairs)  # type: ignore[arg-type]
    assert later.pairs is not None
    assert not torch.equal(one.pairs, later.pairs)


@pytest.mark.parametrize("tokens", ["predicted", "context"])
def test_stills_can_carry_it_too_and_both_losses_are_told(tokens: str) -> None:
    plain = config(masks={"context": "truncate"})
    carrying = config(
        masks={"context": "truncate"}, localisation={"weight": 0.25, "tokens": tokens}
    )
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    losses = {}
    for settings in (plain, carrying):
        target = objective.build(settings)
        drawn = loader.sampler_of(settings).sample(4, 0)
        loss, logs = target.loss(images, drawn)
        torch.autograd.backward(loss)
        losses[settings] = float(loss.detach()), {k: float(v) for k, v in logs.items()}
    alone, (total, parts) = losses[plain][0], losses[carrying]
    assert parts["jepa_loss"] == pytest.approx(alone)
    told = parts["localisation_loss"]
    assert total == pytest.approx(0.25 * alone + 0.75 * told)
    assert told == pytest.approx(parts["localisation_of_zeros"], rel=0.5)
    heads = [one.grad for name, one in target.named_parameters() if "localisation" in name]
    assert len(heads) == 6
    assert all(grad is not None and grad.abs().sum() > 0 for grad in heads)


def test_without_weight_it_is_not_there() -> None:
    plain, carrying = config(), config(localisation={"weight": 1.0})
    assert plain.id == carrying.id
    assert plain.plain() == carrying.plain()
    assert [name for name, _ in objective.build(plain).named_parameters()] == [
        name for name, _ in objective.build(carrying).named_parameters()
    ]


def test_the_rest_starts_alike_with_the_head() -> None:
    states = [objective.build(config(**one)).state_dict() for one in ({}, {"localisation": {}})]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert len(states[1]) == len(states[0]) + 6
