"""leaderboard.html: all that was measured, nothing unmarked, nothing from elsewhere, escaped."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import make_manifest
from html_page import Page, read
from made_cells import SIZE, cell, failure, guesses, put, put_test, results

import tasks as task_zoo
from tasks.own_data.manifest import read as read_manifest
from tasks.task import Task
from ultrabench_eval.cells import Cells
from ultrabench_eval.core import hashing
from ultrabench_eval.report import html, write
from ultrabench_eval.report.results import degenerate, sources, standing
from ultrabench_eval.report.results.entries import Probing
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.results.standing import mean_at
from ultrabench_eval.report.sections import html_examples, significance
from ultrabench_eval.report.sections.html_confusion import shares
from ultrabench_eval.report.tables.board import boards, words

EIGHT = ("aul", "busbra", "butterfly", "fatty_liver", "gbcu", "mmotu", "pocus", "tn5000")
TEN = ("good", "fair", "pixels", *(f"timm/encoder_number_{n}.of_seven" for n in range(7)))
FIVE_MB = 5_000_000


def page_of(cells: Cells, data: Path | None = None) -> str:
    """The page without figures."""
    evidence = Evidence(cells, cells.gather())
    sections = {one.csv: one for one in significance.sections(evidence)}
    letters, found = standing.letters(evidence), degenerate.find(evidence)
    return html.page(evidence, sections, {}, letters, found, data)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of several conditions, written."""
    cells = Cells(tmp_path_factory.mktemp("whole"))
    results(cells, protocols=("paper-1", "tuned-2"), fractions=(10,), corruptions=("blur",))
    write.write(cells)
    return cells.out


def test_the_page_needs_nothing_from_elsewhere(whole: Path) -> None:
    page = read(whole)
    assert all(address.startswith("data:") for address in page.values("src"))
    assert all(address.startswith("#") for address in page.values("href"))
    assert not page.values("xlink:href")
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    style = (whole / "leaderboard.html").read_text("utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none';")


def test_every_model_task_and_condition_is_there(whole: Path) -> None:
    page = read(whole)
    assert {"good", "fair", "pixels"} == set(page.values("data-model"))
    assert {"aul", "busbra", "mmotu"} == set(page.values("data-task"))
    titles = [part for part in page.texts if "probe, protocol" in part and "images" in part]
    for protocol in ("paper-1", "tuned-2"):
        for condition in ((100, "none", 0), (10, "none", 0), (100, "blur", 3)):
            assert f"linear probe, protocol {protocol}: {words(condition)}" in titles
    sections = page.values("id")
    for name in ("board", "ranks", "cost", "fewshot", "corruption", "protocols", "tasks"):
        assert name in sections
    assert {"confusion", "images", "origin"} <= set(sections)
    assert [count for count in Counter(sections).values() if count > 1] == []


def test_the_numbers_are_those_of_the_leaderboard(whole: Path) -> None:
    entries = Cells(whole).gather()
    wide, _ = write.wide(entries)
    rows = {row[0].split()[0]: row for row in read(whole).rows[1:4]}
    for model, *scores in wide.table.texts:
        mine = rows[model.split()[0]]
        assert [text.split(" ")[:3] for text in mine[1:4]] == [s.split()[:3] for s in scores[:3]]
        assert mine[4].split()[0] == scores[3]  # letters follow


def test_best_is_bold_second_underlined_and_holes_are_neither(tmp_path: Path) -> None:
    entries = [
        *(cell("a", "aul", 0.95), cell("b", "aul", 0.9), cell("c", "aul", 0.8)),
        *(cell("d", "aul", 0.7), failure("e", "aul"), cell("c", "mmotu", 0.5)),
        *(cell("d", "mmotu", 0.4), failure("a", "mmotu")),
    ]
    shared = {"a": "a", "b": "b", "c": "c", "d": "d"}
    letters = {e.coordinates: shared.get(e.coordinates.model, "") for e in entries}
    means = {mean_at(model, Probing("linear", "paper-1")): shared[model] for model in "cd"}
    (board,) = boards(entries, letters | means)
    placed = {row.model: [score.place for score in row.scores] for row in board.rows}
    assert placed == {
        "c": ["", "best", "best"],
        "d": ["", "", ""],  # of two numbers the lower one is not the second
        "a": ["best", "", ""],
        "b": ["second", "", ""],
        "e": ["", "", ""],
    }
    failed = board.rows[-1].scores[0]
    assert (failed.text, failed.value, failed.why) == (
        *("error", None),
        "image x.png is broken | sadly",
    )
    assert board.rows[2].scores[-1].text == ""  # no mean over holes
    shared["b"] = "bc"  # level with the third
    letters = {e.coordinates: shared.get(e.coordinates.model, "") for e in entries}
    (board,) = boards(entries, letters)
    assert [row.scores[0].place for row in board.rows] == ["", "", "best", "", ""]
    assert not any(row.scores[-1].place for row in board.rows)  # without statistics nothing is


