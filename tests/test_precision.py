"""dtype="auto": bfloat16 where it gives the same features, else float32 and a word about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import model_zoo
import ultrabench_eval
from model_zoo.encoder import Encoder
from ultrabench_eval import precision
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.loading import Model


class Smooth(Encoder):
    """Features that survive bfloat16."""

    input_rule = model_zoo.InputRule(8)
    reduced = True
    gain = 1.0

    def build(self, weights: Path | str | None) -> torch.nn.Module:
        return torch.nn.Linear(192, 16)

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.network(x.flatten(1))
        return y


class Brittle(Smooth):
    """Differences of nearly equal numbers, which bfloat16 cannot hold."""

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        y = 1000 + super()._forward(x)
        return y - 1000


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "fast", lambda device: True)
    for name, model in (("smooth", Smooth), ("brittle", Brittle)):
        monkeypatch.setitem(model_zoo.registry._targets, name, model)


def only_cell(out: Path) -> Cell:
    (cell,) = Cells(out).gather()
    assert isinstance(cell, Cell)
    return cell


def test_the_gate_lets_pass_what_agrees(tmp_path: Path, manifest: Path) -> None:
    options = {"tasks": [str(manifest)], "seeds": 1, "cache": tmp_path / "cache"}
    ultrabench_eval.run("smooth", out=tmp_path / "a", device="cpu", **options)
    assert only_cell(tmp_path / "a").identity["dtype"] == "bfloat16"
    assert "Notes on the models" not in (tmp_path / "a" / "leaderboard.md").read_text()
    ultrabench_eval.run("smooth", out=tmp_path / "b", device="cpu", dtype="float32", **options)
    assert only_cell(tmp_path / "b").identity["dtype"] == "float32"
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2


def test_the_gate_stops_what_does_not_agree_and_says_so(tmp_path: Path, manifest: Path) -> None:
    options = {"tasks": [str(manifest)], "seeds": 1, "cache": tmp_path / "cache"}
    ultrabench_eval.run("brittle", out=tmp_path / "auto", device="cpu", **options)
    cell = only_cell(tmp_path / "auto")
    assert cell.identity["dtype"] == "float32"
    text = (tmp_path / "auto" / "leaderboard.md").read_text()
    assert (
        "brittle: encoded in float32, because in bfloat16 the features of the first images" in text
    )
    # It fell back to the whole weights, not to rounded ones.
    ultrabench_eval.run("brittle", out=tmp_path / "full", device="cpu", dtype="float32", **options)
    assert only_cell(tmp_path / "full").scores == cell.scores
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 1


def test_the_verdict_is_kept(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"tasks": [str(manifest)], "seeds": 1, "cache": tmp_path / "cache", "device": "cpu"}
    ultrabench_eval.run("smooth", out=tmp_path / "a", **options)
    (verdict,) = (tmp_path / "cache" / "precision").glob("*.json")
    assert json.loads(verdict.read_text())["cosine"] >= precision.COSINE
    monkeypatch.setattr(precision, "_compare", None)  # calling it would be an error
    ultrabench_eval.run("smooth", out=tmp_path / "b", **options)
    assert (tmp_path / "a" / "leaderboard.csv").read_bytes() == (
        tmp_path / "b" / "leaderboard.csv"
    ).read_bytes()


def test_what_was_asked_for_or_never_tried_is_left_alone(tmp_path: Path) -> None:
    for name, dtype in (("smooth", "float32"), ("smooth", "bfloat16"), ("pixels", "auto")):
        model = Model(name, None, "cpu", dtype)
        precision.settle(model, [], tmp_path)
        assert model.dtype == ("float32" if dtype == "auto" else dtype)


def test_processors_without_it_stay_in_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "fast", lambda device: False)
    model = Model("smooth", None, "cpu", "auto")
    precision.settle(model, [], tmp_path)
    assert model.dtype == "float32"
    assert not (tmp_path / "precision").exists()


def test_poolings_by_name_and_by_option(tmp_path: Path, manifest: Path) -> None:
    options = {"tasks": [str(manifest)], "seeds": 1, "cache": tmp_path / "cache"}
    both = ["timm/test_vit", "timm/test_vit/cls"]
    frame = ultrabench_eval.run(both, out=tmp_path / "a", weights={"all": "random"}, **options)
    assert sorted(frame["model"].unique()) == both
    frame = ultrabench_eval.run(
        "timm/test_vit", out=tmp_path / "b", pooling="cls", weights={"all": "random"}, **options
    )
    assert frame["model"].unique() == ["timm/test_vit/cls"]
    table = (tmp_path / "b" / "leaderboard.md").read_text()
    assert "timm/test_vit/cls [random weights]" in table
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2
    with pytest.raises(ultrabench_eval.core.errors.UserError, match="has no pooling 'neck'"):
        ultrabench_eval.run("pixels", out=tmp_path / "c", pooling="neck", **options)
