"""Runs by workers: local ones, and what all executors share."""

from __future__ import annotations

import errno
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from executor_runs import Place, cells, place_at
from filelock import FileLock
from test_cli import ubench

from ultrabench_eval import executors
from ultrabench_eval.cells import Cells, Coordinates, Failure
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.executors import Engine, Job, Lost, Outcome, distribute
from ultrabench_eval.executors.local import Local, share_gpus
from ultrabench_eval.executors.work import work
from ultrabench_eval.pipeline import Step
from ultrabench_eval.request import Request
from ultrabench_eval.units import Unit, Written, in_turn


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place_at(tmp_path, monkeypatch) as made:
        yield made


# ---- workers on this machine ---------------------------------------------------------------------


@pytest.mark.slow
def test_local_workers_are_the_single_run_even_if_one_is_killed(place: Place) -> None:
    place.deaths(1)
    steps = place.run("dies,pixels,image-stats", "out", workers=2)
    every = [f"done {m} {t}" for m in ("dies", "image-stats", "pixels") for t in "ab"]
    assert cells(steps) == every
    assert [(s.stage, s.done, s.total) for s in steps[-2:]] == [("units", 6, 6), ("report", 0, 0)]
    again = [step.model for step in steps if " again, because " in step.model]
    assert len(again) == 1
    assert re.match(r"dies on [ab] again, because its process was killed by SIGKILL", again[0])
    assert len(place.images) == len(set(place.images)) == 60
    assert sum(step.new for step in steps) == 3 * 60
    task = again[0].split()[2]
    log = place.log("out", "dies", task)
    assert "attempt 2 of 3" in log
    assert f"encode dies {task} 0 of 30" in log
    assert "done dies" in log
    assert not list(place.folder.rglob("*.tmp"))
    assert place.same_as_alone("dies,pixels,image-stats", "out")


@pytest.mark.slow
def test_an_interrupt_kills_the_workers_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(step: Step) -> None:
        if step.stage == "units" and step.done == 1:  # the others are at work or wait
            raise KeyboardInterrupt

    started: list[subprocess.Popen[bytes]] = []
    start = Local._start

    def remember(self: Local, number: int) -> subprocess.Popen[bytes]:
        started.append(start(self, number))
        return started[-1]

    monkeypatch.setattr(Local, "_start", remember)
    monkeypatch.setenv("COUNTING_SLEEP", "600")
    with pytest.raises(KeyboardInterrupt):
        place.run("pixels,counting", "out", ["a.csv"], workers=2, tell=interrupt)
    assert len(started) == 2
    assert {process.returncode for process in started} == {-signal.SIGKILL}
    assert not (place.folder / "out" / "leaderboard.md").exists()


def test_a_worker_ends_with_its_parent(place: Place) -> None:
    request = Request(
        *("counting", "a.csv"), plugin_files=("plugin.py",), out="out", cache="cache", device="cpu"
    )
    job = Job(Unit("counting", "a"), request, str(place.folder), place.folder / "unit.log")
    worker = subprocess.Popen(
        [sys.executable, "-m", "ultrabench_eval.executors.local"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "COUNTING_SLEEP": "600"},
    )
    assert worker.stdin is not None
    pickle.dump(job, worker.stdin)
    worker.stdin.flush()
    deadline = time.monotonic() + 300
    while "encode counting" not in (job.log.read_text() if job.log and job.log.exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    worker.stdin.close()  # as the system does when a parent is gone
    assert worker.wait(timeout=60) == 0
    assert worker.stdout is not None
    worker.stdout.close()


def test_gpus_are_shared_out() -> None:
    assert share_gpus(["4", "6"], 2, None) == ["4", "6"]
    assert share_gpus(["4", "6"], 1, 1) == ["4"]
    assert share_gpus(["4", "6"], 4, 0.5) == ["4", "4", "6", "6"]
    assert share_gpus(["4", "6", "7"], 9, 1 / 3) == [*"444666777"]
    assert share_gpus(["4"], 3, 0) == ["", "", ""]
    assert share_gpus([], 3, None) is None
    with pytest.raises(UserError, match=r"4 workers with 1 GPU each.* 2 GPU.*gpus_per_worker=0.5"):
        share_gpus(["0", "1"], 4, None)


def test_a_local_worker_sees_its_own_gpu_and_its_share_of_the_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, env, **__: seen.append(env))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for device, options in (("auto", {}), ("cuda:1", {}), ("cpu", {"cpus_per_worker": "3"})):
        local = Local(2, options, device)
        local._folder = tmp_path
        local._start(1)
    assert [one["CUDA_VISIBLE_DEVICES"] for one in seen] == ["5", "3,5", "3,5"]
    assert [one["OMP_NUM_THREADS"] for one in seen] == ["6", "6", "3"]


