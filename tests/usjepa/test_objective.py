"""The three objectives: what they minimise, what they may change, and that they are one kind."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from small_teacher import MODEL, scrambled, small
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from ultrabench_eval.core.errors import UserError
from usjepa import config, masks, objective
from usjepa.config import Blocks, Config, Decoder, PredictorSettings
from usjepa.masks import Masks
from usjepa.objective import EMAJEPA, MAE, SALT, Objective, jepa_loss, optimiser_groups, patches
from usjepa.student import ImageStudent
from usjepa.teacher import FrozenTeacher

KINDS = ("salt", "ijepa", "mae")
BLOCKS = Blocks(
    target_count=2, target_scale=(0.2, 0.4), min_keep=1, cover_edges=True, context="pad"
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Such small networks take many times as long when threads wait for each other."""
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


def settings(kind: str, **more: object) -> Config:
    given: dict[str, object] = {
        "name": "small",
        "objective": kind,
        "model": MODEL,
        "predictor": PredictorSettings(depth=2, width=16, heads=2),
        "decoder": Decoder(depth=2, width=16, heads=2),
        "masks": BLOCKS,
    }
    return config.validate(given | more)


def made(kind: str, **more: object) -> Objective:
    return objective.build(settings(kind, **more), FrozenTeacher(small()))


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def drawn(kind: str, count: int = 4, region: Tensor | None = None) -> Masks:
    return masks.build(settings(kind)).sample(count, 0, region=region)


def half() -> Tensor:
    """Regions of different sizes, so that lists are padded."""
    region = torch.ones(4, 4, 4, dtype=torch.bool)
    region[0, :, 2:] = region[1, 3:] = False
    return region


def step(target: Objective, masked: Masks, rate: float = 1e-2) -> None:
    """An optimiser step over everything that `parameters()` gives."""
    optimiser = torch.optim.AdamW(target.parameters(), rate, weight_decay=0.5)
    loss, _ = target.loss(images(), masked)
    loss.backward()
    optimiser.step()


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# ---- one face ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_all_learn_through_the_same_calls(kind: str) -> None:
    target = made(kind)
    optimiser = torch.optim.AdamW(optimiser_groups(target, 0.01), 3e-3)
    masked = drawn(kind, region=half())
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss, logs = target(images(), masked)
        loss.backward()
        optimiser.step()
        target.after_step(0.9)
        losses.append(loss.item())
        assert logs["loss"].item() == losses[-1]
        assert all(value.ndim == 0 and not value.requires_grad for value in logs.values())
    # MAE's pixels are noise here, so it learns them slowly.
    assert losses[-1] < 0.9 * losses[0]
    unused = [name for name, p in target.trainable() if p.grad is None]
    assert not unused  # DistributedDataParallel would wait for it


@pytest.mark.parametrize("kind", KINDS)
def test_first_weights_follow_from_the_seed_alone(kind: str) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = made(kind)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(6)
    assert equal(snapshot(first), snapshot(made(kind)))
    other = made(kind, seed=1)
    assert not torch.equal(
        first.student.blocks[0].mlp.fc1.weight, other.student.blocks[0].mlp.fc1.weight
    )  # type: ignore[union-attr]


def test_students_of_all_jepa_objectives_start_alike() -> None:
    assert equal(snapshot(made("salt").student), snapshot(made("ijepa").student))


def test_biases_and_vectors_do_not_decay_but_mask_tokens_do() -> None:
    for kind in KINDS:
        target = made(kind)
        decayed, kept = optimiser_groups(target, 0.3)
        assert (decayed["weight_decay"], kept["weight_decay"]) == (0.3, 0)
        names = {id(p): name for name, p in target.named_parameters()}
        in_decayed, in_kept = (
            {names[id(p)] for p in group["params"]}  # type: ignore[attr-defined]
            for group in (decayed, kept)
        )
        assert in_decayed | in_kept == {name for name, _ in target.trainable()}
        assert not in_decayed & in_kept
        assert any(name.endswith("mask_token") for name in in_decayed)
        assert all(
            name.endswith(("bias", "norm.weight", "norm1.weight", "norm2.weight"))
            for name in in_kept
        )
        assert not any("bias" in name or "norm" in name for name in in_decayed)
        assert not any("pos_embed" in name or name.startswith("teacher") for name in in_decayed)


