"""leaderboard.html: all that was measured, nothing unmarked, nothing from elsewhere, escaped."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from conftest import make_manifest
from html_page import Page, read
from made_cells import SIZE, cell, failure, guesses, put, put_test, results

import tasks as task_zoo
from tasks.own_data.manifest import read as read_manifest
from tasks.task import Task
from ultrabench_eval.cells import Cells, Coordinates
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report import html, write
from ultrabench_eval.report.results import about, degenerate, kept, sources, standing
from ultrabench_eval.report.results.entries import CONTROLS, Probing
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.report.results.standing import mean_at
from ultrabench_eval.report.sections import html_examples, significance
from ultrabench_eval.report.sections.html_confusion import shares
from ultrabench_eval.report.tables.board import boards, words

EIGHT = ("aul", "busbra", "butterfly", "fatty_liver", "gbcu", "mmotu", "pocus", "tn5000")
TEN = ("good", "fair", "pixels", *(f"timm/encoder_number_{n}.of_seven" for n in range(7)))
TWO_MB = 2_000_000


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
    assert not page.values("src")
    assert not page.values("href")
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in page.tags}
    style = (whole / "leaderboard.html").read_text("utf-8").split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    (policy,) = [a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a]
    assert policy.startswith("default-src 'none';")
    assert "'unsafe-inline'" not in policy.split("script-src")[1]


def test_every_model_task_and_condition_is_there(whole: Path) -> None:
    page = read(whole)
    assert [one["name"] for one in page.data["models"]] == ["good", "fair", "pixels"]
    assert [one["name"] for one in page.data["tasks"]] == ["aul", "busbra", "mmotu"]
    views = [(one["probing"], one["condition"]) for one in page.data["views"]]
    for protocol in ("paper-1", "tuned-2"):
        for condition in ((100, "none", 0), (10, "none", 0), (100, "blur", 3)):
            assert (f"linear probe, protocol {protocol}", words(condition)) in views
    found = page.values("id")
    assert {"verdict", "forest", "board", *page.sections} <= set(found)
    for name in ("ranks", "cost", "fewshot", "corruption", "protocols", "tasks"):
        assert name in page.sections
    assert {"confusion", "images", "origin"} <= set(page.sections)
    assert [count for count in Counter(found).values() if count > 1] == []


def test_the_numbers_are_those_of_leaderboard_csv(whole: Path) -> None:
    table = pd.read_csv(whole / "leaderboard.csv", dtype=str, keep_default_na=False)
    table = table[table.metric == "macro_f1"]
    page, compared = read(whole), 0
    models = [one["name"] for one in page.data["models"]]
    tasks = [one["name"] for one in page.data["tasks"]]
    conditions = {}
    for row in table.itertuples():
        at = words((int(row.fraction), row.corruption, int(row.severity)))
        probing = f"{row.probe} probe, protocol {row.protocol}"
        conditions[probing, at, row.model, row.task] = [row.mean, row.sd, row.low, row.high]
    for view in page.data["views"]:
        for m, scores in view["rows"]:
            for t, score in zip(view["tasks"], scores, strict=False):
                key = view["probing"], view["condition"], models[m], tasks[t]
                assert [f"{number:.4f}" for number in score[:4]] == conditions[key]
                compared += 1
    assert compared == len(table)


def test_the_first_table_and_intervals_are_there_without_script(whole: Path) -> None:
    page = read(whole)
    wide, _ = write.wide(Cells(whole).gather())
    first = page.main()[0]
    start = next(n for n, row in enumerate(page.rows) if row and row[0] == "model")
    for row, texts in zip(page.rows[start + 1 :], wide.table.texts, strict=False):
        assert row[0].split()[0] == texts[0].split()[0]
        assert [text.split()[:3] for text in row[1:4]] == [s.split()[:3] for s in texts[1:4]]
        score = first["rows"][row[0].split()[0]][-1]
        assert row[4].split()[0].startswith(texts[4])
        assert f"{score[2]:.1f} to {score[3]:.1f}" in row[4]
    forest = page.rows[:3]
    assert [row[0].split()[0] for row in forest] == ["good", "fair", "pixels"]
    for row in forest:
        mean, _, low, high, *_ = first["rows"][row[0].split()[0]][-1]
        assert row[2] == f"{mean:.1f} ({low:.1f} to {high:.1f})"
        assert low < mean < high


def test_the_top_tells_name_date_command_version_and_data(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "my run")
    results(cells, fractions=(10,), corruptions=("blur",), versions={"ultrabench_eval": "0.1.0"})
    ledger = cells.out / "cells" / "ledger.jsonl"
    os.utime(ledger, (1_790_000_000, 1_790_000_000))
    text = Page(page_of(cells)).text
    assert "Leaderboard: my run" in text
    assert "Measured 2026-09-21 with ultrabench_eval 0.1.0" in text
    assert (
        "ubench run --model fair,good,pixels --task aul,busbra,mmotu --probe linear "
        "--protocol paper --seeds 3 --fractions 10,100 --corruptions blur"
    ) in text
    os.utime(ledger, (0, 0))  # as an archive leaves it
    assert "Date not recorded" in Page(page_of(cells)).text
    stated = cells.out / "about.yaml"
    stated.write_text('name: real <b>\ndate: "2026-11-29"\ndata: half of it\n')
    text = Page(page_of(cells)).text
    assert "Leaderboard: real <b>" in text
    assert "Measured 2026-11-29" in text
    assert "Data: half of it." in text
    stated.write_text("nmae: real\n")
    with pytest.raises(UserError, match="unknown key 'nmae'"):
        page_of(cells)


def test_the_command_names_the_fractions_as_they_were_asked_for() -> None:
    at = [Coordinates("a", "aul", "paper-1", fraction=percent) for percent in (5, 10)]
    few = [cell("a", "aul", 0.5, coordinates=one) for one in at]
    assert "--fractions" not in about.command([cell("a", "aul", 0.5)])
    assert about.command(few).endswith("--seeds 1 --fractions 5,10")


def test_controls_that_were_not_measured_are_named(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells)
    page = Page(page_of(cells))
    assert "not measured: random-vit-tiny, image-stats, fan-mask, border." in page.text
    other = Cells(tmp_path / "other")
    models = ("good", *CONTROLS["classes"].split(","))
    results(other, models=models, tasks=("aul",))
    assert "Controls that were not measured" not in page_of(other)


@pytest.mark.parametrize("seed", range(4))
def test_bold_letters_and_verdict_never_disagree(tmp_path: Path, seed: int) -> None:
    """Random results: bold and "leads" are of the model that shares no letter; who is "not
    significantly different" shares one with the leader."""
    noise = np.random.default_rng(seed)
    cells, labels = Cells(tmp_path), np.arange(SIZE) % 2
    for task in ("aul", "busbra"):
        put_test(cells, task, labels)
        for place, right in enumerate(noise.uniform(0.1, 1.0, 4)):
            kind = cell("m", task).model | ({"status": "control"} if place == 3 else {})
            codes = guesses(labels, right, int(noise.integers(1000)))
            put(cells, "abcd"[place], task, codes, labels, model=kind)
    write.write(cells)
    told = kept.told(cells.out).verdict
    (view,) = read(tmp_path).main()
    columns = [*(f"n {task}," for task in view["tasks"]), "by the mean of"]
    for c, where in enumerate(columns):
        (sentence,) = [one for one in told if where in one]
        scores = {model: row[c] for model, row in view["rows"].items()}
        order = sorted(scores, key=lambda model: -scores[model][0])
        leader, *others = order
        level = [one for one in others if set(scores[one][4]) & set(scores[leader][4])]
        bold = [model for model in order if scores[model][5] & html.BEST]
        assert bold == ([] if level else [leader])
        assert (" leads with " in sentence) == (not level)
        if level:
            listed = sentence.split("; ", 1)[1]
            named = re.findall(r"\b([abcd])\b(?! 95)", re.sub(r"\(.*?\)", "", listed))
            assert sorted(named) == sorted(level)