# ---- what is wrong before the start --------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--executor slrum --workers 2", "no executor 'slrum'; did you mean 'slurm'"),
        ("--executor local", "how many: --workers N"),
        ("--workers 0", "--workers must be from 1 to 4096, not 0"),
        ("--executor-option cpus_per_worker=2", "is for --executor"),
        ("--workers 2 --executor-option cpus_per_worker", "write KEY=VALUE"),
        ("--workers 2 --executor-option cpu=2", "local has no option 'cpu'"),
        ("--workers 2 --executor-option cpus_per_worker=many", "cpus_per_worker=many is not"),
        ("--workers 2 --executor-option gpus_per_worker=-1", "gpus_per_worker=-1 is not"),
        ("--workers 2 --device tpu", "device 'tpu' cannot be used"),
        ("--executor ray --workers 2 --device tpu", "device 'tpu' cannot be used"),
        ("--workers 2 --dtype float8", "unknown dtype 'float8'"),
        ("--workers 2 --model pixel", "unknown model 'pixel'"),
        ("--workers 2 --task nowhere.csv", "nowhere.csv"),
    ],
)
def test_bad_input_is_told_before_anything_is_started(
    tmp_path: Path, manifest: Path, words: str, said: str
) -> None:
    asked = ["--model", "pixels", "--task", str(manifest), *words.split()]
    done = ubench("run", *asked, "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"))
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("executor", "module"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_package_is_one_sentence(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch, executor: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    words = ["run", "--model", "pixels", "--task", str(manifest), "--out", str(tmp_path / "out")]
    done = ubench(*words, "--executor", executor, "--workers", "2")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"pip install {module}")
    assert not (tmp_path / "out").exists()


# ---- giving out again ----------------------------------------------------------------------------


class Scripted(Engine):
    """Ends jobs as its script says, in the order in which they come."""

    name = "scripted"

    def __init__(self, workers: int, ends: list[Outcome | Lost | UserError]) -> None:
        super().__init__(workers, {}, "cpu")
        self.ends, self.jobs, self.most = ends, list[Job](), 0

    def start(self, folder: Path) -> None:
        if self.ends and isinstance(self.ends[0], UserError):
            raise self.ends[0]

    def submit(self, jobs: object) -> None:
        self.jobs += jobs  # type: ignore[arg-type,operator]
        self.most = max(self.most, len(self.jobs))
        if isinstance(self.ends[0], UserError):
            self.jobs = []
            raise self.ends.pop(0)  # type: ignore[misc]

    def ended(self) -> Iterator[executors.Ended]:
        end = self.ends.pop(0)
        assert not isinstance(end, UserError)
        yield self.jobs.pop(0), end

    def stop(self) -> None:
        self.jobs = []


def job(task: str) -> Job:
    return Job(Unit("m", task), {}, ".", None)


def test_lost_jobs_are_given_out_again_so_often_and_no_more_than_there_is_room() -> None:
    fine, lost = Outcome(("done",)), Lost("gone")
    engine = Scripted(2, [lost, fine, lost, fine, lost, lost])
    ends = list(distribute([job("a"), job("b"), job("c")], engine))
    assert [(j.unit.task, end, len(j.losses), executors.final(j)) for j, end in ends] == [
        ("a", lost, 0, False),
        ("b", fine, 0, False),
        ("c", lost, 0, False),
        ("a", fine, 1, False),
        ("c", lost, 1, False),
        ("c", lost, 2, True),
    ]
    assert engine.most == 2


def test_a_job_that_is_not_taken_again_is_given_up() -> None:
    engine = Scripted(1, [Lost("gone"), UserError("the queue is closed")])
    (_, first), (_, second) = distribute([job("a")], engine)
    assert first == Lost("gone")
    assert second == Outcome(error="the queue is closed")
    with pytest.raises(UserError, match="closed"):  # nothing was begun
        list(distribute([job("a")], Scripted(1, [UserError("the queue is closed")])))


def test_an_engine_that_does_not_start_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out" / ".workers"
    engine = Scripted(1, [UserError("no cluster")])
    with pytest.raises(UserError, match="no cluster"), executors.started(engine, folder):
        pass
    assert not folder.parent.exists()


def test_what_a_lost_worker_left_behind_is_known(tmp_path: Path) -> None:
    at = Coordinates("pixels", "a", "paper-1")
    path = tmp_path / "cells" / f"{at.path}.json"
    files.write_text(path, "old")
    written = Written(tmp_path)
    assert at not in written
    files.write_text(path, "new")
    assert at in written


class Doomed(Scripted):
    """Works in this process, and loses every job of the model `dies` after its first cell."""

    def __init__(self, workers: int, options: object, device: str) -> None:
        super().__init__(workers, [Outcome()])

    def ended(self) -> Iterator[executors.Ended]:
        one = self.jobs.pop(0)
        if one.unit.model != "dies":
            yield one, work(replace(one, log=None))
            return
        if not one.losses:
            work(replace(one, request=replace(one.request, fractions="50")))
        yield one, Lost("its process was killed by SIGKILL")


def test_a_unit_that_always_dies_is_given_up_and_costs_no_other(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(executors._ENGINES, "local", f"{__name__}:Doomed")
    place.deaths(0)
    words = [*place.words("dies,pixels", "out", "a.csv"), "--fractions", "50,100"]
    done = ubench(*words, "--workers", "1")
    assert done.returncode == 1
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("error: ")]
    assert line == (
        "error: dies on a: its worker died 3 times (its process was killed by SIGKILL); "
        f"see {place.folder}/out/.workers/dies/a.log, fix the cause and run again"
    )
    entries = {
        (e.coordinates.model, e.coordinates.fraction): isinstance(e, Failure)
        for e in Cells(Path("out")).gather()
    }
    # What a worker had finished before it died is a number; the other unit is whole.
    assert entries == {
        ("dies", 50): False, ("dies", 100): True, ("pixels", 50): False, ("pixels", 100): False,
    }  # fmt: skip


def test_what_is_wrong_before_the_start_needs_no_worker(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(executors._ENGINES, "local", f"{__name__}:Doomed")
    steps = place.run("pixels", "out", ["a.csv", "nowhere.csv"], workers=1, keep_going=True)
    assert cells(steps) == ["done pixels a", "failed pixels nowhere"]


def test_a_folder_that_a_worker_does_not_have_is_a_sentence(tmp_path: Path) -> None:
    end = work(Job(Unit("pixels", "a"), Request(), str(tmp_path / "elsewhere"), None))
    assert end.error.startswith(f"the folder {tmp_path / 'elsewhere'} is not on ")
    end = work(Job(Unit("pixel", "a"), Request("pixel"), str(tmp_path), tmp_path / "log"))
    assert end.error.startswith("unknown model 'pixel'")


class Interrupted(Scripted):
    """The user's Ctrl-C, while it waits."""

    def __init__(self, workers: int, options: object, device: str) -> None:
        super().__init__(workers, [Outcome()])

    def ended(self) -> Iterator[executors.Ended]:
        raise KeyboardInterrupt


def test_an_interrupt_ends_in_a_sentence(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(executors._ENGINES, "local", f"{__name__}:Interrupted")
    done = ubench(*place.words("pixels", "out", "a.csv"), "--workers", "1")
    assert done.returncode == 130
    assert done.stderr == "ubench: interrupted; run the same command to resume\n"


# ---- locks that are not what they should be ------------------------------------------------------


def test_nobody_waits_for_ever_for_a_unit_that_was_given_to_him(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = Unit("pixels", "a")
    held = tmp_path / ".units" / "pixels" / "a.lock"
    held.parent.mkdir(parents=True)
    lock = FileLock(held)
    lock.acquire()
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    assert list(in_turn([unit], tmp_path, patience=0)) == [unit]
    assert not waits


def test_patience_with_a_lock_ends(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / "x.lock")
    with files.locked(tmp_path / "x", patience=0.01) as alone:
        assert alone
    with lock, files.locked(tmp_path / "x", patience=0.01) as alone:
        assert not alone


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EIO])
def test_a_file_system_without_locks_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(FileLock, "acquire", refuse)
    if number == errno.ENOLCK:
        with files.locked(tmp_path / "x") as alone:
            assert alone
        assert list(in_turn([Unit("m", "t")], tmp_path)) == [Unit("m", "t")]
    else:
        with pytest.raises(OSError, match="error"), files.locked(tmp_path / "x"):
            pass
