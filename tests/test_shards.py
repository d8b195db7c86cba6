"""A run in pieces: shares of it, several workers on one folder, results of several folders."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import forget_plugins, make_manifest
from filelock import FileLock
from forked import Forked
from test_cli import ubench
from test_pipeline import tables

import ultrabench_eval
from ultrabench_eval import units
from ultrabench_eval.cells import Cells, Failure
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.merge import merge
from ultrabench_eval.pipeline import Step
from ultrabench_eval.units import Failures, Shard, Unit, in_turn

MODELS = "counting,pixels,image-stats"
Tasks = list[str]


@pytest.fixture(autouse=True)
def _each_test_has_plugins_of_its_own() -> Iterator[None]:
    yield
    forget_plugins()


@pytest.fixture
def two(tmp_path: Path) -> Tasks:
    """Two small tasks."""
    return [str(make_manifest(tmp_path / f"{n}.csv", count=30, seed=i)) for i, n in enumerate("ab")]


def run(out: Path, tasks: Tasks, models: str = MODELS, **more: object) -> list[str]:
    """Run in this process; what became of each cell."""
    steps: list[Step] = []
    more = {"cache": out.parent / f"{out.name}-cache", "seeds": 2, **more}
    ultrabench_eval.run(models, tasks, out=out, device="cpu", report=steps.append, **more)
    cells = [step for step in steps if step.stage in ("done", "kept", "failed")]
    return [f"{step.stage} {step.model} {step.task}" for step in cells]


def test_shares_are_the_whole_and_even() -> None:
    for length in range(20):
        for of in range(1, 25):
            parts = [Shard(number, of).part(range(length)) for number in range(1, of + 1)]
            assert [one for part in parts for one in part] == list(range(length))
            sizes = [len(part) for part in parts]
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("words", ["0/4", "5/4", "1", "1/0", "a/b", "-1/2", "1/2/3", "1.0/2"])
def test_a_share_that_is_none_is_told(tmp_path: Path, two: Tasks, words: str) -> None:
    with pytest.raises(UserError, match=r"--shard .*, e\.g\. 2/4"):
        run(tmp_path / "out", two, "pixels", shard=words)
    assert not (tmp_path / "out").exists()


def test_shards_merged_are_the_single_run(tmp_path: Path, two: Tasks, counting: Path) -> None:
    whole = run(tmp_path / "whole", two, plugin_files=[counting], fractions="50,100")
    parts = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    done = []
    for number, part in enumerate(parts, 1):  # as on three machines: folders and caches of its own
        options = {"plugin_files": [counting], "fractions": "50,100", "shard": f"{number}/3"}
        done += run(part, two, **options)
    assert sorted(done) == sorted(whole)
    assert Counter(done) == Counter(dict.fromkeys(done, 2))  # two fractions each
    out = tmp_path / "merged"
    words = ubench("merge", str(out), *map(str, parts))
    assert words.returncode == 0, words.stderr
    assert f"4 new results from {parts[0]}" in words.stdout
    assert "12 results and 0 error rows" in words.stdout
    assert tables(out) == tables(tmp_path / "whole")
    assert (out / "statistics.md").read_bytes() == (tmp_path / "whole/statistics.md").read_bytes()
    # What is merged is as good as measured: nothing is done again.
    again = run(out, two, plugin_files=[counting], fractions="50,100")
    assert all(line.startswith("kept") for line in again)
    again = merge(out, parts)
    assert sum(again.taken.values()) == 0


def test_shards_on_one_folder_are_the_single_run(tmp_path: Path, two: Tasks) -> None:
    models = "pixels,image-stats"
    run(tmp_path / "whole", two, models)
    for number in (3, 1, 5, 2, 4):  # one more than there are units: a share may be empty
        run(tmp_path / "out", two, models, shard=f"{number}/5")
    assert tables(tmp_path / "out") == tables(tmp_path / "whole")


def test_an_empty_share_alone_is_a_run_of_nothing(tmp_path: Path, two: Tasks) -> None:
    assert run(tmp_path / "out", two, "pixels", shard="1/5") == []


# ---- several workers on one folder ---------------------------------------------------------------


def test_a_unit_that_is_held_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [Unit("timm/x", "a"), Unit("pixels", "a"), Unit("pixels", "b")]
    held = tmp_path / ".units" / "timm%2Fx" / "a.lock"
    held.parent.mkdir(parents=True)
    lock = FileLock(held)
    lock.acquire()
    waits: list[float] = []

    def free(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            lock.release()

    monkeypatch.setattr(units.time, "sleep", free)
    assert list(in_turn(asked, tmp_path)) == [*asked[1:], asked[0]]
    assert len(waits) == 3
    assert list(in_turn(asked, tmp_path)) == asked  # all are free again


def test_what_failed_elsewhere_since_the_start_is_not_tried_again(
    tmp_path: Path, two: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "a_images" / "3.png"
    victim.write_bytes(victim.read_bytes()[:60])
    out = tmp_path / "out"
    assert run(out, two, "pixels") == ["failed pixels a", "done pixels b"]
    (failure,) = [entry for entry in Cells(out).gather() if isinstance(entry, Failure)]
    later = Failures(out)
    assert failure.coordinates not in later  # of an earlier run: worth another try
    Cells(out).fail(failure)
    assert failure.coordinates in later

    # The same within a run: what stands there counts as failed, although it could be fixed.
    monkeypatch.setattr("ultrabench_eval.pipeline.Failures", lambda out: later)
    make_manifest(tmp_path / "again" / "a.csv", count=30, seed=0)
    victim.write_bytes((tmp_path / "again" / "a_images" / "3.png").read_bytes())
    assert run(out, two, "pixels") == ["failed pixels a", "kept pixels b"]
    monkeypatch.undo()
    assert run(out, two, "pixels") == ["done pixels a", "kept pixels b"]


WORKER = """
import sys
import ultrabench_eval