def test_best_is_bold_and_holes_are_not(tmp_path: Path) -> None:
    entries = [
        *(cell("a", "aul", 0.95), cell("b", "aul", 0.9), cell("c", "aul", 0.8)),
        *(cell("d", "aul", 0.7), failure("e", "aul"), cell("c", "mmotu", 0.5)),
        *(cell("d", "mmotu", 0.4), failure("a", "mmotu")),
    ]
    shared = {"a": "a", "b": "b", "c": "c", "d": "d"}
    letters = {e.coordinates: shared.get(e.coordinates.model, "") for e in entries}
    means = {mean_at(model, Probing("linear", "paper-1")): shared[model] for model in "cd"}
    (board,) = boards(entries, letters | means)
    placed = {row.model: [score.best for score in row.scores] for row in board.rows}
    assert placed == {
        "c": [False, True, True],
        "d": [False, False, False],
        "a": [True, False, False],
        "b": [False, False, False],
        "e": [False, False, False],
    }
    failed = board.rows[-1].scores[0]
    assert (failed.text, failed.value, failed.why) == (
        *("error", None),
        "image x.png is broken | sadly",
    )
    assert board.rows[2].scores[-1].text == ""  # no mean over holes
    shared["a"] = "ab"  # level with the second
    letters = {e.coordinates: shared.get(e.coordinates.model, "") for e in entries}
    (board,) = boards(entries, letters)
    assert [row.scores[0].best for row in board.rows] == [False] * 5
    assert not any(row.scores[-1].best for row in board.rows)  # without statistics nothing is


