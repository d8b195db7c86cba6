"""What a run is resumed from: damage, other runs and other times never end in other weights."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import config, index
from small_teacher import small

from ultrabench_eval.core import processor
from ultrabench_eval.core.errors import UserError
from usjepa import checkpoint, monitor, objective, teacher, train
from usjepa.config import Config
from usjepa.frames.store import Frames
from usjepa.teacher import FrozenTeacher
from usjepa.train import Execution

LAST, PREVIOUS, BEST = checkpoint.LAST, checkpoint.PREVIOUS, checkpoint.BEST
NAMES = ("encoder.safetensors", "encoder.json")


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Frames:
    return index(tmp_path_factory.mktemp("frames"))


@pytest.fixture(autouse=True)
def a_small_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "load", lambda *_: FrozenTeacher(small()))
    monkeypatch.setattr(monitor, "ceiling", lambda *_: 1e9)  # takes a second


SALT = config(objective="salt")


def run(
    out: Path, frames: Frames, settings: Config = SALT, kill_at: int | None = None, **how: Any
) -> list[str]:
    """Train to the end or to a kill; returns the notes."""
    notes: list[str] = []

    def report(line: Any) -> None:
        if line["kind"] == "note":
            notes.append(line["text"])
        if line["kind"] == "train" and line["step"] == kill_at:
            raise Killed

    how = {"device": "cpu", "workers": 0, "log_every": 1, "report": report} | how
    try:
        train.run(settings, frames, out, Execution(checkpoint_minutes=0, **how))
    except Killed:
        assert kill_at is not None
    return notes


@pytest.fixture(scope="module")
def whole(frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never disturbed."""
    out = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "load", lambda *_: FrozenTeacher(small()))
        run(out, frames)
    return out


