"""The command line: places that cannot be written, stale environments, interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
import yaml
from runs import SMALL, config, index

from ultrabench_eval.core.errors import UserError
from usjepa import cli, distributed, loader, masks, monitor, train
from usjepa.frames import sampling
from usjepa.frames.store import Frames
from usjepa.loader import BatchPart, TrainingParts, ValidationParts
from usjepa.train import Execution


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return index(tmp_path_factory.mktemp("frames"))


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in distributed._SET:
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, **train: object) -> Path:
    path = folder / "small.yaml"
    content = {**SMALL, "train": {**SMALL["train"], **train}}
    path.write_text(yaml.safe_dump(json.loads(json.dumps(content))))
    return path


def start(*words: object, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "usjepa", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **variables},
        # A suite that runs in the background is deaf to interruptions, and so would this be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def call(*words: object, **variables: str) -> tuple[int, str, str]:
    process = start(*words, **variables)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: object
) -> str:
    """The one sentence that a command ends with, in this process."""
    monkeypatch.setattr(sys, "argv", ["usjepa", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("usjepa: ")
    assert len(err.splitlines()) == 1
    return err


def test_a_place_that_cannot_be_written_is_told_before_the_work(
    frames: Frames,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = written(tmp_path)
    place = tmp_path / "a file"
    place.write_text("mine")
    images = tmp_path / "images"
    images.mkdir()
    PIL.Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(images / "a.png")
    monkeypatch.setattr(train, "run", None)  # calling it would be an error
    for out in (place, place / "below", tmp_path / ("long" * 100)):
        for words in (
            ("train", "--config", file, "--frames", frames.path),
            ("index", images, "--unguarded"),
            ("export", tmp_path),
        ):
            sentence = said(capsys, monkeypatch, *words, "--out", out)
            assert str(out) in sentence
            assert "; give " in sentence
    assert place.read_text() == "mine"


@pytest.mark.parametrize(
    "left",
    [
        {"RANK": "1"},
        {"RANK": "1", "WORLD_SIZE": "2"},
        {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "nowhere", "MASTER_PORT": "29500"},
    ],
    ids=["rank", "size", "job"],
)
def test_a_stale_rank_hides_no_error(
    left: dict[str, str],
    frames: Frames,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert distributed.rank_and_size() == (0, 1)
    out = ("--out", tmp_path / "out")
    assert "/nonexistent" in said(capsys, monkeypatch, "index", "/nonexistent", *out)
    words = ("train", "--config", written(tmp_path), "--frames", "/nonexistent", *out)
    assert "/nonexistent" in said(capsys, monkeypatch, *words)
    with distributed.joined("cpu") as world:
        assert (world.rank, world.size) == (0, 1)


def test_each_process_of_torchrun_shows_its_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in zip(distributed._SET, ("1", "1", "2", "localhost", "29500"), strict=True):
        monkeypatch.setenv(name, value)
    assert distributed.rank_and_size() == (1, 2)
    assert not cli._is_first()
    words = ("train", "--config", written(tmp_path), "--frames", "/nonexistent")
    assert "/nonexistent" in said(capsys, monkeypatch, *words, "--out", tmp_path / "out")
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match=r"not as torchrun sets them .*unset them"):
        distributed.rank_and_size()


def test_processes_that_do_not_meet_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(distributed._SET, ("1", "1", "2", "localhost", "1"), strict=True):
        monkeypatch.setenv(name, value)

    def refused(backend: str) -> None:
        raise torch.distributed.DistNetworkError("connection refused\nby localhost")

    monkeypatch.setattr(torch.distributed, "init_process_group", refused)
    with (
        pytest.raises(
            UserError, match=r"2 processes .* \(connection refused by localhost\); start"
        ),
        distributed.joined("cpu"),
    ):
        pass


@pytest.mark.slow
def test_an_interrupted_training_says_how_to_resume(frames: Frames, tmp_path: Path) -> None:
    file = written(tmp_path, epochs=1000)
    out = tmp_path / "out"
    words = ("train", "--config", file, "--frames", frames.path, "--out", out, "--workers", 0)
    process = start(*words, "--device", "cpu")
    log = out / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") > 5):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "usjepa: interrupted; run the same command to resume"
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_second_process_is_refused(frames: Frames, tmp_path: Path) -> None:
    # Far more epochs than either has time for: whichever comes first still trains at the end.
    file = written(tmp_path, epochs=100_000)
    out = tmp_path / "out"
    words = ("train", "--config", file, "--frames", frames.path, "--out", out, "--workers", 0)
    both = [start(*words, SLURM_PROCID=number) for number in "01"]
    log = out / "log.jsonl"
    try:
        wait_for(lambda: any(process.poll() is not None for process in both))
        second, first = sorted(both, key=lambda process: process.poll() is None)
        told = second.communicate(timeout=60)[1]
        assert second.returncode == 2, told
        assert "another process trains in" in told
        assert told.count("\n") == 1
        wait_for(lambda: log.exists() and log.read_text().count("\n") > 5)
        first.send_signal(signal.SIGINT)
        assert first.wait(timeout=60) == 130
    finally:
        for process in both:
            process.kill()
            process.communicate()
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    assert len({(line["kind"], line["step"]) for line in steps}) == len(steps)


def wait_for(happened: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, f"not within {seconds:g} s"
        time.sleep(0.05)


# ---- batches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_a_frame_that_cannot_be_read_is_one_sentence(workers: int, tmp_path: Path) -> None:
    frames = index(tmp_path)
    shard = tmp_path / "hearts" / "pixels-00000.bin"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    parts = ValidationParts(frames, np.arange(len(frames)), config(), 8)
    with pytest.raises(UserError) as caught:
        list(loader.stream(parts, range(len(parts)), workers))
    sentence = str(caught.value)
    assert sentence.startswith(f"{shard} is not as it was written at frame")
    assert "`usjepa index" in sentence
    assert "\n" not in sentence


class Dies(TrainingParts):
    def __getitem__(self, at: BatchPart) -> loader.Batch:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_killed_worker_is_one_sentence(frames: Frames) -> None:
    (training, _) = sampling.hold_out(frames, 0.2, 0)
    parts = Dies(frames, sampling.CappedSampler(training, 100, 8, 0), config(), 1)
    with pytest.raises(
        UserError, match=r"process that makes batches was killed .*--workers"
    ) as told:
        list(loader.stream(parts, [BatchPart(0, 0)], 1))
    assert "\n" not in str(told.value)


def test_loading_draws_nothing_from_torchs_generator(frames: Frames) -> None:
    state = torch.get_rng_state()
    parts = ValidationParts(frames, np.arange(len(frames)), config(), 8)
    assert isinstance(next(loader.stream(parts, [0], 0)).masks, masks.Masks)
    assert torch.equal(torch.get_rng_state(), state)


# ---- what is watched -----------------------------------------------------------------------------


def test_the_ceiling_is_measured_in_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def product(side: int, device: torch.device, dtype: torch.dtype) -> float:
        asked.append(side)
        return 0.2 * (side / 256) ** 3

    monkeypatch.setattr(monitor, "_product", product)
    assert monitor.ceiling(torch.device("cpu"), torch.bfloat16) == 2 * 256**3 / 0.2
    assert set(asked) == {256}
    asked.clear()
    monkeypatch.setattr(monitor, "_product", lambda side, *_: 1e-12 * side**3)
    assert monitor.ceiling(torch.device("cpu"), torch.float32) == pytest.approx(2e12)


def test_a_probe_that_fails_is_told_as_its_users(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def probe(encoder: object) -> dict[str, float]:
        os.chdir("/")
        return {"score": float("nan"), "step": 99.0}

    def broken(encoder: object) -> dict[str, float]:
        raise ValueError("no such\ncolumn")

    def leaves(encoder: object) -> dict[str, float]:
        raise SystemExit(0)

    monkeypatch.chdir(tmp_path)

    def run(one: object) -> None:
        how = Execution("cpu", 0, probe=one, probe_every=1)  # type: ignore[arg-type]
        train.run(config(), frames, Path("out"), how)

    for one, words in ((broken, r"ValueError: no such column\)"), (leaves, r"SystemExit: 0\)")):
        with pytest.raises(
            UserError, match=rf"the probe .* failed after epoch 1 \({words}; fix it"
        ):
            run(one)
    run(probe)
    assert (tmp_path / "out" / "encoder.safetensors").is_file()
    lines = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").open()]
    probed = [(line["step"], line["score"]) for line in lines if line["kind"] == "probe"]
    assert probed == [(4, None), (8, None)]


def test_a_probe_whose_module_ends_the_program_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "number.py").write_text("value = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(UserError, match=r"--probe leaving:f cannot be imported \(SystemExit: 0\)"):
        cli._probe("leaving:f")
    with pytest.raises(UserError, match="--probe number:value is not a function"):
        cli._probe("number:value")
