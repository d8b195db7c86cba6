"""Probes that a run keeps, and what they say of images: the own predictions, to the bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from conftest import forget_plugins, make_manifest
from test_cli import ubench

import tasks
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.predict import predict
from ultrabench_eval.probe_files import ProbeFiles
from ultrabench_eval.task_types import calibration, classification

PROBES = "linear,logistic,ridge,knn,attentive"
TOKENS = '''
import torch
import model_zoo

@model_zoo.register("squares")
class Squares(model_zoo.Encoder):
    """Colours of 4 x 4 squares, and their mean."""
    input_rule = model_zoo.InputRule(size=16)
    patch_size = 4

    def build(self, weights):
        return torch.nn.Unfold(4, stride=4)

    def _tokens(self, x):
        return self.network(x).mT

    def _forward(self, x):
        return self._tokens(x).mean(1)
'''


class Kept:
    """A run with all probes kept, and the words of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = make_manifest(folder / "shades.csv")
        self.out, self.plugin = folder / "out", folder / "squares.py"
        self.plugin.write_text(TOKENS)
        self.place = ["--plugin", str(self.plugin), "--cache", str(folder / "cache")]
        self.place += ["--device", "cpu"]
        self.test = [str(image.path) for image in tasks.load(str(self.manifest)).test.images]

    def run(self, *words: str, out: Path | None = None) -> None:
        asked = ["--model", "squares", "--task", str(self.manifest), "--seeds", "2"]
        done = ubench("run", *asked, *self.place, "--out", str(out or self.out), *words)
        assert done.returncode == 0, done.stderr

    def cell(self, probe: str, fraction: int = 100, out: Path | None = None) -> Cell:
        (found,) = [
            one
            for one in Cells(out or self.out).gather()
            if one.coordinates.probe == probe and one.coordinates.fraction == fraction
        ]
        assert isinstance(found, Cell)
        return found

    def predicted(self, *words: str, images: list[str] | None = None) -> pd.DataFrame:
        file = self.folder / "predicted.csv"
        file.unlink(missing_ok=True)
        done = ubench("predict", str(self.out), *(images or self.test), "--model", "squares",
                      "--out", str(file), *self.place, *words)  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.told = done.stderr
        return pd.read_csv(file)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    made = Kept(tmp_path_factory.mktemp("kept"))
    made.run("--probe", PROBES, "--fractions", "50,100", "--keep-probes")
    return made


@pytest.mark.parametrize("fraction", [50, 100])
@pytest.mark.parametrize("probe", PROBES.split(","))
def test_a_kept_probe_gives_the_results_own_predictions_to_the_bit(
    kept: Kept, probe: str, fraction: int
) -> None:
    cell = kept.cell(probe, fraction)
    stored = Cells(kept.out).predictions(cell)["probabilities"]  # float32 [H, N, C]
    columns = [f"p_{name}" for name in cell.classes]
    which = ["--probe", probe, "--fraction", str(fraction)]
    for seed in (0, 1):
        table = kept.predicted(*which, "--seed", str(seed), "--uncalibrated")
        again = table[columns].to_numpy().astype(np.float32)
        assert again.tobytes() == stored[seed].tobytes()
        assert list(table["image"]) == kept.test
    assert set(table["model_fingerprint"]) == {cell.identity["model"]}
    assert set(table["protocol"]) == {cell.coordinates.protocol}


@pytest.mark.parametrize("probe", ["linear", "knn"])
def test_probabilities_are_calibrated_as_the_scores_are(kept: Kept, probe: str) -> None:
    cell = kept.cell(probe)
    labels = tasks.load(str(kept.manifest)).test.labels
    columns = [f"p_{name}" for name in cell.classes]
    seeds = [kept.predicted("--probe", probe, "--seed", str(seed))[columns] for seed in (0, 1)]
    stacked = np.stack([table.to_numpy() for table in seeds])
    losses = calibration.log_loss(stacked, labels)
    np.testing.assert_allclose(losses, cell.scores["log_loss_calibrated"], rtol=1e-14)
    mean = kept.predicted("--probe", probe)
    np.testing.assert_allclose(mean[columns].to_numpy(), stacked.mean(0), rtol=1e-15)
    assert list(mean["prediction"]) == [cell.classes[c] for c in stacked.mean(0).argmax(1)]
    assert set(mean["seed"]) == {"mean of 2"}


