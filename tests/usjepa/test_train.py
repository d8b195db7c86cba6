"""The training loop: the same weights however it was carried out, and sentences when it cannot."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
import types
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from forked import Forked
from runs import SMALL, config, index
from safetensors.torch import load_file
from small_teacher import small

import model_zoo
from model_zoo.encoder import Encoder
from ultrabench_eval.core.errors import UserError
from usjepa import checkpoint, cli, monitor, objective, teacher, train
from usjepa.config import Config
from usjepa.frames.store import Frames
from usjepa.teacher import FrozenTeacher
from usjepa.train import Execution


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return index(tmp_path_factory.mktemp("frames"))


@pytest.fixture(autouse=True)
def a_small_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "load", lambda *_: FrozenTeacher(small()))
    monkeypatch.setattr(monitor, "ceiling", lambda *_: 1e9)  # takes a second


class Killed(Exception):
    pass


def run(
    settings: Config, frames: Frames, out: Path, kill_at: int | None = None, **how: Any
) -> tuple[bytes, list[dict[str, Any]]]:
    """Bytes of the export, and the lines that were reported."""
    lines: list[dict[str, Any]] = []

    def report(line: Any) -> None:
        lines.append(dict(line))
        if line["kind"] == "train" and line["step"] == kill_at:
            raise Killed

    how = {"device": "cpu", "workers": 0, "log_every": 1, "report": report} | how
    path = train.run(settings, frames, out, Execution(**how))
    return path.read_bytes(), lines


def logged(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "sections",
    [
        {"objective": "ijepa"},
        {"objective": "salt", "region_conditioning": True, "train": {"clip": 0.02}},
        {"objective": "mae", "train": {"accumulate": 2}},
        {"objective": "ijepa", "train": {"precision": "bfloat16"}},
    ],
    ids=["ijepa", "usrc salt, clipped", "mae, accumulated", "bfloat16"],
)
def test_a_stopped_run_ends_in_the_same_weights(
    sections: dict[str, Any], frames: Frames, tmp_path: Path
) -> None:
    settings = config(**sections)
    whole, lines = run(settings, frames, tmp_path / "whole")
    steps = [line["step"] for line in lines if line["kind"] == "train"]
    assert steps == list(range(1, 9))
    for kill_at in (3, 6):  # within an epoch, after a checkpoint of step 2 or 5
        with pytest.raises(Killed):
            run(settings, frames, tmp_path / "cut", kill_at, checkpoint_minutes=0)
        # What the killed process still wrote is taken out.
    again, _ = run(settings, frames, tmp_path / "cut")
    assert again == whole
    found = logged(tmp_path / "cut")
    assert [line["step"] for line in found if line["kind"] == "train"] == steps
    for name in ("loss", "learning_rate", "weight_decay"):
        of_both = [
            [line[name] for line in logged(tmp_path / which) if line["kind"] == "train"]
            for which in ("whole", "cut")
        ]
        assert of_both[0] == of_both[1]


def test_a_finished_run_is_only_exported_again(frames: Frames, tmp_path: Path) -> None:
    first, _ = run(config(), frames, tmp_path)
    (tmp_path / "encoder.safetensors").unlink()
    again, lines = run(config(), frames, tmp_path)
    assert again == first
    assert [line["kind"] for line in lines] == ["start"]
    assert lines[0]["step"] == 8


@pytest.mark.slow
def test_a_compiled_step_trains_alike_and_leaves_the_teacher_alone(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teaching, compiling = FrozenTeacher(small()), []
    asked = teaching.encoder.network.forward

    def forward(*args: Any, **options: Any) -> Any:
        compiling.append(torch.compiler.is_compiling())
        return asked(*args, **options)

    monkeypatch.setattr(teaching.encoder.network, "forward", forward)
    monkeypatch.setattr(teacher, "load", lambda *_: teaching)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # traced only
    losses = []
    for compiled in (False, True):
        settings = config(objective="salt", train={"epochs": 1, "compile": compiled})
        _, lines = run(settings, frames, tmp_path / str(compiled))
        losses.append([line["loss"] for line in lines if line["kind"] == "train"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert compiling
    assert not any(compiling)


def test_another_seed_gives_other_weights(frames: Frames, tmp_path: Path) -> None:
    settings = config(train={"epochs": 1})
    first, _ = run(settings, frames, tmp_path / "a")
    other, _ = run(config(seed=1, train={"epochs": 1}), frames, tmp_path / "b")
    assert first != other


def test_training_moves_the_student_and_not_the_teacher(frames: Frames, tmp_path: Path) -> None:
    teaching = FrozenTeacher(small())
    before = {name: value.clone() for name, value in teaching.encoder.state_dict().items()}
    built: list[objective.Objective] = []
    make = objective.build

    def build(settings: Config, device: str = "auto") -> objective.Objective:
        built.append(make(settings, teaching, device))
        return built[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective, "build", build)
        settings = config(objective="salt", train={"epochs": 6, "warmup_epochs": 0})
        _, lines = run(settings, frames, tmp_path)
    after = teaching.encoder.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not teaching.encoder.training
    held = torch.load(tmp_path / checkpoint.LAST, weights_only=True)
    assert not any("teacher" in name for name in held["objective"])
    start = make(settings, teaching).student.state_dict()
    moved = built[0].student.state_dict()
    fixed = [name for name, value in start.items() if torch.equal(value, moved[name])]
    assert fixed == ["pos_embed"]
    losses = [line["loss"] for line in lines if line["kind"] == "validation"]
    assert losses[-1] < losses[0]


def test_what_is_kept_is_the_encoder_of_least_validation_loss(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.2, 0.3])
    states: list[dict[str, torch.Tensor]] = []

    def validated(run: Any) -> dict[str, float]:
        student = run.objective.encoder.state_dict()
        states.append({name: value.clone() for name, value in student.items()})
        return {"loss": next(losses), "effective_rank": 1.0, "feature_spread": 1.0}

    monkeypatch.setattr(train._Run, "_validated", validated)
    run(config(objective="salt", train={"epochs": 3}), frames, tmp_path)
    kept = load_file(tmp_path / "encoder.safetensors")
    assert all(torch.equal(kept[name], value) for name, value in states[1].items())
    assert not all(torch.equal(kept[name], value) for name, value in states[2].items())
    card = json.loads((tmp_path / "encoder.json").read_text())
    assert (card["epoch"], card["validation_loss"]) == (2, 0.2)
    assert card["frames"]["sets"] == {"hearts": 30, "livers": 10}


def test_an_averaged_teacher_is_kept_at_the_end(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its loss falls with the variety of its targets, so the least is not the best.
    values = iter([0.2, 0.5])
    monkeypatch.setattr(
        train._Run,
        "_validated",
        lambda _: {"loss": next(values), "effective_rank": 1.0, "feature_spread": 1.0},
    )
    run(config(), frames, tmp_path)
    assert json.loads((tmp_path / "encoder.json").read_text())["epoch"] == 2
    held = torch.load(tmp_path / checkpoint.LAST, weights_only=True)["objective"]
    kept = load_file(tmp_path / "encoder.safetensors")
    assert all(torch.equal(value, held[f"teacher.{name}"]) for name, value in kept.items())


def test_without_held_out_frames_the_last_encoder_is_kept(frames: Frames, tmp_path: Path) -> None:
    _, lines = run(config(data={"held_out": 0}), frames, tmp_path)
    assert not [line for line in lines if line["kind"] == "validation"]
    card = json.loads((tmp_path / "encoder.json").read_text())
    assert (card["epoch"], card["validation_loss"]) == (2, None)


def test_validation_has_the_same_masks_in_every_epoch(frames: Frames, tmp_path: Path) -> None:
    # With a rate of next to nothing the encoder stays, and so must the loss.
    rates = {"learning_rate": 1e-12, "start_learning_rate": 0, "final_learning_rate": 0}
    settings = config(objective="salt", train={**rates, "weight_decay": 0})
    _, lines = run(settings, frames, tmp_path)
    losses = [line["loss"] for line in lines if line["kind"] == "validation"]
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_a_probe_is_handed_the_encoder_as_the_zoo_opens_it(frames: Frames, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    def probe(encoder: Encoder) -> dict[str, float]:
        seen.append((encoder.name, encoder.encode(torch.rand(2, 3, 40, 50)).shape[1]))
        return {"score": 0.5}

    _, lines = run(config(train={"epochs": 3}), frames, tmp_path, probe=probe, probe_every=2)
    assert seen == [("usjepa", 24)] * 2
    told = [(line["epoch"], line["score"]) for line in lines if line["kind"] == "probe"]
    assert told == [(2, 0.5), (3, 0.5)]


def test_workers_change_nothing(frames: Frames, tmp_path: Path) -> None:
    settings = config(train={"epochs": 1})
    alone, _ = run(settings, frames, tmp_path / "a")
    helped, _ = run(settings, frames, tmp_path / "b", workers=2)
    assert helped == alone


def test_a_finished_run_is_a_model_of_the_zoo(frames: Frames, tmp_path: Path) -> None:
    run(config(train={"epochs": 1}), frames, tmp_path)
    encoder = model_zoo.load("usjepa", tmp_path, device="cpu", dtype="float32")
    assert encoder.tokens(torch.rand(1, 3, 50, 60)).shape == (1, 16, 24)
    (tmp_path / "out").mkdir()
    again = train.write_export(tmp_path, tmp_path / "out")
    assert again.read_bytes() == (tmp_path / "encoder.safetensors").read_bytes()


# ---- what is refused ---------------------------------------------------------------------------


def test_a_checkpoint_of_other_settings_or_frames_is_refused(
    frames: Frames, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(config(), frames, out)
    with pytest.raises(UserError, match=r"train.epochs 2, now 3, train.clip None, now 1"):
        run(config(train={"epochs": 3, "clip": 1.0}), frames, out)
    with pytest.raises(UserError, match="made from other frames"):
        run(config(), index(tmp_path / "others", seed=1), out)


def test_what_does_not_fit_the_frames_is_told(frames: Frames, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"made with inpaint_below 0.05, but data.inpaint_below is"):
        run(config(data={"inpaint_below": 0.5}), frames, tmp_path)
    with pytest.raises(UserError, match="32 training frames do not fill one batch of 64"):
        run(config(train={"batch_size": 64}), frames, tmp_path)
    assert not (tmp_path / checkpoint.LAST).exists()


def test_a_loss_that_is_no_number_ends_the_run(frames: Frames, tmp_path: Path) -> None:
    rates = {"learning_rate": 1e30, "start_learning_rate": 1e30, "warmup_epochs": 0}
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step .*train.learning_rate"):
        run(config(train=rates), frames, tmp_path, log_every=100)
    assert not (tmp_path / checkpoint.LAST).exists()


def test_an_unfinished_run_has_no_export(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no best.pt"):
        train.write_export(tmp_path, tmp_path)


# ---- the command -------------------------------------------------------------------------------


def written(folder: Path, **sections: Any) -> Path:
    """The small configuration as a file."""
    content = {**SMALL, **sections, "train": {**SMALL["train"], **sections.get("train", {})}}
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content))))
    return path


def here(*words: object) -> tuple[int, str, str]:
    """The command in this process: exit code, output, errors."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.object(sys, "argv", ["usjepa", *map(str, words)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.slow
