"""Statistics pages agree with the statistics, and say what they leave out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cells import failure, guesses, made_of, put, put_test, results
from scipy import stats

from ultrabench_eval.cells import Cells, Coordinates
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.metrics import of_sums
from ultrabench_eval.report import regenerate, write
from ultrabench_eval.report.results.entries import Probing
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.sections import protocols, significance
from ultrabench_eval.stats import paired
from ultrabench_eval.stats.clusters import Clusters
from ultrabench_eval.stats.permutation import Contest
from ultrabench_eval.task_types import classification

PAPER = Probing("linear", "paper-1")


def evidence(cells: Cells) -> Evidence:
    return Evidence(cells, cells.gather())


def read(cells: Cells, name: str) -> str:
    return (cells.out / name).read_text()


def test_letters_and_pairs_are_those_of_paired_compare(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    labels = np.arange(90) % 2
    groups = [str(row // 4) for row in range(90)]
    put_test(cells, "aul", labels, groups)
    codes = [guesses(labels, accuracy, seed) for seed, accuracy in enumerate((0.9, 0.8, 0.1))]
    for model, one in zip("abc", codes, strict=True):
        put(cells, model, "aul", one, labels)
    statistics = [classification.statistics(one, labels, 2) for one in codes]
    clusters = Clusters.of(groups, labels)
    macro_f1 = of_sums(classification.MACRO_F1)
    expected = paired.compare([Contest.of(statistics, clusters, macro_f1, "aul")], unit=100)

    write.write(cells)
    page = read(cells, "leaderboard.md")
    for model, letters in zip("abc", expected.letters, strict=True):
        assert any(
            line.startswith(f"| {model} ") and f" {letters}" in line.split("|")[2].replace("*", "")
            for line in page.splitlines()
        )
    assert "not significantly different on that task" in page
    table = pd.read_csv(tmp_path / "pairs.csv")
    assert len(table) == 3
    for row in table.itertuples():
        a, b = "abc".index(str(row.model_a)), "abc".index(str(row.model_b))
        assert row.difference == pytest.approx(expected.difference[a, b], abs=1e-4)
        assert row.p_holm == pytest.approx(expected.p_holm[a, b], abs=1e-4)
        assert row.low == pytest.approx(expected.low[a, b], abs=1e-4)
        share = set(expected.letters[a]) & set(expected.letters[b])
        assert row.told_apart == (not share)


def test_another_model_changes_no_p_value_of_the_others(tmp_path: Path) -> None:
    labels = np.arange(90) % 2
    groups = [str(row // 4) for row in range(90)]
    found = []
    for models in ("bc", "abc"):
        cells = Cells(tmp_path / models)
        put_test(cells, "aul", labels, groups)
        for model in models:
            codes = guesses(labels, {"a": 0.7, "b": 0.8, "c": 0.6}[model], ord(model))
            put(cells, model, "aul", codes, labels)
        write.write(cells)
        table = pd.read_csv(cells.out / "pairs.csv").set_index(["model_a", "model_b"])
        found.append(table.loc[("b", "c"), ["difference", "low", "high", "p"]].tolist())
    assert found[0] == found[1]


def test_controls_cost_encoders_no_power(tmp_path: Path) -> None:
    labels = np.arange(90) % 2
    found = []
    for controls in ([], ["pixels", "border", "image-stats", "fan-mask"]):
        cells = Cells(tmp_path / str(len(controls)))
        put_test(cells, "aul", labels, None)
        for seed, model in enumerate(["a", "b", *controls]):
            codes = guesses(labels, 0.9 if model == "a" else 0.7, seed)
            put(cells, model, "aul", codes, labels, random_weights=model in controls)
        write.write(cells)
        table = pd.read_csv(cells.out / "pairs.csv").set_index(["model_a", "model_b"])
        found.append(table.loc[("a", "b"), "p_holm"])
    assert found[0] == found[1] < 1


def test_ranks_are_over_tasks_that_all_models_have(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells)
    cells.fail(failure("fair", "busbra"))
    found = significance.ranking(evidence(cells).main[PAPER])
    assert found is not None
    assert found.tasks == ("aul", "mmotu")
    write.write(cells)
    assert "Not counted, because not all models have it: busbra." in read(cells, "statistics.md")
    table = pd.read_csv(tmp_path / "ranks.csv")
    assert set(table.task) == {"aul", "mmotu", "mean of tasks"}
    assert table.groupby("task")["first"].sum().tolist() == pytest.approx([1, 1, 1], abs=1e-3)


def test_pairs_are_compared_by_their_mean_over_tasks_too(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells)
    write.write(cells)
    table = pd.read_csv(tmp_path / "pairs.csv")
    over = table[table.task == "mean of tasks"]
    assert len(over) == len(table[table.task == "aul"])
    pair = ["model_a", "model_b"]
    alone = table[table.task != "mean of tasks"]
    swapped = alone.rename(columns={"model_a": "model_b", "model_b": "model_a"})
    for column in ("difference", "low", "high"):
        swapped[column] = -alone[column]
    both_ways = pd.concat([alone, swapped.assign(low=swapped.high, high=swapped.low)])
    expected = both_ways.groupby(pair).difference.mean()
    # Tasks are independent: the mean of T differences varies as the root of their summed squares.
    width = (both_ways.high - both_ways.low).groupby([both_ways[key] for key in pair])
    wide = width.apply(lambda one: np.sqrt((one**2).sum()) / len(one))
    for row in over.itertuples():
        key = (row.model_a, row.model_b)
        assert row.difference == pytest.approx(expected[key], abs=1e-3)
        assert row.low < row.difference < row.high
        assert row.high - row.low == pytest.approx(wide[key], rel=0.1)
        assert row.told_apart == (row.p_holm < 0.05)
    assert "| mean of tasks | good, " in " ".join(read(cells, "statistics.md").split())


def test_one_task_has_no_mean_of_tasks(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, tasks=("aul",))
    write.write(cells)
    assert set(pd.read_csv(tmp_path / "pairs.csv").task) == {"aul"}


def test_a_task_is_judged_by_its_control(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells)
    write.write(cells)
    table = pd.read_csv(tmp_path / "informativeness.csv")
    assert set(table.best_model) == {"good"}
    assert set(table.best_control) == {"pixels"}
    assert (table.tells_apart == (table.low > 0)).all()
    assert table.images.tolist() == [60] * 3
    assert table.groups.tolist()[1:] == [20, 20]
    assert np.isnan(table.groups[0])
    assert "separates them" in read(cells, "statistics.md")


def test_without_a_control_a_task_is_not_judged(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, models=("good", "fair"))
    write.write(cells)
    assert "separates them" not in read(cells, "statistics.md")
    assert "Without a control" in read(cells, "statistics.md")


def test_tau_between_protocols_is_scipys(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, protocols=("paper-1", "tuned-2"), models=("good", "fair", "poor", "pixels"))
    found = evidence(cells)
    write.write(cells)
    table = pd.read_csv(tmp_path / "protocols.csv")
    frame = write.frame(cells.gather()).query("metric == 'macro_f1'")
    wide = frame.pivot_table(index=["task", "model"], columns="protocol", values="mean")
    mean = wide.groupby("model").mean()
    for row in table.query("models == 'all'").itertuples():
        scores = mean if row.task == "mean of tasks" else wide.loc[str(row.task)]
        a, b = scores["paper-1"].to_numpy(), scores["tuned-2"].to_numpy()
        assert row.tau == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-4)
        turned = sum((a[i] - a[j]) * (b[i] - b[j]) < 0 for i in range(4) for j in range(i))
        assert row.n_changed == turned
    assert set(table.query("models == 'encoders'").n_models) == {3}
    first, second = found.main
    (change, *_) = protocols.changes(found.main[first], found.main[second])
    for a, b in change.swapped:
        assert change.scores[0][a] > change.scores[0][b]
        assert change.scores[1][a] < change.scores[1][b]
    assert "Does the order depend on the protocol?" in read(cells, "statistics.md")


def test_one_protocol_has_no_sensitivity_and_is_no_ranking(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells)
    write.write(cells)
    assert "depend on the protocol" not in read(cells, "statistics.md")
    assert "not yet a ranking" in read(cells, "statistics.md")
    assert not (tmp_path / "protocols.csv").exists()


def test_one_model_leaves_sections_out(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, models=("good",))
    write.write(cells)
    page = read(cells, "statistics.md")
    assert "no task was measured with two models" in page
    assert "there are fewer than two models" in page
    assert not (tmp_path / "pairs.csv").exists()
    assert "Letters" not in read(cells, "leaderboard.md")


@pytest.mark.parametrize("broken", ["missing", "damaged", "of another run"])
def test_predictions_that_are_not_the_cells_make_an_error_row(tmp_path: Path, broken: str) -> None:
    cells = Cells(tmp_path)
    results(cells)
    path = tmp_path / "cells/fair/aul/linear-paper-1-100-none-0.safetensors"
    if broken == "missing":
        path.unlink()
    elif broken == "damaged":
        path.write_bytes(path.read_bytes()[:9])
    else:
        path.write_bytes(path.with_name(path.name).parents[2].joinpath(
            "good/aul/linear-paper-1-100-none-0.safetensors").read_bytes())  # fmt: skip
    found = evidence(cells)
    assert found.main[PAPER]["aul"].models == ("good", "pixels")
    assert found.main[PAPER]["mmotu"].models == ("fair", "good", "pixels")
    write.write(cells)
    page = read(cells, "leaderboard.md")
    (row,) = [line for line in page.splitlines() if line.startswith("| fair") and "error" in line]
    assert row.count("error") == 1
    assert f"{path} is {'missing' if broken == 'missing' else 'damaged'}" in page


def test_models_of_another_version_of_the_data_are_left_out(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells)
    labels = np.arange(60) % 2
    codes = guesses(labels, 0.5, 1)
    put(cells, "fair", "aul", codes, labels, identity=made_of("mfair", "other", 3))
    found = evidence(cells)
    assert found.main[PAPER]["aul"].models == ("good", "pixels")
    assert "another version of the data" in found.left_out[0]
    assert Coordinates("fair", "aul", "paper-1") not in found.letters()


def test_synthetic_tasks_are_marked_in_the_statistics(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, protocols=("paper-1", "tuned-2"), synthetic=True)
    write.write(cells)
    page = read(cells, "statistics.md")
    assert "SYNTHETIC: tasks marked so are simulated images" in page
    for line in page.splitlines():
        if line.startswith(("| aul", "| busbra", "| mmotu")):
            assert "(SYNTHETIC)" in line
    for name in ("pairs", "ranks", "informativeness", "protocols"):
        assert pd.read_csv(tmp_path / f"{name}.csv").synthetic.all()


def test_a_reference_is_compared_with_every_other_model_and_the_page_says_so(
    tmp_path: Path,
) -> None:
    cells = Cells(tmp_path)
    results(cells)
    regenerate.regenerate(Cells(tmp_path), tmp_path / "report", reference="good")
    table = pd.read_csv(tmp_path / "report" / "pairs.csv")
    assert table.p.notna().all()
    assert ((table.model_a == "good") | (table.model_b == "good")).all()
    page = (tmp_path / "report" / "leaderboard.md").read_text()
    assert "Letter r: not significantly different from good" in page
    assert "from good" in (tmp_path / "report" / "leaderboard.tex").read_text()
    with pytest.raises(UserError, match=r"the reference 'goood' has no results in .*'good'"):
        regenerate.regenerate(Cells(tmp_path), tmp_path / "report", reference="goood")


def test_a_task_that_the_reference_lacks_is_not_compared(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    labels = np.arange(90) % 2
    for task, models in (("aul", "abc"), ("busbra", "bc")):
        put_test(cells, task, labels)
        for seed, model in enumerate(models):
            put(cells, model, task, guesses(labels, 0.9 - 0.3 * seed, seed), labels)
    regenerate.regenerate(Cells(tmp_path), tmp_path / "report", reference="a")
    table = pd.read_csv(tmp_path / "report" / "pairs.csv")
    assert set(table.task) == {"aul"}
    page = (tmp_path / "report" / "statistics.md").read_text()
    assert "Not compared, because the reference a has no result there: busbra." in page
    assert "models tie" not in page
