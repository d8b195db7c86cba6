"""A folder with classes, masks and numbers of two units: nothing is averaged over kinds, and each
is sorted the right way round, in every format."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import NamedTuple

import html_page
import numpy as np
import pytest
from made_cells import SIZE, guesses, put, put_masks, put_numbers, put_test
from made_cells import cell as made_cell
from rich.console import Console

from ultrabench_eval import display
from ultrabench_eval.cells import Cells
from ultrabench_eval.report import html, write
from ultrabench_eval.report.results import kept

MODELS = ("good", "fair", "pixels")


class OfKind(NamedTuple):
    """The tasks of one kind and unit, and how each of `MODELS` does on both."""

    tasks: tuple[str, str]
    levels: tuple[float, float, float]
    metric: str
    column: str
    """Name in CSV files."""
    order: str
    """From the best to the worst: the control always is the last."""


KINDS = {
    "classification": OfKind(
        ("aul", "busbra"), (0.95, 0.6, 0.1), "macro F1 in percent", "macro_f1", "good fair pixels"
    ),
    "segmentation": OfKind(
        ("aul-seg", "busbra-seg"), (0.6, 0.9, 0.3), "Dice in percent", "dice", "fair good pixels"
    ),
    "regression in mm": OfKind(
        ("hc18-hc", "length"), (3, 12, 30), "MAE in mm", "mae", "good fair pixels"
    ),
    "regression in %": OfKind(
        ("camus-ef", "share"), (15, 5, 40), "MAE in percent", "mae", "fair good pixels"
    ),
}


def names(text: str, task: str) -> bool:
    """Whether a text names a task, and not only one whose name begins with it."""
    return bool(re.search(rf"\b{task}\b(?!-)", text))


TASKS = {task for kind in KINDS.values() for task in kind.tasks}


def put_one(cells: Cells, kind: str, model: str, task: str, level: float, **at: object) -> None:
    if kind == "segmentation":
        put_masks(cells, model, task, level, **at)
    elif kind != "classification":
        put_numbers(cells, model, task, level, kind.rpartition(" ")[2], **at)
    else:
        labels = np.arange(SIZE) % 2
        put_test(cells, task, labels)
        status = {"status": "control"} if model == "pixels" else {}
        codes = guesses(labels, level, len(model + task), 2)
        facts = made_cell(model, task).model | status
        put(cells, model, task, codes, labels, at=at, model=facts)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cells = Cells(tmp_path_factory.mktemp("run"))
    for kind, one in KINDS.items():
        for task in one.tasks:
            for model, level in zip(MODELS, one.levels, strict=True):
                worse = level * (2 if one.column == "mae" else 0.5)
                put_one(cells, kind, model, task, level)
                put_one(cells, kind, model, task, worse, fraction=10)
                put_one(cells, kind, model, task, worse, corruption="blur", severity=1)
    write.write(cells)
    return cells.out


def table(page: str, title: str) -> list[list[str]]:
    """The rows of a Markdown table under a title, its head first."""
    (part,) = re.findall(rf"^#+ {re.escape(title)}.*?\n\n(\|.*?)\n\n", page, re.M | re.S)
    rows = [[text.strip() for text in line.strip("|").split("|")] for line in part.splitlines()]
    return [rows[0], *rows[2:]]


def rows(run: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO((run / name).read_text())))


def scores(run: Path) -> dict[tuple[str, str], float]:
    """Of the main metric and condition, by model and task."""
    main = {task: one.column for one in KINDS.values() for task in one.tasks}
    return {
        (row["model"], row["task"]): float(row["mean"])
        for row in rows(run, "leaderboard.csv")
        if row["metric"] == main[row["task"]]
        and (row["fraction"], row["corruption"]) == ("100", "none")
    }


def test_csv_has_no_means_and_percent_is_what_was_measured(run: Path) -> None:
    listed = rows(run, "leaderboard.csv")
    assert {row["task"] for row in listed} == TASKS
    found = scores(run)
    for kind, one in KINDS.items():
        for model, level in zip(MODELS, one.levels, strict=True):
            if kind != "classification":
                shown = 100 * level if kind == "segmentation" else level
                assert found[model, one.tasks[0]] == pytest.approx(shown, rel=0.15), (kind, model)


@pytest.mark.parametrize("kind", KINDS)
def test_markdown_has_a_table_per_kind_and_unit_best_first(run: Path, kind: str) -> None:
    one, found = KINDS[kind], scores(run)
    title = one.metric[:1].upper() + one.metric[1:]
    head, *body = table((run / "leaderboard.md").read_text(), title)
    assert (head[0], {*head[1:-1]}, head[-1]) == ("model", {*one.tasks}, "mean of tasks")
    assert [row[0].split()[0] for row in body] == one.order.split()
    for row in body:
        model = row[0].split()[0]
        mean = np.mean([found[model, task] for task in one.tasks])
        assert float(re.findall(r"[\d.]+", row[-1])[0]) == pytest.approx(mean, abs=0.06)
    bold = [[text.startswith("**") for text in row[1:]] for row in body]
    assert bold == [[True] * 3, [False] * 3, [False] * 3]
    letters = [row[1].split()[-1].strip("*") for row in body]
    assert letters == ["a", "b", "c"]


@pytest.mark.parametrize("kind", KINDS)
def test_latex_and_terminal_are_the_same_tables(run: Path, kind: str) -> None:
    one = KINDS[kind]
    latex = (run / "leaderboard.tex").read_text()
    assert latex.count("(lower is better)") == 2
    (block,) = [
        part
        for part in latex.split(r"\begin{tabular}")[1:]
        if names(part.split(r"\end{tabular}")[0], one.tasks[0])
    ]
    block = block.split(r"\end{tabular}")[0]
    assert not [task for task in TASKS - {*one.tasks} if names(block, task)]
    assert re.findall(r"^(good|fair|pixels)", block, re.M) == one.order.split()
    assert [line.split()[0] for line in block.splitlines() if r"\textbf" in line] == [
        one.order.split()[0]
    ]

    told = kept.told(run)
    shown = display.leaderboard(Cells(run).gather(), told.letters, (), 200)
    texts = []
    for group in shown:
        out = io.StringIO()
        Console(file=out, width=200, force_terminal=True).print(group)
        texts.append(out.getvalue())
    assert len(texts) == len(KINDS)
    (text,) = [text for text in texts if one.metric.lower() in text.lower()]
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert ("(lower is better)" in plain) == (one.column == "mae")
    assert [
        line.split()[0] for line in plain.splitlines() if re.match(" *(good|fair|pixels)", line)
    ] == one.order.split()
    bold = [line for line in text.splitlines() if "\x1b[1m" in line and "±" in line]
    assert len(bold) == 1
    assert one.order.split()[0] in bold[0]


def test_the_page_has_a_view_per_kind_and_unit(run: Path) -> None:
    page = html_page.read(run)
    assert len(page.main()) == len(KINDS)
    assert len({one["kind"] for one in page.main()}) == len(KINDS)
    for one in KINDS.values():
        (view,) = [view for view in page.main() if one.tasks[0] in view["tasks"]]
        assert {*view["tasks"]} == {*one.tasks}
        assert [*view["rows"]] == one.order.split()
        assert one.metric in view["metric"]
        lower = one.column == "mae"
        assert view["rising"] == ("(lower is better)" in view["metric"]) == lower
        leaders = {m for m, scores in view["rows"].items() for s in scores if s[5] & html.BEST}
        assert leaders == {one.order.split()[0]}
    assert "number in mm" in page.said
    assert "pixels minus good is" in page.said  # of an error


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_know_which_way_is_up(run: Path, kind: str) -> None:
    one = KINDS[kind]
    best, second, control = one.order.split()
    sign = -1 if one.column == "mae" else 1
    pairs = [row for row in rows(run, "pairs.csv") if row["kind"] == kind]
    assert {row["task"] for row in pairs} - {*one.tasks} == {
        {
            "classification": "mean of tasks",
            "segmentation": "mean of segmentation tasks",
            "regression in mm": "mean of regression tasks in mm",
            "regression in %": "mean of regression tasks in %",
        }[kind]
    }
    for row in pairs:
        assert (row["model_a"], row["model_b"]) in {
            (best, second),
            (best, control),
            (second, control),
        }
        assert sign * float(row["difference"]) > 0
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
        assert row["told_apart"] == "True"
    for row in rows(run, "ranks.csv"):
        if row["kind"] == kind:
            assert float(row["rank"]) == 1 + one.order.split().index(row["model"])
            assert float(row["first"]) == pytest.approx(float(row["model"] == best), abs=0.05)
    for row in rows(run, "informativeness.csv"):
        if row["kind"] == kind:
            assert (row["best_model"], row["best_control"]) == (best, control)
            assert float(row["gain"]) > 0
            assert row["tells_apart"] == "True"


def test_the_verdict_and_the_choice_name_the_best_of_each(run: Path) -> None:
    told = " ".join(kept.told(run).verdict)
    choose = (run / "choose.md").read_text()
    for one in KINDS.values():
        best = one.order.split()[0]
        title = one.metric.split(" in ")[0]
        for task in one.tasks:
            assert re.search(rf"On {task}, {best} leads with {title} ", told), task
        both = "|".join(", ".join(order) for order in (one.tasks, one.tasks[::-1]))
        assert re.search(f"by the mean of ({both}), {best} leads with {title} ", told)
        body = table(choose, one.metric[:1].upper() + one.metric[1:])
        assert [row[0] for row in body[1:]] == one.order.split()[:2]
    assert told.count("significantly better than all others") == 3 * len(KINDS)
    assert choose.count("is significantly better than all other encoders") == len(KINDS)


def test_a_reference_is_beaten_by_lower_errors(run: Path, tmp_path: Path) -> None:
    write.write(Cells(run), tmp_path, reference="fair")
    told = kept.told(tmp_path).verdict
    for kind, one in KINDS.items():
        better = "good" if one.order.startswith("good") else ""
        (line,) = [line for line in told if line.startswith("Beside") and names(line, one.tasks[0])]
        assert ("better: good" in line) == bool(better), kind
        assert ("worse: pixels" if better else "worse: good and pixels") in line


def test_labels_needed_and_what_corruption_does_are_told_of_errors(run: Path) -> None:
    fewshot = (run / "fewshot.md").read_text()
    assert "whose mean MAE is at most that of" in fewshot
    assert "whose mean score is at least that of" in fewshot
    in_mm = fewshot.split("## regression tasks in mm")[1].split("\n## ")[0]
    needed = in_mm.split("### Labels needed")[1]
    assert re.search(r"good +\| 10 % +\| 10 %", needed)  # 6 mm, below the 30 of `pixels`
    page = (run / "robustness.md").read_text()
    in_mm = page.split("## regression tasks in mm")[1].split("\n## ")[0]
    assert "### Mean relative MAE over tasks, percent; above 100 is worse" in in_mm
    assert "Relative robustness" not in in_mm
    relative = {
        row["task"]: float(row["relative"])
        for row in rows(run, "robustness.csv")
        if row["model"] == "good"
    }
    assert relative["hc18-hc"] == pytest.approx(200, rel=0.01)
    assert relative["busbra-seg"] == pytest.approx(50, rel=0.1)


def test_axes_tell_which_way_is_up(run: Path) -> None:
    figures = {path.stem: path.read_text() for path in (run / "figures").glob("fewshot*.svg")}
    assert len(figures) == len(KINDS)
    for name, svg in figures.items():
        assert ("(lower is better)" in svg) == ("regression" in name)
    assert sum("MAE, mm (lower" in svg for svg in figures.values()) == 1
    assert sum("MAE, % (lower" in svg for svg in figures.values()) == 1


def test_a_folder_of_controls_alone_is_not_told_to_add_controls(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    for model in ("pixels", "border"):
        put_numbers(cells, model, "hc18-hc", 3.0, "mm")
        put_masks(cells, model, "busbra-seg", 0.5)
    write.write(cells)
    told = kept.told(tmp_path).verdict
    assert (
        "All models on segmentation tasks are controls or have random weights: add an encoder."
        in told
    )
    assert not any("no control was measured" in line.lower() for line in told)


def test_missing_controls_are_those_of_the_kind(tmp_path: Path) -> None:
    cells = Cells(tmp_path)
    for model in ("good", "fair"):
        put_numbers(cells, model, "hc18-hc", 3.0, "mm")
        put_one(cells, "classification", model, "aul", 0.8)
    put_one(cells, "classification", "pixels", "aul", 0.1)
    write.write(cells)
    (line,) = [line for line in kept.told(tmp_path).verdict if "No control" in line]
    assert "on regression tasks in mm: add `--model ...,constant,image-stats" in line