# ---- the loss ------------------------------------------------------------------------------------


def test_loss_is_smooth_l1_with_beta_one() -> None:
    predicted = torch.tensor([0.0, 0.5, -3.0]).view(1, 1, 3, 1)
    assert jepa_loss(predicted, torch.zeros(1, 1, 3, 1)).item() == pytest.approx(
        (0 + 0.5 * 0.25 + 2.5) / 3
    )


def test_loss_with_padding_is_the_loss_of_the_unpadded() -> None:
    generator = torch.Generator().manual_seed(0)
    predicted, wanted = 2 * torch.randn(2, 3, 2, 4, 5, generator=generator)
    lengths = torch.tensor([[1, 4], [2, 3], [4, 4]])
    real = torch.arange(4) < lengths[..., None]
    each = [
        nn.SmoothL1Loss()(predicted[b, t, : lengths[b, t]], wanted[b, t, : lengths[b, t]])
        for b in range(3)
        for t in range(2)
    ]
    found = jepa_loss(predicted, wanted, real)
    assert found.item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-6)
    predicted = predicted.masked_fill(~real[..., None], 1e6)
    assert jepa_loss(predicted, wanted, real).item() == found.item()
    everything = torch.ones_like(real)
    torch.testing.assert_close(
        jepa_loss(predicted, wanted, everything), jepa_loss(predicted, wanted)
    )


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_loss_compares_the_teachers_tokens_at_hidden_and_at_weighted_visible_patches(
    weight: float,
) -> None:
    target = made(
        "salt", predictor=PredictorSettings(depth=2, width=16, heads=2, context_weight=weight)
    )
    assert isinstance(target, SALT)
    scrambled(target)
    masked = drawn("salt", region=half())
    assert masked.context_real is not None
    assert masked.targets_real is not None
    found, logs = target.loss(images(), masked)
    wanted = layer_norm(small().tokens(images()), (20,))
    hidden, visible = [], []
    for row, image in enumerate(target.normalised(images())):
        seen = masked.context[row][masked.context_real[row]]
        context = target.student.visible(image[None], seen[None])
        for block, real in zip(masked.targets[row], masked.targets_real[row], strict=True):
            asked = block[real]
            at_hidden, at_seen = target.predictor.everywhere(context, seen[None], asked[None, None])
            plain = target.predictor(context, seen[None], asked[None, None])
            torch.testing.assert_close(plain, at_hidden)
            hidden.append(nn.SmoothL1Loss()(at_hidden[0, 0], wanted[row, asked]))
            visible.append(nn.SmoothL1Loss()(at_seen[0, 0], wanted[row, seen]))
    parts = torch.stack(hidden).mean(), torch.stack(visible).mean()
    torch.testing.assert_close(found, parts[0] + weight * parts[1], rtol=1e-5, atol=1e-6)
    if weight:
        torch.testing.assert_close(logs["hidden_loss"], parts[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(logs["visible_loss"], parts[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["salt", "ijepa"])
def test_padded_batch_equals_its_images_one_by_one(kind: str) -> None:
    target = made(kind)
    scrambled(target)
    masked = drawn(kind, region=half())
    assert masked.context_real is not None
    assert masked.targets_real is not None
    whole, _ = target.loss(images(), masked)
    each = []
    for row, image in enumerate(images()):
        context = masked.context[row][masked.context_real[row]]
        for block, real in zip(masked.targets[row], masked.targets_real[row], strict=True):
            alone = Masks(context[None], block[real][None, None])
            each.append(target.loss(image[None], alone)[0])
    torch.testing.assert_close(whole, torch.stack(each).mean(), rtol=1e-5, atol=1e-6)


def test_targets_are_the_teachers_tokens() -> None:
    teacher = small()
    tokens = teacher.tokens(images()).clone()
    for normalise in (True, False):
        target = made("salt", teacher={"layer_norm": normalise})
        assert isinstance(target, SALT)
        found = target.targets(images())
        wanted = layer_norm(tokens, (20,)) if normalise else tokens
        torch.testing.assert_close(found, wanted)
        if normalise:
            assert found.mean(-1).abs().max() < 1e-5
            assert (found.var(-1, correction=0) - 1).abs().max() < 1e-2


def test_each_of_the_teachers_layers_is_normalised_by_itself() -> None:
    encoder, names = small(), ("blocks.0", "blocks.2")
    with torch.no_grad():  # layers of real networks differ in size too
        encoder.network.blocks[2].mlp.fc2.weight.mul_(30)  # type: ignore[index, union-attr]
    layers = [FrozenTeacher(encoder, [name])(images()) for name in names]
    assert layers[1].std() > 3 * layers[0].std()
    target = objective.build(settings("salt"), FrozenTeacher(encoder, names))
    assert isinstance(target, SALT)
    wanted = torch.cat([layer_norm(one, (20,)) for one in layers], dim=-1)
    torch.testing.assert_close(target.targets(images()), wanted)


def test_an_averaged_teacher_sees_what_the_student_sees() -> None:
    target = made("ijepa")
    assert isinstance(target, EMAJEPA)
    scrambled(target.teacher)
    mean, std = (
        torch.tensor(values).view(3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    x = (images() - mean) / std
    torch.testing.assert_close(target.normalised(images()), x)
    torch.testing.assert_close(target.teach(images()), target.teacher(x))


def test_spread_shows_a_collapse() -> None:
    target = made("salt")
    _, logs = target.loss(images(), drawn("salt"))
    assert logs["prediction_spread"] > 0
    nn.init.zeros_(target.predictor.predictor_proj.weight)  # type: ignore[union-attr, arg-type]
    _, logs = target.loss(images(), drawn("salt", region=half()))
    assert logs["prediction_spread"] == 0
    assert logs["target_spread"] > 0.1


# ---- teachers ------------------------------------------------------------------------------------


def test_a_frozen_teacher_stays_bit_identical_and_out_of_reach() -> None:
    target = made("salt")
    assert isinstance(target, SALT)
    encoder = target.teacher.encoder
    before, student = snapshot(encoder), snapshot(target.student)
    target.train()
    step(target, drawn("salt"))
    target.after_step(0.5)
    assert equal(before, snapshot(encoder))
    assert not encoder.training
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())
    theirs = {id(p) for p in encoder.parameters()}
    assert not theirs & {id(p) for p in target.parameters()}
    assert not any("teacher" in name for name in target.state_dict())
    assert not equal(student, snapshot(target.student))


def test_an_averaged_teacher_moves_by_the_average_only() -> None:
    target = made("ijepa")
    assert isinstance(target, EMAJEPA)
    first = snapshot(target.teacher)
    assert equal(first, snapshot(target.student))
    step(target, drawn("ijepa"))
    assert equal(first, snapshot(target.teacher))
    assert all(p.grad is None for p in target.teacher.parameters())
    target.after_step(1.0)
    assert equal(first, snapshot(target.teacher))
    target.after_step(0.75)
    moved = 0
    for name, value in target.teacher.state_dict().items():
        wanted = 0.75 * first[name] + 0.25 * target.student.state_dict()[name]
        torch.testing.assert_close(value, wanted, rtol=1e-6, atol=1e-8)
        moved += not torch.equal(value, first[name])
    assert moved > 20
    assert any(name.startswith("teacher.") for name in target.state_dict())
    assert not any(name.startswith("teacher.") for name, _ in target.trainable())


def test_a_teacher_that_does_not_fit_is_told_before_training() -> None:
    with pytest.raises(UserError, match="16 vectors per image, but the student has 2 x 2 patches"):
        made("salt", model={"image_size": 32, "patch_size": 16, "width": 24, "heads": 2})
    with pytest.raises(UserError, match="'small' is 20 wide"):
        made("salt", predictor={"depth": 1, "width": 16, "heads": 2, "target_width": 24})
    with pytest.raises(UserError, match="targets are 24 wide; leave it out"):
        made("ijepa", predictor={"depth": 1, "width": 16, "heads": 2, "target_width": 20})


# ---- pixels --------------------------------------------------------------------------------------


def silent(target: MAE) -> MAE:
    """One that predicts zero everywhere."""
    nn.init.zeros_(target.decoder_pred.weight)
    nn.init.zeros_(target.decoder_pred.bias)
    return target


def mae(**decoder: object) -> MAE:
    target = made("mae", decoder={"depth": 2, "width": 16, "heads": 2, **decoder})
    assert isinstance(target, MAE)
    return target


def test_a_constant_image_has_nothing_to_reconstruct() -> None:
    grey = torch.full((4, 3, 32, 32), 0.5)
    # Its three channels differ after the student's normalisation, unless they are undone here.
    target = silent(mae())
    target.mean.zero_()
    target.std.fill_(1)
    assert target.loss(grey, drawn("mae"))[0] == 0
    nn.init.ones_(target.decoder_pred.bias)
    assert target.loss(grey, drawn("mae"))[0] == 1


def test_normalised_pixels_have_unit_variance() -> None:
    loss, _ = silent(mae()).loss(images(), drawn("mae"))
    assert loss.item() == pytest.approx(191 / 192, abs=1e-4)  # 3 x 8 x 8 pixels, unbiased variance


def test_only_hidden_patches_count() -> None:
    target = silent(mae(normalize_pixels=False))
    masked = drawn("mae")
    pictures = target.normalised(images())
    squares = []
    for row, numbers in enumerate(masked.targets[:, 0].tolist()):
        for n in numbers:
            top, left = 8 * (n // 4), 8 * (n % 4)
            squares.append(pictures[row, :, top : top + 8, left : left + 8].square().mean())
    loss, _ = target.loss(images(), masked)
    torch.testing.assert_close(loss, torch.stack(squares).mean())


def test_patches_hold_rows_columns_colours() -> None:
    pictures = torch.arange(3 * 4 * 6 * 1.0).reshape(1, 3, 4, 6)[..., :4]
    found = patches(pictures, 2)
    assert found.shape == (1, 4, 12)
    wanted = [pictures[0, c, 2 + y, x].item() for y in range(2) for x in range(2) for c in range(3)]
    assert found[0, 2].tolist() == wanted


@pytest.mark.parametrize("class_token", [False, True])
def test_decoder_equals_one_that_puts_every_token_in_its_place(class_token: bool) -> None:
    target = mae()
    model = config.ModelSettings(32, 8, 24, 2, 2, class_token)
    target = MAE(ImageStudent(model), 32, 8, Decoder(depth=2, width=16, heads=2))
    masked = drawn("mae")
    visible, hidden = masked.context, masked.targets[:, 0]
    with torch.no_grad():
        tokens = target.student(target.normalised(images()), visible)
        found = target._decoded(tokens, visible, hidden)
        for row in range(4):
            embedded = target.decoder_embed(tokens[row])
            x = target.mask_token[0].repeat(16, 1)
            x[visible[row]] = embedded[int(class_token) :]
            x = torch.cat([embedded[: int(class_token)], x + target.decoder_pos_embed[0]])[None]
            for block in target.decoder_blocks:
                x = block(x)
            alone = target.decoder_pred(target.decoder_norm(x))[0, int(class_token) :][hidden[row]]
            torch.testing.assert_close(found[row], alone, rtol=1e-5, atol=1e-5)


def test_mae_starts_as_mae_does() -> None:
    target = MAE(
        ImageStudent(config.ModelSettings(class_token=True, depth=1)), 224, 16, Decoder(depth=1)
    )
    bound = (6 / (768 + 3 * 16 * 16)) ** 0.5  # of the projection, as a linear layer
    weight = target.student.patch_embed.proj.weight
    assert bound * 0.99 < weight.abs().max() <= bound
    assert target.student.cls_token.std().item() == pytest.approx(0.02, rel=0.15)
    assert target.mask_token.std().item() == pytest.approx(0.02, rel=0.15)


def test_objectives_can_be_copied() -> None:
    for kind in KINDS:
        target = made(kind)
        masked = drawn(kind)
        assert torch.equal(
            target.loss(images(), masked)[0], copy.deepcopy(target).loss(images(), masked)[0]
        )
