"""Tables: nothing averaged over holes, nothing synthetic unmarked, nothing incomparable unsaid."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from made_cells import cell, control, failure, made_of, marked

from ultrabench_eval.cells import Coordinates
from ultrabench_eval.report import write
from ultrabench_eval.report.results.entries import seen
from ultrabench_eval.report.tables.table import Table
from ultrabench_eval.report.write import Entry


def wide(*entries: Entry, letters: dict[str, str] | None = None) -> Table:
    """The only table; letters by model, on every task."""
    known = {e.coordinates: (letters or {}).get(e.coordinates.model, "") for e in entries}
    (one,) = write.wide(list(entries), {at: text for at, text in known.items() if text})
    return one.table


def test_frame_is_in_percent_with_the_sample_deviation() -> None:
    frame = write.frame([cell("a", "aul", 0.5, 0.6, 0.7)])
    row = frame[frame.metric == "macro_f1"].iloc[0]
    assert row["mean"] == pytest.approx(60)
    assert row.sd == pytest.approx(10)
    assert (row.low, row.high) == pytest.approx((10, 90))
    loss = frame[frame.metric == "log_loss"].iloc[0]
    assert loss["mean"] == pytest.approx(0.6)  # nats
    assert np.isnan(loss.low)


def test_what_probes_were_chosen_by_is_told_once_for_all_corruptions() -> None:
    clean = cell("a", "aul", 0.5, 0.6, 0.7)
    blurred = replace(clean.coordinates, corruption="blur", severity=2)
    frame = write.frame([clean, clean.model_copy(update={"coordinates": blurred})])
    (row,) = frame[frame.metric == "validation_loss"].itertuples()
    assert row.corruption == "none"
    assert row.mean == pytest.approx(0.4)  # nats
    assert row.sd == pytest.approx(0.1)
    assert row.n_seeds == 3
    assert pd.isna(row.n_test)


def test_a_seed_without_a_value_leaves_the_mean_empty() -> None:
    one = cell("a", "aul", 0.5, 0.6)
    scores = {**one.scores, "auroc": [0.5, None]}
    frame = write.frame([one.model_copy(update={"scores": scores})])
    assert frame[frame.metric == "auroc"]["mean"].isna().all()


def test_the_mean_over_tasks_is_never_taken_over_holes() -> None:
    table = wide(
        cell("whole", "aul", 0.2),
        cell("whole", "mmotu", 0.4),
        cell("broken", "aul", 0.9),
        failure("broken", "mmotu"),
        cell("absent", "aul", 0.9),
    )
    assert table.header == ["model", "aul", "mmotu", "mean of tasks"]
    assert table.texts == [
        ["whole", "20.0", "40.0", "30.0"],
        ["absent", "90.0", "", ""],
        ["broken", "90.0", "error", ""],
    ]


def test_rows_are_ranked_and_only_the_best_that_has_no_tie_is_bold() -> None:
    entries = [cell("b", "aul", 0.60001), cell("a", "aul", 0.6), cell("c", "aul", 0.7)]
    table = wide(*entries, letters={"c": "a", "b": "b", "a": "b"})
    assert [row[0] for row in table.texts] == ["c", "b", "a"]
    assert marked(table) == {(0, 1)}
    assert marked(wide(*entries, letters={"c": "a", "b": "ab", "a": "b"})) == set()
    assert marked(wide(*entries)) == set()  # not compared
    assert marked(wide(*entries, letters={"c": "a", "b": "b"})) == set()  # not with all
    assert marked(wide(entries[2], letters={"c": "a"})) == set()  # alone


def test_synthetic_and_random_show_wherever_numbers_do() -> None:
    entries: list[Entry] = [
        cell("a", "aul", 0.5, 0.6, synthetic=True),
        cell("b", "aul", 0.4, 0.5, synthetic=True, random_weights=True),
        cell("a", "mine", 0.5, 0.6),
    ]
    page = write.markdown(entries)
    for line in page.splitlines():
        if "55.0" in line and "| a" in line and "aul" in line:
            assert "SYNTHETIC" in line
    assert "aul (SYNTHETIC)" in page
    assert "mine (SYNTHETIC)" not in page
    assert "b [random weights]" in page
    assert "SYNTHETIC" in write.latex(entries)
    frame = write.frame(entries)
    assert set(frame[frame.task == "aul"].status) == {"ok (synthetic)"}
    assert set(frame[frame.task == "mine"].status) == {"ok"}


def test_errors_are_told_on_one_line_of_the_page_and_the_csv() -> None:
    page = write.markdown([failure("a", "aul")])
    assert "image x.png is broken \\| sadly" in page
    frame = write.frame([failure("a", "aul")])
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    assert list(again.status) == ["error: image x.png is broken | sadly"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (made_of("ma", "other data", 1), "different versions of its data"),
        (made_of("ma", "taul", 3), "differ in their number of seeds"),
    ],
)
def test_what_cannot_be_compared_is_said(change: dict[str, str | int], said: str) -> None:
    entries: list[Entry] = [cell("a", "aul", 0.5, identity=change), cell("b", "aul", 0.4)]
    assert said in write.markdown(entries)
    assert "Not comparable" not in write.markdown([cell("a", "aul", 0.5), cell("b", "aul", 0.4)])


def test_one_model_with_two_weights_is_said() -> None:
    other = made_of("other weights", "tmmotu", 1)
    page = write.markdown([cell("a", "aul", 0.5), cell("a", "mmotu", 0.5, identity=other)])
    assert "different weights" in page
    at = Coordinates("a", "mmotu", "finetune-1", probe="finetune")
    tuned = cell("a", "mmotu", 0.5, identity=other, coordinates=at)  # in another dtype
    assert "different weights" not in write.markdown([cell("a", "aul", 0.5), tuned])


def test_images_that_two_versions_of_a_corruption_made_are_said() -> None:
    entries: list[Entry] = [cell("a", "aul", 0.5), cell("b", "aul", 0.4)]
    for model, code in (("a", "salt-12"), ("b", "salt-34")):
        at = Coordinates(model, "aul", "paper-1", corruption="salt", severity=1)
        made = {**made_of(f"m{model}", "taul", 1), "corruption": code}
        entries.append(cell(model, "aul", 0.3, coordinates=at, identity=made))
    assert "images with salt were made by different versions" in write.markdown(entries)
    assert "Not comparable" not in write.markdown(entries[:3])


def test_latex_is_escaped_and_balanced() -> None:
    text = write.latex([cell("my_model 50% & more", "fatty_liver", 0.5, 0.6), cell("b", "x", 0.1)])
    assert r"my\_model 50\% \& more" in text
    assert r"fatty\_liver" in text
    assert r"55.0 $\pm$ 7.1" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    columns = text[text.index(r"\begin{tabular}{") :].split("{")[2].split("}")[0]
    for line in text.splitlines():
        if line.endswith(r"\\"):
            assert line.replace(r"\&", "").count("&") == len(columns) - 1


def test_only_main_conditions_are_in_the_wide_tables_one_a_probe_and_protocol() -> None:
    def elsewhere(score: float, at: Coordinates) -> Entry:
        return cell("a", "aul", score).model_copy(update={"coordinates": at})

    entries = [
        cell("a", "aul", 0.5),
        elsewhere(0.3, Coordinates("a", "aul", "paper-1", corruption="blur", severity=2)),
        elsewhere(0.2, Coordinates("a", "aul", "paper-1", fraction=10)),
        elsewhere(0.6, Coordinates("a", "aul", "tuned-2")),
        elsewhere(0.4, Coordinates("a", "aul", "paper-3", probe="knn")),
    ]
    found = write.wide(entries)
    assert [one.table.texts[0][1] for one in found] == ["50.0", "60.0", "40.0"]
    assert [t.condition for t in found] == [  # the paper's probe first
        "linear probe, protocol paper-1",
        "linear probe, protocol tuned-2",
        "knn probe, protocol paper-3",
    ]
    details = write.markdown(entries).split("## Details")[1].split("## ")[0]
    assert "30.0" not in details
    assert "20.0" not in details


# ---- how to read --------------------------------------------------------------------------------


def test_controls_stand_last_and_are_marked() -> None:
    entries: list[Entry] = [
        control("pixels", "aul", 0.9),
        cell("a", "aul", 0.5),
        cell("vit", "aul", 0.4, random_weights=True),
    ]
    table = wide(*entries, letters={"pixels": "a", "a": "b", "vit": "c"})
    names = [row[0] for row in table.texts]
    assert names == ["a", "pixels (control)", "vit [random weights] (control)"]
    assert [*table.rules] == [1]
    assert marked(table) == {(1, 1)}  # a control that is best is shown to be best
    text = write.latex(entries).splitlines()
    assert text[text.index(r"\bottomrule") - 3] == r"\midrule"
    assert "Controls are missing" not in write.markdown(entries)


def test_a_missing_control_is_said_with_the_command_that_adds_it() -> None:
    page = write.markdown([cell("a", "aul", 0.5)])
    assert "Controls are missing" in page
    assert "`--model ...,random-vit-tiny,pixels,image-stats,fan-mask,border`" in page


def test_one_protocol_is_no_ranking() -> None:
    one = cell("a", "aul", 0.5)
    said = "is not called a ranking: add `--protocol paper,tuned`"
    assert said in write.markdown([one])
    at = Coordinates("a", "aul", "tuned-2")
    assert said not in write.markdown([one, one.model_copy(update={"coordinates": at})])
    knn = Coordinates("a", "aul", "tuned-2", probe="knn")
    assert said in write.markdown([one, one.model_copy(update={"coordinates": knn})])


def test_warnings_name_the_models_that_share_them() -> None:
    entries: list[Entry] = [
        cell(model, "aul", 0.5, warnings=["the grid is too narrow"]) for model in "ab"
    ]
    page = write.markdown(entries).split("## Warnings")[1].split("## ")[0]
    (row,) = [line for line in page.splitlines() if "narrow" in line]
    assert "a, b" in row
    assert "linear probe, protocol paper-1: 100 %" in row


def test_a_failure_of_all_conditions_is_one_row() -> None:
    failed = [
        failure("a", "aul").model_copy(
            update={"coordinates": Coordinates("a", "aul", "paper-1", fraction=fraction)}
        )
        for fraction in (1, 10, 100)
    ]
    page = write.markdown(failed).split("## Errors")[1]
    (row,) = [line for line in page.splitlines() if "sadly" in line]
    assert "3 conditions" in row


def test_settings_of_a_protocol_are_readable() -> None:
    settings = {"probe": "linear", "standardize": True, "rates": [1e-4, 0.1], "deep": {"a_b": [1]}}
    page = write.markdown([cell("a", "aul", 0.5, protocol=settings)])
    assert "standardize yes; rates one of 0.0001, 0.1; deep (a b 1)" in page


@pytest.mark.parametrize(
    ("saw", "task", "expected"),
    [
        ("aul, ddti", "ddti-seg", "yes"),  # a data set of several tasks
        ("aul, ddti", "aul-liver", "yes"),
        ("aul, ddti", "aul@mine", "yes"),
        ("aul, ddti", "busbra-seg", "no"),
        ("not known", "ddti-seg", "not known"),
    ],
)
def test_what_a_model_saw_goes_by_data_set(saw: str, task: str, expected: str) -> None:
    one = cell("m", task, 0.5, 0.6)
    assert seen(one.model_copy(update={"model": {**one.model, "saw": saw}})) == expected
