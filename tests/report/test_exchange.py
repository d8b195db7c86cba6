"""Results in the forms that others read: a card of the Hugging Face hub, Parquet."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from made_cells import results
from test_cli import ubench

from ultrabench_eval.cells import Cells

RUN = {"models": ("good", "pixels"), "tasks": ("aul", "busbra")}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = Cells(tmp_path_factory.mktemp("run"))
    results(cells, **RUN)  # type: ignore[arg-type]
    done = ubench("report", str(cells.out), "--model-card", "good", "--parquet")
    assert done.returncode == 0, done.stderr
    return cells.out


def test_the_library_reads_the_scores_of_the_table_from_the_card(run: Path) -> None:
    card = ModelCard.load(run / "model-card-good.md")
    table = pd.read_csv(run / "leaderboard.csv")
    table = table[table.model == "good"]
    found = {
        (one.dataset_type, one.metric_name): one
        for one in card.data.eval_results  # type: ignore[attr-defined]
    }
    names = {"macro_f1": "macro F1", "accuracy": "accuracy", "auroc": "AUROC"}
    rows = table[table.metric.isin(names)].dropna(subset="mean")
    assert len(found) == len(rows) >= 4
    for row in rows.itertuples():
        one = found[row.task, f"{names[row.metric]} in percent"]
        assert one.metric_value == pytest.approx(row.mean, abs=1e-4)
        assert one.task_type == "image-classification"
        if row.metric == "macro_f1":
            assert (one.metric_type, one.metric_args["average"]) == ("f1", "macro")
            assert one.metric_args["interval_95"] == pytest.approx([row.low, row.high], abs=1e-4)
    assert "## Evaluation on ultrasound tasks" in card.text
    assert "| AUL " in card.text.upper()
    assert "ubench run --model good" in card.text


def test_parquet_files_hold_what_their_csv_files_hold(run: Path) -> None:
    tables = {path.stem: path for path in run.glob("*.csv") if path.stem != "datasets"}
    assert {"leaderboard", "pairs", "ranks"} <= tables.keys()
    assert tables.keys() == {path.stem for path in run.glob("*.parquet")}
    for stem, path in tables.items():
        text, binary = pd.read_csv(path), pd.read_parquet(run / f"{stem}.parquet")
        assert [*text] == [*binary]
        for name in text.select_dtypes("float"):
            assert binary[name].astype(float).tolist() == pytest.approx(
                text[name].tolist(), abs=1e-4, nan_ok=True
            )
    assert ubench("report", str(run)).returncode == 0
    assert not [*run.glob("*.parquet")]  # none is left to become older than its CSV file


def test_a_wrong_model_writes_nothing(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = ubench("report", str(run), "--model-card", "god", "--out", str(out))
    assert done.returncode == 2
    assert "no result of model 'god'; did you mean 'good'?" in done.stderr
    assert not out.exists()
    done = ubench("report", "--parquet", "--published")
    assert "--parquet needs a run" in done.stderr
