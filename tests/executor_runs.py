"""What the tests of all executors use: a plugin whose workers die, and a run to compare with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import COUNTING, forget_plugins, make_manifest
from test_pipeline import tables

import ultrabench_eval
from ultrabench_eval.executors import log_path
from ultrabench_eval.pipeline import Step
from ultrabench_eval.units import Unit

# `dies` kills its process as often as the file `deaths` beside the plugin says.
DIES = """
import signal
from pathlib import Path

HERE = Path(__file__).parent
os.environ["COUNTING_LOG"] = str(HERE / "images.log")  # also where variables are not inherited

@model_zoo.register("dies")
class Dies(Counting):
    def _forward(self, x):
        left = int((HERE / "deaths").read_text()) if len(x) == self.batch_size else 0
        if left:
            (HERE / "deaths").write_text(str(left - 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._forward(x)
"""


class Place(NamedTuple):
    """A folder with a plugin and two small tasks of 30 images, in which runs are made."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, more: str = "") -> Place:
        (folder / "plugin.py").write_text(COUNTING + DIES + more)
        for seed, name in enumerate("ab"):
            make_manifest(folder / f"{name}.csv", count=30, seed=seed)
        return cls(folder)

    def deaths(self, number: int) -> None:
        (self.folder / "deaths").write_text(str(number))

    @property
    def images(self) -> list[str]:
        """What was encoded by the plugin's models, one entry per image."""
        log = self.folder / "images.log"
        return log.read_text().split() if log.exists() else []

    def words(self, models: str, out: str, tasks: str = "a.csv,b.csv") -> list[str]:
        """Of the command line, from within the folder."""
        return [
            *("run", "--model", models, "--task", tasks, "--plugin", "plugin.py", "--seeds", "2"),
            *("--out", out, "--cache", f"{out}-cache", "--device", "cpu"),
        ]

    def run(
        self,
        models: str,
        out: str,
        tasks: Iterable[str] = ("a.csv", "b.csv"),
        tell: Callable[[Step], None] = lambda step: None,
        **more: Any,
    ) -> list[Step]:
        """Run from within the folder, by relative paths; all steps."""
        steps: list[Step] = []

        def report(step: Step) -> None:
            steps.append(step)
            tell(step)

        ultrabench_eval.run(
            models,
            list(tasks),
            seeds=2,
            out=out,
            cache=f"{out}-cache",
            plugin_files=["plugin.py"],
            device="cpu",
            report=report,
            **more,
        )
        return steps

    def same_as_alone(
        self, models: str, out: str, tasks: Iterable[str] = ("a.csv", "b.csv")
    ) -> bool:
        """Whether the tables are those of a run in this process, byte for byte."""
        self.deaths(0)
        self.run(models, "alone", tasks)
        return tables(self.folder / out) == tables(self.folder / "alone")

    def log(self, out: str, model: str, task: str) -> str:
        return log_path(self.folder / out, Unit(model, task)).read_text()


@contextmanager
def place_at(folder: Path, monkeypatch: pytest.MonkeyPatch, more: str = "") -> Iterator[Place]:
    """A place in which a test is; `more` goes into its plugin, which is forgotten afterwards."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COUNTING_LOG", str(folder / "images.log"))
    yield Place.make(folder, more)
    forget_plugins()


def cells(steps: Iterable[Step]) -> list[str]:
    """What became of each cell, sorted."""
    ends = [step for step in steps if step.stage in ("done", "kept", "failed")]
    return sorted(f"{step.stage} {step.model} {step.task}" for step in ends)
