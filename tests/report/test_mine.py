"""A paper's table with rows of one's own."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from latex import check_latex
from made_cells import cell, guesses, marked, put, put_test
from test_cli import ubench

from ultrabench_eval.cells import Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report import regenerate
from ultrabench_eval.report.look import Look, looking
from ultrabench_eval.report.paper import mine, published
from ultrabench_eval.report.results.comparable import PROTOCOL
from ultrabench_eval.report.results.entries import Entry

PAPER = published.load()
LABELS = np.array([0, 1] * 60)


def one(
    model: str, task: str, *scores: float, protocol: str = PROTOCOL, **changes: object
) -> Entry:
    """A cell on as many images as the paper's."""
    made = cell(model, task, *scores)
    images = dict(zip(("train", "validation", "test"), PAPER.sizes_of[task].splits, strict=True))
    at = made.coordinates
    where = type(at)(at.model, at.task, protocol)
    return made.model_copy(update={"coordinates": where, "images": images, **changes})


def test_comparable_rows_and_others_have_rules_between_them() -> None:
    entries = [
        one("mine", "aul", 0.9, 0.92),
        one("mine", "aul", 0.99, 0.99, protocol="tuned-8eb2f2ff"),
        one("mine", "pocus", 0.95, images={"train": 830, "validation": 97, "test": 279}),
        one("usfm", "aul", 0.6, 0.61),
    ]
    made = mine.table(entries, PAPER, ["mine"])
    names = [row[0] for row in made.texts]
    assert names[10:] == ["mine", "mine [1]", "mine [2]"]
    assert [*made.rules] == [10, 11]
    assert made.texts[10][1] == "91.0 ± 1.4"
    assert made.texts[10][7] == "–"  # POCUS, of other images
    assert [row[1] for row in made.texts[11:]] == ["99.0 ± 0.0", "–"]
    assert made.texts[12][7] == "95.0"
    assert (10, 1) in marked(made)  # the best of AUL; the rows below the last rule do not count
    assert (7, 1) in marked(made, "second")
    caption = " ".join(made.notes)
    assert "[1] linear probe, protocol tuned" in caption
    assert "[2] other images of pocus: 830 / 97 / 279 in train / validation / test" in caption
    assert "as printed in Table 2, not measured here" in caption
    check_latex(made.latex())
    assert "\\label{tab:us-jepa}" in made.latex()
    assert made.latex().count("\\midrule") == 3


def test_without_a_choice_all_but_the_controls_are_added() -> None:
    control = one("pixels", "aul", 0.5)
    assert not isinstance(control, str)
    entries = [
        one("mine", "aul", 0.6),
        control.model_copy(update={"model": {"status": "control", "saw": "none stated"}}),
    ]
    assert [row[0] for row in mine.table(entries, PAPER).texts[10:]] == ["mine"]
    named = [row[0] for row in mine.table(entries, PAPER, ["pixels"]).texts[10:]]
    assert named == ["pixels (control)"]


def test_training_on_the_images_is_told_in_every_format() -> None:
    seen = one("mine", "aul", 0.6)
    known = {"title": "m", "pooling": "mean", "saw": "aul, busbra"}
    entries = [seen.model_copy(update={"model": known}), one("other", "aul", 0.5)]
    made = mine.table(entries, PAPER)
    assert made.texts[10][1] == "60.0†"
    assert made.texts[11][1] == "50.0"
    assert made.texts[2][1].endswith("†")  # UltraSAM, by its card
    assert "60.0†" in made.markdown()
    assert "60.0†" in made.csv()
    assert r"60.0$\dagger$" in made.latex()
    assert any("†: the model was trained on images" in note for note in made.notes)


def test_downscaled_copies_are_not_compared() -> None:
    notes = ["downscaled copies: the short side is at most 224 pixels"]
    made = mine.table([one("mine", "aul", 0.6, notes=notes)], PAPER)
    assert made.texts[10][0] == "mine [1]"
    assert "[1] downscaled copies of aul" in " ".join(made.notes)


def test_tasks_that_the_paper_lacks_are_named() -> None:
    entries = [one("mine", "aul", 0.6), cell("mine", "own.csv", 0.7)]
    assert mine.table(entries, PAPER).notes[-1].endswith("the paper has no such task: own.csv.")


def test_names_in_print_are_used() -> None:
    with looking(Look({"mine": "Our Encoder", "pocus": "POCUS"})):
        made = mine.table([one("mine/cls", "aul", 0.6)], PAPER)
    assert made.texts[10][0] == "Our Encoder/cls"


def test_a_mistyped_model_is_told() -> None:
    with pytest.raises(UserError, match="did you mean 'mine'"):
        mine.table([one("mine", "aul", 0.6)], PAPER, ["mien"])


def test_the_command_writes_table_and_sentences(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    put_test(cells, "aul", LABELS, [f"p{n}" for n in range(len(LABELS))])
    for place, (model, accuracy) in enumerate({"mine": 0.95, "other": 0.3}.items()):
        codes = guesses(LABELS, accuracy, place)
        put(cells, model, "aul", codes, LABELS, at={"protocol": PROTOCOL},
            task={"title": "AUL", "groups": "patient"})  # fmt: skip
    names = tmp_path / "names.yaml"
    names.write_text('mine: "Mine, 2026"\naul: AUL\n')
    done = ubench("report", str(tmp_path), "--table", "us-jepa", "--add", "mine",
                  "--names", str(names), "--size", "3.5", "--font", "8")  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "table.md").read_text()
    (row,) = regenerate.pairs(tmp_path)
    assert (
        "- On AUL (linear probe, protocol paper; 120 test images of 120 patients), Mine, 2026 was "
        "significantly better than other "
        f"(difference {row['difference']:.1f} points, 95 % CI {row['low']:.1f} to "
        f"{row['high']:.1f}; two-sided permutation test"
    ) in page
    assert "Holm-corrected over 1 pair of encoders" in page
    assert "other images of AUL: 8 / 2 / 4" in page
    rows = list(csv.reader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert rows[-1][0] == "Mine, 2026 [1]"
    check_latex((tmp_path / "table.tex").read_text())
    assert "Mine, 2026 leads" in (tmp_path / "leaderboard.md").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--add", "mine"], "it needs all three"),
        (["--table", "us-jep"], "did you mean 'us-jepa'"),
        (["--size", "0x3"], "the size '0x3' is not valid"),
        (["--font", "900"], "a font of 900 points cannot be read"),
        (["--names", "missing.yaml"], "missing.yaml"),
    ],
)
def test_bad_options_are_told(tmp_path: Path, words: list[str], told: str) -> None:
    cells = Cells(tmp_path)
    put_test(cells, "aul", LABELS)
    put(cells, "mine", "aul", guesses(LABELS, 0.9, 0), LABELS)
    done = ubench("report", str(tmp_path), *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "leaderboard.md").exists()
