"""The whole run, as its users meet it: resumed, shared, broken in parts."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import forget_plugins, make_manifest
from forked import Forked
from sklearn.metrics import f1_score

import ultrabench_eval
from ultrabench_eval import features, loading
from ultrabench_eval.cells import Cells, Coordinates, Failure
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.loading import Problems
from ultrabench_eval.pipeline import Step

# The long form as DESIGN has it.
COLUMNS = [
    *("model", "task", "probe", "protocol", "fraction", "corruption", "severity"),
    *("metric", "mean", "sd", "low", "high", "n_seeds", "n_test", "status"),
    *("seen", "warnings"),
]
TABLES = ("leaderboard.md", "leaderboard.csv", "leaderboard.tex")


def tables(out: Path) -> list[bytes]:
    return [(out / name).read_bytes() for name in TABLES]


def run(out: Path, manifest: Path | str, models: str = "pixels", **more: object) -> pd.DataFrame:
    more.setdefault("cache", out.parent / "cache")
    return ultrabench_eval.run(models, str(manifest), out=out, device="cpu", **more)


def test_a_run_learns_and_says_all_that_a_number_needs(tmp_path: Path, manifest: Path) -> None:
    frame = run(tmp_path / "out", manifest, "pixels,image-stats", seeds=3)
    assert list(frame.columns) == COLUMNS
    assert set(frame.status) == {"ok"}
    assert set(frame.metric) >= {"macro_f1", "accuracy", "auroc", "log_loss"}
    main = frame[(frame.metric == "macro_f1") & (frame.model == "pixels")].iloc[0]
    assert main["mean"] > 75  # brightness tells the classes apart
    assert main.low <= main["mean"] <= main.high
    assert (main.n_seeds, main.n_test) == (3, 12)
    written = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    np.testing.assert_allclose(written["mean"], frame["mean"].astype(float), atol=1e-4)


def test_scores_can_be_computed_again_from_the_stored_predictions(
    tmp_path: Path, manifest: Path
) -> None:
    frame = run(tmp_path / "out", manifest, seeds=3)
    cells = Cells(tmp_path / "out")
    (cell,) = cells.gather()
    probabilities = cells.predictions(cell)["probabilities"]
    assert probabilities.shape == (3, 12, 2)
    # Predictions refer to the stored list of test images, which holds the truth.
    stored = pd.read_json(next((tmp_path / "out" / "tasks").glob("*.json")), typ="series")
    scores = [100 * f1_score(stored.labels, p.argmax(1), average="macro") for p in probabilities]
    main = frame[frame.metric == "macro_f1"].iloc[0]
    assert main["mean"] == pytest.approx(np.mean(scores))
    assert main.sd == pytest.approx(np.std(scores, ddof=1))
    assert len({*stored.names}) == 12


def test_the_same_run_again_encodes_and_computes_nothing(tmp_path: Path, manifest: Path) -> None:
    run(tmp_path / "out", manifest)
    before = tables(tmp_path / "out")
    steps: list[Step] = []
    run(tmp_path / "out", manifest, report=steps.append)
    assert [s.stage for s in steps] == ["plan", "begin", "kept", "report"]
    assert tables(tmp_path / "out") == before
    fresh = tmp_path / "fresh"
    run(fresh / "out", manifest)  # a cache of its own: everything is made again
    assert tables(fresh / "out") == before


def test_more_seeds_measure_anew_from_kept_features(tmp_path: Path, manifest: Path) -> None:
    run(tmp_path / "out", manifest, seeds=2)
    steps: list[Step] = []
    frame = run(tmp_path / "out", manifest, seeds=4, report=steps.append)
    assert sum(s.new for s in steps) == 0
    assert set(frame.n_seeds) == {4}


def test_changed_images_and_changed_plugins_are_measured_anew(
    tmp_path: Path, manifest: Path, counting: Path
) -> None:
    def stages() -> list[str]:
        forget_plugins()  # as in a new process
        steps: list[Step] = []
        run(tmp_path / "out", manifest, "counting", seeds=1, plugin_files=[counting],
            report=steps.append)  # fmt: skip
        return [f"{step.stage} {step.new}" for step in steps]

    assert sum(int(line.split()[1]) for line in stages()) == 60
    assert stages()[-2:] == ["kept 0", "report 0"]
    counting.write_text(counting.read_text() + "\n# edited\n")
    assert sum(int(line.split()[1]) for line in stages()) == 60
    first = tmp_path / "shades_images" / "0.png"
    first.write_bytes((tmp_path / "shades_images" / "1.png").read_bytes())
    again = stages()
    assert sum(int(line.split()[1]) for line in again) == 0  # that content is known
    assert again[-2:] == ["done 0", "report 0"]
    forget_plugins()


# ---- what is wrong before the start -------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"models": "pixel"}, "unknown model 'pixel'; did you mean 'pixels'"),
        ({"tasks": "alu"}, "unknown task 'alu'; did you mean 'aul'"),
        ({"tasks": "aul"}, "no data folder: pass --data ROOT or set UBENCH_DATA"),
        ({"tasks": "nowhere.csv"}, "nowhere.csv"),
        ({"models": ""}, "no model is asked for"),
        ({"weights": {"usfm": "x.pt"}}, "'usfm', which is not among the models"),
        ({"models": "urfm"}, "urfm"),
        ({"device": "tpu"}, "device 'tpu' cannot be used"),
        ({"dtype": "float8"}, "unknown dtype 'float8'"),
        ({"seeds": 0}, "--seeds must be at least 1"),
        ({"plugin_files": ["none.py"]}, "none.py"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(
    tmp_path: Path,
    manifest: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, object],
    sentence: str,
) -> None:
    monkeypatch.delenv("UBENCH_DATA", raising=False)
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    arguments = {"models": "pixels", "tasks": str(manifest), **arguments}
    with pytest.raises(UserError) as caught:
        ultrabench_eval.run(**arguments, out=tmp_path / "out", cache=tmp_path / "cache")
    assert sentence in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_users_own_words_without_data_or_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UBENCH_DATA", raising=False)
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    with pytest.raises(Problems) as caught:
        ultrabench_eval.run("urfm", "aul", seeds=5, out=tmp_path / "out")
    assert len(caught.value.problems) == 2  # one sentence for the data, one for the weights
    lines = str(caught.value).splitlines()
    assert "--data" in lines[0]
    assert "--weights" in lines[1]
    assert lines[2] == loading.WORKS_NOW


def test_every_missing_dataset_has_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(Problems) as caught:
        ultrabench_eval.run("pixels", "aul,busbra", data=tmp_path / "data", out=tmp_path / "out")
    first, second = caught.value.problems
    assert str(tmp_path / "data" / "aul") in first
    assert str(tmp_path / "data" / "busbra") in second


def test_two_manifests_of_one_name_and_a_manifest_named_as_a_task(tmp_path: Path) -> None:
    paths = [make_manifest(tmp_path / place / "mine.csv") for place in "ab"]
    with pytest.raises(Problems, match="both called 'mine'"):
        ultrabench_eval.run("pixels", [str(p) for p in paths], out=tmp_path / "out")
    with pytest.raises(Problems, match="built-in task 'aul'; rename"):
        ultrabench_eval.run("pixels", str(make_manifest(tmp_path / "aul.csv")), out=tmp_path)


# ---- what breaks once it runs -------------------------------------------------------------------


def test_a_broken_image_costs_its_own_task_only(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "shades.csv", count=180)  # six test patients of a class
    other = make_manifest(tmp_path / "other.csv", seed=1)
    victim = tmp_path / "other_images" / "7.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    steps: list[Step] = []
    frame = run(tmp_path / "out", f"{other},{manifest}", "pixels,image-stats", report=steps.append)
    assert [s.stage for s in steps if s.stage in ("done", "failed")] == ["failed", "done"] * 2
    failed = frame[frame.task == "other"]
    assert list(failed.metric) == ["macro_f1"] * 2
    assert failed["mean"].isna().all()
    assert failed.status.str.startswith("error: cannot read image").all()
    assert failed.status.str.contains("7.png").all()
    assert set(frame[frame.task == "shades"].status) == {"ok"}
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    header, _, first, *_ = page[page.index("| model") :].splitlines()
    assert "mean of tasks" in header
    assert first.split("|")[-2].strip() == ""  # never over holes

    victim.write_bytes(whole)
    steps.clear()
    frame = run(tmp_path / "out", f"{other},{manifest}", "pixels,image-stats", report=steps.append)
    assert set(frame.status) == {"ok"}
    assert sum(s.new for s in steps) == 2  # the corrected image, once a model


PLUGIN = """
import torch
import model_zoo

