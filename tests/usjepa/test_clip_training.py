"""Training on clips: however it is carried out, what is exported, and the parts of a run."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import cines
import pytest
import torch
import yaml
from forked import Forked
from safetensors.torch import load_file
from torch.nn.functional import l1_loss, layer_norm

import model_zoo
from model_zoo.encoder import Encoder
from ultrabench_eval.core.errors import UserError
from usjepa import checkpoint, loader, monitor, objective, schedules, teacher, train
from usjepa.config import Config
from usjepa.frames.store import Frames
from usjepa.objective import SALT, MAEOfClips
from usjepa.train import Execution


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return cines.index(tmp_path_factory.mktemp("videos"))


@pytest.fixture(autouse=True)
def no_ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "ceiling", lambda *_: 1e9)  # takes a second


class Killed(Exception):
    pass


def run(
    settings: Config, frames: Frames, out: Path, kill_at: int | None = None, **how: Any
) -> tuple[bytes, list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []

    def report(line: Any) -> None:
        lines.append(dict(line))
        if line["kind"] == "train" and line["step"] == kill_at:
            raise Killed

    how = {"device": "cpu", "workers": 0, "log_every": 1, "report": report} | how
    return train.run(settings, frames, out, Execution(**how)).read_bytes(), lines


@pytest.mark.parametrize(
    "sections",
    [
        {"localisation": {"pairs": 20, "width": 16}, "train": {"clip": 0.1, "clip_rule": "vjepa"}},
        {"objective": "videomae", "train": {"accumulate": 2}},
    ],
    ids=["vjepa with localisation", "videomae"],
)
def test_a_stopped_run_on_clips_ends_in_the_same_weights(
    sections: dict[str, Any], frames: Frames, tmp_path: Path
) -> None:
    settings = cines.config(**sections)
    whole, lines = run(settings, frames, tmp_path / "whole")
    for kill_at in (1, 3):
        with pytest.raises(Killed):
            run(settings, frames, tmp_path / "cut", kill_at, checkpoint_minutes=0)
    again, _ = run(settings, frames, tmp_path / "cut")
    assert again == whole
    encoder = model_zoo.load("usjepa-clip", tmp_path / "whole", "cpu", "float32")
    assert (encoder.takes, encoder.steps) == ("clip", 2)
    assert encoder.tokens(torch.rand(1, 4, 3, 50, 60)).shape == (1, 32, 24)
    with pytest.raises(UserError, match=r"was trained on clips; open it as model 'usjepa-clip'"):
        model_zoo.load("usjepa", tmp_path / "whole", "cpu")
    trained = [line for line in lines if line["kind"] == "train"]
    if settings.localisation:
        assert {"jepa_loss", "localisation_loss", "localisation_of_zeros"} <= trained[0].keys()
        held = torch.load(tmp_path / "whole" / checkpoint.LAST, weights_only=True)["objective"]
        assert "localisation.layers.0.weight" in held
    card = json.loads((tmp_path / "whole" / "encoder.json").read_text())
    assert card["config"]["video"]["step"] == 2
    assert not any(
        "localisation" in key for key in load_file(tmp_path / "whole/encoder.safetensors")
    )


def test_lambda_one_gives_the_bytes_of_vjepa(frames: Frames, tmp_path: Path) -> None:
    one = {"train": {"epochs": 1}}
    plain, _ = run(cines.config(**one), frames, tmp_path / "a")
    same, _ = run(cines.config(localisation={"weight": 1.0}, **one), frames, tmp_path / "b")
    other, _ = run(cines.config(localisation={"weight": 0.25}, **one), frames, tmp_path / "c")
    assert plain == same
    assert plain != other


@pytest.mark.slow
def test_two_processes_take_the_step_of_one_on_clips(frames: Frames, tmp_path: Path) -> None:
    # With a large epsilon AdamW's steps are proportional to gradients, so weights show those.
    content = {**cines.SMALL, "localisation": {"pairs": 20, "width": 16}}
    content["train"] = {**cines.SMALL["train"], "epochs": 1, "eps": 1.0, "weight_decay": 0.0}
    file = tmp_path / "small-clips.yaml"
    file.write_text(yaml.safe_dump(content))
    words = ["train", "--config", file, "--frames", frames.path, "--workers", 0, "--device", "cpu"]
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    # As torchrun sets them; that it does is seen in test_train.py.
    both = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    started = [
        Forked(
            "from usjepa.cli import main; main()",
            *(*words, "--out", tmp_path / out, *more),
            environment={**os.environ, "OMP_NUM_THREADS": "1", **variables},
        )
        for out, more, variables in (
            ("a", ["--set", "train.accumulate=2"], {}),
            ("b", [], {**both, "RANK": "0", "LOCAL_RANK": "0"}),
            ("b", [], {**both, "RANK": "1", "LOCAL_RANK": "1"}),
        )
    ]
    assert [process.wait(300) for process in started] == [0, 0, 0]
    settings = cines.config(localisation={"pairs": 20, "width": 16})
    first = objective.build(settings).student.state_dict()
    one, other = (load_file(tmp_path / which / "encoder.safetensors") for which in "ab")
    for name in set(first) - {"pos_embed"}:
        moved = (one[name] - first[name]).abs().max()
        assert (one[name] - other[name]).abs().max() < 1e-3 * moved + 1e-9, name


def test_stills_and_clips_are_told_apart_before_training(frames: Frames, tmp_path: Path) -> None:
    stills = cines.config(
        objective="ijepa", video=None, masks={"min_keep": 1}, data={"percentiles": [2, 98]}
    )
    with pytest.raises(UserError, match=r"holds clips, but configuration .* trains on stills"):
        run(stills, frames, tmp_path)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"video": None}, "objective vjepa is for clips and there is no section `video`"),
        ({"objective": "ijepa"}, "objective ijepa is for stills, but there is a section `video`"),
        ({"video": {"frames": 5}}, "video: frames 5 is not a multiple of tubelet 2"),
        ({"video": {"framez": 5}}, "unknown key 'video.framez' .did you mean 'frames'"),
        ({"video": {"kinds": [{"block": 1}]}}, "unknown key 'video.kinds.0.block' .did you mean"),
        ({"objective": "videomae", "localisation": {}}, "localisation needs a predictor"),
        ({"train": {"freeze_blocks": 3}}, "train.freeze_blocks 3 is more than model.depth 2"),
        ({"data": {"augment": {}}}, "data.augment has blur, speckle or contrast"),
        ({"model": {"class_token": True}}, "model.class_token is for stills"),
    ],
)
def test_what_does_not_fit_clips_is_told(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cines.config(**sections)


# ---- objectives


def test_frozen_blocks_keep_their_first_weights() -> None:
    settings = cines.config(train={"freeze_blocks": 1})
    target = objective.build(settings)
    optimizer = torch.optim.AdamW(objective.optimiser_groups(target, 0.1), lr=1e-2)
    before = {name: value.clone() for name, value in target.student.state_dict().items()}
    clips = torch.rand(4, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    loss, _ = target.loss(clips, loader.sampler_of(settings).sample(4, 0))
    torch.autograd.backward(loss)
    train.update(target, optimizer, settings.train, schedules.at(1, settings.train, 4), 0)
    still = {n for n, value in target.student.state_dict().items() if torch.equal(value, before[n])}
    assert {name for name in before if name.startswith(("patch", "pos", "blocks.0."))} == still


def test_a_student_begins_as_a_model_of_the_zoo(frames: Frames, tmp_path: Path) -> None:
    run(cines.config(train={"epochs": 1}), frames, tmp_path)
    start = f"usjepa-clip={tmp_path / 'encoder.safetensors'}"
    target = objective.build(cines.config(model={"start": start}, seed=5))
    held = load_file(tmp_path / "encoder.safetensors")
    for student in (target.student, target.teacher):
        assert all(torch.equal(value, held[n]) for n, value in student.state_dict().items())
    with pytest.raises(UserError, match=r"model.start: the network of 'usjepa-clip' is not the"):
        objective.build(cines.config(model={"start": start, "depth": 3}))


def test_a_frozen_teacher_of_clips_is_predicted_by_l1(frames: Frames, tmp_path: Path) -> None:
    run(cines.config(train={"epochs": 1}), frames, tmp_path)
    encoder: Encoder = model_zoo.load("usjepa-clip", tmp_path, "cpu", "float32")
    settings = cines.config(objective="salt", video={"rotary": True, "mask_tokens": "one"})
    target = objective.build(settings, teacher.FrozenTeacher(encoder))
    assert isinstance(target, SALT)
    clips = torch.rand(3, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    masks = loader.sampler_of(settings).sample(3, 0)
    loss, logs = target.loss(clips, masks)
    x = (clips - target.mean.view(3, 1, 1, 1)) / target.std.view(3, 1, 1, 1)
    with torch.no_grad():
        wanted = layer_norm(encoder.network(x), (24,))
        each = []
        for one in masks.kinds:
            context = target.student(x, one.context)
            predicted = target.predictor(context, one.context, one.targets)[:, 0]
            index = one.targets[:, 0, :, None].expand(-1, -1, 24)
            each.append(l1_loss(predicted, wanted.gather(1, index)))
    assert float(loss.detach()) == pytest.approx(float(torch.stack(each).mean()), abs=1e-5)
    assert float(logs["loss_of_kind_1"]) == pytest.approx(float(each[1]), abs=1e-5)
    torch.autograd.backward(loss)
    assert all(parameter.grad is not None for _, parameter in target.trainable())
    of_stills = model_zoo.load("pixels", device="cpu")
    with pytest.raises(UserError, match="'pixels' looks at images, but the student at clips"):
        objective.build(settings, teacher.FrozenTeacher(of_stills))


def test_videomae_reconstructs_normalised_tubelets() -> None:
    transformers = pytest.importorskip("transformers")
    settings = cines.config(objective="videomae")
    target = objective.build(settings)
    assert isinstance(target, MAEOfClips)
    clips = torch.rand(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    (masks,) = loader.sampler_of(settings).sample(2, 0).kinds
    hidden = masks.targets[:, 0]
    wanted = target.wanted(clips, target.normalised(clips), hidden)
    sizes = transformers.VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=4,
        tubelet_size=2,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        decoder_hidden_size=12,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=1,
        decoder_intermediate_size=12,
    )
    reference = transformers.VideoMAEForPreTraining(sizes).eval()
    covered = torch.zeros(2, 32, dtype=torch.bool).scatter(1, hidden, True)
    with torch.no_grad():
        told = reference(target.normalised(clips).transpose(1, 2), bool_masked_pos=covered)
    ours = (told.logits - wanted).square().mean()
    assert float(ours) == pytest.approx(float(told.loss), rel=1e-5)
