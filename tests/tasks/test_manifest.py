"""Manifests: what is read, and that every bad row is named with its line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import pytest

import tasks
from tasks.task import Task
from ultrabench_eval.core.errors import UserError

GOOD = """image,label,split
a.png,benign,train
b.png,malignant,train
c.png,benign,validation
d.png,malignant,test
"""

Read = Callable[[str | bytes], Task]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Writes a manifest beside images a.png ... h.png and reads it."""
    for value, name in enumerate("abcdefgh"):
        PIL.Image.new("L", (4, 4), value).save(tmp_path / f"{name}.png")
    (tmp_path / "x").mkdir()

    def read(content: str | bytes) -> Task:
        path = tmp_path / "mine.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tasks.load(str(path))

    return read


def test_good(read: Read) -> None:
    task = read(GOOD)
    assert task.name == "mine"
    assert task.classes == ("benign", "malignant")
    assert task.counts() == {"train": [1, 1], "validation": [1, 0], "test": [0, 1]}
    assert [image.name for image in task.train.images] == ["a.png", "b.png"]
    assert task.test.images[0].read()[0, 0].tolist() == [3, 3, 3]
    assert task.train.groups is None
    assert task.card.groups == "none"


@pytest.mark.parametrize(
    "change",
    [
        lambda s: b"\xef\xbb\xbf" + s.encode(),  # as Excel writes it
        lambda s: s.replace("\n", "\r\n"),
        lambda s: s.replace(",", " , "),
        lambda s: s.replace("\n", "\n\n"),
        lambda s: s.replace("a.png", '"a.png"'),
        lambda s: s.replace(",validation", ",val"),
        lambda s: s.replace("image,label,split", "Image,LABEL,Split"),
        lambda s: s.replace("\n", ",remark\n"),
        lambda s: s.replace("a.png", "./x/../a.png"),
    ],
)
def test_harmless_differences(read: Read, change: Callable[[str], str | bytes]) -> None:
    assert read(change(GOOD)).fingerprint == read(GOOD).fingerprint


def test_integer_labels_become_codes_in_order_of_number(read: Read) -> None:
    task = read(GOOD.replace("benign", "10").replace("malignant", "2"))
    assert task.classes == ("2", "10")
    assert task.train.labels.tolist() == [1, 0]


def test_labels_are_not_guessed_at(read: Read) -> None:
    assert read(GOOD.replace("benign", "01").replace("malignant", "02")).classes == ("01", "02")
    assert read(GOOD.replace("benign", "NB").replace("malignant", "1e5")).classes == ("1e5", "NB")
    assert read(GOOD.replace("benign", "10").replace("malignant", "2x")).classes == ("10", "2x")


def test_paths_start_at_the_manifest(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    assert read(GOOD.replace("a.png", str(tmp_path / "a.png"))).train.images[0].read().any() == 0


def test_groups(read: Read) -> None:
    rows = [line + f",p{i}" for i, line in enumerate(GOOD.splitlines()[1:])]
    task = read("\n".join(["image,label,split,group", *rows]))
    assert task.train.groups == ("p0", "p1")
    assert task.card.groups == "column group"


def test_a_group_in_two_splits_is_named(read: Read) -> None:
    rows = [line + ",p1" for line in GOOD.splitlines()[1:]]
    with pytest.raises(UserError, match=r"'p1' in train and validation and test.*keep each group"):
        read("\n".join(["image,label,split,group", *rows]))


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (
            "label",
            "class",
            r"mine\.csv lacks the column label; it has 'image', 'class', 'split': say",
        ),
        (",", "|", r"lacks the column image; it has 'image\|label\|split': say which is the image"),
        ("image,label,split", "image,label,split,label", "has the column label twice"),
        (
            "c.png,benign,validation",
            "c.png,benign,dev",
            r"line 4: split 'dev' is not one of train, v",
        ),
        ("c.png,benign,validation", "c.png,benign,Test", r"line 4: split 'Test' is not one of"),
        ("b.png,malignant", "b.png,", r"line 3: label empty"),
        ("b.png,malignant", ",malignant", r"line 3: image empty"),
        ("d.png,malignant,test", "z.png,malignant,test", r"line 5: image file 'z\.png' not found"),
        (
            "d.png",
            "b.png",
            r"line 5: image 'b\.png' \(test\) is already listed in line 3 \(train\)",
        ),
        ("d.png", "x/../b.png", r"line 5: image .* is already listed in line 3 \(train\)"),
        (
            "b.png",
            "a.png",
            r"line 3: image 'a\.png' \(train\) is already listed in line 2 \(train\)",
        ),
        ("b.png,malignant,train", "b.png,malignant", "line 3: 2 cells where the header has 3"),
        ("b.png,malignant,train", "b.png,m,train,x", "line 3: 4 cells where the header has 3"),
        ("b.png,malignant,train", 'b.png,"malignant,train', r"mine\.csv, line 5: not CSV"),
        ("c.png,benign,validation\n", "", "no row of .*mine.csv has split 'validation'"),
        ("malignant", "benign", "all rows of .* have label 'benign'"),
        ("b.png,malignant,train", "b.png,benign,train", "class 'malignant' .* no training image"),
    ],
)
def test_bad_manifests_are_told_in_one_sentence(
    read: Read, old: str, new: str, wanted: str
) -> None:
    assert old in GOOD
    with pytest.raises(UserError, match=wanted) as caught:
        read(GOOD.replace(old, new))
    assert "\n" not in str(caught.value)
    assert "mine.csv" in str(caught.value)