def test_without_the_option_nothing_changes_on_disk(kept: Kept, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    kept.run("--probe", PROBES, "--fractions", "50,100", out=plain)
    assert not (plain / "probes").exists()
    with pytest.raises(UserError, match=r"were not kept in .* again with --keep-probes"):
        predict(plain, "squares", kept.test, probe="linear", plugin_files=[kept.plugin])
    for probe in PROBES.split(","):
        one, other = kept.cell(probe), kept.cell(probe, out=plain)
        assert one.predictions == other.predictions
        assert one.scores == other.scores
    # What is there already is kept byte for byte when the probes are asked for later.
    before = {path: path.read_bytes() for path in (plain / "cells").rglob("*") if path.is_file()}
    kept.run("--probe", PROBES, "--fractions", "50,100", "--keep-probes", out=plain)
    assert {path: path.read_bytes() for path in before} == before
    for path in (kept.out / "probes").rglob("*.safetensors"):
        assert (plain / path.relative_to(kept.out)).read_bytes() == path.read_bytes()
    made = {path: path.stat().st_mtime_ns for path in (plain / "probes").rglob("*.json")}
    kept.run("--probe", PROBES, "--fractions", "50,100", "--keep-probes", out=plain)
    assert {path: path.stat().st_mtime_ns for path in made} == made


@pytest.mark.parametrize("damage", ["tensors", "facts", "another"])
def test_damage_is_told_and_mended_by_the_same_command(
    kept: Kept, damage: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(kept.out, out)
    at = kept.cell("ridge").coordinates
    path = out / "probes" / at.path
    tensors, facts = path.with_name(f"{path.name}.safetensors"), path.with_name(f"{path.name}.json")
    whole = tensors.read_bytes(), facts.read_bytes()
    if damage == "tensors":
        tensors.write_bytes(whole[0][:-1] + bytes([whole[0][-1] ^ 1]))
    elif damage == "facts":
        facts.write_text(facts.read_text().replace('"penalty": ', '"penalty": 1'))
    else:
        other = kept.cell("logistic").coordinates.path
        shutil.copy(kept.out / "probes" / other.with_name(f"{other.name}.json"), facts)
    words = {"plugin_files": [kept.plugin], "cache": kept.folder / "cache", "device": "cpu"}
    with pytest.raises(UserError, match=r"is damaged|another result") as told:
        predict(out, "squares", kept.test, probe="ridge", **words)  # type: ignore[arg-type]
    assert "\n" not in str(told.value)
    kept.run("--probe", PROBES, "--fractions", "50,100", "--keep-probes", out=out)
    assert (tensors.read_bytes(), facts.read_bytes()) == whole


def test_kept_probes_are_merged(kept: Kept, tmp_path: Path) -> None:
    done = ubench("merge", str(tmp_path / "merged"), str(kept.out))
    assert done.returncode == 0, done.stderr
    cell = kept.cell("knn", out=tmp_path / "merged")
    assert ProbeFiles(tmp_path / "merged").has(cell)


def test_other_images_and_what_is_unlike_the_task(kept: Kept) -> None:
    folder = kept.folder / "others"
    folder.mkdir()
    PIL.Image.fromarray(np.full((40, 48, 3), 90, np.uint8)).save(folder / "b.png")
    PIL.Image.fromarray(np.full((400, 480, 3), (90, 20, 9), np.uint8)).save(folder / "a.png")
    table = kept.predicted("--probe", "linear", images=[str(folder), kept.test[0]])
    assert [Path(name).name for name in table["image"]] == ["a.png", "b.png", "48.png"]
    assert (
        "1 of 3 images have another size than the training images (48 to 48 x 40 to 40" in kept.told
    )
    assert "1 of 3 images have colours, and the training images none, such as" in kept.told
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes()[:80])
    file = kept.folder / "none.csv"
    words = ["--model", "squares", "--probe", "linear", "--out", str(file), *kept.place]
    bad = ubench("predict", str(kept.out), str(folder), "missing.png", *words)
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert "c.png: it is damaged or cut off" in bad.stderr
    assert "missing.png is missing" in bad.stderr
    assert not file.exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "square"}, "no result of model 'square'; it has squares"),
        ({"probe": None}, r"has results of several probes in .*--probe .*linear or "),
        ({"fraction": 10}, "no result of fraction '10'; it has (50, 100|100, 50)"),
        ({"protocol": "tuned"}, "no result of protocol 'tuned'; it has paper-"),
        ({"seed": 7}, "no probe has the seed 7; there are 0, 1"),
        ({"run": "nowhere"}, "results not found: nowhere"),
        ({"images": []}, "no images are named"),
    ],
)
def test_what_cannot_be_predicted_is_told(kept: Kept, given: dict[str, object], said: str) -> None:
    words: dict[str, object] = {"run": kept.out, "model": "squares", "images": kept.test}
    words |= {"probe": "linear", "protocol": "paper", "plugin_files": [kept.plugin]}
    words |= {"cache": kept.folder / "cache", "device": "cpu"}
    with pytest.raises(UserError, match=said):
        predict(**(words | given))  # type: ignore[arg-type]


