"""Published figures: read whole or not at all, shown as the paper shows them."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from latex import check_latex
from made_cells import marked

from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report.paper import published
from ultrabench_eval.report.paper.published import US_JEPA
from ultrabench_eval.report.tables.table import Table


@pytest.fixture(scope="module")
def paper() -> published.Published:
    return published.load()


def test_every_model_and_task_has_a_score_and_sizes_add_up(paper: published.Published) -> None:
    assert set(paper.at) == {(m, t) for m in US_JEPA.models for t in US_JEPA.tasks}
    assert len(paper.sizes) == 8
    for sizes in paper.sizes:
        assert sum(sizes.splits) == sizes.total
    assert paper.sizes_of["pocus"].splits == (1444, 177, 443)


def test_scores_stand_as_in_the_paper(paper: published.Published) -> None:
    layout = published.scores_layout(paper)
    assert layout.header == [
        *("Model", "AUL", "BUSBRA", "BUTTERFLY", "FATTY LIV.", "GBCU", "MMOTU", "POCUS", "TN5000"),
    ]
    assert [row[0] for row in layout.texts] == [
        *("DINOv3", "I-JEPA", "UltraSAM", "SAMUS", "EchoCare", "USF-MAE", "USFM", "URFM"),
        *("US-JEPA", "USrc-JEPA"),
    ]
    assert layout.texts[7][1:5] == ["71.5 ± 1.1", "69.5 ± 2.2", "92.1 ± 0.4", "82.6 ± 6.0"]

    def row_of(mark: str) -> list[str]:
        places = sorted(marked(layout, mark), key=lambda place: place[1])
        return [layout.texts[r][0] for r, _ in places]

    # AUL ... TN5000, by eye from the printed table
    assert row_of("best") == [
        *("URFM", "USrc-JEPA", "USFM", "USrc-JEPA", "USrc-JEPA", "US-JEPA", "US-JEPA", "URFM"),
    ]
    assert row_of("second") == [
        *("US-JEPA", "USFM", "URFM", "URFM", "USFM", "USrc-JEPA", "USrc-JEPA", "US-JEPA"),
    ]
    markdown = layout.markdown()
    assert "**71.5 ± 1.1**" in markdown
    assert "<u>69.6 ± 1.5</u>" in markdown
    assert "Published" in layout.title
    assert r"\textbf{71.5 $\pm$ 1.1}" in layout.latex()
    assert r"\underline{69.6 $\pm$ 1.5}" in layout.latex()


def test_ties_are_marked_alike_and_holes_are_empty() -> None:
    scores = [
        None if mean is None else published.PublishedScore("m", "t", mean, 0.0, 5)
        for mean in (1.0, 3.0, 3.0, 2.0, None)
    ]
    made = published._column(scores)
    assert [one.mark for one in made] == ["", "best", "best", "second", ""]
    assert made[-1].text == ""


def test_latex_is_sound(paper: published.Published) -> None:
    for layout in (published.scores_layout(paper), published.sizes_layout(paper)):
        check_latex(layout.latex())
    awkward = Table(["a", *"bcdef"], [["x_1", *"12345"]] * 2, "50% & more_", ["a{b}\\c ~^"])
    check_latex(awkward.latex())


def test_csv_in_the_papers_layout_reads_back_the_same(paper: published.Published) -> None:
    models, tasks = (list(names) for names in (paper.source.models, paper.source.tasks))
    _, *rows = csv.reader(io.StringIO(published.scores_layout(paper).csv()))
    found = {
        (model, task): text
        for model, (_, *texts) in zip(models, rows, strict=True)
        for task, text in zip(tasks, texts, strict=True)
    }
    assert found == {(one.model, one.task): one.text() for one in paper.scores}
    _, *rows = csv.reader(io.StringIO(published.sizes_layout(paper).csv()))
    for one, row in zip(paper.sizes, rows, strict=True):
        assert row[0] == paper.source.tasks[one.task]
        assert row[1:3] == [one.organ, one.description]
        assert [int(text) for text in row[3:]] == [one.classes, one.total, *one.splits]


def test_an_unknown_source_is_said_with_what_there_is() -> None:
    with pytest.raises(UserError, match="did you mean 'us-jepa'"):
        published.load("usjepa")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,task\n", "must have the columns"),
        ("HEAD\nusfm,aul,sixty,0.1,5\n", "line 2 is not valid"),
        ("HEAD\nusfm,aul,60.0\n", "line 2 is not valid"),
        ("HEAD\nusfm,aul,60.0,0.1,5\nusfm,aul,61.0,0.1,5\n", "line 3 has usfm on aul twice"),
        ("HEAD\nclip,aul,60.0,0.1,5\n", "clip on aul"),
        (None, "not found"),
    ],
)
def test_a_spoilt_file_is_one_sentence(tmp_path: Path, text: str | None, said: str) -> None:
    head = "model,task,macro_f1_mean,macro_f1_sd,seeds"
    if text is not None:
        (tmp_path / US_JEPA.scores_file).write_text(text.replace("HEAD", head))
    with pytest.raises(UserError, match=said) as caught:
        published.load(folder=tmp_path)
    assert US_JEPA.scores_file in str(caught.value)
    assert "\n" not in str(caught.value)