def test_labels_that_are_one_number_are_refused(read: Read) -> None:
    with pytest.raises(
        UserError, match=r"labels '01' \(line 2\) and '1' \(line 3\) of .*mine\.csv are"
    ):
        read(GOOD.replace("benign", "01").replace("malignant", "1"))


def test_empty_group_is_a_bad_row(read: Read) -> None:
    with pytest.raises(UserError, match="line 2: group empty"):
        read("image,label,split,group\na.png,x,train,\n")


def test_all_bad_rows_are_reported_together(read: Read) -> None:
    rows = "".join(f"a{i}.png,x,train\n" for i in range(12))
    with pytest.raises(UserError, match=r"12 bad row\(s\): line 2: .*line 6: .*; and 7 more") as e:
        read("image,label,split\n" + rows)
    assert str(e.value).count("line ") == 5


def test_line_numbers_are_of_the_file_not_of_the_row(read: Read) -> None:
    with pytest.raises(UserError, match=r"2 bad row.*line 2: label 'be\\nn.*line 7: split"):
        read(GOOD.replace("benign", '"be\nnign"', 1).replace("d.png,malignant,test", "\nd.png,m,x"))


@pytest.mark.parametrize("content", [b"", b"image,label,split\n", b"image,label,split\n\n\n"])
def test_no_rows(read: Read, content: bytes) -> None:
    with pytest.raises(UserError, match=r"no rows below its header|lacks the column image"):
        read(content)


def test_other_encodings(read: Read) -> None:
    text = GOOD.replace("benign", "gutärtig")
    assert read(text.encode("utf-16")).classes == ("gutärtig", "malignant")  # its mark says so
    with pytest.raises(UserError, match=r"not in UTF-8 .*; save it as CSV UTF-8"):
        read(text.encode("latin-1"))


