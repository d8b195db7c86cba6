"""A whole run on a task of numbers, computed again by scikit-learn from the same features.

Features of other images, targets in another order, a scaler that saw test images, a factor that is
left out or a penalty chosen on test: each gives another number than the one in the results.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from sklearn.linear_model import Ridge

from tasks.task import Split, Task
from ultrabench_eval import pipeline, protocol
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core import files
from ultrabench_eval.embed import embed


@pytest.fixture(scope="module")
def made_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SYNTHETIC images in HC18's layout: a bright square whose side in mm tells the target."""
    root = tmp_path_factory.mktemp("data")
    folder = root / "hc18" / "training_set"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    lines = ["filename,pixel size(mm),head circumference (mm)"]
    for fetus in generator.permutation(806)[:200]:
        for suffix in ("", "2")[: generator.integers(1, 3)]:
            height, width = generator.integers(24, 40, 2)
            side, pixel = int(generator.integers(4, 20)), generator.uniform(1, 6)
            image = generator.normal(40, 15, (height, width))
            image[2 : 2 + side, 2 : 2 + side] += 120
            name = f"{fetus:03d}_{suffix}HC.png"
            grey = PIL.Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
            grey.save(folder / name)
            lines.append(f"{name},{pixel},{4 * side * pixel + generator.normal(0, 2)}")
    table = root / "hc18" / "training_set_pixel_size_and_HC.csv"
    files.write_text(table, "\n".join(lines) + "\n")
    return root


def finished(data: Path, tmp_path: Path, **options: object) -> dict[int, Cell]:
    """Of `pixels`, by percent of the training images."""
    pipeline.run(
        *("pixels", "hc18-hc"),
        data=data,
        out=tmp_path / "out",
        cache=tmp_path / "cache",
        partial=True,
        **options,
    )
    found = {cell.coordinates.fraction: cell for cell in Cells(tmp_path / "out").gather()}
    assert all(isinstance(cell, Cell) for cell in found.values()), found
    return found  # type: ignore[return-value]


def features(data: Path, tmp_path: Path) -> tuple[Task, dict[str, np.ndarray]]:
    made = embed("pixels", "hc18-hc", data=data, cache=tmp_path / "cache")
    ends = np.cumsum([len(split) for split in made.task.splits.values()])[:-1]
    return made.task, dict(
        zip(made.task.splits, np.split(made.features.astype(float), ends), strict=True)
    )


def again(task: Task, x: dict[str, np.ndarray]) -> dict[str, float]:
    """Scores by scikit-learn and plain loops, nothing of the harness in them."""

    def in_widths(split: Split) -> np.ndarray:
        return np.array([item.target / item.factor for item in split.items])

    def errors(ridge: Ridge, name: str) -> np.ndarray:
        found = ridge.predict((x[name] - mean) / deviation)
        items = task.splits[name].items
        pairs = zip(found, items, strict=True)
        return np.array([value * item.factor - item.target for value, item in pairs])

    mean, deviation = x["train"].mean(0), x["train"].std(0)
    deviation = np.maximum(deviation, 0.01 * np.sqrt(np.square(deviation).mean()))
    scaled = (x["train"] - mean) / deviation
    tried = []
    for penalty in protocol.REGRESSION.penalties:
        alpha = penalty * np.square(scaled).mean() * len(scaled)
        ridge = Ridge(alpha=alpha, solver="svd").fit(scaled, in_widths(task.train))
        found = ridge.predict((x["validation"] - mean) / deviation)
        tried.append((np.square(found - in_widths(task.validation)).mean(), ridge))
    _, best = min(tried, key=lambda one: one[0])

    of_test, of_validation = errors(best, "test"), np.abs(errors(best, "validation"))
    groups = task.validation.groups
    order = np.argsort(of_validation)
    reached, half = 0.0, np.nan
    for place in order:
        reached += 1 / groups.count(groups[place])
        if reached >= 0.9 * (len(set(groups)) + 1) - 1e-9:
            half = of_validation[place]
            break
    targets = np.array([item.target for item in task.test.items])
    constant = np.mean([item.target for item in task.validation.items])
    return {
        "mae": np.abs(of_test).mean(),
        "rmse": np.sqrt(np.square(of_test).mean()),
        "bias": of_test.mean(),
        "r2": 1 - np.square(of_test).sum() / np.square(targets - targets.mean()).sum(),
        "coverage": (np.abs(of_test) <= half).mean(),
        "interval_width": 2 * half,
        "mae_of_mean": np.abs(targets - constant).mean(),
    }


def assert_again(cell: Cell, task: Task, x: dict[str, np.ndarray]) -> None:
    for name, expected in again(task, x).items():
        assert cell.scores[name] == pytest.approx([expected] * len(cell.heads), rel=1e-6)


def test_scores_of_a_run_are_those_of_scikit_learn(made_data: Path, tmp_path: Path) -> None:
    cells = finished(made_data, tmp_path, seeds=2, fractions="20,100")
    task, x = features(made_data, tmp_path)
    assert len(set(task.validation.groups)) >= 9
    assert_again(cells[100], task, x)
    assert len(set(cells[20].scores["mae"])) == 2  # two seeds, two draws
    assert np.mean(cells[20].scores["mae"]) > np.mean(cells[100].scores["mae"])
    assert cells[100].main_metric.on_axis == "MAE, mm"
    (remark,) = cells[100].remarks
    assert "factor" in remark
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "MAE in mm" in page


def test_neither_test_images_nor_their_targets_reach_the_probe(
    made_data: Path, tmp_path: Path
) -> None:
    """Other test images, targets and pixel sizes: the same penalty, losses and interval."""
    before = finished(made_data, tmp_path, seeds=1)[100]
    task, _ = features(made_data, tmp_path)
    names = {image.name.rpartition("/")[2] for image in task.test.images}
    other = tmp_path / "other" / "hc18"
    (other / "training_set").mkdir(parents=True)
    table = "training_set_pixel_size_and_HC.csv"
    lines = (made_data / "hc18" / table).read_text().splitlines()
    for place, line in enumerate(lines[1:], 1):
        name, pixel, target = line.split(",")
        image = np.asarray(PIL.Image.open(made_data / "hc18" / "training_set" / name))
        if name in names:
            image = 255 - image
            lines[place] = f"{name},{2 * float(pixel)},{7 * float(target)}"
        PIL.Image.fromarray(image).save(other / "training_set" / name)
    files.write_text(other / table, "\n".join(lines) + "\n")
    after = finished(tmp_path / "other", tmp_path / "second", seeds=1)[100]
    assert after.scores["mae"] != before.scores["mae"]
    assert after.sweep == before.sweep
    assert after.scores["interval_width"] == before.scores["interval_width"]


@pytest.mark.shared
@pytest.mark.slow
def test_scores_on_real_images_are_those_of_scikit_learn(real_data: Path, tmp_path: Path) -> None:
    cells = finished(real_data, tmp_path, seeds=1)
    assert_again(cells[100], *features(real_data, tmp_path))