def test_a_task_that_was_seen_in_pretraining_is_marked_at_its_number() -> None:
    seen = cell("a", "aul@rule", 0.9)
    seen = seen.model_copy(update={"model": {**seen.model, "saw": "aul, busbra"}})
    (board,) = boards([seen, cell("b", "aul@rule", 0.8)], {})
    assert [row.scores[0].seen for row in board.rows] == [True, False]
    assert [row.saw for row in board.rows] == ["aul, busbra", "not known"]
    simulated = seen.model_copy(update={"synthetic": True})
    (board,) = boards([simulated], {})
    assert not board.rows[0].scores[0].seen  # the images it saw were real ones


def test_synthetic_random_and_controls_are_marked_wherever_numbers_show(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, synthetic=True, random_weights=True)
    page = Page(page_of(cells))
    assert "SYNTHETIC: tasks marked so are simulated images." in page.text
    assert "Data: SYNTHETIC images." in page.text
    (heads,) = [row for row in page.rows if row and row[0] == "model" and "aul" in row[1]]
    assert all("SYNTHETIC" in name for name in heads[1:4])
    for row in page.rows:
        if row and row[0].startswith(("good", "pixels")):
            assert "control" in row[0]
            assert "random weights" in row[0]
    assert all(one["synthetic"] for one in page.data["tasks"])
    assert all("control" in one["marks"] for one in page.data["models"])
    assert "simulated images: they have no release and no licence" in page.said
    real = Cells(tmp_path / "real")
    results(real)
    assert "SYNTHETIC" not in Page(page_of(real)).said


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
    assert [tag for tag, _ in page.tags].count("script") == 2  # data and script
    assert "img" not in [tag for tag, _ in page.tags]
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert HOSTILE in page.text
    assert WORSE in page.text
    assert "{{ 7 * 6 }}" in page.text
    assert WORSE in [one["name"] for one in page.data["models"]]
    assert text.count("</script>") == 2


def test_equal_cells_give_equal_bytes(whole: Path, tmp_path: Path) -> None:
    again = tmp_path / whole.name  # the page tells the name of its folder
    shutil.copytree(whole / "cells", again / "cells")
    shutil.copytree(whole / "tasks", again / "tasks")
    write.write(Cells(again))
    made = (again / "leaderboard.html").read_bytes()
    assert made == (whole / "leaderboard.html").read_bytes()
    assert str(tmp_path).encode() not in made


@pytest.mark.slow
def test_ten_models_on_eight_tasks_are_less_than_two_megabytes(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, models=TEN, tasks=EIGHT, fractions=(1, 10), corruptions=("blur", "shadow"))
    write.write(cells)
    made = tmp_path / "leaderboard.html"
    page = read(tmp_path)
    assert set(TEN) == {one["name"] for one in page.data["models"]}
    assert set(EIGHT) == {one["name"] for one in page.data["tasks"]}
    assert len(page.tags) < 1000
    # Pictures come on top: at most so many, of about 5 KB.
    pictures = len(EIGHT) * len(html_examples.KINDS) * html_examples.SHOWN
    assert made.stat().st_size + pictures * 10_000 < TWO_MB


