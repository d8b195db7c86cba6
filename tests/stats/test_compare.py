"""`ubench compare`: the reports' own statistics on anyone's predictions, and what is refused."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_predictions import contest, draws
from test_cli import ubench

from ultrabench_eval.compare import predictions, result
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.stats import paired
from ultrabench_eval.stats.power import Power
from ultrabench_eval.task_types import classification, regression

WORDS = ("dark", "grey", "bright")


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def made(folder: Path, name: str, right: float, seed: int, shuffled: bool = False) -> Path:
    """120 images of 40 patients by three seeds, with what is right."""
    codes, labels = draws(seeds=3, right=right, seed=seed)
    _, labels = draws()
    rows = [
        [f"scans/{i}.png", f"p{i // 3:02d}", WORDS[labels[i]], h, WORDS[codes[h, i]]]
        for h in range(3)
        for i in range(120)
    ]
    if shuffled:
        np.random.default_rng(0).shuffle(rows)
    return write(folder / name, ["image", "group", "label", "seed", "prediction"], rows)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    return [made(tmp_path, "weak.csv", 0.6, 1), made(tmp_path, "good.csv", 0.8, 0)]


# ---- the same statistics -------------------------------------------------------------------------


def test_numbers_are_those_of_the_statistics(two: list[Path]) -> None:
    found = result.compare(predictions.read(two, name="task"))
    codes = [draws(seeds=3, right=0.6, seed=1)[0], draws(seeds=3, right=0.8, seed=0)[0]]
    _, labels = draws()
    order = np.argsort([f"scans/{i}.png" for i in range(120)])
    groups = [f"p{i // 3:02d}" for i in order]
    codes, labels = [one[:, order] for one in codes], labels[order]
    # Classes are sorted by name: bright, dark, grey.
    place = np.array([1, 2, 0])
    codes, labels = [place[one] for one in codes], place[labels]
    expected = paired.compare([contest(codes, labels, groups, purpose="task")], unit=100)
    for name in ("difference", "low", "high", "p", "p_holm"):
        assert np.array_equal(getattr(found.comparison.pairs, name), getattr(expected, name))
    own = classification.intervals_of(codes[0], labels, groups, 3)["macro_f1"]
    assert found.intervals[0]["macro_f1"] == tuple(100 * end for end in own)
    assert [found.models[m] for m in found.order] == ["good", "weak"]


def test_order_of_rows_and_kind_of_file_change_nothing(two: list[Path], tmp_path: Path) -> None:
    import pandas as pd

    expected = result.compare(predictions.read(two), effect=5).data()
    made(tmp_path, "good.csv", 0.8, 0, shuffled=True)
    assert result.compare(predictions.read(two), effect=5).data() == expected
    pd.read_csv(two[0]).to_parquet(tmp_path / "weak.parquet")
    others = [tmp_path / "weak.parquet", two[1]]
    assert result.compare(predictions.read(others), effect=5).data() == expected


def test_one_table_of_the_truth_gives_the_same(two: list[Path], tmp_path: Path) -> None:
    expected = result.compare(predictions.read(two)).data()
    rows = [*csv.DictReader(two[0].open())][:120]
    truth = [[row["image"], "test", row["group"], row["label"]] for row in rows]
    truth.append(["scans/other.png", "train", "p99", "dark"])
    write(tmp_path / "truth.csv", ["image", "split", "group", "label"], truth)
    for path in two:  # as `ubench predict` writes them: another folder, probabilities
        rows = [*csv.DictReader(path.open())]
        write(
            path,
            ["image", "seed", *(f"p_{word}" for word in WORDS)],
            [
                [
                    f"/data/{row['image']}",
                    row["seed"],
                    *(0.6 if row["prediction"] == word else 0.2 for word in WORDS),
                ]
                for row in rows
            ],
        )
    assert result.compare(predictions.read(two, tmp_path / "truth.csv")).data() == expected


def test_numbers_are_compared_by_mae(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    target = generator.normal(50, 8, 40)
    files = []
    for name, sd in (("a", 2.0), ("b", 6.0)):
        error = generator.normal(0, sd, 40)
        rows = [[i, f"p{i // 2}", target[i], target[i] + error[i]] for i in range(40)]
        files.append(
            write(tmp_path / f"{name}.csv", ["id", "group", "target (mm)", "prediction"], rows)
        )
    found = result.compare(predictions.read(files))
    assert found.metric.in_unit == "MAE in mm"
    assert [found.models[m] for m in found.order] == ["a", "b"]
    assert found.scores[1]["mae"][0] == pytest.approx(np.abs(error).mean())
    assert {"rmse", "bias"} <= {one.name for one in found.measured}
    assert regression.MAE.name == found.metric.name


def test_masks_by_areas_dice_or_iou_are_the_same(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 300, 40) * (np.arange(40) % 8 > 0)
    stated: dict[str, list[list[object]]] = {"areas": [], "dice": [], "iou": []}
    for i, area in enumerate(true.tolist()):
        both = int(area * generator.uniform(0.5, 1))
        called = both + int(generator.integers(0, 40)) * (i % 16 > 0)
        union = area + called
        dice = 2 * both / union if union else 1.0
        stated["areas"].append([i, both, called, area])
        stated["dice"].append([i, dice])
        stated["iou"].append([i, dice / (2 - dice)])
    headers = {"areas": ["intersection", "predicted_area", "true_area"]}
    files = {
        name: write(tmp_path / f"{name}.csv", ["id", *headers.get(name, [name])], rows)
        for name, rows in stated.items()
    }
    found = result.compare(predictions.read(files))
    scores = found.comparison.scores
    assert scores == pytest.approx([scores[0]] * 3, abs=1e-5)
    assert scores[0] == pytest.approx(100 * np.mean([row[1] for row in stated["dice"]]), abs=1e-4)
    assert {one.name for one in found.measured} == {"dice", "iou"}
    again = result.compare(
        predictions.read({"a": files["areas"], "b": files["areas"]}), metric="dice_pooled"
    )
    areas = np.array(stated["areas"], float)
    pooled = 200 * areas[:, 1].sum() / areas[:, 2:].sum()
    assert again.comparison.scores == pytest.approx([pooled] * 2)
    assert "no column 'group'" in " ".join(again.warnings)
    assert "same predictions" in again.pairs_table.texts[0]


# ---- planning ------------------------------------------------------------------------------------


def planned(patients: int, seeds: int = 1, **more: Any) -> Power:
    """Of two models that are right on 60 and 70 % of the images, each patient's own."""
    codes = [draws(patients, seeds, right, seed)[0] for right, seed in ((0.7, 0), (0.6, 1))]
    _, labels = draws(patients, seeds)
    return Power.of(contest(codes, labels, None), np.array([0]), np.array([1]), **more)


