"""The linear layer that training ends with, and weights in 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import config, index
from safetensors.torch import load_file
from small_teacher import small
from torch.nn.functional import relu

import model_zoo
from model_zoo.checkpoints import exports
from ultrabench_eval.core.errors import UserError
from usjepa import loader, monitor, objective, projection, teacher, train
from usjepa.config import ProjectionSettings
from usjepa.frames.sampling import CappedSampler
from usjepa.frames.store import Frames
from usjepa.teacher import FrozenTeacher
from usjepa.train import Execution

CONVOLUTIONS = {"stem": "convolutions"}
CLIPS: dict[str, Any] = {
    "objective": "vjepa",
    "video": {},
    "data": {"augment": {f"{name}_probability": 0 for name in ("blur", "speckle", "contrast")}},
}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return index(tmp_path_factory.mktemp("frames"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "load", lambda *_: FrozenTeacher(small()))
    monkeypatch.setattr(monitor, "ceiling", lambda *_: 1e9)  # takes a second


def rows(count: int = 500, width: int = 12) -> torch.Tensor:
    """Of directions with very different deviations, float64 [N, P]."""
    generator = np.random.default_rng(0)
    mixed = generator.standard_normal((width, width)) * 3.0 ** -np.arange(width)[:, None]
    return torch.from_numpy(generator.standard_normal((count, width)) @ mixed + 5)


def test_whitening_makes_directions_alike_and_none_only_turns_them() -> None:
    x = rows()
    standard = (x - x.mean(0)) / x.std(0, correction=0)
    before = torch.linalg.eigvalsh(standard.mT @ standard / len(x)).flip(0)
    spread = {}
    for whitening in (0.0, 0.5, 1.0):
        settings = ProjectionSettings(width=6, whitening=whitening)
        weight, bias = projection.directions(x, settings, seed=0)
        made = x @ weight.mT + bias
        torch.testing.assert_close(
            made.mean(0), torch.zeros(6, dtype=torch.float64), atol=1e-9, rtol=0
        )
        torch.testing.assert_close(made.var(0, correction=0).mean().item(), 1.0)
        found = torch.linalg.eigvalsh(made.mT @ made / len(x)).flip(0)
        wanted = before[:6] / (before[:6] + 0.1 * before.mean()) ** whitening
        torch.testing.assert_close(found, wanted / wanted.mean())
        spread[whitening] = float(found[0] / found[-1])
    assert spread[0.0] > 2 * spread[0.5] > 4 * spread[1.0]


def test_an_export_with_a_projection_is_what_was_trained(frames: Frames, tmp_path: Path) -> None:
    made = config(
        model=CONVOLUTIONS, train={"epochs": 1}, projection={"width": 10, "whitening": 0.5}
    )
    path = train.run(made, frames, tmp_path / "run", Execution(device="cpu", workers=0))
    encoder = model_zoo.load("usjepa/projected", path, "cpu", "float32")
    assert encoder.dim == 10
    image = torch.rand(1, 3, 40, 50)
    x, tensors = encoder.prepare(image[0])[None], load_file(path)
    with torch.no_grad():
        y = x
        for number in range(3):
            name = f"patch_embed.convolutions.{number}"
            y = relu(torch.conv2d(y, tensors[f"{name}.weight"], tensors[f"{name}.bias"], 2, 1))
        y = torch.conv2d(y, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"])
        first = y.flatten(2).mT + tensors["pos_embed"]
        blocks = encoder.network.blocks
        pooled = []
        for block in blocks:
            first = block(first)
            pooled += [first.mean(1), (first.var(1, correction=0) + 1e-6).sqrt()]
        wanted = torch.cat(pooled, 1) @ tensors["projection.weight"].mT + tensors["projection.bias"]
    torch.testing.assert_close(encoder.encode(image), wanted, atol=1e-4, rtol=1e-4)

    # Maps: the stem's at half the side of a patch, and the tokens of the last blocks.
    fine, coarse = encoder.maps(image)
    assert (fine.shape, coarse.shape) == ((1, 12, 8, 8), (1, 48, 4, 4))
    torch.testing.assert_close(coarse[0, 24:, 1, 2], first[0, 6], atol=1e-4, rtol=1e-4)
    with torch.no_grad():
        y = x
        for convolution in list(encoder.network.patch_embed.convolutions)[:2]:
            y = relu(convolution(y))
    torch.testing.assert_close(fine, y)

    # Of the frames that it was fitted on, mean 0 and mean variance 1.
    features = torch.cat(
        [
            encoder.encode_prepared(
                encoder.prepare(np.stack([frames.read(n).pixels] * 3, -1))[None]
            )
            for n in range(len(frames))
        ]
    )
    assert features.mean(0).abs().max() < 1e-3
    assert features.var(0, correction=0).mean() == pytest.approx(1, abs=1e-3)

    # A finished run, and an export of it, are the same bytes; other poolings know nothing of it.
    again = train.run(made, frames, tmp_path / "run", Execution(device="cpu", workers=0))
    assert train.write_export(tmp_path / "run", tmp_path / "out").read_bytes() == again.read_bytes()
    assert model_zoo.load("usjepa", path, "cpu").dim == 24


def test_a_projection_is_not_made_up(frames: Frames, tmp_path: Path) -> None:
    path = train.run(config(train={"epochs": 1}), frames, tmp_path, Execution("cpu", 0))
    with pytest.raises(
        UserError, match=r"encoder\.safetensors has no projection; train with a sec"
    ):
        model_zoo.load("usjepa/projected", path, "cpu")
    with pytest.raises(UserError, match="width 97 is more than the 96 numbers of the pooled tok"):
        config(projection={"width": 97})


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 7))
def test_eight_bits_are_near(seed: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** torch.randn(height, 1, generator=generator)
    tensors = {
        "a.weight": scale * torch.randn(height, width, generator=generator),
        "a.bias": torch.randn(height, generator=generator),
    }
    tensors["a.weight"][0] = 0
    packed = exports.packed(tensors)
    assert packed["a.weight"].dtype == torch.int8
    found = exports.decoded(packed)
    assert list(found) == list(tensors)
    most = tensors["a.weight"].abs().amax(1, keepdim=True) / 254
    assert ((found["a.weight"] - tensors["a.weight"]).abs() <= 1.001 * most).all()
    assert torch.equal(found["a.bias"], tensors["a.bias"].half())


@pytest.mark.parametrize("stem", ["patches", "convolutions"])
def test_an_export_in_eight_bits_is_small_and_nearly_the_same(
    frames: Frames, tmp_path: Path, stem: str
) -> None:
    sizes = {"width": 96, "heads": 2, "depth": 4, "stem": stem}
    made = config(model=sizes, projection={"width": 40})
    train.run(made, frames, tmp_path / "run", Execution(device="cpu", workers=0))
    paths = {
        stored: train.write_export(tmp_path / "run", tmp_path / stored, stored)
        for stored in ("float32", "int8")
    }
    assert paths["int8"].stat().st_size < 0.3 * paths["float32"].stat().st_size
    one, two = (
        model_zoo.load("usjepa/projected", path, "cpu", "float32") for path in paths.values()
    )
    assert one.card.parameters == two.card.parameters
    image = torch.rand(4, 3, 40, 50)
    first, second = one.encode(image), two.encode(image)
    assert not torch.equal(first, second)
    assert (first - second).norm() < 0.1 * (first - first.mean(0)).norm() + 0.1 * first.norm()
    # One changed byte is seen.
    content = bytearray(paths["int8"].read_bytes())
    content[-5] ^= 1
    paths["int8"].write_bytes(content)
    with pytest.raises(UserError, match=r"not as `usjepa` wrote it|another file"):
        model_zoo.load("usjepa", paths["int8"], "cpu")


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"predictor": {"hidden_weight": 0}}, "hidden_weight 0 leaves nothing to learn"),
        ({"predictor": {"context_by": "linear"}}, "while context_weight is 0"),
        (
            {"predictor": {"hidden_weight": 0, "context_weight": 1, "context_by": "linear"}},
            "wants a frozen teacher; objective ijepa has none",
        ),
        ({**CLIPS, "model": CONVOLUTIONS}, "stem convolutions is for st"),
        ({**CLIPS, "projection": {}}, "projection is for stills"),
        ({"model": {**CONVOLUTIONS, "image_size": 36, "patch_size": 12}}, "is not 4, 8, 16"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(sections: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        config(**sections)


def test_the_weight_of_the_hidden_patches_counts_alone_too(frames: Frames) -> None:
    losses = []
    for weight in (1.0, 0.25):
        made = config(objective="salt", predictor={"hidden_weight": weight})
        target = objective.build(made, FrozenTeacher(small()))
        parts = loader.TrainingParts(frames, CappedSampler([range(40)], 50, 8, 0), made, 1)
        losses.append(target.loss(*parts[loader.BatchPart(0, 0)].on(torch.device("cpu")))[0])
    torch.testing.assert_close(losses[1], 0.25 * losses[0])


def test_plain_distillation_asks_at_the_visible_places_alone(frames: Frames) -> None:
    made = config(
        objective="salt",
        predictor={"context_weight": 2, "context_by": "linear", "hidden_weight": 0},
    )
    target = objective.build(made, FrozenTeacher(small()))
    assert isinstance(target, objective.SALT)
    assert target.predictor is None
    parts = loader.TrainingParts(frames, CappedSampler([range(40)], 50, 8, 0), made, 1)
    images, masks = parts[loader.BatchPart(0, 0)].on(torch.device("cpu"))
    loss, _ = target.loss(images, masks)
    (one,) = masks.kinds
    wanted = target.targets(images)
    found = []
    for row in range(len(images)):
        seen = one.context[row]
        if one.context_real is not None:
            seen = seen[one.context_real[row]]
        context = target.student.visible(target.normalised(images[row : row + 1]), seen[None])
        assert target.context_map is not None
        found.append(
            torch.nn.functional.smooth_l1_loss(target.context_map(context)[0], wanted[row, seen])
        )
    torch.testing.assert_close(loss, torch.stack(found).mean(), rtol=1e-3, atol=1e-4)