def test_no_such_manifest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read manifest .*none\.csv"):
        tasks.load(str(tmp_path / "none.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"cannot read manifest .*folder\.csv"):
        tasks.load(str(tmp_path / "folder.csv"))


def test_a_damaged_image_shows_when_it_is_read(read: Read, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    task = read(GOOD)
    with pytest.raises(UserError, match=r"a\.png"):
        task.train.images[0].read()


@pytest.mark.parametrize(
    "word", ["nan", "NaN", "#N/A", "NA", "n/a", "null", "None", "<NA>", "NaT", "-", "?", "#REF!"]
)
@pytest.mark.parametrize("column", ["label", "group"])
def test_words_for_a_missing_value_are_refused(read: Read, column: str, word: str) -> None:
    row = {"label": "x", "group": "p", column: word}
    rows = f"image,label,split,group\na.png,{row['label']},train,{row['group']}\n"
    with pytest.raises(UserError, match=rf"line 2: {column} '.*' is what programs write for a mis"):
        read(rows)


@pytest.mark.parametrize("word", ["unknown", "no finding", "nana", "#1", "Nan 2", "inf"])
def test_other_words_are_labels(read: Read, word: str) -> None:
    assert word in read(GOOD.replace("benign", word)).classes


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("1", "01"),
        ("1", "+1"),
        ("1", "1e0"),
        ("1", "1,0"),
        ("10", "1e1"),
        ("1" * 5000, "1" * 5000 + ".0"),
        ("0", "-0"),
        ("1", "\N{FULLWIDTH DIGIT ONE}"),
        ("1", "\N{ARABIC-INDIC DIGIT ONE}"),
        ("benign", "Benign"),
        ("STRASSE", "straße"),
        ("BI-RADS 2", "BI-RADS\N{NO-BREAK SPACE}2"),
        ("BI-RADS 2", "BI-RADS  2"),
        ("BI-RADS 2", "BI\N{NON-BREAKING HYPHEN}RADS 2"),
        ("benign", "be\N{ZERO WIDTH SPACE}nign"),
        ("b\N{LATIN SMALL LETTER E WITH ACUTE}nin", "be\N{COMBINING ACUTE ACCENT}nin"),
    ],
)
def test_labels_that_differ_in_spelling_only_are_refused(read: Read, one: str, other: str) -> None:
    rows = GOOD.replace("benign", "@", 1).replace("benign", f'"{other}"').replace("@", f'"{one}"')
    with pytest.raises(UserError, match=r"labels .* \(line 2\) and .* \(line 4\) of .* spelling"):
        read(rows)


def test_numbers_that_differ_are_labels(read: Read) -> None:
    one, other = "1" * 5000, "1" * 4999 + "2"
    assert read(GOOD.replace("benign", other).replace("malignant", one)).classes == (one, other)
    assert read(GOOD.replace("benign", "1.5").replace("malignant", "15")).classes == ("1.5", "15")
    assert read(GOOD.replace("benign", "1e9").replace("malignant", "1e-9")).counts()


@pytest.mark.parametrize(
    ("one", "other"), [("P01", "p01"), ("1", "01"), ("1", "1.0"), ("p 1", "p\N{NO-BREAK SPACE}1")]
)
def test_groups_that_differ_in_spelling_only_are_refused(read: Read, one: str, other: str) -> None:
    groups = [one, "p2", "p3", other]
    rows = [f"{line},{g}" for line, g in zip(GOOD.splitlines()[1:], groups, strict=True)]
    with pytest.raises(UserError, match=r"groups .* \(line 2\) and .* \(line 5\) of .* spelling"):
        read("\n".join(["image,label,split,group", *rows]))


def test_groups_with_decimals_may_be_patients_of_a_centre(read: Read) -> None:
    groups = ["1.1", "1.10", "12e3", "12000"]
    rows = [f"{line},{g}" for line, g in zip(GOOD.splitlines()[1:], groups, strict=True)]
    assert read("\n".join(["image,label,split,group", *rows])).train.groups == ("1.1", "1.10")


def test_a_path_behind_a_link_is_opened_as_written(tmp_path: Path) -> None:
    store, project = tmp_path / "store" / "v2", tmp_path / "project"
    (store / "lists").mkdir(parents=True)
    project.mkdir()
    for value, name in enumerate("abcd"):
        PIL.Image.new("L", (4, 4), value).save(store / f"{name}.png")
    (store / "lists" / "t.csv").write_text(GOOD.replace("\n", "\n../").removesuffix("../"))
    (project / "lists").symlink_to(store / "lists")
    task = tasks.load(str(project / "lists" / "t.csv"))
    assert task.test.images[0].read()[0, 0, 0] == 3
    assert task.test.images[0].name == "../d.png"
    # Where the path without the link is a file as well, it is not clear which one is meant.
    PIL.Image.new("L", (4, 4), 99).save(project / "d.png")
    with pytest.raises(UserError, match=r"1 bad row.*line 5: image file '\.\./d\.png' may be"):
        tasks.load(str(project / "lists" / "t.csv"))
    (project / "d.png").unlink()
    (project / "d.png").symlink_to(store / "d.png")
    assert tasks.load(str(project / "lists" / "t.csv")).fingerprint == task.fingerprint


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "x", "loop"])
def test_what_cannot_be_opened_is_a_bad_row(read: Read, tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match=r"line 5: image file .* (cannot be opened|is not a)"):
        read(GOOD.replace("d.png", name))


@pytest.mark.parametrize("name", ["...csv", "..csv", ".csv", "a\nb.csv"])
def test_names_that_are_no_names_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(GOOD)
    told = tasks.problem(str(tmp_path / name))
    assert told is not None
    assert "is not a name; rename it" in told
    assert "\n" not in told
    with pytest.raises(UserError, match="is not a name"):
        tasks.load(str(tmp_path / name))


def test_commas_and_other_bytes_in_the_path(read: Read, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"a, b \xfc")
    folder.mkdir()
    path = folder / os.fsdecode(b"M\xfcller, 1.csv")
    path.write_text(GOOD.replace("\n", f"\n{tmp_path}/").removesuffix(f"{tmp_path}/"))
    assert tasks.is_manifest(str(path))
    task = tasks.load(str(path))
    assert task.name == task.card.title == tasks.label(str(path)) == "M\\xfcller, 1"
    assert task.card.source.encode()