@pytest.fixture(scope="module")
def stopped(frames: Frames, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, killed in step 7: checkpoints of steps 6 and 5, and the encoder of step 4."""
    out = tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teacher, "load", lambda *_: FrozenTeacher(small()))
        run(out, frames, kill_at=7)
    assert torch.load(out / LAST, weights_only=True)["progress"]["step"] == 6
    assert torch.load(out / PREVIOUS, weights_only=True)["progress"]["step"] == 5
    assert torch.load(out / BEST, weights_only=True)["about"]["step"] == 4
    return out


@pytest.fixture
def out(stopped: Path, tmp_path: Path) -> Path:
    """A copy of the stopped run."""
    return shutil.copytree(stopped, tmp_path / "out")


def same(out: Path, whole: Path) -> bool:
    return all((out / name).read_bytes() == (whole / name).read_bytes() for name in NAMES)


def digest(path: Path) -> str:
    """Of a file's content; its bytes also tell which of its texts are one object in memory."""
    return str(torch.load(path, weights_only=True)["sha256"])


def flipped(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * (len(content) - 1))] ^= 4
    path.write_bytes(content)


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """As torch would write it, with right checksums of the archive, but another content."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def moved(content: dict[str, Any]) -> None:
    content["objective"]["student.norm.weight"][0] += 1e-6


def diverged(content: dict[str, Any]) -> None:
    content["objective"]["student.norm.weight"][0] = torch.nan


DAMAGES: dict[str, Callable[[Path], object]] = {
    **{f"flip {i}": (lambda path, i=i: flipped(path, i / 12)) for i in range(13)},
    "cut": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "shortened": lambda path: path.write_bytes(path.read_bytes()[:900] + path.read_bytes()[930:]),
    "empty": lambda path: path.write_bytes(b""),
    "page": lambda path: path.write_bytes(b"<!DOCTYPE html><html></html>"),
    "step 0": lambda path: rewritten(path, lambda c: c["progress"].update(step=0)),
    "step -4": lambda path: rewritten(path, lambda c: c["progress"].update(step=-4)),
    "step 999": lambda path: rewritten(path, lambda c: c["progress"].update(step=999)),
    "best": lambda path: rewritten(path, lambda c: c["progress"].update(best=0.0)),
    "moved": lambda path: rewritten(path, moved),
    "diverged": lambda path: rewritten(path, diverged),
    "no digest": lambda path: rewritten(path, lambda c: c.pop("sha256")),
    "moments": lambda path: rewritten(
        path, lambda c: c["optimizer"]["state"][0]["exp_avg"].mul_(2)
    ),
    "precision": lambda path: rewritten(path, lambda c: c.update(precision="bfloat16")),
    "encoder": lambda path: rewritten(path, lambda c: c["best"]["encoder"]["norm.weight"].mul_(2)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_after_damage_the_checkpoint_before_is_used(
    damage: Callable[[Path], object], out: Path, whole: Path, frames: Frames
) -> None:
    before = (out / LAST).read_bytes()
    damage(out / LAST)
    damaged = (out / LAST).read_bytes()
    notes = run(out, frames)
    assert same(out, whole)
    if not notes:  # a bit between the archive's parts, which nobody reads
        assert len(damaged) == len(before)
        return
    assert f"{out / LAST} is damaged" in notes[0]
    assert notes[1] == f"{out / PREVIOUS} is used, from step 5"
    assert (out / checkpoint.DAMAGED).read_bytes() == damaged


def test_without_a_whole_checkpoint_the_run_starts_again(
    out: Path, whole: Path, frames: Frames
) -> None:
    for name in (LAST, PREVIOUS):
        rewritten(out / name, moved)
    notes = run(out, frames)
    assert [note.split()[0] for note in notes[:2]] == [str(out / LAST), str(out / PREVIOUS)]
    assert notes[2:] == ["training starts from the beginning"]
    assert same(out, whole)
    steps = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if line["kind"] == "train"] == list(range(1, 9))


def test_a_kill_between_the_two_renames_is_told(out: Path, whole: Path, frames: Frames) -> None:
    (out / LAST).unlink()
    assert run(out, frames) == [f"{out / PREVIOUS} is used, from step 5"]
    assert same(out, whole)


def test_an_older_checkpoint_of_the_same_run_ends_in_the_same_weights(
    out: Path, whole: Path, frames: Frames
) -> None:
    shutil.copy(out / PREVIOUS, out / LAST)
    assert run(out, frames) == []
    assert same(out, whole)


def test_equal_states_are_equal_bytes(whole: Path, frames: Frames, tmp_path: Path) -> None:
    run(tmp_path / "another place", frames)
    for name in (LAST, PREVIOUS, BEST):
        content = (tmp_path / "another place" / name).read_bytes()
        assert content == (whole / name).read_bytes()
        assert str(os.getpid()).encode() not in content[:4000]


# ---- the best encoder ----------------------------------------------------------------------------


def of_another_seed(out: Path, frames: Frames) -> None:
    run(out / "other", frames, config(objective="salt", seed=1), kill_at=7)
    shutil.copy(out / "other" / BEST, out / BEST)


def one_epoch_ahead(out: Path, frames: Frames) -> None:
    """As if the run had been killed between its two files."""
    shutil.copytree(out, out / "later")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train._Run, "_save", lambda _: None)
        run(out / "later", frames)
    shutil.copy(out / "later" / BEST, out / BEST)


BESTS: dict[str, Callable[[Path, Frames], object]] = {
    "missing": lambda out, _: (out / BEST).unlink(),
    "cut": lambda out, _: (out / BEST).write_bytes((out / BEST).read_bytes()[:500]),
    "flip": lambda out, _: flipped(out / BEST, 0.5),
    "moved": lambda out, _: rewritten(out / BEST, lambda c: c["encoder"]["norm.weight"].mul_(2)),
    "of another run": of_another_seed,
    "of an epoch to come": lambda out, frames: one_epoch_ahead(out, frames),
}


@pytest.mark.parametrize("damage", BESTS.values(), ids=BESTS)
def test_the_best_encoder_is_the_one_that_the_checkpoint_remembers(
    damage: Callable[[Path, Frames], object],
    out: Path,
    stopped: Path,
    whole: Path,
    frames: Frames,
    tmp_path: Path,
) -> None:
    right = train.write_export(stopped, tmp_path / "right").read_bytes()
    damage(out, frames)
    if damage is of_another_seed:
        told = (
            f"{out / BEST} is of another run than {out / LAST}; run `usjepa train` again with the "
            "same settings and --out, which restores it"
        )
        with pytest.raises(UserError, match=re.escape(told)):
            train.write_export(out, tmp_path / "export")
    elif damage is not BESTS["of an epoch to come"]:
        assert train.write_export(out, tmp_path / "export").read_bytes() == right
    run(out, frames)
    assert same(out, whole)
    assert digest(out / BEST) == digest(whole / BEST)


def test_nothing_vouches_for_an_encoder_beside_a_damaged_checkpoint(
    out: Path, tmp_path: Path
) -> None:
    flipped(out / LAST, 0.5)
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged .*; run `usjepa train` again"):
        train.write_export(out, tmp_path / "export")
    (out / LAST).unlink()
    train.write_export(out, tmp_path / "export")
    flipped(out / BEST, 0.5)
    with pytest.raises(UserError, match=r"best\.pt is damaged .*; run `usjepa train` again"):
        train.write_export(out, tmp_path / "export")


# ---- other runs ----------------------------------------------------------------------------------


def test_a_checkpoint_of_another_run_is_refused(
    out: Path, frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = r".*; (give|restore) .* to resume, or (give )?another --out to start again$"
    with pytest.raises(UserError, match=r"checkpoint\.pt .*\(seed 0, now 1\)" + again):
        run(out, frames, config(objective="salt", seed=1))
    with pytest.raises(UserError, match=r"checkpoint\.pt was made from other frames" + again):
        run(out, index(tmp_path / "others", seed=1))
    other = small()
    with torch.no_grad():
        other.network.norm.weight[0] += 1
    monkeypatch.setattr(teacher, "load", lambda *_: FrozenTeacher(other))
    with pytest.raises(UserError, match=r"checkpoint\.pt was made with another teacher" + again):
        run(out, frames)


@pytest.mark.parametrize(
    "content",
    [
        {"weights": 1},
        {"format": 2},
        {"format": 2, "config": {}},
        {"format": 1, "config": {"name": "x"}},
        {"format": "1", "config": {}},
        {"format": 1, "config": {}, "frames": 1, "objective": {}, "optimizer": {}, "progress": {}},
        {"format": True, "config": None},
    ],
)
def test_files_of_another_kind_are_refused_and_left_alone(
    content: Any, out: Path, frames: Frames, tmp_path: Path
) -> None:
    torch.save(content, out / LAST)
    before = (out / LAST).read_bytes()
    with pytest.raises(UserError, match=r"checkpoint\.pt is not a checkpoint of usjepa; give"):
        run(out, frames)
    assert (out / LAST).read_bytes() == before
    with pytest.raises(UserError, match=r"checkpoint\.pt is not a checkpoint of usjepa; give"):
        train.write_export(out, tmp_path / "export")


def test_newer_formats_and_unknown_settings_are_refused(out: Path, frames: Frames) -> None:
    rewritten(out / LAST, lambda content: content.update(format=3))
    with pytest.raises(UserError, match="has format 3, but this version of usjepa reads up to 2"):
        run(out, frames)
    rewritten(out / LAST, lambda c: (c.update(format=1), c["config"].update(colour="red")))
    with pytest.raises(UserError, match=r"checkpoint\.pt was made with settings .*'colour'"):
        run(out, frames)


# ---- earlier versions ----------------------------------------------------------------------------


def made_old(out: Path) -> None:
    """As the version before wrote its files."""

    def last(content: dict[str, Any]) -> None:
        for name in ("sha256", "teacher", "precision", "best"):
            del content[name]
        content["format"] = 1
        content["generators"] = {"cpu": torch.get_rng_state(), "cuda": []}

    (out / PREVIOUS).unlink()
    rewritten(out / LAST, last)
    rewritten(out / BEST, lambda content: (content.pop("sha256"), content.update(format=1)))


def test_a_run_of_an_earlier_version_is_resumed_with_a_word(
    out: Path, whole: Path, frames: Frames, tmp_path: Path
) -> None:
    made_old(out)
    train.write_export(out, tmp_path / "export")
    (note,) = run(out, frames)
    assert note == f"{out / LAST} is not verified: an earlier version wrote it, without a digest"
    assert same(out, whole)
    assert torch.load(out / LAST, weights_only=True)["format"] == 2


def test_damage_to_a_run_of_an_earlier_version_is_told(
    out: Path, whole: Path, frames: Frames, tmp_path: Path
) -> None:
    made_old(out)
    for number, damage in enumerate(
        (
            lambda copied: flipped(copied / LAST, 0.5),
            lambda copied: DAMAGES["step 999"](copied / LAST),
            lambda copied: (copied / BEST).unlink(),
            lambda copied: flipped(copied / BEST, 0.5),
            lambda copied: of_another_seed(copied, frames),
        )
    ):
        copied = shutil.copytree(out, tmp_path / str(number))
        damage(copied)
        notes = run(copied, frames)
        assert "training starts from the beginning" in notes
        assert same(copied, whole)


def test_the_state_of_another_network_is_told(out: Path, frames: Frames) -> None:
    made_old(out)
    rewritten(out / LAST, lambda content: content["objective"].pop("student.norm.weight"))
    with pytest.raises(UserError, match=r"checkpoint\.pt does not hold the state .*another --out"):
        run(out, frames)


# ---- what a run draws ----------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 1])
def test_an_objective_that_draws_is_resumed_exactly(
    workers: int, frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = objective.SALT.targets

    def noisy(self: objective.SALT, images: torch.Tensor) -> torch.Tensor:
        wanted = plain(self, images)
        return wanted + torch.rand(wanted.shape)

    monkeypatch.setattr(objective.SALT, "targets", noisy)
    run(tmp_path / "whole", frames, workers=workers)
    torch.rand(7)  # whatever the process did before
    run(tmp_path / "cut", frames, kill_at=3, workers=workers)
    torch.rand(3)
    run(tmp_path / "cut", frames, kill_at=7, workers=workers)
    run(tmp_path / "cut", frames, workers=0)
    assert same(tmp_path / "cut", tmp_path / "whole")
    assert digest(tmp_path / "cut" / LAST) == digest(tmp_path / "whole" / LAST)


# ---- one training per folder ---------------------------------------------------------------------


def test_two_trainings_do_not_share_a_folder(frames: Frames, tmp_path: Path, whole: Path) -> None:
    said: list[str] = []

    def second() -> None:
        try:
            run(tmp_path / "out", frames, config(objective="salt", seed=1))
        except UserError as error:
            said.append(str(error))

    def report(line: Any) -> None:
        if line["kind"] == "train" and line["step"] == 2:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()

    run(tmp_path / "out", frames, report=report)
    (sentence,) = said
    assert sentence.startswith(f"another process trains in {tmp_path / 'out'}; wait")
    assert same(tmp_path / "out", whole)
    kinds = [json.loads(line)["kind"] for line in (tmp_path / "out/log.jsonl").open()]
    assert kinds.count("start") == 1


def test_what_a_killed_process_left_is_removed(frames: Frames, tmp_path: Path) -> None:
    from ultrabench_eval.core import files

    dead = 2**22 + 1  # above the largest number of a process
    left = tmp_path / f".checkpoint.pt.{files._HOST}.0123456789abcdef.{dead}.tmp"
    left.write_bytes(b"gigabytes")
    mine = tmp_path / "mine.tmp"
    mine.touch()
    run(tmp_path, frames)
    assert not left.exists()
    assert mine.exists()


# ---- precision -----------------------------------------------------------------------------------


def test_without_bfloat16_in_hardware_a_run_is_in_float32_and_stays_so(
    frames: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(objective="salt", train={"precision": "bfloat16"})
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda device: False)
    (note,) = run(tmp_path / "slow", frames, settings, kill_at=7)
    assert note.startswith("this processor has no bfloat16 in hardware, so this run computes in fl")
    start = json.loads((tmp_path / "slow/log.jsonl").read_text().splitlines()[1])
    assert (start["kind"], start["precision"]) == ("start", "float32")
    shutil.copytree(tmp_path / "slow", tmp_path / "moved")
    run(tmp_path / "slow", frames, settings)

    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda device: True)
    (note,) = run(tmp_path / "moved", frames, settings)
    assert note.startswith("this run was started in float32, on a processor without bfloat16")
    assert same(tmp_path / "moved", tmp_path / "slow")
    card = json.loads((tmp_path / "moved" / "encoder.json").read_text())
    assert card["precision"] == "float32"
    assert card["config"]["train"]["precision"] == "bfloat16"

    assert run(tmp_path / "fast", frames, settings, kill_at=7) == []
    shutil.copytree(tmp_path / "fast", tmp_path / "back")
    run(tmp_path / "fast", frames, settings)
    assert not same(tmp_path / "fast", tmp_path / "slow")
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda device: False)
    (note,) = run(tmp_path / "back", frames, settings)
    assert note.startswith("this run was started in bfloat16 and is resumed so")
    assert same(tmp_path / "back", tmp_path / "fast")


def test_ctrl_c_while_a_checkpoint_is_written_waits_until_it_is_whole(tmp_path: Path) -> None:
    """In a process of its own, which does not ignore Ctrl-C as one in the background of a shell."""
    code = f"""
import signal, pathlib, torch
from usjepa import checkpoint
signal.signal(signal.SIGINT, signal.default_int_handler)
checkpoint._digest = lambda content: signal.raise_signal(signal.SIGINT) or "digest"
try:
    checkpoint._write(pathlib.Path({str(tmp_path / "x.pt")!r}), {{"weights": torch.arange(3)}})
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "interrupted\n"
    assert torch.load(tmp_path / "x.pt")["weights"].tolist() == [0, 1, 2]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("size", [3, 1_000_000])
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(size: int) -> None:
    with pytest.raises(OSError, match="No space left"):
        checkpoint._write(Path("/dev/full"), {"weights": torch.zeros(size)})
