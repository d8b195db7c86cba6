"""Train on one set, test on another: whole runs, their tables, and a shortcut that they show."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from sklearn.metrics import f1_score

from tasks import derived
from tasks.samples.images import ImageArray
from tasks.task import Item, Split, Task, TaskCard
from ultrabench_eval import pipeline
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.grid import Grid
from ultrabench_eval.loading import Model
from ultrabench_eval.measure import Setting, measure
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.sections import transfer

SIDE = 24
COUNTS = {"train": 60, "validation": 30, "test": 60}


def picture(noise: np.random.Generator, label: int, gain: float) -> np.ndarray:
    """A blob on noise, brighter where the label is 1; uint8 [H, W]."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    top, left = noise.uniform(0.35, 0.65, 2)
    blob = np.exp(-((y - top) ** 2 + (x - left) ** 2) / 0.02)
    pixels = 60 + gain * (22 * label + noise.normal(20, 16)) * blob
    return np.asarray((pixels + noise.normal(0, 25, (SIDE, SIDE))).clip(0, 255).astype(np.uint8))


def table(folder: Path, name: str, classes: tuple[str, ...], seed: int) -> Path:
    """SYNTHETIC own data with a column of devices; the label "normal" is a third class."""
    noise, rows = np.random.default_rng(seed), []
    (folder / name).mkdir()
    for split, count in COUNTS.items():
        for n in range(count):
            code = n % len(classes)
            file = f"{name}/{split}{n}.png"
            PIL.Image.fromarray(picture(noise, code % 2, 2)).save(folder / file)
            device = "old" if noise.random() < 0.5 else "new"
            rows.append([file, classes[code], split, f"{n // 2}-{split}", device])
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file_:
        csv.writer(file_).writerows([["image", "label", "split", "group", "device"], *rows])
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    table(folder, "here", ("benign", "malignant"), 0)
    table(folder, "there", ("B", "M", "normal"), 1)
    (folder / "labels.yaml").write_text("B: benign\nM: malignant\n")
    return folder


def run(root: Path, out: Path, **more: object) -> pd.DataFrame:
    pairs = f"{root}/here.csv:{root}/there.csv"
    options = {"labels": root / "labels.yaml", "seeds": 2, "cache": root / "cache", **more}
    return pipeline.run("pixels,image-stats", out=out, transfer=pairs, **options)


@pytest.fixture(scope="module")
def out(root: Path) -> Path:
    run(root, root / "out", identifiers=True, subgroups="device", fractions="50,100")
    return root / "out"


def cells(out: Path) -> dict[tuple[str, str], Cell]:
    found = [one for one in Cells(out).gather() if isinstance(one, Cell)]
    assert len(found) == 12
    main = [one for one in found if one.coordinates.fraction == 100]
    return {(one.coordinates.model, one.coordinates.task): one for one in main}


PAIR, NATIVE = "here:there", "there[benign=B+malignant=M]"


def test_a_run_measures_the_pair_and_both_sets_with_the_same_probes(out: Path) -> None:
    found = cells(out)
    assert {task for _, task in found} == {"here", NATIVE, PAIR}
    for model in ("pixels", "image-stats"):
        assert found[model, PAIR].heads == found[model, "here"].heads
        assert found[model, PAIR].task["trained"] == "here"
        assert any(
            "20 test images" in note and "'normal'" in note for note in found[model, PAIR].notes
        )


def test_what_is_lost_is_that_of_the_stored_predictions(out: Path) -> None:
    """By scikit-learn, from the probabilities on disk."""
    found, run_cells = cells(out), Cells(out)
    rows = pd.read_csv(out / "transfer.csv").set_index("model")
    for model in ("pixels", "image-stats"):
        scores = {}
        for task in ("here", PAIR, NATIVE):
            cell = found[model, task]
            truth = run_cells.test_set(str(cell.identity["task"])).labels
            codes = run_cells.predictions(cell)["probabilities"].argmax(-1)
            scores[task] = 100 * np.mean([f1_score(truth, one, average="macro") for one in codes])
        row = rows.loc[model]
        assert row.home == pytest.approx(scores["here"], abs=1e-3)
        assert row.lost == pytest.approx(scores["here"] - scores[PAIR], abs=1e-3)
        assert row.missed == pytest.approx(scores[NATIVE] - scores[PAIR], abs=1e-3)
        assert row.lost_low < row.lost < row.lost_high
        assert row.missed_low <= row.missed_high
        ece = np.mean(found[model, PAIR].scores["ece"])
        assert row.ece_away == pytest.approx(100 * ece, abs=1e-3)


def test_no_mean_over_tasks_holds_it(out: Path) -> None:
    for name in ("leaderboard.md", "leaderboard.html", "leaderboard.tex", "statistics.md"):
        text = (out / name).read_text()
        assert "mean of 2" not in text
    assert set(pd.read_csv(out / "pairs.csv").task) == {"here", PAIR, NATIVE}
    assert set(pd.read_csv(out / "ranks.csv").task) <= {"here", "mean of tasks"}
    page = (out / "leaderboard.html").read_text()
    assert 'id="transfer"' in page
    assert 'id="subgroups"' in page
    assert "Does it hold on another set?" in (out / "statistics.md").read_text()