log, out, cache, plugin, models, *tasks = sys.argv[1:]

def report(step):
    if step.stage in ("done", "kept", "failed", "encode"):
        with open(log, "a") as file:
            file.write(f"{step.stage} {step.model} {step.task}\\n")

ultrabench_eval.run(models, tasks, seeds=2, out=out, cache=cache, plugin_files=[plugin],
    device="cpu", report=report)
"""


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_two_workers_and_a_killed_third_measure_every_cell_once(
    tmp_path: Path, two: Tasks, counting: Path
) -> None:
    out, images = tmp_path / "out", tmp_path / "images.log"

    def start(name: str, sleep: str) -> Forked:
        environment = {**os.environ, "COUNTING_LOG": str(images), "COUNTING_SLEEP": sleep}
        words = [tmp_path / name, out, tmp_path / "cache", counting, MODELS, *two]
        return Forked(WORKER, *words, environment=environment)

    def lines(name: str) -> list[str]:
        path = tmp_path / name
        return path.read_text().splitlines() if path.exists() else []

    def done(*names: str) -> list[str]:
        return [one for name in names for one in lines(name) if one.startswith("done")]

    third = start("third", sleep="600")
    wait_for(lambda: bool(lines("third")))  # it encodes, and will never be ready
    workers = [start("first", sleep="0"), start("second", sleep="0")]
    wait_for(lambda: len(done("first", "second")) == 5)  # all but what the third holds
    assert all(worker.poll() is None for worker in workers)  # which they wait for
    third.kill()
    third.wait()
    assert [worker.wait(timeout=600) for worker in workers] == [0, 0]

    every = [f"done {model} {task}" for model in MODELS.split(",") for task in "ab"]
    assert sorted(done("first", "second", "third")) == sorted(every)
    assert not any(one.startswith("failed") for one in lines("first") + lines("second"))
    assert len(images.read_text().split()) == 60
    run(tmp_path / "single", two, plugin_files=[counting])
    assert tables(out) == tables(tmp_path / "single")
    assert not list(out.rglob("*.tmp"))


# ---- what cannot be merged -----------------------------------------------------------------------


def test_a_conflict_names_both_folders_and_nothing_is_written(tmp_path: Path, two: Tasks) -> None:
    one, other, out = (tmp_path / name for name in ("one", "other", "out"))
    run(one, two, "pixels,image-stats")
    run(other, two, "pixels,image-stats", seeds=3)
    done = ubench("merge", str(out), str(one), str(other))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "other settings or data (seeds)" in line
    assert f"in {one} than in {other}, and so do 3 more results" in line
    assert not out.exists()


def test_other_numbers_of_the_same_cell_are_a_conflict(tmp_path: Path, two: Tasks) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for out in (one, other):
        run(out, two, "pixels", cache=tmp_path / "cache")
    before = tables(one)
    (path, *_) = sorted((other / "cells").rglob("*.json"))
    cell = json.loads(path.read_text())
    cell["seconds"]["probes"] += 1
    path.write_text(json.dumps(hashing.seal(cell)))
    merge(one, [other])  # how long it took may differ
    cell["scores"]["macro_f1"][0] -= 0.01
    path.write_text(json.dumps(hashing.seal(cell)))
    with pytest.raises(UserError, match=rf"other numbers in {one} than in {other}; merge"):
        merge(one, [other])
    assert tables(one) == before


def test_a_number_takes_the_place_of_an_error_row(tmp_path: Path, two: Tasks) -> None:
    one, other, out = (tmp_path / name for name in ("one", "other", "out"))
    victim = tmp_path / "a_images" / "3.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:60])
    run(one, two, "pixels")
    victim.write_bytes(whole)
    run(other, two[:1], "pixels")
    assert ubench("merge", str(out), str(one)).returncode == 1
    merged = merge(out, [one, other])
    assert (merged.cells, merged.failures) == (2, 0)
    assert merged.taken == {str(one): 0, str(other): 1}
    run(tmp_path / "whole", two, "pixels")
    assert tables(out) == tables(tmp_path / "whole")


def test_what_is_damaged_or_no_result_is_told(tmp_path: Path, two: Tasks) -> None:
    one, out = tmp_path / "one", tmp_path / "out"
    run(one, two, "pixels")
    for sources, said in (
        ([tmp_path / "none"], "results not found"),
        ([], "nothing to merge"),
    ):
        with pytest.raises(UserError, match=said):
            merge(out, sources)
    (test, *_) = sorted((one / "tasks").glob("*.json"))
    text = test.read_bytes()
    test.unlink()
    with pytest.raises(UserError, match=rf"{re.escape(test.name)} is missing; run"):
        merge(out, [one])
    test.write_bytes(text)
    (path, *_) = sorted((one / "cells").rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"pixels/a/.*safetensors is damaged .*; run"):
        merge(out, [one])
    assert not out.exists()
