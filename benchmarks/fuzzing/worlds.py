"""Small folders in which everything was made by our own commands, and others like them.

`bench` worlds hold two manifests of noise, a plugin, a cache and a results folder; `train` worlds
hold frames, an index, and a training that was stopped on its way. In each world of a kind one thing
differs from the first: seeds, weights, data, time, version. All images are SYNTHETIC.
"""

from __future__ import annotations

import csv
import pickle
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image

from fuzzing import judge, process
from fuzzing.process import Done

MODELS = "pixels,image-stats,mine"
PLUGIN = """
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import model_zoo
from plugin_net import Net

@model_zoo.register("mine")
class Mine(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size=32)

    def build(self, weights):
        return Net()

    def _forward(self, x):
        return self.network(x).flatten(1)
"""
NET = """
import torch

class Net(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 8)
"""
OTHER_NET = NET.replace("avg_pool2d(x, 8)", "max_pool2d(-x, 16)")
PROTOCOL = """
standardize: true
penalties: [0.001, 0.1, 10.0]
neighbours: [1, 3, 7]
gradient:
  learning_rates: [0.01]
  max_epochs: 3
  patience: 2
"""
CONFIG = """
name: small
objective: ijepa
model: {image_size: 32, patch_size: 8, width: 24, depth: 2, heads: 2}
predictor: {depth: 1, width: 12, heads: 1}
decoder: {depth: 1, width: 12, heads: 1}
masks: {min_keep: 1, cover_edges: true, context: pad}
data: {held_out: 0.2}
train: {epochs: 2, warmup_epochs: 1, batch_size: 8, learning_rate: 0.001, precision: float32}
"""
_HOW = ["--dtype", "float32", "--device", "cpu"]
RUN = [
    *("ubench", "run", "--model", MODELS, "--plugin", "plugin.py", "--task", "one.csv,two.csv"),
    *("--probe", "ridge,knn", "--seeds", "2", "--out", "out", "--cache", "cache", *_HOW),
]
# Its figures take most of the time, so it is small.
WIDE = [
    *("ubench", "run", "--model", "mine", "--plugin", "plugin.py", "--task", "two.csv"),
    *("--probe", "ridge", "--seeds", "2", "--out", "out", "--cache", "cache", *_HOW),
    *("--fractions", "50,100", "--corruptions", "blur"),
]
OWN = [
    *("ubench", "run", "--model", "pixels", "--task", "one.csv", "--probe", "ridge,knn,linear"),
    *("--protocol", "own.yaml", "--seeds", "2", "--out", "own", "--cache", "cache", *_HOW),
]
REPORT = ["ubench", "report", "out"]
MERGE = ["ubench", "merge", "merged", "out"]
INDEX = ["usjepa", "index", "frames", "--out", "index", "--unguarded", "--size", "48"]
TRAIN = [
    *("usjepa", "train", "--config", "own.yaml", "--frames", "index", "--out", "run"),
    *("--device", "cpu", "--workers", "0"),
]
EXPORT = ["usjepa", "export", "run", "--out", "exported"]
# Checkpoints at every step, and an end without warning after one.
STOP = """
import os
from usjepa import train, monitor
train.Execution.__init__.__defaults__ = tuple(
    {2: 2, 10: 1}.get(value, value) if not isinstance(value, bool) else value
    for value in train.Execution.__init__.__defaults__)
saved = train._Run._save
def save(self):
    saved(self)
    if self.step == STEP:
        os._exit(0)
def train_step(self, parts, made=train._Run._train_step):
    made(self, parts)
    if self.step % self.steps_per_epoch:
        save(self)
train._Run._save = save
train._Run._train_step = train_step
"""


class BuildError(Exception):
    """A command failed on undamaged input."""