def test_scores_by_device(out: Path) -> None:
    found, rows = cells(out), pd.read_csv(out / "subgroups.csv")
    mine = rows[(rows.model == "pixels") & (rows.task == PAIR)].set_index("subgroup")
    assert list(mine.index) == ["new", "old"]
    assert mine.images.sum() == 40
    cell = found["pixels", PAIR]
    test = Cells(out).test_set(str(cell.identity["task"]))
    codes = Cells(out).predictions(cell)["probabilities"].argmax(-1)
    old = np.array(test.subgroups["device"]) == "old"
    truth = np.array(test.labels)[old]
    score = np.mean([f1_score(truth, one[old], average="macro") for one in codes])
    assert mine.loc["old"].value == pytest.approx(100 * score, abs=1e-3)


def test_a_second_run_does_nothing_again(root: Path, out: Path) -> None:
    before = {path: path.read_bytes() for path in (out / "cells").rglob("*.safetensors")}
    stages: list[str] = []
    again = {"identifiers": True, "subgroups": "device", "fractions": "50,100"}
    run(root, out, report=lambda step: stages.append(step.stage), **again)
    assert "kept" in stages
    assert not {"done", "failed", "encode"} & {*stages}
    assert before == {path: path.read_bytes() for path in (out / "cells").rglob("*.safetensors")}


def test_own_data_without_names_are_paired_only_if_nothing_was_removed(
    root: Path, tmp_path: Path
) -> None:
    run(root, tmp_path / "out")
    rows = pd.read_csv(tmp_path / "out/transfer.csv")
    assert rows.missed.notna().all()
    assert (
        "identifiers"
        not in (tmp_path / "out/statistics.md")
        .read_text()
        .partition("Does it hold")[2]
        .partition("\n## ")[0]
    )


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("busbra", "--transfer busbra is not valid; write TRAINED:TESTED"),
        ("busbra:nosuch", "unknown task 'nosuch'"),
        ("aul:mmotu", "share no class"),
        ("hc18-hc:busi", "hc18-hc is regression and busi classification"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(
    tmp_path: Path, asked: str, sentence: str
) -> None:
    with pytest.raises(UserError, match=sentence):
        pipeline.run("pixels", out=tmp_path / "out", transfer=asked, data="phantom")
    assert not (tmp_path / "out").exists()


# ---- a shortcut ---------------------------------------------------------------------------------


def world(name: str, seed: int, marked: bool, gain: float = 1.0) -> Task:
    """SYNTHETIC images in memory; a mark in a corner goes with the label nine times of ten."""
    noise = np.random.default_rng([seed, len(name)])
    parts = []
    for split, count in {"train": 100, "validation": 40, "test": 120}.items():
        items = []
        for n in range(count if split == "test" or name == "here" else 4):
            label = int(noise.random() < 0.4) if n > 1 else n
            pixels = picture(noise, label, gain)
            if (noise.random() < 0.9) == bool(label) and marked:
                pixels[1:4, 1:4] = 230
            image = ImageArray(np.repeat(pixels[..., None], 3, -1), f"{name} {split} {n}")
            items.append(Item(image, label, f"{name} {split} {n}"))
        parts.append(Split.of(items))
    card = TaskCard(name, name, "none", "blob", ("dim", "bright"), groups="patient")
    return Task(card, *parts, origin="memory", synthetic=True)


def lost(model: Model, seed: int, marked: bool, folder: Path) -> transfer.Drop:
    """What raw pixels lose from the one set to the other, by the report of the cells."""
    made = {"here": world("here", seed, marked), "there": world("there", seed, False, 0.9)}
    made["here:there"] = derived.load("here:there", made.__getitem__)
    store = Cells(folder / "out")
    grid = Grid.parse("ridge", None, 100, "")
    setting = Setting(store, folder / "cache", 3, grid, lambda *_: None, lambda *_: None)
    for name in ("here", "here:there"):
        assert list(measure("pixels", model, name, made[name], setting)) == ["done"]
    section = transfer.section(Evidence(store, store.gather()))
    assert section is not None
    ((_, row),) = section.rows
    return transfer.Drop(*(float(str(row[k])) for k in ("lost", "lost_low", "lost_high")))


@pytest.mark.slow
def test_a_shortcut_of_one_set_shows_in_twenty_of_twenty_seeds(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = Model("pixels", None, "cpu", "float32")
    shown = []
    for seed in range(20):
        with_mark = lost(model, seed, True, tmp_path / f"{seed} marked")
        without = lost(model, seed, False, tmp_path / f"{seed} plain")
        shown.append(with_mark.low > 0 and with_mark.value > without.value)
    assert sum(shown) == 20
