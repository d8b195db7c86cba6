"""An encoder, a corruption, a metric and a kind of task are one new file each: nothing else is
changed for them. A probe: `probes/test_one_file.py`."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import forget_plugins
from sklearn.metrics import cohen_kappa_score
from test_cli import ubench

import model_zoo
import tasks
from ultrabench_eval import corrupt
from ultrabench_eval.cells import Cell, Cells, Failure

KAPPA = """
from ultrabench_eval import metrics
from ultrabench_eval.task_types.classification import by_class


def kappa(sums):
    right, true, called = (by_class(sums)[..., row, :] for row in range(3))
    count = true.sum(-1)
    chance = (true * called).sum(-1) / count**2
    return (right.sum(-1) / count - chance) / (1 - chance)


metrics.register(
    "kappa", metrics.Metric("kappa", "Cohen's kappa", unit="", of=kappa, within=(-1, 1), places=2)
)
"""

ORDINAL = """
from dataclasses import replace
from pathlib import Path

import numpy as np
import tasks
from tasks import manifest
from ultrabench_eval import task_types
from ultrabench_eval.metrics import Metric
from ultrabench_eval.stats.additive import Additive
from ultrabench_eval.task_types.task_type import Scored, TaskType

STEPS = Metric("steps", "mean error", "steps", of=lambda sums: sums[..., 0] / sums[..., 1],
               higher_is_better=False, within=(0, 2), places=2)


class Ordinal(TaskType):
    name = "ordinal"
    main = STEPS
    metrics = (STEPS,)

    def strata(self, targets):
        return targets

    def score(self, predicted, test, validation=None):
        stored = {"codes": predicted.argmax(-1).astype(np.uint8)}
        return Scored(self.again(stored, test), stored)

    def again(self, stored, test):
        sums = self.statistics(self.answers(stored), test).total()
        return {"steps": STEPS.of(sums)}

    def answers(self, stored):
        return stored["codes"].astype(np.int64)

    def compact(self, stored):
        return dict(stored)

    def statistics(self, answers, test):
        error = np.abs(answers - test.targets)
        return Additive.dense(np.stack([error, np.ones_like(error)], -1))

    def good(self, answers, test):
        return -np.abs(answers - test.targets)


task_types.register("ordinal", Ordinal())


@tasks.register("grades")
def grades(root):
    task = manifest.read(Path(MANIFEST))
    return replace(task, card=replace(task.card, name="grades", title="GRADES", type="ordinal"))
"""

SALT = """
from ultrabench_eval import corrupt
from ultrabench_eval.corrupt import Corruption


def salt(image, mask, level, rng):
    worse = image.copy()
    worse[mask & (rng.random(mask.shape) < level / 100)] = 255
    return worse


corrupt.register(
    "salt",
    Corruption("salt", unit="% white", levels=(5, 20, 60), summary="white pixels", function=salt),
)
"""

GREYS = """
import torch

import model_zoo


@model_zoo.register("greys")
class Greys(model_zoo.Encoder):
    input_rule = model_zoo.InputRule(size=16)
    patch_size = 4
    card = model_zoo.Card(title="Mean greys", dim=3, parameters=0)

    def build(self, weights):
        return torch.nn.AvgPool2d(4)

    def _forward(self, x):
        return self.network(x).mean((2, 3))

    def _tokens(self, x):
        return self.network(x).flatten(2).mT
