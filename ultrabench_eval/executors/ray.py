"""Ray: every unit is a remote function with the CPUs and GPUs of a worker as its resources.

A running cluster is used if there is one (`address=...`, $RAY_ADDRESS, or one on this machine),
else one is started here for the time of the run. Its nodes need the same packages, and the folders
of the run.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.executors import PAUSE, Ended, Engine, Job, Lost, Outcome, Resources, needed
from ultrabench_eval.executors.work import work

# What a worker may need to find the same files; Ray starts it with the variables of its node.
_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TORCH_HOME", "XDG_CACHE_HOME")


class RayOptions(Resources):
    """Of a worker and its cluster."""

    address: str | None = None
    """"HOST:PORT", "auto", or "local" to start one; None: see above."""


class Ray(Engine):
    """A remote function a unit, spread over the nodes."""

    name = "ray"
    Options = RayOptions
    options: RayOptions

    def __init__(self, workers: int, options: Mapping[str, object], device: str) -> None:
        super().__init__(workers, options, device)
        self._ray = needed("ray", "ray")
        self._jobs: dict[Any, Job] = {}
        self._connected = False
        """By us, and so ours to end."""

    def start(self, folder: Path) -> None:
        """Connect to the cluster, and see whether it has a node for a worker."""
        ray = self._ray
        if not ray.is_initialized():
            address = self.options.address
            try:
                _knock(address or os.environ.get("RAY_ADDRESS", ""))
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, OSError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"the Ray cluster cannot be reached ({str(error).splitlines()[0]}); start it "
                    "with `ray start`, or correct --executor-option address=HOST:PORT"
                ) from error
            self._connected = True
        cpus, gpus = self.options.cpus_per_worker or 1, self.gpus
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(n.get("CPU", 0) >= cpus and n.get("GPU", 0) >= gpus for n in nodes):
            self.stop()
            raise UserError(
                f"no node of the Ray cluster has {cpus} CPU(s) and {gpus:g} GPU(s), which a worker "
                "is to get; start such a node, or change gpus_per_worker or cpus_per_worker"
            )
        self._work = ray.remote(work).options(
            num_cpus=cpus,
            num_gpus=gpus,
            max_retries=0,  # the parent counts attempts, and says when it gives up
            scheduling_strategy="SPREAD",
        )

    def submit(self, jobs: Sequence[Job]) -> None:
        """Ray places them as there is room."""
        own = {k: v for k, v in os.environ.items() if k.startswith("UBENCH_") or k in _VARIABLES}
        for job in jobs:
            sent = replace(job, environment=own, threads=self.options.cpus_per_worker or 1)
            self._jobs[self._work.remote(sent)] = job

    def ended(self) -> Iterator[Ended]:
        """Those whose result, or whose end, Ray knows of."""
        ready, _ = self._ray.wait(list(self._jobs), num_returns=1, timeout=PAUSE)
        for reference in ready:
            yield self._jobs.pop(reference), self._end(reference)

    def stop(self) -> None:
        """Cancel what waits or runs, and leave the cluster."""
        for reference in self._jobs:
            self._ray.cancel(reference, force=True)
        if self._connected:
            self._ray.shutdown()

    def _end(self, reference: Any) -> Outcome | Lost:
        try:
            outcome: Outcome = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            words = " ".join(str(error).split()).partition(". ")[0]  # the first sentence
            return Lost(f"{type(error).__name__}: {words or 'no word of Ray'}")
        return outcome


def _knock(address: str) -> None:
    """Whether somebody listens at HOST:PORT; Ray itself would try for a quarter of an hour.

    Raises:
        OSError: nobody does.
    """
    found = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address)
    if found:
        socket.create_connection((found[1].strip("[]"), int(found[2])), timeout=10).close()
