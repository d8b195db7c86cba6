"""What is asked for becomes conditions, or one clear sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from ultrabench_eval import protocol
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.grid import Grid
from ultrabench_eval.protocol import PAPER, TUNED, Gradient, Protocol


def test_cells_are_fractions_uncorrupted_and_corruptions_on_all_images() -> None:
    grid = Grid.parse("linear,knn", "paper,tuned", "1,50", "blur,shadow")
    cells = [at for _, at in grid.cells("m", "t", "classes")]
    assert len(cells) == len(set(cells)) == grid.count("classes") == 2 * 2 * (3 + 2 * 3)
    assert {at.fraction for at in cells} == {1, 50, 100}  # corrupted ones need the whole
    assert all(at.fraction == 100 for at in cells if at.corruption != "none")
    assert {at.protocol for at in cells if at.probe == "knn"} == {PAPER.id("knn"), TUNED.id("knn")}


def test_each_kind_of_task_has_its_usual_probe_and_protocol() -> None:
    grid = Grid.parse(None, None, "10,100", "none")
    assert {at.probe for _, at in grid.cells("m", "t", "classes")} == {"linear"}
    assert [at.protocol for _, at in grid.cells("m", "t", "classes")] == [PAPER.id("linear")] * 2
    cut = Grid.parse(None, None, "10", "none", "subset")
    assert [one.name for one, _ in cut.ways("classes")] == ["paper_cut"]


def test_what_is_named_is_for_the_tasks_that_it_predicts() -> None:
    grid = Grid.parse("logistic", None, "100", "none")
    assert grid.count("classes") == 1
    assert grid.count("masks") == 0
    assert "--probe names none that predicts masks; add dense" in grid.lacks("masks")
    assert "--protocol names none" in Grid.parse(None, "tuned", "100", "none").lacks("masks")
    assert not Grid.parse(None, "tuned", "100", "none").lacks("classes")


def test_lists_and_objects_are_the_same_as_text() -> None:
    own = Protocol(name="own", standardize=True)
    grid = Grid.parse(["ridge"], own, [100, 5], ["speckle"])
    assert grid == Grid(("ridge",), (own,), (5, 100), ("speckle",))
    assert Grid.parse("linear", "paper", "100", "none").corruptions == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"probes": "svm"}, "no probe 'svm'"),
        ({"protocols": "papr"}, "no protocol 'papr'; did you mean 'paper'. there are paper, tuned"),
        ({"fractions": "0,10"}, "fraction '0'"),
        ({"fractions": "half"}, "fraction 'half'"),
        ({"corruptions": "blurr"}, "did you mean 'blur'"),
        ({"fewshot_validation": "half"}, "whole or subset, not 'half'"),
        ({"protocols": [PAPER, Protocol(name="paper", standardize=True)]}, "same name"),
    ],
)
def test_what_is_not_there_is_told(changes: dict, words: str) -> None:
    asked = {"probes": "linear", "protocols": "paper", "fractions": "100", "corruptions": "none"}
    with pytest.raises(UserError, match=words):
        Grid.parse(**(asked | changes))


def test_an_id_changes_with_what_its_probe_depends_on_and_with_nothing_else() -> None:
    other = Protocol(neighbours=(7,))
    assert other.id("linear") == PAPER.id("linear")
    assert other.id("knn") != PAPER.id("knn")
    slower = Protocol(gradient=Gradient(learning_rates=(5e-4,)))
    assert slower.id("linear") != PAPER.id("linear")
    assert slower.id("ridge") == PAPER.id("ridge")
    assert PAPER.id("linear").startswith("paper-")


def test_the_paper_protocol_is_the_papers() -> None:
    # US-JEPA, Table 6
    assert PAPER.settings("linear") == {
        "probe": "linear",
        "standardize": False,
        "fewshot_validation": "whole",
        "optimizer": "adamw",
        "learning_rates": (1e-3,),
        "weight_decays": (1e-4,),
        "batch_size": 32,
        "max_epochs": 150,
        "patience": 15,
    }


def test_a_protocol_is_read_from_yaml(tmp_path: Path) -> None:
    file = tmp_path / "slow.yaml"
    file.write_text("standardize: true\ngradient:\n  learning_rates: [0.0005]\n")
    read = protocol.load(file)
    assert read == Protocol(
        name="slow", standardize=True, gradient=Gradient(learning_rates=(0.0005,))
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("standardise: true", "standardise"),
        ("gradient: {patience: 0}", "gradient.patience"),
        ("name: paper\nstandardize: true", "another name"),
        ("[", "cannot read protocol"),
        ("just words", "cannot read protocol"),
    ],
)
def test_a_bad_protocol_file_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        protocol.load(file)
    assert "mine.yaml" in str(caught.value)