def test_a_task_that_was_seen_in_pretraining_is_marked_at_its_number() -> None:
    seen = cell("a", "aul@rule", 0.9)
    seen = seen.model_copy(update={"model": {**seen.model, "saw": "aul, busbra"}})
    (board,) = boards([seen, cell("b", "aul@rule", 0.8)], {})
    assert [row.scores[0].seen for row in board.rows] == [True, False]
    assert [row.saw for row in board.rows] == ["aul, busbra", "not known"]
    simulated = seen.model_copy(update={"synthetic": True})
    (board,) = boards([simulated], {})
    assert not board.rows[0].scores[0].seen  # the images it saw were real ones


def test_synthetic_random_and_floors_are_marked_wherever_numbers_show(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, synthetic=True, random_weights=True)
    page = Page(page_of(cells))
    assert "SYNTHETIC: tasks marked so are simulated images." in page.text
    heads = [row for row in page.rows if row and row[0] == "model" and "aul" in row[1]]
    assert heads
    assert all("SYNTHETIC" in name for row in heads for name in row[1:5])
    for row in page.rows:
        if row and row[0].startswith(("good", "pixels")):
            assert "floor" in row[0]
            assert "random weights" in row[0]
    assert page.text.count("aul SYNTHETIC") >= 5  # filter, board, card, confusion, images
    assert "simulated images: no release and no licence stands behind them" in page.text
    real = Cells(tmp_path / "real")
    results(real)
    assert "SYNTHETIC" not in page_of(real)


HOSTILE = "\"><img src=x onerror=alert(1)>'&"
WORSE = "</script><script>alert(2)</script>"


def test_no_text_is_taken_for_markup(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    labels = np.arange(SIZE) % 2
    put_test(cells, HOSTILE, labels)
    stored = cells.out / "tasks" / f"t{HOSTILE}.json"
    known = json.loads(stored.read_bytes())
    known["names"] = [f"{WORSE}{name}" for name in known["names"]]
    known["classes"] = [WORSE, HOSTILE]
    stored.write_bytes(hashing.canonical_json(known))
    model = {"title": HOSTILE, "pooling": WORSE, "input_size": 8, "dim": 3, "parameters": 9}
    for place, name in enumerate((WORSE, "{{ 7 * 6 }}", "c")):
        codes = guesses(labels, 0.9 - 0.3 * place, place)
        fields = {"model": {**model, "saw": WORSE}, "notes": [HOSTILE], "classes": [WORSE, HOSTILE]}
        for fraction in (10, 100):
            at: dict[str, object] = {"fraction": fraction}
            put(cells, name, HOSTILE, codes, labels, at=at, warnings=[WORSE], **fields)
    cells.fail(failure(WORSE, "mmotu", HOSTILE))
    write.write(cells)
    text = (tmp_path / "leaderboard.html").read_text("utf-8")
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in page.tags]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert HOSTILE in page.text
    assert WORSE in page.text
    assert "{{ 7 * 6 }}" in page.text
    assert WORSE in page.values("data-model")
    assert text.count("</script>") == 1


def test_equal_cells_give_equal_bytes(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "cells", tmp_path / "cells")
    shutil.copytree(whole / "tasks", tmp_path / "tasks")
    write.write(Cells(tmp_path))
    made = (tmp_path / "leaderboard.html").read_bytes()
    assert made == (whole / "leaderboard.html").read_bytes()
    assert str(tmp_path).encode() not in made