def test_a_killed_process_goes_on(frames: Frames, tmp_path: Path) -> None:
    file = written(tmp_path, train={"epochs": 20})
    common = ["train", "--config", file, "--frames", frames.path, "--workers", 0, "--device", "cpu"]
    code, _, err = here(*common, "--out", tmp_path / "whole")
    assert code == 0, err
    out = tmp_path / "cut"
    words = [*common, "--out", out]
    process = Forked("from usjepa.cli import main; main()", *words, environment=os.environ)
    log = out / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 6):
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (out / "encoder.safetensors").exists()
    code, told, err = here(*common, "--out", out)
    assert code == 0, err
    assert "from step 0 " not in told
    for name in ("encoder.safetensors", "encoder.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_two_processes_take_the_step_of_one_that_accumulates(
    frames: Frames, tmp_path: Path
) -> None:
    # With a large epsilon AdamW's steps are proportional to gradients, so weights show those.
    file = written(tmp_path, train={"epochs": 1, "eps": 1.0, "weight_decay": 0.0})
    common = ["train", "--config", file, "--frames", frames.path, "--workers", 0, "--device", "cpu"]
    code, _, err = here(*common, "--out", tmp_path / "a", "--set", "train.accumulate=2")
    assert code == 0, err
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    shared = subprocess.run(
        [*two, "-m", "usjepa", *map(str, common), "--out", tmp_path / "b"],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout.count("epoch 1 of 1") == 1
    start = objective.build(config()).student.state_dict()
    one, two = (load_file(tmp_path / which / "encoder.safetensors") for which in "ab")
    for name in set(start) - {"pos_embed"}:
        moved = (one[name] - start[name]).abs().max()
        assert (one[name] - two[name]).abs().max() < 1e-3 * moved + 1e-9, name
    losses = [[line["loss"] for line in logged(tmp_path / which)[1:]] for which in "ab"]
    assert losses[1] == pytest.approx(losses[0], rel=0.2)  # the log is of the first process


def test_bad_input_is_one_sentence(frames: Frames, tmp_path: Path) -> None:
    file = written(tmp_path)
    common = ["train", "--config", file, "--out", tmp_path / "out"]
    for words, said in (
        ([*common, "--frames", tmp_path / "nowhere"], "nowhere"),
        ([*common, "--frames", frames.path, "--set", "train.epoch=2"], "did you mean"),
        ([*common, "--frames", frames.path, "--probe", "no.such:thing"], "--probe no.such:thing"),
    ):
        code, _, err = here(*words)
        assert code == 2
        assert said in err
        assert len(err.splitlines()) == 1
        assert not (tmp_path / "out").exists()


def test_a_probe_may_stand_in_a_file_of_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "probe_of_this_folder.py").write_text(
        "def count(encoder):\n    return {'one': 1.0}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    probe = cli._probe("probe_of_this_folder:count")
    assert probe is not None
    assert probe(None) == {"one": 1.0}  # type: ignore[arg-type]


def test_the_log_is_cut_at_a_step(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = monitor.Log(path, 0)
    for step in range(5):
        log.write({"kind": "train", "step": step, "loss": 1.0})
    path.write_text(path.read_text() + '{"kind": "tr')  # killed while it wrote
    monitor.Log(path, 2)
    assert [line["step"] for line in logged(tmp_path)] == [0, 1, 2]
    path.write_text("no json\n" + path.read_text())
    content = path.read_text()
    log = monitor.Log(path, 1)  # nothing of it is lost, and nobody has to move it away
    assert [line["step"] for line in logged(tmp_path)] == [0, 1]
    assert log.damaged == tmp_path / "log.damaged.jsonl"
    assert log.damaged.read_text() == content
    for line in ("null", "[]", '{"kind": "train"}', '{"step": "x"}', "[" * 100_000, "\ud800"):
        path.write_text(line + '\n{"kind": "train", "step": 1}\n', errors="surrogatepass")
        assert monitor.Log(path, 1).damaged is not None
        assert [line["step"] for line in logged(tmp_path)] == [1]


def test_numbers_that_are_not_finite_are_logged_as_null(tmp_path: Path) -> None:
    monitor.Log(tmp_path / "log.jsonl", 0).write({"kind": "probe", "step": 1, "score": math.nan})
    assert logged(tmp_path) == [{"kind": "probe", "step": 1, "score": None}]


def test_tensorboard_gets_the_numbers_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            self.folder, self.purge_step = folder, purge_step
            self.scalars: list[tuple[str, float, int]] = []
            made.append(self)

        def add_scalar(self, *scalar: Any) -> None:
            self.scalars.append(scalar)

        def flush(self) -> None:
            pass

    board = types.ModuleType("torch.utils.tensorboard")
    board.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    log = monitor.Log(tmp_path / "log.jsonl", 7)
    log.write({"kind": "train", "step": 8, "loss": 0.25})
    assert made[0].purge_step == 8
    assert made[0].scalars == [("train/loss", 0.25, 8)]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monitor.Log(tmp_path / "log.jsonl", 8).write({"kind": "train", "step": 9, "loss": 0.2})
    assert [line["step"] for line in logged(tmp_path)] == [8, 9]


def test_collapse_shows() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(50, 50, generator=generator))[0]
    features = directions[:, :3] @ directions[:3]
    features = features - features.mean(0)
    assert 1.5 < monitor.effective_rank(features) <= 3.0 + 1e-6
    wide = torch.randn(2000, 8, generator=generator)
    assert monitor.effective_rank(wide) == pytest.approx(8, abs=0.05)
    assert monitor.spread(wide) == pytest.approx(1, abs=0.05)
    flat = torch.ones(20, 8)
    assert monitor.effective_rank(flat) == 1.0
    assert monitor.spread(flat) == 0.0


def test_operations_are_counted() -> None:
    a, b = torch.ones(16, 32), torch.ones(32, 8, requires_grad=True)
    forward = 2 * 16 * 32 * 8
    assert monitor.operations(lambda: a @ b) == forward
    assert monitor.operations(lambda: torch.autograd.backward((a @ b).sum())) == 2 * forward