"""


@pytest.fixture
def plugin(tmp_path: Path):
    yield tmp_path / "plugin.py"
    forget_plugins()


def run(tmp_path: Path, *words: str) -> list[Cell]:
    place = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    done = ubench("run", *place, "--seeds", "2", "--probe", "ridge", *words)
    assert done.returncode == 0, done.stderr
    cells = Cells(tmp_path / "out").gather()
    assert all(isinstance(cell, Cell) for cell in cells)
    return [cell for cell in cells if isinstance(cell, Cell)]


def page(tmp_path: Path, name: str = "leaderboard.md") -> str:
    return (tmp_path / "out" / name).read_text()


def test_an_encoder_is_one_file(tmp_path: Path, manifest: Path, plugin: Path) -> None:
    plugin.write_text(GREYS)
    words = ["--plugin", str(plugin), "--model", "greys", "--task", str(manifest)]
    (cell,) = run(tmp_path, *words)
    assert min(cell.scores["macro_f1"]) > 0.75
    assert cell.model["title"] == "Mean greys"
    assert "| greys" in page(tmp_path)
    shown = ubench("models", "greys", "--plugin", str(plugin))
    assert "Mean greys" in shown.stdout
    encoder = model_zoo.load("greys", device="cpu")
    (found,) = encoder.maps(torch.rand(2, 3, 30, 40))
    assert found.shape == (2, 3, 4, 4)


def test_a_corruption_is_one_file(tmp_path: Path, manifest: Path, plugin: Path) -> None:
    plugin.write_text(SALT)
    words = ["--plugin", str(plugin), "--model", "pixels", "--task", str(manifest)]
    cells = run(tmp_path, *words, "--corruptions", "salt,blur")
    by_severity = {(c.coordinates.corruption, c.coordinates.severity): c for c in cells}
    assert len(by_severity) == len(cells) == 7
    assert by_severity["salt", 3].scores != by_severity["none", 0].scores
    made = {cell.identity["corruption"] for cell in cells}
    assert made == {"none", "blur-1", corrupt.condition("salt")}
    assert re.fullmatch(r"salt-[0-9a-f]{64}", corrupt.condition("salt"))
    # What was measured is what the function gives.
    image = tasks.load(str(manifest)).test.images[0]
    whole = np.ones(image.read().shape[:2], bool)
    measured = corrupt.CorruptedImage(image, None, "salt", 3, 0).read()
    share = (measured != image.read()).any(2).mean()
    assert share == pytest.approx(0.6, abs=0.05)
    assert np.array_equal(
        corrupt.corrupt(image.read(), "salt", 3, mask=whole, seed=5),
        corrupt.corrupt(image.read(), "salt", 3, mask=None, seed=5),
    )
    told = page(tmp_path, "robustness.md")
    assert "salt (plugin): white pixels; severity 1, 2, 3 is 5, 20, 60 % white" in told
    assert "| plugin (salt)" in told
    assert told.index("blur (paper)") < told.index("salt (plugin)")
    # "all" and the family are names for it too; and pages need no plugin.
    assert corrupt.names("plugin") == ["salt"]
    assert corrupt.names("all")[-1] == "salt"
    forget_plugins()
    assert "salt" not in corrupt.names("all")
    again = ubench("report", str(tmp_path / "out"), "--out", str(tmp_path / "again"))
    assert again.returncode == 0, again.stderr
    for name in ("robustness.md", "robustness.csv", "leaderboard.md", "leaderboard.html"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_what_a_corruptions_code_is_belongs_to_the_identity_of_features_and_results(
    tmp_path: Path, manifest: Path, plugin: Path
) -> None:
    words = ["--plugin", str(plugin), "--model", "pixels", "--task", str(manifest)]
    plugin.write_text(SALT)
    clean, *before = run(tmp_path, *words, "--corruptions", "salt")
    plugin.write_text(SALT.replace("= 255", "= 0"))
    same, *after = run(tmp_path, *words, "--corruptions", "salt")
    assert same == clean
    for old, new in zip(before, after, strict=True):
        assert old.identity["corruption"] != new.identity["corruption"]
    assert before[-1].scores != after[-1].scores
    # The same code again gives the same numbers.
    plugin.write_text(SALT)
    assert [cell.scores for cell in run(tmp_path, *words, "--corruptions", "salt")] == [
        clean.scores, *(cell.scores for cell in before),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("return worse", "return worse / 2", r"'salt' gives float64 \[40, 48, 3\] for an image of"),
        ("return worse", "return worse[:9]", r"it must give uint8 of the same shape"),
        ("(rng.random", "(__import__('numpy').random.default_rng().random", "another image each"),
        ("worse = image.copy()", "worse = image", "read-only"),
    ],
)
def test_a_corruption_that_gives_no_image_costs_its_cells_alone(
    tmp_path: Path, manifest: Path, plugin: Path, old: str, new: str, told: str
) -> None:
    assert old in SALT
    plugin.write_text(SALT.replace(old, new))
    done = ubench("run", "--model", "pixels", "--task", str(manifest), "--plugin", str(plugin),
                  "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"),
                  "--seeds", "2", "--probe", "ridge", "--corruptions", "salt")  # fmt: skip
    assert done.returncode == 1
    clean, *failed = Cells(tmp_path / "out").gather()
    assert isinstance(clean, Cell)
    assert len(failed) == 3
    for one in failed:
        assert isinstance(one, Failure)
        assert re.search(told, one.reason)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"salt"', '"blur"', "the corruption name 'blur' is already taken"),
        ('"salt"', '"all"', "a corruption cannot be called 'all'"),
        ('"salt"', '"a,b"', "a corruption cannot be called 'a,b'"),
        ('    "salt",\n', '    "pepper",\n', "give it one name in both places"),
        (", function=salt", "", "has no function; give it `function`"),
        ("(5, 20, 60)", "(5, 20)", "needs three levels, from mild to hard"),
    ],
)
def test_a_corruption_that_cannot_be_asked_for_is_told_before_the_run(
    tmp_path: Path, manifest: Path, plugin: Path, old: str, new: str, told: str
) -> None:
    assert old in SALT
    plugin.write_text(SALT.replace(old, new))
    done = ubench("run", "--model", "pixels", "--task", str(manifest), "--plugin", str(plugin),
                  "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"))  # fmt: skip
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_metric_is_one_file(tmp_path: Path, manifest: Path, plugin: Path) -> None:
    words = ["--model", "pixels", "--task", str(manifest)]
    (without,) = run(tmp_path, *words)
    plugin.write_text(KAPPA)
    (cell,) = run(tmp_path, *words, "--plugin", str(plugin))
    test = Cells(tmp_path / "out").test_set(str(cell.identity["task"]))
    probabilities = Cells(tmp_path / "out").predictions(cell)["probabilities"]
    wanted = [cohen_kappa_score(test.targets, p.argmax(-1)) for p in probabilities]
    assert cell.scores["kappa"] == pytest.approx(wanted)
    low, high = cell.intervals["kappa"]
    assert -1 <= low < np.mean(wanted) <= high <= 1
    assert without.scores.items() <= cell.scores.items()
    table = pd.read_csv(tmp_path / "out" / "leaderboard.csv")
    row = table[table.metric == "kappa"].iloc[0]
    assert row["mean"] == pytest.approx(np.mean(wanted), abs=1e-4)
    assert row.low == pytest.approx(low, abs=1e-4)


def test_what_a_metrics_code_is_belongs_to_the_identity_of_results(
    tmp_path: Path, manifest: Path, plugin: Path
) -> None:
    words = ["--model", "pixels", "--task", str(manifest), "--plugin", str(plugin)]
    plugin.write_text(KAPPA)
    (cell,) = run(tmp_path, *words)
    plugin.write_text(KAPPA.replace("/ (1 - chance)", "/ (2 - chance)"))
    (other,) = run(tmp_path, *words)
    assert other.scores["kappa"] != cell.scores["kappa"]
    assert other.identity["scoring"] != cell.identity["scoring"]
    # Pages need no plugin: the results say what their metrics are.
    forget_plugins()
    again = ubench("report", str(tmp_path / "out"), "--out", str(tmp_path / "again"))
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            '"kappa", metrics.Metric("kappa"',
            '"accuracy", metrics.Metric("accuracy"',
            "has the name",
        ),
        ('"kappa", metrics', '"kapa", metrics', "give it one name in both places"),
        (", of=kappa", "", "give it `of` or `of_rows`"),
    ],
)
def test_a_metric_that_would_hide_another_or_nothing_is_told_before_the_run(
    tmp_path: Path, manifest: Path, plugin: Path, old: str, new: str, told: str
) -> None:
    assert old in KAPPA
    plugin.write_text(KAPPA.replace(old, new))
    done = ubench("run", "--model", "pixels", "--task", str(manifest), "--plugin", str(plugin),
                  "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"))  # fmt: skip
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_metric_gives_one_number_for_each_seed(
    tmp_path: Path, manifest: Path, plugin: Path
) -> None:
    plugin.write_text(KAPPA.replace("/ (1 - chance)", "/ (1 - chance.mean())"))
    plugin.write_text(plugin.read_text().replace("return (", "return (0 * sums[..., :2] + "))
    done = ubench("run", "--model", "pixels", "--task", str(manifest), "--plugin", str(plugin),
                  "--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"),
                  "--seeds", "2", "--probe", "ridge")  # fmt: skip
    assert done.returncode == 1
    assert "the metric 'kappa' gives an array of shape" in page(tmp_path)


def test_a_kind_of_task_is_one_file(tmp_path: Path, manifest: Path, plugin: Path) -> None:
    plugin.write_text(f"MANIFEST = {str(manifest)!r}\n{ORDINAL}")
    (tmp_path / "grades").mkdir()  # a release is a folder of the data root
    models = "pixels,image-stats,random-vit-tiny"
    cells = run(
        tmp_path, "--model", models, "--task", f"grades,{manifest}", "--plugin", str(plugin),
        "--fractions", "50,100", "--corruptions", "blur", "--data", str(tmp_path),
    )  # fmt: skip
    grades = [cell for cell in cells if cell.coordinates.task == "grades"]
    assert {cell.type for cell in grades} == {"ordinal"}
    assert len(grades) == len(cells) / 2
    for cell in grades:
        (low, high), scores = cell.intervals["steps"], cell.scores["steps"]
        assert 0 <= low <= np.mean(scores) <= high <= 2  # type: ignore[arg-type]
    board = page(tmp_path)
    assert "Mean error in steps (lower is better), mean ± sd over seeds: ordinal" in board
    assert "Macro F1 in percent, mean ± sd over seeds: ridge probe" in board
    assert "Details of ordinal tasks" in board
    assert "mean of" not in board.split("## Errors")[0].split("## Details")[0]
    # Each kind has a table of its own, and less is better in this one.
    rows = [line for line in _table(board, "ordinal tasks") if line.startswith("| ")]
    encoders = [float(row.split("|")[2].split("±")[0].strip(" *")) for row in rows[2:]]
    controls = sum("(control)" in row for row in rows)
    assert encoders[-controls:] == sorted(encoders[-controls:])
    for name in ("statistics.md", "robustness.md", "fewshot.md"):
        assert "ordinal tasks, ridge probe" in page(tmp_path, name)
    forget_plugins()
    again = ubench("report", str(tmp_path / "out"), "--out", str(tmp_path / "again"))
    assert again.returncode == 0, again.stderr
    told = (tmp_path / "again" / "statistics.md").read_text()
    assert "tasks of the type 'ordinal' are not known here; load its plugin" in told
    assert "Mean error in steps" in (tmp_path / "again" / "leaderboard.md").read_text()


def _table(board: str, words: str) -> list[str]:
    """Lines of the table whose heading has these words."""
    lines = board.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("## ") and words in line)
    return lines[start + 1 : start + 9]