@pytest.mark.slow
def test_ten_models_on_eight_tasks_are_less_than_five_megabytes(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, models=TEN, tasks=EIGHT, fractions=(1, 10), corruptions=("blur", "shadow"))
    write.write(cells)
    made = tmp_path / "leaderboard.html"
    page = read(tmp_path)
    assert set(TEN) == set(page.values("data-model"))
    assert set(EIGHT) == set(page.values("data-task"))
    # Pictures come on top: at most so many, of about 5 KB.
    pictures = len(EIGHT) * len(html_examples.KINDS) * html_examples.SHOWN
    assert made.stat().st_size + pictures * 10_000 < FIVE_MB


def test_an_empty_folder_and_failures_alone_have_a_page(tmp_path: Path) -> None:
    assert "Nothing was measured." in page_of(Cells(tmp_path))
    cells = Cells(tmp_path / "failed")
    cells.fail(failure("a", "aul"))
    page = Page(page_of(cells))
    assert "image x.png is broken | sadly" in page.text
    assert ["model", "aul", "seen in pretraining", "parameters"] in page.rows


# ---- confusion ----------------------------------------------------------------------------------


def test_confusion_is_the_percent_of_the_true_class_over_all_seeds() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1])
    codes = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0]])
    (first, second, third) = shares(codes, truth, 3)
    assert [share.text for share in first] == ["62", "38", "0"]
    assert [share.text for share in second] == ["25", "75", "0"]
    assert [share.text for share in third] == ["", "", ""]  # no such image: no number
    assert [share.shade for share in first] == [6, 4, 0]


def test_predictions_that_are_lost_give_no_confusion_and_no_examples(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, tasks=("aul",))
    for path in (tmp_path / "cells").rglob("*.safetensors"):
        path.unlink()
    page = Page(page_of(cells))
    assert "confusion" not in page.values("id")
    assert "images" not in page.values("id")
    assert "0.safetensors is missing; run the same" in page.text


# ---- examples -----------------------------------------------------------------------------------


def test_images_are_chosen_by_what_models_answer() -> None:
    truth = np.array([0, 1, 2, 0, 1, 2, 0])
    votes = np.array([[0, 1, 0, 1, 2, 2, 0], [0, 0, 1, 1, 2, 2, 0], [0, 0, 2, 1, 0, 2, 0]])
    chosen, counts = html_examples.choose(votes, truth)
    assert counts == {"apart": 3, "wrong": 2, "right": 3}
    assert chosen["apart"] == [2, 1, 4]  # three answers before two
    assert chosen["wrong"] == [3, 4]  # wrong in different ways is wrong, too
    assert chosen["right"] == [0, 5, 6]  # classes in turn


def test_the_answer_of_a_model_is_that_of_most_seeds() -> None:
    codes = np.array([[0, 1, 2], [1, 1, 0], [1, 2, 2]])
    assert html_examples.majority(codes, 3).tolist() == [1, 1, 2]


def put_task(cells: Cells, task: Task, models: tuple[str, ...] = ("good", "fair")) -> None:
    """Cells of a task with images."""
    cells.put_task(task)
    for place, model in enumerate(models):
        codes = guesses(task.test.labels, 0.8 - 0.3 * place, place)
        one = put(cells, model, task.name, codes, task.test.labels, classes=list(task.classes))
        shutil.rmtree(cells.out / "cells" / model)
        identity = {**one.identity, "task": task.fingerprint}
        probabilities = np.eye(2, dtype=np.float32)[codes]
        cells.put(one.model_copy(update={"identity": identity}), {"probabilities": probabilities})


@pytest.fixture
def with_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Cells, Task]:
    """Cells of the task `shades`, whose images are in any data folder."""
    task = read_manifest(make_manifest(tmp_path / "shades.csv"))
    monkeypatch.setattr(sources, "load", lambda name, data, run: task)
    cells = Cells(tmp_path / "out")
    put_task(cells, task)
    return cells, task


