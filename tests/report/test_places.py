"""Frozen and fine-tuned side by side: which models change places; no mean holds transfer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_cells import guesses, macro_f1, put, put_test

from ultrabench_eval.cells import Cells
from ultrabench_eval.report import write
from ultrabench_eval.report.results.entries import Probing
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.sections import protocols, significance, transfer
from ultrabench_eval.report.tables.board import boards

LABELS = np.arange(200) % 2
FROZEN, TUNED = {}, {"probe": "finetune", "protocol": "finetune-12345678"}
OTHER = {"protocol": "tuned-1"}


def answers(right: float, seed: int) -> np.ndarray:
    return guesses(LABELS, right, seed, seeds=3)


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    """ "alpha" is better than "beta" with frozen networks, and worse fine-tuned; "gamma" last."""
    made = Cells(tmp_path)
    for t, task in enumerate(("aul", "busbra")):
        put_test(made, task, LABELS, [str(n // 2) for n in range(len(LABELS))])
        for m, (model, frozen, tuned) in enumerate(
            (("alpha", 0.9, 0.5), ("beta", 0.5, 0.9), ("gamma", 0.2, 0.3))
        ):
            put(made, model, task, answers(frozen, 10 * t + m), LABELS, at=FROZEN)
            put(made, model, task, answers(frozen, 50 + 10 * t + m), LABELS, at=OTHER)
            put(made, model, task, answers(tuned, 100 + 10 * t + m), LABELS, at=TUNED)
    return made


def test_models_that_change_places_are_told_with_an_interval(cells: Cells) -> None:
    found = protocols.places(Evidence(cells, cells.gather()))
    assert found is not None
    rows = [row for _, row in found.rows if row["probe_b"] == "finetune"]
    assert [(row["task"], row["protocol_a"]) for row in rows] == [
        *(("aul", "paper-1"), ("busbra", "paper-1")),
        *(("aul", "tuned-1"), ("busbra", "tuned-1")),
    ]
    row = rows[0]
    assert (row["model_1"], row["model_2"]) == ("alpha", "beta")
    one, other, third, fourth = (
        100 * np.mean([macro_f1(codes, LABELS, 2) for codes in answers(right, seed)])
        for right, seed in ((0.9, 0), (0.5, 1), (0.5, 100), (0.9, 101))
    )
    assert row["ahead_a"] == pytest.approx(one - other)
    assert row["ahead_b"] == pytest.approx(third - fourth)
    assert row["change"] == pytest.approx((one - other) - (third - fourth))
    assert 0 < row["low"] < row["change"] < row["high"]  # type: ignore[operator]
    assert row["sure"]
    assert row["apart_a"]
    assert row["apart_b"]
    assert any("alpha and beta" in part for part in found.parts)


def test_two_orders_of_the_same_models_have_a_tau(cells: Cells) -> None:
    found = protocols.section(Evidence(cells, cells.gather()))
    assert found is not None
    shown = [part for part in found.parts if part.startswith("###")]
    assert shown == [
        "### linear probe: paper-1 and tuned-1\n",
        "### linear probe (paper-1) and finetune (finetune-12345678)\n",
        "### linear probe (tuned-1) and finetune (finetune-12345678)\n",
    ]
    tau = {(row["probe"], row["protocol_a"]): row["tau"] for _, row in found.rows}
    assert tau["linear", "paper-1"] == 1
    assert tau["linear; finetune", "paper-1"] == pytest.approx(1 / 3)


def test_a_fine_tuned_result_is_never_taken_for_a_frozen_one(cells: Cells) -> None:
    evidence = Evidence(cells, cells.gather())
    for probing, comparisons in evidence.main.items():
        for one in comparisons.values():
            assert one.models == ("alpha", "beta", "gamma")
        order = significance.ranking(comparisons)
        assert order is not None
        best = "beta" if probing.fine_tuned else "alpha"
        assert order.models[int(order.scores.mean(1).argmax())] == best
    for board in boards(cells.gather(), evidence.letters()):
        assert board.rows[0].model == ("beta" if board.probing.probe == "finetune" else "alpha")
    write.write(cells)
    pairs = pd.read_csv(cells.out / "pairs.csv")
    assert {*pairs[pairs.probe == "finetune"].protocol} == {"finetune-12345678"}
    page = (cells.out / "leaderboard.html").read_text()
    assert "Which models change places?" in page
    assert len(pd.read_csv(cells.out / "places.csv")) == 4


def test_transfer_has_no_part_in_means_letters_and_ranks_over_tasks(tmp_path: Path) -> None:
    made = Cells(tmp_path)
    for t, task in enumerate(("aul", "busbra", "busi", "busbra:busi", "busi[benign+malignant]")):
        put_test(made, task, LABELS)
        for m, model in enumerate(("alpha", "beta")):
            put(made, model, task, answers(0.8 - 0.3 * m, 10 * t + m), LABELS)
    write.write(made)
    found = boards(made.gather(), {}, only_main=True)
    assert [[task.name for task in board.tasks] for board in found] == [
        ["aul", "busbra", "busi"],
        ["busbra:busi"],
        ["busi[benign+malignant]"],
    ]
    assert [board.mean for board in found] == ["mean of 3 tasks", "", ""]
    main = Evidence(made, made.gather()).main
    plain = Probing("linear", "paper-1")
    order = significance.ranking(main[plain])
    assert order is not None
    assert order.tasks == ("aul", "busbra", "busi")
    assert not any("busbra:busi" in main[plain] for _ in main)
    ranks = pd.read_csv(tmp_path / "ranks.csv")
    assert not ranks.task.str.contains(":|\\[", regex=True).any()
    assert "busbra:busi" in (tmp_path / "leaderboard.md").read_text()
    # Cells of another kind of run, without what they are compared with, make no section.
    assert transfer.section(Evidence(made, made.gather())) is None
