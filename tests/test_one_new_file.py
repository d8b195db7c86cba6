"""A metric and a kind of task are one new file each: nothing else is changed for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import forget_plugins
from sklearn.metrics import cohen_kappa_score
from test_cli import ubench

from ultrabench_eval.cells import Cell, Cells

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
    assert "Mean error in steps, mean ± sd over seeds: ordinal tasks, ridge probe" in board
    assert "Macro F1 in percent, mean ± sd over seeds: ridge probe" in board
    assert "Details of ordinal tasks" in board
    assert "mean of" not in board.split("## Errors")[0].split("## Details")[0]
    # The two kinds stand in tables of their own, and less is better in this one.
    rows = [line for line in _table(board, "ordinal tasks") if line.startswith("| ")]
    encoders = [float(row.split("|")[2].split("±")[0].strip(" *")) for row in rows[2:]]
    floors = sum("(floor)" in row for row in rows)
    assert encoders[-floors:] == sorted(encoders[-floors:])
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