def test_pictures_are_small_and_there_only_with_data(
    with_images: tuple[Cells, Task], tmp_path: Path
) -> None:
    cells, task = with_images
    without = Page(page_of(cells))
    assert "img" not in [tag for tag, _ in without.tags]
    assert "Only names are listed" in without.text
    assert any(image.name in without.text for image in task.test.images)

    page = Page(page_of(cells, tmp_path))
    shown = [attrs for tag, attrs in page.tags if tag == "img"]
    assert 0 < len(shown) <= len(html_examples.KINDS) * html_examples.SHOWN
    names = {image.name for image in task.test.images}
    for attrs in shown:
        assert attrs["src"].startswith("data:image/jpeg;base64,")
        assert len(attrs["src"]) < 14_000
        assert any(name in attrs["alt"] for name in names)


def test_a_picture_is_no_larger_than_its_side(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    PIL.Image.fromarray(np.zeros((900, 600, 3), np.uint8)).save(path)
    address = html_examples._thumbnail(np.asarray(PIL.Image.open(path)))
    import base64
    import io

    picture = PIL.Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
    assert (picture.size, picture.mode) == ((107, html_examples.SIDE), "L")


def test_images_that_were_not_measured_are_not_shown(
    with_images: tuple[Cells, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, _ = with_images
    other = read_manifest(make_manifest(tmp_path / "other" / "shades.csv", seed=1))
    monkeypatch.setattr(sources, "load", lambda name, data, run: other)
    page = Page(page_of(cells, tmp_path))
    assert "img" not in [tag for tag, _ in page.tags]
    assert "not those that were measured" in page.text


def test_data_that_are_missing_are_told_without_the_folder(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "out")
    results(cells, tasks=("aul",))
    page = Page(page_of(cells, tmp_path / "nowhere"))
    assert "No pictures: data of task 'aul' not found: DATA/aul is not a folder" in page.text
    assert str(tmp_path) not in page.text


def test_the_file_has_pictures_when_asked_and_loses_them_when_not(
    with_images: tuple[Cells, Task], tmp_path: Path
) -> None:
    cells, _ = with_images
    write.write(cells, pictures=tmp_path)
    made = cells.out / "leaderboard.html"
    assert "data:image/jpeg" in made.read_text("utf-8")
    write.write(cells)
    assert "data:image/jpeg" not in made.read_text("utf-8")


# ---- cards --------------------------------------------------------------------------------------


def test_a_card_tells_classes_splits_licence_and_floors(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    known = task_zoo.card("busbra")
    labels = np.arange(SIZE) % 2
    put_test(cells, "busbra", labels, [str(row // 3) for row in range(SIZE)])
    for place, model in enumerate(("good", "pixels")):
        kind = {"title": model, "pooling": "mean", "input_size": 8, "dim": 3, "parameters": 0}
        put(
            *(cells, model, "busbra", guesses(labels, 0.9 - 0.5 * place, place), labels),
            model=kind | ({"status": "control"} if place else {}),
            task={"title": known.title, "groups": "patient"},
            classes=list(known.classes),
            images={"train": 765, "validation": 86, "test": 213},
            notes=["three images are lost"],
        )
    page = Page(page_of(cells))
    for words_ in (
        "train 765, validation 86, test 213",
        "benign (30), malignant (30)",
        "patient, 20 in the test set",
        known.licence,
        known.defects[0],
        "three images are lost",
        "breast, tumour malignancy",
    ):
        assert words_ in page.text
    assert "Tells encoders apart from floors. good minus pixels is" in page.text


def test_a_task_of_ones_own_with_a_known_name_has_no_card_of_the_release(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, tasks=("busbra",))  # other classes, another title
    assert task_zoo.card("busbra").licence not in page_of(cells)


# ---- drawings -----------------------------------------------------------------------------------


def test_the_figures_of_the_run_are_in_the_page_once_each(whole: Path) -> None:
    page = read(whole)
    drawn = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("class") != "chart"]
    files = sorted((whole / "figures").glob("*.svg"))
    assert len(drawn) == len(files)
    for file in files:
        assert sum(f"({file.stem})" in attrs["aria-label"] for attrs in drawn) == 1


def test_code_in_sentences_is_set_as_code() -> None:
    assert html.code("add `--model <x>` & go") == "add <code>--model &lt;x&gt;</code> &amp; go"
