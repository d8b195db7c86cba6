"""`ubench speed`: the run's own encoders are timed, nothing else of the run changes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import make_manifest
from test_cli import ubench

from model_zoo.encoder import Encoder
from ultrabench_eval import throughput
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report.sections import speeds

MODELS = "random-vit-tiny,us-jepa-nano/mean_prenorm,pixels"


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SECONDS", 0.01)
    monkeypatch.setattr(Encoder, "batch_size", 4)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return make_manifest(tmp_path / "shades.csv", count=30)


def run(out: Path, manifest: Path, *more: str) -> None:
    done = ubench(
        *("run", "--model", MODELS, "--task", str(manifest), "--seeds", "2", "--device", "cpu"),
        *("--out", str(out), "--cache", str(out.parent / "cache"), *more),
    )
    assert done.returncode == 0, done.stderr


def test_speeds_stand_beside_the_run_and_in_two_pages(tmp_path: Path, manifest: Path) -> None:
    out = tmp_path / "out"
    run(out, manifest)
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    done = ubench("speed", str(out), "--rounds", "2", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "without a network, so not timed: pixels" in done.stdout
    measured = {one.model: one for one in speeds.read(out)}
    assert set(measured) == {"random-vit-tiny", "us-jepa-nano/mean_prenorm"}
    for one in measured.values():
        assert 0 < one.slowest <= one.images_per_second <= one.fastest
        assert one.device == "cpu"
        assert re.search(rf"{re.escape(one.model)} .*{one.numerics}", done.stdout)
    changed = {path.name for path, data in before.items() if path.read_bytes() != data}
    assert changed == {"leaderboard.html", "choose.md", ".report.json"}
    assert "images/s" in (out / "leaderboard.html").read_text("utf-8")
    run(out, manifest)  # finds everything done, and keeps the column
    assert "images/s" in (out / "leaderboard.html").read_text("utf-8")


def test_another_models_speed_is_refused(tmp_path: Path, manifest: Path) -> None:
    out, weights = tmp_path / "out", "--weights=us-jepa-nano=random"
    run(out, manifest, weights)
    cell = next(out.glob("cells/us-jepa*/*/*.json"))
    content = {**json.loads(cell.read_text()), "random_weights": False}
    cell.write_text(json.dumps(hashing.seal(content)))
    done = ubench("speed", str(out), "--rounds", "1", "--device", "cpu")
    assert done.returncode == 1
    (problem,) = done.stderr.splitlines()
    assert "us-jepa-nano/mean_prenorm" in problem
    assert "its fingerprint differs; pass the run's own --weights" in problem
    assert [one.model for one in speeds.read(out)] == ["random-vit-tiny"]
    done = ubench("speed", str(out), "--rounds", "1", "--device", "cpu", weights)
    assert done.returncode == 0, done.stderr
    assert len(speeds.read(out)) == 2


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no cells"):
        throughput.measure(tmp_path)
    with pytest.raises(UserError, match="at least 1"):
        throughput.measure(tmp_path, rounds=0)
    assert not list(tmp_path.iterdir())
