"""The audit as a command: places, clean splits, scores without seen images, and bad input."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import make_manifest
from scenes import save, scene
from typer.testing import CliRunner

import tasks
import ultrabench_eval
from tasks import split_files
from tasks.near_duplicates import search
from tasks.samples.images import ImageArray
from tasks.task import Item, Split, Task, TaskCard
from ultrabench_eval.audit import audit as audits
from ultrabench_eval.audit import clean, collection, report
from ultrabench_eval.audit.audit import audit
from ultrabench_eval.cells import Cells
from ultrabench_eval.cli import app
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.task_types import classification

# image, scene, label, split, group; changed copies below
ROWS = (
    ("a", 0, "x", "train", "p0"),
    ("b", 1, "y", "train", "p1"),
    ("c", 2, "x", "train", "p2"),
    ("d", 3, "y", "val", "p3"),
    ("e", 4, "x", "val", "p4"),
    ("f", 5, "y", "test", "p5"),
    ("g", 6, "x", "test", "p6"),
    ("copy of a", 0, "x", "test", "p7"),  # train-test
    ("copy of b", 1, "x", "test", "p8"),  # train-test, another label
    ("copy of d", 3, "y", "test", "p9"),  # validation-test
    ("twin of f", 5, "y", "test", "p5"),  # in one group
)


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    """A manifest with planted copies: equal ones, but "copy of b" is cropped and in JPEG."""
    lines = ["image,label,split,group"]
    for name, seed, label, split, group in ROWS:
        path = tmp_path / f"{name}.{'jpg' if name == 'copy of b' else 'png'}"
        pixels = scene(seed)
        if name == "copy of b":
            pixels = np.ascontiguousarray(pixels[6:-6, 8:-8])
        PIL.Image.fromarray(pixels).save(path)
        lines.append(f"{path.name},{label},{split},{group}")
    manifest = tmp_path / "leaky.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def places(found: audits.Audit) -> list[tuple[str, str, bool, bool]]:
    return [
        (f.place, f"{f.first.image.name[:-4]}/{f.second.image.name[:-4]}", f.conflict, f.expected)
        for f in found.findings
    ]


def test_places_labels_and_groups(leaky: Path, tmp_path: Path) -> None:
    found = audit(str(leaky), cache=tmp_path)
    assert places(found) == [
        ("train-test", "b/copy of b", True, False),
        ("train-test", "a/copy of a", False, False),
        ("validation-test", "d/copy of d", False, False),
        ("within test", "f/twin of f", False, True),
    ]
    assert found.seen == {"leaky": {"copy of a.png", "copy of b.jpg", "copy of d.png"}}
    assert found.findings[0].pair.grade in ("near duplicate", "same scene")
    assert not found.unreadable


def test_an_audit_by_an_index_says_so(
    leaky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = audit(str(leaky), cache=tmp_path)
    monkeypatch.setattr(search, "ALL_PAIRS", 3)
    found = audit(str(leaky), cache=tmp_path)
    assert places(found) == places(whole)
    (told,) = set(found.notes) - set(whole.notes)
    assert "at least 99.9 % of the copies" in told


def test_pretraining_images_are_compared_with_ours_alone(leaky: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pretraining" / "deep"
    folder.mkdir(parents=True)
    PIL.Image.fromarray(scene(6)[:, ::-1]).save(folder / "mirrored g.bmp")
    save(6, folder / "g again.png")
    save(2, folder / "c.tif")
    save(77, folder / "other.webp")
    (folder / "notes.txt").write_text("no image")
    found = audit(str(leaky), against=[folder.parent], cache=tmp_path / "cache")
    pairs = [p for p in places(found) if "pretraining" in p[0]]
    assert [p[:2] for p in pairs] == [
        ("pretraining-test", "g/deep/g again"),
        ("pretraining-test", "g/deep/mirrored g"),
        ("pretraining-train", "c/deep/c"),
    ]
    assert "g.png" in found.seen["leaky"]
    assert any("1 files of" in note for note in found.notes)

    for name, text in (
        ("list.txt", "deep/mirrored g.bmp\n\ndeep/other.webp\n"),
        ("list.csv", "id,path\n1,deep/mirrored g.bmp\n2,deep/other.webp\n"),
    ):
        (folder.parent / name).write_text(text)
        entries, notes = collection.of_pretraining(folder.parent / name)
        assert [e.image.name for e in entries] == ["deep/mirrored g.bmp", "deep/other.webp"]
        assert notes == []


def test_images_in_no_split_are_compared_and_kept_apart(tmp_path: Path) -> None:
    def split(*seeds: int) -> Split:
        items = [Item(ImageArray(scene(s), f"{s}"), k % 2, None) for k, s in enumerate(seeds)]
        return Split.of(items)

    task = Task(TaskCard("t", "T", "", "", ("x", "y")), split(0, 1), split(2, 3), split(4, 5))
    object.__setattr__(task, "unused", (Item(ImageArray(scene(4), "again"), 1, "p"),))
    entries = collection.of_task(task)
    assert [(e.split, e.label, e.group) for e in entries[-1:]] == [("unused", "y", "p")]
    finding = audits.SamePicture(entries[4], entries[-1], None)  # type: ignore[arg-type]
    assert finding.place == "with unused"
    assert not finding.leaks
    assert finding.conflict


def test_across_tasks(leaky: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    rows = [row for row in leaky.read_text().splitlines() if not row.startswith(("copy", "twin"))]
    other.write_text("\n".join(rows) + "\n")
    found = audit([str(leaky), str(other)], cache=tmp_path / "cache")
    across = [f for f in found.findings if f.place == "across tasks"]
    assert across
    assert {f.task for f in across} == {"leaky + other"}
    assert not any(f.conflict or f.leaks for f in across)
    # An image in another task's training set does not leak into this one.
    assert found.seen["leaky"] == {"copy of a.png", "copy of b.jpg", "copy of d.png"}


def test_report_folder(leaky: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["audit", "--task", str(leaky), "--out", str(out), "--cache", str(tmp_path / "c")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "3 of 6 test images (50.0 %) are seen" in result.output

    with (out / "clean" / "leaky_clean.csv").open() as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert tuple(next(iter(rows.values()))) == split_files.COLUMNS
    expected = {f"{name}.{'jpg' if name == 'copy of b' else 'png'}": row for name, *row in ROWS}
    for name, (_, label, split, group) in expected.items():
        row = rows[name]
        split = "unused" if name.startswith("copy") else {"val": "validation"}.get(split, split)
        assert (row["label"], row["split"], row["group"]) == (label, split, group)
    task = tasks.load(str(leaky))
    digests = {i.name: i.digest() for split in task.splits.values() for i in split.images}
    assert {name: row["sha256"] for name, row in rows.items()} == digests

    with (out / "pairs.csv").open() as file:
        pairs = list(csv.DictReader(file))
    assert [p["place"] for p in pairs] == [
        "train-test",
        "train-test",
        "validation-test",
        "within test",
    ]
    assert (pairs[0]["different_labels"], pairs[0]["label_a"], pairs[0]["label_b"]) == (
        "yes",
        "y",
        "x",
    )
    with (out / "groups.csv").open() as file:
        groups = list(csv.DictReader(file))
    assert [(g["content"], g["image"]) for g in groups][:2] == [
        ("1", "a.png"),
        ("1", "copy of a.png"),
    ]
    assert len(groups) == 8
    summary = json.loads((out / "audit.json").read_bytes())
    assert summary["tasks"]["leaky"]["seen"] == ["copy of a.png", "copy of b.jpg", "copy of d.png"]
    markdown = (out / "audit.md").read_text()
    assert "| train-test" in markdown
    assert "SYNTHETIC" not in markdown

    page = (out / "gallery.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 8
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "All 4 pairs are shown" in page

    first = {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}
    CliRunner().invoke(app, command)
    assert {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()} == first


def test_gallery_is_capped_and_says_so(
    leaky: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "SHOWN", 2)
    found = audit(str(leaky), cache=tmp_path)
    report.write(found, tmp_path / "out")
    page = (tmp_path / "out/gallery.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 4
    assert "the 2 gravest of 4 pairs" in page


def test_names_cannot_break_the_page(tmp_path: Path) -> None:
    entry = collection.Entry(ImageArray(scene(0), "<script>x</script>"), "t", "test", "<b>", "")
    pair = audits.DuplicatePair(0, 1, "identical", 0, 1.0, "")
    found = audits.Audit(
        {}, [entry, entry], ["", ""], [audits.SamePicture(entry, entry, pair)], np.zeros(2, int), []
    )
    report.write(found, tmp_path)
    assert "<script>" not in (tmp_path / "gallery.html").read_text()


def test_scores_on_the_clean_images_are_those_of_the_stored_predictions(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path / "shades.csv")
    generator = np.random.default_rng(0)
    header, *lines = manifest.read_text().splitlines()
    for k, line in enumerate(lines):  # labels that cannot be learned, for scores below 100
        cells = line.split(",")
        cells[1] = ("dark", "bright")[generator.integers(2)]
        lines[k] = ",".join(cells)
    manifest.write_text("\n".join([header, *lines]) + "\n")
    run = tmp_path / "run"
    ultrabench_eval.run("image-stats", str(manifest), seeds=2, out=run, cache=tmp_path / "cache")
    task = tasks.load(str(manifest))
    names = [image.name for image in task.test.images]
    seen = {"shades": set(names[:5])}
    rows, notes = clean.rescore(run, seen, [task])
    assert notes == []

    (cell,) = Cells(run).gather()
    probabilities = Cells(run).predictions(cell)["probabilities"]
    by_hand = classification.score(probabilities[:, 5:], task.test.labels[5:])
    assert [row.metric for row in rows] == list(by_hand)
    for row in rows:
        assert row.full == pytest.approx(
            float(np.mean(cell.scores[row.metric])) * cell.metrics[row.metric].scale, nan_ok=True
        )
        assert row.clean == pytest.approx(
            float(by_hand[row.metric].mean()) * cell.metrics[row.metric].scale, nan_ok=True
        )
        assert (row.n_full, row.n_clean) == (12, 7)
        assert row.difference == pytest.approx(row.clean - row.full, nan_ok=True)
        assert (row.chance > 0) == (row.metric == "macro_f1")

    assert abs(rows[0].difference) > 1
    nothing = clean.rescore(run, {"shades": set()}, [task])[0][0]
    assert nothing.difference == 0
    assert nothing.chance == pytest.approx(0, abs=1e-9)
    _, notes = clean.rescore(run, {"shades": {"never there.png"}}, [task])
    assert "was measured on other splits" in notes[0]
    rows, notes = clean.rescore(run, {"shades": set(names)}, [task])
    assert rows == []
    assert "no clean test image of shades" in notes[0]
    one_class = {n for n, label in zip(names, task.test.labels, strict=True) if label == 0}
    rows, notes = clean.rescore(run, {"shades": one_class}, [task])
    assert "of class bright is left" in notes[0] or "of class dark is left" in notes[0]

    result = CliRunner().invoke(
        app,
        [
            *("audit", "--task", str(manifest), "--run", str(run)),
            *("--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")),
        ],
    )
    assert result.exit_code == 0, result.output
    assert "image-stats" in result.output
    assert (tmp_path / "out/scores.csv").read_text().startswith("model,task,condition,metric,full")


def test_unreadable_images_are_named_and_the_audit_goes_on(leaky: Path, tmp_path: Path) -> None:
    (tmp_path / "c.png").write_bytes(b"broken")
    out = tmp_path / "out"
    result = CliRunner().invoke(
        app, ["audit", "--task", str(leaky), "--out", str(out), "--cache", str(tmp_path / "k")]
    )
    assert result.exit_code == 1
    assert "c.png" in result.output
    assert "1 images cannot be read" in result.output
    assert "3 of 6 test images" in result.output
    assert "c.png" in (out / "audit.md").read_text()
    with (out / "clean/leaky_clean.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row["image"] == "c.png"]
    assert (row["split"], row["sha256"]) == ("train", "")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--against", "{empty}"], "no images in .*empty"),
        (["--against", "{empty}/gone"], "pretraining images not found"),
        (["--against", "{bad}"], "has no column image or path or file"),
        (["--run", "{empty}"], "no results in"),
        (["--task", "auul", "--data", "{empty}"], "did you mean 'aul'"),
        (["--task", "all", "--data", "{empty}"], "no task is in"),
    ],
)
def test_bad_input_is_one_sentence(
    options: list[str], sentence: str, leaky: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    bad = tmp_path / "bad.csv"
    bad.write_text("name\nx.png\n")
    options = [option.format(empty=empty, bad=bad) for option in options]
    command = ["audit", "--task", str(leaky), "--cache", str(tmp_path / "k")]
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*command, "--out", str(out), *options])
    assert isinstance(result.exception, UserError)
    assert re.search(sentence, str(result.exception))
    assert not out.exists()
