"""All conditions of a model and a task: each measured once, alone in its failures, and without
a look at test images."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from conftest import make_manifest

import model_zoo
import tasks
import ultrabench_eval
from ultrabench_eval import fewshot, probes
from ultrabench_eval.cells import Cell, Cells, Failure
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.corrupt import CorruptedImage
from ultrabench_eval.pipeline import Step
from ultrabench_eval.probes.heads import ProbeData, Stream
from ultrabench_eval.protocol import Gradient, Protocol
from ultrabench_eval.task_types import classification

EVERYTHING = {
    "probe": "linear,logistic,ridge,knn",
    "protocol": "paper,tuned",
    "fractions": "10,100",
    "corruptions": "paper",
}


def run(out: Path, manifest: Path, models: str = "pixels", **more: object) -> pd.DataFrame:
    more = {"cache": out.parent / "cache", "seeds": 2, **more}
    return ultrabench_eval.run(models, str(manifest), out=out, device="cpu", **more)


def cells(out: Path, **at: object) -> list[Cell]:
    found = [entry for entry in Cells(out).gather() if isinstance(entry, Cell)]
    return [c for c in found if all(getattr(c.coordinates, k) == v for k, v in at.items())]


def test_a_whole_grid_is_measured_once_and_encoded_once(tmp_path: Path, manifest: Path) -> None:
    steps: list[Step] = []
    frame = run(tmp_path / "out", manifest, report=steps.append, **EVERYTHING)
    main = frame[frame.metric == "macro_f1"]
    assert len(main) == 4 * 2 * (2 + 3 * 3)
    assert set(main.status) == {"ok"}
    # 60 images as they are, 12 test images for each of 9 corruptions, whatever the probes
    assert sum(step.new for step in steps) == 60 + 9 * 12
    assert Counter(step.stage for step in steps)["done"] == len(main)
    assert steps[-1].stage == "report"
    assert (steps[-2].done, steps[-2].total) == (len(main), len(main))

    before = (tmp_path / "out" / "leaderboard.csv").read_bytes()
    steps.clear()
    run(tmp_path / "out", manifest, report=steps.append, **EVERYTHING)
    assert {step.stage for step in steps} == {"plan", "begin", "kept", "report"}
    assert (tmp_path / "out" / "leaderboard.csv").read_bytes() == before


def test_conditions_that_are_added_later_are_what_they_would_have_been(
    tmp_path: Path, manifest: Path
) -> None:
    run(tmp_path / "whole" / "out", manifest, fractions="20,100", corruptions="blur")
    run(tmp_path / "parts" / "out", manifest)
    run(tmp_path / "parts" / "out", manifest, fractions="20,100")
    run(tmp_path / "parts" / "out", manifest, corruptions="blur")
    whole, parts = (
        (tmp_path / name / "out" / "leaderboard.csv").read_bytes() for name in ("whole", "parts")
    )
    assert whole == parts


def test_a_corrupted_cell_is_the_clean_probe_on_corrupted_images(
    tmp_path: Path, manifest: Path
) -> None:
    run(tmp_path / "out", manifest, corruptions="blur,contrast")
    task = tasks.load(str(manifest))
    (clean,) = cells(tmp_path / "out", corruption="none")
    for name in ("blur", "contrast"):
        worse = cells(tmp_path / "out", corruption=name)
        assert [c.coordinates.severity for c in worse] == [1, 2, 3]
        assert all(c.heads == clean.heads for c in worse)  # trained on uncorrupted images
        # The same by hand: write the corrupted test images down as a task of their own.
        folder = tmp_path / name
        rows = list(csv.DictReader(manifest.open()))
        test = [i for i, row in enumerate(rows) if row["split"] == "test"]
        (folder / manifest.with_suffix("").name).mkdir(parents=True)
        for i, row in enumerate(rows):
            row["image"] = str(manifest.parent / row["image"])
            if i in test:
                at = test.index(i)
                one = CorruptedImage(
                    task.test.images[at], task.test.scan_masks[at], name, 3, seed=0
                )
                row["image"] = f"{i}.png"
                PIL.Image.fromarray(one.read()).save(folder / row["image"])
        with (folder / "shades.csv").open("w") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        run(folder / "out", folder / "shades.csv")
        by_hand = Cells(folder / "out")
        (other,) = by_hand.gather()
        np.testing.assert_array_equal(
            by_hand.predictions(other)["probabilities"],
            Cells(tmp_path / "out").predictions(worse[-1])["probabilities"],
        )


def test_fewer_images_are_used_and_told(tmp_path: Path, manifest: Path) -> None:
    run(tmp_path / "out", manifest, fractions="1,50,100")
    few, half, whole = sorted(cells(tmp_path / "out"), key=lambda c: c.coordinates.fraction)
    assert [c.images["train"] for c in (few, half, whole)] == [2, 18, 36]
    assert {c.images["validation"] for c in (few, half, whole)} == {12}
    assert "2 of 36 images, 5.6 %" in few.warnings[0]
    assert half.warnings == whole.warnings == []


def test_validation_is_cut_with_the_training_images_if_asked(
    tmp_path: Path, manifest: Path
) -> None:
    run(tmp_path / "out", manifest, fewshot_validation="subset", fractions="50,100")
    sizes = {c.coordinates.fraction: c.images["validation"] for c in cells(tmp_path / "out")}
    assert sizes == {50: 6, 100: 12}


def test_the_whole_sweep_is_kept(tmp_path: Path, manifest: Path) -> None:
    run(tmp_path / "out", manifest, protocol="tuned")
    (cell,) = cells(tmp_path / "out")
    assert len(cell.sweep) == 2 * 16
    for head in cell.heads:
        rivals = [s["validation_loss"] for s in cell.sweep if s["seed"] == head["seed"]]
        assert head["validation_loss"] == min(rivals)


def test_a_setting_at_the_edge_of_its_grid_is_told(tmp_path: Path, manifest: Path) -> None:
    # So slow that each step helps: the highest rate is the best one, and a wider grid is not tried.
    slow = Protocol(name="slow", gradient=Gradient(learning_rates=(1e-6, 1e-5), max_epochs=3))
    run(tmp_path / "out", manifest, protocol=slow)
    (cell,) = cells(tmp_path / "out")
    assert [head["setting"]["learning_rate"] for head in cell.heads] == [1e-5, 1e-5]
    (warning,) = cell.warnings
    assert "learning rate 1e-05 is the highest of the grid" in warning


BREAKS = '''
import model_zoo, torch

@model_zoo.register("breaks")
class Breaks(model_zoo.Encoder):
    """Fails on images without any detail."""
    input_rule = model_zoo.InputRule(size=40)

    def build(self, weights):
        return torch.nn.Flatten()

    def _forward(self, x):
        if {condition}:
            raise RuntimeError("no detail left")
        return self.network(x)
'''


def test_a_corruption_that_fails_spoils_its_own_cells_only(tmp_path: Path, manifest: Path) -> None:
    plugin = tmp_path / "breaks.py"
    plugin.write_text(BREAKS.replace("{condition}", "x[:, 0].std((1, 2)).mean() < 0.13"))
    run(
        *(tmp_path / "out", manifest, "breaks"),
        plugin_files=[plugin],
        corruptions="contrast",
        probe="linear,ridge",
        fractions="50,100",
    )
    entries = Cells(tmp_path / "out").gather()
    failed = {e.coordinates.severity for e in entries if isinstance(e, Failure)}
    fine = [e.coordinates for e in entries if isinstance(e, Cell)]
    assert failed
    assert 0 not in failed
    assert {at.fraction for at in fine} == {50, 100}
    assert all("no detail left" in e.reason for e in entries if isinstance(e, Failure))


def test_attentive_probes_are_trained_on_tokens(tmp_path: Path, manifest: Path) -> None:
    steps: list[Step] = []
    run(
        *(tmp_path / "out", manifest, "random-vit-tiny,pixels"),
        probe="attentive",
        corruptions="blur",
        report=steps.append,
    )
    entries = Cells(tmp_path / "out").gather()
    fine = [e for e in entries if isinstance(e, Cell)]
    assert {c.coordinates.model for c in fine} == {"random-vit-tiny"}
    assert [c.coordinates.severity for c in fine] == [1, 2, 3, 0]
    assert all(c.coordinates.probe == "attentive" and c.model["dim"] == 192 for c in fine)
    assert sum(step.new for step in steps if step.model == "random-vit-tiny") == 60 + 3 * 12
    (reason,) = {e.reason for e in entries if isinstance(e, Failure)}
    assert reason.startswith("model 'pixels' has no patch tokens")


# ---- intervals ----------------------------------------------------------------------------------


def test_copies_of_a_patients_image_do_not_narrow_an_interval(tmp_path: Path) -> None:
    """Four copies of each of 30 test images tell as much as 30 images do."""
    manifest = make_manifest(tmp_path / "grouped.csv", count=150)
    head, *lines = manifest.read_text().splitlines()
    grouped, alone = [head], [head.removesuffix(",group")]
    for line in lines:
        image, label, split, _ = line.split(",")
        for number in range(4 if split == "test" else 1):
            copy = f"{number}_{Path(image).name}"
            shutil.copy(tmp_path / image, tmp_path / copy)
            grouped.append(f"{copy},{label},{split},{image}")
            alone.append(f"{copy},{label},{split}")
    manifest.write_text("\n".join(grouped))
    (tmp_path / "alone.csv").write_text("\n".join(alone))
    found = []
    for name in ("grouped", "alone"):
        run(tmp_path / name / "out", tmp_path / f"{name}.csv", "image-stats", probe="knn")
        found += cells(tmp_path / name / "out")
    assert found[0].scores["macro_f1"] == found[1].scores["macro_f1"]
    assert found[0].images["test"] == 120
    wide, narrow = (high - low for low, high in (cell.intervals["macro_f1"] for cell in found))
    assert wide == pytest.approx(2 * narrow, rel=0.25)  # by the root of four


# ---- nothing is learned from test images ---------------------------------------------------------


def planted(path: Path, splits: set[str], marked: str) -> Path:
    """Images of pure noise; in these splits a white corner marks a class, a black one the other."""
    manifest = make_manifest(path, count=180)
    generator = np.random.default_rng(1)
    for row in csv.DictReader(manifest.open()):
        pixels = generator.integers(0, 256, (40, 48)).astype(np.uint8)
        if row["split"] in splits:
            pixels[:10, :10] = 255 * (row["label"] == marked)
        PIL.Image.fromarray(pixels).save(manifest.parent / row["image"])
    return manifest


@pytest.mark.parametrize("protocol", ["paper", "tuned"])
def test_a_mark_that_tells_the_class_in_test_images_alone_is_no_gain(
    tmp_path: Path, protocol: str
) -> None:
    def accuracy(where: str, splits: set[str], marked: str) -> pd.Series:
        folder = tmp_path / where / marked
        frame = run(
            *(folder / "out", planted(folder / "task.csv", splits, marked)),
            **{"protocol": protocol, "probe": "linear,logistic,ridge,knn", "seeds": 3},
        )
        return frame[frame.metric == "accuracy"].set_index("probe")["mean"]

    everywhere = accuracy("everywhere", {"train", "val", "test"}, "bright")
    assert (everywhere > 95).all()  # the mark can be read
    # A probe that never saw the mark may take it for either class, always the same one. So the
    # mark and its opposite together are worth a coin, and a probe that had peeked would win both.
    both = [accuracy("test", {"test"}, marked) for marked in ("bright", "dark")]
    assert ((both[0] + both[1]) / 2).between(40, 60).all()


def test_nothing_but_the_scores_depends_on_test_images_and_labels(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "one" / "task.csv")
    other = make_manifest(tmp_path / "other" / "task.csv")
    text = other.read_text().splitlines()
    swap = {"dark": "bright", "bright": "dark"}
    for i, line in enumerate(text):
        image, label, split, group = line.split(",")
        if split == "test":
            text[i] = f"{image},{swap[label]},{split},{group}"
    other.write_text("\n".join(text) + "\n")
    for name, path in (("one", manifest), ("other", other)):
        run(tmp_path / name / "out", path, **(EVERYTHING | {"protocol": "tuned"}))
    for a, b in zip(
        cells(tmp_path / "one" / "out"), cells(tmp_path / "other" / "out"), strict=True
    ):
        assert a.coordinates == b.coordinates
        assert (a.heads, a.sweep) == (b.heads, b.sweep)
        np.testing.assert_array_equal(
            Cells(tmp_path / "one" / "out").predictions(a)["probabilities"],
            Cells(tmp_path / "other" / "out").predictions(b)["probabilities"],
        )
    (clean,) = cells(tmp_path / "one" / "out", probe="linear", fraction=100, corruption="none")
    assert clean.scores["log_loss_calibrated"] != clean.scores["log_loss"]


def test_temperatures_come_from_the_validation_images_in_use(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "mixed.csv", count=150)
    swap = {"dark": "bright", "bright": "dark"}
    lines = [line.split(",") for line in manifest.read_text().splitlines()]
    for line in lines[1::4]:  # labels that nobody can know, so that no temperature is extreme
        line[1] = swap[line[1]]
    manifest.write_text("\n".join(map(",".join, lines)))
    # With one number of neighbours to choose from, validation images do nothing but calibrate.
    protocol = Protocol(name="five", neighbours=(5,), fewshot_validation="subset")
    run(tmp_path / "out", manifest, probe="knn", protocol=protocol, fractions="50,100")
    task = tasks.load(str(manifest))
    encoder = model_zoo.load("pixels", device="cpu")
    x, y = {}, {}
    for name, split in task.splits.items():
        inputs = [encoder.prepare(image.read()) for image in split.images]
        x[name] = encoder.encode_prepared(torch.stack(inputs))
        y[name] = torch.from_numpy(split.labels)
    data = ProbeData(x["train"], y["train"], x["validation"], y["validation"], 2)
    measured = cells(tmp_path / "out")
    assert [cell.coordinates.fraction for cell in measured] == [50, 100]
    for cell in measured:
        wanted, of_all, of_test = [], [], []
        for seed in range(2):
            rows = {
                name: fewshot.subset(
                    split.labels, split.groups, cell.coordinates.fraction, seed, name
                )
                for name, split in task.splits.items()
            }
            stream = Stream(0, seed, *(torch.from_numpy(rows[n]) for n in ("train", "validation")))
            probe = probes.get("knn").train(data, [stream], protocol)
            test, every = (probe.predict(x[name]).numpy() for name in ("test", "validation"))
            used = rows["validation"]
            truth = task.validation.labels
            for losses, fitted_on in (
                (wanted, (every[:, used], truth[used])),
                (of_all, (every, truth)),
                (of_test, (test, task.test.labels)),
            ):
                scores = classification.score(test, task.test.labels, validation=fitted_on)
                losses.append(scores["log_loss_calibrated"][0])
        assert cell.scores["log_loss_calibrated"] == pytest.approx(wanted, rel=1e-6)
        assert of_test != pytest.approx(wanted, rel=1e-4)
        same = of_all == pytest.approx(wanted, rel=1e-4)
        assert same == (cell.coordinates.fraction == 100)


def test_bad_words_are_told_before_anything_is_made(tmp_path: Path, manifest: Path) -> None:
    with pytest.raises(UserError, match="fraction '101'"):
        run(tmp_path / "out", manifest, fractions="101")
    assert not (tmp_path / "out").exists()
