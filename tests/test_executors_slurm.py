"""Runs by Slurm jobs: submitit's own stand-ins, and commands that answer as Slurm's do."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from executor_runs import Place, cells, place_at
from test_cli import ubench

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.executors import slurm
from ultrabench_eval.executors.slurm import Slurm

pytest.importorskip("submitit", reason="needs submitit: pip install submitit")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place_at(tmp_path, monkeypatch) as made:
        yield made


def test_the_debug_executor_is_the_single_run(place: Place) -> None:
    place.deaths(0)
    options = {"cluster": "debug", "slurm_partition": "gpu"}
    steps = place.run("dies,pixels", "out", executor="slurm", workers=2, executor_options=options)
    assert cells(steps) == [f"done {model} {task}" for model in ("dies", "pixels") for task in "ab"]
    assert len(place.images) == len(set(place.images)) == 60
    assert Path.cwd() == place.folder
    assert not list((place.folder / "out" / ".workers").glob("slurm-*"))  # all is well
    assert place.same_as_alone("dies,pixels", "out")


@pytest.mark.slow
def test_jobs_of_the_local_executor_are_the_single_run_even_if_one_is_killed(place: Place) -> None:
    place.deaths(1)
    words = place.words("dies,pixels", "out")
    done = ubench(
        *(*words, "--executor", "slurm", "--workers", "2"),
        *("--executor-option", "cluster=local", "--executor-option", "cpus_per_worker=1"),
    )
    assert done.returncode == 0, done.stderr
    assert "images encoded: 120" in done.stdout
    assert len(place.images) == len(set(place.images)) == 60
    logs = [place.log("out", "dies", task) for task in "ab"]
    assert sum("attempt 2 of 3\n" in log for log in logs) == 1
    assert place.same_as_alone("dies,pixels", "out")


# What submitit and we ask of Slurm, for one array or job at a time, each in a process of its own.
SLURM = {
    "sbatch": """
        if [ -n "$REFUSE" ]; then
            echo "sbatch: error: invalid partition specified: $REFUSE" >&2
            exit 1
        fi
        number=$(($(cat $QUEUE/last 2>/dev/null || echo 0) + 1)); echo $number > $QUEUE/last
        cp "$1" $QUEUE/$number.script
        array=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$1")
        for i in $(seq 0 ${array:-0}); do
            id=$number; [ -z "$array" ] || { id=${number}_$i
                export SLURM_ARRAY_JOB_ID=$number SLURM_ARRAY_TASK_ID=$i; }
            SLURM_JOB_ID=$number bash "$1" > /dev/null 2>&1 < /dev/null &
            echo $! > $QUEUE/$id.pid
        done
        echo "Submitted batch job $number"
    """,
    "srun": """
        while [ "${1#--}" != "$1" ]; do
            case $1 in --unbuffered) ;; *) shift;; esac
            shift
        done
        exec "$@"
    """,
    "squeue": """
        for file in $QUEUE/*.pid; do
            kill -0 $(cat $file) 2>/dev/null && basename $file .pid
        done
        true
    """,
    "scancel": "echo $1 >> $QUEUE/cancelled",
    "sacct": "exit 1",  # a cluster without accounting
}


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The commands of Slurm on the PATH; the folder in which they keep their jobs."""
    folder, commands = tmp_path / "queue", tmp_path / "bin"
    folder.mkdir()
    commands.mkdir()
    for name, text in SLURM.items():
        (commands / name).write_text(f"#!/bin/bash\n{text}")
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("QUEUE", str(folder))
    monkeypatch.setattr(slurm, "LIST_EVERY", 0.1)
    monkeypatch.setattr(slurm, "LOOK_EVERY", 0.1)
    monkeypatch.setattr(slurm, "GRACE", 1.0)
    return folder


@pytest.mark.slow
def test_a_job_that_has_left_the_queue_without_a_result_is_submitted_again(
    place: Place, queue: Path
) -> None:
    place.deaths(1)
    options = {"gpus_per_worker": "1", "cpus_per_worker": 4, "slurm_time": "04:00:00"}
    options |= {"slurm_partition": "gpu", "slurm_setup": '["export NOTHING=1"]'}
    steps = place.run(
        "dies,pixels", "out", ["a.csv"], executor="slurm", workers=3, executor_options=options
    )
    assert cells(steps) == ["done dies a", "done pixels a"]
    (again,) = [step.model for step in steps if " again, because " in step.model]
    assert again.startswith("dies on a again, because job 1_")
    script = (queue / "1.script").read_text()
    for line in ("array=0-1%2", "gpus-per-node=1", "cpus-per-task=4", "time=04:00:00"):
        assert f"#SBATCH --{line}\n" in script
    assert "#SBATCH --partition=gpu\n" in script
    assert "\nexport NOTHING=1\n" in script
    assert (queue / "last").read_text() == "2\n"
    assert not (queue / "cancelled").exists()
    assert len(place.images) == len(set(place.images)) == 30
    assert place.same_as_alone("dies,pixels", "out", ["a.csv"])


def test_jobs_that_slurm_does_not_take_are_a_sentence(
    place: Place, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSE", "gpuu")
    place.deaths(0)
    words = [*place.words("dies,pixels", "out", "a.csv"), "--executor", "slurm", "--workers", "2"]
    done = ubench(*words, "--executor-option", "slurm_partition=gpuu")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]  # submitit passes on sbatch's own word before
    assert line.startswith("ubench: Slurm does not take the jobs (sbatch: error: invalid partition")
    assert not (place.folder / "out").exists()


def test_an_interrupt_cancels_the_jobs(
    place: Place, queue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(self: Slurm) -> None:
        raise KeyboardInterrupt

    (place.folder / "bin" / "srun").write_text("#!/bin/bash\nexec sleep 600")
    monkeypatch.setattr(Slurm, "_look", interrupt)
    place.deaths(0)
    with pytest.raises(KeyboardInterrupt):
        place.run("dies,pixels", "out", ["a.csv"], executor="slurm", workers=2)
    assert (queue / "cancelled").read_text().split() == ["1_0", "1_1"]
    for file in queue.glob("*.pid"):
        os.killpg(os.getpgid(int(file.read_text())), 0)  # ours to end, because scancel does nothing
        os.kill(int(file.read_text()), 9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "there is no sbatch on this machine"),
        ({"cluster": "lokal"}, "cluster=lokal is not valid"),
        ({"partition": "gpu"}, "no option 'partition'.*slurm_partition"),
        ({"gpus_per_worker": "0.5"}, r"gpus_per_worker=0\.5 is not valid"),
        ({"timeout_min": "0"}, "timeout_min=0 is not valid"),
    ],
)
def test_wrong_options_are_told(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object], said: str
) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=said):
        Slurm(2, options, "cpu")


@pytest.mark.parametrize("option", ["slurm_partitionn", "slurm_gres"])
def test_options_of_sbatch_are_checked_by_submitit(tmp_path: Path, option: str) -> None:
    engine = Slurm(2, {"cluster": "local", option: "gpu:1"}, "cpu")
    if option == "slurm_gres":
        engine.start(tmp_path)
        engine.stop()
    else:
        with pytest.raises(UserError, match="partitionn"):
            engine.start(tmp_path)
    assert not list(tmp_path.iterdir())
