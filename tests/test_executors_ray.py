"""Runs on a Ray cluster of two nodes, both on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executor_runs import Place, cells, place_at
from test_cli import ubench

ray = pytest.importorskip("ray", reason="needs Ray: pip install ray")

# `waits` says on which node it is, and goes on if that node may: a worker can outlive its node.
WAITS = """
import ray

@model_zoo.register("waits")
class Waits(Counting):
    def _forward(self, x):
        go = HERE / "go"
        while ray.is_initialized():
            node = ray.get_runtime_context().get_node_id()
            (HERE / f"at-{node}").touch()
            if go.exists() and go.read_text() == node:
                break
            time.sleep(0.05)
        return super()._forward(x)
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    sooner = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "_system_config": sooner})
    made.second = made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with place_at(tmp_path, monkeypatch, WAITS) as made:
        yield made


@pytest.mark.slow
def test_two_nodes_are_the_single_run_even_if_a_worker_and_a_node_are_killed(
    place: Place, cluster: Any
) -> None:
    second = cluster.second
    nodes: list[str] = []

    def remove() -> None:
        deadline = time.monotonic() + 1800
        while len(nodes) < 2 and time.monotonic() < deadline:
            nodes[:] = [path.name.removeprefix("at-") for path in place.folder.glob("at-*")]
            time.sleep(0.05)
        cluster.remove_node(second, allow_graceful=False)
        (place.folder / "go").write_text(cluster.head_node.node_id)

    place.deaths(1)
    thread = threading.Thread(target=remove)
    thread.start()
    steps = place.run(
        "waits,dies", "out", executor="ray", workers=2,
        executor_options={"address": cluster.address},
    )  # fmt: skip
    thread.join()
    assert cells(steps) == [f"done {model} {task}" for model in ("dies", "waits") for task in "ab"]
    assert len(nodes) == 2  # both were at work
    again = [step.model for step in steps if " again, because " in step.model]
    assert sorted(words.split()[0] for words in again) == ["dies", "waits"]
    assert not ray.is_initialized()
    assert len(place.images) == 2 * len(set(place.images)) == 120  # the two models encode alike
    assert place.same_as_alone("waits,dies", "out")

    # The nodes that are left have no GPU.
    words = [*place.words("dies", "none"), "--executor", "ray", "--workers", "1"]
    done = ubench(
        *(*words, "--executor-option", f"address={cluster.address}"),
        *("--executor-option", "gpus_per_worker=1"),
    )
    assert done.returncode == 2
    assert "no node of the Ray cluster has 1 CPU(s) and 1 GPU(s)" in done.stderr
    assert not (place.folder / "none").exists()


def test_a_cluster_that_cannot_be_reached_is_a_sentence(place: Place) -> None:
    place.deaths(0)
    words = [*place.words("dies", "out", "a.csv"), "--executor", "ray", "--workers", "1"]
    done = ubench(*words, "--executor-option", "address=127.0.0.1:9")
    assert done.returncode == 2
    assert "the Ray cluster cannot be reached" in done.stderr
    assert not (place.folder / "out").exists()