def test_patients_needed_are_those_that_make_a_difference_detectable() -> None:
    one = planned(120, seeds=3)
    (now,) = one.detectable()
    assert one.needed(float(now) * 1.0001)[0] == 120
    alone = planned(120)
    assert alone.detectable(480)[0] == pytest.approx(alone.detectable()[0] / 2, rel=0.05)
    for effect in (0.02, 0.05, 0.2):
        (count,) = alone.needed(effect)
        assert alone.detectable(int(count))[0] <= effect
        assert count == alone.fewest or alone.detectable(int(count) - 1)[0] > effect
    # A larger test set of the same kind says about the same.
    assert planned(1200).needed(0.05)[0] == pytest.approx(planned(300).needed(0.05)[0], rel=0.3)


def test_more_power_or_tests_need_more_and_seeds_are_not_replaced_by_patients() -> None:
    need = planned(120).needed(0.1)[0]
    assert planned(120, power=0.95).needed(0.1)[0] > need
    assert planned(120, tests=10).needed(0.1)[0] > need
    assert planned(4).detectable()[0] == np.inf  # swaps of 4 patients give no p below 1 / 8
    scattered = replace(planned(120, seeds=3), of_seeds=np.array([0.01]))
    scattered = replace(scattered, variance=scattered.variance + 0.01)
    assert scattered.needed(0.1)[0] == np.inf
    assert np.isfinite(scattered.needed(0.6)[0])


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "column", "now", "words"),
    [
        (4, "image", "scans/999.png", r"'scans/999.png' is not among them; compare models on"),
        (4, "image", "scans/1.png", r"two rows of seed 0 for 'scans/1.png' \(line 3 and line 6\)"),
        (4, "seed", "7", r"has no row of seed 0 for 1 of the 120 items of .*weak.csv \(scans/4"),
        (4, "label", "dusk", r"item 'scans/4.png' has the label 'dusk' in line 6 and '\w+' in "),
        (4, "group", "", r"line 6: '' in column 'group' is what programs write for a missing"),
        (4, "prediction", "drak", r"line 6: the prediction 'drak' is not one of the labels"),
        (None, "group", "elsewhere", r"weak.csv and .*good.csv disagree on the group of 'scans/0"),
    ],
)
def test_a_wrong_cell_is_a_sentence(
    two: list[Path], row: int | None, column: str, now: str, words: str
) -> None:
    rows = [*csv.DictReader(two[1].open())]
    for one in rows if row is None else rows[row : row + 1]:
        one[column] = now
    write(two[1], [*rows[0]], [[*one.values()] for one in rows])
    with pytest.raises(UserError, match=words) as caught:
        predictions.read(two)
    assert "good.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        (["name", "prediction"], ["a", "x"], "does not say which item"),
        (["id", "score"], ["a", 1], "does not say what was predicted"),
        (["id", "prediction"], ["a", "x"], "lacks the column 'label', which tells what is right"),
        (["id", "dice"], ["a", 1.2], "line 2: 1.2 in column 'dice' must be between 0 and 1"),
        (["id", "intersection"], ["a", 1], "no column 'predicted_area'"),
        (["id", "label", "p_x", "p_y"], ["a", "x", 0.5, 0.6], "line 2: the probabilities sum to"),
        (["id", "target", "prediction"], ["a", 3, "nan"], "line 2: nan in column 'prediction'"),
    ],
)
def test_a_wrong_table_is_a_sentence(
    tmp_path: Path, header: list[str], row: list[object], words: str
) -> None:
    files = [write(tmp_path / name, header, [row, ["b", *row[1:]]]) for name in ("a.csv", "b.csv")]
    with pytest.raises(UserError, match=words):
        predictions.read(files)


def test_few_patients_are_not_compared(tmp_path: Path) -> None:
    rows = [[i, f"p{i // 10}", 0.8 + i / 1000] for i in range(40)]
    files = [write(tmp_path / f"{name}.csv", ["id", "group", "dice"], rows) for name in "ab"]
    found = result.compare(predictions.read(files), effect=2)
    assert "fewer than 5 patients or videos" in found.warnings[0]
    assert found.pairs_table.rows == []
    assert "significance group" not in found.scores_table.header


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_prints_and_writes_the_tables(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["compare", f"new={two[1]}", f"old={two[0]}", "--effect", "5", "--out", str(out)]
    done = ubench(*words)
    assert done.returncode == 0
    assert "new - old" in done.stdout
    assert "needed for 5" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == sorted(result.FILES)
    assert r"\begin{tabular}" in (out / "compare.tex").read_text()
    (pair,) = csv.DictReader((out / "compare_pairs.csv").open())
    assert pair["different"] == "True"
    assert float(pair["groups_for_effect"]) > 5
    done = ubench("compare", str(two[0]))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "two or more" in done.stderr
    done = ubench("compare", *map(str, two), "--reference", "god")
    assert done.returncode == 2
    assert "did you mean 'good'?" in done.stderr
