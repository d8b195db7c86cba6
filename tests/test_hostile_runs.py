"""Runs around which things go wrong: plugins that end the program, folders that change, names."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import forget_plugins, make_manifest

import ultrabench_eval
from ultrabench_eval import loading
from ultrabench_eval.cells import Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.pipeline import Step, default_cache

PLUGIN = """
import os, sys, model_zoo, numpy as np, torch

@model_zoo.register("theirs")
class Theirs(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size=16)

    def build(self, weights):
        {build}
        return torch.nn.Flatten()

    def _forward(self, x):
        {forward}
        return self.network(x){scale}
"""


@pytest.fixture(autouse=True)
def _fresh() -> object:
    forget_plugins()
    yield
    forget_plugins()


def plugin(path: Path, build: str = "pass", forward: str = "pass", scale: str = "") -> Path:
    path.write_text(PLUGIN.format(build=build, forward=forward, scale=scale))
    return path


def run(out: Path, *tasks: Path, models: str = "pixels", **more: object) -> pd.DataFrame:
    options = {"cache": out.parent / "cache", "seeds": 2, "probe": "ridge", "device": "cpu", **more}
    frame = ultrabench_eval.run(models, list(tasks), out=out, **options)  # type: ignore[arg-type]
    return frame[frame.metric == "macro_f1"]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return make_manifest(tmp_path / "shades.csv")


# ---- plugins -------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["build", "forward"])
@pytest.mark.parametrize("how", ["sys.exit(0)", "raise SystemExit", "raise GeneratorExit"])
def test_a_plugin_that_ends_the_program_costs_its_own_cells(
    tmp_path: Path, manifest: Path, where: str, how: str
) -> None:
    file = plugin(tmp_path / "theirs.py", **{where: how})
    frame = run(
        *(tmp_path / "out", manifest),
        models="theirs,pixels",
        plugin_files=file,
        keep_going=True,
    ).set_index("model")
    assert frame.status["pixels"] == "ok"
    assert frame.status["theirs"].startswith("error: ")
    if "Exit(" in how or "sys" in how:
        assert "the program" in frame.status["theirs"]


def test_what_a_plugin_does_to_the_process_reaches_no_other_model(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    does = "os.chdir('/'); torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False)"
    file = plugin(tmp_path / "theirs.py", build=does, forward=does)
    frame = run(
        Path("out"), manifest, models="theirs,random-vit-tiny", plugin_files=file, cache="cache"
    )
    assert set(frame.status) == {"ok"}
    assert Path.cwd() == tmp_path
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert (tmp_path / "out" / "leaderboard.csv").is_file()
    assert (tmp_path / "cache" / "features").is_dir()
    alone = run(tmp_path / "alone" / "out", manifest, models="random-vit-tiny")
    both = frame[frame.model == "random-vit-tiny"]
    assert both["mean"].tolist() == alone["mean"].tolist()


def test_a_model_that_behaves_otherwise_is_not_mixed_with_what_is_there(
    tmp_path: Path, manifest: Path
) -> None:
    (tmp_path / "scale.json").write_text("1.0")
    read = f"self.scale = float(open({str(tmp_path / 'scale.json')!r}).read())"
    file = plugin(tmp_path / "theirs.py", build=read, scale=" ** self.scale")
    options = {"models": "theirs", "plugin_files": file}
    run(tmp_path / "out", manifest, **options)
    (tmp_path / "scale.json").write_text("2.0")
    frame = run(tmp_path / "out", manifest, **options)
    (status,) = frame.status
    assert "is not the one that" in status
    assert "cosine" in status
    fresh = run(tmp_path / "fresh" / "out", manifest, **options)
    assert list(fresh.status) == ["ok"]
    other = run(tmp_path / "out", manifest, **options, cache=tmp_path / "other")
    assert "give another --out" in other.status.iloc[0]


# ---- folders -------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_told_before_any_work(
    tmp_path: Path, manifest: Path
) -> None:
    (tmp_path / "file").write_text("notes")
    steps: list[Step] = []
    with pytest.raises(UserError, match=r"cannot write to the results folder \(--out\) .*file"):
        run(tmp_path / "file", manifest, report=steps.append)
    with pytest.raises(UserError, match=r"cannot write to the cache .*file"):
        run(tmp_path / "out", manifest, cache=tmp_path / "file", report=steps.append)
    assert {step.stage for step in steps} == {"plan"}
    assert not (tmp_path / "out").exists()


def test_a_finished_run_can_be_looked_at_where_nothing_can_be_written(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run(tmp_path / "out", manifest)

    def refuse(*arguments: object) -> None:
        raise UserError("cannot write")

    monkeypatch.setattr("ultrabench_eval.core.files.check_writable", refuse)
    monkeypatch.setattr("ultrabench_eval.core.files.write_bytes", refuse)
    monkeypatch.setattr("ultrabench_eval.core.files.locked", refuse)
    steps: list[Step] = []
    after = run(tmp_path / "out", manifest, report=steps.append)
    pd.testing.assert_frame_equal(before, after)
    assert steps[-1].stage == "kept"
    with pytest.raises(UserError, match="cannot write"):
        run(tmp_path / "out", manifest, seeds=3)


def test_every_cell_that_was_asked_for_is_looked_up_at_the_end(
    tmp_path: Path, manifest: Path
) -> None:
    out = tmp_path / "out"
    stages: list[str] = []

    def delete(step: Step) -> None:
        stages.append(step.stage)
        if step.stage == "done" and stages.count("done") == 1:
            shutil.rmtree(out / "cells")

    frame = run(out, manifest, models="pixels,image-stats", report=delete).set_index("model")
    assert frame.status["pixels"].startswith("error: its result is no longer in")
    assert stages.count("failed") == 1
    healed = run(out, manifest, models="pixels,image-stats")
    assert set(healed.status) == {"ok"}


def copy(source: Path, target: Path) -> None:
    for suffix in (".json", ".safetensors"):
        shutil.copy(source.with_suffix(suffix), target.with_suffix(suffix))


def stamp(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir() if p.suffix in (".md", ".csv", ".tex")}


def a_cell(out: Path, model: str) -> Path:
    (path,) = (out / "cells" / model).rglob("*-100-none-0.json")
    return path


def without_digest(path: Path) -> None:
    content = json.loads(path.read_text())
    del content["sha256"]
    path.write_text(json.dumps(content))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a digit": lambda out: a_cell(out, "pixels").write_text(
        a_cell(out, "pixels").read_text().replace('"macro_f1": [\n   0.', '"macro_f1": [\n   1.')
    ),
    "another's cell": lambda out: copy(a_cell(out, "image-stats"), a_cell(out, "pixels")),
    "another fraction": lambda out: copy(
        next((out / "cells" / "pixels").rglob("*-50-none-0.json")), a_cell(out, "pixels")
    ),
    "cut predictions": lambda out: (
        a_cell(out, "pixels").with_suffix(".safetensors").write_bytes(b"12")
    ),
    "no ledger": lambda out: (out / "cells" / "ledger.jsonl").unlink(),
    "no cells": lambda out: shutil.rmtree(out / "cells"),
    "no digest": lambda out: without_digest(a_cell(out, "pixels")),
    "groups": lambda out: [
        p.write_text(p.read_text().replace('"groups": [', '"groups": null, "x": ['))
        for p in (out / "tasks").iterdir()
    ],
    "no tasks": lambda out: shutil.rmtree(out / "tasks"),
    "edited table": lambda out: (out / "leaderboard.csv").write_text("model\n"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_same_command_heals_what_was_damaged(
    tmp_path: Path, manifest: Path, damage: str
) -> None:
    out, options = tmp_path / "out", {"models": "pixels,image-stats", "fractions": "50,100"}
    run(out, manifest, **options)
    before = stamp(out)
    DAMAGES[damage](out)
    run(out, manifest, **options)
    assert stamp(out) == before


def test_cells_of_other_seeds_are_measured_again(tmp_path: Path, manifest: Path) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    run(out, manifest)
    run(other, manifest, seeds=3)
    before = stamp(out)
    copy(a_cell(other, "pixels"), a_cell(out, "pixels"))
    run(out, manifest)
    assert stamp(out) == before


# ---- data ----------------------------------------------------------------------------------------


def test_test_images_that_stand_in_training_are_told(tmp_path: Path, manifest: Path) -> None:
    rows = [line.split(",") for line in manifest.read_text().splitlines()]
    train = next(r for r in rows if r[2] == "train")
    test = [r for r in rows if r[2] == "test" and r[1] == train[1]][:2]
    for row in test:
        shutil.copy(manifest.parent / train[0], manifest.parent / row[0])
    run(tmp_path / "out", manifest)
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "2 of 12 test images are training images as well, byte for byte" in page


# ---- names ---------------------------------------------------------------------------------------


def test_names_may_hold_commas_dots_and_many_letters(tmp_path: Path) -> None:
    names = ["with, comma.csv", "超" * 60 + ".csv", "a=b.csv"]
    made = [make_manifest(tmp_path / "tasks" / f"{number}.csv") for number in range(3)]
    manifests = [path.rename(path.with_name(n)) for path, n in zip(made, names, strict=True)]
    asked = ",".join(map(str, manifests))
    assert loading.resolve_names(asked, []) == list(map(str, manifests))
    frame = ultrabench_eval.run(
        *("pixels", asked), probe="ridge", seeds=1, out=tmp_path / "out", cache=tmp_path / "cache"
    )
    frame = frame[frame.metric == "macro_f1"]
    assert sorted(frame.task) == sorted(name.removesuffix(".csv") for name in names)
    assert set(frame.status) == {"ok"}


@pytest.mark.parametrize("name", ["..", ".", ".hidden"])
def test_a_model_that_is_called_like_a_path_stays_inside(
    tmp_path: Path, manifest: Path, name: str
) -> None:
    file = plugin(tmp_path / "theirs.py")
    file.write_text(file.read_text().replace('"theirs"', repr(name)))
    out = tmp_path / "deep" / "out"
    try:
        frame = run(out, manifest, models=name, plugin_files=file, cache=tmp_path / "cache")
    except UserError:
        assert not out.exists()
        return
    assert list(frame.status) == ["ok"]
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert len(Cells(out).gather()) == 1


def test_paths_and_single_values_are_taken_as_they_are(tmp_path: Path, manifest: Path) -> None:
    frame = ultrabench_eval.run(
        *("pixels", manifest),
        **{"probe": "ridge", "seeds": 1, "corruptions": None},
        **{"out": tmp_path / "out", "cache": tmp_path / "cache"},
    )
    assert set(frame.status) == {"ok"}
    with pytest.raises(UserError, match="--seeds is not valid"):
        run(tmp_path / "out", manifest, seeds=range(3))


def test_without_a_home_folder_the_cache_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UBENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(UserError, match="set UBENCH_CACHE"):
        default_cache()


def test_scores_are_those_of_the_images_that_were_hashed(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that is replaced between hashing and encoding spoils no cache."""
    before = run(tmp_path / "right" / "out", manifest)
    victim = next((manifest.parent).rglob("*.png"))
    whole = victim.read_bytes()
    other = sorted((manifest.parent).rglob("*.png"))[-1].read_bytes()

    def replace(step: Step) -> None:
        if step.stage == "encode" and step.done == 0:
            victim.write_bytes(other)

    during = run(tmp_path / "out", manifest, report=replace)
    assert f"{victim.name} changed" in during.status.iloc[0]
    victim.write_bytes(whole)
    after = run(tmp_path / "out", manifest)
    np.testing.assert_array_equal(after["mean"], before["mean"])
    assert os.path.exists(victim)
