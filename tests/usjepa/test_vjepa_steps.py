"""V-JEPA's and V-JEPA 2's training against six steps of the authors' own code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from model_zoo.verify import by_rule
from usjepa import config as configs
from usjepa import objective, schedules, train
from usjepa.config import Config
from usjepa.masks import Masks
from usjepa.masks3d import ClipMasks
from usjepa.objective import EMAJEPA
from usjepa.predictor import VideoPredictor

START = "module.backbone."
TOKENS, LOSS = 1e-5, 1e-6  # tolerances that the figures state


def settings(rotary: bool) -> Config:
    return configs.validate(
        {
            "name": "tiny",
            "objective": "vjepa",
            "model": {"image_size": 64, "width": 192, "depth": 12, "heads": 3},
            "predictor": {"depth": 2, "width": 96, "heads": 3},
            "video": {"frames": 8, "rotary": rotary},
            "data": {
                "augment": {
                    "blur_probability": 0,
                    "speckle_probability": 0,
                    "contrast_probability": 0,
                }
            },
            "train": {
                "epochs": 3,
                "warmup_epochs": 1,
                "batch_size": 2,
                "start_learning_rate": 1e-4,
                "learning_rate": 1e-3,
                "final_learning_rate": 1e-5,
                "weight_decay": 0.04,
                "final_weight_decay": 0.4,
                "ema": [0.9, 1.0],
                "stretch": 1.25,
                "clip": None if rotary else 0.02,
                "clip_rule": "vjepa",
                "precision": "float32",
            },
        }
    )


def clips(step: int) -> Tensor:
    generator = np.random.Generator(np.random.PCG64(20260222 + step - 1))
    return torch.from_numpy(generator.random((2, 3, 8, 64, 64)).astype(np.float32))


def masks(expected: dict[str, Any], step: int) -> ClipMasks:
    kinds = []
    for kind in ("short", "long"):
        context, target = (
            torch.from_numpy(expected[f"step{step}_{kind}_{what}_index"]).long()
            for what in ("context", "target")
        )
        kinds.append(Masks(context, target[:, None]))
    return ClipMasks(tuple(kinds))


def near(got: Tensor | float, expected: Any, tolerance: float, relative: float = 0.0) -> None:
    expected = torch.as_tensor(np.asarray(expected)).float()
    torch.testing.assert_close(
        torch.as_tensor(got).detach().float(), expected, atol=tolerance, rtol=relative
    )


@pytest.mark.shared
@pytest.mark.parametrize("name", ["vjepa-train-tiny", "vjepa2-train-tiny"])
def test_six_steps_are_the_authors(shared: Path, name: str) -> None:
    folder, rotary = shared / "conformance" / name, name.startswith("vjepa2")
    keys = json.loads((folder / "keys.json").read_text())
    with np.load(folder / "expected.npz") as arrays:
        expected = dict(arrays)
    config = settings(rotary)
    target = objective.build(config)
    assert isinstance(target, EMAJEPA)
    if rotary:  # the reference has a second mask token, which it never uses
        target.predictor = VideoPredictor(config.grid, 192, 192, 2, 96, 3, 2, rotary=True)
        target.predictor.asking = lambda kind: target.predictor.mask_tokens[0]  # type: ignore[method-assign]
    parts: dict[str, tuple[nn.Module, list[str]]] = {}
    start: dict[str, dict[str, Tensor]] = {}
    for part, module, rows in (
        ("encoder", target.student, keys["encoder_keys"]),
        ("target_encoder", target.teacher, keys["encoder_keys"]),
        ("predictor", target.predictor, keys["predictor_keys"]),
    ):
        names = [row["key"].removeprefix(START) for row in rows]
        state = {
            key: by_rule(row["key"], row["shape"]) for key, row in zip(names, rows, strict=True)
        }
        module.load_state_dict(state)
        parts[part], start[part] = (module, names), state
    groups = objective.optimiser_groups(target, 0.04)
    counts = [len(group["params"]) for group in groups]  # type: ignore[arg-type]
    official = [tensors for tensors, _ in keys["optimizer_groups_tensors_and_numbers"]]
    tables = 0 if rotary else 2  # without gradient, they are in the reference's first groups
    assert counts == [official[0] + official[1] - tables, official[2] + official[3]]
    optimizer = torch.optim.AdamW(groups, lr=1e-4, betas=(0.9, 0.999), eps=1e-8)

    def tensors(part: str) -> list[Tensor]:
        module, names = parts[part]
        state = module.state_dict()
        return [state[key] for key in names]

    for step in range(1, 7):
        drawn, images = masks(expected, step), clips(step)
        values = schedules.at(step, config.train, 2)
        near(values.learning_rate, expected["lr"][step - 1], 0, 1e-6)
        near(values.weight_decay, expected["weight_decay"][step - 1], 0, 1e-6)
        near(values.momentum, expected["ema_momentum"][step - 1], 0, 1e-6)
        loss, logs = target.loss(images, drawn)
        near(loss, expected["loss"][step - 1], LOSS if step == 1 else 1e-5)
        if step == 1:
            near(logs["loss_of_kind_0"], expected["short_loss"], LOSS)
            near(logs["loss_of_kind_1"], expected["long_loss"], LOSS)
            first_step(target, images, drawn, expected)
        torch.autograd.backward(loss)
        if step == 1:
            gradients(parts, expected)
        norms = train.update(target, optimizer, config.train, values, (step - 1) // 2)
        assert bool(norms) == (step > 4 and not rotary)
        if norms:
            for part, ours in (("encoder", "student"), ("predictor", "predictor")):
                before = expected[f"grad_norm_{part}_before_clip"][step - 1]
                near(norms[f"gradient_norm_of_{ours}"], before, 0, 1e-4)
        if step in (1, 6):
            for part in parts:
                moved = [
                    (now - start[part][key]).norm()
                    for now, key in zip(tensors(part), parts[part][1], strict=True)
                ]
                near(torch.stack(moved), expected[f"{part}_step{step}_delta_l2"], 1e-7, 1e-4)
                for key in (key for key in expected if key.startswith(f"param{step}:{part}:")):
                    now = parts[part][0].state_dict()[key.split(":")[2].removeprefix(START)]
                    near(now, expected[key], TOKENS)
    for part in parts:
        sums = torch.stack([one.double().sum() for one in tensors(part)])
        near(sums, expected[f"{part}_step6_sum"], 1e-3, 1e-4)


@torch.no_grad()
def first_step(target: EMAJEPA, images: Tensor, drawn: ClipMasks, expected: dict[str, Any]) -> None:
    x = target.normalised(images)
    near(images[0, :, 0, :2, :8], expected["input_head"], 1e-6)
    near(x[0, :, 0, :2, :8], expected["normalised_head"], 1e-6)
    near(target.teach(images), expected["target_tokens"], TOKENS)
    for number, (kind, one) in enumerate(zip(("short", "long"), drawn.kinds, strict=True)):
        context = target.student.visible(x, one.context)
        near(context, expected[f"{kind}_context_tokens"], TOKENS)
        predicted = target.predictor(context, one.context, one.targets, kind=number)
        near(predicted[:, 0], expected[f"{kind}_predicted"], TOKENS)


def gradients(parts: dict[str, tuple[nn.Module, list[str]]], expected: dict[str, Any]) -> None:
    for part in ("encoder", "predictor"):
        module, names = parts[part]
        known = dict(module.named_parameters())
        norms = [
            torch.tensor(-1.0) if known[key].grad is None else known[key].grad.norm()  # type: ignore[union-attr]
            for key in names
        ]
        near(torch.stack(norms), expected[f"{part}_step1_grad_l2"], 1e-8, 1e-4)
        for key in (key for key in expected if key.startswith(f"grad1:{part}:")):
            grad = known[key.split(":")[2].removeprefix(START)].grad
            assert grad is not None
            near(grad, expected[key], 1e-7, 1e-3)