class Base(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size=8)
    def build(self, weights):
        return torch.nn.Flatten()

@model_zoo.register("nan-{tag}")
class Nan(Base):
    def _forward(self, x):
        return self.network(x) * (float("nan") if len(x) == self.batch_size else 1.0)

@model_zoo.register("crash-{tag}")
class Crash(Base):
    def _forward(self, x):
        if len(x) == self.batch_size: raise IndexError("a bug of the\\nplugin")
        return self.network(x)

@model_zoo.register("no-build-{tag}")
class NoBuild(Base):
    def build(self, weights):
        return undefined_name
"""


def test_a_broken_model_costs_its_own_cells_only(tmp_path: Path, manifest: Path) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(PLUGIN.format(tag="a"))
    frame = run(tmp_path / "out", manifest, "nan-a,crash-a,pixels", seeds=1, plugin_files=[plugin])
    status = dict(zip(frame.model, frame.status, strict=True))
    assert "NaN or infinite" in status["nan-a"]
    assert "shades_images/0.png" in status["nan-a"]
    assert status["crash-a"] == "error: IndexError at broken.py:18: a bug of the plugin"
    assert status["pixels"] == "ok"
    (crash,) = [e for e in Cells(tmp_path / "out").gather() if e.coordinates.model == "crash-a"]
    assert isinstance(crash, Failure)
    assert "Traceback" in crash.traceback


def test_a_model_that_cannot_be_loaded_stops_the_run_or_becomes_a_row(
    tmp_path: Path, manifest: Path
) -> None:
    plugin = tmp_path / "broken.py"
    plugin.write_text(PLUGIN.format(tag="b"))
    arguments = {"models": "no-build-b,pixels", "plugin_files": [plugin], "seeds": 1}
    with pytest.raises(Problems, match=r"no-build-b.*undefined_name"):
        run(tmp_path / "out", manifest, **arguments)
    assert not (tmp_path / "out").exists()
    frame = run(tmp_path / "out", manifest, keep_going=True, **arguments)
    status = dict(zip(frame.model, frame.status, strict=True))
    assert status["no-build-b"].startswith("error: ")
    assert status["pixels"] == "ok"


def test_an_error_hides_the_older_number_until_it_is_mended(tmp_path: Path, manifest: Path) -> None:
    run(tmp_path / "out", manifest, seeds=1)
    victim = tmp_path / "shades_images" / "59.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:60])
    frame = run(tmp_path / "out", manifest, seeds=1)
    assert len(frame) == 1
    assert frame.status[0].startswith("error")
    victim.write_bytes(whole)
    assert set(run(tmp_path / "out", manifest, seeds=1).status) == {"ok"}


def test_a_damaged_cell_is_measured_again(tmp_path: Path, manifest: Path) -> None:
    run(tmp_path / "out", manifest, seeds=1)
    before = tables(tmp_path / "out")
    folder = tmp_path / "out" / "cells" / "pixels" / "shades"
    for name in (".json", ".safetensors"):
        (path,) = folder.glob(f"*{name}")
        path.write_bytes(path.read_bytes()[:50])
        run(tmp_path / "out", manifest, seeds=1)
        assert tables(tmp_path / "out") == before


# ---- killed, and two at once --------------------------------------------------------------------


def start(
    out: Path, cache: Path, manifest: Path, plugin: Path, log: Path, sleep: str = "0"
) -> Forked:
    """In a process that is killed, or has another beside it."""
    return Forked(
        "from ultrabench_eval.cli import main; main()",
        *("run", "--model", "counting,pixels", "--plugin", plugin, "--task", manifest),
        *("--seeds", "2", "--out", out, "--cache", cache, "--device", "cpu"),
        environment={**os.environ, "COUNTING_LOG": str(log), "COUNTING_SLEEP": sleep},
    )


def same_here(
    monkeypatch: pytest.MonkeyPatch, out: Path, cache: Path, manifest: Path, plugin: Path, log: Path
) -> None:
    """The run of `start` in this process."""
    monkeypatch.setenv("COUNTING_LOG", str(log))
    options = {"plugin_files": [plugin], "seeds": 2, "cache": cache}
    run(out, manifest, "counting,pixels", **options)
    forget_plugins()


def encoded(log: Path) -> list[str]:
    return log.read_text().split() if log.exists() else []


@pytest.mark.slow
def test_killed_at_any_moment_and_run_again_gives_the_same_bytes(
    tmp_path: Path, counting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = make_manifest(tmp_path / "many.csv", count=900)
    wanted, out, calm = tmp_path / "wanted", tmp_path / "out", tmp_path / "calm.log"
    same_here(monkeypatch, wanted, tmp_path / "cache_a", manifest, counting, calm)
    assert len(encoded(calm)) == 900

    log = tmp_path / "killed.log"
    kills = 0
    for moment in (
        lambda: len(encoded(log)) > 100,  # within the first shard
        lambda: len(set(encoded(log))) > 700,  # within the second
        lambda: list(out.rglob("*.json")),  # while results are written
    ):
        process = start(out, tmp_path / "cache_b", manifest, counting, log, "0.05")
        while process.poll() is None:
            if moment():
                process.kill()
                process.wait()
                kills += 1
            time.sleep(0.005)
    assert kills >= 2  # the third may come too late
    same_here(monkeypatch, out, tmp_path / "cache_b", manifest, counting, log)
    assert tables(out) == tables(wanted)
    # A kill costs at most the shard that was under way.
    images = encoded(log)
    assert len(set(images)) == 900
    assert len(images) - 900 <= kills * features.SHARD
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
def test_two_runs_share_a_cache_without_encoding_twice(tmp_path: Path, counting: Path) -> None:
    manifest = make_manifest(tmp_path / "many.csv", count=600)
    log = tmp_path / "both.log"
    both = [
        start(tmp_path / out, tmp_path / "cache", manifest, counting, log, "0.1")
        for out in ("one", "two")
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert len(encoded(log)) == 600
    assert tables(tmp_path / "one") == tables(tmp_path / "two")


def test_a_finished_shard_is_never_encoded_again_after_a_kill(
    tmp_path: Path, manifest: Path, counting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick version: one shard of 60, killed while the probe trains or later."""
    log = tmp_path / "log"
    process = start(tmp_path / "out", tmp_path / "cache", manifest, counting, log)
    folder = tmp_path / "cache" / "features"
    deadline = time.monotonic() + 60
    while not list(folder.glob("*/*.safetensors")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    same_here(monkeypatch, tmp_path / "out", tmp_path / "cache", manifest, counting, log)
    assert len(encoded(log)) == 60


def test_coordinates_become_safe_paths() -> None:
    at = Coordinates("timm/vit", "my task", "paper-1")
    assert at.path.parts == ("timm%2Fvit", "my%20task", "linear-paper-1-100-none-0")
