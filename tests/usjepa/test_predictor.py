"""Encoder on lists of patches, predictor and loss: the official figures, and padding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_teacher import MODEL, scrambled
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from model_zoo.transforms import InputRule
from model_zoo.verify import by_rule
from usjepa.config import ModelSettings
from usjepa.objective import jepa_loss
from usjepa.predictor import Predictor
from usjepa.student import ImageStudent

TOLERANCE = 1e-5  # the reference allows 2e-5


def fill(network: nn.Module, keys: list[dict[str, Any]]) -> None:
    """Load by name exactly what the official checkpoint holds, filled by the reference's rule."""
    network.load_state_dict(
        {row["key"].removeprefix("module."): by_rule(row["key"], row["shape"]) for row in keys}
    )


@pytest.fixture(scope="module")
def reference(shared: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    folder = shared / "conformance" / "ijepa-vitb16"
    with np.load(folder / "expected.npz") as arrays:
        expected = {key: torch.from_numpy(np.asarray(value)) for key, value in arrays.items()}
    return json.loads((folder / "keys.json").read_text()), expected


@pytest.mark.shared
@pytest.mark.slow
@torch.no_grad()
def test_student_predictor_and_loss_are_the_official_ones(
    reference: tuple[dict[str, Any], dict[str, Tensor]],
) -> None:
    keys, expected = reference
    student, predictor = ImageStudent(ModelSettings()), Predictor(14, 768, 768)
    fill(student, keys["target_encoder_keys"])
    fill(predictor, keys["predictor_keys"])
    seed = int(expected["input_seed"])
    images = np.random.Generator(np.random.PCG64(seed)).random((2, 3, 224, 224))
    rule = InputRule(224)
    x = torch.from_numpy(images.astype(np.float32))
    x = (x - torch.tensor(rule.mean).view(3, 1, 1)) / torch.tensor(rule.std).view(3, 1, 1)

    tokens = student(x)
    close(tokens[:, expected["token_index"]], expected["patch_tokens"])
    context_index = expected["context_index"].expand(2, -1)
    context = student.visible(x, context_index)
    close(context.mean(1), expected["context_tokens_mean"])
    targets = expected["target_index"].expand(2, -1, -1)
    predicted = predictor(context, context_index, targets)
    close(predicted.transpose(0, 1), expected["predicted"])  # the reference has blocks first
    wanted = layer_norm(tokens, (768,))
    wanted = torch.stack([wanted[:, rows] for rows in expected["target_index"]], dim=1)
    close(jepa_loss(predicted, wanted), expected["smooth_l1_to_layernormed_own_output"])

    # The same again with padding in both lists, and the numbers do not move.
    longer = torch.cat([context_index, torch.arange(7).expand(2, -1)], dim=1)
    real = torch.arange(longer.shape[1]).expand(2, -1) < context_index.shape[1]
    context = student.visible(x, longer, real)
    more = torch.cat([targets, targets[..., :3]], dim=-1)
    more_real = (torch.arange(more.shape[-1]) < targets.shape[-1]).expand(more.shape)
    predicted = predictor(context, longer, more, real, more_real)[:, :, : targets.shape[-1]]
    close(predicted.transpose(0, 1), expected["predicted"])


def close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= TOLERANCE


@pytest.mark.parametrize("class_token", [False, True])
def test_padding_changes_no_visible_token(class_token: bool) -> None:
    student = ImageStudent(ModelSettings(32, 8, 24, 3, 2, class_token))
    scrambled(student)
    images = torch.randn(2, 3, 32, 32)
    lists = [[1, 4, 5, 9, 15], [0, 7]]
    index = torch.tensor([lists[0], [0, 7, 0, 0, 0]])
    real = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    tokens = student.visible(images, index, real)
    for row, (image, numbers) in enumerate(zip(images, lists, strict=True)):
        alone = student.visible(image[None], torch.tensor([numbers]))
        torch.testing.assert_close(tokens[row, : len(numbers)], alone[0], atol=1e-5, rtol=1e-5)


def test_visible_tokens_know_nothing_of_hidden_pixels() -> None:
    student = ImageStudent(MODEL)
    scrambled(student)
    images = torch.randn(1, 3, 32, 32)
    other = images.clone()
    other[:, :, :, 16:] += 1  # patches 2, 3, 6, 7, ...
    index = torch.tensor([[0, 1, 4, 5, 13]])
    assert torch.equal(student.visible(images, index), student.visible(other, index))
    assert not torch.equal(student(images), student(other))


def test_predictor_equals_a_plain_loop_over_blocks() -> None:
    predictor = Predictor(grid=4, student_width=24, target_width=10, depth=2, width=16, heads=2)
    scrambled(predictor)
    context = torch.randn(2, 5, 24)
    seen = [[0, 3, 4, 8, 12], [1, 2, 5]]
    blocks = [[[1, 2, 5], [6, 7, 10]], [[14], [0, 3]]]
    seen_index = torch.tensor([seen[0], [1, 2, 5, 1, 1]])
    seen_real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    targets = torch.tensor([blocks[0], [[14, 14, 14], [0, 3, 0]]])
    real = torch.tensor([[[True] * 3] * 2, [[True, False, False], [True, True, False]]])
    found = predictor(context, seen_index, targets, seen_real, real)
    assert found.shape == (2, 2, 3, 10)

    table = predictor.predictor_pos_embed[0]
    for image in range(2):
        for block in range(2):
            numbers, visible = blocks[image][block], seen[image]
            tokens = predictor.predictor_embed(context[image, : len(visible)]) + table[visible]
            asked = predictor.mask_token[0].expand(len(numbers), -1) + table[numbers]
            x = torch.cat([tokens, asked])[None]
            for layer in predictor.predictor_blocks:
                x = layer(x)
            alone = predictor.predictor_proj(predictor.predictor_norm(x))[0, len(visible) :]
            torch.testing.assert_close(
                found[image, block, : len(numbers)], alone, atol=1e-5, rtol=1e-5
            )


def test_only_the_context_may_be_padded() -> None:
    predictor = Predictor(4, 24, 10, 2, 16, 2)
    context, index = torch.randn(1, 3, 24), torch.tensor([[0, 1, 0]])
    targets = torch.tensor([[[5, 6]]])
    real = torch.tensor([[True, True, False]])
    padded = predictor(context, index, targets, context_real=real)
    alone = predictor(context[:, :2], index[:, :2], targets)
    torch.testing.assert_close(padded, alone, atol=1e-6, rtol=1e-5)


def test_the_position_table_is_not_trained() -> None:
    frozen = {name for name, p in Predictor(4, 24, 10).named_parameters() if not p.requires_grad}
    assert frozen == {"predictor_pos_embed"}


def test_padding_works_in_bfloat16() -> None:
    student, predictor = ImageStudent(MODEL), Predictor(4, 24, 10, 2, 16, 2)
    images = torch.randn(2, 3, 32, 32)
    index = torch.tensor([[0, 1, 5], [2, 2, 2]])
    real = torch.tensor([[True] * 3, [True, False, False]])
    targets = torch.tensor([[[8, 9]], [[10, 10]]])
    with torch.autocast("cpu", torch.bfloat16):
        context = student.visible(images, index, real)
        predicted = predictor(
            context, index, targets, real, torch.tensor([[[True, True]], [[True, False]]])
        )
    assert predicted[0].isfinite().all()
    exact = predictor(student.visible(images, index, real), index, targets, real)
    torch.testing.assert_close(predicted[0].float(), exact[0], atol=0.02, rtol=0.05)
