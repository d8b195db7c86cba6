"""A probe is one new file: nothing else is changed for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import forget_plugins
from test_cli import ubench

from ultrabench_eval.cells import Cell, Cells

CENTROIDS = """
from dataclasses import dataclass

import torch

from ultrabench_eval import probes
from ultrabench_eval.probes.heads import Head, LinearProbes, fit_each
from ultrabench_eval.probes.probe import Probe


@dataclass(frozen=True)
class Settings:
    sharpness: float = 1.0


def train(data, draws, protocol):
    sharpness = protocol.of("centroids").sharpness

    def fit(stream):
        scaler, x, y, validation_x, validation_y = data.of(stream, protocol.standardize)
        means = torch.stack([x[y == c].mean(0) for c in range(data.classes)])
        weight, bias = sharpness * means, -0.5 * sharpness * means.square().sum(1)
        logits = validation_x @ weight.T + bias
        loss = float(torch.nn.functional.cross_entropy(logits, validation_y))
        weight, bias = scaler.folded(weight[None], bias[None])
        head = Head(stream.subset, stream.seed, {"sharpness": sharpness}, loss)
        return LinearProbes(
            (head,), weight.to(data.train_x), bias.to(data.train_x), torch.empty(1, 0)
        )

    return fit_each(draws, fit)


probes.register("centroids", Probe(train, settings=Settings))
"""


@pytest.fixture
def plugin(tmp_path: Path):
    path = tmp_path / "centroids.py"
    path.write_text(CENTROIDS)
    yield path
    forget_plugins()


def run(tmp_path: Path, manifest: Path, plugin: Path, *words: str) -> list[Cell]:
    place = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    asked = ["--model", "pixels", "--task", str(manifest), "--plugin", str(plugin)]
    done = ubench("run", *asked, *place, "--probe", "centroids", "--seeds", "2", *words)
    assert done.returncode == 0, done.stderr
    cells = Cells(tmp_path / "out").gather()
    assert all(isinstance(cell, Cell) for cell in cells)
    return [cell for cell in cells if isinstance(cell, Cell)]


def test_a_probe_is_one_file(tmp_path: Path, manifest: Path, plugin: Path) -> None:
    (cell,) = run(tmp_path, manifest, plugin)
    assert min(cell.scores["macro_f1"]) > 0.75
    assert cell.protocol["sharpness"] == 1.0
    assert "centroids" in (tmp_path / "out" / "leaderboard.md").read_text()
    planned = ubench("plan", "--model", "pixels", "--task", str(manifest), "--probe", "centroids",
                     "--plugin", str(plugin), "--out", str(tmp_path / "new"), "--json",
                     "--cache", str(tmp_path / "cache"))  # fmt: skip
    assert json.loads(planned.stdout)["to_do"] == 1


def test_its_settings_are_in_a_protocol_and_its_code_in_its_identity(
    tmp_path: Path, manifest: Path, plugin: Path
) -> None:
    protocol = tmp_path / "sharp.yaml"
    protocol.write_text("centroids:\n  sharpness: 3\n")
    (sharp,) = run(tmp_path, manifest, plugin, "--protocol", str(protocol))
    assert sharp.protocol["sharpness"] == 3.0
    (again,) = run(tmp_path, manifest, plugin, "--protocol", str(protocol))
    assert again == sharp
    plugin.write_text(CENTROIDS.replace("-0.5", "-0.4"))
    both = run(tmp_path, manifest, plugin, "--protocol", str(protocol))
    assert {cell.identity["protocol"] for cell in both} > {sharp.identity["protocol"]}
    protocol.write_text("centroids:\n  sharpnes: 3\n")
    wrong = ubench("run", "--model", "pixels", "--task", str(manifest), "--plugin", str(plugin),
                   "--protocol", str(protocol), "--probe", "centroids")  # fmt: skip
    assert wrong.returncode == 2
    assert "no setting 'sharpnes'; did you mean 'sharpness'" in wrong.stderr


def test_workers_know_it_as_well(tmp_path: Path, manifest: Path, plugin: Path) -> None:
    (cell,) = run(tmp_path, manifest, plugin, "--workers", "1")
    assert min(cell.scores["macro_f1"]) > 0.75