def test_an_empty_folder_and_failures_alone_have_a_page(tmp_path: Path) -> None:
    assert "Nothing was measured." in page_of(Cells(tmp_path))
    cells = Cells(tmp_path / "failed")
    cells.fail(failure("a", "aul"))
    page = Page(page_of(cells))
    assert "image x.png is broken | sadly" in page.text
    assert ["model", "aul", "parameters"] in [row[:3] for row in page.rows]
    assert page.data["views"][0]["rows"] == [[0, ["error: image x.png is broken | sadly"]]]


# ---- confusion ----------------------------------------------------------------------------------


def test_confusion_is_the_percent_of_the_true_class_over_all_seeds() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1])
    codes = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 0]])
    (first, second, third) = shares(codes, truth, 3)
    assert first == [62, 38, 0]
    assert second == [25, 75, 0]
    assert third == [None, None, None]  # no such image: no number


def test_predictions_that_are_lost_give_no_confusion_and_no_examples(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, tasks=("aul",))
    for path in (tmp_path / "cells").rglob("*.safetensors"):
        path.unlink()
    page = Page(page_of(cells))
    assert not {"confusion", "images"} & set(page.sections)
    assert "0.safetensors is missing; run the same" in page.said


# ---- examples -----------------------------------------------------------------------------------


def test_images_are_chosen_by_what_models_answer() -> None:
    truth = np.array([0, 1, 2, 0, 1, 2, 0])
    votes = np.array([[0, 1, 0, 1, 2, 2, 0], [0, 0, 1, 1, 2, 2, 0], [0, 0, 2, 1, 0, 2, 0]])
    chosen, counts = html_examples.choose(votes, truth)
    assert counts == {"apart": 3, "wrong": 2, "right": 3}
    assert chosen["apart"] == [2, 1, 4]  # three answers before two
    assert chosen["wrong"] == [3, 4]  # wrong in different ways is wrong too
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
    assert "data:image" not in without.said
    assert "Only names are listed" in without.said
    assert any(image.name in without.said for image in task.test.images)

    page = Page(page_of(cells, tmp_path))
    (part,) = page.sections["images"]
    shown = [one for kind in part["images"]["kinds"] for one in kind["examples"]]
    assert 0 < len(shown) <= len(html_examples.KINDS) * html_examples.SHOWN
    names = {image.name for image in task.test.images}
    for one in shown:
        assert one["picture"].startswith("data:image/jpeg;base64,")
        assert len(one["picture"]) < 14_000
        assert one["name"] in names


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
    assert "data:image" not in page.said
    assert "not those that were measured" in page.said


def test_data_that_are_missing_are_told_without_the_folder(tmp_path: Path) -> None:
    cells = Cells(tmp_path / "out")
    results(cells, tasks=("aul",))
    page = Page(page_of(cells, tmp_path / "nowhere"))
    assert "data of task 'aul' not found: DATA/aul is not a folder" in page.said
    assert str(tmp_path) not in page.said


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


def test_a_card_tells_classes_splits_licence_and_controls(tmp_path: Path) -> None:
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
        assert words_ in page.said
    assert "Separates encoders from controls. good minus pixels is" in page.said


def test_a_task_of_ones_own_with_a_known_name_has_no_card_of_the_release(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    results(cells, tasks=("busbra",))  # other classes, another title
    assert task_zoo.card("busbra").licence not in page_of(cells)


# ---- drawings -----------------------------------------------------------------------------------


def test_the_figures_of_the_run_are_in_the_page_once_each(whole: Path) -> None:
    found = read(whole).figures()
    files = sorted((whole / "figures").glob("*.svg"))
    assert len([alt for alt in found if not alt.startswith("Scatter plot")]) == len(files)
    for file in files:
        (svg,) = [svg for alt, svg in found.items() if f"({file.stem})" in alt]
        assert svg == file.read_text()


def test_code_in_sentences_is_set_as_code() -> None:
    assert html.code("add `--model <x>` & go") == "add <code>--model &lt;x&gt;</code> &amp; go"