def test_another_model_of_the_same_name_is_refused(kept: Kept) -> None:
    plugin = kept.folder / "changed.py"
    plugin.write_text(TOKENS.replace("mean(1)", "amax(1)"))
    forget_plugins()
    done = ubench("predict", str(kept.out), kept.test[0], "--model", "squares", "--probe", "linear",
                  "--plugin", str(plugin), "--out", str(kept.folder / "x.csv"))  # fmt: skip
    forget_plugins()
    assert done.returncode == 2
    assert "this is not the model of the run, its fingerprint differs" in done.stderr


def test_features_are_written_with_all_that_is_known_of_the_images(
    kept: Kept, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "features.parquet"
    words = ["squares", str(kept.manifest), *kept.place]
    done = ubench("embed", *words, "--out", str(file))
    assert done.returncode == 0, done.stderr
    table = parquet.read_table(file)
    task = tasks.load(str(kept.manifest))
    assert table.column_names == ["id", "sha256", "split", "label", "code", "group", "features"]
    assert table["split"].to_pylist().count("test") == len(task.test)
    assert table["id"].to_pylist()[-1] == task.test.images[-1].name
    features = np.stack(table["features"].to_numpy())
    assert features.dtype == np.float32
    made_by = json.loads(table.schema.metadata[b"ultrabench_eval"])
    cell = kept.cell("linear")
    assert made_by["model_fingerprint"] == cell.identity["model"]
    assert made_by["task_fingerprint"] == cell.identity["task"]
    # They are what the probes were trained on.
    found = ProbeFiles(kept.out).get(cell)
    assert found is not None
    import torch

    test = torch.from_numpy(features[[s == "test" for s in table["split"].to_pylist()]])
    stored = Cells(kept.out).predictions(cell)["probabilities"]
    assert found[1].predict(test).numpy().tobytes() == stored.tobytes()
    before = file.read_bytes()
    assert ubench("embed", *words, "--out", str(file)).returncode == 0
    assert file.read_bytes() == before
    wrong = ubench("embed", *words, "--out", str(tmp_path / "features.csv"))
    assert wrong.returncode == 2
    assert "is not a .parquet file" in wrong.stderr


def test_scores_of_the_csv_are_the_cells(kept: Kept) -> None:
    cell = kept.cell("logistic")
    table = kept.predicted("--probe", "logistic", "--seed", "1", "--uncalibrated")
    labels = tasks.load(str(kept.manifest)).test.labels
    codes = np.array([[cell.classes.index(name) for name in table["prediction"]]])
    counts = classification.confusion(codes[0], labels, len(cell.classes))
    assert np.trace(counts) / counts.sum() == cell.scores["accuracy"][1]


def test_it_holds_for_the_readers_images_as_well(
    tmp_path: Path, phantom_root: Path, kept: Kept
) -> None:
    data = ["--data", str(phantom_root), "--task", "aul"]
    words = ["--model", "squares", "--out", str(tmp_path / "out"), *kept.place]
    done = ubench("run", *words, *data, "--probe", PROBES, "--seeds", "1", "--keep-probes")
    assert done.returncode == 0, done.stderr
    images = [str(image.path) for image in tasks.load("aul", phantom_root).test.images]  # type: ignore[attr-defined]
    for cell in Cells(tmp_path / "out").gather():
        assert isinstance(cell, Cell)
        found = predict(
            tmp_path / "out", "squares", images, probe=cell.coordinates.probe, seed=0,
            calibrated=False, cache=kept.folder / "cache", plugin_files=[kept.plugin], device="cpu",
        )  # fmt: skip
        (stored,) = Cells(tmp_path / "out").predictions(cell)["probabilities"]
        assert found.probabilities.tobytes() == stored.tobytes()
