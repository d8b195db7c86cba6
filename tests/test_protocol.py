"""Protocol files: what could not be computed with is refused, and ids stay what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from ultrabench_eval import protocol
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report.results import comparable

IDS = [
    *("paper-071a60c7", "paper-9d72e91e", "paper-2b9c0520", "paper-f7d3039b", "paper-d0c786eb"),
    *("tuned-8eb2f2ff", "tuned-8afaf286", "tuned-cbc2e7a3", "tuned-fd8e4068", "tuned-5bd57991"),
]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("costs: [-1]", "costs.0: input should be greater than"),
        ("costs: [0]", "costs.0: input should be greater than"),
        ("costs: [true]", "costs.0: must be a number, not true"),
        ("costs: [1e308]", "costs.0: "),
        ("costs: [.inf]", "'costs.0' is inf, not a finite number"),
        ("costs: ['nan']", "costs.0: "),
        ("costs: []", "costs: "),
        ("penalties: [-1]", "penalties.0: input should be greater than"),
        ("penalties: [.nan]", "'penalties.0' is nan, not a finite number"),
        ("penalties: [5.0e-324]", "penalties.0: "),
        ("neighbours: [0]", "neighbours.0: "),
        ("neighbours: [true]", "neighbours.0: must be a number, not true"),
        ("gradient: {batch_size: true}", "gradient.batch_size: must be a number, not true"),
        ("gradient: {batch_size: 99999999999}", "gradient.batch_size: "),
        ("gradient: {learning_rates: [.inf]}", "not a finite number"),
        ("gradient: {weight_decays: [-0.1]}", "gradient.weight_decays.0: "),
        ("gradient: {patience: 1, patience: 2}", "the key 'patience' is given twice"),
        ("costs: [1]\ncosts: [2]", "the key 'costs' is given twice, in lines 1 and 2"),
        ("name: 2024-13-45", "line 1 is not valid"),
        ("costs: " + "[" * 3000, "cannot read protocol"),
    ],
)
def test_a_value_out_of_range_is_one_sentence(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(UserError) as caught:
        protocol.load(file)
    sentence = str(caught.value)
    assert words in sentence
    assert str(file) in sentence
    assert sentence.endswith("; fix the file")
    assert "\n" not in sentence


def test_a_file_of_comments_is_the_papers_protocol_under_another_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("# all as in the paper\n")
    assert protocol.load(file).settings("linear") == protocol.PAPER.settings("linear")


def test_published_scores_are_compared_with_the_papers_protocol() -> None:
    assert protocol.PAPER.id(comparable.PROBE) == comparable.PROTOCOL


def test_ids_stay() -> None:
    assert [
        known.id(probe)
        for known in (protocol.PAPER, protocol.TUNED)
        for probe in ("linear", "logistic", "ridge", "knn", "attentive")
    ] == IDS
    dense = [protocol.DENSE.id("dense"), protocol.DENSE.id("decoder")]
    assert dense == ["dense-395ca012", "dense-65852795"]
    assert protocol.CAMUS_VJEPA.id("transposed") == "camus_vjepa-3c6f04e8"


def test_a_usual_probe_of_another_kind_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("predicts: masks\nusual_probe: ridge")
    with pytest.raises(UserError, match="usual_probe: ridge does not predict masks; fix the file"):
        protocol.load(file)
    file.write_text("predicts: masks\nusual_probe: rigde")
    with pytest.raises(UserError, match="ridge"):
        protocol.load(file)
    file.write_text("predicts: masks\nusual_probe: decoder")
    assert protocol.load(file).usual_probe == "decoder"