@dataclass
class Worlds:
    """Where the clean folders are, and what comes out of them.

    Args:
        root: folder for all.
        old: a checkout of the version before, with its .venv; None to leave it out.
        light: without the world of fractions and corruptions, whose figures take long.
    """

    root: Path
    old: Path | None = None
    light: bool = False
    tables: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """The clean tables: of the worlds by name, of an empty OUT (`fresh`), `merge`, and `own`."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Of `train` and `export`: the clean encoder; of `index`: the frames and their table."""

    @property
    def bench(self) -> Path:
        """The world of results that inputs are copies of."""
        return self.root / "bench"

    @property
    def train(self) -> Path:
        """The world of training that inputs are copies of."""
        return self.root / "train"

    def donors(self, of: str) -> dict[str, Path]:
        """Other worlds of a kind, "bench", "wide" or "train"."""
        found = sorted(self.root.glob(f"{of}-*"))
        return {path.name.partition("-")[2]: path for path in found}

    @classmethod
    def at(cls, root: Path, old: Path | None, light: bool = False) -> Worlds:
        """Those in a folder, which are made if it is new."""
        kept = root / "clean.pickle"
        if kept.exists():
            clean: Worlds = pickle.loads(kept.read_bytes())
            for name in ("first-bench", "first-train", "trained"):
                process.warm(root / name)
            return clean
        clean = cls(root.resolve(), old, light)
        clean._bench()
        clean._train()
        kept.write_bytes(pickle.dumps(clean))
        return clean

    # ---- results ------------------------------------------------------------------------------

    def _bench(self) -> None:
        bench = self.bench
        _manifest(bench / "one.csv", 0)
        _manifest(bench / "two.csv", 1)
        (bench / "own.yaml").write_text(PROTOCOL)
        (bench / "plugin.py").write_text(PLUGIN)
        (bench / "plugin_net.py").write_text(NET)
        process.warm(self._do(RUN, bench))  # writes in a copy, see there
        for name, command in (("bench", RUN), *(() if self.light else (("wide", WIDE),))):
            other = self._copy(bench, f"{name}-weights")
            (other / "plugin_net.py").write_text(OTHER_NET)
            _must(command, other)
            self.tables[f"{name}-weights"] = judge.tables(other / "out")
            # The world itself has a past: it was run with those weights before.
            whole = bench if name == "bench" else self._copy(other, "wide")
            for part in ("out", "cache"):
                if not (whole / part).exists():
                    shutil.copytree(other / part, whole / part)
            (whole / "plugin_net.py").write_text(NET)
            _must(command, whole)
            self.tables[name] = judge.tables(whole / "out")
            self._others(name, whole, command)
        fresh = self._copy(bench, "fresh", "out")
        _must(RUN, fresh)
        self.tables["fresh"] = judge.tables(fresh / "out")
        merged = self._copy(bench, "merged")
        _must(MERGE, merged)
        self.tables["merge"] = judge.tables(merged / "merged")
        own = self._copy(bench, "own")
        _must(OWN, own)
        self.tables["own"] = judge.tables(own / "own")

    def _others(self, name: str, world: Path, command: list[str]) -> None:
        seeds = self._fresh(world, f"{name}-seeds")
        _must([word if word != "2" else "3" for word in command], seeds)
        data = self._fresh(world, f"{name}-data")
        shutil.copyfile(data / "two/3.png", data / "one/30.png")
        rows = (data / "two.csv").read_text().replace("p15", "p14")
        (data / "two.csv").write_text(rows)
        _must(command, data)
        if self.old is not None:
            earlier = self._fresh(world, f"{name}-version")
            _with(self.old, command, earlier)

    # ---- training -----------------------------------------------------------------------------

    def _train(self) -> None:
        train = self.train
        _frames(train / "frames", 0)
        (train / "own.yaml").write_text(CONFIG)
        process.warm(self._do(INDEX, train))
        _must(INDEX, train)
        whole = self._copy(train, "trained")
        process.warm(_must(TRAIN, whole))
        self.files["train"] = (whole / "run/encoder.safetensors").read_bytes()
        for step, name in ((3, "train-earlier"), (6, "train")):
            stopped = train if name == "train" else self._copy(train, name)
            _must(TRAIN, stopped, STOP.replace("STEP", str(step)))
        self._copy(whole, "train-finished")
        seed = self._copy(train, "train-seed", "run")
        _must([*TRAIN, "--set", "seed=1"], seed, STOP.replace("STEP", "6"))
        frames = self._copy(train, "train-frames", "run", "index")
        _frames(frames / "frames", 1)
        _must(INDEX, frames)
        _must(TRAIN, frames, STOP.replace("STEP", "6"))
        if self.old is not None:
            earlier = self._copy(train, "train-version", "run", "index")
            _with(self.old, INDEX, earlier)
            _with(self.old, TRAIN, earlier)
        exported = self._copy(train, "exported")
        _must(EXPORT, exported)
        self.files["export"] = (exported / "exported/encoder.safetensors").read_bytes()

    # ---- folders ------------------------------------------------------------------------------

    def _copy(self, world: Path, name: str, *without: str) -> Path:
        to = self.root / name
        shutil.copytree(world, to, ignore=lambda _, names: [n for n in names if n in without])
        return to

    def _fresh(self, world: Path, name: str) -> Path:
        return self._copy(world, name, "out", "cache")

    def _do(self, command: list[str], world: Path) -> Path:
        """Run a command in a copy that is thrown away at the end with all others."""
        copy = self._copy(world, f"first-{world.name}")
        return _must(command, copy)


def _must(command: list[str], folder: Path, patch: str = "") -> Path:
    done = process.run(command, folder, patch)
    if done.code:
        raise BuildError(f"{' '.join(command)} in {folder}: exit code {done.code}\n{done.text}")
    return folder


def _with(checkout: Path, command: list[str], folder: Path) -> Done:
    program = (checkout / ".venv/bin" / command[0]).resolve()
    done = subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{program} {' '.join(command[1:])}: {done.stdout}{done.stderr}")
    return Done(0, done.stdout)


def _manifest(path: Path, seed: int, counts: Iterable[int] = (16, 8, 8)) -> None:
    """A manifest whose two classes differ a little in brightness, two images per group."""
    generator = np.random.default_rng(seed)
    folder = path.with_suffix("")
    folder.mkdir(parents=True)
    rows, number = [], 0
    for split, count in zip(("train", "val", "test"), counts, strict=True):
        for _ in range(count):
            label = number // 2 % 2
            shade = 100 + 12 * label + generator.normal(0, 14)
            pixels = np.clip(generator.normal(shade, 40, (32, 40)), 0, 255).astype(np.uint8)
            PIL.Image.fromarray(pixels).save(folder / f"{number}.png")
            name = f"{folder.name}/{number}.png"
            rows.append((name, ("dark", "bright")[label], split, f"p{number // 2}"))
            number += 1
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("image", "label", "split", "group"), *rows])


def _frames(folder: Path, seed: int, count: int = 40) -> None:
    """Discs on dark noise in a fan."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        place = folder / ("hearts" if number % 4 else "livers")
        place.mkdir(parents=True, exist_ok=True)
        y, x = np.mgrid[:64, :80]
        pixels = generator.normal(90, 30, (64, 80)).clip(1, 255)
        centre = generator.uniform(20, 44, 2)
        pixels[np.hypot(y - centre[0], x - centre[1] - 8) < generator.uniform(5, 10)] = 240
        pixels[y / 64 < abs(x / 80 - 0.5) * 1.2] = 0
        PIL.Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number}.png")
